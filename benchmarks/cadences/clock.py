"""A clock that stands still while an event loop works and jumps while no socket is ready.

Waits over real sockets take a moment, and the results do not depend on the speed of the machine. Import it
before the package, which binds ``time.monotonic`` by name; event loops and emulators ask it too.
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
# The moment of the loop; empty while there is none.
_now: list[float] = []


def _monotonic() -> float:
    return _now[0] if _now else _real()


time.monotonic = _monotonic


class _Selector(selectors.DefaultSelector):
    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            return super().select(None)
        ready = super().select(min(timeout, _GRACE))
        if not ready:
            _now[0] += min(max(timeout, 0.0), _LONGEST_JUMP)
        return ready


class JumpingLoop(asyncio.SelectorEventLoop):
    """An event loop on that clock."""

    def __init__(self) -> None:
        super().__init__(_Selector())
        _now[:] = [_real()]

    def close(self) -> None:
        """Close the loop, and let the clock of the system count again."""
        super().close()
        _now.clear()
