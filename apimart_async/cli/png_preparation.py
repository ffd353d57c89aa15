"""Pictures made to fit dall-e-2, and what has to be right before they can be."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import anyio
import attrs
from anyio import to_thread

from apimart_async.cli import checks
from apimart_async.cli.display.text import printable, sentence
from apimart_async.cli.exits import UsageError
from apimart_async.errors import ImageError
from apimart_async.transport.concurrent import for_each
from apimart_async.transport.media import inputs, png

if TYPE_CHECKING:
    from apimart_async.transport.media.inputs import Media

DEFAULT_SIDE: Final = 1024

_TURNED: Final = frozenset({5, 6, 7, 8})
_ORIENTATION: Final = 0x0112


@attrs.frozen
class Look:
    """What the head of a picture tells.

    Attributes:
        width: Pixels, as it is meant to be seen.
        height: Pixels, likewise.
        has_alpha: Whether pixels can be transparent.
        is_small_png: Whether it is a PNG of a size that dall-e-2 takes.
    """

    width: int
    height: int
    has_alpha: bool
    is_small_png: bool


def unfit(images: Sequence[str], mask: str | None) -> frozenset[str]:
    """Return the pictures that have to be made to fit.

    Args:
        images: Paths of pictures.
        mask: Path of the mask of all of them.

    Raises:
        UsageError: Some cannot be sent, or there is nowhere to edit; it names each of them and why.
    """
    painted = None if mask is None else anyio.run(_look_at_mask, mask)
    found: dict[str, Look] = {}

    async def problem(image: str) -> str | None:
        try:
            look = found[image] = await _look(image)
        except ImageError as error:
            return sentence(error.message)
        return _problem(printable(image), look, painted)

    checks.refuse_pictures(anyio.run(for_each, problem, images))
    return frozenset(image for image in images if not _fits(found[image], painted))


def fitted(image: str, mask: str | None, side: int) -> tuple[bytes, bytes | None]:
    """Return a picture and its mask made to fit, both of the same size; blocks while it works.

    Raises:
        ImageError: One of them cannot be read.
    """
    sources = [image] if mask is None else [image, mask]
    made = [png.prepare_png(source, side) for source in sources]
    headers = [png.read_header(content) for content in made]
    # Whichever had to be smaller to stay under the limit decides.
    smallest = min(header.width for header in headers if header is not None)
    if smallest < side:
        made = [png.prepare_png(source, smallest) for source in sources]
    return made[0], made[1] if mask is not None else None


async def _look_at_mask(mask: str) -> Look:
    try:
        painted = await _look(mask)
    except ImageError as error:
        raise UsageError(f"{sentence(error.message)} Nothing was sent.") from error
    if not painted.has_alpha:
        raise UsageError(f"{printable(mask)} has no transparency: make transparent what is to be edited.")
    return painted


async def _look(image: str) -> Look:
    picture = await inputs.open_media(image, limit=png.SENT_LIMIT)
    return await to_thread.run_sync(_examine, picture)


def _examine(picture: Media) -> Look:
    header = png.read_header(picture.source.read_at(0, min(png.HEADER_BYTES, picture.size)))
    if header is not None:
        return Look(header.width, header.height, header.has_alpha, picture.size < png.PNG_LIMIT)
    try:
        from PIL import Image
    except ModuleNotFoundError as missing:
        raise UsageError(
            "Pictures are made to fit dall-e-2 with Pillow: pip install 'apimart-async[images]'"
        ) from missing
    try:
        with Image.open(io.BytesIO(picture.source.read_at(0, picture.size))) as opened:
            width, height = opened.size
            if opened.getexif().get(_ORIENTATION) in _TURNED:
                width, height = height, width
            return Look(width, height, opened.has_transparency_data, is_small_png=False)
    except Exception as error:
        raise ImageError(f"{picture.name} cannot be read: {error}.") from error


def _problem(name: str, look: Look, mask: Look | None) -> str | None:
    if mask is not None and (mask.width, mask.height) != (look.width, look.height):
        return (
            f"{name} is {look.width} x {look.height} pixels and the mask {mask.width} x {mask.height}: "
            "make the mask from the picture."
        )
    if mask is None and look.width == look.height and not look.has_alpha:
        return f"{name} is square and has no transparency, so there is nowhere to edit: give a --mask."
    return None


def _fits(look: Look, mask: Look | None) -> bool:
    if not look.is_small_png or look.width != look.height:
        return False
    return look.has_alpha if mask is None else mask.is_small_png
