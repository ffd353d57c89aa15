"""Injecting a fault: an error instead of the response, a distorted response, or none."""

from __future__ import annotations

import base64
import gzip
import json
import re
import zlib
from contextvars import ContextVar
from email.utils import formatdate
from typing import TYPE_CHECKING, Any, Final, cast

import anyio
from aiohttp import web

from .responses import ServiceError, json_response
from .spellings import decode, enlarge

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from .faults import Fault, Kind
    from .routing import Route
    from .service import Service
    from .task_responses import Json

CURRENT_FAULT: Final[ContextVar[Kind | None]] = ContextVar("fault", default=None)
"""The kind of a fault that the request handler injects itself."""

IS_DISTORTED: Final[ContextVar[bool]] = ContextVar("distorted", default=False)
"""Whether the response is distorted, for which it has to be whole."""

CLIENT_GONE: Final = 499
"""The status of a response to a closed connection."""

_PAGE: Final = "<!DOCTYPE html>\n<html><head><title>{0}</title></head><body><h1>{0}</h1></body></html>\n"
_BLOCK = 64 * 1024
_CHUNKS = 20
_CHECK_INTERVAL = 0.1
_MANY = 20_000

_BY_THE_HANDLER: Final[frozenset[Kind]] = frozenset(
    (
        *("task-stuck", "task-failed", "task-cancelled", "task-expired", "task-partial", "unknown-status"),
        *("stream-cut", "stream-error"),
    )
)
_CHUNKED: Final[frozenset[Kind]] = frozenset(("truncated", "stalled", "slow", "stray-byte"))
_CHANGED: Final[frozenset[Kind]] = frozenset(
    ("gzip", "deflate", "no-id", "empty-error", "not-a-number", "many-images", "large-images")
)
_DISTORTED: Final[frozenset[Kind]] = (
    _CHUNKED
    | _CHANGED
    | frozenset(("close-after", "gigantic", "empty", "broken-json", "wrong-bytes", "cut-image"))
)

_ODD_ERRORS: Final[frozenset[Kind]] = frozenset(("error-in-200", "not-enough-balance", "error-as-stream"))

_MOMENT: Final = 0.01
_NUMBER: Final = re.compile(rb'"(\w*(?:cost|progress|time|balance))": ?-?[0-9.]+')

_KNOWN: Final[dict[Kind, tuple[int, str, str]]] = {
    "idempotency-in-progress": (409, "idempotency_in_progress", "the first request is still in progress"),
    "idempotency-key-reused": (409, "idempotency_key_reused", "the key was used with another request"),
    "idempotency-result-indeterminate": (
        409,
        "idempotency_result_indeterminate",
        "the result of the first request is not known",
    ),
    "idempotency-unavailable": (503, "idempotency_unavailable", "idempotency is unavailable"),
    "get-channel-failed": (400, "get_channel_failed", "get_channel_failed: wait and try again"),
    "model-not-found": (503, "model_not_found", "no available channel for this model"),
}


async def inject(
    request: web.Request,
    fault: Fault,
    route: Route,
    service: Service,
    handle: Callable[[], Awaitable[web.StreamResponse]],
) -> web.StreamResponse:
    """Inject a fault into the handling of a request.

    Args:
        request: The request.
        fault: The fault.
        route: The route of the request.
        service: The emulator's state.
        handle: Executes the request and returns the correct response.

    Raises:
        ServiceError: The fault is an error response, or the request itself is invalid.
    """
    kind = fault.kind
    if kind in _BY_THE_HANDLER:
        token = CURRENT_FAULT.set(kind)
        try:
            return await handle()
        finally:
            CURRENT_FAULT.reset(token)
    if kind in _DISTORTED:
        return await _distort(request, fault, await _unsent(handle), service)
    if fault.executed:
        await _unsent(handle)
    if kind == "hang":
        await _hang(request, fault.seconds)
    if kind in {"hang", "disconnect"}:
        if request.transport is not None:
            request.transport.abort()
        return web.Response(status=CLIENT_GONE)
    if kind == "html":
        status = fault.status or 502
        return web.Response(text=_PAGE.format(status), status=status, content_type="text/html")
    if kind in _ODD_ERRORS:
        return _odd_error(fault, route, service.clock.now())
    if kind.startswith("redirect"):
        return _redirect(request, fault, route, service)
    raise _error(fault, service.clock.now())


async def _unsent(handle: Callable[[], Awaitable[web.StreamResponse]]) -> web.StreamResponse:
    """Return the correct response, of which nothing is sent yet."""
    token = IS_DISTORTED.set(True)
    try:
        return await handle()
    finally:
        IS_DISTORTED.reset(token)


async def _hang(request: web.Request, seconds: float) -> None:
    """Wait until the client closes the connection, at most for `seconds`."""
    with anyio.move_on_after(seconds):
        while request.transport is not None and not request.transport.is_closing():  # noqa: ASYNC110
            await anyio.sleep(_CHECK_INTERVAL)  # aiohttp has no event for a lost connection


def _error(fault: Fault, now: float) -> ServiceError:
    usual = 422 if fault.kind == "error-as-stream" else 500
    status, code, message = _KNOWN.get(fault.kind, (fault.status or usual, None, "an injected fault"))
    delay = fault.retry_after
    if delay is None and fault.kind == "idempotency-in-progress":
        delay = 1
    if isinstance(delay, int | float):
        delay = formatdate(now + delay, usegmt=True) if fault.retry_after_date else f"{delay:g}"
    return ServiceError(
        status=status,
        code=fault.code if fault.code is not None else code,
        message=fault.message or message,
        headers=None if delay is None else {"Retry-After": delay},
    )


