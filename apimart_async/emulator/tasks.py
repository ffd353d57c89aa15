"""Tasks: their state is computed from the clock, so a running task costs one record."""

from __future__ import annotations

from typing import Literal

from attrs import define, field, frozen

from .renderer import RenderSpec
from .settings import TASK_TTL

Status = Literal["submitted", "processing", "completed", "failed", "cancelled", "expired"]
FinalStatus = Literal["completed", "failed", "cancelled", "expired"]
FailureReason = Literal["moderated", "unreadable", "broken"]

_SUBMITTED_SHARE = 0.1
"""Share of a task's duration during which its status is `submitted`."""


@frozen(kw_only=True)
class Task:
    """One task; everything about it is decided when it is submitted.

    Attributes:
        id: The identifier.
        submitted_at: Unix seconds.
        seconds: The duration; infinite for a stuck task.
        images: How many images it delivers.
        cost: USD, 0 unless it completes.
        reserved: USD that are reserved until it ends.
        spec: The source and edit of its images.
        final_status: The status it ends with.
        reason: Why it fails, or None.
    """

    id: str
    submitted_at: float
    seconds: float
    images: int
    cost: float
    reserved: float
    spec: RenderSpec
    final_status: FinalStatus = "completed"
    reason: FailureReason | None = None

    @property
    def finished_at(self) -> float:
        """When it ends, in unix seconds."""
        return self.submitted_at + self.seconds

    def status(self, now: float) -> Status:
        """Return its status at a time in unix seconds."""
        elapsed = now - self.submitted_at
        if elapsed >= self.seconds:
            return self.final_status
        return "processing" if elapsed >= self.seconds * _SUBMITTED_SHARE else "submitted"

    def progress(self, now: float) -> int:
        """Return its progress at a time, in percent: 100 only when it has completed."""
        if self.status(now) == "completed":
            return 100
        if self.seconds <= 0 or now >= self.finished_at:
            return 0
        return min(99, int(100 * (now - self.submitted_at) / self.seconds))


@define
class Tasks:
    """The tasks of the last days, by identifier."""

    _tasks: dict[str, Task] = field(factory=dict[str, Task], init=False)

    def add(self, task: Task) -> None:
        """Keep a task, and forget those beyond their time to live."""
        self._tasks[task.id] = task
        while True:
            oldest = next(iter(self._tasks.values()))
            if oldest.submitted_at + TASK_TTL > task.submitted_at:
                return
            del self._tasks[oldest.id]

    def running(self, now: float) -> int:
        """Return how many have not ended at a time in unix seconds."""
        return sum(task.finished_at > now for task in self._tasks.values())

    def get(self, task_id: str) -> Task | None:
        """Return a task, or None for an unknown or forgotten identifier."""
        return self._tasks.get(task_id)
