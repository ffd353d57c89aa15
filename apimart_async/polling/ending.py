"""Pure: the error that a task which ended without images stands for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from apimart_async import errors
from apimart_async.models import CANCELLED, EXPIRED, FAILED

if TYPE_CHECKING:
    from collections.abc import Mapping

    from apimart_async.models import Task

_ENDINGS: Final[Mapping[str, tuple[type[errors.TaskError], str]]] = {
    FAILED: (errors.TaskFailedError, "failed"),
    CANCELLED: (errors.TaskCancelledError, "was cancelled by the service"),
    EXPIRED: (errors.TaskExpiredError, "is not known to the service, or no longer"),
}


def ending_error(task: Task) -> errors.TaskError | None:
    """Return the error of a task that failed, was cancelled or has expired; ``None`` for any other."""
    if task.status not in _ENDINGS:
        return None
    kind, what = _ENDINGS[task.status]
    return about(task, kind, f"{what}: {task.error.message}" if task.error else f"{what}.")


def about(task: Task, kind: type[errors.TaskError], what: str) -> errors.TaskError:
    """Make an error that carries its task."""
    return kind(
        f"Task {task.id} {what}",
        task=task,
        task_id=task.id,
        code=task.error.code if task.error else None,
        type=task.error.type if task.error else None,
        idempotency_key=task.idempotency_key,
    )
