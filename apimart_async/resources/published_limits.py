"""The published limits of edits, which are those of dall-e-2; they are checked for it and without a model.

The model itself was retired on 2026-05-12. The documentation of the service still shows its limits, for a
request that names no model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from anyio import to_thread

from apimart_async import errors
from apimart_async.transport.concurrency import picture_threads
from apimart_async.transport.media import png

if TYPE_CHECKING:
    from collections.abc import Sequence

    from apimart_async.transport.media.inputs import Media

DALL_E_2: Final = "dall-e-2"

_LONGEST_PROMPT: Final = 1000
_SIZES: Final = ("256x256", "512x512", "1024x1024")
_HINT: Final = "apimart_async.prepare_png(image) makes any image fit; other models have other limits."
_OTHERS: Final = "A request that names no model has the limits of dall-e-2; other models have others."


def are_published(model: str | None) -> bool:
    """Tell whether the published limits apply to a request."""
    return model is None or model == DALL_E_2


def check_words(prompt: str, size: str | None) -> None:
    """Check the prompt and the size for ``dall-e-2``.

    Raises:
        InvalidArgumentError: The prompt is too long, or the size is none of the three.
    """
    if len(prompt) > _LONGEST_PROMPT:
        raise errors.InvalidArgumentError(
            f"The prompt has {len(prompt)} characters; dall-e-2 takes at most {_LONGEST_PROMPT}: shorten it. "
            f"{_OTHERS}"
        )
    if size is not None and size not in _SIZES:
        raise errors.InvalidArgumentError(
            f"size must be one of {', '.join(_SIZES)} for dall-e-2, not {size!r}. {_OTHERS}"
        )


async def check_images(images: Sequence[Media], mask: Media | None) -> None:
    """Check the image and the mask for ``dall-e-2``.

    Raises:
        ImageError: There are several images, or one of them is beyond the limits.
    """
    if len(images) != 1:
        raise errors.ImageError(f"dall-e-2 edits one image, not {len(images)}; other models take several.")
    header = await _check_png(images[0])
    if header.width != header.height:
        raise errors.ImageError(
            f"{images[0].name} is {header.width} x {header.height} pixels; dall-e-2 takes squares. {_HINT}"
        )
    if mask is None:
        if not await picture_threads.run(png.has_transparency, images[0], header):
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
