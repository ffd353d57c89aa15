"""What is paid for is finished: its task waited for, its images saved; if not now, then another time."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import attrs

from apimart_async import errors
from apimart_async.batch.stopping import ends_all
from apimart_async.models import Task
from apimart_async.polling.ending import ending_error

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from apimart_async.batch.facilities import Facilities
    from apimart_async.batch.record import Record
    from apimart_async.models import ImageSet

    Clock = Callable[[], float]

_GONE: Final = frozenset({403, 404, 410})


async def wait(shared: Facilities, record: Record, seconds: Clock) -> Record:
    """Wait for the task of a job, and count what it costs.

    Args:
        shared: With the other jobs; the budget counts the job as active.
        record: Its row; one that has no task to wait for is returned as it is.
        seconds: Says how long the job has taken.

    Returns:
        The row after it, which is durable.

    Cancelling it leaves the task as it is, to be waited for by the next run.
    """
    if record.state != "submitted" or record.task is None:
        return record
    ended = record
    try:
        ended = await _wait(shared, record, record.task, seconds)
    finally:
        if ended.state == "submitted":
            shared.budget.leave_open()
        else:
            images = ended.task.images if ended.task else ()
            shared.budget.settle(record.model, record.n, ended.cost, len(images))
    await shared.keep_prices()
    return await shared.put(ended)


async def _wait(shared: Facilities, record: Record, task: Task, seconds: Clock) -> Record:
    try:
        done = await shared.stop.wait_for(shared.service.wait(task, shared.timeout))
    except errors.TaskTimeoutError as error:
        return record.met(error, seconds())
    except errors.TaskError as error:
        cost = (error.task.cost if error.task else None) or 0.0
        return attrs.evolve(record.failed(error, seconds()), cost=cost)
    except Exception as error:  # noqa: BLE001 the task goes on, whatever it is
        if ends_all(error):
            shared.stop.because(error)
        return record.met(error, seconds())
    if done is None:
        what = f"The service is out of reach; task {task.id} goes on and can be waited for again."
        return record.met(errors.APIConnectionError(what, task_id=task.id), seconds())
    shared.stop.reached()
    return record.completed(done)


async def save(shared: Facilities, record: Record, template: str, seconds: Clock) -> Record:
    """Fetch the images of a job.

    Args:
        shared: With the other jobs.
        record: Its row; one that has no images to fetch is returned as it is.
        template: Of the names of the files.
        seconds: Says how long the job has taken.

    Returns:
        The row after it, which is durable.

    Cancelling it keeps the images that are whole.
    """
    if record.state != "completed":
        return record
    await shared.downloads.enter()
    try:
        paths = await _download(shared, record, template)
    except errors.TaskError as error:
        return await shared.put(record.failed(error, seconds()))
    except Exception as error:  # noqa: BLE001 the result stays paid for, whatever it is
        if ends_all(error):
            shared.stop.because(error)
        return await shared.put(record.met(error, seconds()))
    finally:
        shared.downloads.leave()
    names = tuple(str(path.relative_to(shared.directory)) for path in paths)
    return await shared.put(record.saved(names, seconds()))


async def _download(shared: Facilities, record: Record, template: str) -> list[Path]:
    result: Task | ImageSet | None = record.images or record.task
    if result is None:
        raise errors.TaskExpiredError("Its files are gone, and the service keeps no results.")
    is_fresh = False
    if isinstance(result, Task) and _has_expired(result):
        result, is_fresh = await _refetch(shared, result), True
    try:
        return list(await shared.service.save(result, shared.directory, template))
    except errors.DownloadError as error:
        if is_fresh or not isinstance(result, Task) or error.status not in _GONE:
            raise
    return list(await shared.service.save(await _refetch(shared, result), shared.directory, template))


async def _refetch(shared: Facilities, task: Task) -> Task:
    try:
        found = await shared.service.refetch(task)
    except errors.NotFoundError as error:
        raise errors.TaskExpiredError(
            f"Task {task.id} is not known to the service any more, nor are its images: {error.message}",
            task=task,
            task_id=task.id,
        ) from error
    ended = ending_error(found)
    if ended is not None:
        raise ended
    return found


def _has_expired(task: Task) -> bool:
    now = datetime.now(UTC)
    return not task.images or any(image.expires_at and image.expires_at <= now for image in task.images)
