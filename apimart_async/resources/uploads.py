"""Uploads: images on the service's file host, free and for 72 hours, each used again while it lives."""

from __future__ import annotations

import copy
import os
import re
from collections import OrderedDict
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol, cast

import anyio
import attrs

from apimart_async import errors
from apimart_async.arguments import check_types, wrong_type
from apimart_async.transport import parsing
from apimart_async.transport.concurrency import for_each
from apimart_async.transport.media import forms, inputs
from apimart_async.transport.media.multipart import multipart
from apimart_async.transport.retry import Kind

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Generator, Sequence

    from apimart_async.models import Upload
    from apimart_async.transport.api import Api
    from apimart_async.transport.media.forms import ImageInput, SingleImage
    from apimart_async.transport.media.inputs import Media

_PATH: Final = "/v1/uploads/images"
# The refusal of a URL is not documented. Forgetting an upload by mistake costs another upload, which is free.
_REFUSALS: Final = frozenset({400, 404, 410, 422})
_UNUSABLE: Final = re.compile(
    r"(?is)(?=.*(?:image|file|url|picture|photo))"
    r".*(?:expire|reachable|access|fetch|download|retriev|not found|no such)"
)

_MOST_KEPT: Final = 4096
# The service fetches the image when the task starts, which may be some time after the submit.
_MARGIN: Final = timedelta(hours=1)


class AsyncUploads:
    """Images on the service's file host. An upload is free and can be edited any number of times."""

    def __init__(self, api: Api, memory: UploadMemory | None) -> None:
        self._api = api
        self._memory = memory

    async def create(
        self, image: SingleImage, *, filename: str | None = None, timeout: float | None = None
    ) -> Upload:
        """Upload an image, whether or not it was uploaded before.

        Args:
            image: A path, bytes, binary file, ``(name, content, MIME type)``, PIL image or ``data:`` URL.
                JPEG, PNG, WebP or GIF, judged by content, at most 20,971,520 bytes; another image is
                converted if ``Media.convert`` of the client allows. Files are streamed in chunks. Private
                metadata, such as the place of a photo, is left out unless ``Media.keep_metadata`` is set.
            filename: Name of the stored file; the image's own name by default.
            timeout: Seconds for an attempt of the request; the client's timeout by default.

        Returns:
            The upload; its URL is public and works for 72 h.

        Raises:
            ImageError: The image cannot be sent; nothing was sent.
            APIError: The upload failed after all retries; uploads are free and safe to repeat.

        Cancellation leaves nothing behind, or an unused upload.
        """
        check_types(filename=filename, timeout=timeout)
        _check_is_local(image)
        convert = self._api.settings.media.convert == "auto"
        media = await inputs.open_media(image, filename=filename, convert=convert)
        return await upload(self._api, media, timeout)

    async def get_or_create(self, image: SingleImage, *, timeout: float | None = None) -> Upload:
        """Return an upload of an image that this client has made before, or upload the image.

        Edits, generations and batches do the same for their images. Images are the same if their content is
        the same, whatever their names. Concurrent calls for an image share one upload. A client with
        ``reuse_uploads=False`` always uploads.

        Args:
            image: As for ``create``.
            timeout: Seconds for an attempt of the request; the client's timeout by default.

        Returns:
            The upload; its URL is public and works for at least another hour.

        Raises:
            ImageError: The image cannot be sent; nothing was sent.
            APIError: The upload failed after all retries; uploads are free and safe to repeat.

        Cancellation leaves nothing behind, or an unused upload; a concurrent call for the image uploads it.
        """
        check_types(timeout=timeout)
        _check_is_local(image)
        return await _upload_once(
            self._api, self._memory, await _open(self._api, self._memory, image), timeout
        )


def _check_is_local(image: SingleImage) -> None:
    if forms.remote_url(image) is not None:
        raise errors.ImageError(
            "Only an image on this machine can be uploaded; pass its URL to the edit instead."
        )


async def _open(api: Api, memory: UploadMemory | None, image: SingleImage | Media) -> Media:
    """Check an image, and compute its digest if there is a memory of uploads."""
    convert = api.settings.media.convert == "auto"
    if memory is None:
        return await inputs.open_media(image, convert=convert)
    return await inputs.open_and_digest(image, convert=convert)


