"""Tolerant readers: every shape the services answer in, to models.

Readers take decoded JSON of any form and give a model or raise ``APIResponseValidationError``; nothing else.
"""

from __future__ import annotations

import logging
import re
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
    Balance,
    Image,
    ImageSet,
    Model,
    Task,
    TaskFailure,
    Upload,
)
from apimart_async.transport.json import (
    is_mapping,
    is_sequence,
    moment,
    not_understood,
    number,
    structure,
    text,
)
from apimart_async.transport.media import data_urls, sniffing

if TYPE_CHECKING:
    from collections.abc import Container, Mapping

Result = TypeVar("Result", Task, ImageSet)

log: logging.Logger = logging.getLogger("apimart_async")

UPLOAD_LIFETIME: Final = timedelta(hours=72)
RESULT_LIFETIME: Final = timedelta(hours=24)

_OK: Final = 200

# A service may make more images than it was asked for, but not any number of them.
_SURPLUS_IMAGES: Final = 16
_MOST_IMAGES: Final = 1000 + _SURPLUS_IMAGES

_CREDITS_PER_USD: Final = 10
_ABSOLUTE: Final = ("http://", "https://", data_urls.SCHEME)

_LONGEST_REASON: Final = 2000
_LONGEST_CODE: Final = 200

_LACKS_SCHEME: Final = re.compile("image/[a-z0-9.+-]{1,40};base64,", re.IGNORECASE).match
_SNIFFED: Final = 96
# The smallest images have 35 bytes.
_LEAST_BASE64: Final = 40

# Where there is none of these, there is no image.
_IMAGE_FIELDS: Final = frozenset({"result", "images", "url", "urls", "b64_json"})

# Where there is none of these, the task has not ended.
_END_FIELDS: Final = _IMAGE_FIELDS | {
    *("actual_time", "completed", "completed_at", "cost", "credits_cost", "error", "fail_reason"),
}

