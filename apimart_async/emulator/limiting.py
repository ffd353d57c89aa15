"""How many requests a second the service takes."""

from __future__ import annotations

import math

from attrs import define, field


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

    @property
    def remaining(self) -> int:
        """How many requests would be allowed at once now."""
        return int(self._tokens)

    def take(self, now: float) -> float:
        """Take one request's share at a moment in seconds.

        Returns:
            0 when the request is allowed, else the seconds until one would be.
        """
        self._tokens = min(self.burst, self._tokens + (now - self._at) * self.rate)
        self._at = now
        if self._tokens < 1:
            return (1 - self._tokens) / self.rate
        self._tokens -= 1
        return 0.0
