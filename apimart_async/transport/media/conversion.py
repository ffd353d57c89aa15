"""Pictures in formats or sizes that the service refuses, converted to JPEG or PNG; all of it blocks.

Decoders are chosen by the content that was recognised, never by Pillow's guess: a file that pretends to be an
image must not start another decoder, such as Ghostscript for EPS.
"""

from __future__ import annotations

import io
import math
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final

import attrs

from apimart_async.errors import ImageTooLargeError, UnsupportedImageError
from apimart_async.transport.media import jpeg_xl, sniffing

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

    from PIL.Image import Image as PillowImage

JPEG_QUALITY: Final = 92
_JPEG_MODES: Final = frozenset({"L", "RGB", "CMYK"})
ALPHA_MODES: Final = frozenset({"LA", "RGBA"})
"""Modes of pictures that ``decode`` returns with an alpha channel."""

_GREY_MODES: Final = frozenset({"1", "L", "LA", "La"})
_OTHER_COLOURS: Final = frozenset({"LAB", "HSV", "YCbCr"})
_ORIENTATION: Final = 0x0112
_OPAQUE: Final = 255
_WHITE: Final = 255
_WHITES: Final = (1.0, 255.0, 65_535.0)
"""Values of white in greys of 32 bits: of measurements, of 8 and of 16 bits."""

