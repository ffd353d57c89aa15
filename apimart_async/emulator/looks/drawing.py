"""From a recipe to the bytes of a picture: blocking, deterministic, never larger than it should be."""

from __future__ import annotations

import io
import random
from typing import TYPE_CHECKING

from PIL import Image, ImageOps

from apimart_async.emulator.recipes import Look, Placeholder, Recipe, Stored

from .brushes import black_and_white, pencil, watercolour
from .city import cyberpunk
from .colours import colours
from .scenes import landscape, placeholder
from .skies import starry_sky, sunset
from .variation import Variation
from .winter import snow

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LONGEST_SIDE = 1600
"""Pixels of the longer side of the largest picture delivered."""

_SQUARE = (1024, 1024)

_LOOKS: dict[Look, Callable[[Image.Image, Variation], Image.Image]] = {
    "starry-sky": starry_sky,
    "sunset": sunset,
    "snow": snow,
    "cyberpunk": cyberpunk,
    "watercolour": watercolour,
    "pencil": pencil,
    "black-and-white": black_and_white,
    "colours": colours,
}


def draw(recipe: Recipe, index: int, find: Callable[[str], Path]) -> bytes:
    """Draw image `index` of a recipe.

    Args:
        recipe: What to draw.
        index: Which of the task's images, from 0; each differs visibly.
        find: Returns the file of a stored picture, by its digest.

    Returns:
        The encoded picture: PNG when the recipe says so, else JPEG.

    Raises:
        OSError: A stored picture is gone or cannot be decoded.
    """
    seed = recipe.seed + index
    original = _source(recipe, find)
    picture = original.convert("RGB")
    edited = _LOOKS[recipe.look](picture, Variation(seed))
    if recipe.mask is not None:
        edited = _masked(picture, edited, find(recipe.mask))
    elif recipe.png and original.mode == "RGBA":
        edited.putalpha(original.getchannel("A"))
    return _encoded(edited, png=recipe.png)


def draw_tiny(recipe: Recipe, index: int) -> bytes:
    """Draw an 8 by 8 picture of one colour, for load tests."""
    source = random.Random(recipe.seed + index)
    colour = (source.randrange(256), source.randrange(256), source.randrange(256))
    return _encoded(Image.new("RGB", (8, 8), colour), png=recipe.png)


def _source(recipe: Recipe, find: Callable[[str], Path]) -> Image.Image:
    source = recipe.source
    if isinstance(source, Stored):
        picture = _opened(find(source.digest))
    elif isinstance(source, Placeholder):
        picture = placeholder(source.label)
    else:
        picture = landscape(_limited(recipe.size or _SQUARE), random.Random(source.seed))
    if recipe.size is not None and picture.size != recipe.size:
        return ImageOps.fit(picture, _limited(recipe.size), Image.Resampling.LANCZOS)
    picture.thumbnail((LONGEST_SIDE, LONGEST_SIDE), Image.Resampling.LANCZOS)
    return picture


def _opened(path: Path) -> Image.Image:
    with Image.open(path) as file:
        file.draft("RGB", (LONGEST_SIDE, LONGEST_SIDE))
        upright = ImageOps.exif_transpose(file)
        return upright.convert("RGBA" if upright.has_transparency_data else "RGB")


def _limited(size: tuple[int, int]) -> tuple[int, int]:
    width, height = size
    share = min(1.0, LONGEST_SIDE / max(size))
    return max(1, round(width * share)), max(1, round(height * share))


def _masked(before: Image.Image, after: Image.Image, mask: Path) -> Image.Image:
    keep = _opened(mask).convert("RGBA").getchannel("A")
    if keep.size != before.size:
        keep = keep.resize(before.size, Image.Resampling.BILINEAR)
    return Image.composite(before, after, keep)


def _encoded(picture: Image.Image, *, png: bool) -> bytes:
    file = io.BytesIO()
    if png:
        picture.save(file, "PNG", compress_level=1)
    else:
        picture.save(file, "JPEG", quality=90)
    return file.getvalue()
