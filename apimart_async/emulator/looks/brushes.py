"""Looks that redraw the picture by hand: watercolour, pencil, and black-and-white film."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PIL import Image, ImageChops, ImageDraw, ImageEnhance, ImageFilter

from .tones import clouds, contrast, curve, gradient_map, grain, noise, tint, vignette

if TYPE_CHECKING:
    import random

    from .variation import Variation

_PAPER = (250, 246, 236)
_PENCILS = (
    ((0.0, (48, 46, 50)), (1.0, (250, 247, 240))),
    ((0.0, (92, 44, 30)), (1.0, (246, 236, 216))),
    ((0.0, (24, 34, 72)), (1.0, (240, 244, 248))),
)
_SILVERS = (
    ((0.0, (0, 0, 0)), (1.0, (255, 255, 255))),
    ((0.0, (10, 6, 2)), (0.5, (134, 126, 116)), (1.0, (255, 250, 240))),
    ((0.0, (2, 4, 10)), (0.5, (116, 122, 132)), (1.0, (244, 250, 255))),
)
_WORKING_SIDE = 480


def watercolour(picture: Image.Image, source: Variation) -> Image.Image:
    """Paint in flat, bleeding washes on rough paper, with an uneven white edge."""
    small = picture.copy()
    small.thumbnail((_WORKING_SIDE, _WORKING_SIDE), Image.Resampling.BOX)
    for _ in range(2):
        small = small.filter(ImageFilter.MedianFilter(5))
    washes = ImageEnhance.Color(small.resize(picture.size, Image.Resampling.BICUBIC)).enhance(1.45)
    washes = tint(contrast(washes, 0.85, 160), (1.0, 1.0, 1.0), (16, 14, 10))
    step = source.style((26, 32, 38))
    flat = curve(washes, lambda level: level // step * step + step // 2)
    washes = Image.blend(washes, flat.filter(ImageFilter.GaussianBlur(max(0.8, picture.width / 400))), 0.4)
    pooled = (
        flat.convert("L")
        .filter(ImageFilter.FIND_EDGES)
        .filter(ImageFilter.GaussianBlur(max(0.6, picture.width / 800)))
    )
    washes = ImageChops.subtract(washes, curve(pooled, lambda level: min(24, level)).convert("RGB"))
    pigment = clouds(picture.size, source, max(4.0, picture.width / 7)).convert("RGB")
    washes = Image.blend(washes, ImageChops.soft_light(washes, pigment), 0.7)
    washes = grain(washes, source, 0.16, max(1.0, picture.width / 500))
    return Image.composite(
        washes, Image.new("RGB", picture.size, _PAPER), _painted_area(picture.size, source)
    )


def pencil(picture: Image.Image, source: Variation) -> Image.Image:
    """Draw in graphite: lines where the tones change, hatching where it is dark."""
    grey = picture.convert("L")
    unit = max(1.0, min(picture.size) / 300)
    lines = ImageChops.subtract(grey.filter(ImageFilter.GaussianBlur(unit * 2)), grey)
    lines = ImageChops.invert(curve(lines, lambda level: (level - 2) * 5.5))
    strokes = noise((picture.width * 2, max(2, picture.height // 9)), source).resize(
        (picture.width * 2, picture.height * 2)
    )
    strokes = strokes.rotate(source.style((38, -38, 52)), Image.Resampling.BILINEAR)
    left, top = picture.width // 2, picture.height // 2
    strokes = contrast(strokes.crop((left, top, left + picture.width, top + picture.height)), 1.5)
    dark = curve(contrast(grey, 1.2, 110), lambda level: (255 - level) * 0.62)
    drawing = ImageChops.multiply(lines, ImageChops.invert(ImageChops.multiply(dark, strokes)))
    return gradient_map(drawing, source.style(_PENCILS))


def black_and_white(picture: Image.Image, source: Variation) -> Image.Image:
    """Develop on black-and-white film: contrast, grain and a darker edge."""
    red, green, blue = source.style(((0.3, 0.59, 0.11), (0.6, 0.35, 0.05), (0.15, 0.45, 0.4)))
    grey = picture.convert("L", (red, green, blue, 0))
    toned = contrast(grey, source.uniform(1.2, 1.4), 120)
    toned = grain(toned, source, 0.12, max(1.0, picture.width / 900))
    return vignette(gradient_map(toned, source.style(_SILVERS)), 0.8)


def _painted_area(size: tuple[int, int], source: random.Random) -> Image.Image:
    width, height = size
    margin = min(size) // 26
    area = Image.new("L", size)
    ImageDraw.Draw(area).rectangle((margin, margin, width - margin - 1, height - margin - 1), fill=255)
    area = area.filter(ImageFilter.GaussianBlur(max(0.5, margin / 2)))
    ragged = clouds(size, source, max(2.0, min(size) / 28))
    return contrast(ImageChops.add(area, ragged, scale=1, offset=-128), 5.0, 128)