# Fields of raw photos: the version of DNG, and the kinds of pixels that a sensor has.
_DNG_VERSION: Final = 50_706
_PIXELS: Final = 262
_SENSOR: Final = frozenset({32_803, 34_892})
_SCALE_MARGIN: Final = 0.95
_SMALLEST_SIDE: Final = 16
_LONGEST_SIDE: Final = 65_500
"""Pixels; a JPEG encoder takes no more."""

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
    sniffing.JXL: "JXL",
}
_EXTRAS: Final[Mapping[sniffing.Kind, str]] = {sniffing.JXL: "jxl"}
_PACKAGES: Final[Mapping[sniffing.Kind, tuple[str, ...]]] = {
    sniffing.HEIC: ("PIL", "pillow_heif"),
    sniffing.JXL: ("PIL", "pillow_jxl"),
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


def extra_of(kind: sniffing.Kind) -> str:
    """Return the extra of this package that decodes a kind of image."""
    return _EXTRAS.get(kind, "formats")


def can_decode(kind: sniffing.Kind) -> bool:
    """Tell whether the decoder of a kind of image is known and installed."""
    if not is_convertible(kind) or not all(map(find_spec, _PACKAGES.get(kind, ("PIL",)))):
        return False
    if kind is not sniffing.AVIF:
        return True
    from PIL import features

    return bool(features.check("avif"))


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
    picture = decode(name, content, kind)
    has_alpha = picture.mode in ALPHA_MODES
    target = sniffing.PNG if has_alpha else sniffing.JPEG
    original_size = picture.size
    if max(picture.size) > _LONGEST_SIDE:
        picture = _scaled(picture, _LONGEST_SIDE / max(picture.size))
    encoded = _encode(picture, target)
    while len(encoded) > limit and min(picture.size) > _SMALLEST_SIDE:
        # The size of a file grows with the number of pixels, the square of a side.
        picture = _scaled(picture, math.sqrt(limit / len(encoded)) * _SCALE_MARGIN)
        encoded = _encode(picture, target)
    if len(encoded) > limit:
        raise ImageTooLargeError(f"{name} cannot be made smaller than {len(encoded):,} bytes.")
    return Converted(encoded, target, _change(kind, target, original_size, picture.size))


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


def decode(name: str, content: bytes, kind: sniffing.Kind) -> PillowImage:
    """Decode a picture with the decoder of its kind alone.

    Returns:
        The first frame, upright: with an alpha channel only if pixels are transparent, and without
        metadata other than the ICC profile.

    Raises:
        UnsupportedImageError: The decoder is not known, not installed, or cannot decode the content.
        ImageTooLargeError: The picture has more pixels than can be decoded safely.
    """
    if not is_convertible(kind):
        raise UnsupportedImageError(
            f"{name} is {kind.description}, which cannot be decoded: save it as JPEG or PNG first."
        )
    if not can_decode(kind):
        raise UnsupportedImageError(
            f"{name} is {kind.description}: the extra {extra_of(kind)!r} of apimart-async decodes it. "
            "Without that extra, save it as JPEG or PNG first."
        )
    with decoding(f"{name} is {kind.description} that"), open_picture(content, kind) as opened:
        return upright(opened)


@contextmanager
def decoding(subject: str) -> Generator[None]:
    """Turn the exceptions of a decoder, which may be of any class, into errors about its subject."""
    from PIL import Image

    try:
        yield
    except Image.DecompressionBombError as error:
        raise ImageTooLargeError(f"{subject} has too many pixels: {error}") from error
    except Exception as error:
        reason = str(error).rstrip(".")
        raise UnsupportedImageError(f"{subject} cannot be decoded: {reason}.") from error


def orientation(picture: PillowImage) -> int:
    """Return the EXIF orientation, 1 for a picture without one or with damaged metadata."""
    try:
        found = picture.getexif().get(_ORIENTATION)
    except Exception:  # noqa: BLE001 of metadata that nobody else reads
        return 1
    return found if isinstance(found, int) else 1


def turned_upright(picture: PillowImage) -> PillowImage:
    """Load a picture and return it upright: itself when it is upright already."""
    from PIL import ImageOps

    picture.load()
    return picture if orientation(picture) == 1 else ImageOps.exif_transpose(picture)


def upright(picture: PillowImage) -> PillowImage:
    """Return a picture upright, in a mode that its target format stores, with its ICC profile alone.

    The given picture may be the result, without its other metadata: a copy would take as much memory again.
    """
    # The profile describes the colours of the file, so it goes when they are converted.
    profile = None if picture.mode in _OTHER_COLOURS else picture.info.get("icc_profile")
    turned = _in_target_mode(turned_upright(picture))
    turned.info = {"icc_profile": profile} if profile else {}
    return turned


def open_picture(content: bytes, kind: sniffing.Kind) -> PillowImage:
    """Open a picture of a kind that ``can_decode``, without decoding its pixels where the decoder allows.

    Raises:
        Exception: The content cannot be decoded; decoders raise all kinds of exceptions.
    """
    from PIL import Image

    if kind is sniffing.JXL:
        return _open_jpeg_xl(content)
    if kind is not sniffing.HEIC:
        picture = Image.open(io.BytesIO(content), formats=[_PILLOW_FORMATS[kind]])
        fields: Mapping[int, object] = getattr(picture, "tag_v2", {})
        if kind is sniffing.TIFF and (_DNG_VERSION in fields or fields.get(_PIXELS) in _SENSOR):
            raise ValueError("it is a raw photo, of which only a thumbnail would be read")
        return picture
    import pillow_heif

    opened = pillow_heif.open_heif(io.BytesIO(content))  # pyright: ignore[reportUnknownMemberType]
    _check_pixels(*opened.size)
    decoded: PillowImage = opened.to_pillow()
    return decoded


def _open_jpeg_xl(content: bytes) -> PillowImage:
    from PIL import Image

    import_module("pillow_jxl")  # adds its decoder to Pillow
    # It decodes all pixels as soon as it opens a file.
    _check_pixels(*jpeg_xl.size(content))
    picture = Image.open(io.BytesIO(content), formats=[_PILLOW_FORMATS[sniffing.JXL]])
    if not getattr(picture, "jpeg", False):
        # The decoder has turned the pixels. Those of a JPEG that was packed losslessly are turned by EXIF.
        picture.info.pop("exif", None)
    return picture


def _check_pixels(width: int, height: int) -> None:
    """Refuse a picture of more pixels than Pillow decodes of other formats."""
    from PIL import Image

    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and width * height > 2 * limit:
        raise Image.DecompressionBombError(f"{width}x{height} pixels")


def _in_target_mode(picture: PillowImage) -> PillowImage:
    """Return the picture in a mode that its target format stores: grey stays grey, for its ICC profile."""
    if picture.mode.startswith("I;16"):
        # Pillow's own conversion clips every value over 255 to white.
        return picture.convert("I").point(_high_byte).convert("L")
    if picture.mode in {"I", "F"}:
        return scaled_grey(picture)
    is_grey = picture.mode in _GREY_MODES
    if picture.has_transparency_data:
        with_alpha = picture.convert("LA" if is_grey else "RGBA")
        is_opaque = with_alpha.getchannel("A").histogram()[_OPAQUE] == with_alpha.width * with_alpha.height
        return with_alpha.convert("L" if is_grey else "RGB") if is_opaque else with_alpha
    picture.load()
    return picture if picture.mode in _JPEG_MODES else picture.convert("L" if is_grey else "RGB")


def scaled_grey(picture: PillowImage) -> PillowImage:
    """Return a grey picture of 32 bits in 8 bits: its largest value tells how white is written in it.

    Pillow's own conversion makes a picture of numbers from 0 to 1 black, and one of 16 bits white.
    """
    found = picture.getextrema()[1]
    largest = found if isinstance(found, (int, float)) else 0
    white = next((white for white in _WHITES if largest <= white), float(largest))
    if picture.mode == "I" and white < _WHITE:
        white = _WHITE
    return picture.convert("F").point(lambda value: value * (_WHITE / white)).convert("L")


def _high_byte(value: float) -> float:
    return value / 256


def _scaled(picture: PillowImage, scale: float) -> PillowImage:
    from PIL import Image

    width, height = (max(1, round(side * scale)) for side in picture.size)
    scaled = picture.resize((width, height), Image.Resampling.LANCZOS)
    scaled.info = picture.info
    return scaled


def _encode(picture: PillowImage, kind: sniffing.Kind) -> bytes:
    buffer = io.BytesIO()
    profile = picture.info.get("icc_profile")
    if kind is sniffing.JPEG:
        picture.save(buffer, "JPEG", quality=JPEG_QUALITY, icc_profile=profile)
    else:
        picture.save(buffer, "PNG", icc_profile=profile)
    return buffer.getvalue()
