"""Pictures on disk, kept once per content, and the uploads that point at them."""

from __future__ import annotations

import hashlib
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec, TypeVar

import anyio.to_thread
from anyio import CapacityLimiter
from attrs import define, field, frozen
from PIL import Image

from .sniffing import EXTENSIONS, SNIFF_BYTES, content_type

if TYPE_CHECKING:
    from collections.abc import Callable

DISK_LIMIT = 4 * 1024**3
"""Bytes of pictures kept; beyond it the oldest go, as if they had expired."""

_PIXEL_LIMIT = 50_000_000
_OPAQUE = 255
_INSPECTIONS_KEPT = 10_000
_UPLOADS_KEPT = 1_000_000
_UNREADABLE = (OSError, ValueError, SyntaxError, Image.DecompressionBombError, Image.DecompressionBombWarning)

P = ParamSpec("P")
T = TypeVar("T")


@frozen
class Upload:
    """An uploaded picture: a public identifier for a kept one, valid for a while from `created_at`."""

    id: str
    digest: str
    content_type: str
    size: int
    created_at: float


@frozen
class Inspection:
    """What opening a picture shows.

    Attributes:
        size: Width and height in pixels; None when it cannot be read or has too many pixels.
        transparent: Whether any pixel is not opaque.
    """

    size: tuple[int, int] | None
    transparent: bool = False


@define
class Pictures:
    """A directory of pictures, each named by the SHA-256 of its content."""

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
        """Return the content of a kept picture."""
        return await self.in_thread(self.path(digest).read_bytes)

    def path(self, digest: str) -> Path:
        """Return where a picture is, or was."""
        return self.directory / digest

    def holds(self, digest: str) -> bool:
        """Return whether a picture is still there."""
        return digest in self._sizes

    async def keep(self, content: bytes) -> str:
        """Keep a picture and return its digest."""
        digest, size = await self.in_thread(self._write, content)
        await self._account(digest, size)
        return digest

    async def adopt(self, path: Path, digest: str, size: int) -> None:
        """Keep a picture that was already written to a file in the directory, by moving it."""
        await self.in_thread(path.replace, self.path(digest))
        await self._account(digest, size)

    async def inspect(self, digest: str) -> Inspection:
        """Open a kept picture, decode it completely, and say what it is; once per content."""
        known = self._inspections.get(digest)
        if known is None:
            known = await self.in_thread(_inspect, self.path(digest))
            while len(self._inspections) >= _INSPECTIONS_KEPT:
                del self._inspections[next(iter(self._inspections))]
            self._inspections[digest] = known
        return known

    def publish(self, upload: Upload) -> None:
        """Make a kept picture available as an upload."""
        self._uploads[upload.id] = upload
        if len(self._uploads) > _UPLOADS_KEPT:
            del self._uploads[next(iter(self._uploads))]

    def upload(self, upload_id: str) -> Upload | None:
        """Return an upload, expired or not, or None when there never was one."""
        return self._uploads.get(upload_id)

    def _write(self, content: bytes) -> tuple[str, int]:
        digest = hashlib.sha256(content).hexdigest()
        path = self.path(digest)
        if not path.exists():
            partial_path = path.with_suffix(f".{id(content):x}")
            partial_path.write_bytes(content)
            partial_path.replace(path)
        return digest, len(content)

    async def _account(self, digest: str, size: int) -> None:
        if digest in self._sizes:
            return
        self._sizes[digest] = size
        self._total += size
        while self._total > DISK_LIMIT and len(self._sizes) > 1:
            oldest = next(iter(self._sizes))
            self._total -= self._sizes.pop(oldest)
            await self.in_thread(self.path(oldest).unlink, missing_ok=True)


def _inspect(path: Path) -> Inspection:
    try:
        with Image.open(path, formats=_formats(path)) as picture:
            if picture.width * picture.height > _PIXEL_LIMIT:
                return Inspection(None)
            picture.load()
            return Inspection(picture.size, _has_transparency(picture))
    except _UNREADABLE:
        return Inspection(None)


def _formats(path: Path) -> list[str]:
    with path.open("rb") as file:
        kind = content_type(file.read(SNIFF_BYTES))
    return [kind.removeprefix("image/").upper()] if kind in EXTENSIONS else []


def _has_transparency(picture: Image.Image) -> bool:
    if not picture.has_transparency_data:
        return False
    low, _ = picture.convert("RGBA").getchannel("A").getextrema()
    return isinstance(low, int | float) and low < _OPAQUE
