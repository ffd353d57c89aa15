"""The package, as a user writes it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from apimart_async import AsyncApimart, Image, Limits, Task
from benchmarks.clients import KEY, PROMPT

if TYPE_CHECKING:
    from pathlib import Path

    from apimart_async import Upload


def limits(at_once: int) -> Limits:
    """Return limits that allow as many concurrent operations as the other clients have."""
    return Limits(connections=at_once, requests=at_once, uploads=at_once, downloads=at_once)


def result(url: str, number: int) -> Task:
    """Make a completed task with an image at a URL."""
    name = f"task_{number}"
    return Task(name, "completed", images=(Image(url, task_id=name, index=1),))


class Awaited:
    """``AsyncApimart``.

    Args:
        base_url: Base URL of the service.
        at_once: Maximum number of connections.
    """

    def __init__(self, base_url: str, at_once: int) -> None:
        self._client = AsyncApimart(KEY, base_url=base_url, limits=self.limits(at_once))

    def limits(self, at_once: int) -> Limits:
        """Return the limits of the client."""
        return limits(at_once)

    async def __aenter__(self) -> object:
        return await self._client.__aenter__()

    async def __aexit__(self, *_: object) -> None:
        await self._client.close()

    async def upload(self, path: Path) -> Upload:
        """Upload a file."""
        return await self._client.uploads.create(path)

    async def submit(self, uploaded: Upload) -> str:
        """Submit an edit."""
        return (await self._client.edits.create(uploaded, PROMPT)).id

    async def poll(self, task_id: str) -> Task | None:
        """Fetch a task."""
        task = await self._client.tasks.get(task_id)
        return task if task.is_completed else None

    async def download(self, result: Task, directory: Path) -> None:
        """Save the image."""
        await self._client.images.save(result, directory)

    def result(self, url: str, number: int) -> Task:
        """Make a completed task."""
        return result(url, number)


class FixedLimits(Awaited):
    """``AsyncApimart`` that does not search for limits."""

    def limits(self, at_once: int) -> Limits:
        """Return limits that answers do not change."""
        return attrs.evolve(limits(at_once), adaptive=False)
