"""Pictures converted for dall-e-2, and the checks before the conversion."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import anyio
import attrs
from anyio import to_thread

from apimart_async.batch import Job
from apimart_async.batch.backends import AppleRouterBackend, PreparedJob
from apimart_async.cli.display.output import printable, sentence
from apimart_async.cli.options import UsageError, refuse_pictures
from apimart_async.errors import ImageError
from apimart_async.transport.concurrency import for_each
from apimart_async.transport.media import inputs, png

if TYPE_CHECKING:
    from apimart_async.transport.media.inputs import Media

_AT_ONCE: Final = max(1, min(4, os.cpu_count() or 1))
"""Concurrent conversions: each takes a processor, and memory for its pixels."""

_TURNED: Final = frozenset({5, 6, 7, 8})
_ORIENTATION: Final = 0x0112


def unfit(images: Sequence[str], mask: str | None) -> frozenset[str]:
    """Return the pictures that have to be converted.

    Args:
        images: Paths of pictures.
        mask: Path of the mask of all of them.

    Raises:
        UsageError: Some cannot be sent, or have no area to edit; it has the reason for each of them.
    """
    mask_header, is_mask_png = (None, False) if mask is None else anyio.run(_check_mask, mask)
    converted: set[str] = set()

    async def problem(image: str) -> str | None:
        try:
            header, is_png = await _read(image)
        except ImageError as error:
            return sentence(error.message)
        fits = header.has_alpha if mask is None else is_mask_png
        if not (fits and is_png and header.width == header.height):
            converted.add(image)
        return _problem(printable(image), header, mask_header)

    refuse_pictures(anyio.run(for_each, problem, images))
    return frozenset(converted)


@attrs.define(eq=False)
class PngBackend(AppleRouterBackend):
    """AppleRouter, with a conversion of the pictures that dall-e-2 does not take as they are.

    Args:
        client: Client of the service.
        timeout: Seconds for the paid request; the client's by default.
        unfit: Paths of the pictures to convert.
        side: Pixels of the square PNGs.
    """

    _unfit: frozenset[str] = attrs.field(kw_only=True, alias="unfit")
    _side: int = attrs.field(kw_only=True, alias="side")
    _limiter: anyio.CapacityLimiter = attrs.field(factory=lambda: anyio.CapacityLimiter(_AT_ONCE), init=False)

    async def prepare(self, job: Job) -> PreparedJob:
        """Check a job, and convert its picture and mask if necessary."""
        if job.image not in self._unfit:
            return await super().prepare(job)
        sources = [str(job.image), *([job.options["mask"]] if "mask" in job.options else [])]
        image, *mask = await to_thread.run_sync(_convert, sources, self._side, limiter=self._limiter)
        options = {**job.options, "mask": mask[0]} if mask else job.options
        return await super().prepare(attrs.evolve(job, image=image, options=options))


def _convert(sources: Sequence[str], side: int) -> list[bytes]:
    """Return pictures as PNGs of the same size; blocks while it works.

    Raises:
        ImageError: One of them cannot be read.
    """
    converted = [png.prepare_png(source, side) for source in sources]
    headers = [png.read_header(content) for content in converted]
    # A picture that had to be smaller to stay under the limit decides.
    smallest = min(header.width for header in headers if header is not None)
    return converted if smallest == side else [png.prepare_png(source, smallest) for source in sources]


async def _check_mask(mask: str) -> tuple[png.PngHeader, bool]:
    try:
        header, is_png = await _read(mask)
    except ImageError as error:
        raise UsageError(f"{sentence(error.message)} Nothing was sent.") from error
    if not header.has_alpha:
        raise UsageError(f"{printable(mask)} has no transparency: make the area to edit transparent.")
    return header, is_png


async def _read(image: str) -> tuple[png.PngHeader, bool]:
    """Return the size and transparency of a picture, and whether it is a PNG small enough for dall-e-2."""
    picture = await inputs.open_media(image, limit=png.SENT_LIMIT)
    return await to_thread.run_sync(_examine, picture)


def _examine(picture: Media) -> tuple[png.PngHeader, bool]:
    header = png.read_header(picture.source.read_at(0, min(png.HEADER_BYTES, picture.size)))
    if header is not None:
        return header, picture.size < png.PNG_LIMIT
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
            return png.PngHeader(width, height, opened.has_transparency_data), False
    except Exception as error:
        raise ImageError(f"{picture.name} cannot be read: {error}.") from error


def _problem(name: str, header: png.PngHeader, mask: png.PngHeader | None) -> str | None:
    if mask is not None and (mask.width, mask.height) != (header.width, header.height):
        return (
            f"{name} is {header.width} x {header.height} pixels and the mask {mask.width} x {mask.height}: "
            "make the mask from the picture."
        )
    if mask is None and header.width == header.height and not header.has_alpha:
        return f"{name} is square and has no transparency, so there is nowhere to edit: give a --mask."
    return None
