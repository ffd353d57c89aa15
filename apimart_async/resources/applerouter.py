"""Edits through an OpenAI-compatible service: synchronous, multipart, paid."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal

from anyio import to_thread

from apimart_async import errors
from apimart_async.resources import submission
from apimart_async.transport import parsing
from apimart_async.transport.concurrent import for_each
from apimart_async.transport.media import inputs, png
from apimart_async.transport.media.multipart import multipart
from apimart_async.transport.responses import indeterminate
from apimart_async.transport.retry import Kind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from apimart_async.models import ImageSet
    from apimart_async.transport.api import Service
    from apimart_async.transport.media.inputs import ImageInput, Media, SingleImage

DALL_E_2: Final = "dall-e-2"
_PATH: Final = "/v1/images/edits/"
_LONGEST_PROMPT: Final = 1000
_MOST_PICTURES: Final = 16
_SIZES: Final = ("256x256", "512x512", "1024x1024")
_HINT: Final = "apimart_async.prepare_png(image) makes any picture fit."


class AsyncAppleRouterEdits:
    """Paid edits that answer with the images themselves: no task, nothing to wait for."""

    def __init__(self, service: Service) -> None:
        self._service = service

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
        """Edit a picture and return the results. Billable.

        For ``dall-e-2`` the published limits are checked before anything is sent; other models pass through.
        The service knows no idempotency keys, so whatever is not certain is raised and never sent again.

        Args:
            image: A path, bytes, binary file, PIL image or ``data:`` URL, or for models that take several, a
                sequence of up to 16. For ``dall-e-2`` a square PNG under 4 MB, with an alpha channel when
                there is no mask.
            prompt: What to change; for ``dall-e-2`` at most 1000 characters.
            mask: PNG under 4 MB with the dimensions of the image; fully transparent where to edit.
            model: The service's name for a model.
            n: How many variants, 1 to 10.
            size: For ``dall-e-2`` ``"256x256"``, ``"512x512"`` or ``"1024x1024"``.
            response_format: ``"url"`` or ``"b64_json"``.
            user: An opaque id of your end user.
            timeout: Seconds for one try; the client's by default.
            extra_body: Further fields of the form.
            extra_headers: Further headers of the request.

        Returns:
            The images; save them with ``images.save``, URLs expire.

        Raises:
            InvalidArgumentError: An argument cannot be right; nothing was sent.
            ImageError: A picture cannot be sent; nothing was.
            APIError: The edit was not executed.
            SubmissionIndeterminateError: The edit may or may not have been executed.

        Cancelling it may leave an edit that is paid for and whose result is lost; the log then says so.
        """
        submission.check_request(prompt, model, n)
        pictures = await for_each(_open, inputs.flatten(image))
        painted = None if mask is None else await _open(mask)
        if len(pictures) > _MOST_PICTURES:
            raise errors.ImageError(f"At most {_MOST_PICTURES} pictures can be sent, not {len(pictures)}.")
        if model == DALL_E_2:
            check_words(prompt, size)
            await _check_pictures(pictures, painted)
        name = "image" if len(pictures) == 1 else "image[]"
        files = [(name, picture) for picture in pictures]
        if painted is not None:
            files.append(("mask", painted))
        given = {
            "prompt": prompt,
            "model": model,
            "n": n,
            "size": size,
            "response_format": response_format,
            "user": user,
            **(extra_body or {}),
        }
        fields = [(field, _as_text(field, value)) for field, value in given.items() if value is not None]
        answer = await self._service.request(
            "POST",
            _PATH,
            kind=Kind.PAID_WRITE,
            body=multipart(files, fields),
            timeout=timeout,
            extra_headers=extra_headers,
        )
        try:
            return parsing.read_image_set(answer.payload)
        except errors.APIResponseValidationError as error:
            error.method, error.url = "POST", self._service.settings.base_url + _PATH
            error.request_id = answer.request_id
            raise indeterminate(error) from error


async def _open(image: SingleImage) -> Media:
    if inputs.remote_url(image) is not None:
        raise errors.ImageError(
            "This service takes the picture itself, not an address: give a path or bytes."
        )
    return await inputs.open_media(image, limit=png.SENT_LIMIT)


def _as_text(name: str, value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (str, int, float)):
        return str(value)
    raise errors.InvalidArgumentError(
        f"{name} must be a text or a number to be sent in a form, not {value!r}."
    )


def check_words(prompt: str, size: str | None) -> None:
    """Check what ``dall-e-2`` is told besides pictures.

    Raises:
        InvalidArgumentError: The prompt is too long, or the size is none of its three.
    """
    if len(prompt) > _LONGEST_PROMPT:
        raise errors.InvalidArgumentError(
            f"The prompt has {len(prompt)} characters; dall-e-2 takes at most {_LONGEST_PROMPT}: shorten it."
        )
    if size is not None and size not in _SIZES:
        raise errors.InvalidArgumentError(
            f"size must be one of {', '.join(_SIZES)} for dall-e-2, not {size!r}."
        )


async def _check_pictures(pictures: list[Media], mask: Media | None) -> None:
    if len(pictures) != 1:
        raise errors.ImageError(
            f"dall-e-2 edits one picture, not {len(pictures)}; other models take several."
        )
    picture = await _check_png(pictures[0])
    if picture.width != picture.height:
        raise errors.ImageError(
            f"{pictures[0].name} is {picture.width} x {picture.height} pixels; dall-e-2 takes squares. "
            f"{_HINT}"
        )
    if mask is None:
        if not picture.has_alpha:
            raise errors.ImageError(
                f"{pictures[0].name} has no transparency; dall-e-2 needs that, or a mask, to know where to "
                f"edit. {_HINT}"
            )
        return
    painted = await _check_png(mask)
    if (painted.width, painted.height) != (picture.width, picture.height):
        raise errors.ImageError(
            f"The mask is {painted.width} x {painted.height} pixels and the image {picture.width} x "
            f"{picture.height}; they must be the same: make the mask from the image."
        )


async def _check_png(picture: Media) -> png.PngHeader:
    head = await to_thread.run_sync(picture.source.read_at, 0, min(png.HEADER_BYTES, picture.size))
    header = png.read_header(head)
    if header is None:
        raise errors.UnsupportedImageError(
            f"{picture.name} is not a PNG; dall-e-2 takes nothing else. {_HINT}"
        )
    if picture.size >= png.PNG_LIMIT:
        raise errors.ImageTooLargeError(
            f"{picture.name} has {picture.size:,} bytes; dall-e-2 takes PNGs under {png.PNG_LIMIT:,}. {_HINT}"
        )
    return header
