"""The middleware: authorization, rate limit, faults, error bodies, and the record of every request."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, Final

from aiohttp import web

from apimart_async.errors import visible

from .auth import carries_key, check_host, check_token
from .fault_injection import CLIENT_GONE, inject
from .file_host import FILES_PATH
from .responses import ERROR_VARIANTS, ServiceError, json_response, not_found
from .routing import Route, route_of
from .service import REQUEST_ID, SERVICE, SeenRequest, Service, ulid
from .settings import BODY_LIMIT

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from .responses import ErrorVariant

_log = logging.getLogger("apimart_async.emulator")

_UNLIMITED: Final[frozenset[Route]] = frozenset({"files", "controls"})
"""The routes without a rate limit. Files have no key either: nobody can guess their addresses."""


@web.middleware
async def middleware(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Handle a request, turn every error into the service's own body, and record both."""
    service = request.app[SERVICE]
    now = service.clock.now()
    route = _route(request, service)
    request_id = ulid(now)
    REQUEST_ID.set(request_id)
    status: int | None = None
    has_header = True
    try:
        response = await _respond(request, service, route, request_id, partial(handler, request))
        status = None if response.status == CLIENT_GONE else response.status
    except (ServiceError, web.HTTPException) as error:
        service_error = error if isinstance(error, ServiceError) else _converted(request, error)
        variant = _error_variant(service, route)
        response = service_error.response(variant, request_id)
        has_header = variant not in {"id-in-message", "id-in-body"}
        status = response.status
    except ConnectionError:  # the client closed the connection; re-raised, aiohttp would log an error
        response = web.Response(status=CLIENT_GONE)
    except Exception:
        _log.exception("The emulator failed to answer %s %s", request.method, visible(request.path))
        raise
    finally:
        service.record(
            SeenRequest(
                at=now,
                route=route,
                method=request.method,
                path=request.path,
                host=request.host,
                status=status,
                authorization=carries_key(request, service.settings.api_key),
                idempotency_key=request.headers.get("Idempotency-Key"),
            )
        )
    if not response.prepared:
        if has_header:
            response.headers["X-Oneapi-Request-Id"] = request_id
        if route == "applerouter":
            response.headers["x-request-id"] = request_id
            response.headers.update(service.rate_limits.headers())
    return response


def _route(request: web.Request, service: Service) -> Route:
    if request.host == service.elsewhere and not request.path.startswith(FILES_PATH):
        return "elsewhere"
    return route_of(request.method, request.path, request.content_type)


async def _respond(
    request: web.Request,
    service: Service,
    route: Route,
    request_id: str,
    handle: Callable[[], Awaitable[web.StreamResponse]],
) -> web.StreamResponse:
    check_host(request, service.settings.host)
    if route == "elsewhere":
        return json_response({"code": 200, "data": [{"status": "submitted", "task_id": "task_elsewhere"}]})
    if route != "files":
        check_token(request, service.settings.api_key, route, request_id)
    if route in _UNLIMITED:
        return await _accepted(request, service, route, handle)
    service.rate_limits.check(service.clock.now() - service.started, route)
    try:
        return await _accepted(request, service, route, handle)
    finally:
        service.rate_limits.finished(route)


async def _accepted(
    request: web.Request, service: Service, route: Route, handle: Callable[[], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    reused = request.transport in service.transports
    if request.transport is not None:
        service.transports.add(request.transport)
    fault = service.faults.decide(route, reused=reused)
    return await (handle() if fault is None else inject(request, fault, route, service, handle))


def _error_variant(service: Service, route: Route) -> ErrorVariant:
    if route == "applerouter":
        return "openai"
    return ERROR_VARIANTS[service.next_variant("error") % len(ERROR_VARIANTS)]


def _converted(request: web.Request, error: web.HTTPException) -> ServiceError:
    """Return an error that aiohttp raised as an error of the service."""
    if isinstance(error, web.HTTPNotFound):
        return not_found(f"Invalid URL ({request.method} {request.path})")
    message = error.reason
    if isinstance(error, web.HTTPRequestEntityTooLarge):
        message = f"request body exceeds maximum {BODY_LIMIT} bytes"
    elif isinstance(error, web.HTTPMethodNotAllowed):
        message = f"method {request.method} is not allowed on {request.path}"
    allow = error.headers.get("Allow")
    headers = {"Allow": allow} if allow else None
    return ServiceError(status=error.status, type="invalid_request_error", message=message, headers=headers)
