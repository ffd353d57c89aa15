"""The way in and out of every request: what it is for, whether it may, and what was answered."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING

from aiohttp import web

from .guard import OPEN, carries_key, check_key, check_rate, rate_headers
from .hosting import FILES_PATH
from .identifiers import ulid
from .mischief import CLIENT_SEES_NOTHING, Case, misbehave
from .replies import ERROR_SHAPES, Refusal, json_response, not_found
from .routing import Route, route_of
from .service import SERVICE, SeenRequest, Service
from .settings import BODY_LIMIT

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from .replies import ErrorShape

_log = logging.getLogger("apimart_async.emulator")


@web.middleware
async def door(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Let a request in when it may, answer every error as the service words it, and remember both."""
    service = request.app[SERVICE]
    now = service.clock.now()
    route = _route(request, service)
    request_id = ulid(now)
    status: int | None = None
    try:
        response = await _answer(request, service, route, request_id, partial(handler, request))
        status = None if response.status == CLIENT_SEES_NOTHING else response.status
    except (Refusal, web.HTTPException) as error:
        refusal = error if isinstance(error, Refusal) else _worded(request, error)
        response = refusal.response(_error_shape(service, route))
        status = response.status
    except ConnectionError:  # the client went away; raising that would be logged as a fault of the emulator
        response = web.Response(status=CLIENT_SEES_NOTHING)
    except Exception:
        _log.exception("The emulator failed to answer %s %s", request.method, request.path)
        raise
    finally:
        service.see(
            SeenRequest(
                at=now,
                route=route,
                method=request.method,
                path=request.path,
                status=status,
                authorization=carries_key(request, service.settings.api_key),
                idempotency_key=request.headers.get("Idempotency-Key"),
            )
        )
    if not response.prepared:
        response.headers.update(_headers(service, route, request_id))
    return response


def _route(request: web.Request, service: Service) -> Route:
    if request.host == service.elsewhere and not request.path.startswith(FILES_PATH):
        return "elsewhere"
    return route_of(request.method, request.path, request.content_type)


async def _answer(
    request: web.Request,
    service: Service,
    route: Route,
    request_id: str,
    answer: Callable[[], Awaitable[web.StreamResponse]],
) -> web.StreamResponse:
    if route == "elsewhere":
        return json_response({"code": 200, "data": [{"status": "submitted", "task_id": "task_elsewhere"}]})
    if route not in OPEN:
        check_key(request, service.settings.api_key, route, request_id)
        if service.bucket is not None:
            check_rate(service.bucket, service.clock.now(), route)
    reused = request.transport in service.transports
    if request.transport is not None:
        service.transports.add(request.transport)
    fault = service.faults.decide(route, reused=reused)
    return await (answer() if fault is None else misbehave(Case(request, fault, route, service, answer)))


def _headers(service: Service, route: Route, request_id: str) -> dict[str, str]:
    headers = {"X-Oneapi-Request-Id": request_id}
    if route == "applerouter":
        headers["x-request-id"] = request_id
        if service.bucket is not None:
            headers |= rate_headers(service.bucket)
    return headers


def _error_shape(service: Service, route: Route) -> ErrorShape:
    if route == "applerouter":
        return "openai"
    return ERROR_SHAPES[service.turn("error") % len(ERROR_SHAPES)]


def _worded(request: web.Request, error: web.HTTPException) -> Refusal:
    """Return one of aiohttp's own errors as the service would put it."""
    if isinstance(error, web.HTTPNotFound):
        return not_found(f"Invalid URL ({request.method} {request.path})")
    message = error.reason
    if isinstance(error, web.HTTPRequestEntityTooLarge):
        message = f"request body exceeds maximum {BODY_LIMIT} bytes"
    elif isinstance(error, web.HTTPMethodNotAllowed):
        message = f"method {request.method} is not allowed on {request.path}"
    allow = error.headers.get("Allow")
    headers = {"Allow": allow} if allow else None
    return Refusal(status=error.status, type="invalid_request_error", message=message, headers=headers)