async def _upload_once(api: Api, memory: UploadMemory | None, media: Media, timeout: float | None) -> Upload:
    """Return a remembered upload of a checked image, or upload the image.

    Raises:
        ImageError: The image cannot be converted, or changed since it was checked.
        APIError: The upload failed after all retries.
    """
    send = partial(upload, api, media, timeout)
    if memory is None:
        return await send()
    # The digest is of the file, and the upload may be of the picture that was made from it.
    change = " converted" if media.refused_kind else " as it is" if api.settings.media.keep_metadata else ""
    return await memory.get(f"{api.settings.base_url} {media.digest}{change}", send, owner=(api, timeout))


async def upload(api: Api, image: Media, timeout: float | None) -> Upload:
    """Upload a checked image.

    Raises:
        ImageError: The image changed since it was checked, or cannot be converted.
        APIError: The upload failed after all retries.
    """
    batch = BATCH.get()
    if batch is None:
        return await _upload(api, image, timeout)
    async with batch.limit:
        return await _upload(api, image, timeout)


async def _upload(api: Api, image: Media, timeout: float | None) -> Upload:
    names = api.session.upload_names
    uploads = api.rate_limiter.uploads
    if not uploads.acquire_nowait():
        await uploads.acquire()
    try:
        # Here, as the limit of uploads bounds how many converted images are in memory.
        image = await inputs.as_sent(image, api.settings.media)
        body = multipart([("file", image)])
        names.append(image.filename)
        matches = partial(parsing.is_about_upload, size=image.size, filename=image.filename, others=names)
        answer = await api.request(
            "POST", _PATH, kind=Kind.FREE_WRITE, body=body, timeout=timeout, matches=matches
        )
    finally:
        uploads.release()
    return parsing.read_upload(answer.payload, answer.base_url)


async def check_images(
    api: Api, memory: UploadMemory | None, images: ImageInput, *, inline: bool
) -> list[str | Media]:
    """Return the images of a paid request, local ones checked: nothing is sent.

    Raises:
        ImageError: An image cannot be sent.
    """
    return [
        forms.remote_url(image) or await _open(api, None if inline else memory, image)
        for image in forms.flatten(images)
    ]


async def image_urls(
    api: Api,
    memory: UploadMemory | None,
    images: Sequence[str | Media],
    *,
    inline: bool,
    timeout: float | None,
) -> list[str]:
    """Return the URLs of images in order.

    Args:
        api: Takes the uploads of local images.
        memory: Uploads so far.
        images: As ``check_images`` returned them.
        inline: Encode local images as ``data:`` URLs instead of uploading them.
        timeout: Seconds for an attempt of each upload; the client's timeout by default.

    Raises:
        ImageError: An image cannot be converted, or has changed.
        APIError: An upload failed after all retries.

    Cancellation leaves nothing behind, or unused uploads.
    """

    async def send(image: str | Media) -> str:
        if isinstance(image, str):
            return image
        if inline:
            return await inputs.data_url(await inputs.as_sent(image, api.settings.media))
        return (await _upload_once(api, memory, image, timeout)).url

    return await for_each(send, images)


@asynccontextmanager
async def renewing(memory: UploadMemory | None, urls: Sequence[str]) -> AsyncGenerator[None]:
    """Forget the uploads of these URLs if the paid request of the body is refused because of its images."""
    try:
        yield
    except errors.APIStatusError as error:
        if memory is not None and error.status in _REFUSALS and _UNUSABLE.search(error.message):
            await memory.forget(urls)
        raise


# --- uploads that are used again ---------------------------------------------------------------------------


class UploadStore(Protocol):
    """A store of uploads that outlives the client: the journal of a batch, or a folder."""

    async def get_upload(self, key: str) -> Upload | None:
        """Return an upload that was kept, expired or not."""
        ...

    async def put_upload(self, key: str, upload: Upload) -> None:
        """Keep an upload in the place of another."""
        ...


