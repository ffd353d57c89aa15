"""The look of a snowfall."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PIL import Image, ImageChops, ImageDraw, ImageFilter

from .tones import clouds, contrast, curve, tint, vertical_mask

if TYPE_CHECKING:
    import random

    from .variation import Variation


_LIGHTS = (
    ((0.9, 0.97, 1.06), (8, 14, 26)),
    ((0.58, 0.68, 0.92), (4, 10, 30)),
    ((1.04, 1.0, 0.98), (26, 26, 30)),
)
"""Gains and lifts of the light while it snows: an overcast day, dusk, a bright morning."""


def snow(picture: Image.Image, source: Variation) -> Image.Image:
    """Cover what faces the sky with snow, cool the light and let it snow."""
    cold = Image.blend(picture, picture.convert("L").convert("RGB"), 0.5)
    gains, lift = source.style(_LIGHTS)
    cold = tint(contrast(cold, 0.86, 140), gains, lift)
    covered = Image.composite(
        Image.new("RGB", picture.size, (240, 246, 255)), cold, _settled(picture, source)
    )
    for depth in (0.45, 0.75, 1.0):
        covered = ImageChops.screen(covered, _flakes(picture.size, source, depth))
    return covered


def _settled(picture: Image.Image, source: random.Random) -> Image.Image:
    grey = picture.convert("L").filter(ImageFilter.GaussianBlur(max(1.0, min(picture.size) / 220)))
    edges = grey.filter(ImageFilter.Kernel((3, 3), (-1, -2, -1, 0, 0, 0, 1, 2, 1), scale=2, offset=128))
    ImageDraw.Draw(edges).rectangle((0, 0, edges.width - 1, edges.height - 1), outline=128)
    reach = min(9, max(1, min(picture.size) // 260) * 2 + 1)
    ledges = curve(edges, lambda level: 4 * (104 - level)).filter(ImageFilter.MaxFilter(reach))
    ledges = ImageChops.offset(ledges.filter(ImageFilter.GaussianBlur(reach / 2)), 0, -reach // 2)
    drifts = contrast(clouds(picture.size, source, max(4.0, picture.width / 6)), 2.0, 110)
    ground = ImageChops.multiply(vertical_mask(picture.size, 0, 235, 0.72, 1.0), drifts)
    return ImageChops.add(ledges, ground)


def _flakes(size: tuple[int, int], source: random.Random, depth: float) -> Image.Image:
    width, height = size
    layer = Image.new("L", size)
    draw = ImageDraw.Draw(layer)
    radius = max(0.7, min(size) / 130 * depth**2)
    for _ in range(min(900, max(10, round(width * height / (900 * radius * radius))))):
        x, y, reach = source.uniform(0, width), source.uniform(0, height), radius * source.uniform(0.5, 1.2)
        draw.ellipse(
            (x - reach, y - reach * 1.15, x + reach, y + reach * 1.15),
            fill=round(150 + 105 * source.random()),
        )
    return layer.filter(ImageFilter.GaussianBlur(radius * 0.45)).convert("RGB")
