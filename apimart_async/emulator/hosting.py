"""The file host: which upload or result is at a path, and since when it is not any more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from .replies import Refusal, not_found

if TYPE_CHECKING:
    from .pictures import Upload
    from .service import Service
    from .tasks import Task

FILES_PATH: Final = "/files/"
UPLOADS_PATH: Final = "/files/uploads/"
RESULTS_PATH: Final = "/files/results/"


def find_upload(service: Service, name: str) -> Upload:
    """Return the upload with a name such as `01J….png`.

    Raises:
        Refusal: 404, when there never was one; 410, when it has expired.
    """
    upload = service.pictures.upload(name.partition(".")[0])
    if upload is None:
        raise not_found("no such file")
    expired = upload.created_at + service.settings.upload_ttl <= service.clock.now()
    if expired or not service.pictures.holds(upload.digest):
        raise _gone()
    return upload


def find_result(service: Service, task_id: str, name: str) -> tuple[Task, int]:
    """Return a completed task and the number of the image with a name such as `image_0.jpg`.

    Raises:
        Refusal: 404, when there is none (yet); 410, when it has expired.
    """
    task = service.tasks.get(task_id)
    now = service.clock.now()
    if task is None or task.status(now) != "completed" or name not in (names := result_names(task)):
        raise not_found("no such file")
    if task.finished_at + service.settings.result_ttl <= now:
        raise _gone()
    return task, names.index(name)


def result_names(task: Task) -> list[str]:
    """Return the names of a task's images."""
    return [f"image_{index}.{task.recipe.extension}" for index in range(task.images)]


def result_urls(origin: str, task: Task) -> list[str]:
    """Return where a task's images are, under an origin such as `http://127.0.0.1:8080`."""
    return [f"{origin}{RESULTS_PATH}{task.id}/{name}" for name in result_names(task)]


def _gone() -> Refusal:
    return Refusal(status=410, type="invalid_request_error", message="the file has expired")
