"""Multipart bodies: images are counted, sniffed and written to disk in pieces; text fields are short."""

from __future__ import annotations

import hashlib
import uuid
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO

import anyio
from aiohttp import BodyPartReader, MultipartReader, web
from attrs import frozen

from .image_store import EXTENSIONS, SNIFF_BYTES, sniff
from .responses import bad_request, too_large, unsupported_image
from .settings import UPLOAD_LIMIT

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from .image_store import ImageStore

MISSING_FILE = "missing or invalid file field: send the image as one multipart part named file"

_PIECE = 256 * 1024
_BUFFER = 1024 * 1024
_MAX_EXCESS = 4
"""How many times its limit is read of a file that is too large, so that the error can state its size."""


@contextmanager
def _refusing_malformed() -> Generator[None]:
    """Answer 400 to a malformed body; aiohttp does not document its exceptions for one."""
    try:
        yield
    except OSError:
        raise  # the client is gone
    except Exception as error:
        raise bad_request(MISSING_FILE) from error


@frozen
class StoredPart:
    """An image part that was stored.

    Attributes:
        digest: Digest of the content.
        content_type: The sniffed MIME type.
        size: Bytes.
        filename: The client's name for the file, unchanged.
    """

    digest: str
    content_type: str
    size: int
    filename: str


async def open_multipart(request: web.Request) -> MultipartReader:
    """Start to read a multipart body.

    Raises:
        ServiceError: 400, for another content type.
    """
    with _refusing_malformed():
        return await request.multipart()


async def next_part(reader: MultipartReader) -> BodyPartReader | None:
    """Return the next part, or None after the last.

    Raises:
        ServiceError: 400, for a malformed body.
    """
    with _refusing_malformed():
        part = await reader.next()
    if isinstance(part, MultipartReader):
        raise bad_request(MISSING_FILE)
    return part


async def store_image(part: BodyPartReader, store: ImageStore, limit: int = UPLOAD_LIMIT) -> StoredPart:
    """Store the image in a part.

    Args:
        part: The part.
        store: The store.
        limit: The most bytes the image may have.

    Raises:
        ServiceError: 400, for a type that is not accepted; 413, when the image is too large.
    """
    receiving = _Receiving(store.directory / f"receiving-{uuid.uuid4().hex}", limit)
    try:
        while piece := await _read_piece(part):
            receiving.add(piece)
            if receiving.size > _MAX_EXCESS * limit:
                break
            if len(receiving.buffer) >= _BUFFER:
                await store.in_thread(receiving.flush)
        if receiving.size > limit:
            raise too_large(receiving.size, limit)
        kind = sniff(receiving.head)
        if kind not in EXTENSIONS:
            raise unsupported_image(kind)
        if receiving.file is None:
            digest = await store.add(bytes(receiving.buffer))
        else:
            await store.in_thread(receiving.flush)
            digest = receiving.digest.hexdigest()
            await store.add_file(receiving.path, digest, receiving.size)
        return StoredPart(digest, kind, receiving.size, part.filename or "")
    finally:
        if receiving.file is not None:
            receiving.file.close()
            with anyio.CancelScope(shield=True):
                await store.in_thread(receiving.path.unlink, missing_ok=True)  # it was refused


async def read_text(part: BodyPartReader, limit: int) -> str:
    """Read a text part of at most `limit` bytes.

    Raises:
        ServiceError: 400, when it is longer or not UTF-8.
    """
    content = bytearray()
    while piece := await _read_piece(part):
        content += piece
        if len(content) > limit:
            raise bad_request(f"{part.name} is longer than {limit} bytes")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise bad_request(f"{part.name} is not UTF-8") from error


async def _read_piece(part: BodyPartReader) -> bytes:
    with _refusing_malformed():
        return bytes(await part.read_chunk(_PIECE))


class _Receiving:
    """A partly received file: the last pieces in memory, the earlier ones on disk."""

    def __init__(self, path: Path, limit: int) -> None:
        self.path = path
        self.limit = limit
        self.file: BinaryIO | None = None
        self.buffer = bytearray()
        self.head = b""
        self.size = 0
        self.digest = hashlib.sha256()

    def add(self, piece: bytes) -> None:
        self.size += len(piece)
        if len(self.head) < SNIFF_BYTES:
            self.head = (self.head + piece)[:SNIFF_BYTES]
        if self.size <= self.limit:
            self.buffer += piece

    def flush(self) -> None:
        if self.file is None:
            self.file = self.path.open("wb", buffering=0)
        self.digest.update(self.buffer)
        self.file.write(self.buffer)
        self.buffer.clear()
