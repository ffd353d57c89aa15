"""Tasks: their state is computed from the clock, so a waiting one costs a record and nothing else."""

from __future__ import annotations

from typing import Literal

from attrs import define, field, frozen

from .recipes import Recipe
from .settings import TASK_TTL

Status = Literal["submitted", "processing", "completed", "failed", "cancelled", "expired"]
Ending = Literal["completed", "failed", "cancelled", "expired"]

_PICKED_UP = 0.1
"""Share of a task's duration before it is processed."""


@frozen(kw_only=True)
class Task:
    """One task, with everything about its life decided when it is submitted.

    Attributes:
        id: Its identifier.
        submitted_at: Unix seconds.
        seconds: How long it takes; infinite for one that is stuck.
        images: How many images it delivers.
        cost: USD, 0 for one that does not complete.
        recipe: What the images are drawn from.
        ending: How it ends.
        reason: Why it does not complete: a key of `wording.REASONS`.
    """

    id: str
    submitted_at: float
    seconds: float
    images: int
    cost: float
    recipe: Recipe
    ending: Ending = "completed"
    reason: str | None = None

    @property
    def finished_at(self) -> float:
        """When it ends, in unix seconds."""
        return self.submitted_at + self.seconds

    def status(self, now: float) -> Status:
        """Return its status at a moment in unix seconds."""
        elapsed = now - self.submitted_at
        if elapsed >= self.seconds:
            return self.ending
        return "processing" if elapsed >= self.seconds * _PICKED_UP else "submitted"

    def progress(self, now: float) -> int:
        """Return its progress at a moment, in percent: 100 only when it has completed."""
        if self.status(now) == "completed":
            return 100
        if self.seconds <= 0 or now >= self.finished_at:
            return 0
        return min(99, int(100 * (now - self.submitted_at) / self.seconds))


@define
class Tasks:
    """The tasks of the last days, by identifier."""

    _tasks: dict[str, Task] = field(factory=dict[str, Task], init=False)

    def __len__(self) -> int:
        return len(self._tasks)

    def add(self, task: Task) -> None:
        """Keep a task, and forget those that are too old to be asked for."""
        self._tasks[task.id] = task
        while True:
            oldest = next(iter(self._tasks.values()))
            if oldest.submitted_at + TASK_TTL > task.submitted_at:
                return
            del self._tasks[oldest.id]

    def get(self, task_id: str) -> Task | None:
        """Return a task, or None when it does not exist or is too old."""
        return self._tasks.get(task_id)
