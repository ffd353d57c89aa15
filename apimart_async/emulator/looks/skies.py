"""Looks that repaint the background as a sky: a starry night and a sunset."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from PIL import Image, ImageChops, ImageDraw, ImageFilter

from .background import background_mask
from .tones import Colour, Stop, clouds, contrast, curve, disc, glow, gradient_map, tint, vertical

if TYPE_CHECKING:
    import random

    from .variation import Variation

_NIGHTS: tuple[tuple[Stop, ...], ...] = (
    ((0.0, (5, 7, 28)), (0.45, (17, 24, 74)), (0.8, (58, 46, 118)), (1.0, (122, 78, 140))),
    ((0.0, (3, 10, 24)), (0.45, (8, 38, 66)), (0.8, (20, 84, 104)), (1.0, (86, 140, 132))),
    ((0.0, (12, 5, 30)), (0.5, (50, 18, 84)), (0.8, (120, 42, 108)), (1.0, (206, 110, 112))),
)
_EVENINGS: tuple[tuple[Stop, ...], ...] = (
    ((0.0, (44, 48, 104)), (0.35, (150, 74, 122)), (0.62, (240, 122, 84)), (1.0, (255, 204, 116))),
    ((0.0, (70, 90, 150)), (0.4, (214, 138, 148)), (0.7, (252, 172, 108)), (1.0, (255, 226, 164))),
    ((0.0, (46, 20, 58)), (0.4, (160, 36, 62)), (0.7, (236, 88, 44)), (1.0, (255, 178, 66))),
)
_MOONLIT = 0.4
"""How many of the nights have a moon."""

_FLARING = 0.82
"""How bright a star is that has a halo."""

_STARLIGHT: tuple[Colour, ...] = ((255, 255, 255), (206, 222, 255), (255, 236, 208), (186, 206, 255))


def starry_sky(picture: Image.Image, source: Variation) -> Image.Image:
    """Put the subject under a night full of stars."""
    mask = background_mask(picture)
    sky = _night(picture.size, source)
    subject = tint(contrast(picture, 0.92), (0.56, 0.6, 0.8), (2, 4, 14))
    scene = Image.composite(sky, subject, mask)
    return ImageChops.screen(scene, _rim(mask, (70, 86, 150)))


def sunset(picture: Image.Image, source: Variation) -> Image.Image:
    """Put the subject in front of the setting sun."""
    mask = background_mask(picture)
    width, height = picture.size
    sky = vertical(picture.size, source.style(_EVENINGS))
    bands = clouds((width, max(2, height // 4)), source, max(4.0, width / 5)).resize(picture.size)
    veil = curve(contrast(bands, 1.8, 140), lambda level: level * 0.45)
    sky = Image.composite(tint(sky, (0.72, 0.6, 0.72)), sky, veil)
    centre = (width * source.uniform(0.25, 0.75), height * source.uniform(0.45, 0.6))
    radius = min(picture.size) * source.uniform(0.07, 0.1)
    sky = ImageChops.screen(sky, glow(picture.size, centre, radius * 7, (255, 176, 96)))
    sky.paste((255, 240, 196), (0, 0), disc(picture.size, centre, radius))
    subject = tint(contrast(picture, 0.95), (0.94, 0.68, 0.56), (14, 4, 6))
    scene = Image.composite(sky, subject, mask)
    return ImageChops.screen(scene, _rim(mask, (190, 104, 52)))


def _rim(mask: Image.Image, colour: Colour) -> Image.Image:
    """Return the light that a sky throws on the edge of what stands before it."""
    reach = max(1.0, min(mask.size) / 50)
    near = mask.filter(ImageFilter.GaussianBlur(reach))
    return Image.composite(
        Image.new("RGB", mask.size, colour), Image.new("RGB", mask.size), ImageChops.subtract(near, mask)
    )


def _night(size: tuple[int, int], source: Variation) -> Image.Image:
    sky = vertical(size, source.style(_NIGHTS))
    sky = ImageChops.screen(sky, _milky_way(size, source))
    sky = ImageChops.screen(sky, _stars(size, source))
    if source.random() < _MOONLIT:
        width, height = size
        centre = (width * source.uniform(0.12, 0.88), height * source.uniform(0.1, 0.25))
        radius = min(size) * source.uniform(0.04, 0.065)
        sky = ImageChops.screen(sky, glow(size, centre, radius * 5, (120, 126, 150)))
        sky.paste((246, 242, 222), (0, 0), disc(size, centre, radius))
    return sky


def _milky_way(size: tuple[int, int], source: random.Random) -> Image.Image:
    diagonal = math.hypot(*size)
    side = max(4, round(diagonal))
    band = curve(Image.linear_gradient("L"), lambda level: 255 * math.exp(-(((level - 128) / 34) ** 2)))
    band = band.resize((side, side), Image.Resampling.BILINEAR)
    dust = contrast(clouds((side, side), source, max(3.0, side / 9)), 2.2, 150)
    band = ImageChops.multiply(band, dust).rotate(
        source.choice((-1, 1)) * source.uniform(25, 60), Image.Resampling.BILINEAR
    )
    left, top = (side - size[0]) // 2, (side - size[1]) // 2
    band = band.crop((left, top, left + size[0], top + size[1]))
    return gradient_map(band, ((0.0, (0, 0, 0)), (0.5, (44, 44, 92)), (1.0, (150, 140, 176))))


def _stars(size: tuple[int, int], source: random.Random) -> Image.Image:
    width, height = size
    small, large = Image.new("RGB", size), Image.new("RGB", size)
    dots, flares = ImageDraw.Draw(small), ImageDraw.Draw(large)
    unit = max(1.0, min(size) / 420)
    for _ in range(min(2200, max(24, round(width * height / (330 * unit * unit))))):
        x, y = source.uniform(0, width), height * source.random() ** 1.25
        brightness = source.random() ** 3
        tone = source.choice(_STARLIGHT)
        colour = tuple(round(part * (0.35 + 0.65 * brightness)) for part in tone)
        reach = unit * (0.25 + 0.75 * brightness)
        dots.ellipse((x - reach, y - reach, x + reach, y + reach), fill=colour)
        if brightness > _FLARING:
            reach *= 2.2
            flares.ellipse((x - reach, y - reach, x + reach, y + reach), fill=colour)
    halo = large.filter(ImageFilter.GaussianBlur(unit * 2.4))
    return ImageChops.screen(small, ImageChops.add(halo, halo))
