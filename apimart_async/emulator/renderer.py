"""Result images: rendered in threads when they are first requested, and cached in bounded memory."""

from __future__ import annotations

import io
import math
import random
from collections import OrderedDict
from functools import partial
from typing import TYPE_CHECKING

import anyio.to_thread
from anyio import CapacityLimiter
from attrs import define, field, frozen
from PIL import Image, ImageChops, ImageDraw, ImageFont, ImageOps

from .filters import Filter, apply_filter, glow, gradient, hsv
from .image_store import ImageStore, decode

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LONGEST_SIDE = 1600
"""Pixels of the longer side of the largest result."""

CACHE_BYTES = 64 * 1024**2
"""Bytes of rendered results kept; an evicted result is rendered again, byte for byte the same."""

_THREADS = 2
_SQUARE = (1024, 1024)
_PLACEHOLDER_SIZE = (1024, 768)


@frozen
class StoredImage:
    """An image that was uploaded or sent inline, by the digest of its content."""

    digest: str


@frozen
class Placeholder:
    """An image at a foreign URL: the emulator draws a placeholder with this label instead of fetching it."""

    label: str


@frozen
class Landscape:
    """No input image: a landscape is drawn from a seed."""

    seed: int


Source = StoredImage | Placeholder | Landscape


@frozen(kw_only=True)
class RenderSpec:
    """Everything that decides the pixels of a task's results; small enough to keep one per task.

    Attributes:
        source: The image to edit.
        filter: The edit.
        seed: Of everything random in the edit; image `i` of a task has `seed + i`.
        size: Width and height of the results in pixels, or None for those of the source (within limits).
        mask: Digest of a stored mask whose transparent pixels are edited, or None.
        png: Whether the results are PNG, which keeps an alpha channel, instead of JPEG.
    """

    source: Source
    filter: Filter
    seed: int
    size: tuple[int, int] | None = None
    mask: str | None = None
    png: bool = False

    @property
    def content_type(self) -> str:
        """The MIME type of the results."""
        return "image/png" if self.png else "image/jpeg"

    @property
    def extension(self) -> str:
        """The extension of the results' names."""
        return "png" if self.png else "jpg"


@define
class Renderer:
    """Render results on demand.

    Attributes:
        store: The images that are edited.
        tiny: Whether every result is 8 by 8 pixels, for load tests.
    """

    store: ImageStore
    tiny: bool
    _limiter: CapacityLimiter = field(factory=lambda: CapacityLimiter(_THREADS), init=False)
    _cache: OrderedDict[tuple[RenderSpec, int], bytes] = field(
        factory=OrderedDict[tuple[RenderSpec, int], bytes], init=False
    )
    _cached_bytes: int = field(default=0, init=False)

    async def render(self, spec: RenderSpec, index: int) -> bytes:
        """Return the encoded image `index` of a task's results."""
        if self.tiny:
            draws = random.Random(spec.seed + index)
            colour = (draws.randrange(256), draws.randrange(256), draws.randrange(256))
            return _encode(Image.new("RGB", (8, 8), colour), png=spec.png)
        key = (spec, index)
        if key not in self._cache:
            async with self._limiter:
                if key not in self._cache:
                    self._add(key, await anyio.to_thread.run_sync(partial(self._render, spec, index)))
        self._cache.move_to_end(key)
        return self._cache[key]

    def _add(self, key: tuple[RenderSpec, int], content: bytes) -> None:
        self._cache[key] = content
        self._cached_bytes += len(content)
        while self._cached_bytes > CACHE_BYTES and len(self._cache) > 1:
            _, oldest = self._cache.popitem(last=False)
            self._cached_bytes -= len(oldest)

    def _render(self, spec: RenderSpec, index: int) -> bytes:
        try:
            return render(spec, index, self.store.path)
        except FileNotFoundError:
            evicted = RenderSpec(
                source=Placeholder("The image is no longer stored."), filter=spec.filter, seed=spec.seed
            )
            return render(evicted, index, self.store.path)


def render(spec: RenderSpec, index: int, path_of: Callable[[str], Path]) -> bytes:
    """Render image `index` of a task's results; blocking and deterministic.

    Args:
        spec: The source and the edit.
        index: Number of the image, from 0; each differs visibly.
        path_of: Returns the file of a stored image, by its digest.

    Returns:
        The encoded image.

    Raises:
        OSError: A stored image is missing or cannot be decoded.
    """
    original = _load_source(spec, path_of)
    before = original.convert("RGB")
    after = apply_filter(spec.filter, before, spec.seed + index)
    if spec.mask is not None:
        after = Image.composite(before, after, _open(path_of(spec.mask), partial(_keep, size=before.size)))
    elif spec.png and original.mode == "RGBA":
        after.putalpha(original.getchannel("A"))
    return _encode(after, png=spec.png)


