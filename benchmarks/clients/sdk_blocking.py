"""The blocking twin, from threads."""

from __future__ import annotations

from typing import TYPE_CHECKING

from apimart_async.sync import Apimart
from benchmarks.clients import KEY, PROMPT
from benchmarks.clients.sdk import limits, result

if TYPE_CHECKING:
    from pathlib import Path

    from apimart_async import Task, Upload


class Blocking:
    """``Apimart``.

    Args:
        base_url: Of the service.
        at_once: Most connections.
    """

    def __init__(self, base_url: str, at_once: int) -> None:
        self._client = Apimart(KEY, base_url=base_url, limits=limits(at_once))

    def __enter__(self) -> object:
        return self._client.__enter__()

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def upload(self, path: Path) -> Upload:
        """Upload a file."""
        return self._client.uploads.create(path)

    def submit(self, uploaded: Upload) -> str:
        """Submit an edit."""
        return self._client.edits.create(uploaded, PROMPT).id

    def poll(self, task_id: str) -> Task | None:
        """Fetch a task."""
        task = self._client.tasks.get(task_id)
        return task if task.is_completed else None

    def download(self, result: Task, directory: Path) -> None:
        """Save the image."""
        self._client.images.save(result, directory)

    def result(self, url: str, number: int) -> Task:
        """Make a completed task."""
        return result(url, number)
