"""The pictures of a request, whatever they come as, to the addresses that go into it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from apimart_async.models import Upload
from apimart_async.resources.uploads import upload
from apimart_async.transport.concurrent import for_each
from apimart_async.transport.media import inputs

if TYPE_CHECKING:
    from apimart_async.transport.api import Service
    from apimart_async.transport.media.inputs import ImageInput, Media


async def addresses(service: Service, image: ImageInput, *, inline: bool, timeout: float | None) -> list[str]:
    """Return the addresses of pictures in order; all are checked before the first is uploaded.

    Args:
        service: Where to upload those that are on this machine.
        image: One picture or a sequence.
        inline: Make ``data:`` URLs of local pictures instead of uploading them.
        timeout: Seconds for one try of each upload; the client's by default.

    Raises:
        ImageError: One of them cannot be sent; nothing was.
        APIError: An upload failed after all retries.

    Cancelling it leaves nothing behind, or uploads that nobody uses.
    """
    if isinstance(image, Upload):
        return [image.url]

    async def open_one(picture: inputs.SingleImage) -> str | Media:
        return inputs.remote_url(picture) or await inputs.open_media(picture)

    async def place(picture: str | Media) -> str:
        if isinstance(picture, str):
            return picture
        return await inputs.data_url(picture) if inline else (await upload(service, picture, timeout)).url

    return await for_each(place, await for_each(open_one, inputs.flatten(image)))
