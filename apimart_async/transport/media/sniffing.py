"""The kind of a file, and whether an image is whole, judged by its bytes.

Names and declared types are often wrong, first bytes seldom.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Mapping
from typing import Final, Literal, TypeAlias

import attrs

HEAD_BYTES: Final = 512
"""The number of first bytes that `identify` uses at most."""


@attrs.frozen(eq=False)
class Kind:
    """A kind of file; each is one object.

    Attributes:
        description: Fits into a sentence after "is", for example ``"a PNG image"``.
        content_type: MIME type.
        extension: With its dot; ``None`` for a file that is not an image.
    """

    description: str
    content_type: str
    extension: str | None = None


JPEG: Final = Kind("a JPEG image", "image/jpeg", ".jpg")
PNG: Final = Kind("a PNG image", "image/png", ".png")
WEBP: Final = Kind("a WebP image", "image/webp", ".webp")
GIF: Final = Kind("a GIF image", "image/gif", ".gif")
AVIF: Final = Kind("an AVIF image", "image/avif", ".avif")
HEIC: Final = Kind("a HEIC photo", "image/heic", ".heic")
TIFF: Final = Kind("a TIFF image", "image/tiff", ".tiff")
BMP: Final = Kind("a BMP image", "image/bmp", ".bmp")
JXL: Final = Kind("a JPEG XL image", "image/jxl", ".jxl")
JPEG_2000: Final = Kind("a JPEG 2000 image", "image/jp2", ".jp2")
SVG: Final = Kind("an SVG drawing", "image/svg+xml", ".svg")
"""A result only: services draw SVG, and take none."""

PSD: Final = Kind("a Photoshop document", "image/vnd.adobe.photoshop")
RAW: Final = Kind("a raw photo of a camera", "image/x-dcraw")

IMAGES: Final = (JPEG, PNG, WEBP, GIF, AVIF, HEIC, TIFF, BMP, JXL, JPEG_2000)
EXTENSIONS: Final = tuple(kind.extension for kind in IMAGES if kind.extension)
RESULT_EXTENSIONS: Final = (*EXTENSIONS[:5], ".svg")
"""Extensions of the formats that services return."""

UNKNOWN: Final = Kind("not an image of any known kind", "application/octet-stream")

_EPS: Final = Kind("a PostScript drawing", "application/postscript")

_BEGINNINGS: Final = (
    (b"\xff\xd8\xff", JPEG),
    (b"\x89PNG\r\n\x1a\n", PNG),
    (b"GIF87a", GIF),
    (b"GIF89a", GIF),
    (b"II*\x00", TIFF),
    (b"MM\x00*", TIFF),
    (b"\xff\x0a", JXL),
    (b"\x00\x00\x00\x0cJXL \r\n\x87\n", JXL),
    (b"\x00\x00\x00\x0cjP  \r\n\x87\n", JPEG_2000),
    (b"%PDF-", Kind("a PDF", "application/pdf")),
    (b"%!PS", _EPS),
    (b"\xc5\xd0\xd3\xc6", _EPS),
    (b"8BPS", PSD),
    (b"\x00\x00\x01\x00", Kind("an icon", "image/x-icon")),
    (b"PK\x03\x04", Kind("a ZIP archive", "application/zip")),
    (b"\x1f\x8b", Kind("a gzip archive", "application/gzip")),
    (b"\x1aE\xdf\xa3", Kind("a video", "video/webm")),
)

_BRANDS: Final = {
    **dict.fromkeys((b"avif", b"avis"), AVIF),
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"), HEIC),
}
_NEW_SUBFILE_TYPE: Final = 254
_SHORT: Final = 3

_GENERAL_BRANDS: Final = frozenset({b"mif1", b"msf1"})
"""Brands of AVIF and HEIC alike; a more specific one follows."""

_SVG_BEGINNINGS: Final = (b"<svg", b"<?xml", b"<!doctype svg", b"<!--")
_TEXT: Final = Kind("text", "text/plain")
_TEXTS: Final = (
    ((b"<!doctype html", b"<html", b"<head", b"<body"), Kind("an HTML page", "text/html")),
    ((b"{", b"["), Kind("JSON", "application/json")),
    ((b"<?xml",), Kind("XML", "application/xml")),
)
_NOT_TEXT: Final = bytes(set(range(0x20)) - set(b"\t\n\r\f\x1b"))


def identify(head: bytes) -> Kind:
    """Return the kind of a file from its first bytes.

    Args:
        head: The beginning of the file; 32 bytes are enough for an image, `HEAD_BYTES` for a text.

    Returns:
        One of `IMAGES`, another kind that people mistake for an image, or `UNKNOWN`.
    """
    for beginning, kind in _BEGINNINGS:
        if head.startswith(beginning):
            return RAW if kind is TIFF and _is_raw(head) else kind
    if head[:4] == b"RIFF":
        return WEBP if head[8:12] == b"WEBP" else UNKNOWN
    if head[4:8] == b"ftyp":
        is_avif = head[8:12] in _GENERAL_BRANDS and b"avif" in head[16 : int.from_bytes(head[:4])]
        return AVIF if is_avif else _BRANDS.get(head[8:12], Kind("a video", "video/mp4"))
    # Two letters alone would be any text that begins with "BM"; the reserved bytes are always zero.
    if head[:2] == b"BM" and head[6:10] == bytes(4):
        return BMP
    return _identify_text(head[:HEAD_BYTES])


def _is_raw(head: bytes) -> bool:
    """Tell whether a TIFF is a raw photo, of which only a thumbnail would be decoded.

    Its first image is marked as a smaller version of another one in the file, in the first of its fields.
    """
    order: Literal["little", "big"] = "little" if head.startswith(b"II") else "big"
    if head[8:10] == b"CR":  # Canon
        return True
    start = int.from_bytes(head[4:8], order) + 2
    field, kind, value = head[start : start + 2], head[start + 2 : start + 4], head[start + 8 : start + 12]
    if int.from_bytes(field, order) != _NEW_SUBFILE_TYPE:
        return False
    number = value[:2] if int.from_bytes(kind, order) == _SHORT else value
    return bool(int.from_bytes(number, order) & 1)


def _identify_text(head: bytes) -> Kind:
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if not text or text.translate(None, _NOT_TEXT) != text:
        return UNKNOWN
    try:
        head.decode("utf-8")
    except UnicodeDecodeError as error:
        # A character cut in two at the end of the head is still text.
        if error.end < len(head):
            return UNKNOWN
    # A page may contain drawings.
    if b"<svg" in text and text.startswith(_SVG_BEGINNINGS) and b"<html" not in text:
        return SVG
    return next((kind for beginning, kind in _TEXTS if text.startswith(beginning)), _TEXT)


# --- the end of an image ------------------------------------------------------------------------------------
# A file that was cut short is never taken for a whole one. The blocks of JPEG, PNG, WebP and GIF are followed
# to the end marker: a search for the marker alone would find the end of a thumbnail inside the image, and
# miss the end of an image with other bytes behind it.

_Walk: TypeAlias = Generator[int | None, bytes, None]
"""Yields the number of bytes to read, a negative number of bytes to skip, or ``None`` for a JPEG marker."""

_MARKER: Final = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
"""A JPEG marker; inside of a scan, a byte 0xFF is followed by 0, and restart markers have no content."""

_END_OF_IMAGE: Final = b"\xd9"
_WITHOUT_LENGTH: Final = frozenset({b"\x01", b"\xd8"})
_TABLE_FLAG: Final = 0x80
_TABLE_SIZE: Final = 0x07

# A file ends in these bytes by chance only inside of a JPEG thumbnail.
_LAST_BYTES: Final = {PNG: b"IEND\xaeB`\x82", JPEG: b"\xff\xd9"}

# No encoder makes as many and as small blocks; to follow millions of them would stop the event loop.
_BYTES_PER_STEP: Final = 16
_FREE_BYTES: Final = 100_000 * _BYTES_PER_STEP
_NEVER: Final = -(2**62)


class EndFinder:
    """Finds the end of an image while its chunks pass by, unless it is in more blocks than any encoder makes.

    Args:
        kind: Kind of the image.

    Attributes:
        is_found: Whether the end has passed; always true for formats without an end marker.
    """

    def __init__(self, kind: Kind) -> None:
        walk = _WALKS.get(kind)
        self.is_found: bool = walk is None
        self._rest = b""
        self._allowance = _FREE_BYTES
        if walk is not None:
            self._walk = walk()
            self._wanted = next(self._walk)

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes of the file."""
        data, self._rest = self._rest + chunk, b""
        start = 0
        self._allowance += len(chunk)
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
            self._allowance -= _BYTES_PER_STEP
            try:
                self._wanted = self._walk.send(piece) if self._allowance > 0 else _NEVER
            except StopIteration:
                self.is_found = True


def is_surely_whole(kind: Kind, head: bytes, tail: bytes, size: int) -> bool:
    """Tell whether a file is whole, as far as its beginning and its last bytes say.

    Args:
        kind: Kind of the image.
        head: At least its first 8 bytes.
        tail: At least its last 8 bytes.
        size: Its number of bytes.

    Returns:
        ``False`` for a file that only ``EndFinder`` can judge.
    """
    if kind is WEBP:
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


_WALKS: Final[Mapping[Kind, Callable[[], _Walk]]] = {
    PNG: _png,
    JPEG: _jpeg,
    WEBP: _webp,
    GIF: _gif,
}
