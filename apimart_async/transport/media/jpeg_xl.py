"""The number of pixels of a JPEG XL image, read from its header: its decoder allocates them all at once."""

from __future__ import annotations

from typing import Final

_CODESTREAM: Final = b"\xff\x0a"
_SIZES: Final = (9, 13, 18, 30)
"""Bits of a side, after two bits that choose among them."""

_RATIOS: Final = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))
_HEAD_BYTES: Final = 16


def size(content: bytes) -> tuple[int, int]:
    """Return the width and the height of an image, before it is turned upright.

    Args:
        content: The whole file: a codestream, or boxes with one inside.

    Raises:
        ValueError: It has no codestream.
    """
    bits = _Bits(_codestream(content))
    is_small = bits.read(1)
    height = _side(bits, is_small)
    ratio = bits.read(3)
    if not ratio:
        return _side(bits, is_small), height
    width, high = _RATIOS[ratio - 1]
    return height * width // high, height


def _side(bits: _Bits, is_small: int) -> int:
    return (bits.read(5) + 1) * 8 if is_small else bits.read(_SIZES[bits.read(2)]) + 1


class _Bits:
    """Bits from the lowest of the first byte on."""

    def __init__(self, head: bytes) -> None:
        self._rest = int.from_bytes(head, "little")

    def read(self, count: int) -> int:
        found = self._rest & ((1 << count) - 1)
        self._rest >>= count
        return found


def _codestream(content: bytes) -> bytes:
    """Return the first bytes of the codestream behind its mark."""
    start = 0
    while not content.startswith(_CODESTREAM, start):
        head, kind = content[start : start + 4], content[start + 4 : start + 8]
        length, begin = int.from_bytes(head), start + 8
        if length == 1:
            length, begin = int.from_bytes(content[begin : begin + 8]), begin + 8
        if kind in {b"jxlc", b"jxlp"}:
            start = begin if kind == b"jxlc" else begin + 4
            if not content.startswith(_CODESTREAM, start):
                break
        elif start + length < begin or start + length >= len(content):
            break
        else:
            start += length
    else:
        return content[start + len(_CODESTREAM) :][:_HEAD_BYTES]
    raise ValueError("it has no JPEG XL codestream")
