"""Images: bring results home, each one whole, checked and under a name of its own."""

from __future__ import annotations

import logging
from contextlib import aclosing, asynccontextmanager, closing
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar, cast

import anyio

from apimart_async import errors
from apimart_async.models import Image, ImageSet, Task
from apimart_async.polling.ending import ending_error
from apimart_async.transport.concurrent import for_each
from apimart_async.transport.files.atomic import find_saved, land
from apimart_async.transport.files.downloads import Checked
from apimart_async.transport.files.names import NameTemplate, told_extension

if TYPE_CHECKING:
    import os
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
    from contextlib import AbstractAsyncContextManager

    from apimart_async.transport.api import Service

log: logging.Logger = logging.getLogger("apimart_async")

_AT_ONCE: Final = 16
_GONE: Final = frozenset({403, 404, 410})
_LISTED: Final = 5

_Result = TypeVar("_Result")


class AsyncImages:
    """Result images: fetched from any host, without the API key, and kept only when they are whole."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def save(
        self,
        result: Task | ImageSet | Image | Sequence[Image],
        directory: str | os.PathLike[str],
        *,
        name: str = "{task_id}-{index}",
        fsync: bool = False,
    ) -> list[Path]:
        """Save every image of a result as a file.

        Each is downloaded beside its place, checked, and gets its name when it is whole. No file is ever
        overwritten: where another one has the name, ``-2``, ``-3``, … is added, and where one has the same
        content, that one is kept. An image of a task that was saved before is not downloaded again when its
        name tells that (the template has ``{task_id}``, and ``{index}`` unless there is one image), except
        for the first whose URL ends otherwise than its file, after many in that directory that did not.

        Args:
            result: A completed task, an image set, one of its images or a list of them.
            directory: Where to; it is made when it is missing.
            name: Template of the file names without extension, which comes from the content. ``{task_id}``
                is the task (of an image set, when it was made in unix seconds), ``{index}`` the image's
                place in the result from 1, ``{index:02}`` the same with zeros; ``{{`` is a brace. Without
                ``{index}``, the second image of a name gets ``-2``, and so on.
            fsync: Return only when the files would survive a power cut, which takes milliseconds each. A
                program that dies loses nothing either way. Batches sync before they note that a job is done.

        Returns:
            The files, in the order of the images.

        Raises:
            DownloadError: An image could not be fetched whole, is not an image, or could not be written; the
                others are saved all the same, and the message says which. The task stays paid: save it again,
                or after its URLs have expired, ``tasks.get`` it anew first.
            InvalidArgumentError: The template has another field or does not make a plain file name, or the
                task has not ended yet.
            TaskFailedError: The task failed and has no images.
            TaskCancelledError: The service cancelled it.
            TaskExpiredError: The service no longer has it.

        Cancelling it keeps the images that are whole and leaves nothing of the others.
        """
        template = NameTemplate.parse(name)
        images, task_ids = _images_of(result)
        places = [image.index or index for index, image in enumerate(images, start=1)]
        stems = template.stems(list(zip(task_ids, places, strict=True)))
        told = [told_extension(image.url) for image in images]
        place = directory if isinstance(directory, Path) else Path(directory)
        outcomes: list[Path | errors.ApimartError | None] = [None] * len(images)
        # Only the place in a task, not the one in some list, says that a name belongs to one image alone.
        if isinstance(result, Task) and template.identifies(len(images)):
            try:
                outcomes[:] = await find_saved(place, stems, told)
            except errors.DownloadError as error:
                error.task_id = result.id
                raise
        missing = iter([number for number, found in enumerate(outcomes) if found is None])

        async def work(_: int) -> None:
            for number in missing:
                use = partial(land, directory=place, stem=stems[number], told=told[number], fsync=fsync)
                try:
                    outcomes[number] = await self._fetch(images[number], use)
                except errors.ApimartError as error:
                    error.task_id = error.task_id or (result.id if isinstance(result, Task) else None)
                    outcomes[number] = error

        await for_each(work, range(min(_AT_ONCE, outcomes.count(None))))
        return _saved(outcomes)

    async def read(self, image: Image | str) -> bytes:
        """Download one image into memory.

        Args:
            image: The image, or its ``https://`` or ``data:`` URL.

        Returns:
            The file's bytes, at most ``Limits.download_bytes``.

        Raises:
            DownloadError: It could not be fetched whole, or is not an image.
            InvalidArgumentError: It is neither an image nor a URL.

        Cancelling it closes the connection.
        """
        return await self._fetch(_as_image(image), _join)

    def stream(self, image: Image | str) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Download one image piece by piece.

        What was handed out cannot be taken back: unlike ``save`` and ``read`` it does not start anew when the
        connection breaks in the middle, and only the end of the iteration says that the image is whole.

        Args:
            image: The image, or its ``https://`` or ``data:`` URL.

        Returns:
            A context manager whose value is an asynchronous iterator of bytes, at most
            ``Limits.download_bytes`` in all.

        Raises:
            DownloadError: On entering, it could not be opened; from the iterator, it is not an image or broke
                off.
            InvalidArgumentError: It is neither an image nor a URL.

        Leaving it early, or cancelling it, closes the connection.
        """
        return self._stream(_as_image(image))

    @asynccontextmanager
    async def _stream(self, image: Image) -> AsyncGenerator[AsyncIterator[bytes], None]:
        with closing(Checked(self._service, image.url)) as coming:
            # Around the opening alone: what the caller raises inside is not about this image.
            try:
                await coming.open()
            except errors.ApimartError as error:
                raise _explained(error, image) from error
            async with aclosing(_explaining(coming, image)) as pieces:
                yield pieces

    async def _fetch(self, image: Image, use: Callable[[Checked], Awaitable[_Result]]) -> _Result:
        """Download an image, from the start again when its body breaks; opening it retries by itself."""
        attempt = 0
        try:
            while True:
                attempt += 1
                coming = Checked(self._service, image.url)
                try:
                    return await use(coming)
                except errors.APIConnectionError as error:
                    if not coming.is_open or attempt > self._service.max_retries:
                        raise
                    log.info("GET %s: %s Starting anew.", error.url, error.message)
                finally:
                    coming.close()
                await anyio.sleep(self._service.backoff(attempt))
        except errors.ApimartError as error:
            raise _explained(error, image) from error


# --- what there is to save --------------------------------------------------------------------------------


def _images_of(result: Task | ImageSet | Image | Sequence[Image]) -> tuple[Sequence[Image], list[str]]:
    """Return the images, and the task id each is named after."""
    if isinstance(result, Task):
        _check_completed(result)
        return result.images, [result.id] * len(result.images)
    if isinstance(result, ImageSet):
        if not result.images:
            raise errors.DownloadError("The image set holds no image.")
        return result.images, [str(int(result.created.timestamp()))] * len(result.images)
    images = [result] if isinstance(result, Image) else list(result)
    for image in images:
        if not isinstance(cast("object", image), Image):
            raise errors.InvalidArgumentError(
                f"{type(image).__name__} cannot be saved: give a Task (tasks.get() fetches it by its id), "
                "an ImageSet, an Image or a list of images."
            )
    return images, [image.task_id or "image" for image in images]


def _check_completed(task: Task) -> None:
    ended = ending_error(task)
    if ended is not None:
        raise ended
    if not task.is_completed:
        raise errors.InvalidArgumentError(
            f"Task {task.id} is {task.status} and has no images yet: wait for it first, with tasks.wait().",
            task_id=task.id,
        )
    if not task.images:
        raise errors.DownloadError(
            f"Task {task.id} is completed, but the service named no image: look again with tasks.get().",
            task_id=task.id,
        )


def _as_image(image: Image | str) -> Image:
    if isinstance(image, Image):
        return image
    if not isinstance(cast("object", image), str) or not image:
        raise errors.InvalidArgumentError(f"Give an Image or its URL, not {type(image).__name__}.")
    return Image(image)


# --- downloads -------------------------------------------------------------------------------------------


async def _explaining(coming: Checked, image: Image) -> AsyncGenerator[bytes, None]:
    try:
        while piece := await coming.read():
            yield piece
    except errors.ApimartError as error:
        raise _explained(error, image) from error


async def _join(coming: Checked) -> bytes:
    found: list[bytes] = []

    def take(piece: bytes | memoryview) -> bool:
        found.append(bytes(piece))
        return True

    await coming.pour(take)
    return b"".join(found)


# --- what went wrong --------------------------------------------------------------------------------------


def _explained(error: errors.ApimartError, image: Image) -> errors.DownloadError:
    """Say what is known of the image, and how to go on."""
    message = error.message
    fresh = f"get fresh URLs with tasks.get({image.task_id!r})" if image.task_id else "ask for it again"
    if image.expires_at is not None and image.expires_at < datetime.now(UTC) and error.status in _GONE:
        message = f"The image's URL expired at {image.expires_at:%Y-%m-%d %H:%M:%S %Z}: {fresh}."
    elif error.status in _GONE:
        message = f"{message} Its URL may have expired: {fresh}."
    return errors.DownloadError(
        message, status=error.status, method=error.method, url=error.url, task_id=image.task_id
    )


def _saved(outcomes: Sequence[Path | errors.ApimartError | None]) -> list[Path]:
    """Return all the paths, or raise the error that says which there are."""
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
    ) from first
