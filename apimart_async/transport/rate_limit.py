"""Limits on requests: how many at once, how many a second, and one shared cool-down after a refusal.

An idle limiter costs a comparison or two. A 429 pauses the whole client, not only the call that received it,
and from then on the client learns the service's limits.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from contextlib import suppress
from time import monotonic  # the loop's clock asks which loop runs, and on 3.11 in which process: 0.4 µs
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from apimart_async.config import Limits

_FIRST_WINDOW: Final = 8
_GROWTH: Final = 0.25
_SHORTEST_PAUSE: Final = 0.1
_TOO_MANY: Final = 429
_OVERLOADED: Final = frozenset({429, 503})

_BURST: Final = 0.1
"""Seconds' worth of requests that may go at once after a lull."""

_MARGIN: Final = 0.97
_TRUSTED_FROM: Final = 1.0
_HOLD: Final = 5.0
_FIRST_HOLD: Final = 1.0
_SLOW_GROWTH: Final = 1.02
_FAST_GROWTH: Final = 1.5
_FORGOTTEN: Final = 4.0


class Semaphore:
    """A fair semaphore whose limit may change at any time.

    Args:
        limit: Places; a fraction counts once it makes a whole one.

    Attributes:
        limit: Places. Call ``wake`` after raising it while callers wait.
        in_use: Places taken.
    """

    def __init__(self, limit: float) -> None:
        self.limit: float = limit
        self.in_use: int = 0
        self._waiters: deque[asyncio.Future[None]] = deque()

    def acquire_nowait(self) -> bool:
        """Take a place if one is free and nobody waits; return whether it was taken."""
        if self.in_use < self.limit and not self._waiters:
            self.in_use += 1
            return True
        return False

    async def acquire(self) -> None:
        """Wait for a place, first come first served. Cancellation takes none."""
        if self.acquire_nowait():
            return
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                self.release()
            else:
                with suppress(ValueError):
                    self._waiters.remove(waiter)
            raise

    def release(self) -> None:
        """Give a place back."""
        self.in_use -= 1
        if self._waiters:
            self.wake()

    def wake(self) -> None:
        """Give the free places to those who wait."""
        while self._waiters and self.in_use < self.limit:
            waiter = self._waiters.popleft()
            if not waiter.done():
                self.in_use += 1
                waiter.set_result(None)


class RateLimiter:
    """One client's requests to its service: how many at once, how many a second, and pauses for all.

    Args:
        limits: Maximum of the caller; the limits of the service are learned.

    Attributes:
        requests: Requests under way.
        uploads: Uploads under way.
        downloads: Downloads under way.
        rate: Requests a second.
    """

    def __init__(self, limits: Limits) -> None:
        self._most = limits.requests
        self._is_adaptive = limits.adaptive
        self.requests: Semaphore = Semaphore(
            min(_FIRST_WINDOW, limits.requests) if limits.adaptive else limits.requests
        )
        self.uploads: Semaphore = Semaphore(limits.uploads)
        self.downloads: Semaphore = Semaphore(limits.downloads)
        self.rate: LearnedRate = LearnedRate(limits.requests_per_second)
        self._paused_until = 0.0
        self._reduced_at = -1.0
        self._is_starting = True

    def acquire_nowait(self) -> float | None:
        """Take a place if nothing is to be waited for; return the moment, or ``None``."""
        now = monotonic()
        if now >= self._paused_until and self.rate.is_unlimited and self.requests.acquire_nowait():
            return now
        return None

    async def acquire(self) -> float:
        """Wait for a place, for the end of a pause and for the rate; return the moment.

        Cancellation takes no place.
        """
        if not self.requests.acquire_nowait():
            await self.requests.acquire()
        now = monotonic()
        if now >= self._paused_until and self.rate.is_unlimited:
            return now
        try:
            return await self._wait_for_turn(now)
        except BaseException:
            self.requests.release()
            raise

    async def _wait_for_turn(self, now: float) -> float:
        while True:
            if now < self._paused_until:
                await asyncio.sleep(self._paused_until - now)
            elif (delay := self.rate.reserve(now)) > 0:
                await asyncio.sleep(delay)
                if monotonic() >= self._paused_until:
                    return monotonic()
            else:
                return now
            now = monotonic()

    def release(self, acquired: float, status: int | None, retry_after: float | None) -> None:
        """Give the place back, and learn from the answer.

        Args:
            acquired: Result of ``acquire``.
            status: HTTP status; ``None`` when no answer came, or none that tells anything about limits.
            retry_after: Seconds the service asked to wait.
        """
        now = monotonic()
        if status in _OVERLOADED:
            self._slow_down(acquired, now, status, retry_after)
        elif status is not None:
            self.rate.record_answer(now)
            requests = self.requests
            if requests.limit < self._most and requests.in_use >= requests.limit - 1:
                growth = _GROWTH if self._is_starting else 1.0 / requests.limit
                requests.limit = min(self._most, requests.limit + growth)
        self.requests.release()

    def _slow_down(self, acquired: float, now: float, status: int, retry_after: float | None) -> None:
        if retry_after is not None:
            self._paused_until = max(self._paused_until, now + retry_after)
        if not self._is_adaptive:
            return
        if status == _TOO_MANY:
            self._paused_until = max(self._paused_until, now + _SHORTEST_PAUSE)
        # Requests under way together are refused together: only the first refusal counts.
        if acquired < self._reduced_at:
            return
        self._is_starting = False
        self._reduced_at = now
        self.requests.limit = max(1.0, self.requests.limit / 2)
        if status == _TOO_MANY:
            self.rate.record_refusal(now, self._paused_until - now)


