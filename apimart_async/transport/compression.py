"""Pure: gzip and deflate, undone while a body is read, within a size and a ratio.

The client asks for bodies as they are, but gateways compress answers and file hosts keep compressed files all
the same. The content decides more than ``Content-Encoding``, which is often missing or left over.
"""

from __future__ import annotations

import zlib
from typing import Final, Protocol

MAX_RATIO: Final = 200
"""Images compress by a few percent and JSON up to twentyfold; the most that deflate can do is 1,032."""

_FREE_BYTES: Final = 1024 * 1024
# bgzip, which makes the most of them, begins one for each 64 KiB. Empty ones have no end.
_MAX_MEMBERS: Final = 100_000
_MAX_DEPTH: Final = 3
GZIP: Final = b"\x1f\x8b"

HEAD_BYTES: Final = len(GZIP)
"""Bytes by which the coding is recognized."""

PIECE_BYTES: Final = 64 * 1024
"""Bytes that are decompressed at a time: at the highest ratio they become 13 MB."""

_DEFLATE_METHOD: Final = 8
# First bytes of JSON, HTML, PNG, JPEG, WebP and GIF, none of which begins a deflate stream of such content.
_PLAIN: Final = (b"{", b"[", b"<", b"\x89PNG", b"\xff\xd8\xff", b"RIFF", b"GIF8")


class TooLargeError(ValueError):
    """The content has more bytes than allowed."""


class EndedEarlyError(ValueError):
    """The body ended before its compressed content did."""


class _Stream(Protocol):
    """A decompressor of ``zlib``."""

    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int = 0, /) -> bytes: ...


class Decompressor:
    """Undo gzip, also where nothing announces it, and deflate where it is announced.

    Args:
        coding: ``Content-Encoding`` of the body.
        limit: Most bytes of content.
        depth: Number of codings, one around the other, that are undone at most.
    """

    def __init__(self, coding: str, limit: int, depth: int = _MAX_DEPTH) -> None:
        self._coding = coding
        self._limit = limit
        self._depth = depth
        self._held: bytes | None = b""  # the first bytes; None once they were judged
        self._stream: _Stream | None = None
        self._inner: Decompressor | None = None
        self._received = self._made = 0
        self._next = b""  # the first byte behind the end of the stream
        self._members = 1
        self._is_over = False

    def decode(self, data: bytes) -> bytes:
        """Return the content in the next bytes of the body.

        Raises:
            TooLargeError: It has more bytes than the limit.
            ValueError: It is damaged, or compressed more than ``MAX_RATIO`` times.
        """
        if self._held is not None:
            data = self._held + data
            if len(data) < HEAD_BYTES:
                self._held = data
                return b""
            self._held = None
            self._open(data)
        if self._stream is None:
            return data
        content = self._inflate(data)
        return content if self._inner is None else self._inner.decode(content)

    def finish(self) -> bytes:
        """Return the rest of the content at the end of the body.

        Raises:
            EndedEarlyError: The body ended too early.
        """
        if self._stream is None:
            return self._held or b""
        if not self._stream.eof:
            raise EndedEarlyError("the compressed file ended too early")
        return b"" if self._inner is None else self._inner.finish()

    def _open(self, data: bytes) -> None:
        coding = self._coding
        if not self._depth:
            return
        if data.startswith(GZIP):
            self._stream = zlib.decompressobj(16 + zlib.MAX_WBITS)
        elif "deflate" in coding.lower() and not data.lstrip().startswith(_PLAIN):
            coding = ""
            has_header = data[0] & 0xF == _DEFLATE_METHOD and int.from_bytes(data[:2]) % 31 == 0
            # Some servers leave the header of zlib out.
            self._stream = zlib.decompressobj(zlib.MAX_WBITS if has_header else -zlib.MAX_WBITS)
        if self._stream is not None:
            self._inner = Decompressor(coding, self._limit, self._depth - 1)

    def _inflate(self, data: bytes) -> bytes:
        self._received += len(data)
        most = min(self._limit, max(_FREE_BYTES, self._received * MAX_RATIO))
        pieces: list[bytes] = []
        while data and not self._is_over and self._stream is not None:
            if self._stream.eof:
                data, self._next = self._next + data, b""
                if data == GZIP[:1]:
                    self._next = data
                    break
                # Another member may follow, or padding, which is no content.
                self._is_over = not data.startswith(GZIP)
                if not self._is_over:
                    self._members += 1
                    self._stream = zlib.decompressobj(16 + zlib.MAX_WBITS)
                if self._members > _MAX_MEMBERS:
                    raise ValueError(f"it has more than {_MAX_MEMBERS} compressed parts")
                continue
            try:
                piece = self._stream.decompress(data, most - self._made + 1)
            except zlib.error as error:
                raise ValueError(f"its compressed content is damaged: {error}") from error
            self._made += len(piece)
            if self._made > self._limit:
                raise TooLargeError(f"it unpacks to more than {self._limit} bytes")
            if self._made > most:
                raise ValueError(f"it unpacks to more than {MAX_RATIO} times its size")
            pieces.append(piece)
            data = self._stream.unused_data
        return b"".join(pieces)


def decompress(data: bytes, coding: str, limit: int) -> bytes:
    """Return the content of a whole body; of a body that ends too early, the content up to there.

    Raises:
        TooLargeError: It has more bytes than the limit.
        ValueError: It is damaged, or compressed more than ``MAX_RATIO`` times.
    """
    decompressor = Decompressor(coding, limit)
    slices = (data[offset : offset + PIECE_BYTES] for offset in range(0, len(data), PIECE_BYTES))
    return b"".join(map(decompressor.decode, slices))
