"""An image in any form: identified, measured and checked before money is spent."""

from __future__ import annotations

import hashlib
import logging
import os
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, TypeVar

import attrs
from anyio import to_thread

from apimart_async.errors import ImageError, ImageTooLargeError, UnsupportedImageError, visible
from apimart_async.transport.concurrency import file_threads, picture_threads
from apimart_async.transport.media import conversion, data_urls, sniffing
from apimart_async.transport.media.filenames import safe_filename
from apimart_async.transport.media.forms import (
    is_binary_file,
    is_in_store,
    is_named_file,
    is_seekable,
    locate,
)
from apimart_async.transport.media.metadata import without_metadata
from apimart_async.transport.media.pillow_images import is_pillow_image, pixel_digest
from apimart_async.transport.media.sniffing import EndFinder, is_surely_whole
from apimart_async.transport.media.sources import (
    InMemory,
    Source,
    Stored,
    read_in_thread,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from apimart_async import config
    from apimart_async.transport.media.forms import SingleImage

Result = TypeVar("Result")

_log: Final = logging.getLogger("apimart_async.transport")

MAX_UPLOAD_BYTES: Final = 20_971_520
"""The largest file that the service accepts."""

ACCEPTED: Final = frozenset({sniffing.JPEG, sniffing.PNG, sniffing.WEBP, sniffing.GIF})
"""Kinds that the service accepts; it judges by content too."""

_MAX_CONVERTIBLE_BYTES: Final = 256 * 1024 * 1024
_DIGEST_CHUNK_BYTES: Final = 1024 * 1024
_WITH_END: Final = frozenset({sniffing.JPEG, sniffing.PNG, sniffing.WEBP})
"""Kinds whose end is looked for; many GIFs lack theirs, and are whole."""

_END_BYTES: Final = 16
_QUICK_BYTES: Final = 64 * 1024


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
            pixels of a Pillow image, so that the digest does not depend on an encoder; ``None`` if it was
            not computed.
    """

    name: str
    filename: str
    content_type: str
    size: int
    source: Source = attrs.field(repr=False)
    refused_kind: sniffing.Kind | None = None
    limit: int = MAX_UPLOAD_BYTES
    digest: str | None = attrs.field(default=None, repr=False)


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
    result, change = await picture_threads.run(_convert, media, media.refused_kind)
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
    known: Mapping[Stored, str] = MappingProxyType({}),
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
        digest = known.get(media.source) if isinstance(media.source, Stored) else None
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
    if is_in_store(image):
        return await to_thread.run_sync(function)
    if isinstance(image, (str, os.PathLike, bytes)):
        return await file_threads.run(function)
    # A read from a pipe may never return, so cancellation does not wait for it.
    content = image[1] if is_named_file(image) else image
    may_hang = is_binary_file(content) and not is_seekable(content)
    return await to_thread.run_sync(function, abandon_on_cancel=may_hang)


def _examine(image: SingleImage, filename: str | None, limit: int, *, convert: bool) -> Media:
    located = locate(image, limit)
    name, source, size = located.name, located.source, located.source.size
    if size == 0:
        raise ImageError(f"{name} is empty: it has 0 bytes.")
    head = source.read_at(0, min(size, sniffing.HEAD_BYTES))
    kind = sniffing.identify(head)
    is_refused = kind not in ACCEPTED or size > limit
    if is_refused and not (convert and size <= _MAX_CONVERTIBLE_BYTES and conversion.can_decode(kind)):
        raise _refusal(name, kind, size, limit, convert=convert)
    if not is_refused and kind in _WITH_END and not _is_whole(source, kind, head):
        raise ImageError(
            f"{name} is cut short: it is {kind.description} whose end is missing. If it is not all of the "
            "picture, copy it again; otherwise open it and save it anew."
        )
    return Media(
        name,
        safe_filename(filename or located.filename, kind.content_type),
        kind.content_type,
        size,
        source,
        kind if is_refused else None,
        limit,
    )


def _is_whole(source: Source, kind: sniffing.Kind, head: bytes) -> bool:
    """Tell whether an image has an end: an edit of a half of it would be paid for."""
    size = source.size
    tail = head if size == len(head) else source.read_at(size - _END_BYTES, _END_BYTES)
    if is_surely_whole(kind, head, tail, size):
        return True
    end = EndFinder(kind)
    for offset in range(0, size, _DIGEST_CHUNK_BYTES):
        end.feed(source.read_at(offset, min(_DIGEST_CHUNK_BYTES, size - offset)))
        if end.is_found:
            return True
    return False


def _refusal(name: str, kind: sniffing.Kind, size: int, limit: int, *, convert: bool) -> ImageError:
    extra = ""
    if convert and size <= _MAX_CONVERTIBLE_BYTES and conversion.is_convertible(kind):
        decoder = conversion.extra_of(kind)
        extra = f", or let the extra {decoder!r} convert it: pip install '.[{decoder}]' in the clone"
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