class LearnedRate:
    """Spaces requests to a rate: the caller's, the learned one, or none.

    After a 429 the rate is a little less than the rate of good answers in the second before it. It is held,
    and then raised slowly until the next 429; while there is less than a second to go by, it is raised fast.
    All moments are seconds of one steady clock.

    Args:
        most: Requests per second that are never passed; ``None`` for no limit of the caller's.

    Attributes:
        learned: Requests per second that the service answers, as far as is known.
        is_unlimited: Whether requests need no spacing.
    """

    def __init__(self, most: float | None) -> None:
        self._most = most
        self.learned: float | None = None
        self.is_unlimited: bool = most is None
        self._next = 0.0
        self._set_at = 0.0
        self._set_to = 0.0
        self._is_trusted = False
        self._since: float | None = None
        self._second = 0.0
        self._this_second = 0
        self._last_second = 0

    def current(self, now: float) -> float | None:
        """Return the rate in force, in requests per second; ``None`` for none."""
        if self.learned is None:
            return self._most
        held = now - self._set_at - (_HOLD if self._is_trusted else _FIRST_HOLD)
        growth = _SLOW_GROWTH if self._is_trusted else _FAST_GROWTH
        rate = self._set_to * math.pow(growth, min(max(held, 0.0), 200.0))
        if rate > _FORGOTTEN * self._set_to and self._is_trusted:
            self.learned = None
            self.is_unlimited = self._most is None
            return self._most
        self.learned = rate
        return rate if self._most is None else min(rate, self._most)

    def reserve(self, now: float) -> float:
        """Take the next place and return the seconds until it."""
        rate = self.current(now)
        if rate is None:
            return 0.0
        self._next = max(self._next, now - _BURST) + 1 / rate
        return max(0.0, self._next - 1 / rate - now)

    def record_answer(self, now: float) -> None:
        """Count a request that was not refused."""
        if self._since is None:
            self._since = now
        if now - self._second >= 1.0:
            self._last_second = self._this_second if now - self._second < 2.0 else 0  # noqa: PLR2004 the one before
            self._this_second = 0
            self._second = now
        self._this_second += 1

    def record_refusal(self, now: float, pause: float) -> None:
        """Note a 429, the first of those that came together, and that nothing goes for ``pause`` seconds."""
        part = min(max(now - self._second, 0.0), 1.0)
        seen = self._this_second + self._last_second * (1 - part)
        self._is_trusted |= self._since is not None and now - self._since >= _TRUSTED_FROM
        if self.learned is not None:
            seen = min(seen, self.learned)
        self._set_to = self.learned = max(seen * _MARGIN, 0.5)
        self.is_unlimited = False
        self._set_at = self._since = now + pause
