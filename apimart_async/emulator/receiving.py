"""The parts of a multipart body: pictures counted, sniffed and written to disk in pieces; text kept short."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, BinaryIO

from aiohttp import BodyPartReader, MultipartReader, web
from aiohttp.http_exceptions import HttpProcessingError
from attrs import frozen

from .identifiers import ulid
from .replies import bad_request, too_large, unsupported_image
from .settings import UPLOAD_LIMIT
from .sniffing import EXTENSIONS, SNIFF_BYTES, content_type

if TYPE_CHECKING:
    from pathlib import Path

    from .pictures import Pictures

MISSING_FILE = "missing or invalid file field: send the image as one multipart part named file"

_PIECE = 256 * 1024
_BUFFER = 1024 * 1024
_PATIENCE = 4
"""How many times the limit of a file that is too large is read, to tell its size when refusing it."""

_MALFORMED = (AssertionError, ValueError, RuntimeError, HttpProcessingError)


@frozen
class Received:
    """A picture that was kept.

    Attributes:
        digest: Its name among the pictures.
        content_type: What it is, judged by its content.
        size: Its bytes.
        filename: The name the client gave it, untouched.
    """

    digest: str
    content_type: str
    size: int
    filename: str


async def open_parts(request: web.Request) -> MultipartReader:
    """Begin to read a multipart body.

    Raises:
        Refusal: 400, when it is none.
    """
    try:
        return await request.multipart()
    except _MALFORMED as error:
        raise bad_request(MISSING_FILE) from error


async def next_part(reader: MultipartReader) -> BodyPartReader | None:
    """Return the next part, or None after the last.

    Raises:
        Refusal: 400, when the body is malformed.
    """
    try:
        part = await reader.next()
    except _MALFORMED as error:
        raise bad_request(MISSING_FILE) from error
    if isinstance(part, MultipartReader):
        raise bad_request(MISSING_FILE)
    return part


async def receive_picture(part: BodyPartReader, pictures: Pictures, limit: int = UPLOAD_LIMIT) -> Received:
    """Keep the picture in a part.

    Args:
        part: The part.
        pictures: Where it is kept.
        limit: The most bytes it may have.

    Raises:
        Refusal: 400, when it is no accepted picture; 413, when it is too large.
    """
    arriving = _Arriving(pictures.directory / f"arriving-{ulid(0)}", limit)
    try:
        while piece := await _piece(part):
            arriving.take(piece)
            if arriving.size > _PATIENCE * limit:
                break
            if len(arriving.buffer) >= _BUFFER:
                await pictures.in_thread(arriving.flush)
        if arriving.size > limit:
            raise too_large(arriving.size, limit)
        kind = content_type(arriving.head)
        if kind not in EXTENSIONS:
            raise unsupported_image(kind)
        if arriving.file is None:
            digest = await pictures.keep(bytes(arriving.buffer))
        else:
            await pictures.in_thread(arriving.flush)
            digest = arriving.digest.hexdigest()
            await pictures.adopt(arriving.path, digest, arriving.size)
        return Received(digest, kind, arriving.size, part.filename or "")
    finally:
        arriving.close()


async def receive_text(part: BodyPartReader, limit: int) -> str:
    """Read a text part of at most `limit` bytes.

    Raises:
        Refusal: 400, when it is longer or not UTF-8.
    """
    content = bytearray()
    while piece := await _piece(part):
        content += piece
        if len(content) > limit:
            raise bad_request(f"{part.name} is longer than {limit} bytes")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise bad_request(f"{part.name} is not UTF-8") from error


async def _piece(part: BodyPartReader) -> bytes:
    try:
        return bytes(await part.read_chunk(_PIECE))
    except _MALFORMED as error:
        raise bad_request(MISSING_FILE) from error


class _Arriving:
    """What has arrived of a file: the last pieces in memory, those before on disk."""

    def __init__(self, path: Path, limit: int) -> None:
        self.path = path
        self.limit = limit
        self.file: BinaryIO | None = None
        self.buffer = bytearray()
        self.head = b""
        self.size = 0
        self.digest = hashlib.sha256()

    def take(self, piece: bytes) -> None:
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

    def close(self) -> None:
        if self.file is not None:
            self.file.close()
