"""The end of an image in its bytes, so that a file that was cut short is never taken for a whole one.

The blocks of JPEG, PNG, WebP and GIF are followed to the end marker. A search for the marker alone would find
the end of a thumbnail inside the image, and miss the end of an image with other bytes behind it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Mapping
from typing import Final, TypeAlias

from apimart_async.transport.media import sniffing

_Walk: TypeAlias = Generator[int | None, bytes, None]
"""Yields the number of bytes to read, a negative number of bytes to skip, or ``None`` for a JPEG marker."""

_MARKER: Final = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
"""A JPEG marker; inside of a scan, a byte 0xFF is followed by 0, and restart markers have no content."""

_END_OF_IMAGE: Final = b"\xd9"
_WITHOUT_LENGTH: Final = frozenset({b"\x01", b"\xd8"})
_TABLE_FLAG: Final = 0x80
_TABLE_SIZE: Final = 0x07

# A file ends in these bytes by chance only inside of a JPEG thumbnail.
_LAST_BYTES: Final = {sniffing.PNG: b"IEND\xaeB`\x82", sniffing.JPEG: b"\xff\xd9"}


class EndFinder:
    """Finds the end of an image while its chunks pass by.

    Args:
        kind: Kind of the image.

    Attributes:
        is_found: Whether the end has passed; always true for formats without an end marker.
    """

    def __init__(self, kind: sniffing.Kind) -> None:
        walk = _WALKS.get(kind)
        self.is_found: bool = walk is None
        self._rest = b""
        if walk is not None:
            self._walk = walk()
            self._wanted = next(self._walk)

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes of the file."""
        data, self._rest = self._rest + chunk, b""
        start = 0
        while not self.is_found:
            wanted = self._wanted
            if wanted is None:
                # A search for one byte is far quicker than one for the pattern.
                first = data.find(b"\xff", start)
                marker = _MARKER.search(data, first) if first >= 0 else None
                if marker is None:
                    self._rest = b"\xff" if data.endswith(b"\xff") and start < len(data) else b""
                    return
                start, piece = marker.end(), data[marker.end() - 1 : marker.end()]
            elif wanted > 0:
                if start + wanted > len(data):
                    self._rest = data[start:]
                    return
                start, piece = start + wanted, data[start : start + wanted]
            else:
                start, piece = start - wanted, b""
                if start > len(data):
                    self._wanted = len(data) - start
                    return
            try:
                self._wanted = self._walk.send(piece)
            except StopIteration:
                self.is_found = True


def is_surely_whole(kind: sniffing.Kind, head: bytes, tail: bytes, size: int) -> bool:
    """Tell whether a file is whole, as far as its beginning and its last bytes say.

    Args:
        kind: Kind of the image.
        head: At least its first 8 bytes.
        tail: At least its last 8 bytes.
        size: Its number of bytes.

    Returns:
        ``False`` for a file that only ``EndFinder`` can judge.
    """
    if kind is sniffing.WEBP:
        return size >= int.from_bytes(head[4:8], "little") + 8
    last = _LAST_BYTES.get(kind)
    return last is not None and tail.endswith(last)


def _png() -> _Walk:
    yield -8
    while True:
        head = yield 8
        yield -int.from_bytes(head[:4]) - 4  # with the checksum
        if head[4:] == b"IEND":
            return


def _jpeg() -> _Walk:
    yield -2
    while (marker := (yield None)) != _END_OF_IMAGE:
        if marker not in _WITHOUT_LENGTH:
            length = int.from_bytes((yield 2))
            yield min(0, 2 - length)


def _webp() -> _Walk:
    head = yield 8
    yield -int.from_bytes(head[4:8], "little")


def _gif() -> _Walk:
    head = yield 13
    yield -_table_bytes(head[10])
    while (block := (yield 1)) != b";":
        if block == b",":
            head = yield 9
            yield -_table_bytes(head[8]) - 1  # with the size of the codes
        elif block == b"!":
            yield -1
        else:
            continue  # decoders ignore other bytes between two blocks
        while size := (yield 1)[0]:
            yield -size


def _table_bytes(flags: int) -> int:
    """Return the size of a colour table from the byte that describes it."""
    return 3 << (flags & _TABLE_SIZE) + 1 if flags & _TABLE_FLAG else 0


_WALKS: Final[Mapping[sniffing.Kind, Callable[[], _Walk]]] = {
    sniffing.PNG: _png,
    sniffing.JPEG: _jpeg,
    sniffing.WEBP: _webp,
    sniffing.GIF: _gif,
}
