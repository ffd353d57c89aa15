"""The clock of an emulator, which a test moves forwards."""

from __future__ import annotations

import time

from attrs import define, field


@define
class Clock:
    """The emulator's time in unix seconds: monotonic, and ahead of the system's after `advance`."""

    _start: float = field(factory=time.time, init=False)
    _monotonic_start: float = field(factory=time.monotonic, init=False)
    _ahead: float = field(default=0.0, init=False)

    def now(self) -> float:
        """Return the time in unix seconds."""
        return self._start + (time.monotonic() - self._monotonic_start) + self._ahead

    def advance(self, seconds: float) -> None:
        """Move the time forwards.

        Raises:
            ValueError: `seconds` is negative.
        """
        if seconds < 0:
            raise ValueError("the emulator's clock only goes forwards")
        self._ahead += seconds
