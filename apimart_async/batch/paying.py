"""The paid request of a job, between two entries of the journal."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Final

import attrs

from apimart_async import errors
from apimart_async.batch.stopping import ends_all
from apimart_async.models import Task

if TYPE_CHECKING:
    from apimart_async.batch.facilities import Facilities
    from apimart_async.batch.preparing import Work
    from apimart_async.batch.record import Record
    from apimart_async.transport.media.inputs import ImageInput

_INTERNAL: Final = 500


async def submit(
    shared: Facilities, work: Work, images: ImageInput, previous: Record | None, seconds: float
) -> Record | None:
    """Make the paid request of a job, once.

    Args:
        shared: With the other jobs.
        work: The job.
        images: Placed where the request can name them.
        previous: Its row, when it has one.
        seconds: Spent on it so far.

    Returns:
        The row after it, which is durable; ``None`` when the batch has stopped, or another process has taken
        the job.

    Raises:
        BudgetExceededError: It does not fit the budget.
        JournalError: The intent cannot be written; nothing was sent.

    Cancelling it lets the answer come for some seconds; after that the job is in doubt.
    """
    budget, model, n = shared.budget, work.model, work.job.n
    if shared.stop.is_requested or not await budget.admit(model, n):
        return None
    record: Record | None = None
    try:
        with shared.stop.submitting():
            record = await _pay(shared, work, images, previous, seconds)
    finally:
        if record is None or record.state == "failed":
            budget.settle(model, n, 0.0)
        elif record.state == "completed":
            budget.settle(model, n, record.cost, len(record.images.images) if record.images else 0)
        elif record.state == "in_doubt":
            budget.leave_open()
    return record


async def _pay(
    shared: Facilities, work: Work, images: ImageInput, previous: Record | None, seconds: float
) -> Record | None:
    was_in_doubt = previous is not None and previous.state in {"intent", "in_doubt"}
    key = (previous.key if previous and was_in_doubt else None) or uuid.uuid4().hex
    intent = work.intent(key, seconds)
    if not await shared.journal.begin(intent, previous):
        return None
    try:
        record = await _ask(shared, work, images, intent, key)
    except errors.ApimartError as error:
        if previous is None or not was_in_doubt:
            return await _rejected(shared, intent, error, previous)
        # This request was not executed; of the one before, nothing more is known.
        if ends_all(error):
            shared.stop.because(error)
        record = previous.in_doubt(error)
    return await shared.put(record)


async def _ask(shared: Facilities, work: Work, images: ImageInput, intent: Record, key: str) -> Record:
    """Make the paid request, and return what its answer makes of the row.

    Raises:
        ApimartError: It was certainly not executed.
    """
    try:
        result = await shared.service.submit(work, images, key)
    except errors.SubmissionIndeterminateError as error:
        if error.task_id is None:
            return intent.in_doubt(error)
        result = Task(error.task_id, "submitted", idempotency_key=key, model=work.model)
    except errors.ApimartError:
        raise
    except Exception as error:  # noqa: BLE001 whatever it is, the request may have been sent
        return intent.in_doubt(error)
    shared.stop.reached()
    return intent.submitted(result) if isinstance(result, Task) else intent.completed(result)


async def _rejected(
    shared: Facilities, intent: Record, error: errors.ApimartError, previous: Record | None
) -> Record | None:
    """Note that the paid request was certainly not executed."""
    if isinstance(error, errors.APIConnectionError):
        shared.stop.not_reached(error)
    if not ends_all(error):
        record = intent.failed(error, intent.seconds)
        return await shared.put(record if _is_lasting(error) else attrs.evolve(record, key=None))
    shared.stop.because(error)
    if previous is not None:
        await shared.put(previous)
    else:
        await shared.journal.drop(intent.id)
    return None


def _is_lasting(error: errors.ApimartError) -> bool:
    """Tell a refusal of this very job from a trouble that passes."""
    if isinstance(error, (errors.APIConnectionError, errors.RateLimitError, errors.ConflictError)):
        return False
    return not isinstance(error, errors.InternalServerError) or error.status == _INTERNAL
