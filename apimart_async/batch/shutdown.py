"""Shutting a batch down: on request, after an error that stops it, or by cancellation."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, TypeVar

import anyio
import attrs

from apimart_async import errors
from apimart_async.batch.budget import Budget

if TYPE_CHECKING:
    from collections.abc import Awaitable, Generator

Result = TypeVar("Result")

_UNREACHABLE_AFTER: Final = 10


@attrs.define(eq=False)
class Shutdown:
    """Asks a batch to start no further jobs, finish those in flight and end.

    Pass one to ``edit_many(…, shutdown=…)``. It may be requested from a signal handler, from any thread and
    before the batch has started.
    """

    _is_requested: bool = attrs.field(default=False, init=False)
    _listeners: list[Callable[[], object]] = attrs.field(factory=list[Callable[[], object]], init=False)
    # Reentrant: a signal handler may interrupt the thread that holds it.
    _lock: threading.RLock = attrs.field(factory=threading.RLock, init=False)

    @property
    def is_requested(self) -> bool:
        """Tell whether the batch was asked to end."""
        return self._is_requested

    def request(self) -> None:
        """Ask the batch to end; a second call does nothing. To end it at once, cancel it."""
        with self._lock:
            first, self._is_requested = not self._is_requested, True
            listeners = self._listeners if first else []
        for listener in listeners:
            listener()

    def add_listener(self, listener: Callable[[], object]) -> None:
        """Call a function on the request, in the thread that makes it; at once if it was made already."""
        with self._lock:
            self._listeners = [*self._listeners, listener]
            is_late = self._is_requested
        if is_late:
            listener()

    def remove_listener(self, listener: Callable[[], object]) -> None:
        """Stop calling a function."""
        with self._lock:
            self._listeners = [other for other in self._listeners if other is not listener]


@attrs.define(eq=False, kw_only=True)
class ShutdownState:
    """Whether and why a batch starts no further jobs, and the scopes that its end has to cancel.

    Attributes:
        budget: Closed when the batch starts to shut down.
        taking: The scope that takes jobs, cancelled then.
        is_requested: Whether no further jobs are started.
        reason: The error to raise at the end.
    """

    budget: Budget
    taking: anyio.CancelScope = attrs.field(factory=anyio.CancelScope)
    is_requested: bool = False
    reason: Exception | None = None
    _not_sent: set[anyio.CancelScope] = attrs.field(factory=set[anyio.CancelScope], init=False)
    _waits: set[anyio.CancelScope] = attrs.field(factory=set[anyio.CancelScope], init=False)
    _shields: set[anyio.CancelScope] = attrs.field(factory=set[anyio.CancelScope], init=False)
    _deadline: float | None = attrs.field(default=None, init=False)
    _unreached: int = attrs.field(default=0, init=False)
    _unsaved: int = attrs.field(default=0, init=False)

    def request(self) -> None:
        """Start no further jobs, and end without an error."""
        if not self.is_requested:
            self.is_requested = True
            self.taking.cancel()
            self.budget.close()
            for scope in self._not_sent:
                scope.cancel()

    def fail(self, error: Exception) -> None:
        """Start no further jobs, and raise the first such error at the end."""
        self.reason = self.reason or error
        self.request()

    def check(self, error: Exception) -> bool:
        """Shut down if the error stops the batch, and tell whether it does."""
        stops = isinstance(error, errors.ApimartError) and error.stops_batch
        if stops:
            self.fail(error)
        return stops

    @contextmanager
    def until_requested(self) -> Generator[anyio.CancelScope]:
        """Cancel the body when the batch starts to shut down; ``protect`` the scope when it must not be."""
        with anyio.CancelScope() as scope:
            if self.is_requested:
                scope.cancel()
            self._not_sent.add(scope)
            try:
                yield scope
            finally:
                self._not_sent.discard(scope)

    def protect(self, scope: anyio.CancelScope) -> None:
        """Let the body of ``until_requested`` end: its paid request is being sent."""
        self._not_sent.discard(scope)

    def reached(self) -> None:
        """Note that the service has answered."""
        self._unreached = 0

    def not_reached(self, error: errors.APIConnectionError) -> None:
        """Note that no answer came, after all retries; shut down after ten such errors in a row."""
        self._unreached += 1
        if self._unreached >= _UNREACHABLE_AFTER:
            self.fail(error)
            for scope in self._waits:
                scope.cancel()

    def saved(self) -> None:
        """Note that the images of a job were saved."""
        self._unsaved = 0

    def not_saved(self, error: Exception, concurrent: int) -> None:
        """Note that images could not be fetched or written; shut down after many such jobs in a row.

        Each further job would be paid for, and the service keeps its images for a day.

        Args:
            error: The reason.
            concurrent: Number of jobs that one short outage can affect: ten more end the batch.
        """
        if not isinstance(error, errors.DownloadError):
            return
        if error.is_transient or isinstance(_cause(error), errors.APIConnectionError | OSError):
            self._unsaved += 1
            if self._unsaved >= _UNREACHABLE_AFTER + concurrent:
                self.fail(error)

    async def while_reachable(self, wait: Awaitable[Result]) -> Result | None:
        """Return the result of a wait, or ``None`` once the service is unreachable."""
        with anyio.CancelScope() as scope:
            self._waits.add(scope)
            try:
                return await wait
            finally:
                self._waits.discard(scope)
        return None

    @contextmanager
    def grace(self) -> Generator[None]:
        """Shield the body from cancellation, for the grace period at most.

        Without its answer, a paid request is a task without a known id.
        """
        with anyio.CancelScope(shield=True) as scope:
            if self._deadline is not None:
                scope.deadline = self._deadline
            self._shields.add(scope)
            try:
                yield
            finally:
                self._shields.discard(scope)
        if scope.cancelled_caught:
            # The shielded cancellation comes through now.
            raise anyio.get_cancelled_exc_class()

    def begin_grace(self, seconds: float) -> None:
        """Let shielded requests end within the grace period, and start no others; it can only get shorter."""
        self.request()
        deadline = anyio.current_time() + seconds
        self._deadline = deadline if self._deadline is None else min(deadline, self._deadline)
        for scope in self._shields:
            scope.deadline = self._deadline


_REMEDIES: Final[tuple[tuple[type[Exception], str], ...]] = (
    (errors.AuthenticationError, "check the API key"),
    (errors.InsufficientBalanceError, "top up the account"),
    (errors.BudgetExceededError, "raise max_cost or leave it out"),
    (errors.APIConnectionError, "see to the connection"),
    (errors.DownloadError, "make room, or see to it that the output folder can be written"),
)


def _cause(error: BaseException) -> BaseException | None:
    """Return the error that a failed download comes from, if it comes from another one."""
    cause: BaseException | None = error
    while isinstance(cause, errors.DownloadError):
        cause = cause.__cause__
    return cause


def explained(error: Exception) -> Exception:
    """Return the error that a batch ends with, with the way to continue in its message."""
    remedy = next((remedy for kind, remedy in _REMEDIES if isinstance(error, kind)), None)
    if isinstance(error, errors.RateLimitError):
        remedy = "wait" if error.retry_after is None else f"wait {error.retry_after:,.0f} s"
        remedy = "top up the account" if error.stops_batch else remedy
    if isinstance(error, errors.DownloadError) and not (error.errno or isinstance(_cause(error), OSError)):
        remedy = "see to the connection to the host of the images"
    if remedy is None or not isinstance(error, errors.ApimartError):
        return error
    ending = copy.copy(error)
    reason = error.message if error.message.endswith((".", "!", "?")) else f"{error.message}."
    ending.message = (
        f"{reason} The batch has stopped, and nothing that was paid for is lost: {remedy}, then run it again "
        "to continue."
    )
    return ending
