"""``multipart/form-data`` (RFC 7578) as a stream of known length."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import attrs

from apimart_async.transport.media.inputs import Media
from apimart_async.transport.media.sources import InMemory, Parts, Source, read_in_thread

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

CHUNK_BYTES: Final = 512 * 1024

# As browsers escape names inside quotes (WHATWG, "multipart form data"); all else stays as it is, in UTF-8.
_ESCAPES: Final = str.maketrans({'"': "%22", "\r": "%0D", "\n": "%0A", "\0": "%00"})


@attrs.frozen
class Body:
    """A request body that can be sent repeatedly.

    Attributes:
        content_type: MIME type, with the boundary.
        length: Exact number of bytes.
    """

    content_type: str
    length: int
    _parts: Sequence[tuple[bytes, Media]]
    _end: bytes

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """Yield the body from its start, in chunks of up to 512 KiB and the framing around them.

        No file stays open between two chunks.

        Raises:
            ImageError: An image can no longer be read or has changed since it was checked. Each chunk is
                checked before it is yielded, so a changed file never arrives whole.
        """
        if not self._parts:
            yield self._end
        last_part = len(self._parts) - 1
        for number, (head, media) in enumerate(self._parts):
            for offset in range(0, media.size, CHUNK_BYTES):
                size = min(CHUNK_BYTES, media.size - offset)
                before = b"" if offset else head
                after = self._end if number == last_part and offset + size == media.size else b""
                yield await _read_chunk(media.source, offset, size, before, after)


async def _read_chunk(source: Source, offset: int, size: int, before: bytes, after: bytes) -> bytes:
    """Return a part of an image and its framing; a file is read in a file thread."""

    def read() -> bytes:
        content = source.read_at(offset, size)
        return b"".join((before, content, after)) if before or after else content

    origin = source.origin if isinstance(source, Parts) else source
    return read() if isinstance(origin, InMemory) else await read_in_thread(source, read)


def multipart(files: Sequence[tuple[str, Media]], fields: Sequence[tuple[str, str]] = ()) -> Body:
    """Frame files and fields as one form; nothing is read yet.

    Args:
        files: Name of the form field and image of each file, in order, after the fields.
        fields: Name and value of each field, in order.
    """
    boundary = os.urandom(16).hex()
    before = b"".join(
        f"{_head(boundary, name)}\r\n\r\n{value}\r\n".encode(errors="replace") for name, value in fields
    )
    parts: list[tuple[bytes, Media]] = []
    length = 0
    for name, media in files:
        head = f'{_head(boundary, name)}; filename="{media.filename.translate(_ESCAPES)}"\r\n'
        framing = before + f"{head}Content-Type: {media.content_type}\r\n\r\n".encode(errors="replace")
        parts.append((framing, media))
        length += len(framing) + media.size
        before = b"\r\n"
    end = before + f"--{boundary}--\r\n".encode()
    return Body(f"multipart/form-data; boundary={boundary}", length + len(end), parts, end)


def _head(boundary: str, name: str) -> str:
    return f'--{boundary}\r\nContent-Disposition: form-data; name="{name.translate(_ESCAPES)}"'
