"""Pictures converted for dall-e-2, and the checks before the conversion."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import anyio
import attrs

from apimart_async.batch import Job
from apimart_async.batch.backends import AppleRouterBackend, PreparedJob
from apimart_async.batch.requests import images_of
from apimart_async.cli.display.output import printable, sentence
from apimart_async.cli.options import refuse_pictures
from apimart_async.cli.signals import UsageError
from apimart_async.errors import ImageError, InvalidArgumentError
from apimart_async.resources.image_fields import takes_json, text_of
from apimart_async.resources.published_limits import are_published, check_words
from apimart_async.transport.concurrency import for_each, picture_threads
from apimart_async.transport.media import conversion, forms, inputs, png, sniffing

if TYPE_CHECKING:
    from apimart_async.cli.options import Conversion
    from apimart_async.transport.media.forms import NamedFile, SingleImage
    from apimart_async.transport.media.inputs import Media

DEFAULT_SIDE: Final = 1024
"""Pixels of the square PNGs."""

_TURNED: Final = frozenset({5, 6, 7, 8})


def unfit(
    images: Sequence[str | NamedFile], mask: str | None, convert: Conversion
) -> Collection[str | NamedFile]:
    """Return the pictures that have to be converted.

    Args:
        images: The pictures.
        mask: Path of the mask of all of them.
        convert: The option: ``"never"`` refuses formats other than JPEG, PNG, WebP and GIF.

    Raises:
        UsageError: Pictures cannot be sent, or have no area to edit; the message has the reason for each.
    """
    mask_header, is_mask_png = (None, False) if mask is None else anyio.run(_check_mask, mask, convert)
    converted: list[str | NamedFile] = []

    async def problem(image: str | NamedFile) -> str | None:
        try:
            header, is_png = await _read(image, convert)
        except ImageError as error:
            return sentence(error.message)
        fits = header.has_alpha if mask is None else is_mask_png
        if not (fits and is_png and header.width == header.height):
            converted.append(image)
        return _problem(printable(image if isinstance(image, str) else "stdin"), header, mask_header)

    refuse_pictures(anyio.run(for_each, problem, images))
    return converted


@attrs.define(eq=False)
class PngBackend(AppleRouterBackend):
    """AppleRouter, with a conversion of the pictures that dall-e-2 does not take as they are.

    Args:
        client: Client of the service.
        timeout: Seconds for the paid request; the client's by default.
        unfit: The pictures to convert.
        side: Pixels of the square PNGs.
    """

    _unfit: Collection[str | NamedFile] = attrs.field(kw_only=True, alias="unfit")
    _side: int = attrs.field(kw_only=True, alias="side")

    async def prepare(self, job: Job) -> PreparedJob:
        """Check a job, and convert its picture and mask if necessary."""
        if job.image is None or job.image not in self._unfit:
            return await super().prepare(job)
        sources = [*forms.flatten(job.image), *([job.options["mask"]] if "mask" in job.options else [])]
        image, *mask = await picture_threads.run(_convert, sources, self._side)
        options = {**job.options, "mask": mask[0]} if mask else job.options
        return await super().prepare(attrs.evolve(job, image=image, options=options))


@attrs.define(eq=False)
class PngPreparingBackend(AppleRouterBackend):
    """AppleRouter, with a conversion of each picture that dall-e-2 does not take, before it is sent.

    The identity of a job stays that of its original picture.
    """

    async def upload(self, prepared: PreparedJob) -> Sequence[SingleImage]:
        """Return the images to send."""
        job = prepared.job
        pictures = [image for image in prepared.sent_images if not isinstance(image, str)]
        if not are_published(job.model) or await picture_threads.run(_are_fit, pictures):
            return await super().upload(prepared)
        mask = [job.options["mask"]] if "mask" in job.options else []
        size = str(job.options.get("size") or "").partition("x")[0]
        side = int(size) if size.isdecimal() else DEFAULT_SIDE
        return await picture_threads.run(_convert, [*images_of(job), *mask], side)


def _are_fit(pictures: Sequence[Media]) -> bool:
    """Tell whether dall-e-2 takes a picture, with its mask after it, as they are; blocks."""
    examined = [_examine(picture) for picture in pictures]
    has_area = len(examined) > 1 or any(header.has_alpha for header, _ in examined)
    return has_area and all(is_png and header.width == header.height for header, is_png in examined)


async def check_row(job: Job) -> None:
    """Check a row of a manifest for AppleRouter, as its client does before it sends.

    Raises:
        InvalidArgumentError: The row has the address of an image for a model that takes files, or its prompt,
            size or picture is not for dall-e-2.
    """
    sources = [*images_of(job), *([job.options["mask"]] if "mask" in job.options else [])]
    is_remote = any(forms.remote_url(source) is not None for source in sources)
    if is_remote and (job.model is None or not takes_json(job.model)):
        raise InvalidArgumentError("Its image is an address: download it first, AppleRouter takes files.")
    if are_published(job.model):
        check_words(job.prompt, text_of(job.options.get("size")))
        with suppress(ImageError):  # the check of all manifests reports it
            (header, _), *mask = [await _read(source, "auto") for source in sources]
            problem = _problem(forms.shown(str(sources[0])), header, mask[0][0] if mask else None)
            if problem is not None:
                raise InvalidArgumentError(problem)


def _convert(sources: Sequence[SingleImage], side: int) -> list[bytes]:
    """Return pictures as PNGs of the same size; blocks while it works.

    Raises:
        ImageError: A picture cannot be read.
    """
    converted = [png.prepare_png(source, side) for source in sources]
    headers = [png.read_header(content) for content in converted]
    # All get the size of the smallest, which had to be smaller to stay under the limit.
    smallest = min(header.width for header in headers if header is not None)
    return converted if smallest == side else [png.prepare_png(source, smallest) for source in sources]


async def _check_mask(mask: str, convert: Conversion) -> tuple[png.PngHeader, bool]:
    try:
        header, is_png = await _read(mask, convert)
    except ImageError as error:
        raise UsageError(f"{sentence(error.message)} Nothing was sent.") from error
    if not header.has_alpha:
        raise UsageError(f"{printable(mask)} has no transparency: make the area to edit transparent.")
    return header, is_png


async def _read(image: SingleImage, convert: Conversion) -> tuple[png.PngHeader, bool]:
    """Return the size and transparency of a picture, and whether it is a PNG small enough for dall-e-2."""
    picture = await inputs.open_media(image, limit=png.SENT_LIMIT, convert=convert == "auto")
    return await picture_threads.run(_examine, picture)


def _examine(picture: Media) -> tuple[png.PngHeader, bool]:
    header = png.read_header(picture.source.read_at(0, min(png.HEADER_BYTES, picture.size)))
    if header is not None:
        header = attrs.evolve(header, has_alpha=png.has_transparency(picture, header))
        return header, picture.size < png.PNG_LIMIT
    content = picture.source.read_at(0, picture.size)
    kind = sniffing.identify(content)
    if not conversion.can_decode(kind):
        raise UsageError(
            "Pictures are made to fit dall-e-2 with Pillow: pip install '.[images]' in the clone"
        )
    with conversion.decoding(picture.name), conversion.open_picture(content, kind) as opened:
        width, height = opened.size
        if conversion.orientation(opened) in _TURNED:
            width, height = height, width
        has_alpha = opened.has_transparency_data and conversion.upright(opened).mode in conversion.ALPHA_MODES
        return png.PngHeader(width, height, has_alpha), False


def _problem(name: str, header: png.PngHeader, mask: png.PngHeader | None) -> str | None:
    if mask is not None and (mask.width, mask.height) != (header.width, header.height):
        return (
            f"{name} is {header.width} x {header.height} pixels and the mask {mask.width} x {mask.height}: "
            "make the mask from the picture."
        )
    if mask is None and header.width == header.height and not header.has_alpha:
        return f"{name} is square and has no transparency, so there is nowhere to edit: give a --mask."
    return None
