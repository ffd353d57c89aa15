"""The bearer token: required by the API, and reported when a client sends it to any other host."""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING

from .responses import ServiceError

if TYPE_CHECKING:
    from aiohttp import web

    from .routing import Route


def check_token(request: web.Request, key: str, route: Route, request_id: str) -> None:
    """Check the bearer token of a request.

    Raises:
        ServiceError: 401, worded like the live services.
    """
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer" and hmac.compare_digest(token.strip().encode(), key.encode()):
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


def carries_key(request: web.Request, key: str) -> bool:
    """Return whether a request has an Authorization header, or the key anywhere in its headers or URL."""
    headers = request.headers
    return (
        "Authorization" in headers
        or key in request.path_qs
        or any(key in value for value in headers.values())
    )
