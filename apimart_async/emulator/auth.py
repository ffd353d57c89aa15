"""The bearer token: required by the API, and reported when a client sends it to any other host."""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING, Final

from .responses import ServiceError

_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})

if TYPE_CHECKING:
    from aiohttp import web

    from .routing import Route


def check_token(request: web.Request, key: str, route: Route, request_id: str) -> None:
    """Check the bearer token of a request.

    Raises:
        ServiceError: 401, worded like the live services.
    """
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    given = token.strip().encode("utf-8", "surrogateescape")
    if scheme.lower() == "bearer" and hmac.compare_digest(given, key.encode()):
        return
    if route == "applerouter":
        raise ServiceError(
            status=401,
            type="invalid_request_error",
            code="invalid_api_key",
            message="Incorrect API key provided.",
        )
    raise ServiceError(
        status=401, code="", type="apimart_error", message=f"invalid API key (request id: {request_id})"
    )


def check_host(request: web.Request, host: str) -> None:
    """Check that a request is not from a page of another site, which a browser would send for a stranger.

    A page names itself in ``Origin``; one whose name was made to lead here names itself in ``Host``.

    Args:
        request: The request.
        host: Address on which the emulator listens.

    Raises:
        ServiceError: 403.
    """
    named = request.headers.get("Host", "")
    page = request.headers.get("Origin")
    is_known = _name(named) in {*_LOOPBACK, host} or host not in _LOOPBACK
    if not is_known or (page is not None and page.partition("://")[2] != named):
        raise ServiceError(
            status=403,
            type="permission_error",
            code="foreign_host",
            message="This emulator answers only requests to its own address, and none of other sites.",
        )


def _name(host: str) -> str:
    """Return a host without its port."""
    name, _, port = host.rpartition(":")
    return (name if name and not port.endswith("]") else host).strip("[]").lower()


def carries_key(request: web.Request, key: str) -> bool:
    """Return whether a request has an Authorization header, or the key anywhere in its headers or URL."""
    headers = request.headers
    return (
        "Authorization" in headers
        or key in request.path_qs
        or any(key in value for value in headers.values())
    )
