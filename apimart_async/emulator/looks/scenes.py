"""Pictures out of nothing: a landscape for a prompt without one, a placeholder for a picture not fetched."""

from __future__ import annotations

import colorsys
import math
from typing import TYPE_CHECKING

from PIL import Image, ImageChops, ImageDraw, ImageFont

from .tones import Colour, disc, glow, mix, vertical

if TYPE_CHECKING:
    import random

_PLACEHOLDER_SIZE = (1024, 768)


def landscape(size: tuple[int, int], source: random.Random) -> Image.Image:
    """Draw hills under a sky."""
    width, height = size
    hue = source.random()
    high, low = _colour(hue, 0.55, 0.75), _colour(hue + 0.08, 0.25, 1.0)
    scene = vertical(size, ((0.0, high), (0.65, low), (1.0, low)))
    centre = (width * source.uniform(0.2, 0.8), height * source.uniform(0.15, 0.4))
    radius = min(size) * 0.07
    scene = ImageChops.screen(scene, glow(size, centre, radius * 5, (150, 140, 110)))
    scene.paste((255, 250, 232), (0, 0), disc(size, centre, radius))
    draw = ImageDraw.Draw(scene)
    near = _colour(hue + source.uniform(0.25, 0.6), 0.6, 0.32)
    for layer in range(5):
        share = layer / 4
        base = height * (0.5 + 0.11 * layer)
        waves = [
            (source.uniform(0.6, 2.6), source.uniform(0, math.tau), height * source.uniform(0.02, 0.06))
            for _ in range(3)
        ]
        ridge = [
            (
                x,
                base
                + sum(tall * math.sin(count * math.tau * x / width + phase) for count, phase, tall in waves),
            )
            for x in range(0, width + 8, 4)
        ]
        draw.polygon(
            [(0, height), *ridge, (width + 8, height)], fill=mix(mix(low, high, 0.4), near, 0.2 + 0.8 * share)
        )
    return scene


def placeholder(label: str) -> Image.Image:
    """Draw a picture frame that says which address was not fetched."""
    width, height = _PLACEHOLDER_SIZE
    frame = vertical(_PLACEHOLDER_SIZE, ((0.0, (196, 206, 220)), (1.0, (150, 164, 184))))
    draw = ImageDraw.Draw(frame)
    draw.rectangle((48, 48, width - 49, height - 49), outline=(255, 255, 255), width=6)
    lines = (("placeholder", 64), ("The emulator fetches no addresses.", 36), (label, 28))
    top = height * 0.36
    for text, points in lines:
        draw.text((width / 2, top), text, fill=(42, 52, 70), font=ImageFont.load_default(points), anchor="mm")
        top += points * 1.7
    return frame


def _colour(hue: float, saturation: float, value: float) -> Colour:
    red, green, blue = colorsys.hsv_to_rgb(hue % 1.0, saturation, value)
    return round(255 * red), round(255 * green), round(255 * blue)
