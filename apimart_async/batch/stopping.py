"""When a batch begins nothing more, and what it says then."""

from __future__ import annotations

import copy
import errno
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, TypeVar

import anyio

from apimart_async import errors

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator

Result = TypeVar("Result")

GRACE: Final = 5.0
"""Seconds a paid request under way gets for its answer when the batch is cancelled."""

_DEAD_AFTER: Final = 10

_NO_ROOM: Final = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR}
)


class Stop:
    """Whether and why nothing more is begun.

    Args:
        stopped: Called when it is decided, once.
    """

    def __init__(self, stopped: Callable[[], object]) -> None:
        self._stopped = stopped
        self._waits: set[anyio.CancelScope] = set()
        self._submits: set[anyio.CancelScope] = set()
        self._unreached = 0
        self.is_requested: bool = False
        self.reason: Exception | None = None

    def request(self) -> None:
        """Begin nothing more, without an error at the end."""
        if not self.is_requested:
            self.is_requested = True
            self._stopped()

    def because(self, error: Exception) -> None:
        """Begin nothing more, and raise the first such error at the end."""
        self.reason = self.reason or error
        self.request()

    def afterwards(self, error: Exception) -> None:
        """Raise an error at the end, when everything that can be begun has been."""
        self.reason = self.reason or error

    # --- the network --------------------------------------------------------------------------------------

    def reached(self) -> None:
        """Note that the service has answered."""
        self._unreached = 0

    def not_reached(self, error: errors.APIConnectionError) -> None:
        """Note that it has not, after all retries; it is believed dead after so many in a row."""
        self._unreached += 1
        if self._unreached >= _DEAD_AFTER:
            self.because(error)
            for scope in self._waits:
                scope.cancel()

    async def wait_for(self, wait: Awaitable[Result]) -> Result | None:
        """Return what is waited for, or nothing once the network is dead: it goes on without us."""
        with anyio.CancelScope() as scope:
            self._waits.add(scope)
            try:
                return await wait
            finally:
                self._waits.discard(scope)
        return None

    # --- paid requests ------------------------------------------------------------------------------------

    @contextmanager
    def submitting(self) -> Generator[None]:
        """Keep a cancellation away from the body until ``hurry``, and some seconds.

        An answer that nobody reads is a task that is paid for and whose id nobody knows.
        """
        with anyio.CancelScope(shield=True) as scope:
            self._submits.add(scope)
            try:
                yield
            finally:
                self._submits.discard(scope)
        if scope.cancelled_caught:
            # The cancellation that was kept away comes through now.
            raise anyio.get_cancelled_exc_class()

    def hurry(self) -> None:
        """Let the paid requests that are under way end within some seconds, and begin no others."""
        self.request()
        for scope in self._submits:
            scope.deadline = anyio.current_time() + GRACE


def ends_all(error: Exception) -> bool:
    """Tell whether every other job would meet the same error."""
    if isinstance(error, errors.RateLimitError):
        return error.code == "insufficient_quota"
    if isinstance(error, errors.DownloadError):
        return _has_no_room(error)
    return isinstance(
        error,
        (
            errors.AuthenticationError,
            errors.InsufficientBalanceError,
            errors.BudgetExceededError,
            errors.JournalError,
        ),
    )


def _has_no_room(error: BaseException | None) -> bool:
    """Tell whether a file system did not take a result."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _NO_ROOM:
            return True
        error = error.__cause__
    return False


_REMEDIES: Final[tuple[tuple[type[Exception], str], ...]] = (
    (errors.AuthenticationError, "check the API key"),
    (errors.InsufficientBalanceError, "top up the account"),
    (errors.RateLimitError, "top up the account"),
    (errors.BudgetExceededError, "raise max_cost"),
    (errors.APIConnectionError, "see to the connection"),
    (errors.DownloadError, "make room, or see to it that the output folder can be written"),
)


def explained(error: Exception) -> Exception:
    """Return the error a batch ends with: what happened, and how to go on."""
    remedy = next((remedy for kind, remedy in _REMEDIES if isinstance(error, kind)), None)
    if remedy is None or not isinstance(error, errors.ApimartError):
        return error
    ending = copy.copy(error)
    ending.message = (
        f"{error.message} The batch has stopped, and nothing that was paid for is lost: {remedy}, then run "
        "it again, and it goes on where it was."
    )
    return ending
