"""The six edits that a prompt can name, each a function from an image and a seed to an image."""

from __future__ import annotations

import colorsys
import random
from typing import TYPE_CHECKING, Literal

from PIL import Image, ImageChops, ImageDraw, ImageEnhance, ImageFilter, ImageOps, ImageStat

if TYPE_CHECKING:
    from collections.abc import Callable

Filter = Literal["starry-sky", "sunset", "snow", "watercolour", "pencil", "black-and-white", "two-tone"]
Colour = tuple[int, int, int]

_KEYWORDS: dict[Filter, tuple[str, ...]] = {
    "starry-sky": ("star", "night", "milky way", "galaxy", "星", "夜"),
    "sunset": ("sunset", "sunrise", "golden hour", "dusk", "日落", "夕"),
    "snow": ("snow", "winter", "blizzard", "frost", "雪"),
    "watercolour": ("watercolo", "water colo", "aquarel", "水彩"),
    "pencil": ("pencil", "sketch", "graphite", "铅笔", "鉛筆"),
    "black-and-white": (
        *("black and white", "black-and-white", "black & white", "b&w", "monochrome"),
        *("grayscale", "greyscale", "黑白", "白黒"),
    ),
}
_BLACK: Colour = (0, 0, 0)
_WHITE: Colour = (255, 255, 255)

_DETAIL_RADIUS = 5
"""Pixels around a detailed area that do not count as background."""

_EDGE_LEVEL, _DETAIL_LEVEL = 12, 8
"""The levels of an edge, and of edges on average, above which an area is not background."""

_BACKGROUND_SHARE = (0.12, 0.93)
"""The share of an image that a plausible background covers."""

_FILLED = 128


def choose_filter(prompt: str) -> Filter:
    """Return the filter whose keyword comes first in a prompt; `two-tone` without a keyword."""
    lowered = prompt.casefold()
    found: list[tuple[int, Filter]] = [
        (at, name) for name, words in _KEYWORDS.items() for word in words if (at := lowered.find(word)) >= 0
    ]
    return min(found)[1] if found else "two-tone"


def apply_filter(name: Filter, image: Image.Image, seed: int) -> Image.Image:
    """Return an edited copy of an RGB image; adjacent seeds give visibly different results."""
    return _FILTERS[name](image, seed)


def gradient(size: tuple[int, int], top: Colour, middle: Colour, bottom: Colour) -> Image.Image:
    """Return an RGB image whose colours run from top to bottom."""
    return ImageOps.colorize(Image.linear_gradient("L").resize(size), top, bottom, middle)


def glow(size: tuple[int, int], centre: tuple[float, float], radius: float, colour: Colour) -> Image.Image:
    """Return a soft light on black, for `ImageChops.screen`."""
    width = max(2, round(2 * radius))
    spot = _levels(Image.radial_gradient("L"), lambda level: 255 * max(0.0, 1 - level / 181) ** 2)
    light = Image.new("RGB", size)
    corner = (round(centre[0] - radius), round(centre[1] - radius))
    light.paste(colour, corner, spot.resize((width, width)))
    return light


def hsv(hue: float, saturation: float, value: float) -> Colour:
    """Return the RGB colour of a hue, a saturation and a value from 0 to 1; the hue wraps around."""
    red, green, blue = colorsys.hsv_to_rgb(hue % 1.0, saturation, value)
    return round(255 * red), round(255 * green), round(255 * blue)


