"""An image, whatever it comes as: located, recognised, measured and checked before money is spent."""

from __future__ import annotations

import hashlib
import io
import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, Protocol, TypeAlias, TypeGuard, cast

import attrs
from anyio import to_thread

from apimart_async.errors import ImageError, ImageTooLargeError, UnsupportedImageError
from apimart_async.models import Upload
from apimart_async.transport.files.folder import folder_at
from apimart_async.transport.files.names import safe_filename
from apimart_async.transport.files.threads import on_disk
from apimart_async.transport.media import data_urls, sniffing
from apimart_async.transport.media.body_reader import FilePassage, OtherPassage
from apimart_async.transport.media.sources import (
    InMemory,
    InSeekableFile,
    OnDisk,
    Source,
    read_rest,
    unreadable,
)

if TYPE_CHECKING:
    from apimart_async.transport.media.body_reader import Passage
    from apimart_async.transport.media.sources import BinaryFile

MAX_UPLOAD_BYTES: Final = 20_971_520
"""The largest file the service takes."""

ACCEPTED: Final = frozenset({sniffing.JPEG, sniffing.PNG, sniffing.WEBP, sniffing.GIF})
"""What the service takes; it too judges by content."""

_HASHED_BYTES: Final = 256 * 1024

# A scheme of one letter is a Windows drive.
_SCHEME: Final = re.compile(r"([a-z][a-z0-9+.\-]+)://", re.IGNORECASE)
_SHOWN: Final = 120
_JPEG_QUALITY: Final = 95
_JPEG_FORMATS: Final = frozenset({"JPEG", "MPO"})
_JPEG_MODES: Final = frozenset({"L", "RGB", "CMYK"})
_PNG_MODES: Final = frozenset({"1", "L", "LA", "I;16", "P", "RGB", "RGBA"})
_NEAREST_MODE: Final = {"I": "I;16", "La": "LA", "PA": "RGBA", "RGBa": "RGBA"}


class PillowImage(Protocol):
    """What is used of a ``PIL.Image.Image``, so that Pillow need not be installed."""

    @property
    def format(self) -> str | None:
        """What kind of file it came from."""
        ...

    @property
    def mode(self) -> str:
        """How its pixels are stored."""
        ...

    @property
    def info(self) -> Mapping[Any, Any]:
        """What its file said besides pixels."""
        ...

    def convert(self, mode: str) -> PillowImage:
        """Return it with its pixels stored in another way."""
        ...

    def save(self, fp: IO[bytes], format: str | None = None, **params: Any) -> None:  # noqa: A002, ANN401
        """Write it as a file."""
        ...


SingleImage: TypeAlias = (
    "str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryFile | PillowImage | Upload"
)
"""A path, an ``https://`` or ``data:`` URL, the bytes of a file, a binary file, a Pillow image, an upload."""

ImageInput: TypeAlias = "SingleImage | Sequence[SingleImage]"
"""One image or several."""


@attrs.frozen
class Media:
    """An image that was checked and can be sent, as often as needed.

    Attributes:
        name: What messages call it.
        filename: What it is called on the wire: plain and safe.
        content_type: MIME type, from its content.
        size: Bytes.
        source: Where they are.
    """

    name: str
    filename: str
    content_type: str
    size: int
    source: Source = attrs.field(repr=False)

    def passage(self, head: bytes = b"", tail: bytes = b"") -> Passage:
        """Begin a pass over the content, from its start, in pieces of up to 512 KiB.

        Nothing waits for a disk on the event loop.

        Args:
            head: Comes before the content, in its first piece: a write less, and no tiny packets.
            tail: Comes after it, in its last.
        """
        source = self.source
        if isinstance(source, OnDisk):
            return FilePassage(source, head, tail)
        return OtherPassage(source, head, tail)


def flatten(image: ImageInput) -> list[SingleImage]:
    """Return one image, or a sequence of them, as a list.

    Raises:
        ImageError: The sequence is empty, or holds another one.
    """
    if not _is_sequence(image):
        return [cast("SingleImage", image)]
    images = list(image)
    if not images:
        raise ImageError("The list of images is empty: at least one is needed.")
    if any(isinstance(cast("object", each), (list, tuple)) for each in images):
        raise ImageError("The list of images holds another list: give one flat list.")
    return images


