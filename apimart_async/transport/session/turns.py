"""Fairness to the event loop: so many pieces are sent each time that it goes round, whoever sends them.

A way round the loop after each piece was a sixth of what an upload of 5 MB costs, one at a time. With a piece
of each of 64 uploads, everybody else was kept waiting for 30 ms.
"""

from __future__ import annotations

import asyncio
from collections import deque


class Turns:
    """Let so many have a turn each time the event loop goes round, first come first served.

    Args:
        each_round: How many.
    """

    def __init__(self, each_round: int) -> None:
        self._each_round = each_round
        self._left = each_round
        self._is_going_on = False
        self._waiting: deque[asyncio.Future[None]] = deque()

    def take_now(self) -> bool:
        """Take a turn if there is one left in this round, and tell whether there was."""
        if not self._left:
            return False
        self._left -= 1
        if not self._is_going_on:
            self._is_going_on = True
            asyncio.get_running_loop().call_soon(self._begin_round)
        return True

    async def take(self) -> None:
        """Wait for a turn. Cancelling it takes none, or one of this round."""
        if self.take_now():
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        await turn

    def _begin_round(self) -> None:
        self._left = self._each_round
        while self._waiting and self._left:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                self._left -= 1
        self._is_going_on = self._left < self._each_round
        if self._is_going_on:
            asyncio.get_running_loop().call_soon(self._begin_round)
