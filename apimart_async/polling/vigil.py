"""One task that is waited for: what has been seen of it, and what an answer or a trouble makes of that."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

import attrs

from apimart_async import errors
from apimart_async.models import EXPIRED, Task, TaskFailure
from apimart_async.polling.cadence import Cadence, Look

if TYPE_CHECKING:
    from apimart_async.polling.lookout import Party

# A task may be asked for before every machine of the service knows it.
_BELIEVED_MISSING: Final = 2
_PASSING: Final = (
    errors.APIConnectionError,
    errors.RateLimitError,
    errors.InternalServerError,
    errors.ConflictError,
    errors.APIResponseValidationError,
)
_PASSING_STATUSES: Final = frozenset({408, 425})


class Owner(Protocol):
    """Whoever waits for a task. All of these return at once and never raise."""

    def lead(self, party: Party) -> None:
        """Fetch for all of a party, of which one task is the owner's own."""
        ...

    def seen(self, vigil: Vigil) -> None:
        """Take note that the task was looked at and has not ended."""
        ...

    def ended(self, vigil: Vigil) -> None:
        """Take note that the wait is over."""
        ...


@attrs.define(eq=False)
class Vigil:
    """One wait for one task. Moments are seconds of the event loop's clock, ages seconds since the submit.

    Attributes:
        task: As last seen.
        owner: Whoever waits.
        cadence: Says when to look.
        born: When the task was submitted, as far as is known.
        is_age_known: Whether that is more than a guess.
        deadline: When the wait gives up.
        unfinished_at: Age at which the task had certainly not ended.
        looks: How many have been answered.
        missing: How often in a row the service did not know the task.
        left_out: How often an answer about many tasks did not hold this one.
        is_single: Whether the next look is for this task alone.
        not_before: No look before this moment.
        due: Moment of the next look.
        entry: Number of its valid entry in the queue; 0 while it has none.
        error: What ended the wait, where that was a trouble.
        is_over: Whether the wait is over.
    """

    task: Task
    owner: Owner
    cadence: Cadence
    born: float
    is_age_known: bool
    deadline: float
    unfinished_at: float = 0.0
    looks: int = 0
    missing: int = 0
    left_out: int = 0
    is_single: bool = False
    not_before: float = 0.0
    due: float = 0.0
    entry: int = 0
    error: Exception | None = None
    is_over: bool = False

    def next_look(self, now: float) -> Look:
        """Return the next look, as the cadence has it."""
        age = now - self.born
        return self.cadence.next_look(
            self.task.model,
            age,
            remaining=self.deadline - now,
            looks=self.looks,
            looked_at=age if self.due else 0.0,
            is_age_known=self.is_age_known,
            estimated_time=self.task.estimated_time,
        )

    def found(self, task: Task, asked: float, answered: float, age: float | None) -> None:
        """Take what the service says of the task.

        Args:
            task: The answer.
            asked: When the look began.
            answered: When the answer came.
            age: Of the task by its own account, where it gives one.
        """
        before = self.task
        self.task = attrs.evolve(
            task, idempotency_key=before.idempotency_key, model=before.model or task.model
        )
        self.looks += 1
        self.missing = 0
        if not self.is_age_known and age is not None:
            self.born = min(self.born, answered - age)
            self.is_age_known = True
        cadence = self.cadence
        if self.task.is_finished:
            if self.is_age_known:
                cadence.ended(
                    id(self), self.task.model, self.unfinished_at, answered - self.born, _seconds(self.task)
                )
            self.end()
            return
        self.unfinished_at = max(self.unfinished_at, asked - self.born)
        if self.is_age_known:
            progress = _moving(before.progress, self.task.progress)
            cadence.runs(id(self), self.task.model, self.unfinished_at, progress)
        self.owner.seen(self)

    def troubled(self, error: Exception, now: float) -> None:
        """Take a look that failed: most troubles pass, the others end the wait."""
        if isinstance(error, errors.NotFoundError):
            self.missing += 1
            if self.missing >= _BELIEVED_MISSING:
                failure = TaskFailure(error.message, error.code, error.type)
                self.task = attrs.evolve(self.task, status=EXPIRED, error=failure)
                self.end()
            return
        if isinstance(error, errors.APIError):
            error.task_id = self.task.id
            if passes(error):
                self.not_before = now + (getattr(error, "retry_after", None) or 0.0)
                return
        self.error = error
        self.end()

    def end(self) -> None:
        """End the wait with the task as last seen; a second call does nothing."""
        if not self.is_over:
            self.is_over = True
            self.cadence.left(id(self), self.task.model)
            self.owner.ended(self)


def _moving(before: float | None, now: float | None) -> float | None:
    """Return the progress if it is one: some services report a number that never changes."""
    if before is None or now is None or not 0.0 <= before < now < 100.0:  # noqa: PLR2004 percent
        return None
    return now


def _seconds(task: Task) -> float | None:
    """Return how long a task took by the service's account."""
    if task.actual_time is not None or task.created_at is None or task.completed_at is None:
        return task.actual_time
    return (task.completed_at - task.created_at).total_seconds()


def passes(error: errors.APIError) -> bool:
    """Tell whether a trouble is waited through."""
    if isinstance(error, errors.RateLimitError):
        return error.code != "insufficient_quota"
    return isinstance(error, _PASSING) or error.status in _PASSING_STATUSES
