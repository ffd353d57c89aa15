"""How much at once, how fast, and when not at all: what every request of a client passes through.

Idle, it costs a comparison or two. A 429 pauses all of the client, not only the call that met it, and from
then on the client finds the service's limits by itself.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from time import monotonic  # the loop's clock asks which loop, and whose process: 0.4 µs
from typing import TYPE_CHECKING, Final

from apimart_async.transport.pace import Pace

if TYPE_CHECKING:
    from apimart_async.config import Limits

_FIRST_WINDOW: Final = 8
_GROWTH: Final = 0.25
_SHORTEST_PAUSE: Final = 0.1
_TOO_MANY: Final = 429
_OVERLOADED: Final = frozenset({429, 503})


class Gate:
    """Let so many through at once, first come first served; the number may change at any time.

    Args:
        limit: How many.
    """

    def __init__(self, limit: float) -> None:
        self.limit: float = limit
        self.inside: int = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    def enter_now(self) -> bool:
        """Take a place if there is one and nobody is waiting, and tell whether there was."""
        if self.inside < self.limit and not self._waiting:
            self.inside += 1
            return True
        return False

    async def enter(self) -> None:
        """Wait for a place. Cancelling it takes none."""
        if self.enter_now():
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.leave()
            else:
                with suppress(ValueError):
                    self._waiting.remove(turn)
            raise

    def leave(self) -> None:
        """Give the place back."""
        self.inside -= 1
        if self._waiting:
            self.admit()

    def admit(self) -> None:
        """Let in as many as there are places for."""
        while self._waiting and self.inside < self.limit:
            turn = self._waiting.popleft()
            if not turn.done():
                self.inside += 1
                turn.set_result(None)


class Throttle:
    """One client's requests to its service: how many at once, how many a second, and pauses for all.

    Args:
        limits: What the caller allows; what the service allows is learnt.
    """

    def __init__(self, limits: Limits) -> None:
        self._most = limits.requests
        self._is_adaptive = limits.adaptive
        self.gate: Gate = Gate(min(_FIRST_WINDOW, limits.requests) if limits.adaptive else limits.requests)
        self.uploads: Gate = Gate(limits.uploads)
        self.downloads: Gate = Gate(limits.downloads)
        self.pace: Pace = Pace(limits.requests_per_second)
        self._paused_until = 0.0
        self._reduced_at = -1.0
        self._is_starting = True

    def enter_now(self) -> float | None:
        """Take a place if there is one and nothing is to be waited for; return the moment."""
        now = monotonic()
        if now >= self._paused_until and self.pace.is_free and self.gate.enter_now():
            return now
        return None

    async def enter(self) -> float:
        """Wait for a place, the end of a pause and the request's turn; return the moment it may go.

        Cancelling it takes no place.
        """
        if not self.gate.enter_now():
            await self.gate.enter()
        now = monotonic()
        if now >= self._paused_until and self.pace.is_free:
            return now
        try:
            return await self._wait_for_turn(now)
        except BaseException:
            self.gate.leave()
            raise

    async def _wait_for_turn(self, now: float) -> float:
        while True:
            if now < self._paused_until:
                await asyncio.sleep(self._paused_until - now)
            elif (delay := self.pace.reserve(now)) > 0:
                await asyncio.sleep(delay)
                if monotonic() >= self._paused_until:
                    return monotonic()
            else:
                return now
            now = monotonic()

    def leave(self, entered: float, status: int | None, retry_after: float | None) -> None:
        """Give the place back, and learn from the answer.

        Args:
            entered: What ``enter`` returned.
            status: HTTP status; ``None`` when no answer came.
            retry_after: Seconds the service asked to wait.
        """
        now = monotonic()
        if status in _OVERLOADED:
            self._slow_down(entered, now, status, retry_after)
        else:
            self.pace.answered(now)
            gate = self.gate
            if gate.limit < self._most and gate.inside >= gate.limit - 1:
                gate.limit = min(
                    self._most, gate.limit + (_GROWTH if self._is_starting else 1.0 / gate.limit)
                )
        self.gate.leave()

    def _slow_down(self, entered: float, now: float, status: int, retry_after: float | None) -> None:
        if retry_after is not None:
            self._paused_until = max(self._paused_until, now + retry_after)
        if not self._is_adaptive:
            return
        if status == _TOO_MANY:
            self._paused_until = max(self._paused_until, now + _SHORTEST_PAUSE)
        # Those that were under way together fail together, and say it once.
        if entered < self._reduced_at:
            return
        self._is_starting = False
        self._reduced_at = now
        self.gate.limit = max(1.0, self.gate.limit / 2)
        if status == _TOO_MANY:
            self.pace.refused(now, self._paused_until - now)
