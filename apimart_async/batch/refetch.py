"""A finished task is fetched again for fresh URLs of its images."""

from __future__ import annotations

from typing import TYPE_CHECKING

from apimart_async import errors
from apimart_async.polling.task_errors import result_error, task_error
from apimart_async.polling.wait import is_from_service

if TYPE_CHECKING:
    from apimart_async.batch.backends import Backend
    from apimart_async.models import Task


async def refetch(backend: Backend, task: Task) -> Task:
    """Return a completed task with fresh URLs.

    Raises:
        TaskError: The service has neither the task nor its images any more.
        APIError: The task was not fetched.
    """
    if task.id is None:
        raise errors.TaskExpiredError(
            "The images are gone, and the service gave their task no id to fetch it with.",
            task=task,
            idempotency_key=task.idempotency_key,
        )
    try:
        found = await backend.refetch(task)
    except errors.NotFoundError as error:
        if not is_from_service(error):
            raise
        raise errors.TaskExpiredError(
            f"Task {task.id} is not known to the service any more, nor are its images: {error.message}",
            status=error.status,
            task=task,
            task_id=task.id,
        ) from error
    ended = task_error(found)
    if ended is not None:
        raise ended
    if found.is_completed and not found.images:
        raise result_error(found)
    return found


def is_unreached(error: BaseException | None) -> bool:
    """Tell whether an image was not downloaded because its host was not reached."""
    while isinstance(error, errors.DownloadError):
        error = error.__cause__
    return isinstance(error, errors.APIConnectionError)