def _odd_error(fault: Fault, route: Route, now: float) -> web.Response:
    if fault.kind == "error-as-stream":
        response = _error(fault, now).response("openai")
        response.content_type = "text/event-stream"
        return response
    if fault.kind == "not-enough-balance":
        return json_response({"code": 605, "message": "NOT_ENOUGH_BALANCE"}, status=fault.status or 200)
    message = fault.message or "an injected fault"
    if route == "account":
        return json_response({"success": False, "message": message})
    code = 400 if fault.code is None else fault.code
    error = {"code": code, "message": message, "type": "invalid_request_error"}
    return json_response({"code": fault.status or 400, "error": error})


def _redirect(request: web.Request, fault: Fault, route: Route, service: Service) -> web.Response:
    path, query = request.path, request.query_string
    if fault.kind == "redirect-elsewhere":
        path = f"http://{service.elsewhere}{path}"
    elif route in {"edits", "applerouter"}:
        path = path.removesuffix("/") if path.endswith("/") else f"{path}/"
    location = f"{path}?{query}" if query else path
    return web.Response(status=fault.status or 307, headers={"Location": location})


async def _distort(
    request: web.Request, fault: Fault, response: web.StreamResponse, service: Service
) -> web.StreamResponse:
    """Return, or send, a distorted form of a correct response; HEAD has no body to distort."""
    body = response.body if isinstance(response, web.Response) else None
    if request.method == "HEAD" or not isinstance(response, web.Response) or not isinstance(body, bytes):
        return response
    if fault.kind in _CHANGED:
        return await _change(fault, response, body, service)
    if fault.kind == "close-after":
        await response.prepare(request)
        await response.write_eof()
        _close(request)
        return response
    if fault.kind == "gigantic":
        return await _send_gigantic(request, response, fault.size)
    if fault.kind in _CHUNKED:
        return await _send_in_chunks(request, response, fault, body)
    page = _PAGE.format("Not the image").encode()
    content = {"empty": b"", "wrong-bytes": page}.get(fault.kind, body[: len(body) // 2])
    return web.Response(body=content, status=response.status, content_type=response.content_type)


async def _change(fault: Fault, response: web.Response, body: bytes, service: Service) -> web.Response:
    """Return a correct response in another form."""
    in_thread = service.store.in_thread
    if fault.kind == "gzip":
        response.body = await in_thread(gzip.compress, body)
    elif fault.kind == "deflate":
        response.body = await in_thread(zlib.compress, body)
    else:
        response.body = await in_thread(_changed, fault, body)
        return response
    response.headers["Content-Encoding"] = fault.kind
    return response


def _changed(fault: Fault, body: bytes) -> bytes:
    payload: dict[str, Any] = json.loads(body)
    if fault.kind == "no-id":
        payload = {"code": 200, "data": [{"status": "submitted"}]}
    elif fault.kind == "empty-error":
        payload["error"] = {"code": "", "message": "", "type": ""}
    elif fault.kind == "not-a-number":
        return _NUMBER.sub(rb'"\1": NaN', body)
    elif fault.kind == "large-images":
        for entry in payload["data"]:
            if "b64_json" in entry:
                image = enlarge(decode(entry["b64_json"]), fault.size)
                entry["b64_json"] = base64.b64encode(image).decode()
    else:
        data: Any = payload["data"]
        if isinstance(data, dict):
            named = cast("Json", data)
            data = named.get("tasks", named.get("results", [named]))
        for task in cast("list[Json]", data):
            result = task.get("result")
            if isinstance(result, dict) and "images" in result:
                result["images"] = (result["images"] * _MANY)[:_MANY]
    return json.dumps(payload).encode()


async def _send_in_chunks(
    request: web.Request, response: web.StreamResponse, fault: Fault, body: bytes
) -> web.StreamResponse:
    """Send a body, or its first half, in chunks with pauses between them."""
    half = body[: len(body) // 2]
    size = max(1, -(-len(body) // _CHUNKS))
    chunks, pause = [body[start : start + size] for start in range(0, len(body), size)], 0.0
    if fault.kind == "truncated":
        chunks = [half]
    elif fault.kind == "stalled":
        chunks, pause = [half, b""], fault.seconds
    elif fault.kind == "stray-byte":
        chunks = [body[:-1]]
    else:
        pause = fault.seconds / max(1, len(chunks))
    stream = web.StreamResponse(status=response.status, headers=response.headers)
    stream.content_length = len(body)
    await stream.prepare(request)
    for index, chunk in enumerate(chunks):
        if index:
            await anyio.sleep(pause)
        await stream.write(chunk)
    if fault.kind == "stray-byte" and request.transport is not None:
        await anyio.sleep(_MOMENT)
        request.transport.write(body[-1:] + b"\n")
    if fault.kind != "slow":
        _close(request)
    return stream


async def _send_gigantic(request: web.Request, response: web.StreamResponse, size: int) -> web.StreamResponse:
    """Send valid JSON of `size` bytes without a Content-Length."""
    stream = web.StreamResponse(status=response.status, headers={"Content-Type": "application/json"})
    await stream.prepare(request)
    await stream.write(b'{"code":200,"padding":"')
    for start in range(0, size, _BLOCK):
        await stream.write(b"x" * min(_BLOCK, size - start))
    await stream.write(b'"}')
    return stream


def _close(request: web.Request) -> None:
    """Close a connection after the data already written, without a header that announces it."""
    if request.transport is not None:
        request.transport.close()
