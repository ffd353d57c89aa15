"""The look of a city at night, lit by neon."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PIL import Image, ImageChops, ImageDraw, ImageFilter

from .tones import Colour, Stop, contrast, curve, glow, gradient_map, vignette

if TYPE_CHECKING:
    from .variation import Variation

_PALETTES: tuple[tuple[tuple[Stop, ...], Colour, Colour], ...] = (
    (
        ((0.0, (6, 2, 26)), (0.4, (58, 12, 110)), (0.7, (214, 34, 150)), (1.0, (150, 250, 255))),
        (255, 20, 170),
        (0, 220, 255),
    ),
    (
        ((0.0, (2, 6, 26)), (0.4, (8, 54, 116)), (0.7, (20, 176, 190)), (1.0, (255, 224, 250))),
        (0, 255, 210),
        (255, 60, 200),
    ),
    (
        ((0.0, (14, 2, 22)), (0.4, (104, 8, 80)), (0.7, (246, 76, 60)), (1.0, (255, 240, 140))),
        (255, 90, 40),
        (150, 60, 255),
    ),
)


def cyberpunk(picture: Image.Image, source: Variation) -> Image.Image:
    """Grade in neon, trace the edges with light and let the colours part as on a worn screen."""
    stops, first, second = source.style(_PALETTES)
    width, height = picture.size
    graded = Image.blend(gradient_map(contrast(picture, 1.25, 118), stops), contrast(picture, 1.1), 0.3)
    graded = ImageChops.screen(graded, _neon(picture, first, second))
    graded = ImageChops.screen(
        graded, glow(picture.size, (width * source.uniform(0, 0.3), height * 0.1), width * 0.7, _dim(first))
    )
    graded = ImageChops.screen(
        graded, glow(picture.size, (width * source.uniform(0.7, 1), height * 0.9), width * 0.7, _dim(second))
    )
    red, green, blue = graded.split()
    parted = max(1, width // 260)
    graded = Image.merge(
        "RGB", (ImageChops.offset(red, parted, 0), green, ImageChops.offset(blue, -parted, 0))
    )
    return vignette(_scanlines(graded), 1.0)


def _dim(colour: Colour) -> Colour:
    red, green, blue = colour
    return red // 3, green // 3, blue // 3


def _neon(picture: Image.Image, first: Colour, second: Colour) -> Image.Image:
    unit = max(0.6, min(picture.size) / 420)
    edges = picture.convert("L").filter(ImageFilter.GaussianBlur(unit)).filter(ImageFilter.FIND_EDGES)
    ImageDraw.Draw(edges).rectangle((0, 0, edges.width - 1, edges.height - 1), outline=0, width=2)
    lines = curve(edges, lambda level: (level - 14) * 5)
    halo = lines.filter(ImageFilter.GaussianBlur(unit * 4))
    sides = Image.linear_gradient("L").rotate(90).resize(picture.size, Image.Resampling.BILINEAR)
    ink = Image.composite(
        Image.new("RGB", picture.size, first), Image.new("RGB", picture.size, second), sides
    )
    lit = ImageChops.add(lines.filter(ImageFilter.GaussianBlur(unit * 0.5)), halo)
    return ImageChops.multiply(ink, lit.convert("RGB"))


def _scanlines(picture: Image.Image) -> Image.Image:
    pitch = max(2, picture.height // 220)
    shade = Image.new("L", (1, pitch), 255)
    shade.putpixel((0, pitch - 1), 205)
    lines = Image.new("L", (1, picture.height))
    for top in range(0, picture.height, pitch):
        lines.paste(shade, (0, top))
    return ImageChops.multiply(picture, lines.resize(picture.size).convert("RGB"))
