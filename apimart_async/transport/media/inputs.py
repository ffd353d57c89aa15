"""An image in any form: located, identified, measured and checked before money is spent."""

from __future__ import annotations

import base64
import hashlib
import io
import logging
import os
import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeGuard, TypeVar, cast
from urllib.request import url2pathname

import attrs
from anyio import to_thread

from apimart_async.errors import ImageError, ImageTooLargeError, UnsupportedImageError, visible
from apimart_async.models import Upload
from apimart_async.transport.concurrency import run_in_file_thread, run_in_picture_thread
from apimart_async.transport.media import conversion, data_urls, sniffing
from apimart_async.transport.media.filenames import safe_filename
from apimart_async.transport.media.metadata import without_metadata
from apimart_async.transport.media.pillow_images import encode, is_pillow_image, pixel_digest
from apimart_async.transport.media.sources import (
    InMemory,
    InSeekableFile,
    LocalFile,
    Source,
    read_in_thread,
    read_rest,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from apimart_async import config
    from apimart_async.transport.media.pillow_images import PillowImage
    from apimart_async.transport.media.sources import BinaryFile

Result = TypeVar("Result")

_log: Final = logging.getLogger("apimart_async")

MAX_UPLOAD_BYTES: Final = 20_971_520
"""The largest file that the service accepts."""

ACCEPTED: Final = frozenset({sniffing.JPEG, sniffing.PNG, sniffing.WEBP, sniffing.GIF})
"""Kinds that the service accepts; it judges by content too."""

_MAX_CONVERTIBLE_BYTES: Final = 256 * 1024 * 1024
_DIGEST_CHUNK_BYTES: Final = 1024 * 1024
_QUICK_BYTES: Final = 64 * 1024

# A scheme of one letter is a Windows drive.
_SCHEME: Final = re.compile(r"([a-z][a-z0-9+.\-]+)://", re.IGNORECASE)
_FILE_SCHEME: Final = "file://"
_MIME_TYPE: Final = re.compile(r"(application|binary|image)/[A-Za-z0-9.+-]+ *(;.*)?")
_URL_SAFE: Final = str.maketrans("+/", "-_")
_BASE64: Final = re.compile(r"[A-Za-z0-9+/_-]{64}[A-Za-z0-9+/_=\s-]*")
_SHOWN: Final = 120

UrlObject: TypeAlias = Mapping[str, Any]
"""A URL in an object, ``{"url": …}`` or ``{"image_url": …}``, as in requests of services."""

UnnamedImage: TypeAlias = (
    "str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryFile | PillowImage | Upload | UrlObject"
)
"""A path, an ``https://`` or ``data:`` URL, the bytes of a file, a binary file, a Pillow image, an upload,
or a URL in an object."""

NamedFile: TypeAlias = "tuple[str | None, bytes | bytearray | memoryview | BinaryFile, str | None]"
"""Name, content and MIME type, as web frameworks pass files; the content decides the type."""

SingleImage: TypeAlias = "UnnamedImage | NamedFile"
"""An image in any form."""

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
        refused_kind: Kind of an image that has to be converted first, as the service refuses it.
        limit: Most bytes that can be sent.
        digest: SHA-256 of the content in hexadecimal, before a conversion and with its metadata, or of the
            pixels of a Pillow image, so that another encoder does not make another image of it; ``None``
            where nobody has asked for it.
    """

    name: str
    filename: str
    content_type: str
    size: int
    source: Source = attrs.field(repr=False)
    refused_kind: sniffing.Kind | None = None
    limit: int = MAX_UPLOAD_BYTES
    digest: str | None = attrs.field(default=None, repr=False)


def flatten(image: ImageInput) -> list[SingleImage]:
    """Return one image, or a sequence of images, as a list.

    Raises:
        ImageError: The sequence is empty, holds another sequence, or may be meant as a file with its name.
    """
    is_single = isinstance(image, (str, bytes, bytearray, memoryview)) or is_named_file(image)
    if is_single or not isinstance(image, Sequence):
        return [_unwrapped(cast("SingleImage", image))]
    images = cast("list[object]", list(image))
    if not images:
        raise ImageError("The list of images is empty: at least one is needed.")
    is_pair = isinstance(image, tuple) and len(images) == len(("name", "content"))
    if is_pair and isinstance(images[0], str) and is_content(images[1]):
        raise ImageError(
            "A tuple of a text and bytes may be a file with its name or two images: "
            "give (name, content, MIME type) for the file, or a list for the images."
        )
    if any(not is_named_file(each) and isinstance(each, (list, tuple)) for each in images):
        raise ImageError(
            "The list of images holds another list: give one flat list, with named files as "
            "(name, content, MIME type)."
        )
    return [_unwrapped(each) for each in cast("list[SingleImage]", images)]


def _unwrapped(image: SingleImage) -> SingleImage:
    """Return the URL in an object such as ``{"url": …}``, and any other image as it is.

    Raises:
        ImageError: The object holds no ``https://``, ``http://`` or ``data:`` URL.
    """
    if not isinstance(image, Mapping):
        return image
    found: object = image.get("url") or image.get("image_url")
    if isinstance(found, Mapping):
        found = cast("Mapping[str, object]", found).get("url")
    # A path is not taken: such an object may come from somebody else.
    if not isinstance(found, str) or not (data_urls.is_data_url(found) or _SCHEME.match(found)):
        raise ImageError(
            'An image given as an object must hold an https:// or data: URL, {"url": …} or {"image_url": …}.'
        )
    return found


def is_named_file(image: object) -> TypeGuard[NamedFile]:
    """Tell whether a value is a file as web frameworks pass it, and not a tuple of three images."""
    if not isinstance(image, tuple):
        return False
    match cast("tuple[object, ...]", image):
        case (str() | None, content, None | ""):
            return is_content(content)
        case (str() | None, content, str(mime)):
            is_path = mime.lower().endswith(sniffing.EXTENSIONS)
            return is_content(content) and not is_path and _MIME_TYPE.fullmatch(mime) is not None
        case _:
            return False


def is_content(value: object) -> TypeGuard[bytes | bytearray | memoryview | BinaryFile]:
    """Tell whether a value is bytes or a file object."""
    return isinstance(value, (bytes, bytearray, memoryview)) or is_binary_file(value)


def remote_url(image: SingleImage) -> str | None:
    """Return the URL of an image on the web, or ``None`` for an image that has to be sent.

    Raises:
        UnsupportedImageError: The URL has another scheme than ``https:``, ``http:`` and ``data:``.
    """
    image = _unwrapped(image)
    if isinstance(image, Upload):
        return image.url
    scheme = _SCHEME.match(image) if isinstance(image, str) else None
    if not isinstance(image, str) or scheme is None:
        return None
    if scheme.group(1).lower() in {"http", "https"}:
        return image
    advice = "Give a path, or download it first."
    path = image[len(_FILE_SCHEME) :].removeprefix("localhost")
    if scheme.group().lower() == _FILE_SCHEME and path.startswith("/"):
        advice = f"Give the path itself, {shown(url2pathname(path))!r}."
    raise UnsupportedImageError(
        f"{shown(image)} is a {scheme.group()} URL: https://, http:// and data: URLs can be used. {advice}"
    )


async def open_media(
    image: SingleImage | Media,
    *,
    filename: str | None = None,
    limit: int = MAX_UPLOAD_BYTES,
    convert: bool = True,
) -> Media:
    """Check an image that is to be sent, without blocking the event loop.

    Args:
        image: Anything but an upload or an ``http(s)://`` URL. A file object is sent from its position on;
            the position does not move, and the file object is never closed. A Pillow image is sent as JPEG
            when it came from a JPEG file, otherwise as PNG. A checked image is returned as it is.
        filename: Name in the upload; the image's own name by default.
        limit: Most bytes of the image.
        convert: Whether to accept an image that ``as_sent`` makes acceptable.

    Raises:
        UnsupportedImageError: The content is not JPEG, PNG, WebP or GIF, and cannot be converted.
        ImageTooLargeError: The image has more bytes than the limit, and cannot be converted.
        ImageError: The image is missing, empty, not a regular file, or cannot be read.
    """
    if isinstance(image, Media):
        if image.refused_kind is not None and not convert:
            raise _refusal(image.name, image.refused_kind, image.size, image.limit, convert=False)
        return image
    examine = partial(_examine, image, filename, limit, convert=convert)
    if isinstance(image, bytes) and len(image) <= limit:
        kind = sniffing.identify(image[: sniffing.HEAD_BYTES])
        if kind in ACCEPTED or not conversion.is_convertible(kind):
            return examine()
    return await _run_in_thread(examine, image)


async def as_sent(media: Media, options: config.Media) -> Media:
    """Return an image as it is sent: converted if necessary, and without private metadata.

    Two images at once are converted in threads; the metadata of another image is left out while it is read.

    Raises:
        UnsupportedImageError: The image cannot be decoded.
        ImageTooLargeError: The image has more pixels than can be decoded safely.
        ImageError: The image has changed since it was checked, or is in too many pieces.
    """
    if media.refused_kind is None:
        return media if options.keep_metadata else await _without_metadata(media)
    result, change = await run_in_picture_thread(_convert, media, media.refused_kind)
    line = f"{media.name} {change}."
    _log.info("%s", visible(line))
    if options.on_convert is not None:
        options.on_convert(line)
    return result


async def _without_metadata(media: Media) -> Media:
    remove = partial(without_metadata, media.source, media.content_type)
    is_quick = isinstance(media.source, InMemory) and media.size <= _QUICK_BYTES
    source = remove() if is_quick else await read_in_thread(media.source, remove)
    return media if source is media.source else attrs.evolve(media, source=source, size=source.size)


def _convert(media: Media, kind: sniffing.Kind) -> tuple[Media, str]:
    content = media.source.read_at(0, media.size)
    made = conversion.convert(media.name, content, kind, media.limit)
    result = Media(
        media.name,
        f"{Path(media.filename).stem}{made.kind.extension}",
        made.kind.content_type,
        len(made.content),
        InMemory(made.content),
    )
    return result, made.change


async def open_and_digest(
    image: SingleImage | Media,
    known: Mapping[LocalFile, str] = MappingProxyType({}),
    *,
    limit: int = MAX_UPLOAD_BYTES,
    convert: bool = True,
) -> Media:
    """Check an image and compute its digest, in a single call to a thread.

    Args:
        image: As for ``open_media``.
        known: Digests of files that need not be read again.
        limit: Most bytes of the image.
        convert: Whether to accept an image that ``as_sent`` makes acceptable.

    Raises:
        ImageError: As ``open_media``, or the image changed while it was read.
    """

    def examine(image: SingleImage) -> Media:
        media = _examine(image, None, limit, convert=convert)
        if is_pillow_image(image):
            return attrs.evolve(media, digest=pixel_digest(image))
        digest = known.get(media.source) if isinstance(media.source, LocalFile) else None
        return attrs.evolve(media, digest=digest or _digest(media))

    if isinstance(image, Media):
        media = await open_media(image, convert=convert)
        if media.digest is not None:
            return media
        return attrs.evolve(media, digest=await read_in_thread(media.source, partial(_digest, media)))
    if isinstance(image, bytes) and len(image) <= _QUICK_BYTES:
        return examine(image)
    return await _run_in_thread(partial(examine, image), image)


async def _run_in_thread(function: Callable[[], Result], image: SingleImage) -> Result:
    """Call a function that reads an image: in a file thread if it certainly ends soon."""
    if isinstance(image, (str, os.PathLike, bytes)):
        return await run_in_file_thread(function)
    # A read from a pipe may never return, so cancellation does not wait for it.
    content = image[1] if is_named_file(image) else image
    may_hang = is_binary_file(content) and not is_seekable(content)
    return await to_thread.run_sync(function, abandon_on_cancel=may_hang)


def _examine(image: SingleImage, filename: str | None, limit: int, *, convert: bool) -> Media:
    located = locate(image, limit)
    name, source, size = located.name, located.source, located.source.size
    if size == 0:
        raise ImageError(f"{name} is empty: it has 0 bytes.")
    kind = sniffing.identify(source.read_at(0, min(size, sniffing.HEAD_BYTES)))
    is_refused = kind not in ACCEPTED or size > limit
    if is_refused and not (convert and size <= _MAX_CONVERTIBLE_BYTES and conversion.can_decode(kind)):
        raise _refusal(name, kind, size, limit, convert=convert)
    return Media(
        name,
        safe_filename(filename or located.filename, kind.content_type),
        kind.content_type,
        size,
        source,
        kind if is_refused else None,
        limit,
    )


def _refusal(name: str, kind: sniffing.Kind, size: int, limit: int, *, convert: bool) -> ImageError:
    extra = ""
    if convert and size <= _MAX_CONVERTIBLE_BYTES and conversion.is_convertible(kind):
        extra = ", or let the extra 'formats' convert it: pip install '.[formats]' in the clone"
    if kind not in ACCEPTED:
        return UnsupportedImageError(
            f"{name} is {kind.description} ({size:,} bytes). JPEG, PNG, WebP and GIF images of up to "
            f"{limit:,} bytes can be sent: save it as one of these first{extra}."
        )
    return ImageTooLargeError(
        f"{name} is {kind.description} of {size:,} bytes. At most {limit:,} can be sent: "
        f"make it smaller, or save it as JPEG or WebP{extra}."
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
    image = _unwrapped(image)
    if is_named_file(image):
        name, content, _ = image
        located = locate(content, limit)
        return attrs.evolve(located, name=shown(name), filename=name) if name else located
    if isinstance(image, str) and data_urls.is_data_url(image):
        return Located("The data: URL", "image", _decode(image, limit))
    if isinstance(image, (str, os.PathLike)):
        return _locate_path(os.fspath(image))
    if isinstance(image, (bytes, bytearray, memoryview)):
        return Located("The image given as bytes", "image", InMemory(bytes(image)))
    if is_pillow_image(image):
        # Only the stem: the extension follows from the format that the image is written in.
        return Located("The Pillow image", Path(_origin(image, "filename")).stem or "image", encode(image))
    if is_binary_file(image):
        return _locate_file(image, limit)
    raise UnsupportedImageError(
        f"An image cannot be given as {type(image).__name__}: give a path, a URL, the bytes of a file, "
        "a binary file, (name, content, MIME type), a Pillow image or an Upload."
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
    try:
        return Located(name, os.path.basename(text), LocalFile.examine(name, text))
    except ImageError:
        kind = _kind_in_base64(text)
        if kind is None:
            raise
        raise ImageError(
            f"{text[:20]}… is {kind.description} as base64 text, not a path: give base64.b64decode(text), "
            f"or a data: URL, data:{kind.content_type};base64,{text[:20]}…"
        ) from None


def _kind_in_base64(text: str) -> sniffing.Kind | None:
    """Return the kind of the image that a text holds in base64, if it does."""
    if _BASE64.fullmatch(text) is None:
        return None
    kind = sniffing.identify(base64.urlsafe_b64decode(text[:64].translate(_URL_SAFE)))
    return None if kind.extension is None else kind


def _locate_file(file: BinaryFile, limit: int) -> Located:
    path = _origin(file, "name")
    name = f"The file object {shown(path)}" if path else "The file object"
    if isinstance(cast("object", file), io.TextIOBase):
        raise ImageError(f"{name} is open in text mode; open it in binary mode, open(path, 'rb').")
    source = InSeekableFile(name, file) if is_seekable(file) else read_rest(name, file, limit)
    return Located(name, Path(path).name or "image", source)
