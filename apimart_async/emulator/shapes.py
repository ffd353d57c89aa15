"""The shapes an answer comes in: the documented one first, then every other that the contract knows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal

from .wording import REASONS, explain

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .settings import BatchShape
    from .tasks import Status, Task

Json = dict[str, Any]

SubmitShape = Literal["list", "object", "accepted", "top-level"]
ImageShape = Literal["list", "string", "together", "inline"]

SUBMIT_SHAPES: Final[tuple[SubmitShape, ...]] = ("list", "object", "accepted", "top-level")
"""The shapes that accept a submission, the documented one first."""

IMAGE_SHAPES: Final[tuple[ImageShape, ...]] = ("list", "string", "together", "inline")
"""The shapes of a task's images: a list of one URL each, a string each, one list of all, a data URL each."""

_SHORT: Final = 10.0

_SPELLINGS: Final[dict[Status, tuple[str, ...]]] = {
    "submitted": ("submitted", "pending", "queued"),
    "processing": ("processing", "in_progress"),
    "completed": ("completed", "success", "succeeded", "done"),
    "failed": ("failed", "failure", "error"),
    "cancelled": ("cancelled", "canceled"),
    "expired": ("expired",),
}


def submitted(task_id: str, *, estimate: int, origin: str, shape: SubmitShape = "list") -> tuple[int, Json]:
    """Return the status and body that accept a submission, in one of its shapes."""
    if shape == "object":
        data = {"id": task_id, "status": "pending", "progress": 0, "task_info": {"estimated_time": estimate}}
        return 200, {"code": 200, "data": data}
    if shape == "accepted":
        poll_url = f"{origin}/v1/tasks/{task_id}"
        return 202, {"code": 202, "data": {"id": task_id, "status": "queued", "poll_url": poll_url}}
    if shape == "top-level":
        return 200, {"id": task_id, "status": "submitted"}
    return 200, {"code": 200, "data": [{"status": "submitted", "task_id": task_id}]}


def spelled(status: Status, turn: int) -> str:
    """Return one of the spellings of a status."""
    spellings = _SPELLINGS[status]
    return spellings[turn % len(spellings)]


def task_object(
    task: Task,
    now: float,
    *,
    estimate: int,
    expires_at: float,
    urls: Sequence[str],
    language: str = "en",
    spelling: int = 0,
    images: ImageShape = "list",
) -> Json:
    """Return a task as `GET /v1/tasks/{id}` shows it.

    Args:
        task: The task.
        now: Unix seconds.
        estimate: What the service thinks tasks take, in seconds.
        expires_at: When its images expire, in unix seconds.
        urls: Its images' addresses; only looked at when it completed.
        language: Of the error message.
        spelling: Which spelling of its status; the documented one is 0.
        images: The shape of its images.
    """
    status = task.status(now)
    shown: Json = {
        "id": task.id,
        "status": spelled(status, spelling),
        "progress": task.progress(now),
        "created": int(task.submitted_at),
        "estimated_time": estimate,
    }
    if status in {"submitted", "processing"}:
        return shown
    shown |= {
        "completed": int(task.finished_at),
        "actual_time": _seconds(task.seconds),
        "cost": round(task.cost, 6),
        "credits_cost": round(10 * task.cost, 6),
    }
    if status == "completed":
        shown["result"] = {"images": _images(urls, int(expires_at), images)}
    elif task.reason is not None:
        code, kind = REASONS[task.reason]
        shown["error"] = {"code": code, "message": explain(task.reason, language), "type": kind}
    return shown


def old_task_object(task: Task, now: float, *, urls: Sequence[str], language: str = "en") -> Json:
    """Return a task as the oldest polling path shows it: all on top, the first image only."""
    status = task.status(now)
    shown: Json = {"id": task.id, "status": status, "progress": task.progress(now)}
    if status == "completed":
        shown["url"] = urls[0] if urls else ""
    elif task.reason is not None and status == task.ending:
        shown["fail_reason"] = explain(task.reason, language)
    return shown


def batch(objects: Sequence[Json], shape: BatchShape) -> Json:
    """Return the answer to `POST /v1/tasks/batch` in one of its three shapes."""
    return {"code": 200, "data": list(objects) if shape == "list" else {shape: list(objects)}}


def _images(urls: Sequence[str], expires_at: int, shape: ImageShape) -> list[Json]:
    if shape == "string":
        return [{"url": url, "expires_at": expires_at} for url in urls]
    if shape == "together":
        return [{"url": list(urls), "expires_at": expires_at}]
    if shape == "inline":
        return [{"url": url} for url in urls]
    return [{"url": [url], "expires_at": expires_at} for url in urls]


def _seconds(seconds: float) -> float:
    """Round a duration to whole seconds, as the service does, but keep what a short one would lose."""
    return round(seconds) if seconds >= _SHORT else round(seconds, 2)
