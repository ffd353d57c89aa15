"""Results on stdout, in the order of the arguments, as text or as one JSON object a line."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeAlias

from apimart_async import errors
from apimart_async.cli.display.item import Item
from apimart_async.cli.display.output import dollars, printable, shorten, write_line
from apimart_async.models import Task

Render: TypeAlias = Callable[[Item], Iterable[str]]
"""Returns the lines of an item that has ended."""

Record: TypeAlias = Mapping[str, object]

_LONGEST_URL = 2048


class Results:
    """Writes the results of items, each once it and all before it have ended.

    Args:
        items: In the order of the arguments.
        render: Returns the lines of an item.
        hold: Whether results have to wait for the end, because the terminal is in use.

    Attributes:
        hold: Whether results wait for the end.
        are_whole: Whether every line could be written.
    """

    def __init__(self, items: Sequence[Item], render: Render, *, hold: bool) -> None:
        self._items = items
        self._render = render
        self._written = 0
        self.hold = hold
        self.are_whole: bool = True

    def write(self) -> None:
        """Write the results that can be written by now."""
        while self._written < len(self._items) and self._items[self._written].has_ended:
            for line in self._render(self._items[self._written]):
                self.are_whole = write_line(line) and self.are_whole
            self._written += 1


def lines(record: Callable[[Item], Record]) -> Render:
    """Return a function that renders an item as one line of JSON."""
    return lambda item: [json_line(record(item))]


def json_line(record: Record) -> str:
    """Return a record as one line of ASCII."""
    return json.dumps(record)


# --- as text ----------------------------------------------------------------------------------------------


def saved_paths(item: Item) -> list[str]:
    """Return the paths of the saved files."""
    return [str(path) for path in item.paths]


def upload_url(item: Item) -> list[str]:
    """Return the address of the upload."""
    return [item.upload.url] if item.upload else []


def task_lines(item: Item) -> list[str]:
    """Return a line for the task and one for each image."""
    task = item.task
    if task is None:
        return []
    facts = [
        task.id,
        task.status,
        f"{task.progress:.0f} %" if task.progress is not None and not task.is_finished else None,
        dollars(task.cost) if task.cost is not None else None,
        task.error.message if task.error else None,
    ]
    images = [f"  {shorten(printable(image.url), _LONGEST_URL)}" for image in task.images]
    return [printable(" ".join(fact for fact in facts if fact)), *images]


# --- as JSON ----------------------------------------------------------------------------------------------


def edit_record(item: Item) -> Record:
    """Return the result of an edit."""
    return {
        "image": item.source,
        "status": item.stage,
        "task_id": item.task.id if item.task else None,
        "paths": saved_paths(item),
        "cost": item.task.cost if item.task else None,
        "seconds": _rounded(item.seconds),
        "error": _error(item),
    }


def generation_record(item: Item) -> Record:
    """Return the result of a generation."""
    return {name: value for name, value in edit_record(item).items() if name != "image"}


def upload_record(item: Item) -> Record:
    """Return the result of an upload."""
    upload = item.upload
    return {
        "image": item.source,
        "status": item.stage,
        "url": upload.url if upload else None,
        "filename": upload.filename if upload else None,
        "content_type": upload.content_type if upload else None,
        "bytes": upload.bytes if upload else None,
        "expires_at": upload.expires_at.isoformat() if upload else None,
        "seconds": _rounded(item.seconds),
        "error": _error(item),
    }


def task_record(item: Item) -> Record:
    """Return a task as it was last seen."""
    task = item.task
    return {
        "task_id": item.source,
        "status": item.stage,
        "task_status": task.status if task else None,
        "progress": task.progress if task else None,
        "images": [] if task is None else _images(task),
        "paths": saved_paths(item),
        "cost": task.cost if task else None,
        "created_at": task.created_at.isoformat() if task and task.created_at else None,
        "completed_at": task.completed_at.isoformat() if task and task.completed_at else None,
        "seconds": _rounded(item.seconds),
        "error": _error(item) or _failure(task),
    }


def _images(task: Task) -> list[Record]:
    return [
        {"url": image.url, "expires_at": image.expires_at.isoformat() if image.expires_at else None}
        for image in task.images
    ]


def _error(item: Item) -> Record | None:
    error, task_id, key = item.error, item.task.id if item.task else None, item.idempotency_key
    if error is None:
        is_in_doubt = item.stage == "interrupted" and item.doubt is not None
        return _error_record("Interrupted", str(item.doubt), idempotency_key=key) if is_in_doubt else None
    kind = type(error).__name__
    if not isinstance(error, errors.ApimartError):
        return _error_record(kind, str(error), task_id=task_id)
    return _error_record(
        kind,
        error.message,
        status=error.status,
        code=error.code,
        request_id=error.request_id,
        task_id=error.task_id or task_id,
        idempotency_key=key,
    )


def _failure(task: Task | None) -> Record | None:
    failure = task.error if task else None
    if task is None or failure is None:
        return None
    return _error_record(failure.type or task.status, failure.message, code=failure.code, task_id=task.id)


def _error_record(kind: str, message: str, **facts: int | str | None) -> Record:
    names = ("status", "code", "request_id", "task_id", "idempotency_key")
    return {"type": kind, "message": message, **{name: facts.get(name) for name in names}}


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)
