"""An event loop over real sockets on the clock of the tests, which jumps while no socket is ready."""

from __future__ import annotations

import asyncio
import selectors

from tests.conftest import CLOCK

# Seconds that a socket gets to become ready before each jump, and the longest jump: a request in flight has
# many jumps to be answered before its timeout.
_GRACE = 0.001
_LONGEST_JUMP = 0.25


class _Selector(selectors.DefaultSelector):
    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            return super().select(None)
        ready = super().select(min(timeout, _GRACE))
        if not ready:
            CLOCK.advance(min(max(timeout, 0.0), _LONGEST_JUMP))
        return ready


class SocketTimeLoop(asyncio.SelectorEventLoop):
    """An event loop whose timers run as soon as no socket has anything to read or write.

    Work takes no time: how often tasks are polled does not depend on the speed of the machine.
    """

    def __init__(self) -> None:
        super().__init__(_Selector())

    def run_forever(self) -> None:
        with CLOCK.held():
            super().run_forever()


BACKEND = "asyncio", {"loop_factory": SocketTimeLoop}
"""Value of the fixture `anyio_backend` for sockets whose timers nobody waits for."""
