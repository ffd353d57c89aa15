"""What a batch does with a service: one that answers with a task, and one that answers with the images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol, cast

from apimart_async.batch.preparing import Preparer
from apimart_async.resources.applerouter import DALL_E_2
from apimart_async.resources.edits import DEFAULT_MODEL
from apimart_async.transport.media.inputs import MAX_UPLOAD_BYTES

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from apimart_async.applerouter import AsyncAppleRouter
    from apimart_async.batch.preparing import Work
    from apimart_async.batch.uploading import SharedUploads
    from apimart_async.client import AsyncApimart
    from apimart_async.models import ImageSet, Task
    from apimart_async.transport.media.inputs import ImageInput, SingleImage

_LARGEST: Final = 50 * 1024 * 1024
# Fields of the form that the client has arguments for.
_ARGUMENTS: Final = frozenset({"mask", "size", "response_format", "user"})


class EditService(Protocol):
    """A service's part in the life of a job."""

    preparer: Preparer

    async def place(self, work: Work) -> ImageInput:
        """Bring the pictures to where the paid request can name them; free."""
        ...

    async def submit(self, work: Work, images: ImageInput, key: str) -> Task | ImageSet:
        """Make the paid request."""
        ...

    async def wait(self, task: Task, timeout: float | None) -> Task:
        """Return the completed task."""
        ...

    async def refetch(self, task: Task) -> Task:
        """Return the task with fresh addresses."""
        ...

    async def save(self, result: Task | ImageSet, directory: Path, template: str) -> Sequence[Path]:
        """Save every image so that it survives a power cut: what the journal calls saved is on disk."""
        ...


class TaskService:
    """APIMart: uploads, tasks, results that are downloaded.

    Args:
        client: Of the service.
        uploads: Shared by the jobs.
    """

    def __init__(self, client: AsyncApimart, uploads: SharedUploads) -> None:
        self._client = client
        self._uploads = uploads
        self.preparer: Preparer = Preparer(model=DEFAULT_MODEL, limit=MAX_UPLOAD_BYTES, has_tasks=True)

    async def place(self, work: Work) -> ImageInput:
        """Upload what is local."""
        return [
            picture if isinstance(picture, str) else await self._uploads.get(*picture)
            for picture in work.pictures
        ]

    async def submit(self, work: Work, images: ImageInput, key: str) -> Task:
        """Submit the edit."""
        return await self._client.edits.create(
            images,
            work.job.prompt,
            model=work.model,
            n=work.job.n,
            idempotency_key=key,
            extra_body=work.options,
        )

    async def wait(self, task: Task, timeout: float | None) -> Task:
        """Wait for the task."""
        return await self._client.tasks.wait(task, timeout=timeout)

    async def refetch(self, task: Task) -> Task:
        """Fetch the task."""
        return await self._client.tasks.get(task)

    async def save(self, result: Task | ImageSet, directory: Path, template: str) -> list[Path]:
        """Download every image."""
        return await self._client.images.save(result, directory, name=template, fsync=True)


class DirectService:
    """AppleRouter: the answer to the paid request is the result."""

    def __init__(self, client: AsyncAppleRouter) -> None:
        self._client = client
        self.preparer: Preparer = Preparer(
            model=DALL_E_2, limit=_LARGEST, has_tasks=False, image_options=frozenset({"mask"})
        )

    async def place(self, work: Work) -> ImageInput:
        """Return the pictures themselves: they are part of the paid request."""
        pictures = [picture if isinstance(picture, str) else picture[0] for picture in work.pictures]
        return cast("list[SingleImage]", pictures)

    async def submit(self, work: Work, images: ImageInput, key: str) -> ImageSet:  # noqa: ARG002 the protocol's
        """Make the edit; the service knows no keys."""
        arguments: dict[str, Any] = {name: work.options[name] for name in _ARGUMENTS & work.options.keys()}
        rest = {name: value for name, value in work.options.items() if name not in _ARGUMENTS}
        return await self._client.edits.create(
            images, work.job.prompt, model=work.model, n=work.job.n, extra_body=rest, **arguments
        )

    async def wait(self, task: Task, timeout: float | None) -> Task:  # noqa: ARG002 the protocol's
        """Return the task: this service has none to wait for."""
        return task

    async def refetch(self, task: Task) -> Task:
        """Return the task: this service has none to fetch."""
        return task

    async def save(self, result: Task | ImageSet, directory: Path, template: str) -> list[Path]:
        """Save every image."""
        return await self._client.images.save(result, directory, name=template, fsync=True)
