"""What goes to stdout: results alone, in the order of the arguments, as text or as one JSON object a line."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeAlias

from apimart_async import errors
from apimart_async.cli.display.streams import write_line
from apimart_async.cli.display.text import dollars, printable, shorten
from apimart_async.cli.job import Job
from apimart_async.models import Task

Render: TypeAlias = Callable[[Job], Iterable[str]]
"""The lines of a job that has ended."""

Record: TypeAlias = Mapping[str, object]

_LONGEST_URL = 2048


class Results:
    """Write the results of jobs, each as soon as it and all before it have ended.

    Args:
        jobs: In the order of the arguments.
        render: Makes the lines.
        hold: Write nothing before ``finish``, because something else is using the terminal.

    Attributes:
        are_whole: Whether all that was written has arrived.
    """

    def __init__(self, jobs: Sequence[Job], render: Render, *, hold: bool) -> None:
        self._jobs = jobs
        self._render = render
        self._hold = hold
        self._written = 0
        self.are_whole: bool = True

    def advance(self) -> None:
        """Write what can be written by now."""
        if not self._hold:
            self.finish()

    def finish(self) -> None:
        """Write all that has ended and was not written yet."""
        while self._written < len(self._jobs) and self._jobs[self._written].has_ended:
            for line in self._render(self._jobs[self._written]):
                self.are_whole = write_line(line) and self.are_whole
            self._written += 1


def lines(record: Callable[[Job], Record]) -> Render:
    """Return what renders a job as one line of JSON."""
    return lambda job: [json_line(record(job))]


def json_line(record: Record) -> str:
    """Return a record as one line that any terminal and any reader can take."""
    return json.dumps(record)


# --- as text ----------------------------------------------------------------------------------------------


def saved_paths(job: Job) -> list[str]:
    """Return the paths of the job's files."""
    return [str(path) for path in job.paths]


def upload_url(job: Job) -> list[str]:
    """Return the address of the job's upload."""
    return [job.upload.url] if job.upload else []


def task_lines(job: Job) -> list[str]:
    """Describe the job's task: a line for itself and one for each image."""
    task = job.task
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


def edit_record(job: Job) -> Record:
    """Return what became of an edit."""
    return {
        "image": job.source,
        "status": job.stage.value,
        "task_id": job.task.id if job.task else None,
        "paths": saved_paths(job),
        "cost": job.task.cost if job.task else None,
        "seconds": _rounded(job.seconds),
        "error": _error(job),
    }


def generation_record(job: Job) -> Record:
    """Return what became of a generation."""
    return {name: value for name, value in edit_record(job).items() if name != "image"}


def upload_record(job: Job) -> Record:
    """Return what became of an upload."""
    upload = job.upload
    return {
        "image": job.source,
        "status": job.stage.value,
        "url": upload.url if upload else None,
        "filename": upload.filename if upload else None,
        "content_type": upload.content_type if upload else None,
        "bytes": upload.bytes if upload else None,
        "expires_at": upload.expires_at.isoformat() if upload else None,
        "seconds": _rounded(job.seconds),
        "error": _error(job),
    }


def task_record(job: Job) -> Record:
    """Return a task as it was last seen, and what became of the wish."""
    task = job.task
    return {
        "task_id": job.source,
        "status": job.stage.value,
        "task_status": task.status if task else None,
        "progress": task.progress if task else None,
        "images": [] if task is None else _images(task),
        "paths": saved_paths(job),
        "cost": task.cost if task else None,
        "created_at": task.created_at.isoformat() if task and task.created_at else None,
        "completed_at": task.completed_at.isoformat() if task and task.completed_at else None,
        "seconds": _rounded(job.seconds),
        "error": _error(job) or _failure(task),
    }


def _images(task: Task) -> list[Record]:
    return [
        {"url": image.url, "expires_at": image.expires_at.isoformat() if image.expires_at else None}
        for image in task.images
    ]


def _error(job: Job) -> Record | None:
    error = job.error
    if error is None:
        if job.doubt is None:
            return None
        return _error_record("Interrupted", job.doubt, idempotency_key=job.idempotency_key)
    if not isinstance(error, errors.ApimartError):
        return _error_record(type(error).__name__, str(error), task_id=job.task.id if job.task else None)
    return _error_record(
        type(error).__name__,
        error.message,
        status=error.status,
        code=error.code,
        task_id=error.task_id or (job.task.id if job.task else None),
        idempotency_key=error.idempotency_key,
    )


def _failure(task: Task | None) -> Record | None:
    if task is None or task.error is None:
        return None
    return _error_record(
        task.error.type or task.status, task.error.message, code=task.error.code, task_id=task.id
    )


def _error_record(
    kind: str,
    message: str,
    *,
    status: int | None = None,
    code: str | None = None,
    task_id: str | None = None,
    idempotency_key: str | None = None,
) -> Record:
    return {
        "type": kind,
        "message": message,
        "status": status,
        "code": code,
        "task_id": task_id,
        "idempotency_key": idempotency_key,
    }


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)
