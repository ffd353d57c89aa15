"""A clock that jumps while no socket is ready: waits over real sockets take a moment.

Import it before the package, which binds ``time.monotonic`` by name; event loops and emulators ask it too.
"""

from __future__ import annotations

import asyncio
import selectors
import time
from typing import Final

# Seconds that a socket gets to become ready before each jump, and the longest jump: a request under way has
# many jumps to be answered before its timeout.
_GRACE: Final = 0.001
_LONGEST_JUMP: Final = 0.25

_real = time.monotonic
_jumps = [0.0]


def _monotonic() -> float:
    return _real() + _jumps[0]


time.monotonic = _monotonic


class _Selector(selectors.DefaultSelector):
    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            return super().select(None)
        ready = super().select(min(timeout, _GRACE))
        if not ready:
            _jumps[0] += min(max(timeout - _GRACE, 0.0), _LONGEST_JUMP)
        return ready


class JumpingLoop(asyncio.SelectorEventLoop):
    """An event loop on that clock."""

    def __init__(self) -> None:
        super().__init__(_Selector())
