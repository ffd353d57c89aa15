"""Counts what a batch does."""

from __future__ import annotations

import time
from collections import Counter, deque
from typing import TYPE_CHECKING, Final

from apimart_async.batch.progress import Progress

if TYPE_CHECKING:
    from apimart_async.batch.job import Outcome, Status

_LATELY: Final = 60.0
_REMEMBERED: Final = 4096


class Meter:
    """Counts jobs and outcomes.

    Args:
        total: How many jobs there are, if that is known.
    """

    def __init__(self, total: int | None) -> None:
        self._total = total
        self._began = time.monotonic()
        self._ended: Counter[Status] = Counter()
        self._resumed = 0
        self._recent: deque[float] = deque(maxlen=_REMEMBERED)
        self.in_flight: int = 0

    def ended(self, outcome: Outcome) -> None:
        """Count an outcome."""
        self._ended[outcome.status] += 1
        self._resumed += outcome.resumed
        if not (outcome.resumed and outcome.status == "saved"):
            self._recent.append(time.monotonic())

    def read(self, *, spent: float, is_draining: bool) -> Progress:
        """Return where the batch stands."""
        now = time.monotonic()
        while self._recent and self._recent[0] < now - _LATELY:
            self._recent.popleft()
        # A full memory reaches back less far.
        is_full = len(self._recent) == _REMEMBERED
        since = self._recent[0] if is_full else max(self._began, now - _LATELY)
        return Progress(
            total=self._total,
            saved=self._ended["saved"],
            failed=self._ended["failed"],
            in_doubt=self._ended["in_doubt"],
            unfinished=self._ended["unfinished"],
            resumed=self._resumed,
            in_flight=self.in_flight,
            spent=spent,
            rate=len(self._recent) / (now - since) if now > since else 0.0,
            elapsed=now - self._began,
            is_draining=is_draining,
        )
