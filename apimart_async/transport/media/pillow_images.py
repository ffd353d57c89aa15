"""Images of Pillow as inputs: encoded to be sent, and identified by their pixels; all of it blocks."""

from __future__ import annotations

import hashlib
import io
import sys
from typing import IO, TYPE_CHECKING, Any, Final, Protocol, TypeGuard, cast

from apimart_async.transport.media import conversion
from apimart_async.transport.media.sources import InMemory, unreadable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from PIL.Image import Image

_JPEG_QUALITY: Final = 95
_JPEG_FORMATS: Final = frozenset({"JPEG", "MPO"})
_JPEG_MODES: Final = frozenset({"L", "RGB", "CMYK"})
_PNG_MODES: Final = frozenset({"1", "L", "LA", "I;16", "P", "RGB", "RGBA"})
_NEAREST_MODE: Final = {"I": "I;16", "La": "LA", "PA": "RGBA", "RGBa": "RGBA", "RGBX": "RGB"}


class PillowImage(Protocol):
    """The members of ``PIL.Image.Image`` in use, so that Pillow need not be installed."""

    @property
    def format(self) -> str | None:
        """Format of the file that the image came from."""
        ...

    @property
    def mode(self) -> str:
        """Format of the pixels."""
        ...

    @property
    def info(self) -> Mapping[Any, Any]:
        """Metadata of the file."""
        ...

    def convert(self, mode: str) -> PillowImage:
        """Return the image with another format of pixels."""
        ...

    def save(self, fp: IO[bytes], format: str | None = None, **params: Any) -> None:  # noqa: A002, ANN401
        """Write the image as a file."""
        ...


def is_pillow_image(image: object) -> TypeGuard[PillowImage]:
    """Tell whether an object is a Pillow image; a process that has not imported Pillow has none."""
    pillow = sys.modules.get("PIL.Image")
    return pillow is not None and isinstance(image, pillow.Image)


def encode(given: PillowImage) -> InMemory:
    """Encode an image upright: as JPEG when it came from a JPEG file and its mode allows, otherwise as PNG.

    Raises:
        ImageError: The image cannot be loaded or encoded.
    """
    buffer = io.BytesIO()
    try:
        image = conversion.turned_upright(cast("Image", given))
        profile = image.info.get("icc_profile")
        if image.mode == "F" or (image.mode == "I" and _is_8_bit(image)):
            image, profile = conversion.scaled_grey(image), None
        mode = _NEAREST_MODE.get(image.mode, image.mode)
        if given.format in _JPEG_FORMATS and mode in _JPEG_MODES:
            image.save(buffer, "JPEG", quality=_JPEG_QUALITY, icc_profile=profile)
        elif mode in _PNG_MODES:
            image = image if mode == image.mode else image.convert(mode)
            image.save(buffer, "PNG", icc_profile=profile)
        else:
            # The profile describes the colours before the conversion.
            image.convert("RGB").save(buffer, "PNG", icc_profile=None)
    except Exception as error:
        raise unreadable("The Pillow image", error) from error
    return InMemory(buffer.getvalue())


def _is_8_bit(image: Image) -> bool:
    largest = image.getextrema()[1]
    return isinstance(largest, (int, float)) and largest <= 0xFF  # noqa: PLR2004 of 8 bits


def pixel_digest(given: PillowImage) -> str:
    """Return the SHA-256 of everything that decides how an image looks, in hexadecimal.

    Unlike the encoded file, it is the same with any version of Pillow and its encoders.
    """
    image = cast("Image", given)
    palette = None if image.palette is None else (image.palette.mode, bytes(image.palette.palette))
    look = (
        image.mode,
        image.size,
        image.format in _JPEG_FORMATS,
        conversion.orientation(image),
        palette,
        image.info.get("transparency"),
        image.info.get("icc_profile"),
    )
    sha256 = hashlib.sha256(repr(look).encode())
    sha256.update(image.tobytes())
    return sha256.hexdigest()
