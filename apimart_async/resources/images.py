"""Result images: download them, verify them and save each under its own name."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from contextlib import asynccontextmanager, closing
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self, TypeVar, cast

import attrs

from apimart_async import errors
from apimart_async.arguments import check_types, wrong_type
from apimart_async.models import Image, ImageSet, Task
from apimart_async.polling.task_errors import task_error
from apimart_async.transport.concurrency import for_each
from apimart_async.transport.files.atomic import find_images, write_image
from apimart_async.transport.files.downloads import VerifiedDownload, open_download
from apimart_async.transport.files.names import NameTemplate
from apimart_async.transport.media import data_urls, sniffing
from apimart_async.transport.media.dimensions import read_dimensions
from apimart_async.transport.object_storage import any_path

if TYPE_CHECKING:
    import os
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
    from contextlib import AbstractAsyncContextManager

    from apimart_async.transport.api import Api

log: logging.Logger = logging.getLogger("apimart_async.resources")

_DOWNLOADS_AT_ONCE: Final = 16
_HEAD_BYTES: Final = 1024 * 1024
_NOT_THERE_YET: Final = frozenset({403, 404})
"""Answers of a host that does not have a file; which of the two depends on its permissions."""

_LISTED: Final = 5


_Result = TypeVar("_Result")


class AsyncImages:
    """Result images, downloaded from any host without the API key and verified to be whole."""

    def __init__(self, api: Api) -> None:
        self._api = api

    async def save(
        self,
        result: Task | ImageSet | Image | Sequence[Image],
        directory: str | os.PathLike[str],
        *,
        name: str = "{task_id}-{index}",
        fsync: bool = False,
    ) -> list[Path]:
        """Save every image of a result as a file.

        A file gets its name once the image is whole and verified. No file is ever overwritten: where a file
        of that name has other content, ``-2``, ``-3``, … is added; where it has the same content, it is kept.
        A task's image that was saved before is not downloaded again if its name identifies it: the template
        has ``{task_id}``, and ``{index}`` unless the task has a single image.

        Args:
            result: A completed task, an image set, an image or a list of images.
            directory: Directory of the files; created when missing. Or a URL of object storage,
                ``s3://bucket/folder``, ``gs://…`` or ``az://…``, with the credentials of the environment and
                the extra ``storage``: an object becomes visible when its image is whole, and the paths are
                ``ObjectPath``.
            name: Template of the file names without extension, which comes from the content; default
                ``"{task_id}-{index}"``. ``{task_id}`` is the task (its idempotency key if the service gave it
                no id; for an image set its creation in Unix seconds), ``{index}`` the position of the image
                in the result from 1, ``{index:02}`` the same with zeros; ``{{`` is a brace. Without
                ``{index}``, the second image of a name gets ``-2``, and so on.
            fsync: Whether to return only when the files would survive a power cut, which takes milliseconds
                for each; default False. Without it, files survive the death of the program. Batches sync
                before they record a job as saved.

        Returns:
            The paths of the files, in the order of the images.

        Raises:
            DownloadError: An image could not be downloaded whole, is not an image, or could not be written.
                The other images are saved nevertheless, and the message names the failed ones. The task stays
                paid: save it again; once its URLs have expired, fetch it with ``tasks.get`` first.
            InvalidArgumentError: The template has another field or does not make a plain file name, the task
                has not ended yet, the URL of the storage is malformed, or the extra ``storage`` is missing.
            TaskFailedError: The task failed and has no images.
            TaskCancelledError: The service cancelled the task.
            TaskExpiredError: The service no longer has the task.

        Cancellation leaves the images that are whole and nothing of the others.
        """
        check_types(directory=directory, name=name, fsync=fsync)
        template = NameTemplate.parse(name)
        images, task_ids = _images_of(result)
        indexes = [image.index or index for index, image in enumerate(images, start=1)]
        stems = template.stems(list(zip(task_ids, indexes, strict=True)))
        target = any_path(directory)
        task_id = result.id if isinstance(result, Task) else None
        outcomes: list[Path | errors.ApimartError | None] = [None] * len(images)
        # An index identifies an image only within its task, not within a list of images.
        if task_id is not None and template.identifies(len(images)):
            try:
                outcomes[:] = await find_images(target, stems, fsync=fsync)
            except errors.DownloadError as error:
                error.task_id = task_id
                raise
        missing = iter([number for number, found in enumerate(outcomes) if found is None])

        async def save_missing(_: int) -> None:
            for number in missing:
                write = partial(write_image, directory=target, stem=stems[number], fsync=fsync)
                try:
                    outcomes[number] = await self._download(images[number], write)
                except errors.ApimartError as error:
                    error.task_id = error.task_id or task_id
                    outcomes[number] = error

        await for_each(save_missing, range(min(_DOWNLOADS_AT_ONCE, outcomes.count(None))))
        paths = _paths(outcomes)
        if log.isEnabledFor(logging.INFO):
            listed = ", ".join(map(str, paths[:_LISTED])) + ", …" * (len(paths) > _LISTED)
            log.info("%s.", errors.visible(f"{f'Task {task_id}' if task_id else 'Images'} saved: {listed}"))
        return paths

    async def read(self, image: Image | str) -> bytes:
        """Download an image into memory.

        Args:
            image: The image, or its ``https://`` or ``data:`` URL.

        Returns:
            The bytes of the file, at most ``Limits.download_bytes``.

        Raises:
            DownloadError: The image could not be downloaded whole, or is not an image.
            InvalidArgumentError: The argument is neither an image nor a URL.

        Cancellation closes the connection.
        """

        async def read_all(download: VerifiedDownload) -> bytes:
            chunks: list[bytes] = []
            while chunk := await download.read():
                chunks.append(chunk)
            return b"".join(chunks)

        return await self._download(_as_image(image), read_all)

    async def inspect(self, image: Image | str) -> Image:
        """Read the content type and the dimensions of an image from the first bytes of its file.

        The rest of the file is not downloaded.

        Args:
            image: The image, or its ``https://`` or ``data:`` URL.

        Returns:
            The image with ``content_type``, and with ``width`` and ``height`` for JPEG, PNG, WebP and GIF.
            They are those of the pixels in the file, which EXIF data may ask to turn.

        Raises:
            DownloadError: The image could not be opened, or is not an image.
            InvalidArgumentError: The argument is neither an image nor a URL.

        Cancellation closes the connection.
        """
        image = _as_image(image)

        async def read_head(download: VerifiedDownload) -> Image:
            head, kind, size = b"", sniffing.UNKNOWN, None
            # All formats but JPEG have the dimensions in the first chunk.
            while not head or (kind is sniffing.JPEG and size is None and len(head) < _HEAD_BYTES):
                chunk = await download.read()
                if not chunk:
                    break
                head += chunk
                kind, size = sniffing.identify(head), read_dimensions(head)
            width, height = size or (image.width, image.height)
            return attrs.evolve(image, content_type=kind.content_type, width=width, height=height)

        return await self._download(image, read_head)

    def stream(self, image: Image | str) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Download an image in chunks.

        Only the end of the iteration confirms that the image is whole. Unlike ``save`` and ``read``, a stream
        does not start again when the connection breaks, as the caller has earlier chunks already.

        Args:
            image: The image, or its ``https://`` or ``data:`` URL.

        Returns:
            A context manager whose value is an asynchronous iterator of bytes, at most
            ``Limits.download_bytes`` in all.

        Raises:
            DownloadError: On entering, the image could not be opened; from the iterator, the connection broke
                or the content is not an image.
            InvalidArgumentError: The argument is neither an image nor a URL.

        Leaving the context early and cancellation close the connection; after a cancellation, the iterator
        raises a ``DownloadError`` instead of the rest.
        """
        return self._stream(_as_image(image))

    @asynccontextmanager
    async def _stream(self, image: Image) -> AsyncGenerator[AsyncIterator[bytes], None]:
        with closing(await self._retry(image, partial(open_download, self._api, image.url))) as download:
            yield _Chunks(download, image)

    async def _download(
        self, image: Image, consume: Callable[[VerifiedDownload], Awaitable[_Result]]
    ) -> _Result:
        """Return the result of consuming a download, from its start again after a transient error."""

        async def attempt(number: int) -> _Result:
            with closing(await open_download(self._api, image.url, number)) as download:
                return await consume(download)

        return await self._retry(image, attempt)

    async def _retry(self, image: Image, attempt: Callable[[int], Awaitable[_Result]]) -> _Result:
        failures = 0
        while True:
            try:
                return await attempt(failures + 1)
            except errors.ApimartError as error:
                failures += 1
                is_over = not (error.is_transient or _may_appear(error, image))
                if failures > self._api.max_retries or is_over:
                    raise _explained(error, image) from error
                delay = self._api.backoff(failures)
                event = errors.visible(f"GET {error.url}: {error.message}")
                log.info("%s Next attempt in %.1f s.", event, delay)
            await self._api.session.until_closed(partial(asyncio.sleep, delay))


@attrs.frozen
class _Chunks:
    """The chunks of an image: no generator, which ends after a cancellation as if the image were whole."""

    _download: VerifiedDownload
    _image: Image

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        try:
            chunk = await self._download.read()
        except errors.ApimartError as error:
            raise _explained(error, self._image) from error
        if not chunk:
            raise StopAsyncIteration
        return chunk


def _images_of(result: Task | ImageSet | Image | Sequence[Image]) -> tuple[Sequence[Image], list[str]]:
    """Return the images, and the task id in the file name of each."""
    if isinstance(result, Task):
        if not result.is_completed:
            raise task_error(result) or errors.InvalidArgumentError(
                f"Task {result.id} is {result.status} and has no images yet: wait for it first, with "
                "tasks.wait().",
                task_id=result.id,
            )
        if not result.images:
            raise errors.DownloadError(
                f"Task {result.id} is completed, but the service named no image: look again with "
                "tasks.get().",
                task_id=result.id,
            )
        created = result.created_at or datetime.now(UTC)
        # Without an id, the idempotency key stands for the task.
        name = result.id or result.idempotency_key or str(int(created.timestamp()))
        return result.images, [name] * len(result.images)
    if isinstance(result, ImageSet):
        if not result.images:
            raise errors.DownloadError("The image set holds no image.")
        return result.images, [str(int(result.created.timestamp()))] * len(result.images)
    if not isinstance(cast("object", result), Iterable | Image):
        raise wrong_type("result", "a Task, an ImageSet, an Image or a list of images", result)
    images = [result] if isinstance(result, Image) else list(result)
    for image in images:
        if not isinstance(cast("object", image), Image):
            raise errors.InvalidArgumentError(
                f"A result that holds {type(image).__name__} cannot be saved: give a Task (tasks.get() "
                "fetches it by its id), an ImageSet, an Image or a list of images."
            )
    return images, [image.task_id or "image" for image in images]


def _as_image(image: Image | str) -> Image:
    if isinstance(image, Image):
        return image
    if not isinstance(cast("object", image), str) or not image:
        raise wrong_type("image", "an Image or its URL", image)
    return Image(data_urls.normalized(image))


def _may_appear(error: errors.ApimartError, image: Image) -> bool:
    """Tell whether a file may be there in a moment: some hosts need time to copy it to all their servers."""
    is_refused = isinstance(error, errors.DownloadError) and error.status in _NOT_THERE_YET
    return is_refused and (image.expires_at is None or image.expires_at > datetime.now(UTC))


def _explained(error: errors.ApimartError, image: Image) -> errors.DownloadError:
    """Return an error with the known facts about the image and the next step for the caller."""
    message = error.message
    is_gone = isinstance(error, errors.DownloadError) and error.is_gone
    fresh = (
        f"get fresh URLs with tasks.get({image.task_id!r})"
        if image.task_id
        else "no task is known that has fresh ones"
    )
    if image.expires_at is not None and image.expires_at < datetime.now(UTC) and is_gone:
        message = f"The image's URL expired at {image.expires_at:%Y-%m-%d %H:%M:%S %Z}: {fresh}."
    elif is_gone:
        message = f"{message} Its URL may have expired: {fresh}."
    return errors.DownloadError(
        message,
        status=error.status,
        method=error.method,
        url=error.url,
        task_id=image.task_id,
        errno=error.errno if isinstance(error, errors.DownloadError) else None,
    )


def _paths(outcomes: Sequence[Path | errors.ApimartError | None]) -> list[Path]:
    """Return the paths, or raise an error that names the failed and the saved images."""
    paths = [outcome for outcome in outcomes if isinstance(outcome, Path)]
    if len(paths) == len(outcomes):
        return paths
    failed = [
        (number, outcome)
        for number, outcome in enumerate(outcomes, start=1)
        if isinstance(outcome, errors.ApimartError)
    ]
    _, first = failed[0]
    if len(outcomes) == 1:
        raise first
    reasons = " ".join(f"Image {number}: {error.message}" for number, error in failed[:_LISTED])
    listed = ", ".join(str(path) for path in paths[:_LISTED]) or "none"
    more = f" and {len(paths) - _LISTED} more" if len(paths) > _LISTED else ""
    raise errors.DownloadError(
        f"{len(failed)} of {len(outcomes)} images could not be saved. {reasons} Saved: {listed}{more}.",
        status=first.status,
        method=first.method,
        url=first.url,
        task_id=first.task_id,
        errno=next(filter(None, (getattr(error, "errno", None) for _, error in failed)), None),
    ) from first
