"""``multipart/form-data`` (RFC 7578) as a stream of known length."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import attrs

from apimart_async.transport.media.body_reader import Passage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from apimart_async.transport.media.body_reader import Scratch
    from apimart_async.transport.media.inputs import Media

# As browsers write them inside quotes (WHATWG, "multipart form data"); all else stays as it is, in UTF-8.
_ESCAPES: Final = str.maketrans({'"': "%22", "\r": "%0D", "\n": "%0A", "\0": "%00"})


@attrs.frozen
class Body:
    """A request body that can be sent, and sent again.

    Attributes:
        content_type: MIME type, with the boundary.
        length: Bytes, exactly.
    """

    content_type: str
    length: int
    _begin: Callable[[bytes], Passage]

    def passage(self, before: bytes = b"") -> Passage:
        """Begin a pass over the bytes, from the start at every call.

        Args:
            before: What comes before them, in the first piece.
        """
        return self._begin(before)


def multipart(files: Sequence[tuple[str, Media]], fields: Sequence[tuple[str, str]] = ()) -> Body:
    """Frame files and fields as one form; nothing is read yet.

    Args:
        files: Name of the form field and image of each, in order, after the fields.
        fields: Name and value of each, in order.
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
    length += len(end)

    def begin(before: bytes) -> Passage:
        if not parts:
            return _PartsPassage(parts, before + end)
        (framing, media), *others = parts
        if not others:
            return media.passage(before + framing, end)
        return _PartsPassage([(before + framing, media), *others], end)

    return Body(f"multipart/form-data; boundary={boundary}", length, begin)


def _head(boundary: str, name: str) -> str:
    return f'--{boundary}\r\nContent-Disposition: form-data; name="{name.translate(_ESCAPES)}"'


class _PartsPassage:
    """A pass over one part after the other, the end with the last of them."""

    def __init__(self, parts: Sequence[tuple[bytes, Media]], end: bytes) -> None:
        self._parts = iter(parts)
        self._left = len(parts)
        self._end = end
        self._part: Passage | None = None

    async def read(self, scratch: Scratch) -> bytes | memoryview:
        while self._left:
            if self._part is None:
                framing, media = next(self._parts)
                self._part = media.passage(framing, self._take_end() if self._left == 1 else b"")
            if piece := await self._part.read(scratch):
                return piece
            self.close()
            self._left -= 1
        return self._take_end()

    def _take_end(self) -> bytes:
        end, self._end = self._end, b""
        return end

    def close(self) -> None:
        if self._part is not None:
            self._part.close()
            self._part = None
