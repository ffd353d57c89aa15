"""Input images: recognised by their first bytes and stored on disk once per content."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec, TypeVar

import anyio.to_thread
from anyio import CapacityLimiter
from attrs import define, field, frozen
from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Callable

DISK_LIMIT = 4 * 1024**3
"""Bytes of stored images; beyond it the oldest are deleted, as if they had expired."""

SNIFF_BYTES = 32
"""How many of the first bytes `sniff` needs."""

EXTENSIONS = {"image/jpeg": "jpg", "image/png": "png", "image/gif": "gif", "image/webp": "webp"}
"""The accepted types, and the extension each is served with."""

_SIGNATURES = (
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"BM", "image/bmp"),
    (b"II*\x00", "image/tiff"),
    (b"MM\x00*", "image/tiff"),
    (b"\x00\x00\x01\x00", "image/x-icon"),
    (b"%PDF-", "application/pdf"),
    (b"PK\x03\x04", "application/zip"),
    (b"<!DOCTYPE html", "text/html; charset=utf-8"),
    (b"<html", "text/html; charset=utf-8"),
    (b"<svg", "image/svg+xml"),
    (b"<?xml", "text/xml; charset=utf-8"),
)
_BRANDS = {b"avif": "image/avif", b"heic": "image/heic", b"heix": "image/heic", b"mif1": "image/heif"}

_PIXEL_LIMIT = 50_000_000
_LARGE_PIXELS = 8_000_000
_OPAQUE = 255
_INSPECTIONS_KEPT = 10_000
_UPLOADS_KEPT = 1_000_000
# One thread, as the memory of a thread is not used again by others.
_large = ThreadPoolExecutor(1, "apimart_async emulator")
_UNREADABLE = (OSError, ValueError, SyntaxError, Image.DecompressionBombError, Image.DecompressionBombWarning)

P = ParamSpec("P")
T = TypeVar("T")


@frozen
class Upload:
    """An uploaded image: a public identifier of a stored image, valid for a while from `created_at`."""

    id: str
    digest: str
    content_type: str
    size: int
    created_at: float


@frozen
class Inspection:
    """The result of decoding an image.

    Attributes:
        size: Width and height in pixels; None when it cannot be decoded or has too many pixels.
        transparent: Whether any pixel is not opaque.
    """

    size: tuple[int, int] | None
    transparent: bool = False


@define
class ImageStore:
    """A directory of images, each named by the SHA-256 of its content."""

    directory: Path
    _threads: CapacityLimiter = field(factory=lambda: CapacityLimiter(4), init=False)
    _sizes: dict[str, int] = field(factory=dict[str, int], init=False)
    _uploads: dict[str, Upload] = field(factory=dict[str, Upload], init=False)
    _inspections: dict[str, Inspection] = field(factory=dict[str, Inspection], init=False)
    _total: int = field(default=0, init=False)

    async def in_thread(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a blocking function in one of the few threads for files and decoding."""
        return await anyio.to_thread.run_sync(partial(call, *args, **kwargs), limiter=self._threads)

    async def read(self, digest: str) -> bytes:
        """Return the content of a stored image."""
        return await self.in_thread(self.path(digest).read_bytes)

    def path(self, digest: str) -> Path:
        """Return the path of a stored or deleted image."""
        return self.directory / digest

    def __contains__(self, digest: str) -> bool:
        return digest in self._sizes

    async def add(self, content: bytes) -> str:
        """Store an image and return its digest."""
        digest = await self.in_thread(self._write, content)
        await self._account(digest, len(content))
        return digest

    async def add_file(self, path: Path, digest: str, size: int) -> None:
        """Store an image that is already a file in the directory, by renaming it."""
        await self.in_thread(path.replace, self.path(digest))
        await self._account(digest, size)

    async def inspect(self, digest: str) -> Inspection:
        """Decode a stored image completely, once per content."""
        known = self._inspections.get(digest)
        if known is None:
            known = await self.in_thread(_inspect, self.path(digest))
            while len(self._inspections) >= _INSPECTIONS_KEPT:
                del self._inspections[next(iter(self._inspections))]
            self._inspections[digest] = known
        return known

    def publish(self, upload: Upload) -> None:
        """Make a stored image available as an upload."""
        self._uploads[upload.id] = upload
        if len(self._uploads) > _UPLOADS_KEPT:
            del self._uploads[next(iter(self._uploads))]

    def upload(self, upload_id: str) -> Upload | None:
        """Return an upload, expired or not, or None for an unknown identifier."""
        return self._uploads.get(upload_id)

    def _write(self, content: bytes) -> str:
        digest = hashlib.sha256(content).hexdigest()
        path = self.path(digest)
        if not path.exists():
            temporary = path.with_suffix(f".{id(content):x}")
            temporary.write_bytes(content)
            temporary.replace(path)
        return digest

    async def _account(self, digest: str, size: int) -> None:
        if digest in self._sizes:
            return
        self._sizes[digest] = size
        self._total += size
        while self._total > DISK_LIMIT and len(self._sizes) > 1:
            oldest = next(iter(self._sizes))
            self._total -= self._sizes.pop(oldest)
            await self.in_thread(self.path(oldest).unlink, missing_ok=True)


def sniff(head: bytes) -> str:
    """Return the MIME type that the first `SNIFF_BYTES` of a file indicate."""
    for signature, name in _SIGNATURES:
        if head.startswith(signature):
            return name
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "image/webp"
    if head[4:8] == b"ftyp":
        return _BRANDS.get(head[8:12], "video/mp4")
    if all(byte >= ord(" ") or byte in b"\t\n\r\x0c\x1b" for byte in head):
        return "text/plain; charset=utf-8"
    return "application/octet-stream"


def decode(image: Image.Image, read: Callable[[Image.Image], T]) -> T:
    """Return the result of a call that decodes an image; large images are decoded one at a time.

    Each takes up to 500 MB.
    """
    if image.width * image.height <= _LARGE_PIXELS:
        return read(image)
    return _large.submit(read, image).result()


def _inspect(path: Path) -> Inspection:
    try:
        with path.open("rb") as file:
            kind = sniff(file.read(SNIFF_BYTES))
        formats = [kind.removeprefix("image/").upper()] if kind in EXTENSIONS else []
        with Image.open(path, formats=formats) as image:
            if image.width * image.height > _PIXEL_LIMIT:
                return Inspection(None)
            return decode(image, _look_at)
    except _UNREADABLE:
        return Inspection(None)


def _look_at(image: Image.Image) -> Inspection:
    image.load()
    return Inspection(image.size, _has_transparency(image))


def _has_transparency(image: Image.Image) -> bool:
    if not image.has_transparency_data:
        return False
    # A copy would take as much memory again.
    with_alpha = image if "A" in image.getbands() else image.convert("RGBA")
    low, _ = with_alpha.getchannel("A").getextrema()
    return isinstance(low, int | float) and low < _OPAQUE
