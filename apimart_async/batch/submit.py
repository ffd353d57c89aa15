"""The paid request of a job: sent once, within the budget, with its intent on disk before each attempt."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, cast

import anyio
import attrs

from apimart_async import errors
from apimart_async.batch.journal.protocol import Journal
from apimart_async.batch.journal.record import Record
from apimart_async.batch.journal.shared_rate import SharedRate, Slot
from apimart_async.batch.shutdown import ShutdownState
from apimart_async.models import Task
from apimart_async.transport.responses import indeterminate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from apimart_async.batch.job_state import JobState
    from apimart_async.transport.media.forms import SingleImage


async def submit(state: JobState, images: Sequence[SingleImage], previous: Record | None) -> Record | None:
    """Send the paid request, once, within the budget.

    Returns:
        The row after it, which is durable; ``None`` when the batch shuts down, or another process has
        started the job.

    Raises:
        BudgetExceededError: The request does not fit the budget.
        JournalError: The intent cannot be written; nothing was sent.
        RateLimitError: The service asks to wait; the row is as it was.

    Cancellation waits for the answer for the grace period; after that the job is in doubt.
    """
    context, model, n = state.context, state.prepared.record.model, state.prepared.record.billable
    if context.shutdown.is_requested or not await context.budget.admit(model, n):
        return None
    record: Record | None = None
    try:
        with context.shutdown.grace(), context.shutdown.until_requested() as scope:
            record = await _send(state, images, previous, scope)
    finally:
        if record is None or record.state == "failed":
            context.budget.settle(model, n, 0.0)
        elif record.state == "completed":
            result = record.images or record.task
            context.budget.settle(model, n, record.cost, len(result.images) if result else 0)
        elif record.state == "in_doubt":
            context.budget.leave_open()
    return record


async def _send(
    state: JobState, images: Sequence[SingleImage], previous: Record | None, scope: anyio.CancelScope
) -> Record | None:
    """Send the paid request within the limits, with its intent on disk."""
    context = state.context
    doubt = previous if previous is not None and previous.state in {"intent", "in_doubt"} else None
    key = (doubt.key if doubt else None) or uuid.uuid4().hex
    intent = state.prepared.record.intent(key, state.seconds())
    if previous is not None and previous.key == key:
        # Where and when a request that may have been executed was sent: this one may not be sent at all.
        intent = attrs.evolve(intent, sent_at=previous.sent_at, base_url=previous.base_url)
    if previous is not None and previous.state == "submitted":
        # A missing task stays in the row, because it may be found again.
        intent = attrs.evolve(intent, task=previous.task)
    budget, cost = context.budget, (intent.model, intent.billable)

    def written() -> None:
        budget.written(*cost)
        state.report("submitting", intent)

    paid_record = _Intent(
        context.journal,
        context.shutdown,
        intent,
        previous,
        scope,
        written,
        partial(budget.unwritten, *cost),
        context.rate,
        home=doubt.base_url if doubt else None,
        first_sent_at=doubt.first_sent_at if doubt else None,
        needs_promise=doubt is not None and context.options.in_doubt == "collect",
    )
    try:
        await paid_record.wait()
        return await _send_with(state, paid_record, images, previous, doubt)
    finally:
        if not paid_record.is_written:
            budget.written(*cost)


async def _send_with(
    state: JobState,
    paid_record: _Intent,
    images: Sequence[SingleImage],
    previous: Record | None,
    doubt: Record | None,
) -> Record | None:
    """Send the paid request, and write its result."""
    context, intent = state.context, paid_record.record
    key = cast("str", intent.key)
    try:
        result = await context.backend.submit(state.prepared, images, key, paid_record)
    except _NotSentError:
        return None
    except errors.SubmissionIndeterminateError as error:
        state.error = error
        intent = paid_record.record
        task = Task(
            error.task_id or "",
            "submitted",
            idempotency_key=key,
            model=intent.model,
            n=intent.n,
            base_url=intent.base_url,
        )
        is_known = error.task_id and context.backend.has_tasks
        record = intent.submitted(task) if is_known else intent.in_doubt(error)
    except errors.ApimartError as error:
        # The row of a missing task is back, and is kept.
        await _pause_all(state, error)
        is_resubmit = previous is not None and previous.state == "submitted"
        is_limited = isinstance(error, errors.RateLimitError) and error.is_transient
        if is_resubmit or is_limited or isinstance(error, errors.JournalError):
            state.report("submitting")
            raise
        state.error = error
        return await _refused(state, intent, error, doubt)
    except Exception as error:
        if not paid_record.is_written:
            raise
        state.error = error
        record = paid_record.record.in_doubt(error)
    else:
        is_ready = not isinstance(result, Task) or (result.is_completed and bool(result.images))
        intent = paid_record.record
        record = intent.completed(result) if is_ready else intent.submitted(cast("Task", result))
    if record.state != "in_doubt":
        context.shutdown.reached()
    await state.put_answer(record)
    if record.state == "submitted":
        state.report("waiting", record)
    return record


async def _pause_all(state: JobState, error: errors.ApimartError) -> None:
    """Pause all processes that share a limit when the service asks for that."""
    context, seconds = state.context, getattr(error, "retry_after", None)
    is_limited = isinstance(error, errors.RateLimitError) and error.is_transient
    if context.rate is None or seconds is None or not is_limited:
        return
    if seconds <= context.options.max_retry_after:
        with suppress(errors.JournalError):  # the next intent meets it too
            await context.rate.pause(seconds)


async def _refused(
    state: JobState, record: Record, error: errors.ApimartError, doubt: Record | None
) -> Record | None:
    """Write the reason why the paid request was certainly not executed; the row before it is back."""
    shutdown = state.context.shutdown
    if doubt is not None:
        # The request before this one remains in doubt. A refusal alone would read as if nothing was billed.
        shutdown.check(error)
        state.error = indeterminate(error)
        state.error.__cause__ = error
        return await state.put(doubt.in_doubt(state.error))
    if isinstance(error, errors.APIConnectionError):
        shutdown.not_reached(error)
    if shutdown.check(error):
        state.report_stop(error)
        return None
    record = record.failed(error, record.seconds)
    is_started_anew = error.is_transient or isinstance(error, errors.InvalidArgumentError)
    return await state.put(attrs.evolve(record, key=None) if is_started_anew else record)


# --- the intent: the row right before each attempt, undone when none was executed ---------------------------


class _NotSentError(Exception):
    """A paid request was not sent: the batch shuts down, or another process has started the job."""


@attrs.define(eq=False)
class _Intent:
    """The row of a paid request in the journal, kept while it is sent; see ``PaidRecord``.

    Args:
        journal: Journal of the batch.
        shutdown: Shutdown state of the batch.
        record: The row of the request; the base URL of each attempt is added to it.
        previous: The row that it replaces.
        scope: Cancelled by a shutdown as long as the request is not sent.
        on_write: Called when the row is on disk.
        on_undo: Called when the previous row is back.
        rate: Gives each attempt its slot, if processes share a limit.
        home: Base URL at which an earlier run may have had it executed.
        first_sent_at: Time of an earlier request with the same key, in unix seconds.
        needs_promise: Whether to send it only if the service promises to execute its key once.

    Attributes:
        record: The row as last written.
        is_written: Whether the row is on disk: the request may have been sent.
    """

    _journal: Journal
    _shutdown: ShutdownState
    record: Record
    _previous: Record | None
    _scope: anyio.CancelScope
    _on_write: Callable[[], object]
    _on_undo: Callable[[], object]
    _rate: SharedRate | None
    home: str | None
    first_sent_at: float | None = None
    needs_promise: bool = False
    is_written: bool = attrs.field(default=False, init=False)
    _slot: Slot | None = attrs.field(default=None, init=False)

    async def wait(self) -> None:
        """Wait for the slot of the first attempt, before the client's own limits count it.

        Raises:
            JournalError: The database has been unavailable for long.
        """
        if self._rate is not None:
            self._slot = await self._rate.wait()

    async def before_send(self, base_url: str) -> None:
        """Write the row.

        Raises:
            _NotSentError: Nothing may be sent.
            JournalError: The row cannot be written; nothing may be sent.
        """
        if self.is_written:
            return
        while not self.is_written:
            if self._shutdown.is_requested:
                raise _NotSentError
            if self._slot is None:
                await self.wait()
            self.record = attrs.evolve(self.record, base_url=base_url)
            # A write that is cancelled is carried out all the same.
            with anyio.CancelScope(shield=True):
                if not await self._journal.begin(self.record, self._previous):
                    raise _NotSentError
                self.is_written = True
            if self._rate is not None and self._slot is not None:
                await self._reach(self._rate, self._slot)
                self._slot = None
        if self._shutdown.is_requested:
            # Its cancellation would cut off a request that aiohttp sends before it waits for anything.
            self._on_write()
            await self.not_executed()
            raise _NotSentError
        self._shutdown.protect(self._scope)
        self._on_write()

    async def _reach(self, rate: SharedRate, slot: Slot) -> None:
        """Wait for the moment of the slot; put the previous row back if nothing may be sent then."""
        is_reached = False
        try:
            is_reached = await rate.reach(slot)
        finally:
            if not is_reached:
                self._on_write()
                await self.not_executed()

    async def not_executed(self) -> None:
        """Put the previous row back."""
        if not self.is_written:
            return
        with anyio.CancelScope(shield=True):
            try:
                await self._journal.undo(self.record, self._previous)
                self._on_undo()
            except errors.JournalError as error:
                # The row stays, and the next run reports the job as in doubt.
                self._shutdown.fail(error)
            self.is_written = False
