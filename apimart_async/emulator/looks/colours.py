"""The look for a prompt that names no other: colours of its own, drawn from the prompt."""

from __future__ import annotations

import colorsys
from typing import TYPE_CHECKING

from PIL import Image, ImageChops

from .tones import Colour, contrast, glow, gradient_map, vignette

if TYPE_CHECKING:
    from .variation import Variation


def colours(picture: Image.Image, source: Variation) -> Image.Image:
    """Recolour in two hues that belong to the prompt, with light from one side."""
    hue = source.hue()
    other = hue + source.choice((0.33, 0.42, 0.5, 0.58))
    stops = ((0.0, _colour(hue, 0.8, 0.14)), (0.5, _colour(hue, 0.65, 0.62)), (1.0, _colour(other, 0.3, 1.0)))
    graded = Image.blend(contrast(picture, 1.08), gradient_map(contrast(picture, 1.15), stops), 0.62)
    corner = (picture.width * source.choice((0.05, 0.95)), picture.height * source.uniform(0.0, 0.4))
    graded = ImageChops.screen(
        graded, glow(picture.size, corner, max(picture.size) * 0.8, _colour(other, 0.7, 0.55))
    )
    return vignette(graded, 0.7)


def _colour(hue: float, saturation: float, value: float) -> Colour:
    red, green, blue = colorsys.hsv_to_rgb(hue % 1.0, saturation, value)
    return round(255 * red), round(255 * green), round(255 * blue)
