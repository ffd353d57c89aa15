"""The logging and the event hooks of HTTP requests and of paid calls."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Sequence
from contextlib import ExitStack, asynccontextmanager
from functools import partial
from inspect import isawaitable, isroutine
from time import monotonic
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias

import attrs
from anyio import CancelScope, move_on_after

from apimart_async.errors import visible
from apimart_async.hooks import EventHooks, Observer, RequestEvent, ResponseEvent
from apimart_async.transport.responses import reply_id

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, MutableMapping
    from types import TracebackType

    from apimart_async.credentials import Secret
    from apimart_async.hooks import Operation
    from apimart_async.transport.exchange import Download
    from apimart_async.transport.responses import Reply

log: logging.Logger = logging.getLogger("apimart_async.transport")

_HOOK_SECONDS: Final = 5.0
_FAILED: Final = "The %s hook %s failed."
_NAME: Final = re.compile(r"[\w.:/+=@-]{1,200}", re.ASCII)


_Raised: TypeAlias = "tuple[type[BaseException] | None, BaseException | None, TracebackType | None]"


class _Send(Protocol):
    def __call__(self, *, headers: Mapping[str, str]) -> Awaitable[Reply]: ...


async def request(
    hooks: Sequence[EventHooks], event: RequestEvent, headers: Mapping[str, str], send: _Send, key: Secret
) -> Reply:
    """Send a request to the API, and call the hooks before and after it.

    Args:
        hooks: Event hooks of the client.
        event: The request.
        headers: Headers of the request; those that hooks add are sent besides.
        send: Sends it once.
        key: The key, which the service may repeat.

    Raises:
        NoAnswerError: No answer came, or not whole.

    Cancellation during a hook after the answer waits for the hook, 5 s at most.
    """
    # Here, as both are imported with aiohttp.
    from multidict import CIMultiDict

    from apimart_async.transport.exchange import NoAnswerError

    sent = CIMultiDict(headers)
    observed = _Observed(hooks, event)
    await observed.begin(sent)
    try:
        reply = await send(headers=sent)
    except BaseException as error:
        await observed.end(error=error.error if isinstance(error, NoAnswerError) else error)
        raise
    try:
        request_id = as_name(reply_id(reply.headers))
        await observed.end(reply.status, request_id and key.redact(request_id))
    except BaseException:
        if reply.events is not None:
            reply.events.close()
        raise
    return reply


async def download(
    hooks: Sequence[EventHooks], event: RequestEvent, open_file: Callable[[], Awaitable[Download]]
) -> Download:
    """Open a file, and call the hooks before and after it.

    Raises:
        DownloadError: The host answered with an error, or the URL is refused.
        APIConnectionError: The host could not be reached.

    Cancellation closes the connection.
    """
    observed = _Observed(hooks, event)
    await observed.begin(None)
    try:
        opened = await open_file()
    except BaseException as error:
        await observed.end(getattr(error, "status", None), error=error)
        raise
    try:
        await observed.end(opened.status)
    except BaseException:
        opened.close()
        raise
    return opened


@attrs.define(eq=False)
class _Observed:
    """One attempt of a request, as its hooks and the log see it."""

    _hooks: Sequence[EventHooks]
    _event: RequestEvent
    _began: float = attrs.field(factory=monotonic)

    async def begin(self, headers: MutableMapping[str, str] | None) -> None:
        """Call the hooks before the request; ``headers`` is ``None`` for a file host."""
        try:
            for each in self._hooks:
                if isinstance(each, Observer):
                    await _call("request", partial(each.request, self._event, headers))
                elif each.on_request is not None:
                    await _call("on_request", partial(each.on_request, self._event))
        except BaseException as error:
            await self.end(error=error)
            raise
        self._began = monotonic()

    async def end(
        self, status: int | None = None, request_id: str | None = None, error: BaseException | None = None
    ) -> None:
        """Log the end of the request, and call the hooks."""
        event = ResponseEvent(
            request=self._event,
            status=status,
            elapsed=monotonic() - self._began,
            request_id=request_id,
            error=None if error is None else type(error).__name__,
        )
        if log.isEnabledFor(logging.DEBUG):
            log.debug("%s", _line(event))
        cancelled: asyncio.CancelledError | None = None
        for each in self._hooks:
            try:
                if isinstance(each, Observer):
                    await _call("response", partial(each.response, event))
                elif each.on_response is not None:
                    with CancelScope(shield=True):
                        await _call("on_response", partial(each.on_response, event), _HOOK_SECONDS)
            except asyncio.CancelledError as raised:
                cancelled = raised  # after the other hooks
        if cancelled is not None:
            raise cancelled


async def _call(event: str, hook: Callable[[], object], seconds: float | None = None) -> None:
    """Call a hook of an event, and wait for it if it is async; log its errors."""
    try:
        waited = hook()
        if isawaitable(waited):
            with move_on_after(seconds) as scope:
                await waited
            if scope.cancelled_caught:
                text = "The %s hook %s took more than %g s and was cancelled."
                log.error(text, event, _qualified_name(hook), seconds)
    except (Exception, asyncio.CancelledError) as error:
        task = asyncio.current_task()
        if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
            raise
        log.exception(_FAILED, event, _qualified_name(hook))


def _qualified_name(hook: object) -> str:
    """Return the module and the qualified name of a function, or of the class of another object."""
    while isinstance(hook, partial):
        hook = hook.func
    # Attributes of any other object may be computed by its own code, which may raise.
    named = hook if isroutine(hook) or isinstance(hook, type) else type(hook)
    return f"{named.__module__}.{named.__qualname__}".removeprefix("None.")  # of a builtin method


def notify(hooks: Sequence[EventHooks], event: str, call: Callable[[Observer], None]) -> None:
    """Call the method of each observer for an event; log its errors."""
    for each in hooks:
        if isinstance(each, Observer):
            try:
                call(each)
            except Exception:
                log.exception(_FAILED, event, _qualified_name(each))


@asynccontextmanager
async def operation(hooks: Sequence[EventHooks], described: Operation) -> AsyncGenerator[None]:
    """Report the paid call of the body to the hooks."""
    with ExitStack() as stack:
        for each in hooks:
            if isinstance(each, Observer):
                _enter(stack, each, described)
        yield


def _enter(stack: ExitStack, observer: Observer, described: Operation) -> None:
    try:
        manager = observer.operation(described)
        manager.__enter__()
    except Exception:
        log.exception(_FAILED, "operation", _qualified_name(observer))
        return

    def leave(*raised: *_Raised) -> None:
        # Neither an error of a hook nor a suppressed one may take the place of a paid task.
        try:
            manager.__exit__(*raised)
        except Exception:
            log.exception(_FAILED, "operation", _qualified_name(observer))

    stack.push(leave)


def named(error: object) -> str:
    """Return the class and the status of an error for the log, without the words of the service."""
    return f"{type(error).__name__} {getattr(error, 'status', None) or ''}".strip()


def as_name(text: str | None) -> str | None:
    """Return an id, code or name of a service, to be shown; ``None`` for words, which may be of a prompt."""
    return text if text is not None and _NAME.fullmatch(text) else None


def counted(number: int, name: str) -> str:
    """Return a number of things for the log, such as ``1 image`` or ``2 images``."""
    return f"{number} {name}" if number == 1 else f"{number} {name}s"


def _line(event: ResponseEvent) -> str:
    """Return the line of a request in the log."""
    request = event.request
    facts = [str(event.status or "no answer"), f"{event.elapsed:.3f} s"]
    if request.attempt > 1:
        facts.append(f"attempt {request.attempt}")
    if event.request_id:
        facts.append(f"request id {event.request_id}")
    if event.error:
        facts.append(event.error)
    return visible(f"{request.method} {request.url}: {', '.join(facts)}")
