"""Light and colour: gradients, tints, grain and glow, all seeded and all inside Pillow's C code."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from PIL import Image, ImageChops, ImageDraw, ImageFilter

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Sequence

Colour = tuple[int, int, int]
Stop = tuple[float, Colour]

_INSCRIBED = 181
"""What Pillow's radial gradient is where the largest circle ends."""


def mix(first: Colour, second: Colour, share: float) -> Colour:
    """Return a colour between two: the first at 0, the second at 1."""
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(first, second, strict=True))
    return red, green, blue


def ramp(stops: Sequence[Stop], count: int) -> list[Colour]:
    """Return `count` colours along stops that run from 0 to 1."""
    colours: list[Colour] = []
    for index in range(count):
        where = index / max(1, count - 1)
        later = next((i for i, (at, _) in enumerate(stops) if at >= where), len(stops) - 1)
        (low, first), (high, second) = stops[max(0, later - 1)], stops[later]
        colours.append(mix(first, second, (where - low) / (high - low) if high > low else 0.0))
    return colours


def vertical(size: tuple[int, int], stops: Sequence[Stop]) -> Image.Image:
    """Return a picture whose colours run through the stops from top to bottom."""
    column = Image.new("RGB", (1, 256))
    column.putdata(ramp(stops, 256))
    return column.resize(size, Image.Resampling.BILINEAR)


def vertical_mask(size: tuple[int, int], top: int, bottom: int, start: float, end: float) -> Image.Image:
    """Return a mask of value `top` above `start` and `bottom` below `end` (shares of the height)."""
    high, low = (top, top, top), (bottom, bottom, bottom)
    tones: list[Stop] = [(0.0, high), (start, high), (end, low), (1.0, low)]
    return vertical(size, tones).getchannel("R")


def gradient_map(picture: Image.Image, stops: Sequence[Stop]) -> Image.Image:
    """Return a picture recoloured by its brightness: dark takes the first stop, bright the last."""
    colours = ramp(stops, 256)
    table = [colour[channel] for channel in range(3) for colour in colours]
    grey = picture.convert("L")
    return Image.merge("RGB", (grey, grey, grey)).point(table)


def curve(picture: Image.Image, *tones: Callable[[int], float]) -> Image.Image:
    """Return a picture with its levels (0 to 255) put through a function, or each channel through its own."""
    bands = tones if len(tones) > 1 else tones * len(picture.getbands())
    return picture.point([max(0, min(255, round(tone(level)))) for tone in bands for level in range(256)])


def tint(picture: Image.Image, gains: tuple[float, float, float], lift: Colour = (0, 0, 0)) -> Image.Image:
    """Return an RGB picture with each channel multiplied and raised."""
    pairs = zip(gains, lift, strict=True)
    return curve(picture, *(partial(_line, gain=gain, raised=raised) for gain, raised in pairs))


def contrast(picture: Image.Image, amount: float, middle: int = 128) -> Image.Image:
    """Return a picture whose levels are spread around a middle one."""
    return curve(picture, partial(_line, gain=amount, raised=middle * (1 - amount)))


def noise(size: tuple[int, int], source: random.Random, cell: float = 1.0) -> Image.Image:
    """Return grey noise whose grains are about `cell` pixels wide."""
    width, height = (max(2, min(side, round(side / cell) + 1)) for side in size)
    grains = Image.frombytes("L", (width, height), source.randbytes(width * height))
    return grains if (width, height) == size else grains.resize(size, Image.Resampling.BICUBIC)


def clouds(size: tuple[int, int], source: random.Random, cell: float) -> Image.Image:
    """Return noise of several sizes together, like clouds."""
    picture = noise(size, source, cell)
    for share, finer in ((0.35, cell / 2.5), (0.2, cell / 6)):
        picture = Image.blend(picture, noise(size, source, max(1.0, finer)), share)
    return picture


def grain(picture: Image.Image, source: random.Random, strength: float, cell: float = 1.0) -> Image.Image:
    """Return a picture with film grain or paper fibre of a strength between 0 and 1."""
    flecks = noise(picture.size, source, cell).convert(picture.mode)
    return Image.blend(picture, ImageChops.overlay(picture, flecks), strength)


def vignette(picture: Image.Image, strength: float) -> Image.Image:
    """Return a picture that darkens towards its corners."""
    falloff = curve(Image.radial_gradient("L"), lambda level: (level - 90) * strength)
    shade = falloff.resize(picture.size, Image.Resampling.BILINEAR)
    return Image.composite(Image.new(picture.mode, picture.size), picture, shade)


def glow(size: tuple[int, int], centre: tuple[float, float], radius: float, colour: Colour) -> Image.Image:
    """Return a soft light on black, for `ImageChops.screen`."""
    light = Image.new("RGB", size)
    across = max(2, round(2 * radius))
    falloff = curve(Image.radial_gradient("L"), lambda level: 255 * max(0.0, 1 - level / _INSCRIBED) ** 2)
    spot = falloff.resize((across, across), Image.Resampling.BILINEAR)
    corner = (round(centre[0] - radius), round(centre[1] - radius))
    light.paste(Image.new("RGB", spot.size, colour), corner, spot)
    return light


def disc(size: tuple[int, int], centre: tuple[float, float], radius: float) -> Image.Image:
    """Return a mask of a filled circle with a smooth edge."""
    mask = Image.new("L", size)
    x, y = centre
    ImageDraw.Draw(mask).ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)
    return mask.filter(ImageFilter.GaussianBlur(max(0.5, radius / 40)))


def _line(level: int, gain: float, raised: float) -> float:
    return level * gain + raised
