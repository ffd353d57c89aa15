"""Event hooks: functions that a client calls before and after each of its HTTP requests."""

from __future__ import annotations

from collections.abc import Callable, Iterable, MutableMapping
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, cast

import attrs

from apimart_async.errors import InvalidArgumentError

if TYPE_CHECKING:
    from apimart_async.models import Task


@attrs.frozen
class RequestEvent:
    """An HTTP request that is about to be sent.

    Attributes:
        method: HTTP method.
        url: URL without credentials, query and fragment.
        attempt: 1 for the first attempt of a request, 2 for the first retry.
        idempotency_key: The key of a paid request.
    """

    method: str
    url: str
    attempt: int = 1
    idempotency_key: str | None = None


@attrs.frozen(kw_only=True)
class ResponseEvent:
    """The end of an HTTP request: an answer, an error or a cancellation.

    Attributes:
        request: The event of the request.
        status: HTTP status; ``None`` without an answer.
        elapsed: Seconds since the request event: to the end of the answer, or for files and streams, to its
            headers.
        request_id: The id that the service has given the request.
        error: Name of the error's class, such as ``"RateLimitError"``; ``None`` for a good answer.
    """

    request: RequestEvent
    status: int | None
    elapsed: float
    request_id: str | None = None
    error: str | None = None


@attrs.frozen
class Operation:
    """A paid call of the client: an edit or a generation.

    Attributes:
        provider: ``"apimart"`` or ``"applerouter"``.
        name: ``"edit"`` or ``"generate"``, or another operation of the service.
        model: Name of the model; ``None`` if the service chooses.
        base_url: Base URL of the service.
    """

    provider: str
    name: str
    model: str | None
    base_url: str


@attrs.frozen(kw_only=True)
class EventHooks:
    """Functions that a client calls for each HTTP request, retries, polls and downloads included.

    Each function may be async. An exception of a function is logged and otherwise ignored, and so is a
    ``CancelledError`` of its own: no error of a hook costs an answer. An async ``on_response`` gets 5 seconds
    and is shielded from cancellation meanwhile, so that a paid answer is not lost while the function runs.

    Args:
        on_request: Called with a ``RequestEvent`` before a request is sent; the request waits for it.
        on_response: Called with a ``ResponseEvent`` for every ``RequestEvent``; the answer waits for it.
    """

    on_request: Callable[[RequestEvent], object] | None = None
    on_response: Callable[[ResponseEvent], object] | None = None


class Observer(EventHooks):
    """Hooks that follow paid calls too, for ``apimart_async.otel``; no method waits for anything."""

    __slots__ = ()

    def request(self, event: RequestEvent, headers: MutableMapping[str, str] | None) -> None:
        """Receive a request before it is sent, and add headers to a request to the API."""

    def response(self, event: ResponseEvent) -> None:
        """Receive the end of a request."""

    def operation(self, operation: Operation) -> AbstractContextManager[object]:  # noqa: ARG002 of others
        """Return a context manager around a paid call, with the wait for its images where there is one."""
        return nullcontext()

    def failed(self, error: str) -> None:
        """Receive the class of an error of the paid call that is not raised."""

    def submitted(self, task: Task) -> None:
        """Receive a submitted task."""

    def ended(self, task: Task, seconds: float | None) -> None:
        """Receive an ended task, and the seconds since its submit."""


def as_hooks(event_hooks: object) -> tuple[EventHooks, ...]:
    """Return the hooks that an argument names.

    Raises:
        InvalidArgumentError: The argument is neither an ``EventHooks`` nor a sequence of these.
    """
    if event_hooks is None:
        return ()
    given: list[object] = [event_hooks]
    if isinstance(event_hooks, Iterable):
        given = list(cast("Iterable[object]", event_hooks))
    found = tuple(each for each in given if isinstance(each, EventHooks))
    if len(found) < len(given):
        raise InvalidArgumentError("event_hooks must be EventHooks, or a sequence of these.")
    return found
