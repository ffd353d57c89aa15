"""A fair semaphore: first come, first served."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress


class Semaphore:
    """Limits concurrent use; unlike asyncio's, it can be tried without waiting.

    Args:
        limit: Number of places.

    Attributes:
        limit: Number of places. Call ``wake`` after raising it while callers wait.
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
        """Wait for a place. Cancellation leaves no place taken."""
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
