"""How far a batch has come, as snapshots."""

from __future__ import annotations

import attrs


@attrs.frozen(kw_only=True)
class Progress:
    """A batch at one moment.

    Attributes:
        total: How many jobs there are, when ``jobs`` has a length.
        saved: Jobs whose images are on disk, those of earlier runs included.
        failed: Jobs without images.
        in_doubt: Jobs that may or may not have been executed.
        unfinished: Jobs that are paid for and not saved, for the next run to take up.
        resumed: How many of all these an earlier run had begun.
        in_flight: Jobs that are being worked on.
        spent: USD, over all runs with this journal; what the service has not told yet is not in it.
        rate: Jobs that ended per second, lately; 0 as long as none has. What was saved before counts not.
        elapsed: Seconds since the batch began.
        is_draining: Whether no more jobs are begun.
    """

    total: int | None = None
    saved: int = 0
    failed: int = 0
    in_doubt: int = 0
    unfinished: int = 0
    resumed: int = 0
    in_flight: int = 0
    spent: float = 0.0
    rate: float = 0.0
    elapsed: float = 0.0
    is_draining: bool = False

    @property
    def done(self) -> int:
        """Tell how many jobs have ended in this run, whichever way."""
        return self.saved + self.failed + self.in_doubt + self.unfinished

    @property
    def eta(self) -> float | None:
        """Tell how many seconds are left at this rate; ``None`` when there is no telling."""
        if self.total is None or (not self.rate and self.done < self.total):
            return None
        return max(0.0, (self.total - self.done) / self.rate) if self.rate else 0.0
