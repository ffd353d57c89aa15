"""PNG for OpenAI-compatible services: read a header, and convert any image to an accepted PNG."""

from __future__ import annotations

import io
import struct
from typing import TYPE_CHECKING, Final, cast

import attrs

from apimart_async.errors import ImageError, InvalidArgumentError, UnsupportedImageError
from apimart_async.transport.media import conversion, forms, sniffing

if TYPE_CHECKING:
    from PIL.Image import Image as Pillow

    from apimart_async.transport.media.forms import SingleImage
    from apimart_async.transport.media.inputs import Media

PNG_LIMIT: Final = 4 * 1024 * 1024
"""A PNG for dall-e-2 must have fewer bytes."""

SENT_LIMIT: Final = 50 * 1024 * 1024
"""Most bytes of an image for models other than dall-e-2."""

HEADER_BYTES: Final = 64 * 1024
"""Enough to find a ``tRNS`` chunk, which comes before the pixels."""

_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
_ALPHA_TYPES: Final = frozenset({4, 6})
_SOURCE_LIMIT: Final = 256 * 1024 * 1024
_SMALLEST: Final = 16
_SIZES: Final = frozenset({256, 512, 1024})


@attrs.frozen
class PngHeader:
    """The header of a PNG.

    Attributes:
        width: Pixels.
        height: Pixels.
        has_alpha: Whether pixels can be transparent.
    """

    width: int
    height: int
    has_alpha: bool


def read_header(data: bytes) -> PngHeader | None:
    """Read the header of a PNG; ``None`` for other data."""
    if not data.startswith(_SIGNATURE) or data[12:16] != b"IHDR" or len(data) < 33:  # noqa: PLR2004 signature and IHDR
        return None
    width, height, _, color_type = struct.unpack_from(">IIBB", data, 16)
    has_alpha = color_type in _ALPHA_TYPES
    offset = 33
    while not has_alpha and offset + 8 <= len(data):
        length, name = struct.unpack_from(">I4s", data, offset)
        if name == b"IDAT":
            break
        has_alpha = name == b"tRNS"
        offset += 12 + length
    return PngHeader(width, height, has_alpha)


def has_transparency(image: Media, header: PngHeader) -> bool:
    """Tell whether pixels of a PNG are transparent; blocks. Without Pillow, its header decides.

    Raises:
        ImageError: The image cannot be decoded, or has changed since it was checked.
    """
    if not header.has_alpha or not conversion.can_decode(sniffing.PNG):
        return header.has_alpha
    content = image.source.read_at(0, image.size)
    return conversion.decode(image.name, content, sniffing.PNG).mode in conversion.ALPHA_MODES


def prepare_png(image: SingleImage, size: int = 1024) -> bytes:
    """Convert any image for dall-e-2: to a square PNG with an alpha channel, under 4 MB.

    The image keeps its proportions and is turned upright; the rest of the square is transparent. A square
    image fills the whole square, so without transparency of its own it still needs a mask. The function
    blocks: in asynchronous code call ``await anyio.to_thread.run_sync(prepare_png, image)``.

    Args:
        image: A path, bytes, binary file, Pillow image or ``data:`` URL: JPEG, PNG, WebP, GIF, TIFF, BMP,
            AVIF, JPEG 2000, PSD, with the extra ``formats`` HEIC, or with the extra ``jxl`` JPEG XL; of an
            animation the first frame.
        size: Width and height in pixels: 256, 512 or 1024. Halved until the file is under 4 MB.

    Returns:
        The PNG file, without the metadata of the image.

    Raises:
        InvalidArgumentError: The size is none of these.
        UnsupportedImageError: The image cannot be decoded, or Pillow is not installed.
        ImageTooLargeError: The image has more pixels than can be decoded safely.
        ImageError: The image cannot be found or read, or is a URL.
    """
    if not isinstance(cast("object", size), int) or size not in _SIZES:
        raise InvalidArgumentError(f"size must be 256, 512 or 1024, not {size!r}.")
    if forms.remote_url(image) is not None:
        raise ImageError("prepare_png takes the image itself, not a URL: download it first.")
    try:
        decoded = _decode(image)
    except ModuleNotFoundError as error:
        raise UnsupportedImageError(
            "prepare_png needs Pillow: pip install '.[images]' in the clone."
        ) from error
    while True:
        buffer = io.BytesIO()
        _square(decoded, size).save(buffer, "PNG")
        if buffer.tell() < PNG_LIMIT or size <= _SMALLEST:
            return buffer.getvalue()
        size //= 2


def _decode(image: SingleImage) -> Pillow:
    """Return the image upright, in colours of 8 bits with an alpha channel."""
    from PIL import Image

    if isinstance(image, Image.Image):
        with conversion.decoding("The Pillow image"):
            return conversion.upright(image.copy()).convert("RGBA")
    located = forms.locate(image, _SOURCE_LIMIT)
    content = located.source.read_at(0, located.source.size)
    return conversion.decode(located.name, content, sniffing.identify(content)).convert("RGBA")


def _square(picture: Pillow, size: int) -> Pillow:
    from PIL import Image

    scale = size / max(picture.size)
    width, height = (max(1, round(side * scale)) for side in picture.size)
    square = Image.new("RGBA", (size, size), (0, 0, 0, 0))
    square.paste(
        picture.resize((width, height), Image.Resampling.LANCZOS), ((size - width) // 2, (size - height) // 2)
    )
    return square
