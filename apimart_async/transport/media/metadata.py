"""Pictures without private metadata, as the URLs of uploads are public: no place, camera or author.

The blocks of JPEG, PNG, WebP and GIF are followed, and everything is cut that decoders do not need for the
pixels, their colours and the animation. The pixels are neither decoded nor encoded. The orientation stays, as
EXIF metadata with no other field. A damaged file is cut up to the damage and left as it is from there on.
"""

from __future__ import annotations

import re
import struct
from contextlib import suppress
from typing import TYPE_CHECKING, Final
from zlib import crc32

from apimart_async.errors import ImageError
from apimart_async.transport.media import sniffing
from apimart_async.transport.media.sources import Parts, Source

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_WINDOW_BYTES: Final = 512 * 1024
_MOST_EXIF_BYTES: Final = 128 * 1024
# A file of 50 MiB has about 200,000 blocks as a GIF, and a file with metadata in 100 places is rare.
_MOST_BLOCKS: Final = 500_000
_MOST_CUTS: Final = 10_000
_MOST_ZEROS: Final = 1_000

_IN_PIECES: Final = (
    "The image is in too many pieces to find its metadata: save it again, or send it as it is with "
    "Media(keep_metadata=True)."
)

_EXIF: Final = b"Exif\0\0"
_ORIENTATION: Final = 0x0112
_BYTE_ORDERS: Final[Mapping[bytes, bool]] = {b"II*\0": False, b"MM\0*": True}
_SHORT: Final = 3
_LONG: Final = 4
_ENTRY_BYTES: Final = 12
_UPRIGHT: Final = 1
_ORIENTATIONS: Final = range(2, 9)

_MARKER: Final = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
_END_OF_IMAGE: Final = 0xD9
_SCAN: Final = 0xDA
_COMMENT: Final = 0xFE
_FIRST_APP: Final = 0xE0
_LAST_APP: Final = 0xEF
_RESTARTS: Final = range(0xD0, 0xD8)
_FILL: Final = 0xFF
_WITHOUT_LENGTH: Final = frozenset({0x01, 0xD8})
_FIRST_KNOWN: Final = 0xC0
_JFIF: Final = 0xE0
_JFIF_BYTES: Final = 14
_EXIF_APP: Final = 0xE1
_KEPT_APPS: Final = ((0xE2, b"ICC_PROFILE\0"), (0xEE, b"Adobe"))

_KEPT_PNG_CHUNKS: Final = frozenset(
    b"acTL bKGD cHRM cICP cLLI cLLi fcTL fdAT gAMA iCCP mDCV mDCv pHYs sBIT sRGB tRNS".split()
)
_KEPT_WEBP_CHUNKS: Final = frozenset({b"VP8X", b"ICCP", b"ANIM", b"ANMF", b"ALPH", b"VP8 ", b"VP8L"})
_KEPT_WEBP_FRAME_CHUNKS: Final = frozenset({b"ALPH", b"VP8 ", b"VP8L"})
_WEBP_FRAME_HEAD_BYTES: Final = 16
_WEBP_EXIF: Final = 0x08
_WEBP_XMP: Final = 0x04
_KEPT_GIF_APPS: Final = frozenset({b"NETSCAPE2.0", b"ANIMEXTS1.0", b"ICCRGBG1012"})
_GIF_CONTROL: Final = 0xF9
_GIF_APP: Final = 0xFF
_TABLE_FLAG: Final = 0x80
_TABLE_SIZE: Final = 0x07


def without_metadata(source: Source, content_type: str) -> Source:
    """Return a picture without private metadata; blocks while it reads the blocks of the picture.

    Args:
        source: The picture.
        content_type: Its MIME type, from its content.

    Returns:
        A view of the source that copies nothing; the source itself if there is nothing to leave out.

    Raises:
        ImageError: The source cannot be read, has changed since it was checked, or is in too many pieces.
    """
    walk = _WALKS.get(content_type)
    if walk is None:
        return source
    cuts = _Cuts()
    with suppress(_DamagedError):
        walk(_Reader(source), cuts)
    return Parts(source, cuts.complement(source.size)) if cuts.found else source


class _DamagedError(Exception):
    """The picture ends inside of a block, or its blocks cannot be followed."""


class _Cuts:
    """The bytes to leave out, each run with the bytes in its place."""

    def __init__(self) -> None:
        self.found: list[tuple[int, int, bytes]] = []

    def add(self, start: int, end: int, replacement: bytes = b"") -> None:
        """Leave out the bytes from the start to the end."""
        if self.found and self.found[-1][1] == start and not replacement:
            start, _, replacement = self.found.pop()
        if len(self.found) == _MOST_CUTS:
            raise ImageError(_IN_PIECES)
        self.found.append((start, end, replacement))

    def complement(self, size: int) -> list[tuple[int, int] | bytes]:
        """Return the ranges that stay, and the bytes in the places of the others."""
        parts: list[tuple[int, int] | bytes] = []
        position = 0
        for start, end, replacement in sorted(self.found):
            parts += [(position, start), replacement]
            position = end
        return [*parts, (position, size)]


