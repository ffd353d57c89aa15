"""One wait for one task: its state, and the answers and errors of its polls.

A wait ends with its task, at its deadline, or with an error that a later poll would meet again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol

import attrs

from apimart_async import errors
from apimart_async.models import EXPIRED, Task, TaskFailure
from apimart_async.polling.cadence import Cadence
from apimart_async.polling.duration_stats import ModelStats, kind_of, next_number
from apimart_async.transport import parsing

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Coroutine

# A 404 may come from a machine of the service that does not know a new task yet.
_LEAST_NOT_FOUND: Final = 2
_LEAST_OWN_NOT_FOUND: Final = 3
_LEAST_OWN_NOT_FOUND_SECONDS: Final = 60.0


class WaitOwner(Protocol):
    """The watch that waits belong to. Its methods return at once and never raise."""

    def start(self, request: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run a request in a task that is cancelled when the owner is done."""
        ...

    def changed(self, wait: Wait) -> None:
        """Receive an answer for a wait, or its end."""
        ...


@attrs.define(eq=False)
class Wait:
    """One wait for one task; moments are seconds of the event loop's clock, ages seconds since the submit.

    Attributes:
        task: Last known state.
        owner: Runs its requests and takes its results.
        cadence: Decides when to poll.
        submitted_at: Moment of the submit; a guess unless ``is_age_known``.
        is_age_known: Whether ``submitted_at`` is more than a guess.
        deadline: Moment at which the wait ends.
        unfinished_age: Age at which the task had certainly not ended.
        polled_at: Moment of the last answer or error; 0 before the first.
        polls: Number of answers.
        not_found: Number of answers in a row by which the service does not know the task.
        not_found_since: Moment of the first of them.
        omissions: Number of batch answers without this task.
        is_single: Whether the next poll is a request for this task alone.
        not_before: Earliest moment of the next poll.
        due: Moment of the next poll.
        entry: Number of its valid queue entry; 0 without one.
        number: Place of the task in the order of submission.
        is_hinted: Whether a hint came during the last request.
        is_confirmed: Whether an answer without images was asked for again.
        error: Error that ended the wait, if one did.
        is_over: Whether the wait has ended.
        task_id: Id of the task.
    """

    task: Task
    owner: WaitOwner
    cadence: Cadence
    submitted_at: float
    is_age_known: bool
    deadline: float
    unfinished_age: float = 0.0
    polled_at: float = 0.0
    polls: int = 0
    not_found: int = 0
    not_found_since: float = 0.0
    omissions: int = 0
    is_single: bool = False
    not_before: float = 0.0
    due: float = 0.0
    entry: int = 0
    number: int = attrs.field(factory=next_number)
    is_hinted: bool = False
    is_confirmed: bool = False
    error: Exception | None = None
    is_over: bool = False
    # Tasks without an id have ended.
    task_id: str = attrs.field(
        init=False, default=attrs.Factory(lambda wait: wait.task.id or "", takes_self=True)
    )

    @property
    def kind(self) -> str | None:
        """Return the name of all tasks like this one."""
        return kind_of(self.task.model, self.task.resolution, self.task.n)

    @property
    def stats(self) -> ModelStats:
        """Return the duration statistics of tasks like this one."""
        return self.cadence.stats.of(self.kind, self.cadence.settings.first)

    def answered(self, found: Task, asked_at: float, now: float) -> None:
        """Record the answer of a poll that was sent at one moment and answered at another."""
        self.polled_at = now
        before = self.task
        task = self.task = parsing.with_submit(found, before)
        self.polls += 1
        self.not_found = 0
        stats = self.stats
        if task.is_finished:
            self.is_over = True
            actual_time = task.actual_time
            # Both are of the clock of the service.
            if actual_time is None and task.created_at is not None and task.completed_at is not None:
                actual_time = (task.completed_at - task.created_at).total_seconds()
            if self.is_age_known:
                stats.record_end(self.number, self.unfinished_age, now - self.submitted_at, actual_time)
        else:
            self.unfinished_age = max(self.unfinished_age, asked_at - self.submitted_at)
            # Some services report a progress that never changes.
            first, second = before.progress, task.progress
            is_moving = first is not None and second is not None and 0.0 <= first < second < 100.0  # noqa: PLR2004 percent
            if self.is_age_known:
                stats.record_running(self.number, self.unfinished_age, second if is_moving else None)
        self.owner.changed(self)

    def failed(self, error: Exception, now: float) -> None:
        """Record the error of a poll: a transient one delays the next poll, any other ends the wait."""
        self.polled_at = now
        if isinstance(error, errors.NotFoundError):
            if is_from_service(error):
                self._not_found(error, now)
            return
        if isinstance(error, errors.APIError):
            error.task_id = self.task_id
        if is_survived(error):
            self.not_before = now + (getattr(error, "retry_after", None) or 0.0)
        else:
            self.end(error)

    def _not_found(self, error: errors.NotFoundError, now: float) -> None:
        """Record that the service does not know the task; end the wait once that is certain."""
        self.not_found += 1
        if self.not_found == 1:
            self.not_found_since = now
        # A task that was submitted is paid for, and not given up in a moment.
        is_own = self.task.idempotency_key is not None
        least, seconds = (
            (_LEAST_OWN_NOT_FOUND, _LEAST_OWN_NOT_FOUND_SECONDS) if is_own else (_LEAST_NOT_FOUND, 0)
        )
        if self.not_found >= least and now - self.not_found_since >= seconds:
            self.task = with_not_found(self.task, error)
            self.end()

    def end(self, error: Exception | None = None) -> None:
        """End the wait with the task as last seen, or with an error; a second call does nothing."""
        if not self.is_over:
            self.is_over = True
            self.entry = 0
            self.error = error
            self.stats.record_abandoned(self.number)
            self.owner.changed(self)


def is_survived(error: Exception) -> bool:
    """Tell whether a wait survives an error of a poll.

    A poll is free: unlike a submit, it is sent again even after a 500 that blames the request, and after a
    page of a gateway, such as a firewall that lets no request pass for a while.
    """
    if isinstance(error, errors.APIStatusError) and error.is_page:
        return True
    return isinstance(error, errors.APIError) and (
        error.is_transient or isinstance(error, errors.InternalServerError)
    )


def is_from_service(error: errors.NotFoundError) -> bool:
    """Tell whether a 404 is the service's own, with a code or type, and not that of a gateway."""
    return error.code is not None or error.type is not None


def with_not_found(task: Task, error: errors.NotFoundError) -> Task:
    """Return a task that the service does not know, or no longer."""
    failure = TaskFailure(error.message, error.code, error.type)
    return attrs.evolve(task, status=EXPIRED, error=failure, raw={})
