"""Pictures in formats or sizes that the service refuses, converted to JPEG or PNG; all of it blocks.

Decoders are chosen by the content that was recognised, never by Pillow's guess: a file that pretends to be an
image must not start a decoder, such as Ghostscript for EPS, that nobody asked for.
"""

from __future__ import annotations

import io
import math
from typing import TYPE_CHECKING, Final

import attrs

from apimart_async.errors import ImageError, ImageTooLargeError, UnsupportedImageError
from apimart_async.transport.media import sniffing

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from PIL.Image import Image as PillowImage

JPEG_QUALITY: Final = 92
_JPEG_MODES: Final = frozenset({"L", "RGB", "CMYK"})
_PNG_MODES: Final = frozenset({"LA", "RGBA"})
_GREY_MODES: Final = frozenset({"1", "L", "LA", "La"})
_OTHER_COLOURS: Final = frozenset({"LAB", "HSV", "YCbCr"})
_OPAQUE: Final = 255
_SCALE_MARGIN: Final = 0.95
_SMALLEST_SIDE: Final = 16

_PILLOW_FORMATS: Final[Mapping[sniffing.Kind, str]] = {
    sniffing.JPEG: "JPEG",
    sniffing.PNG: "PNG",
    sniffing.WEBP: "WEBP",
    sniffing.GIF: "GIF",
    sniffing.AVIF: "AVIF",
    sniffing.TIFF: "TIFF",
    sniffing.BMP: "BMP",
    sniffing.JPEG_2000: "JPEG2000",
    sniffing.PSD: "PSD",
}


@attrs.frozen
class Converted:
    """A picture that the service accepts, made from one that it refuses.

    Attributes:
        content: The whole file.
        kind: JPEG, or PNG where the picture has transparent pixels.
        change: The conversion as a sentence after the name of the picture, for example ``"was converted from
            a HEIC photo to JPEG"``.
    """

    content: bytes
    kind: sniffing.Kind
    change: str


def is_convertible(kind: sniffing.Kind) -> bool:
    """Tell whether a decoder is known for a kind of image, installed or not."""
    return kind is sniffing.HEIC or kind in _PILLOW_FORMATS


def convert(name: str, content: bytes, kind: sniffing.Kind, limit: int) -> Converted:
    """Convert a picture to JPEG or PNG of at most a number of bytes.

    The first frame is taken, the EXIF orientation applied and the ICC profile kept; other metadata is
    dropped. A picture with transparent pixels becomes PNG, any other JPEG at quality 92. A file over the
    limit is scaled down until it fits.

    Args:
        name: Name of the picture in errors.
        content: The whole file.
        kind: Its kind, recognised from its content; ``is_convertible`` holds for it.
        limit: Maximum size of the result in bytes.

    Raises:
        UnsupportedImageError: The decoder is not installed, or cannot decode the content.
        ImageTooLargeError: The picture has more pixels than can be decoded safely.
    """
    picture = _decode(name, content, kind)
    has_alpha = picture.mode in _PNG_MODES
    target = sniffing.PNG if has_alpha else sniffing.JPEG
    width, height = picture.size
    encoded = _encode(picture, target)
    while len(encoded) > limit and min(picture.size) > _SMALLEST_SIDE:
        # The size of a file grows with the number of pixels, the square of a side.
        scale = min(_SCALE_MARGIN, math.sqrt(limit / len(encoded)) * _SCALE_MARGIN)
        sides = tuple(max(1, round(side * scale)) for side in picture.size)
        picture = _resized(picture, sides)
        encoded = _encode(picture, target)
    if len(encoded) > limit:
        raise ImageTooLargeError(f"{name} cannot be made smaller than {len(encoded):,} bytes.")
    return Converted(encoded, target, _change(kind, target, (width, height), picture.size))


