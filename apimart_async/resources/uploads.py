"""Uploads: put a picture on the service's file host, free and for 72 hours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from apimart_async import errors
from apimart_async.transport import parsing
from apimart_async.transport.media import inputs
from apimart_async.transport.media.multipart import multipart
from apimart_async.transport.retry import Kind

if TYPE_CHECKING:
    from apimart_async.models import Upload
    from apimart_async.transport.api import Service
    from apimart_async.transport.media.inputs import Media, SingleImage

_PATH: Final = "/v1/uploads/images"


class AsyncUploads:
    """Pictures on the service's file host. An upload is free and can be edited any number of times."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def create(
        self, image: SingleImage, *, filename: str | None = None, timeout: float | None = None
    ) -> Upload:
        """Upload one picture.

        Args:
            image: A path, bytes, binary file, PIL image or ``data:`` URL. JPEG, PNG, WebP or GIF, judged by
                content, at most 20,971,520 bytes. A file is streamed, never read whole.
            filename: Name to store it under; the file's own by default.
            timeout: Seconds for one try; the client's by default.

        Returns:
            The upload; its URL is public and works for 72 h.

        Raises:
            ImageError: It cannot be sent; nothing was.
            APIError: The upload failed after all retries; uploads are free and safe to repeat.

        Cancelling it leaves nothing behind, or an upload that nobody uses.
        """
        if inputs.remote_url(image) is not None:
            raise errors.ImageError(
                "Only a picture on this machine can be uploaded; pass an address to the edit as it is."
            )
        return await upload(self._service, await inputs.open_media(image, filename=filename), timeout)


async def upload(service: Service, picture: Media, timeout: float | None) -> Upload:
    """Upload a picture that was checked.

    Raises:
        ImageError: It changed since.
        APIError: The upload failed after all retries.
    """
    body = multipart([("file", picture)])
    gate = service.throttle.uploads
    if not gate.enter_now():
        await gate.enter()
    try:
        answer = await service.request("POST", _PATH, kind=Kind.FREE_WRITE, body=body, timeout=timeout)
    finally:
        gate.leave()
    return parsing.read_upload(answer.payload)