@attrs.frozen
class BatchUploads:
    """The rules of a batch for the uploads of its jobs.

    Attributes:
        store: Keeps uploads for later runs.
        limit: Limits concurrent uploads.
    """

    store: UploadStore
    limit: anyio.Semaphore

    @contextmanager
    def used(self) -> Generator[None]:
        """Apply them to the calls of the body."""
        token = BATCH.set(self)
        try:
            yield
        finally:
            BATCH.reset(token)


BATCH: Final[ContextVar[BatchUploads | None]] = ContextVar("BATCH", default=None)


@attrs.frozen(eq=False)
class _Pending:
    """An upload in progress, for callers that wait for it."""

    owner: object
    done: anyio.Event = attrs.field(factory=anyio.Event)
    errors: list[errors.APIError] = attrs.field(factory=list[errors.APIError])


class UploadMemory:
    """Uploads each image once, and returns that upload to concurrent and later callers.

    The uploads used last are kept, up to 4096.

    Args:
        store: Keeps uploads for other clients.
    """

    def __init__(self, store: UploadStore | None = None) -> None:
        self._store = store
        self._kept: OrderedDict[str, Upload] = OrderedDict()
        self._pending: dict[str, _Pending] = {}

    @classmethod
    def of(cls, reuse_uploads: bool | str | os.PathLike[str]) -> UploadMemory | None:  # noqa: FBT001 the option
        """Return the memory that the option of a client asks for."""
        from apimart_async.transport.files.upload_folder import UploadFolder

        if isinstance(reuse_uploads, bool):
            return cls() if reuse_uploads else None
        if not isinstance(cast("object", reuse_uploads), str | os.PathLike):
            raise wrong_type("reuse_uploads", "True, False or the path of a folder", reuse_uploads)
        return cls(UploadFolder(reuse_uploads))

    async def get(self, key: str, upload: Callable[[], Awaitable[Upload]], *, owner: object) -> Upload:
        """Return an upload that lives for at least another hour.

        Args:
            key: Server and content of the image.
            upload: Uploads it.
            owner: Equal for callers that share the failure of an upload.

        Raises:
            ImageError: The image has changed since it was checked.
            APIError: The upload failed after all retries, for every caller of the owner that waited for it.
            JournalError: The upload cannot be kept in the journal.

        Cancellation leaves the upload to the next caller that waits for it, or an unused upload.
        """
        while (pending := self._pending.get(key)) is not None:
            await pending.done.wait()
            if pending.errors and pending.owner == owner:
                raise copy.copy(pending.errors[0])
        kept = self._kept.get(key)
        if kept is not None and _lives(kept):
            self._kept.move_to_end(key)
            return kept
        pending = self._pending[key] = _Pending(owner)
        try:
            return await self._find_or_upload(key, upload, is_dead=kept is not None)
        except errors.APIError as error:
            pending.errors.append(error)
            raise
        finally:
            del self._pending[key]
            pending.done.set()

    async def _find_or_upload(
        self, key: str, upload: Callable[[], Awaitable[Upload]], *, is_dead: bool
    ) -> Upload:
        stores = self._stores()
        for store in stores if not is_dead else ():
            kept = await store.get_upload(key)
            if kept is not None and _lives(kept):
                self._keep(key, kept)
                return kept
        made = await upload()
        self._keep(key, made)
        for store in stores:
            await store.put_upload(key, made)
        return made

    def _keep(self, key: str, upload: Upload) -> None:
        self._kept[key] = upload
        self._kept.move_to_end(key)
        if len(self._kept) > _MOST_KEPT:
            self._kept.popitem(last=False)

    async def forget(self, urls: Collection[str]) -> None:
        """Use the uploads of these URLs no more: their images are uploaded again."""
        for key, kept in list(self._kept.items()):
            if kept.url in urls:
                dead = self._kept[key] = attrs.evolve(kept, expires_at=kept.created_at)
                for store in self._stores():
                    await store.put_upload(key, dead)

    def _stores(self) -> list[UploadStore]:
        batch = BATCH.get()
        stores = [None if batch is None else batch.store, self._store]
        return [store for store in stores if store is not None]


def _lives(upload: Upload) -> bool:
    return upload.expires_at - datetime.now(UTC) > _MARGIN