def _change(
    kind: sniffing.Kind, target: sniffing.Kind, before: tuple[int, int], after: tuple[int, int]
) -> str:
    name = "JPEG" if target is sniffing.JPEG else "PNG"
    step = f"was encoded again as {name}"
    if kind is not target:
        step = f"was converted from {kind.description} to {name}"
    steps = [step]
    if before != after:
        steps.append(f"was scaled from {before[0]}x{before[1]} to {after[0]}x{after[1]} pixels")
    return " and ".join(steps)


def _decode(name: str, content: bytes, kind: sniffing.Kind) -> PillowImage:
    try:
        from PIL import Image, ImageOps
    except ModuleNotFoundError as error:
        raise _missing_extra(name, kind) from error
    try:
        with _open(name, content, kind) as opened:
            # The profile describes the colours of the file, so it goes when they are converted.
            profile = None if opened.mode in _OTHER_COLOURS else opened.info.get("icc_profile")
            picture = _in_target_mode(ImageOps.exif_transpose(opened))
    except ImageError:
        raise
    except Image.DecompressionBombError as error:
        raise ImageTooLargeError(f"{name} has too many pixels: {error}") from error
    except Exception as error:
        raise UnsupportedImageError(
            f"{name} is {kind.description} that cannot be decoded: {error}."
        ) from error
    picture.info = {"icc_profile": profile} if profile else {}
    return picture


def _open(name: str, content: bytes, kind: sniffing.Kind) -> PillowImage:
    if kind is sniffing.HEIC:
        return _open_heic(name, content)
    from PIL import Image, features

    if kind is sniffing.AVIF and not features.check("avif"):
        raise _missing_extra(name, kind)
    return Image.open(io.BytesIO(content), formats=[_PILLOW_FORMATS[kind]])


def _open_heic(name: str, content: bytes) -> PillowImage:
    try:
        import pillow_heif
    except ModuleNotFoundError as error:
        raise _missing_extra(name, sniffing.HEIC) from error
    open_heif: Callable[[io.BytesIO], object] = pillow_heif.open_heif
    picture: PillowImage = open_heif(io.BytesIO(content)).to_pillow()  # type: ignore[attr-defined] # not typed
    return picture


def _missing_extra(name: str, kind: sniffing.Kind) -> UnsupportedImageError:
    return UnsupportedImageError(
        f"{name} is {kind.description}, which the service does not take. The extra 'formats' of "
        "apimart-async converts it; without that extra, save it as JPEG or PNG first."
    )


def _in_target_mode(picture: PillowImage) -> PillowImage:
    """Return the picture in a mode that its target format stores: grey stays grey, for its ICC profile."""
    if picture.mode.startswith("I;16"):
        # Pillow's own conversion clips every value over 255 to white.
        return picture.convert("I").point(_high_byte).convert("L")
    is_grey = picture.mode in _GREY_MODES
    if picture.has_transparency_data:
        with_alpha = picture.convert("LA" if is_grey else "RGBA")
        is_opaque = with_alpha.getchannel("A").histogram()[_OPAQUE] == with_alpha.width * with_alpha.height
        return with_alpha.convert("L" if is_grey else "RGB") if is_opaque else with_alpha
    picture.load()
    return picture if picture.mode in _JPEG_MODES else picture.convert("L" if is_grey else "RGB")


def _high_byte(value: float) -> float:
    return value / 256


def _resized(picture: PillowImage, size: tuple[int, ...]) -> PillowImage:
    from PIL import Image

    resized = picture.resize((size[0], size[1]), Image.Resampling.LANCZOS)
    resized.info = picture.info
    return resized


def _encode(picture: PillowImage, kind: sniffing.Kind) -> bytes:
    buffer = io.BytesIO()
    profile = picture.info.get("icc_profile")
    if kind is sniffing.JPEG:
        picture.save(buffer, "JPEG", quality=JPEG_QUALITY, icc_profile=profile)
    else:
        picture.save(buffer, "PNG", icc_profile=profile)
    return buffer.getvalue()
