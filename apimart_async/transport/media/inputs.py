"""An image in any form: located, identified, measured and checked before money is spent."""

from __future__ import annotations

import hashlib
import io
import os
import re
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, Protocol, TypeAlias, TypeGuard, TypeVar, cast

import attrs
from anyio import to_thread

from apimart_async.errors import ImageError, ImageTooLargeError, UnsupportedImageError
from apimart_async.models import Upload
from apimart_async.transport.concurrency import run_in_file_thread
from apimart_async.transport.media import data_urls, sniffing
from apimart_async.transport.media.filenames import safe_filename
from apimart_async.transport.media.sources import (
    InMemory,
    InSeekableFile,
    LocalFile,
    Source,
    read_rest,
    unreadable,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from apimart_async.transport.media.sources import BinaryFile

Result = TypeVar("Result")

MAX_UPLOAD_BYTES: Final = 20_971_520
"""The largest file that the service accepts."""

ACCEPTED: Final = frozenset({sniffing.JPEG, sniffing.PNG, sniffing.WEBP, sniffing.GIF})
"""Kinds that the service accepts; it judges by content too."""

_DIGEST_CHUNK_BYTES: Final = 1024 * 1024

# A scheme of one letter is a Windows drive.
_SCHEME: Final = re.compile(r"([a-z][a-z0-9+.\-]+)://", re.IGNORECASE)
_SHOWN: Final = 120
_JPEG_QUALITY: Final = 95
_JPEG_FORMATS: Final = frozenset({"JPEG", "MPO"})
_JPEG_MODES: Final = frozenset({"L", "RGB", "CMYK"})
_PNG_MODES: Final = frozenset({"1", "L", "LA", "I;16", "P", "RGB", "RGBA"})
_NEAREST_MODE: Final = {"I": "I;16", "La": "LA", "PA": "RGBA", "RGBa": "RGBA"}


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


SingleImage: TypeAlias = (
    "str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryFile | PillowImage | Upload"
)
"""A path, an ``https://`` or ``data:`` URL, the bytes of a file, a binary file, a Pillow image, an upload."""

ImageInput: TypeAlias = "SingleImage | Sequence[SingleImage]"
"""One image or several."""


@attrs.frozen
class Media:
    """A checked image, ready to be sent repeatedly.

    Attributes:
        name: For messages.
        filename: Name in the upload, plain and safe.
        content_type: MIME type, from the content.
        size: Bytes.
        source: The content.
    """

    name: str
    filename: str
    content_type: str
    size: int
    source: Source = attrs.field(repr=False)


def flatten(image: ImageInput) -> list[SingleImage]:
    """Return one image, or a sequence of images, as a list.

    Raises:
        ImageError: The sequence is empty or holds another sequence.
    """
    if not isinstance(image, Sequence) or isinstance(image, (str, bytes, bytearray, memoryview)):
        return [cast("SingleImage", image)]
    images = list(image)
    if not images:
        raise ImageError("The list of images is empty: at least one is needed.")
    if any(isinstance(cast("object", each), (list, tuple)) for each in images):
        raise ImageError("The list of images holds another list: give one flat list.")
    return images


def remote_url(image: SingleImage) -> str | None:
    """Return the URL of an image on the web, or ``None`` for an image that has to be sent.

    Raises:
        UnsupportedImageError: The URL has another scheme than ``https:``, ``http:`` and ``data:``.
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
    """Check an image that is to be sent, without blocking the event loop.

    Args:
        image: Anything but an upload or an ``http(s)://`` URL. A file object is sent from its position on;
            the position does not move, and the file object is never closed. A Pillow image is sent as JPEG
            when it came from a JPEG file, otherwise as PNG. A checked image is returned as it is.
        filename: Name in the upload; the image's own name by default.
        limit: Most bytes of the image.

    Raises:
        UnsupportedImageError: The content is not JPEG, PNG, WebP or GIF.
        ImageTooLargeError: The image has more bytes than the limit.
        ImageError: The image is missing, empty, not a regular file, or cannot be read.
    """
    if isinstance(image, Media):
        return image
    if isinstance(image, bytes):
        return _examine(image, filename, limit)
    return await _run_in_thread(partial(_examine, image, filename, limit), image)


async def open_and_digest(
    image: SingleImage, known: Mapping[LocalFile, str], *, limit: int = MAX_UPLOAD_BYTES
) -> tuple[Media, str]:
    """Check an image and compute its digest, in a single call to a thread.

    Args:
        image: As for ``open_media``.
        known: Digests of files that need not be read again.
        limit: Most bytes of the image.

    Returns:
        The checked image, and the SHA-256 of its content in hexadecimal.

    Raises:
        ImageError: As ``open_media``, or the image changed while it was read.
    """

    def examine() -> tuple[Media, str]:
        media = _examine(image, None, limit)
        digest = known.get(media.source) if isinstance(media.source, LocalFile) else None
        return media, digest or _digest(media)

    return await _run_in_thread(examine, image)


async def _run_in_thread(function: Callable[[], Result], image: SingleImage) -> Result:
    """Call a function that reads an image: in a file thread if it certainly ends soon."""
    if isinstance(image, (str, os.PathLike, bytes)):
        return await run_in_file_thread(function)
    # A read from a pipe may never return, so cancellation does not wait for it.
    may_hang = is_binary_file(image) and not is_seekable(image)
    return await to_thread.run_sync(function, abandon_on_cancel=may_hang)


def _examine(image: SingleImage, filename: str | None, limit: int) -> Media:
    located = locate(image, limit)
    name, source, size = located.name, located.source, located.source.size
    if size == 0:
        raise ImageError(f"{name} is empty: it has 0 bytes.")
    kind = sniffing.identify(source.read_at(0, min(size, sniffing.HEAD_BYTES)))
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
        name,
        safe_filename(filename or located.filename, kind.content_type),
        kind.content_type,
        size,
        source,
    )


def _digest(media: Media) -> str:
    sha256 = hashlib.sha256()
    for offset in range(0, media.size, _DIGEST_CHUNK_BYTES):
        sha256.update(media.source.read_at(offset, min(_DIGEST_CHUNK_BYTES, media.size - offset)))
    return sha256.hexdigest()


async def data_url(media: Media) -> str:
    """Return the image as a ``data:`` URL, to be sent inside a request.

    Raises:
        ImageError: The image can no longer be read or has changed since it was checked.
    """

    def encode() -> str:
        return data_urls.encode(media.source.read_at(0, media.size), media.content_type)

    return await to_thread.run_sync(encode)


@attrs.frozen
class Located:
    """An image whose content was found, but not checked.

    Attributes:
        name: For messages.
        filename: The image's own name; ``"image"`` when it has none.
        source: The content.
    """

    name: str
    filename: str
    source: Source


def locate(image: SingleImage, limit: int) -> Located:
    """Find the content of an image; blocks.

    Args:
        image: Anything but an upload or an ``http(s)://`` URL.
        limit: Most bytes of a pipe or a ``data:`` URL, which have to be read to be measured.

    Raises:
        UnsupportedImageError: The value is none of the supported forms.
        ImageTooLargeError: The image is a pipe or a ``data:`` URL and holds more than the limit.
        ImageError: The image cannot be read.
    """
    if isinstance(image, str) and data_urls.is_data_url(image):
        return Located("The data: URL", "image", _decode(image, limit))
    if isinstance(image, (str, os.PathLike)):
        return _locate_path(os.fspath(image))
    if isinstance(image, (bytes, bytearray, memoryview)):
        return Located("The image given as bytes", "image", InMemory(bytes(image)))
    if _is_pillow_image(image):
        # Only the stem: the extension follows from the format that the image is written in.
        return Located("The Pillow image", Path(_origin(image, "filename")).stem or "image", _encode(image))
    if is_binary_file(image):
        return _locate_file(image, limit)
    raise UnsupportedImageError(
        f"An image cannot be given as {type(image).__name__}: give a path, a URL, the bytes of a file, "
        "a binary file, a Pillow image or an Upload."
    )


def shown(text: str) -> str:
    """Return a name for a message: printable, and cut in the middle when it is long."""
    printable = text
    if not text.isprintable():
        printable = "".join(character if character.isprintable() else "�" for character in text)
    half = _SHOWN // 2
    return printable if len(printable) <= _SHOWN else f"{printable[:half]}…{printable[-half:]}"


def is_binary_file(image: object) -> TypeGuard[BinaryFile]:
    """Tell whether an object has a ``read`` method, as binary and text files have."""
    return callable(getattr(image, "read", None))


def is_seekable(file: object) -> bool:
    """Tell whether a file object can be rewound."""
    seekable = getattr(file, "seekable", None)
    try:
        return bool(seekable()) if callable(seekable) else False
    except Exception:  # noqa: BLE001 a closed file, for example: reading it gives the reason
        return False


def _is_pillow_image(image: object) -> TypeGuard[PillowImage]:
    # There is no Pillow image in a process that has not imported Pillow.
    pillow = sys.modules.get("PIL.Image")
    return pillow is not None and isinstance(image, pillow.Image)


def _origin(image: object, attribute: str) -> str:
    """Return the path that a file object or a Pillow image came from; some have a number there instead."""
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
    return Located(name, os.path.basename(text), LocalFile.examine(name, text))


def _locate_file(file: BinaryFile, limit: int) -> Located:
    path = _origin(file, "name")
    name = f"The file object {shown(path)}" if path else "The file object"
    if isinstance(cast("object", file), io.TextIOBase):
        raise ImageError(f"{name} is open in text mode; open it in binary mode, open(path, 'rb').")
    source = InSeekableFile(name, file) if is_seekable(file) else read_rest(name, file, limit)
    return Located(name, Path(path).name or "image", source)


def _encode(image: PillowImage) -> InMemory:
    """Encode a Pillow image: as JPEG when it came from a JPEG file and its mode allows, otherwise as PNG."""
    buffer = io.BytesIO()
    try:
        profile = image.info.get("icc_profile")
        if image.format in _JPEG_FORMATS and image.mode in _JPEG_MODES:
            image.save(buffer, "JPEG", quality=_JPEG_QUALITY, icc_profile=profile)
        elif image.mode in _PNG_MODES:
            image.save(buffer, "PNG", icc_profile=profile)
        else:
            # The profile describes the colours before the conversion.
            image.convert(_NEAREST_MODE.get(image.mode, "RGB")).save(buffer, "PNG", icc_profile=None)
    except Exception as error:
        raise unreadable("The Pillow image", error) from error
    return InMemory(buffer.getvalue())
