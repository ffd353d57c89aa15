"""Who may come in, and how often."""

from __future__ import annotations

import hmac
import math
from typing import TYPE_CHECKING, Final

from .replies import Refusal

if TYPE_CHECKING:
    from aiohttp import web

    from .limiting import TokenBucket
    from .routing import Route

OPEN: Final[frozenset[Route]] = frozenset({"files", "controls"})
"""What needs no key and has no limit: the file host, and what only the emulator has."""


def check_key(request: web.Request, key: str, route: Route, request_id: str) -> None:
    """Refuse a request without the right bearer token.

    Raises:
        Refusal: 401, worded as the live services do.
    """
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), key.encode()):
        return
    if route == "applerouter":
        raise Refusal(
            status=401,
            type="invalid_request_error",
            code="invalid_api_key",
            message="Incorrect API key provided.",
        )
    raise Refusal(
        status=401, code="", type="apimart_error", message=f"invalid API key (request id: {request_id})"
    )


def check_rate(bucket: TokenBucket, now: float, route: Route) -> None:
    """Refuse a request beyond the rate.

    Raises:
        Refusal: 429 with `Retry-After` in whole seconds, and for AppleRouter in milliseconds as well.
    """
    wait = bucket.take(now)
    if wait <= 0:
        return
    headers = {"Retry-After": str(math.ceil(wait))}
    if route == "applerouter":
        headers["Retry-After-Ms"] = str(math.ceil(wait * 1000))
    raise Refusal(
        status=429,
        code="rate_limit_exceeded",
        message=f"rate limit of {bucket.rate:g} requests per second exceeded",
        headers=headers,
    )


def rate_headers(bucket: TokenBucket) -> dict[str, str]:
    """Return the headers in which AppleRouter tells its limit."""
    return {
        "x-ratelimit-limit-requests": f"{bucket.burst:g}",
        "x-ratelimit-remaining-requests": str(bucket.remaining),
        "x-ratelimit-reset-requests": f"{(bucket.burst - bucket.remaining) / bucket.rate:.3f}s",
    }


def carries_key(request: web.Request, key: str) -> bool:
    """Return whether a request has an Authorization header, or the key anywhere in its headers or address."""
    headers = request.headers
    return (
        "Authorization" in headers
        or key in request.path_qs
        or any(key in value for value in headers.values())
    )
