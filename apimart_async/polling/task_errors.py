"""Pure: the errors of tasks that ended without images, or did not end in time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

from apimart_async import errors
from apimart_async.models import CANCELLED, EXPIRED, FAILED

if TYPE_CHECKING:
    from collections.abc import Mapping

    from apimart_async.models import Task

Error = TypeVar("Error", bound=errors.TaskError)

_ERRORS: Final[Mapping[str, tuple[type[errors.TaskError], str]]] = {
    FAILED: (errors.TaskFailedError, "failed"),
    CANCELLED: (errors.TaskCancelledError, "was cancelled by the service"),
    EXPIRED: (errors.TaskExpiredError, "is not known to the service, or no longer"),
}
_NOT_FOUND: Final = 404


def task_error(task: Task) -> errors.TaskError | None:
    """Return the error of a failed, cancelled or expired task; ``None`` for any other."""
    if task.status not in _ERRORS:
        return None
    kind, reason = _ERRORS[task.status]
    error = _error(task, kind, f"{reason}: {task.error.message}" if task.error else f"{reason}.")
    if task.status == EXPIRED and not task.raw:
        # No answer describes it: the service does not know the task, which may exist all the same.
        error.status = _NOT_FOUND
    return error


def result_error(task: Task) -> errors.TaskResultError:
    """Return the error of a task that has completed without an image that can be found."""
    reason = "completed, and may be billed, but no image can be found in its result: task.raw is the answer."
    return _error(task, errors.TaskResultError, reason)


def timeout_error(task: Task) -> errors.TaskTimeoutError:
    """Return the error of a task that had not ended at the deadline of its wait."""
    reason = f"is still {task.status}; it goes on and can be waited for again."
    return _error(task, errors.TaskTimeoutError, reason)


def _error(task: Task, kind: type[Error], reason: str) -> Error:
    return kind(
        f"Task {task.id} {reason}" if task.id else f"The task {reason}",
        task=task,
        task_id=task.id,
        code=task.error.code if task.error else None,
        type=task.error.type if task.error else None,
        idempotency_key=task.idempotency_key,
    )
