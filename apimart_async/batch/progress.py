"""Progress of a batch: snapshots of the whole, and events of single jobs."""

from __future__ import annotations

import time
from collections import Counter, deque
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

import attrs

from apimart_async.batch.job import Job, Outcome
from apimart_async.batch.journal.record import Record

if TYPE_CHECKING:
    from collections.abc import Callable

    from apimart_async.batch.job import Status

Stage: TypeAlias = Literal["preparing", "uploading", "submitting", "waiting", "saving", "done", "failed"]

_WINDOW: Final = 60.0
_MOST_RECENT: Final = 4096


@attrs.frozen(kw_only=True)
class Progress:
    """A batch at one moment.

    Attributes:
        total: Number of jobs, when ``jobs`` has a length.
        saved: Jobs whose images are on disk, those of earlier runs included.
        failed: Jobs without images.
        in_doubt: Jobs that may or may not have been executed.
        unfinished: Jobs that are paid for and not saved; the next run continues them.
        resumed: Number of all these jobs that an earlier run had started.
        in_flight: Jobs between their submit and the end of their task.
        spent: USD, over all runs with this journal, of the costs that the service has reported.
        unknown_costs: Jobs whose images were made at an unknown cost.
        rate: Jobs ended per second over the last minute, without those saved by earlier runs.
        elapsed: Seconds since the batch started.
        is_rate_limited: Whether uploads or submits wait because the service has answered 429.
        rate_limit: Requests per second that the service was found to accept; ``None`` while that is unknown.
        is_shutting_down: Whether no further jobs are started.
    """

    total: int | None = None
    saved: int = 0
    failed: int = 0
    in_doubt: int = 0
    unfinished: int = 0
    resumed: int = 0
    in_flight: int = 0
    spent: float = 0.0
    unknown_costs: int = 0
    rate: float = 0.0
    elapsed: float = 0.0
    is_rate_limited: bool = False
    rate_limit: float | None = None
    is_shutting_down: bool = False

    @property
    def done(self) -> int:
        """Return how many jobs have ended in this run, whatever their status."""
        return self.saved + self.failed + self.in_doubt + self.unfinished

    @property
    def eta(self) -> float | None:
        """Return the seconds left at this rate; ``None`` when it cannot be estimated."""
        if self.total is None or (not self.rate and self.done < self.total):
            return None
        return max(0.0, (self.total - self.done) / self.rate) if self.rate else 0.0


@attrs.frozen
class JobProgress:
    """A job that has entered a stage, or whose task was polled.

    Attributes:
        job: The job as it was given.
        stage: ``"preparing"``, ``"uploading"``, ``"submitting"``, ``"waiting"``, ``"saving"``, and at the end
            ``"done"`` or ``"failed"``. A job that the batch no longer starts has no last stage.
        record: Its row in the journal, once its paid request is about to be sent: with the idempotency key,
            then with the task as last polled, or the images of a service without tasks. ``None`` in
            ``"submitting"`` after a 429: the request was refused and waits to be sent again.
        error: With ``"failed"``, the reason.
        outcome: With ``"done"`` and ``"failed"``, except for an error that stops the batch before the submit.
    """

    job: Job
    stage: Stage
    record: Record | None = None
    error: Exception | None = None
    outcome: Outcome | None = None


class ProgressCounter:
    """Counts outcomes, and reports them.

    Args:
        total: Number of jobs, if known.
        on_progress: Called with each report.
    """

    def __init__(self, total: int | None, on_progress: Callable[[Progress], object]) -> None:
        self._total = total
        self._on_progress = on_progress
        self._started = time.monotonic()
        self._ended: Counter[Status] = Counter()
        self._resumed = 0
        self._unknown_costs = 0
        self._recent: deque[float] = deque(maxlen=_MOST_RECENT)

    def add(self, outcome: Outcome) -> None:
        """Count an outcome."""
        self._ended[outcome.status] += 1
        self._resumed += outcome.resumed
        self._unknown_costs += outcome.has_unknown_cost
        if not (outcome.resumed and outcome.status == "saved"):
            self._recent.append(time.monotonic())

    def report(
        self,
        *,
        in_flight: int,
        spent: float,
        is_rate_limited: bool,
        rate_limit: float | None,
        is_shutting_down: bool,
    ) -> None:
        """Report the current progress."""
        now = time.monotonic()
        while self._recent and self._recent[0] < now - _WINDOW:
            self._recent.popleft()
        # A full deque covers less than the window.
        is_full = len(self._recent) == _MOST_RECENT
        since = self._recent[0] if is_full else max(self._started, now - _WINDOW)
        progress = Progress(
            total=self._total,
            saved=self._ended["saved"],
            failed=self._ended["failed"],
            in_doubt=self._ended["in_doubt"],
            unfinished=self._ended["unfinished"],
            resumed=self._resumed,
            in_flight=in_flight,
            spent=spent,
            unknown_costs=self._unknown_costs,
            rate=len(self._recent) / (now - since) if now > since else 0.0,
            elapsed=now - self._started,
            is_rate_limited=is_rate_limited,
            rate_limit=rate_limit,
            is_shutting_down=is_shutting_down,
        )
        self._on_progress(progress)
