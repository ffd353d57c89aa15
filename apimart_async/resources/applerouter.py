"""Edits through an OpenAI-compatible service: synchronous, multipart, paid."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal

from anyio import to_thread

from apimart_async import errors
from apimart_async.resources import submission
from apimart_async.transport import parsing
from apimart_async.transport.concurrency import for_each, run_in_file_thread, run_in_picture_thread
from apimart_async.transport.media import inputs, png
from apimart_async.transport.media.multipart import multipart
from apimart_async.transport.responses import indeterminate
from apimart_async.transport.retry import Kind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from apimart_async.models import ImageSet
    from apimart_async.transport.api import Api
    from apimart_async.transport.media.inputs import ImageInput, Media, SingleImage

DALL_E_2: Final = "dall-e-2"
_PATH: Final = "/v1/images/edits/"
_LONGEST_PROMPT: Final = 1000
_MOST_IMAGES: Final = 16
_SIZES: Final = ("256x256", "512x512", "1024x1024")
_HINT: Final = "apimart_async.prepare_png(image) makes any image fit."


class AsyncAppleRouterEdits:
    """Paid edits that return their images at once, without a task."""

    def __init__(self, api: Api) -> None:
        self._api = api

    async def create(
        self,
        image: ImageInput,
        prompt: str,
        *,
        mask: SingleImage | None = None,
        model: str = DALL_E_2,
        n: int = 1,
        size: str | None = None,
        response_format: Literal["url", "b64_json"] | None = None,
        user: str | None = None,
        timeout: float | None = None,
        extra_body: Mapping[str, Any] | None = None,
        extra_headers: Mapping[str, str] | None = None,
    ) -> ImageSet:
        """Edit an image and return the results. Billable.

        For ``dall-e-2`` the published limits are checked before anything is sent; other models have limits of
        their own. The service has no idempotency keys, so a request of unknown outcome is never sent again.

        Args:
            image: A path, bytes, binary file, ``(name, content, MIME type)``, PIL image or ``data:`` URL, or
                for models that take several, a sequence of up to 16. For ``dall-e-2`` a square PNG under 4
                MB, with transparent pixels when there is no mask. For other models JPEG, PNG, WebP or GIF of
                at most 50 MiB; another image is converted if ``Media.convert`` of the client allows.
            prompt: The change to make; for ``dall-e-2`` at most 1000 characters.
            mask: PNG under 4 MB with the dimensions of the image; fully transparent where to edit.
            model: Name of a model of the service.
            n: Number of variants, 1 to 10.
            size: For ``dall-e-2`` ``"256x256"``, ``"512x512"`` or ``"1024x1024"``.
            response_format: ``"url"`` or ``"b64_json"``.
            user: Opaque id of your end user.
            timeout: Seconds for an attempt; the client's timeout by default.
            extra_body: Additional fields of the form.
            extra_headers: Additional headers of the request.

        Returns:
            The images. URLs expire: save the images with ``images.save``.

        Raises:
            InvalidArgumentError: An argument is invalid; nothing was sent.
            ImageError: An image cannot be sent; nothing was sent.
            APIError: The edit was not executed.
            SubmissionIndeterminateError: The edit may or may not have been executed.

        Cancellation may leave a paid edit whose result is lost; the log then says so.
        """
        submission.check_request(prompt, model, n)
        images = await for_each(self._open, inputs.flatten(image))
        opened_mask = None if mask is None else await self._open(mask)
        if len(images) > _MOST_IMAGES:
            raise errors.ImageError(f"At most {_MOST_IMAGES} images can be sent, not {len(images)}.")
        if model == DALL_E_2:
            check_words(prompt, size)
            await _check_images(images, opened_mask)
        name = "image" if len(images) == 1 else "image[]"
        files = [(name, image) for image in images]
        if opened_mask is not None:
            files.append(("mask", opened_mask))
        arguments = {
            "prompt": prompt,
            "model": model,
            "n": n,
            "size": size,
            "response_format": response_format,
            "user": user,
            **(extra_body or {}),
        }
        fields = [(field, _as_text(field, value)) for field, value in arguments.items() if value is not None]
        answer = await self._api.request(
            "POST",
            _PATH,
            kind=Kind.PAID_WRITE,
            body=multipart(files, fields),
            timeout=timeout,
            extra_headers=extra_headers,
        )
        try:
            # Images in base64 are copied into their URLs.
            found = await run_in_file_thread(parsing.read_image_set, answer.payload, n)
            return parsing.resolved(found, answer.base_url)
        except errors.APIResponseValidationError as error:
            error.method, error.url = "POST", answer.base_url + _PATH
            error.request_id = answer.request_id
            raise indeterminate(error) from error

    async def _open(self, image: SingleImage) -> Media:
        if inputs.remote_url(image) is not None:
            raise errors.ImageError("This service takes the image itself, not a URL: give a path or bytes.")
        options = self._api.settings.media
        media = await inputs.open_media(image, limit=png.SENT_LIMIT, convert=options.convert == "auto")
        return await inputs.as_sent(media, options)


def _as_text(name: str, value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (str, int, float)):
        return str(value)
    raise errors.InvalidArgumentError(
        f"{name} must be a text or a number to be sent in a form, not {value!r}."
    )


def check_words(prompt: str, size: str | None) -> None:
    """Check the prompt and the size for ``dall-e-2``.

    Raises:
        InvalidArgumentError: The prompt is too long, or the size is none of the three.
    """
    if len(prompt) > _LONGEST_PROMPT:
        raise errors.InvalidArgumentError(
            f"The prompt has {len(prompt)} characters; dall-e-2 takes at most {_LONGEST_PROMPT}: shorten it."
        )
    if size is not None and size not in _SIZES:
        raise errors.InvalidArgumentError(
            f"size must be one of {', '.join(_SIZES)} for dall-e-2, not {size!r}."
        )


async def _check_images(images: list[Media], mask: Media | None) -> None:
    if len(images) != 1:
        raise errors.ImageError(f"dall-e-2 edits one image, not {len(images)}; other models take several.")
    header = await _check_png(images[0])
    if header.width != header.height:
        raise errors.ImageError(
            f"{images[0].name} is {header.width} x {header.height} pixels; dall-e-2 takes squares. {_HINT}"
        )
    if mask is None:
        if not await run_in_picture_thread(png.has_transparency, images[0], header):
            raise errors.ImageError(
                f"{images[0].name} has no transparency; dall-e-2 needs that, or a mask, to know where to "
                f"edit. {_HINT}"
            )
        return
    mask_header = await _check_png(mask)
    if (mask_header.width, mask_header.height) != (header.width, header.height):
        raise errors.ImageError(
            f"The mask is {mask_header.width} x {mask_header.height} pixels and the image {header.width} x "
            f"{header.height}; they must be the same: make the mask from the image."
        )


async def _check_png(image: Media) -> png.PngHeader:
    head = await to_thread.run_sync(image.source.read_at, 0, min(png.HEADER_BYTES, image.size))
    header = png.read_header(head)
    if header is None:
        raise errors.UnsupportedImageError(f"{image.name} is not a PNG; dall-e-2 takes nothing else. {_HINT}")
    if image.size >= png.PNG_LIMIT:
        raise errors.ImageTooLargeError(
            f"{image.name} has {image.size:,} bytes; dall-e-2 takes PNGs under {png.PNG_LIMIT:,}. {_HINT}"
        )
    return header