# Words seen in the wild, beside the documented ones, that end a task.
_STATUS_SPELLINGS: Final = {
    "success": COMPLETED,
    "succeeded": COMPLETED,
    "succeed": COMPLETED,
    "done": COMPLETED,
    "finished": COMPLETED,
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


def _mapping(value: object) -> dict[str, Any]:
    # Asked here, not in `is_mapping`: it is asked ten times of each edit.
    return value if isinstance(value, dict) else {}  # pyright: ignore[reportUnknownVariableType]


def _task_source(payload: object) -> dict[str, Any]:
    """Return the part of an answer that describes its task: ``data``, its first entry, or the whole."""
    top = _mapping(payload)
    data: object = top.get("data")
    return _mapping(data[0] if is_sequence(data) and data else data) or top


def submitted_task_id(payload: object) -> str | None:
    """Find the task id in the answer to a submit, wherever the service put it; ``None`` when nowhere.

    The order is contract.md's: ``data[0].task_id``, ``data.task_id``, ``data[0].id``, ``data.id``, ``id``.
    """
    source = _task_source(payload)
    found = _identifier(source.get("task_id"))  # where it nearly always is
    if found:
        return found
    top = _mapping(payload)
    places = (source.get("id"), top.get("id"), top.get("task_id"))
    return next(filter(None, map(_identifier, places)), None)


def read_submission(
    payload: object,
    *,
    idempotency_key: str | None,
    model: str | None = None,
    submitted_at: datetime | None = None,
    n: int | None = None,
    resolution: str | None = None,
) -> Task:
    """Read the answer to a submit.

    Args:
        payload: Decoded JSON.
        idempotency_key: That was sent with it.
        model: What the task runs, unless the answer says it.
        submitted_at: Time of the submit by the clock of this machine.
        n: Number of images that was asked for.
        resolution: Resolution that was asked for.

    Raises:
        APIResponseValidationError: No task id is in it.
    """
    task_id = submitted_task_id(payload)
    if task_id is None:
        raise not_understood("task id", payload)
    task = _task(_task_source(payload), task_id, idempotency_key, model, submitted_at)
    return with_submit(task, attrs.evolve(task, n=n, submitted_at=submitted_at, resolution=resolution))


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
        known = tasks.get(task.id)
        # Of two entries for a task, the one that has ended is newer.
        if known is None or not known.is_finished:
            tasks[task.id] = task
    return tasks


def _task_items(payload: object) -> list[Any] | None:
    data: object = _mapping(payload).get("data")
    if is_mapping(data):
        data = data.get("tasks", data.get("results"))
    return data if is_sequence(data) else None


def _task(
    source: Mapping[str, Any],
    task_id: str,
    idempotency_key: str | None = None,
    model: str | None = None,
    created_at: datetime | None = None,
) -> Task:
    status = source.get("status")
    word = status.strip().lower() if isinstance(status, str) else ""
    estimated = source.get("estimated_time")
    if estimated is None and "task_info" in source:
        estimated = _mapping(source["task_info"]).get("estimated_time")
    if _END_FIELDS.isdisjoint(source):
        # What most answers are: 4.4 µs instead of 5.7.
        return Task(
            id=task_id,
            status=_STATUS_SPELLINGS.get(word, word) or "submitted",
            progress=number(source.get("progress")),
            created_at=moment(source.get("created") or source.get("created_at")) or created_at,
            estimated_time=number(estimated),
            idempotency_key=idempotency_key,
            model=text(source.get("model")) or model,
            raw=source,
        )
    completed = moment(source.get("completed")) or moment(source.get("completed_at"))
    # By hand, 4 µs for a task that runs; as a dictionary structured by cattrs, 8.
    images = _images(source, task_id, completed)
    cost, credits_cost = number(source.get("cost")), number(source.get("credits_cost"))
    if cost is None and credits_cost is not None:
        cost = credits_cost / _CREDITS_PER_USD
    return Task(
        id=task_id,
        status=_STATUS_SPELLINGS.get(word, word) or "submitted",
        progress=number(source.get("progress")),
        images=tuple(images[:_MOST_IMAGES]),
        cost=cost,
        credits_cost=credits_cost,
        created_at=moment(source.get("created") or source.get("created_at")) or created_at,
        completed_at=completed,
        estimated_time=number(estimated),
        actual_time=number(source.get("actual_time")),
        error=_failure(source) if "error" in source or "fail_reason" in source else None,
        idempotency_key=idempotency_key,
        model=text(source.get("model")) or model,
        raw=source if len(images) <= _MOST_IMAGES else _without_images(source),
    )


def with_submit(found: Task, submitted: Task) -> Task:
    """Return a task as found, with the facts that only its submit tells, and no more images than it may have.

    Args:
        found: Answer to a poll.
        submitted: The task as known before.
    """
    n = submitted.n
    images, raw = found.images, found.raw
    if n is not None and len(images) > n + _SURPLUS_IMAGES:
        log.warning("Task %s has %d images or more instead of %d.", visible(found.id), len(images), n)
        images, raw = images[: n + _SURPLUS_IMAGES], _without_images(raw)
    return attrs.evolve(
        found,
        idempotency_key=submitted.idempotency_key,
        model=submitted.model or found.model,
        n=n,
        submitted_at=submitted.submitted_at,
        resolution=submitted.resolution,
        images=images,
        raw=raw,
    )


def resolved(found: Result, base_url: str) -> Result:
    """Return a result with absolute URLs; relative ones, such as ``/files/1.png``, are on the API's host.

    Args:
        found: Task or image set, as read.
        base_url: Base URL of the API.
    """
    if all(image.url.startswith(_ABSOLUTE) for image in found.images):
        return found
    images = tuple(attrs.evolve(image, url=_joined(base_url, image.url)) for image in found.images)
    return attrs.evolve(found, images=images)


def _joined(base_url: str, url: str) -> str:
    try:
        return urljoin(f"{base_url}/", url)
    except ValueError:
        return url  # which a download refuses


def _without_images(source: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in source.items() if name not in _IMAGE_FIELDS}


def _images(source: Mapping[str, Any], task_id: str | None, completed: datetime | None) -> list[Image]:
    if _IMAGE_FIELDS.isdisjoint(source):
        return []
    result = _mapping(source.get("result")) or source
    entries = result.get("images")
    if entries is None:
        entries = [result]
    found: list[Image] = []
    for entry in entries if is_sequence(entries) else [entries]:
        item = {"url": entry} if isinstance(entry, str) else _mapping(entry)
        expires = moment(item.get("expires_at"))
        if expires is None and completed is not None:
            expires = completed + RESULT_LIFETIME
        found += [
            Image(
                url=url,
                expires_at=None if url.startswith("data:") else expires,
                revised_prompt=text(item.get("revised_prompt")),
                task_id=task_id,
                index=index,
            )
            for index, url in enumerate(_image_urls(item), start=len(found) + 1)
        ]
        if len(found) > _MOST_IMAGES:
            break
    return found


def _image_urls(item: Mapping[str, Any]) -> list[str]:
    urls = _texts(item.get("url")) or _texts(item.get("urls"))
    if urls:
        return [url if url.startswith("http") else _data_url(url) or url for url in urls]
    return [_data_url(packed) or f"data:image/png;base64,{packed}" for packed in _texts(item.get("b64_json"))]


def _texts(value: object) -> list[str]:
    return [item for item in (value if is_sequence(value) else [value]) if isinstance(item, str) and item]


def _data_url(value: str) -> str | None:
    """Return an image in base64 as a ``data:`` URL; ``None`` for any other text, such as a relative URL."""
    start = value[:_SNIFFED].lstrip()
    if data_urls.is_data_url(start):
        return data_urls.normalized(value.lstrip())
    if _LACKS_SCHEME(start):
        return data_urls.SCHEME + value.lstrip()
    if len(value) < _LEAST_BASE64:
        return None
    try:
        head = "".join(start.split())
        kind = sniffing.identify(data_urls.decode(f"data:;base64,{head[: len(head) // 4 * 4]}"))
    except ValueError:
        return None
    return f"data:{kind.content_type};base64,{value}" if kind.extension else None


def _failure(source: Mapping[str, Any]) -> TaskFailure | None:
    said = source.get("error")
    error = {} if _is_empty(said) else _mapping(said)
    if error:
        code, kind = (
            _cut(text(error.get("code")), _LONGEST_CODE),
            _cut(text(error.get("type")), _LONGEST_CODE),
        )
        return TaskFailure(_cut(text(error.get("message"))) or code or "no reason given", code, kind)
    reason = (None if _is_empty(said) else text(said)) or text(source.get("fail_reason"))
    return TaskFailure(_cut(reason) or reason) if reason else None


def _cut(said: str | None, longest: int = _LONGEST_REASON) -> str | None:
    """Return a text of the service; of one that is a whole page, the beginning."""
    return f"{said[:longest]}… ({len(said):,} characters)" if said and len(said) > longest else said


def _is_empty(error: object, depth: int = 3) -> bool:
    """Tell whether an error says nothing, as those that some services send with every good answer.

    Neither does the code 0, which stands for success.
    """
    if isinstance(error, str):
        return error.strip() in {"", "0"}
    if not error:
        return True
    parts = error if is_sequence(error) else list(_mapping(error).values())
    return bool(depth and parts) and all(_is_empty(part, depth - 1) for part in parts)


def read_upload(payload: object, base_url: str = "") -> Upload:
    """Read the answer to an upload; a missing expiry is 72 h after its creation.

    Args:
        payload: Decoded JSON.
        base_url: Base URL of the API, for a relative URL.

    Raises:
        APIResponseValidationError: It holds no URL.
    """
    top = _mapping(payload)
    source = _mapping(top.get("data")) or top
    url = source.get("url")
    if not isinstance(url, str) or not url:
        raise not_understood("upload", payload)
    now = datetime.now(UTC)
    created = moment(source.get("created_at")) or now
    return Upload(
        url=url if url.startswith(_ABSOLUTE) else _joined(base_url, url),
        filename=text(source.get("filename")) or "image",
        content_type=text(source.get("content_type")) or "application/octet-stream",
        bytes=int(number(source.get("bytes")) or 0),
        created_at=created,
        # The clock of the service may be ahead of this machine's.
        expires_at=min(moment(source.get("expires_at")) or created + UPLOAD_LIFETIME, now + UPLOAD_LIFETIME),
    )


def read_image_set(payload: object, n: int | None = None) -> ImageSet:
    """Read the answer of a synchronous image service.

    Args:
        payload: Decoded JSON.
        n: Number of images that was asked for.

    Raises:
        APIResponseValidationError: It holds no image.
    """
    top = _mapping(payload)
    entries = top.get("data")
    images = _images({"images": entries}, None, None) if is_sequence(entries) else []
    if not images:
        raise not_understood("image", payload)
    most = _MOST_IMAGES if n is None else n + _SURPLUS_IMAGES
    if len(images) > most:
        log.warning("A result has %d images or more instead of %s.", len(images), n)
        images, top = images[:most], {name: value for name, value in top.items() if name != "data"}
    return ImageSet(moment(top.get("created")) or datetime.now(UTC), tuple(images), top)


def read_balance(payload: object) -> Balance:
    """Read the balance of the account.

    Raises:
        APIResponseValidationError: It tells nothing of the kind.
    """
    source = _mapping(_mapping(payload).get("data")) or _mapping(payload)
    if not {"remain_balance", "used_balance", "unlimited_quota"} & source.keys():
        raise not_understood("balance", payload)
    fields = {
        "remaining": source.get("remain_balance"),
        "used": source.get("used_balance"),
        "unlimited": source.get("unlimited_quota") is True,
        "raw": source,
    }
    return structure(fields, Balance, payload)


def read_models(payload: object) -> list[Model]:
    """Read the catalogue, whose entries are objects or names; entries without an id are left out.

    Raises:
        APIResponseValidationError: It holds no list of models.
    """
    entries = payload if is_sequence(payload) else _mapping(payload).get("data")
    if not is_sequence(entries):
        raise not_understood("list of models", payload)
    described = [{"id": entry} if isinstance(entry, str) else _mapping(entry) for entry in entries]
    named = [entry for entry in described if _identifier(entry.get("id"))]
    return [Model(str(_identifier(entry["id"])), entry) for entry in named]


# --- answers held against requests ------------------------------------------------------------------------


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
    source = _mapping(_mapping(payload).get("data")) or _mapping(payload)
    stored_as = text(source.get("filename"))
    if (number(source.get("bytes")) or size) != size:
        return False
    return stored_as is None or stored_as == filename or stored_as not in others


# --- errors -----------------------------------------------------------------------------------------------


@attrs.frozen
class ServiceError:
    """What an error answer says.

    Attributes:
        message: In the service's words.
        status: The status in the body, where it contradicts a 200.
        code: As text.
        type: For example ``"rate_limit_error"``.
    """

    message: str
    status: int | None = None
    code: str | None = None
    type: str | None = None


def read_error(payload: object) -> ServiceError | None:
    """Find the error in an answer, whatever its HTTP status; ``None`` when it holds none."""
    top = _mapping(payload)
    # What nearly every answer is.
    if top.get("code") == _OK and "error" not in top and "success" not in top:
        return None
    said = top.get("error")
    said = None if _is_empty(said) else said
    error = _mapping(said)
    code_number = number(top.get("code"))
    status = int(code_number) if code_number is not None and 400 <= code_number < 600 else None  # noqa: PLR2004 HTTP's own
    if error:
        code = text(error.get("code"))
        if status is None and code is not None and code.isdecimal() and 400 <= int(code[:4]) < 600:  # noqa: PLR2004
            status = int(code[:4])
        message = text(error.get("message")) or text(top.get("message")) or code or "no reason given"
        return ServiceError(message, status, code, text(error.get("type")))
    word = text(said)
    if word is not None:
        return ServiceError(text(top.get("message")) or word, status, text(top.get("code")))
    if status is not None or top.get("success") is False:
        return ServiceError(text(top.get("message")) or "no reason given", status, text(top.get("code")))
    return None