def _load_source(spec: RenderSpec, path_of: Callable[[str], Path]) -> Image.Image:
    source = spec.source
    shrink = partial(_shrink, size=spec.size)
    if isinstance(source, StoredImage):
        return _open(path_of(source.digest), shrink)
    if isinstance(source, Placeholder):
        return shrink(_draw_placeholder(source.label))
    return shrink(_draw_landscape(_limit(spec.size or _SQUARE), random.Random(source.seed)))


def _open(path: Path, shrink: Callable[[Image.Image], Image.Image]) -> Image.Image:
    with Image.open(path) as file:
        file.draft("RGB", (LONGEST_SIDE, LONGEST_SIDE))
        return decode(file, partial(_upright, shrink=shrink))


def _upright(image: Image.Image, shrink: Callable[[Image.Image], Image.Image]) -> Image.Image:
    ImageOps.exif_transpose(image, in_place=True)
    mode = "RGBA" if image.has_transparency_data else "RGB"
    return shrink(image if image.mode == mode else image.convert(mode))


def _shrink(image: Image.Image, size: tuple[int, int] | None) -> Image.Image:
    if size is not None and image.size != size:
        return ImageOps.fit(image, _limit(size), Image.Resampling.LANCZOS)
    image.thumbnail((LONGEST_SIDE, LONGEST_SIDE), Image.Resampling.LANCZOS)
    return image.copy()


def _keep(mask: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Return the opacity of a mask: its opaque pixels stay as they are."""
    opacity = mask.getchannel("A") if mask.mode == "RGBA" else Image.new("L", mask.size, 255)
    return opacity.resize(size, Image.Resampling.BILINEAR)


def _limit(size: tuple[int, int]) -> tuple[int, int]:
    width, height = size
    scale = min(1.0, LONGEST_SIDE / max(size))
    return max(1, round(width * scale)), max(1, round(height * scale))


def _encode(image: Image.Image, *, png: bool) -> bytes:
    file = io.BytesIO()
    if png:
        image.save(file, "PNG", compress_level=1)
    else:
        image.save(file, "JPEG", quality=90)
    return file.getvalue()


def _draw_landscape(size: tuple[int, int], draws: random.Random) -> Image.Image:
    """Draw five ridges of hills under a sky."""
    width, height = size
    hue = draws.random()
    sky = gradient(size, hsv(hue, 0.55, 0.75), hsv(hue + 0.06, 0.3, 0.95), hsv(hue + 0.08, 0.25, 1.0))
    sun = (width * draws.uniform(0.2, 0.8), height * draws.uniform(0.15, 0.4))
    scene = ImageChops.screen(sky, glow(size, sun, min(size) * 0.4, (255, 240, 200)))
    draw = ImageDraw.Draw(scene)
    hue += draws.uniform(0.25, 0.6)
    for layer in range(5):
        base = height * (0.5 + 0.11 * layer)
        waves = [
            (draws.uniform(0.6, 2.6), draws.uniform(0, math.tau), draws.uniform(0.02, 0.06)) for _ in "123"
        ]
        ridge = [
            (x, base + height * sum(tall * math.sin(n * math.tau * x / width + at) for n, at, tall in waves))
            for x in range(0, width + 8, 4)
        ]
        draw.polygon(
            [(0, height), *ridge, (width + 8, height)], fill=hsv(hue, 0.2 + 0.1 * layer, 0.8 - 0.12 * layer)
        )
    return scene


def _draw_placeholder(label: str) -> Image.Image:
    """Draw a frame that names the image that was not fetched."""
    width, height = _PLACEHOLDER_SIZE
    frame = gradient(_PLACEHOLDER_SIZE, (196, 206, 220), (173, 185, 202), (150, 164, 184))
    draw = ImageDraw.Draw(frame)
    draw.rectangle((48, 48, width - 49, height - 49), outline=(255, 255, 255), width=6)
    lines = (("placeholder", 64), ("The emulator does not fetch foreign URLs.", 36), (label, 28))
    top = height * 0.36
    for text, points in lines:
        draw.text((width / 2, top), text, fill=(42, 52, 70), font=ImageFont.load_default(points), anchor="mm")
        top += points * 1.7
    return frame
