"""Pure: how many requests a second a service answers, learnt from when it answers 429."""

from __future__ import annotations

import math
from typing import Final

_BURST: Final = 0.1
"""Seconds' worth of requests that may go at once after a lull."""

_MARGIN: Final = 0.97
_TRUSTED_FROM: Final = 1.0
_HOLD: Final = 5.0
_FIRST_HOLD: Final = 1.0
_SLOW_GROWTH: Final = 1.02
_FAST_GROWTH: Final = 1.5
_FORGOTTEN: Final = 4.0


class Pace:
    """Spaces requests to a rate: the caller's, the learnt one, or none.

    After a 429 the rate is a little less than what was answered well in the second before it. It is held, and
    then raised slowly until the next 429; while there is less than a second to go by, it is raised fast. All
    moments are seconds of one steady clock.

    Args:
        most: Requests per second that are never passed; ``None`` for no limit of the caller's.

    Attributes:
        learnt: Requests per second that the service answers, as far as is known.
        is_free: Whether requests need no spacing.
    """

    def __init__(self, most: float | None) -> None:
        self._most = most
        self.learnt: float | None = None
        self.is_free: bool = most is None
        self._next = 0.0
        self._set_at = 0.0
        self._set_to = 0.0
        self._is_trusted = False
        self._since: float | None = None
        self._second = 0.0
        self._this_second = 0
        self._last_second = 0

    def rate(self, now: float) -> float | None:
        """Return the rate in force, in requests per second; ``None`` for none."""
        if self.learnt is None:
            return self._most
        held = now - self._set_at - (_HOLD if self._is_trusted else _FIRST_HOLD)
        growth = _SLOW_GROWTH if self._is_trusted else _FAST_GROWTH
        rate = self._set_to * math.pow(growth, min(max(held, 0.0), 200.0))
        if rate > _FORGOTTEN * self._set_to and self._is_trusted:
            self.learnt = None
            self.is_free = self._most is None
            return self._most
        self.learnt = rate
        return rate if self._most is None else min(rate, self._most)

    def reserve(self, now: float) -> float:
        """Take the next place and return the seconds until it."""
        rate = self.rate(now)
        if rate is None:
            return 0.0
        self._next = max(self._next, now - _BURST) + 1 / rate
        return max(0.0, self._next - 1 / rate - now)

    def answered(self, now: float) -> None:
        """Note a request that was not refused."""
        if self._since is None:
            self._since = now
        if now - self._second >= 1.0:
            self._last_second = self._this_second if now - self._second < 2.0 else 0  # noqa: PLR2004 the one before
            self._this_second = 0
            self._second = now
        self._this_second += 1

    def refused(self, now: float, pause: float) -> None:
        """Note a 429, the first of those that came together, and that nothing goes for ``pause`` seconds."""
        part = min(max(now - self._second, 0.0), 1.0)
        seen = self._this_second + self._last_second * (1 - part)
        self._is_trusted |= self._since is not None and now - self._since >= _TRUSTED_FROM
        if self.learnt is not None:
            seen = min(seen, self.learnt)
        self._set_to = self.learnt = max(seen * _MARGIN, 0.5)
        self.is_free = False
        self._set_at = self._since = now + pause
