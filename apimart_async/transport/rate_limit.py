"""Limits on the requests of a client: one queue, first come first served, sent when the limits allow it."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from contextlib import suppress
from random import Random
from time import monotonic  # the loop's clock asks which loop runs, and on 3.11 in which process: 0.4 µs
from typing import TYPE_CHECKING, Any, Final

from apimart_async.transport.concurrency import Semaphore
from apimart_async.transport.limit_search import LimitSearch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from apimart_async.config import Limits

_OVERLOADED: Final = frozenset({429, 503})


class RateLimiter:
    """Lets each request go when it is due at the limits of that moment, and learns from the answers.

    No place is reserved ahead: a request that waits is held to the limits of the moment at which it is sent,
    not to those of the moment at which it arrived.

    Args:
        limits: Maximum of the caller; an adaptive client searches the limits of the service below it.

    Attributes:
        search: Limits in force on requests.
        uploads: Uploads under way, each with its request.
        downloads: Downloads under way.
    """

    def __init__(self, limits: Limits) -> None:
        self.search: LimitSearch = LimitSearch(limits.requests, limits.requests_per_second, Random())
        self.uploads: Semaphore = Semaphore(limits.uploads)
        self.downloads: Semaphore = Semaphore(limits.downloads)
        self._is_adaptive = limits.adaptive
        if not limits.adaptive:
            self.search.concurrency = limits.requests
        self._waiters: deque[asyncio.Future[float]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def load(self, data: Mapping[str, Any]) -> None:
        """Start at the limits of an earlier search, unless this one has begun; see ``LimitSearch.load``."""
        if self._is_adaptive:
            self.search.load(data, monotonic())

    def acquire_nowait(self) -> float | None:
        """Take a place if none waits and the limits allow it now; return the moment, or ``None``."""
        if self._waiters:
            return None
        now = monotonic()
        if self.search.ready_at(now) > now:
            return None
        self.search.sent(now)
        return now

    async def acquire(self, *, front: bool = False) -> float:
        """Wait for a place; return the moment at which it was given. Cancellation leaves no place taken.

        Args:
            front: Whether to wait before all others: for a request that was refused and has waited already.
        """
        sent_at = self.acquire_nowait()
        if sent_at is not None:
            return sent_at
        waiter: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        (self._waiters.appendleft if front else self._waiters.append)(waiter)
        self._admit()
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                self.release(waiter.result(), None, None)
            else:
                with suppress(ValueError):
                    self._waiters.remove(waiter)
            raise

    def release(self, sent_at: float, status: int | None, retry_after: float | None) -> None:
        """Give a place back, and learn from the answer.

        Args:
            sent_at: Result of ``acquire``.
            status: HTTP status; ``None`` without an answer, or if the answer says nothing about limits.
            retry_after: Seconds that the service asked to wait; ``None`` for none, or for a wait so long that
                the call fails instead of waiting.
        """
        now = monotonic()
        if self._is_adaptive:
            is_refused = None if status is None else status in _OVERLOADED
            self.search.answered(now, sent_at, is_refused, retry_after or 0.0)
        else:
            self.search.answered(now, sent_at, None)
            if status in _OVERLOADED and retry_after:
                self.search.paused_until = max(self.search.paused_until, now + retry_after)
        if self._waiters:
            self._admit()

    def _admit(self) -> None:
        """Admit the requests that are due, and set the timer for the next one."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._waiters:
            if self._waiters[0].done():
                self._waiters.popleft()
                continue
            now = monotonic()
            ready = self.search.ready_at(now)
            if ready > now:
                if ready < math.inf:
                    self._timer = asyncio.get_running_loop().call_later(ready - now, self._admit)
                return
            self.search.sent(now)
            self._waiters.popleft().set_result(now)
