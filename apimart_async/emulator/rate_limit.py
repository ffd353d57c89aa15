"""The rate limit of the API: a token bucket and its responses."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from attrs import define, field

from .responses import ServiceError

if TYPE_CHECKING:
    from .routing import Route


@define
class TokenBucket:
    """Allow a rate of requests per second, with a burst of one second's worth (at least one request)."""

    rate: float
    _tokens: float = field(init=False)
    _at: float = field(default=-math.inf, init=False)

    def __attrs_post_init__(self) -> None:
        self._tokens = self.burst

    @property
    def burst(self) -> float:
        """The most requests that are allowed at once."""
        return max(1.0, self.rate)

    def check(self, now: float, route: Route) -> None:
        """Take one token at a time in seconds.

        Raises:
            ServiceError: 429 with `Retry-After` in whole seconds, and for AppleRouter in milliseconds too.
        """
        self._tokens = min(self.burst, self._tokens + (now - self._at) * self.rate)
        self._at = now
        if self._tokens >= 1:
            self._tokens -= 1
            return
        wait = (1 - self._tokens) / self.rate
        headers = {"Retry-After": str(math.ceil(wait))}
        if route == "applerouter":
            headers["Retry-After-Ms"] = str(math.ceil(wait * 1000))
        raise ServiceError(
            status=429,
            code="rate_limit_exceeded",
            message=f"rate limit of {self.rate:g} requests per second exceeded",
            headers=headers,
        )

    def headers(self) -> dict[str, str]:
        """Return the headers in which AppleRouter reports its limit."""
        remaining = int(self._tokens)
        return {
            "x-ratelimit-limit-requests": f"{self.burst:g}",
            "x-ratelimit-remaining-requests": str(remaining),
            "x-ratelimit-reset-requests": f"{(self.burst - remaining) / self.rate:.3f}s",
        }
