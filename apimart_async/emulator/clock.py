"""The emulator's own time, which a test may move forwards."""

from __future__ import annotations

import time

from attrs import define, field


@define
class Clock:
    """Tell the time in unix seconds: never backwards, and ahead of the real one when told so."""

    _start: float = field(factory=time.time, init=False)
    _mark: float = field(factory=time.monotonic, init=False)
    _ahead: float = field(default=0.0, init=False)

    def now(self) -> float:
        """Return the emulator's time in unix seconds."""
        return self._start + (time.monotonic() - self._mark) + self._ahead

    def advance(self, seconds: float) -> None:
        """Move the time forwards by so many seconds.

        Raises:
            ValueError: `seconds` is negative.
        """
        if seconds < 0:
            message = "the emulator's clock only goes forwards"
            raise ValueError(message)
        self._ahead += seconds
