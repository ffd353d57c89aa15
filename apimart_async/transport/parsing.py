"""Tolerant readers of tasks and uploads: every shape the services answer in, to models.

Readers take decoded JSON of any form and give a model or raise ``APIResponseValidationError``; nothing else.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import urljoin

import attrs

from apimart_async.errors import APIResponseValidationError, visible
from apimart_async.models import (
    CANCELLED,
    COMPLETED,
    EXPIRED,
    FAILED,
    TERMINAL_STATUSES,
    ImageSet,
    Task,
    Upload,
)
from apimart_async.transport.error_parsing import read_failure
from apimart_async.transport.image_parsing import (
    ABSOLUTE,
    IMAGE_FIELDS,
    MOST_IMAGES,
    RESULT_LIFETIME,
    SURPLUS_IMAGES,
    find_images,
    is_image,
    read_usage,
)
from apimart_async.transport.json import (
    amount,
    is_mapping,
    is_sequence,
    mapping,
    moment,
    not_understood,
    number,
    text,
)

if TYPE_CHECKING:
    from collections.abc import Container, Mapping, Sequence

Result = TypeVar("Result", Task, ImageSet)

log: logging.Logger = logging.getLogger("apimart_async.transport")

UPLOAD_LIFETIME: Final = timedelta(hours=72)

_CREDITS_PER_USD: Final = 10
_REASONS: Final = frozenset({"error", "error_message", "fail_reason"})

# Where there is none of these, the task has not ended.
_END_FIELDS: Final = IMAGE_FIELDS | {
    *("actual_time", "completed", "completed_at", "error", "error_message", "fail_reason"),
}

# Words seen in the wild, beside the documented ones, that end a task.
_STATUS_SPELLINGS: Final = {
    "complete": COMPLETED,
    "success": COMPLETED,
    "succeeded": COMPLETED,
    "succeed": COMPLETED,
    "done": COMPLETED,
    "finished": COMPLETED,
    "fail": FAILED,
    "failure": FAILED,
    "error": FAILED,
    "canceled": CANCELLED,
    "timeout": EXPIRED,
}


def _identifier(value: object) -> str | None:
    """Read a task id: a text, or a number as one."""
    if isinstance(value, str):
        return value.strip() or None
    found = text(value)
    return found.strip() or None if found else None


def _task_source(payload: object) -> dict[str, Any]:
    """Return the part of an answer that describes its task: ``data``, its first entry, or the whole."""
    top = mapping(payload)
    data: object = top.get("data")
    found = mapping(data[0] if is_sequence(data) and data else data)
    entries: list[Any] = data if is_sequence(data) else [found]
    is_result = not found or any(is_image(mapping(entry)) for entry in entries[:MOST_IMAGES])
    if is_result and not found.keys() & {"status", "task_id"}:
        return top  # whose `data`, if there is any, are the images
    return found


def submitted_task_id(payload: object) -> str | None:
    """Find the task id in the answer to a submit, wherever the service put it; ``None`` when nowhere.

    The order: ``task_id`` of the part that describes the task, its ``id``, then both of the whole answer.
    """
    source = _task_source(payload)
    found = _identifier(source.get("task_id"))  # where it nearly always is
    if found:
        return found
    top = mapping(payload)
    places = (source.get("id"), top.get("id"), top.get("task_id"))
    return next(filter(None, map(_identifier, places)), None)


def named_task_id(payload: object) -> str | None:
    """Find the task id in a refusal of a submit; an ``id`` alone may be that of the refusal."""
    places = (_task_source(payload).get("task_id"), mapping(payload).get("task_id"))
    return next(filter(None, map(_identifier, places)), None)


def _sibling_ids(payload: object, task_id: str | None) -> tuple[str, ...]:
    """Return the ids of the further tasks that the same submit has started."""
    data: object = mapping(payload).get("data")
    if not is_sequence(data) or len(data) <= 1:
        return ()
    entries = [mapping(entry) for entry in data[:MOST_IMAGES]]
    named = [
        _identifier(entry.get("task_id")) or _identifier(entry.get("id"))
        for entry in entries
        if "task_id" in entry or "status" in entry
    ]
    return tuple(dict.fromkeys(name for name in named if name and name != task_id))


def read_submission(
    payload: object,
    *,
    idempotency_key: str | None,
    model: str | None = None,
    submitted_at: datetime | None = None,
    n: int | None = None,
    resolution: str | None = None,
    is_replay: bool | None = None,
) -> Task:
    """Read the answer to a submit: a task, or the images themselves, with or without the id of a task.

    Args:
        payload: Decoded JSON.
        idempotency_key: Idempotency key of the submit.
        model: Model of the task, unless the answer names it.
        submitted_at: Time of the submit by the clock of this machine.
        n: Number of images that was asked for.
        resolution: Resolution that was asked for.
        is_replay: Whether the answer is marked as a repetition of an earlier one, if that is known.

    Raises:
        APIResponseValidationError: It has neither a task id nor a result.
    """
    task_id = submitted_task_id(payload)
    source = _task_source(payload)
    task = _task(source, task_id, idempotency_key, model, submitted_at)
    if task.images and not isinstance(source.get("status"), str):
        cost, credits_cost = _kept_cost(source, COMPLETED)
        task = attrs.evolve(task, status=COMPLETED, cost=cost, credits_cost=credits_cost)
    if task_id is None and not (task.images if task.is_completed else task.is_finished):
        raise not_understood("task id", payload)
    known = attrs.evolve(
        task,
        n=n,
        submitted_at=submitted_at,
        resolution=resolution,
        sibling_ids=_sibling_ids(payload, task_id),
        is_replay=is_replay,
    )
    return with_submit(task, known)


def read_task(payload: object, *, task_id: str | None = None) -> Task:
    """Read the answer to a poll, today's or the oldest documentation's.

    Args:
        payload: Decoded JSON.
        task_id: Id that was asked for, used where the answer does not repeat it.

    Raises:
        APIResponseValidationError: It holds no id or no status.
    """
    source = _task_source(payload)
    found = _identifier(source.get("id")) or _identifier(source.get("task_id")) or task_id
    if found is None or not isinstance(source.get("status"), str):
        raise not_understood("task", payload)
    return _task(source, found)


def read_tasks(payload: object) -> dict[str, Task]:
    """Read the answer to a batch poll by id; tasks that cannot be read are left out.

    Raises:
        APIResponseValidationError: It is in none of the known shapes.
    """
    items = _task_items(payload)
    if items is None:
        raise not_understood("list of tasks", payload)
    tasks: dict[str, Task] = {}
    for item in items:
        try:
            task = read_task(item)
        except APIResponseValidationError:
            continue
        known = None if task.id is None else tasks.get(task.id)
        # Of two entries for a task, the one that has ended is newer.
        if task.id is not None and (known is None or not known.is_finished):
            tasks[task.id] = task
    return tasks


def _task_items(payload: object) -> list[Any] | None:
    data: object = mapping(payload).get("data")
    if is_mapping(data):
        data = data.get("tasks", data.get("results"))
    return data if is_sequence(data) else None


def _task(
    source: Mapping[str, Any],
    task_id: str | None,
    idempotency_key: str | None = None,
    model: str | None = None,
    created_at: datetime | None = None,
) -> Task:
    status = source.get("status")
    word = status.strip().lower() if isinstance(status, str) else ""
    estimated = source.get("estimated_time")
    if estimated is None and "task_info" in source:
        estimated = mapping(source["task_info"]).get("estimated_time")
    word = _STATUS_SPELLINGS.get(word, word) or "submitted"
    if word not in TERMINAL_STATUSES and _END_FIELDS.isdisjoint(source):
        # The most frequent form, read in 4.4 µs instead of 5.7.
        return Task(
            id=task_id,
            status=word,
            progress=number(source.get("progress")),
            created_at=moment(source.get("created") or source.get("created_at")) or created_at,
            estimated_time=number(estimated),
            idempotency_key=idempotency_key,
            model=text(source.get("model")) or model,
            raw=source,
        )
    completed = moment(source.get("completed")) or moment(source.get("completed_at"))
    # 4 µs for a running task; structured by cattrs, 8.
    images = find_images(source, task_id, completed, RESULT_LIFETIME)
    cost, credits_cost = _kept_cost(source, word)
    return Task(
        id=task_id,
        status=word,
        progress=number(source.get("progress")),
        images=tuple(images[:MOST_IMAGES]),
        cost=cost,
        credits_cost=credits_cost,
        created_at=moment(source.get("created") or source.get("created_at")) or created_at,
        completed_at=completed,
        estimated_time=number(estimated),
        actual_time=number(source.get("actual_time")),
        error=None if _REASONS.isdisjoint(source) else read_failure(source),
        idempotency_key=idempotency_key,
        model=text(source.get("model")) or model,
        usage=read_usage(source) if "usage" in source else None,
        raw=source if len(images) <= MOST_IMAGES else _without_images(source),
    )


def _kept_cost(source: Mapping[str, Any], status: str) -> tuple[float | None, float | None]:
    """Return the cost in USD and in credits that the service keeps.

    While a task runs, the service reports the amount that it has reserved, and may still report it after a
    failure, when it has been refunded.
    """
    cost, credits_cost = amount(source.get("cost")), amount(source.get("credits_cost"))
    if status not in TERMINAL_STATUSES:
        return None, None
    if status != COMPLETED:
        return None if cost is None and credits_cost is None else 0.0, None if credits_cost is None else 0.0
    if cost is None and credits_cost is not None:
        cost = credits_cost / _CREDITS_PER_USD
    return cost, credits_cost


def with_submit(found: Task, submitted: Task) -> Task:
    """Return a task as found, with the facts that only its submit tells, and no more images than it may have.

    Args:
        found: Answer to a poll.
        submitted: The task as known before.
    """
    n, images, raw = submitted.n, found.images, found.raw
    if n is not None and len(images) > n + SURPLUS_IMAGES:
        log.warning("Task %s has %d images or more instead of %d.", visible(str(found.id)), len(images), n)
        images, raw = images[: n + SURPLUS_IMAGES], _without_images(raw)
    return attrs.evolve(
        found,
        idempotency_key=submitted.idempotency_key,
        model=submitted.model or found.model,
        n=n,
        submitted_at=submitted.submitted_at,
        resolution=submitted.resolution,
        sibling_ids=submitted.sibling_ids,
        is_replay=submitted.is_replay,
        base_url=submitted.base_url,
        images=images,
        raw=raw,
    )


def joined(tasks: Sequence[Task]) -> Task:
    """Return the tasks that one submit has started as one: the first, with the images and costs of all.

    It has completed once all have ended and one of them has images.
    """
    first = tasks[0]
    if len(tasks) == 1:
        return first
    running = next((task for task in tasks if not task.is_finished), None)
    if running is not None:
        return attrs.evolve(first, status=running.status, images=(), cost=None, credits_cost=None)
    good = [task for task in tasks if task.is_completed]
    images = [image for task in good for image in task.images]
    costs = [task.cost for task in tasks if task.cost is not None]
    credits_costs = [task.credits_cost for task in tasks if task.credits_cost is not None]
    return attrs.evolve(
        first,
        status=COMPLETED if good else first.status,
        images=tuple(attrs.evolve(image, index=index) for index, image in enumerate(images, start=1)),
        cost=sum(costs) if costs else None,
        credits_cost=sum(credits_costs) if credits_costs else None,
        error=None if good else first.error,
    )


def resolved(found: Result, base_url: str) -> Result:
    """Return a result with absolute URLs; relative ones, such as ``/files/1.png``, are on the API's host.

    Args:
        found: Task or image set, as read.
        base_url: Base URL of the API.
    """
    if all(image.url.startswith(ABSOLUTE) for image in found.images):
        return found
    images = tuple(attrs.evolve(image, url=_joined(base_url, image.url)) for image in found.images)
    return attrs.evolve(found, images=images)


def _joined(base_url: str, url: str) -> str:
    try:
        return urljoin(f"{base_url}/", url)
    except ValueError:
        return url  # which a download refuses


def _without_images(source: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in source.items() if name not in IMAGE_FIELDS}


def read_upload(payload: object, base_url: str = "") -> Upload:
    """Read the answer to an upload; a missing expiry is 72 h after its creation.

    Args:
        payload: Decoded JSON.
        base_url: Base URL of the API, for a relative URL.

    Raises:
        APIResponseValidationError: It holds no URL.
    """
    source = _upload_source(payload)
    url = source.get("url")
    if not isinstance(url, str) or not url:
        raise not_understood("upload", payload)
    now = datetime.now(UTC)
    created = moment(source.get("created_at")) or now
    return Upload(
        url=url if url.startswith(ABSOLUTE) else _joined(base_url, url),
        filename=text(source.get("filename")) or "image",
        content_type=text(source.get("content_type")) or "application/octet-stream",
        bytes=int(number(source.get("bytes")) or 0),
        created_at=created,
        # The clock of the service may be ahead of this machine's.
        expires_at=min(moment(source.get("expires_at")) or created + UPLOAD_LIFETIME, now + UPLOAD_LIFETIME),
    )


def _upload_source(payload: object) -> dict[str, Any]:
    top = mapping(payload)
    data: object = top.get("data")
    return mapping(data[0] if is_sequence(data) and data else data) or top


# --- answers compared with requests -----------------------------------------------------------------------


def is_about_task(payload: object, task_id: str) -> bool:
    """Tell whether the answer to a poll names this task, or none."""
    source = _task_source(payload)
    return (_identifier(source.get("id")) or _identifier(source.get("task_id")) or task_id) == task_id


def is_about_tasks(payload: object, task_ids: Container[str]) -> bool:
    """Tell whether the answer to a batch poll names these tasks at most."""
    sources = map(_task_source, _task_items(payload) or ())
    found = (_identifier(source.get("id")) or _identifier(source.get("task_id")) for source in sources)
    return all(name is None or name in task_ids for name in found)


def is_about_upload(payload: object, size: int, filename: str, others: Container[str]) -> bool:
    """Tell whether the answer to an upload names its size, and a name that is not another upload's.

    Args:
        payload: Decoded JSON.
        size: Bytes that were sent.
        filename: Name that was sent; the service may store the upload under a new one.
        others: Names that were sent lately, this one among them.
    """
    source = _upload_source(payload)
    stored_as = text(source.get("filename"))
    if (number(source.get("bytes")) or size) != size:
        return False
    return stored_as is None or stored_as == filename or stored_as not in others