def _starry_sky(image: Image.Image, seed: int) -> Image.Image:
    """Replace the background by a night sky and dim the rest as in moonlight."""
    draws = random.Random(seed)
    sky = gradient(image.size, (5, 7, 24), (14, 24, 66), hsv(0.55 + seed * 0.618 % 1 * 0.3, 0.6, 0.4))
    coarse, fine = (_noise(image.size, draws, max(image.size) / cells) for cells in (9, 24))
    clouds = _levels(Image.blend(coarse, fine, 0.35), lambda level: 2.4 * (level - 92))
    band = Image.new("L", image.size)
    slope = draws.choice((-0.3, 0.3)) * image.height
    ends = (0, image.height * 0.35 - slope), (image.width, image.height * 0.35 + slope)
    ImageDraw.Draw(band).line(ends, fill=255, width=max(1, max(image.size) // 6))
    clouds = ImageChops.multiply(clouds, band.filter(ImageFilter.GaussianBlur(max(image.size) / 16)))
    sky = ImageChops.screen(sky, ImageOps.colorize(clouds, _BLACK, (196, 172, 226), (84, 62, 142)))
    stars = _dots(image.size, draws, count=420, largest=0.0017)
    halo = _levels(stars.filter(ImageFilter.GaussianBlur(max(image.size) / 220)), lambda level: 3.0 * level)
    sky = ImageChops.screen(sky, ImageOps.colorize(ImageChops.add(stars, halo), _BLACK, (248, 246, 255)))
    centre = (image.width * draws.choice((0.13, 0.24, 0.77, 0.88)), image.height * draws.uniform(0.13, 0.22))
    sky = _with_disc(sky, centre, 0.035, (252, 246, 224), (96, 104, 140))
    moonlit = ImageChops.multiply(ImageEnhance.Color(image).enhance(0.75), _flat(image, (118, 132, 196)))
    return Image.composite(sky, ImageEnhance.Contrast(moonlit).enhance(1.15), _background(image))


def _sunset(image: Image.Image, seed: int) -> Image.Image:
    """Put an evening sky behind the subject and warm light on it."""
    draws = random.Random(seed)
    high = hsv(0.72 + 0.618 * seed % 1 * 0.12, 0.52, 0.56)
    sky = gradient(image.size, high, (232, 112, 104), (255, 196, 108))
    streaks = _levels(
        _noise(image.size, draws, image.height / 22, stretch=9), lambda level: 1.6 * (level - 140)
    )
    sky = ImageChops.screen(sky, ImageOps.colorize(streaks, _BLACK, (255, 190, 150)))
    centre = (image.width * draws.choice((0.16, 0.27, 0.74, 0.85)), image.height * draws.uniform(0.36, 0.5))
    sky = _with_disc(sky, centre, 0.065, (255, 244, 204), (220, 130, 60))
    warm = ImageChops.multiply(ImageEnhance.Contrast(image).enhance(1.1), _flat(image, (255, 194, 148)))
    warm = ImageChops.screen(warm, glow(image.size, centre, max(image.size) * 0.7, (110, 52, 14)))
    return Image.composite(sky, warm, _background(image))


def _snow(image: Image.Image, seed: int) -> Image.Image:
    """Cool the light, whiten the ground and let flakes fall."""
    draws = random.Random(seed)
    cold = ImageChops.multiply(ImageEnhance.Color(image).enhance(0.55), _flat(image, (212, 228, 255)))
    scene = ImageEnhance.Contrast(ImageEnhance.Brightness(cold).enhance(1.1 + 0.05 * (seed % 3))).enhance(0.9)
    overcast = gradient(image.size, (138, 158, 196), (190, 206, 232), (240, 244, 252))
    scene = Image.composite(overcast, scene, _levels(_background(image), lambda level: 0.85 * level))
    slope = Image.linear_gradient("L").resize(image.size)
    waves = _levels(_noise(image.size, draws, image.width / 3), lambda level: 0.16 * level)
    drifts = _levels(ImageChops.add(slope, waves, offset=-20), lambda level: 9 * (level - 226))
    scene.paste((246, 249, 255), mask=drifts)
    far = _dots(image.size, draws, count=420, largest=0.0025)
    near = _dots(image.size, draws, count=130, largest=0.009)
    near = near.filter(ImageFilter.GaussianBlur(max(image.size) / 420))
    scene.paste(_WHITE, mask=ImageChops.lighter(far, near))
    return scene


def _watercolour(image: Image.Image, seed: int) -> Image.Image:
    """Paint flat washes with dark rims on rough paper, with a ragged border."""
    draws = random.Random(seed)
    washes = _shrink(image, 512).filter(ImageFilter.ModeFilter(5))
    washes = Image.blend(ImageOps.posterize(washes, 4), washes, 0.4).filter(ImageFilter.MedianFilter(5))
    rims = _levels(washes.filter(ImageFilter.FIND_EDGES).convert("L"), lambda level: 255 - 0.9 * level)
    paint = ImageChops.multiply(washes, rims.filter(ImageFilter.GaussianBlur(1)).convert("RGB"))
    paint = ImageEnhance.Color(paint.resize(image.size, Image.Resampling.BICUBIC)).enhance(
        1.25 + 0.2 * (seed % 3)
    )
    blots = _levels(_noise(image.size, draws, max(image.size) / 11), lambda level: 116 + level / 4)
    paint = ImageChops.overlay(ImageEnhance.Brightness(paint).enhance(1.08), blots.convert("RGB"))
    frame = Image.new("L", image.size)
    margin = max(image.size) // 30
    frame.paste(255, (margin, margin, image.width - margin, image.height - margin))
    frame = frame.filter(ImageFilter.GaussianBlur(max(image.size) / 50))
    ragged = ImageChops.add(frame, _noise(image.size, draws, max(image.size) / 110), scale=2)
    ragged = _levels(ragged, lambda level: 9 * (level - 98))
    sheet = Image.composite(paint, _flat(image, (253, 249, 240)), ragged)
    fibre = _levels(_noise(image.size, draws, max(image.size) / 500), lambda level: 232 + level / 11)
    return ImageChops.multiply(sheet, fibre.convert("RGB"))


def _pencil(image: Image.Image, seed: int) -> Image.Image:
    """Draw the outlines on paper and hatch the shadows."""
    draws = random.Random(seed)
    grey = ImageOps.autocontrast(image.convert("L"), cutoff=1)
    blurred = grey.filter(ImageFilter.GaussianBlur(max(image.size) / 190))
    lines = ImageOps.invert(ImageChops.subtract(blurred, grey, scale=0.22))
    side = sum(image.size)
    strokes = _noise((side, side), draws, 2, stretch=26).rotate((38, 128, 62)[seed % 3])
    corner = ((side - image.width) // 2, (side - image.height) // 2)
    strokes = strokes.crop((*corner, corner[0] + image.width, corner[1] + image.height))
    hatching = ImageChops.add(_levels(grey, lambda level: 1.5 * level - 20), strokes, offset=-20)
    drawing = ImageChops.multiply(lines, _levels(hatching, lambda level: 120 + level / 1.9))
    ink: Colour = ((58, 40, 34), (44, 46, 54), (34, 44, 72))[seed % 3]
    paper: Colour = ((247, 238, 220), (246, 246, 242), (240, 243, 248))[seed % 3]
    return ImageOps.colorize(drawing, ink, paper)


def _black_and_white(image: Image.Image, seed: int) -> Image.Image:
    """Take the colour away, with strong contrast, grain and a tone of the print."""
    grey = ImageEnhance.Contrast(ImageOps.autocontrast(image.convert("L"), cutoff=1)).enhance(1.25)
    grains = _noise(image.size, random.Random(seed), 1)
    grey = Image.blend(grey, ImageChops.overlay(grey, grains), 0.3)
    dark, light = (
        ((14, 12, 12), (255, 250, 240)),
        ((2, 2, 4), (250, 250, 250)),
        ((30, 22, 14), (250, 232, 204)),
    )[seed % 3]
    return _vignette(ImageOps.colorize(grey, dark, light), 0.9)


def _two_tone(image: Image.Image, seed: int) -> Image.Image:
    """Recolour in two hues that belong to the prompt, with light from one side."""
    draws = random.Random(seed)
    hue = seed * 0.618034
    other = hue + draws.choice((0.33, 0.42, 0.5, 0.58))
    grey = ImageOps.autocontrast(image.convert("L"), cutoff=1)
    tones = ImageOps.colorize(grey, hsv(hue, 0.8, 0.14), hsv(other, 0.25, 1.0), hsv(hue, 0.65, 0.62))
    corner = (image.width * draws.choice((0.05, 0.95)), image.height * draws.uniform(0.0, 0.4))
    light = glow(image.size, corner, max(image.size) * 0.8, hsv(other, 0.7, 0.55))
    return _vignette(ImageChops.screen(Image.blend(image, tones, 0.68), light), 0.7)


_FILTERS: dict[Filter, Callable[[Image.Image, int], Image.Image]] = {
    "starry-sky": _starry_sky,
    "sunset": _sunset,
    "snow": _snow,
    "watercolour": _watercolour,
    "pencil": _pencil,
    "black-and-white": _black_and_white,
    "two-tone": _two_tone,
}


def _background(image: Image.Image) -> Image.Image:
    """Return a mask that is white on the background: the smooth areas that reach the upper borders.

    Where these are next to nothing, or nearly everything, the mask fades from the upper to the lower half.
    """
    small = _shrink(image, 240).filter(ImageFilter.MedianFilter(3))
    red, green, blue = (band.filter(ImageFilter.FIND_EDGES) for band in small.split())
    edges = ImageChops.lighter(ImageChops.lighter(red, green), blue)
    width, height = edges.size
    inner = (min(1, width - 1), min(1, height - 1), max(1, width - 1), max(1, height - 1))
    edges = edges.crop(inner).resize(edges.size)  # the filter leaves the outermost pixels as they were
    detail = edges.filter(ImageFilter.BoxBlur(_DETAIL_RADIUS))
    area = ImageChops.lighter(
        _levels(edges, lambda level: 255 * (level > _EDGE_LEVEL)),
        _levels(detail, lambda level: 255 * (level > _DETAIL_LEVEL)),
    )
    seeds = [(x, 0) for x in range(0, width, 4)]
    seeds += [(x, y) for x in (0, width - 1) for y in range(0, height // 2, 4)]
    for seed in seeds:
        if area.getpixel(seed) == 0:
            ImageDraw.floodfill(area, seed, _FILLED)
    mask = _levels(area, lambda level: 255 * (level == _FILLED))
    mask = mask.filter(ImageFilter.MaxFilter(2 * _DETAIL_RADIUS + 3)).filter(ImageFilter.MedianFilter(5))
    least, most = _BACKGROUND_SHARE
    if not least < ImageStat.Stat(mask).mean[0] / 255 < most:
        mask = _levels(Image.linear_gradient("L"), lambda level: 2.4 * (160 - level))
    mask = mask.resize(image.size, Image.Resampling.BICUBIC)
    return mask.filter(ImageFilter.GaussianBlur(max(image.size) / 600))


def _shrink(image: Image.Image, longest: int) -> Image.Image:
    """Return an image whose longer side has at most so many pixels."""
    small = image.copy()
    small.thumbnail((longest, longest))
    return small


def _levels(image: Image.Image, curve: Callable[[int], float]) -> Image.Image:
    """Return an image with its levels, 0 to 255, put through a function."""
    return image.point(
        [max(0, min(255, round(curve(level)))) for level in range(256)] * len(image.getbands())
    )


def _noise(size: tuple[int, int], draws: random.Random, cell: float, stretch: float = 1) -> Image.Image:
    """Return grey noise with grains of `cell` pixels, `stretch` times as wide as high."""
    width = max(2, min(size[0], round(size[0] / max(1.0, cell * stretch)) + 1))
    height = max(2, min(size[1], round(size[1] / max(1.0, cell)) + 1))
    grains = Image.frombytes("L", (width, height), draws.randbytes(width * height))
    return grains.resize(size, Image.Resampling.BICUBIC)


def _dots(size: tuple[int, int], draws: random.Random, count: int, largest: float) -> Image.Image:
    """Return white dots on black, the largest of a share of the longer side, most far smaller."""
    dots = Image.new("L", size)
    draw = ImageDraw.Draw(dots)
    for _ in range(count):
        x, y = draws.uniform(0, size[0]), draws.uniform(0, size[1])
        radius = max(size) * largest * draws.random() ** 2
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=draws.randrange(120, 256))
    return dots


def _with_disc(
    sky: Image.Image, centre: tuple[float, float], share: float, colour: Colour, light: Colour
) -> Image.Image:
    """Return a sky with a sun or a moon in it, its radius a share of the longer side."""
    radius = max(sky.size) * share
    bright = ImageChops.screen(sky, glow(sky.size, centre, radius * 6, light))
    disc = Image.new("L", sky.size)
    x, y = centre
    ImageDraw.Draw(disc).ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)
    bright.paste(colour, mask=disc.filter(ImageFilter.GaussianBlur(radius / 25)))
    return bright


def _flat(image: Image.Image, colour: Colour) -> Image.Image:
    """Return an image of one colour, as large as another."""
    return Image.new("RGB", image.size, colour)


def _vignette(image: Image.Image, strength: float) -> Image.Image:
    """Return an image that darkens towards its corners."""
    shade = _levels(Image.radial_gradient("L"), lambda level: (level - 90) * strength)
    return Image.composite(_flat(image, _BLACK), image, shade.resize(image.size))