def _is_sequence(image: ImageInput) -> TypeGuard[Sequence[SingleImage]]:
    return isinstance(image, Sequence) and not isinstance(image, (str, bytes, bytearray, memoryview))


def remote_url(image: SingleImage) -> str | None:
    """Return the address of an image that is on the web already, or ``None`` for one that has to be sent.

    Raises:
        UnsupportedImageError: It is a URL of another kind than ``https:``, ``http:`` and ``data:``.
    """
    if isinstance(image, Upload):
        return image.url
    scheme = _SCHEME.match(image) if isinstance(image, str) else None
    if not isinstance(image, str) or scheme is None:
        return None
    if scheme.group(1).lower() in {"http", "https"}:
        return image
    raise UnsupportedImageError(
        f"{shown(image)} is a {scheme.group()} URL: https://, http:// and data: URLs can be used. "
        "Give a path, or download it first."
    )


async def open_media(
    image: SingleImage | Media, *, filename: str | None = None, limit: int = MAX_UPLOAD_BYTES
) -> Media:
    """Check an image that is to be sent, without making others wait.

    Args:
        image: Anything but an upload or an ``http(s)://`` URL. A file object is sent from its position on,
            which does not move, and is never closed. A Pillow image is sent as JPEG when it came from one,
            otherwise as PNG. One that was checked before is returned as it is.
        filename: What to call it on the wire; by default what it is called where it comes from.
        limit: Most bytes it may have.

    Raises:
        UnsupportedImageError: It is not JPEG, PNG, WebP or GIF, judged by its content.
        ImageTooLargeError: It has more than the limit.
        ImageError: It is missing, empty, not a regular file, or cannot be read.
    """
    if isinstance(image, Media):
        return image
    if isinstance(image, bytes):
        return _examine(image, filename, limit)
    if isinstance(image, str) and data_urls.is_data_url(image):
        return await on_disk(_examine, image, filename, limit)
    if isinstance(image, (str, os.PathLike)):
        path = os.fsdecode(image)
        return await folder_at(os.path.dirname(path)).call(_examine, path, filename, limit)
    # A pipe may never give anything, so a cancelled caller does not wait for it; all else ends by itself.
    may_hang = is_binary_file(image) and not is_seekable(image)
    return await to_thread.run_sync(_examine, image, filename, limit, abandon_on_cancel=may_hang)


def _examine(image: SingleImage, filename: str | None, limit: int) -> Media:
    located = locate(image, limit)
    name, source, size = located.name, located.source, located.source.size
    if size == 0:
        raise ImageError(f"{name} is empty: it has 0 bytes.")
    kind = sniffing.identify(source.beginning(sniffing.HEAD_BYTES))
    if kind not in ACCEPTED:
        raise UnsupportedImageError(
            f"{name} is {kind.description} ({size:,} bytes). JPEG, PNG, WebP and GIF images of up to "
            f"{limit:,} bytes can be sent: save it as one of these first."
        )
    if size > limit:
        raise ImageTooLargeError(
            f"{name} is {kind.description} of {size:,} bytes. At most {limit:,} can be sent: "
            "make it smaller, or save it as JPEG or WebP."
        )
    return Media(
        name, safe_filename(filename or located.called, kind.content_type), kind.content_type, size, source
    )


async def data_url(media: Media) -> str:
    """Return the image as a ``data:`` URL, to be sent inside a request.

    Raises:
        ImageError: It can no longer be read or has changed since it was checked.
    """

    def encode() -> str:
        return data_urls.encode(media.source.read_at(0, media.size), media.content_type)

    return await to_thread.run_sync(encode)


async def digest(media: Media) -> str:
    """Return the SHA-256 of the content, in hexadecimal.

    Raises:
        ImageError: It can no longer be read or has changed since it was checked.
    """

    def hash_all() -> str:
        sha256 = hashlib.sha256()
        for offset in range(0, media.size, _HASHED_BYTES):
            sha256.update(media.source.read_at(offset, min(_HASHED_BYTES, media.size - offset)))
        return sha256.hexdigest()

    return await to_thread.run_sync(hash_all)


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
    if isinstance(image, str) and data_urls.is_data_url(image):
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
    if data_urls.least_size(url) > limit:
        raise ImageTooLargeError(
            f"The data: URL holds more than {data_urls.least_size(url):,} bytes; "
            f"at most {limit:,} can be sent."
        )
    try:
        return InMemory(data_urls.decode(url))
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
