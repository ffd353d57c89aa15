"""Every form an image may be given in, to bytes that can be read again; what it does blocks."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeGuard, cast

import attrs

from apimart_async.errors import ImageError, ImageTooLargeError, UnsupportedImageError
from apimart_async.transport import dataurl
from apimart_async.transport.sources import InMemory, InSeekableFile, OnDisk, Source, read_rest, unreadable

if TYPE_CHECKING:
    from apimart_async.transport.media import PillowImage, SingleImage
    from apimart_async.transport.sources import BinaryFile

_SHOWN: Final = 120
_JPEG_QUALITY: Final = 95
_JPEG_FORMATS: Final = frozenset({"JPEG", "MPO"})
_JPEG_MODES: Final = frozenset({"L", "RGB", "CMYK"})
_PNG_MODES: Final = frozenset({"1", "L", "LA", "I;16", "P", "RGB", "RGBA"})
_NEAREST_MODE: Final = {"I": "I;16", "La": "LA", "PA": "RGBA", "RGBa": "RGBA"}


@attrs.frozen
class Located:
    """An image whose bytes were found, but not looked at.

    Attributes:
        name: What messages call it.
        called: What it is called where it comes from; ``"image"`` when it has no name.
        source: Its bytes.
    """

    name: str
    called: str
    source: Source


def locate(image: SingleImage, limit: int) -> Located:
    """Find the bytes of an image.

    Args:
        image: Anything but an upload or an ``http(s)://`` URL.
        limit: Size in bytes, of what has to be read or decoded to be measured.

    Raises:
        UnsupportedImageError: It is none of the forms that are understood.
        ImageTooLargeError: It is a pipe or a ``data:`` URL and holds more than the limit.
        ImageError: It cannot be read.
    """
    if isinstance(image, str) and dataurl.is_data_url(image):
        return Located("The data: URL", "image", _decode(image, limit))
    if isinstance(image, (str, os.PathLike)):
        return _locate_path(os.fspath(image))
    if isinstance(image, (bytes, bytearray, memoryview)):
        return Located("The image given as bytes", "image", InMemory(bytes(image)))
    if _is_pillow_image(image):
        # Only the stem: the extension is that of the file it is written as.
        return Located("The Pillow image", Path(_origin(image, "filename")).stem or "image", _encode(image))
    if is_binary_file(image):
        return _locate_file(image, limit)
    raise UnsupportedImageError(
        f"An image cannot be given as {type(image).__name__}: give a path, a URL, the bytes of a file, "
        "a binary file, a Pillow image or an Upload."
    )


def shown(text: str) -> str:
    """Return a name fit for a message: printable, and cut in its middle when it is long."""
    printable = text
    if not text.isprintable():
        printable = "".join(character if character.isprintable() else "�" for character in text)
    half = _SHOWN // 2
    return printable if len(printable) <= _SHOWN else f"{printable[:half]}…{printable[-half:]}"


def is_binary_file(image: object) -> TypeGuard[BinaryFile]:
    """Tell whether it can be read from, in text mode or not."""
    return callable(getattr(image, "read", None))


def is_seekable(file: object) -> bool:
    """Tell whether a file object can be rewound."""
    seekable = getattr(file, "seekable", None)
    try:
        return bool(seekable()) if callable(seekable) else False
    except Exception:  # noqa: BLE001 a closed file, or one that is not what it seems: reading it says why
        return False


def _is_pillow_image(image: object) -> TypeGuard[PillowImage]:
    # Nobody holds a Pillow image in a process that has not imported Pillow.
    pillow = sys.modules.get("PIL.Image")
    return pillow is not None and isinstance(image, pillow.Image)


def _origin(image: object, attribute: str) -> str:
    """Return where a file object or a Pillow image came from, when it tells; many have a number there."""
    path: object = getattr(image, attribute, None)
    return path if isinstance(path, str) else ""


def _decode(url: str, limit: int) -> InMemory:
    if dataurl.least_size(url) > limit:
        raise ImageTooLargeError(
            f"The data: URL holds more than {dataurl.least_size(url):,} bytes; at most {limit:,} can be sent."
        )
    try:
        return InMemory(dataurl.decode(url))
    except ValueError as error:
        raise ImageError(
            f"The data: URL {shown(url[:40])}… cannot be read: {error}. "
            "It should look like data:image/png;base64,iVBORw0KGgo…"
        ) from error


def _locate_path(path: str | bytes) -> Located:
    text = os.fsdecode(path)
    if not text:
        raise ImageError("The path of the image is empty.")
    name = shown(text)
    return Located(name, os.path.basename(text), OnDisk.examine(name, text))


def _locate_file(file: BinaryFile, limit: int) -> Located:
    path = _origin(file, "name")
    name = f"The file object {shown(path)}" if path else "The file object"
    if isinstance(cast("object", file), io.TextIOBase):
        raise ImageError(f"{name} is open in text mode; open it in binary mode, open(path, 'rb').")
    source = InSeekableFile(name, file) if is_seekable(file) else read_rest(name, file, limit)
    return Located(name, Path(path).name or "image", source)


def _encode(image: PillowImage) -> InMemory:
    """Write a Pillow image as a file: JPEG when it came from one and can be one again, otherwise PNG."""
    buffer = io.BytesIO()
    try:
        profile = image.info.get("icc_profile")
        if image.format in _JPEG_FORMATS and image.mode in _JPEG_MODES:
            image.save(buffer, "JPEG", quality=_JPEG_QUALITY, icc_profile=profile)
        elif image.mode in _PNG_MODES:
            image.save(buffer, "PNG", icc_profile=profile)
        else:
            # The profile describes the colours before they are converted.
            image.convert(_NEAREST_MODE.get(image.mode, "RGB")).save(buffer, "PNG", icc_profile=None)
    except Exception as error:
        raise unreadable("The Pillow image", error) from error
    return InMemory(buffer.getvalue())
