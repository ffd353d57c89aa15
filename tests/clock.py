"""A monotonic clock that a test moves forwards, so that it need not wait for timeouts and grace periods."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator


class Clock:
    """The time of this process: event loops, the package and emulators in it ask `time.monotonic`.

    `tests/conftest.py` puts it in the place of `time.monotonic` before it imports the package, which binds
    the function by name. It never goes back, so there is nothing to undo after a test.
    """

    def __init__(self) -> None:
        self._real = time.monotonic
        self._ahead = 0.0
        self._held_at: float | None = None

    def monotonic(self) -> float:
        """Return the seconds of the system's clock and those that tests have added."""
        return (self._real() if self._held_at is None else self._held_at) + self._ahead

    def advance(self, seconds: float) -> None:
        """Move the time forwards; call it on the thread of the event loop whose timers are to run."""
        assert seconds >= 0
        self._ahead += seconds

    @contextmanager
    def held(self) -> Generator[None]:
        """Stop the system's clock, for tests in which work may take no time: only ``advance`` moves it."""
        self._held_at = self._real()
        try:
            yield
        finally:
            self._held_at = None

    @asynccontextmanager
    async def rushing(self, seconds: float) -> AsyncGenerator[None]:
        """Move the time forwards by so many seconds, again and again, while the body runs."""

        async def rush() -> None:
            while True:
                self.advance(seconds)
                await asyncio.sleep(0.01)

        rushing = asyncio.create_task(rush())
        try:
            yield
        finally:
            rushing.cancel()
