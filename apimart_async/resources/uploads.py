"""Uploads: images on the service's file host, free and for 72 hours."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from apimart_async import errors
from apimart_async.transport import parsing
from apimart_async.transport.concurrency import for_each
from apimart_async.transport.media import inputs
from apimart_async.transport.media.multipart import multipart
from apimart_async.transport.retry import Kind

if TYPE_CHECKING:
    from apimart_async.models import Upload
    from apimart_async.transport.api import Api
    from apimart_async.transport.media.inputs import ImageInput, Media, SingleImage

_PATH: Final = "/v1/uploads/images"


class AsyncUploads:
    """Images on the service's file host. An upload is free and can be edited any number of times."""

    def __init__(self, api: Api) -> None:
        self._api = api

    async def create(
        self, image: SingleImage, *, filename: str | None = None, timeout: float | None = None
    ) -> Upload:
        """Upload an image.

        Args:
            image: A path, bytes, binary file, ``(name, content, MIME type)``, PIL image or ``data:`` URL.
                JPEG, PNG, WebP or GIF, judged by content, at most 20,971,520 bytes; another image is
                converted if ``Media.convert`` of the client allows. Files are streamed in chunks.
            filename: Name of the stored file; the image's own name by default.
            timeout: Seconds for an attempt of the request; the client's timeout by default.

        Returns:
            The upload; its URL is public and works for 72 h.

        Raises:
            ImageError: The image cannot be sent; nothing was sent.
            APIError: The upload failed after all retries; uploads are free and safe to repeat.

        Cancellation leaves nothing behind, or an unused upload.
        """
        if inputs.remote_url(image) is not None:
            raise errors.ImageError(
                "Only an image on this machine can be uploaded; pass its URL to the edit instead."
            )
        convert = self._api.settings.media.convert == "auto"
        media = await inputs.open_media(image, filename=filename, convert=convert)
        return await upload(self._api, media, timeout)


async def upload(api: Api, image: Media, timeout: float | None) -> Upload:
    """Upload a checked image.

    Raises:
        ImageError: The image changed since it was checked, or cannot be converted.
        APIError: The upload failed after all retries.
    """
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


async def image_urls(api: Api, images: ImageInput, *, inline: bool, timeout: float | None) -> list[str]:
    """Return the URLs of images in order; all images are checked before the first is uploaded.

    Args:
        api: Takes the uploads of local images.
        images: An image or a sequence of images.
        inline: Encode local images as ``data:`` URLs instead of uploading them.
        timeout: Seconds for an attempt of each upload; the client's timeout by default.

    Raises:
        ImageError: An image cannot be sent; nothing was sent, unless its conversion failed.
        APIError: An upload failed after all retries.

    Cancellation leaves nothing behind, or unused uploads.
    """
    media = api.settings.media
    checked = [
        inputs.remote_url(image) or await inputs.open_media(image, convert=media.convert == "auto")
        for image in inputs.flatten(images)
    ]

    async def send(image: str | Media) -> str:
        if isinstance(image, str):
            return image
        if inline:
            return await inputs.data_url(await inputs.as_sent(image, media))
        return (await upload(api, image, timeout)).url

    return await for_each(send, checked)
