"""Making a fault happen: an error instead of the answer, or no answer at all."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from email.utils import formatdate
from typing import TYPE_CHECKING, Final

import anyio
from aiohttp import web
from attrs import frozen

from .faults import Fault
from .replies import Refusal, json_response
from .routing import Route
from .service import Service
from .spoiling import SPOILING, spoil

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .faults import Kind

FAULT: Final[ContextVar[Kind | None]] = ContextVar("fault", default=None)
"""The kind of a fault that the route makes itself, while it answers."""

PAGE: Final = "<!DOCTYPE html>\n<html><head><title>{0}</title></head><body><h1>{0}</h1></body></html>\n"

CLIENT_SEES_NOTHING: Final = 499
"""The status of an answer to a connection that is gone."""

_STEP = 0.1

_BY_THE_ROUTE: Final[frozenset[Kind]] = frozenset(
    ("task-stuck", "task-failed", "task-cancelled", "task-expired", "task-partial", "unknown-status")
)

_IDEMPOTENCY: Final[dict[Kind, tuple[int, str, str]]] = {
    "idempotency-in-progress": (409, "idempotency_in_progress", "the first request is still in progress"),
    "idempotency-key-reused": (409, "idempotency_key_reused", "the key was used with another request"),
    "idempotency-result-indeterminate": (
        409,
        "idempotency_result_indeterminate",
        "the result of the first request is not known",
    ),
    "idempotency-unavailable": (503, "idempotency_unavailable", "idempotency is unavailable"),
}


@frozen
class Case:
    """A request that something goes wrong with.

    Attributes:
        request: The request.
        fault: What goes wrong.
        route: What the request is for.
        service: The emulator.
        answer: Carries the request out.
    """

    request: web.Request
    fault: Fault
    route: Route
    service: Service
    answer: Callable[[], Awaitable[web.StreamResponse]]


async def misbehave(case: Case) -> web.StreamResponse:
    """Answer a request wrongly.

    Raises:
        Refusal: The fault is an error answer, or the request was refused on its own account.
    """
    kind = case.fault.kind
    if kind in _BY_THE_ROUTE:
        token = FAULT.set(kind)
        try:
            return await case.answer()
        finally:
            FAULT.reset(token)
    if kind in SPOILING:
        return await spoil(case.request, case.fault, await case.answer())
    if case.fault.executed:
        await case.answer()
    if kind == "hang":
        await _wait(case.request, case.fault.seconds)
    if kind in {"hang", "disconnect"}:
        return drop(case.request)
    if kind == "html":
        status = case.fault.status or 502
        return web.Response(text=PAGE.format(status), status=status, content_type="text/html")
    if kind == "error-in-200":
        return _error_inside(case)
    if kind.startswith("redirect"):
        return _redirect(case)
    raise _refusal(case)


def drop(request: web.Request) -> web.Response:
    """End a connection at once and return an answer that nobody will see."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=CLIENT_SEES_NOTHING)


async def _wait(request: web.Request, seconds: float) -> None:
    """Wait, but no longer than the client does."""
    with anyio.move_on_after(seconds):
        while request.transport is not None and not request.transport.is_closing():  # noqa: ASYNC110
            await anyio.sleep(_STEP)  # aiohttp tells nobody that a connection was lost


def _refusal(case: Case) -> Refusal:
    fault = case.fault
    status, code, message = _IDEMPOTENCY.get(fault.kind, (fault.status or 500, None, "a fault on purpose"))
    return Refusal(
        status=status,
        code=fault.code if fault.code is not None else code,
        message=fault.message or message,
        headers=_retry_after(case),
    )


def _retry_after(case: Case) -> Mapping[str, str] | None:
    value = case.fault.retry_after
    if value is None and case.fault.kind == "idempotency-in-progress":
        value = 1
    if value is None:
        return None
    if isinstance(value, str):
        return {"Retry-After": value}
    if case.fault.retry_after_date:
        return {"Retry-After": formatdate(case.service.clock.now() + value, usegmt=True)}
    return {"Retry-After": f"{value:g}"}


def _error_inside(case: Case) -> web.Response:
    message = case.fault.message or "a fault on purpose"
    if case.route == "account":
        return json_response({"success": False, "message": message})
    code = 400 if case.fault.code is None else case.fault.code
    error = {"code": code, "message": message, "type": "invalid_request_error"}
    return json_response({"code": case.fault.status or 400, "error": error})


def _redirect(case: Case) -> web.Response:
    path, query = case.request.path, case.request.query_string
    if case.fault.kind == "redirect-elsewhere":
        path = f"http://{case.service.elsewhere}{path}"
    elif case.route in {"edits", "applerouter"}:
        path = path.removesuffix("/") if path.endswith("/") else f"{path}/"
    location = f"{path}?{query}" if query else path
    return web.Response(status=case.fault.status or 307, headers={"Location": location})
