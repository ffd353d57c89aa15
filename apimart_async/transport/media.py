"""An image, whatever it comes as, to bytes on the wire: recognised, measured and checked before that."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from typing import IO, TYPE_CHECKING, Any, Final, Protocol, TypeAlias, TypeGuard, cast

import attrs
from anyio import to_thread

from apimart_async.errors import ImageError, ImageTooLargeError, UnsupportedImageError
from apimart_async.models import Upload
from apimart_async.transport import dataurl, sniff
from apimart_async.transport.disk import on_disk
from apimart_async.transport.folder import folder_at
from apimart_async.transport.inputs import is_binary_file, is_seekable, locate, shown
from apimart_async.transport.naming import safe_filename
from apimart_async.transport.passage import FilePassage, OtherPassage
from apimart_async.transport.sources import OnDisk, Source

if TYPE_CHECKING:
    from apimart_async.transport.passage import Passage
    from apimart_async.transport.sources import BinaryFile

MAX_UPLOAD_BYTES: Final = 20_971_520
"""The largest file the service takes."""

ACCEPTED: Final = frozenset({sniff.JPEG, sniff.PNG, sniff.WEBP, sniff.GIF})
"""What the service takes; it too judges by content."""

_HASHED_BYTES: Final = 256 * 1024

# A scheme of one letter is a Windows drive.
_SCHEME: Final = re.compile(r"([a-z][a-z0-9+.\-]+)://", re.IGNORECASE)


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
    if isinstance(image, str) and dataurl.is_data_url(image):
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
    kind = sniff.identify(source.beginning(sniff.HEAD_BYTES))
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
        return dataurl.encode(media.source.read_at(0, media.size), media.content_type)

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
