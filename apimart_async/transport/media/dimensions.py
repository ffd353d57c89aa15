"""Width and height of an image, from the first bytes of its file, without decoding it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from apimart_async.transport.media import sniffing

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

HEAD_BYTES: Final = 32
"""Enough for every format but JPEG, whose metadata may come before the dimensions."""

_START_OF_FRAME: Final = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})
_STANDALONE: Final = frozenset({0x01, *range(0xD0, 0xD9)})
_FILL: Final = 0xFF
# Before the dimensions. The head of a damaged file may be nothing else, and is read again with each chunk.
_MOST_MARKERS: Final = 1000


def read_dimensions(head: bytes) -> tuple[int, int] | None:
    """Return the width and the height of a JPEG, PNG, WebP or GIF in pixels, before it is turned upright.

    Args:
        head: The beginning of the file.

    Returns:
        ``None`` for other formats, and if more bytes are needed.
    """
    read = _READERS.get(sniffing.identify(head))
    found = None if read is None else read(head)
    return found if found is not None and min(found) > 0 else None


def _png(head: bytes) -> tuple[int, int] | None:
    return _pair(head, 16, 4, "big") if head[12:16] == b"IHDR" else None


def _gif(head: bytes) -> tuple[int, int] | None:
    return _pair(head, 6, 2, "little")


def _webp(head: bytes) -> tuple[int, int] | None:
    match head[12:16]:
        case b"VP8X":
            found = _pair(head, 24, 3, "little")
            return None if found is None else (found[0] + 1, found[1] + 1)
        case b"VP8L" if len(head) >= 25:  # noqa: PLR2004 the four bytes with the dimensions
            bits = int.from_bytes(head[21:25], "little")
            return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        case b"VP8 ":
            found = _pair(head, 26, 2, "little")
            return None if found is None else (found[0] & 0x3FFF, found[1] & 0x3FFF)
        case _:
            return None


def _jpeg(head: bytes) -> tuple[int, int] | None:
    offset = 2
    for _ in range(_MOST_MARKERS):
        if offset + 4 > len(head) or head[offset] != _FILL:
            break
        marker = head[offset + 1]
        if marker == _FILL:
            offset += 1
        elif marker in _STANDALONE:
            offset += 2
        elif marker in _START_OF_FRAME:
            found = _pair(head, offset + 5, 2, "big")
            return None if found is None else (found[1], found[0])
        else:
            offset += 2 + int.from_bytes(head[offset + 2 : offset + 4])
    return None


def _pair(head: bytes, start: int, size: int, order: str) -> tuple[int, int] | None:
    """Return two unsigned integers that follow each other."""
    if len(head) < start + 2 * size:
        return None
    first, second = head[start : start + size], head[start + size : start + 2 * size]
    if order == "big":
        return int.from_bytes(first), int.from_bytes(second)
    return int.from_bytes(first, "little"), int.from_bytes(second, "little")


_READERS: Final[Mapping[sniffing.Kind, Callable[[bytes], tuple[int, int] | None]]] = {
    sniffing.PNG: _png,
    sniffing.GIF: _gif,
    sniffing.WEBP: _webp,
    sniffing.JPEG: _jpeg,
}