class _Reader:
    """Reads a source forward, in large pieces."""

    def __init__(self, source: Source) -> None:
        self.position: int = 0
        self.size: int = source.size
        self._source = source
        self._start = 0
        self._window = b""
        self._reads = 0

    def take(self, count: int) -> bytes:
        """Return the next bytes."""
        start = self.position
        self.skip(count)
        self._count()
        if start < self._start or self.position > self._start + len(self._window):
            self._load(start, max(count, _WINDOW_BYTES))
        return self._window[start - self._start : self.position - self._start]

    def _count(self) -> None:
        self._reads += 1
        if self._reads > _MOST_BLOCKS:
            raise ImageError(_IN_PIECES)

    def skip(self, count: int) -> None:
        """Leave out the next bytes."""
        self.position += count
        if self.position > self.size:
            raise _DamagedError

    def take_marker(self) -> int:
        """Return the code of the next JPEG marker, wherever it is."""
        while True:
            if not self._start <= self.position < self._start + len(self._window) - 1:
                self._load(self.position, _WINDOW_BYTES)
            # A search for one byte is far quicker than one for the pattern.
            first = self._window.find(b"\xff", self.position - self._start)
            found = _MARKER.search(self._window, first) if first >= 0 else None
            if found is not None:
                self.position = self._start + found.end()
                self._count()
                return found.group()[1]
            end = self._start + len(self._window)
            if end == self.size:
                raise _DamagedError
            self.position = end - self._window.endswith(b"\xff")

    def is_at_marker(self) -> bool:
        """Tell whether the next bytes are a JPEG marker that ends a scan."""
        start = self.position
        if start + 2 > self.size:
            return False
        head = self.take(2)
        self.position = start
        return head[:1] == b"\xff" and _FIRST_KNOWN <= head[1] < _FILL and head[1] not in _RESTARTS

    def _load(self, start: int, count: int) -> None:
        self._start = start
        self._window = self._source.read_at(start, min(count, self.size - start))


def _jpeg(reader: _Reader, cuts: _Cuts) -> None:
    reader.skip(2)
    has_exif = has_scan = False
    while (code := reader.take_marker()) != _END_OF_IMAGE:
        if code in _WITHOUT_LENGTH:
            continue
        start = reader.position - 2
        length = int.from_bytes(reader.take(2))
        if code < _FIRST_KNOWN or length < 2:  # noqa: PLR2004 the length counts itself
            raise _DamagedError
        payload = reader.take(length - 2)
        has_scan = has_scan or code == _SCAN
        # In a damaged scan, bytes may look like a marker by accident, but hardly like two, a segment apart.
        is_segment = not has_scan or reader.is_at_marker()
        if is_segment and (code == _COMMENT or _FIRST_APP <= code <= _LAST_APP):
            kept = b"" if has_scan else _kept_app(code, payload, has_exif=has_exif)
            has_exif = has_exif or payload.startswith(_EXIF)
            if kept != payload or not kept:
                marker = bytes((0xFF, code)) + (len(kept) + 2).to_bytes(2)
                cuts.add(start, reader.position, kept and marker + kept)
    if has_scan and reader.position < reader.size:
        cuts.add(reader.position, reader.size)


def _kept_app(code: int, payload: bytes, *, has_exif: bool) -> bytes:
    """Return the content of a JPEG segment that stays; empty for none."""
    if code == _JFIF and payload.startswith(b"JFIF\0"):
        has_thumbnail = len(payload) > _JFIF_BYTES
        return payload[: _JFIF_BYTES - 2] + b"\0\0" if has_thumbnail else payload
    if code == _EXIF_APP and payload.startswith(_EXIF) and not has_exif:
        exif = _oriented(payload)
        return exif and _EXIF + exif
    return payload if any(code == app and payload.startswith(name) for app, name in _KEPT_APPS) else b""


def _png(reader: _Reader, cuts: _Cuts) -> None:
    reader.skip(8)
    name = b""
    while name != b"IEND":
        start = reader.position
        head = reader.take(8)
        length, name = int.from_bytes(head[:4]), head[4:]
        if not name.isalpha():
            raise _DamagedError
        exif = b""
        if name == b"eXIf" and length <= _MOST_EXIF_BYTES:
            content = reader.take(length)
            exif = _oriented(content)
            if content == exif:
                reader.skip(4)
                continue
        else:
            reader.skip(length)
        reader.skip(4)  # the checksum
        is_critical = name[:1].isupper()
        if not is_critical and name not in _KEPT_PNG_CHUNKS:
            chunk = b"eXIf" + exif
            replacement = exif and len(exif).to_bytes(4) + chunk + crc32(chunk).to_bytes(4)
            cuts.add(start, reader.position, replacement)
    if reader.position < reader.size:
        cuts.add(reader.position, reader.size)


def _webp(reader: _Reader, cuts: _Cuts) -> None:
    declared = int.from_bytes(reader.take(12)[4:8], "little")
    end = min(8 + declared, reader.size)
    removed = 0
    flags_at, flags, kept_flags = 0, 0, ~(_WEBP_EXIF | _WEBP_XMP)
    try:
        while reader.position + 8 <= end:
            start = reader.position
            head = reader.take(8)
            length, name = int.from_bytes(head[4:], "little"), head[:4]
            exif = b""
            if name == b"VP8X" and length:
                flags_at, flags = reader.position, reader.take(1)[0]
                reader.skip(length - 1)
            elif name == b"EXIF" and flags_at and length <= _MOST_EXIF_BYTES:
                content = reader.take(length)
                exif = _oriented(content)
                kept_flags |= _WEBP_EXIF if exif else 0
                if content == exif:
                    reader.skip(length % 2)
                    continue
            else:
                removed += _webp_chunk(reader, cuts, name, length)
            if reader.position > end:
                raise _DamagedError
            reader.skip(min(length % 2, reader.size - reader.position))
            if name not in _KEPT_WEBP_CHUNKS:
                replacement = exif and b"EXIF" + len(exif).to_bytes(4, "little") + exif
                cuts.add(start, reader.position, replacement)
                removed += reader.position - start - len(replacement)
        if end < reader.size:
            cuts.add(max(end, reader.position), reader.size)
    finally:
        if removed:
            cuts.add(4, 8, (declared - removed).to_bytes(4, "little"))
        if flags & ~kept_flags:
            cuts.add(flags_at, flags_at + 1, bytes([flags & kept_flags]))


def _webp_chunk(reader: _Reader, cuts: _Cuts, name: bytes, length: int) -> int:
    """Skip a chunk; cut unknown chunks within a frame of an animation, and return their size."""
    if name != b"ANMF":
        reader.skip(length)
        return 0
    start, end = reader.position, reader.position + length
    unknown: list[tuple[int, int]] = []
    reader.skip(min(_WEBP_FRAME_HEAD_BYTES, length))
    while reader.position + 8 <= end:
        chunk = reader.position
        head = reader.take(8)
        size = int.from_bytes(head[4:], "little")
        reader.skip(size + size % 2)
        if head[:4] not in _KEPT_WEBP_FRAME_CHUNKS:
            unknown.append((chunk, reader.position))
    if reader.position != end:  # damaged: decoders may read it otherwise
        reader.position = start
        reader.skip(length)
        return 0
    removed = sum(last - first for first, last in unknown)
    if removed:
        cuts.add(start - 4, start, (length - removed).to_bytes(4, "little"))
    for first, last in unknown:
        cuts.add(first, last)
    return removed


def _gif(reader: _Reader, cuts: _Cuts) -> None:
    reader.skip(_table_bytes(reader.take(13)[10]))
    zeros = 0
    while (block := reader.take(1)) != b";":
        start = reader.position - 1
        is_kept = True
        if block == b",":
            reader.skip(_table_bytes(reader.take(9)[8]) + 1)  # with the size of the codes
        elif block == b"!":
            label = reader.take(1)[0]
            is_kept = label == _GIF_CONTROL
            if label == _GIF_APP:
                size = reader.take(1)[0]
                is_kept = reader.take(size) in _KEPT_GIF_APPS
                reader.position -= 1 + size
        elif block == b"\0" and zeros < _MOST_ZEROS:  # some encoders end a block twice
            zeros += 1
            continue
        else:
            raise _DamagedError
        while size := reader.take(1)[0]:
            reader.skip(size)
        if not is_kept:
            cuts.add(start, reader.position)
    if reader.position < reader.size:
        cuts.add(reader.position, reader.size)


def _table_bytes(flags: int) -> int:
    """Return the size of a colour table from the byte that describes it."""
    return 3 << (flags & _TABLE_SIZE) + 1 if flags & _TABLE_FLAG else 0


def _oriented(exif: bytes) -> bytes:
    """Return EXIF metadata with the orientation alone; empty for a picture that is upright."""
    tiff = exif.removeprefix(_EXIF)
    is_big = _BYTE_ORDERS.get(tiff[:4])
    if is_big is None:
        return b""

    def number(offset: int, size: int) -> int:
        return int.from_bytes(tiff[offset : offset + size], "big" if is_big else "little")

    first = number(4, 4) + 2
    orientation = _UPRIGHT
    for entry in range(first, min(first + number(first - 2, 2) * _ENTRY_BYTES, len(tiff)), _ENTRY_BYTES):
        if number(entry, 2) == _ORIENTATION and number(entry + 4, 4) == 1:
            kind = number(entry + 2, 2)
            orientation = number(entry + 8, {_SHORT: 2, _LONG: 4}.get(kind, 0))
    if orientation not in _ORIENTATIONS:
        return b""
    return struct.pack(">4sIHHHIHHI", b"MM\0*", 8, 1, _ORIENTATION, _SHORT, 1, orientation, 0, 0)


_WALKS: Final[Mapping[str, Callable[[_Reader, _Cuts], None]]] = {
    sniffing.JPEG.content_type: _jpeg,
    sniffing.PNG.content_type: _png,
    sniffing.WEBP.content_type: _webp,
    sniffing.GIF.content_type: _gif,
}
