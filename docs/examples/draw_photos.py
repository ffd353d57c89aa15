"""Draw the three example photos: a lighthouse, a mug and a portrait.

Run it as ``python docs/examples/draw_photos.py [DIRECTORY]``; it needs Pillow. The same pictures come out
every time, so they belong to the project and nobody has to be asked for them.
"""

from __future__ import annotations

import math
import operator
import sys
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, TypeAlias

from PIL import Image, ImageChops, ImageDraw, ImageFilter

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

WIDTH, HEIGHT = 1024, 768
# Drawn larger and scaled down, which smooths the edges.
OVERSAMPLING = 3

Color: TypeAlias = tuple[int, int, int]
Point: TypeAlias = tuple[float, float]

WHITE: Color = (255, 255, 255)


class Canvas:
    """A picture in the making; coordinates are those of the finished picture.

    Each shape is filled with its colors as a gradient, from top to bottom or ``across`` from left to right.
    """

    def __init__(self) -> None:
        self.image = Image.new("RGB", (WIDTH * OVERSAMPLING, HEIGHT * OVERSAMPLING))

    def polygon(
        self,
        points: Sequence[Point],
        *colors: Color,
        opacity: float = 1,
        blur: float = 0,
        across: bool = False,
    ) -> None:
        """Fill a polygon; ``blur`` softens its edge by that many pixels."""
        flat = [value * OVERSAMPLING for point in points for value in point]
        self._fill(lambda draw: draw.polygon(flat, fill=255), colors, opacity, blur, across=across)

    def ellipse(
        self,
        center: Point,
        radii: Point,
        *colors: Color,
        opacity: float = 1,
        blur: float = 0,
        across: bool = False,
    ) -> None:
        """Fill an ellipse."""
        (x, y), (wide, high) = center, radii
        box = [value * OVERSAMPLING for value in (x - wide, y - high, x + wide, y + high)]
        self._fill(lambda draw: draw.ellipse(box, fill=255), colors, opacity, blur, across=across)

    def line(
        self, points: Sequence[Point], width: float, *colors: Color, opacity: float = 1, blur: float = 0
    ) -> None:
        """Draw a line with round ends."""
        radius = width * OVERSAMPLING / 2
        places = [(x * OVERSAMPLING, y * OVERSAMPLING) for x, y in points]

        def stroke(draw: ImageDraw.ImageDraw) -> None:
            draw.line(places, fill=255, width=max(1, round(2 * radius)), joint="curve")
            for x, y in (places[0], places[-1]):
                draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)

        self._fill(stroke, colors, opacity, blur, across=False)

    def _fill(
        self,
        draw: Callable[[ImageDraw.ImageDraw], None],
        colors: Sequence[Color],
        opacity: float,
        blur: float,
        *,
        across: bool,
    ) -> None:
        mask = Image.new("L", self.image.size)
        draw(ImageDraw.Draw(mask))
        if (shape := mask.getbbox()) is None:
            return
        margin = math.ceil(3 * blur * OVERSAMPLING)
        left, top = max(0, shape[0] - margin), max(0, shape[1] - margin)
        right, bottom = min(mask.width, shape[2] + margin), min(mask.height, shape[3] + margin)
        mask = mask.crop((left, top, right, bottom)).filter(ImageFilter.GaussianBlur(blur * OVERSAMPLING))
        mask = mask.point([round(value * opacity) for value in range(256)])
        self.image.paste(gradient(mask.size, colors, across=across), (left, top), mask)

    def finished(self, random: Random) -> Image.Image:
        """Return the picture with a little grain and darker corners, as a sensor and a lens give them."""
        small = self.image.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS)
        grain = Image.frombytes("L", (WIDTH // 2, HEIGHT // 2), random.randbytes(WIDTH * HEIGHT // 4))
        grain = grain.point([round(128 + (value - 128) * 0.045) for value in range(256)])
        grain = grain.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
        corners = Image.radial_gradient("L").resize((WIDTH, HEIGHT))
        corners = corners.point([round(255 - max(0, value - 110) * 0.4) for value in range(256)])
        grained = ImageChops.overlay(small, Image.merge("RGB", (grain, grain, grain)))
        return ImageChops.multiply(grained, Image.merge("RGB", (corners, corners, corners)))


def gradient(size: tuple[int, int], colors: Sequence[Color], *, across: bool) -> Image.Image:
    """Return an image of evenly spaced colors that flow into each other."""
    if len(colors) == 1:
        return Image.new("RGB", size, colors[0])
    last = len(colors) - 1
    stops = Image.new("RGB", (last + 1, 1) if across else (1, last + 1))
    stops.putdata(colors)
    # From the middle of the first color to the middle of the last.
    middles = (0.5, 0, last + 0.5, 1) if across else (0, 0.5, 1, last + 0.5)
    return stops.resize(size, Image.Resampling.BILINEAR, middles)


def rectangle(left: float, top: float, right: float, bottom: float) -> list[Point]:
    """Return the corners of a rectangle."""
    return [(left, top), (right, top), (right, bottom), (left, bottom)]


def arc(center: Point, radii: Point, start: float, end: float) -> list[Point]:
    """Return points on an ellipse, from one angle in degrees to another; 0 is to the right, 90 below."""
    (x, y), (wide, high) = center, radii
    angles = [math.radians(start + (end - start) * step / 48) for step in range(49)]
    return [(x + wide * math.cos(angle), y + high * math.sin(angle)) for angle in angles]


def curve(start: Point, pull: Point, end: Point) -> list[Point]:
    """Return points on the curve from start to end that leans towards ``pull``."""
    points: list[Point] = []
    for step in range(25):
        after = step / 24
        weights = ((1 - after) ** 2, 2 * after * (1 - after), after**2)
        x, y = (sum(map(operator.mul, weights, axis)) for axis in zip(start, pull, end, strict=True))
        points.append((x, y))
    return points


def lighthouse(random: Random) -> Image.Image:
    """Draw a red and white lighthouse on a green cliff above the sea."""
    canvas = Canvas()
    horizon = 470
    canvas.polygon(rectangle(0, 0, WIDTH, horizon), (74, 142, 208), (150, 199, 232), (222, 236, 240))
    canvas.ellipse((170, 130), (120, 120), (255, 250, 225), opacity=0.5, blur=60)
    for x, y, size in [(150, 210, 1.0), (420, 120, 0.8), (900, 190, 1.1), (610, 330, 0.5), (60, 380, 0.6)]:
        _cloud(canvas, x, y, size, random)
    _sea(canvas, horizon, random)
    headland = [(0, 470), (0, 446), (90, 438), (190, 449), (300, 458), (390, 470)]
    canvas.polygon(headland, (126, 156, 176), (140, 172, 190))
    _cliff(canvas, random)
    canvas.polygon([(690, 548), (790, 542), (990, 566), (900, 582)], (40, 66, 36), opacity=0.45, blur=8)
    _cottage(canvas)
    _tower(canvas)
    return canvas.finished(random)


def _cloud(canvas: Canvas, x: float, y: float, size: float, random: Random) -> None:
    for _ in range(26):
        puff = (x + random.gauss(0, 55 * size), y - abs(random.gauss(0, 16 * size)))
        radius = random.uniform(14, 34) * size
        canvas.ellipse(puff, (radius * 1.5, radius), WHITE, (226, 234, 242), opacity=0.45, blur=7)


def _sea(canvas: Canvas, horizon: float, random: Random) -> None:
    canvas.polygon(rectangle(0, horizon, WIDTH, HEIGHT), (96, 156, 184), (40, 106, 146), (20, 70, 108))
    for _ in range(240):
        depth = (HEIGHT - horizon) * random.random() ** 1.6
        x, y = random.uniform(0, WIDTH), horizon + 4 + depth
        glint = [(x, y), (x + 6 + depth * random.uniform(0.05, 0.25), y)]
        canvas.line(glint, 1 + depth / 160, WHITE, opacity=random.uniform(0.06, 0.3))


def _cliff(canvas: Canvas, random: Random) -> None:
    rock: list[Point] = [(380, HEIGHT)]
    rock += [(410 + 9 * step + random.uniform(-12, 12), 740 - 20 * step) for step in range(8)]
    rock += [(500, 560), (WIDTH, 520), (WIDTH, HEIGHT)]
    canvas.polygon(rock, (152, 128, 102), (84, 70, 60))
    for _ in range(260):
        x, y = random.uniform(480, WIDTH), random.uniform(600, HEIGHT)
        crack = [(x, y), (x + random.uniform(-14, 4), y + random.uniform(10, 46))]
        canvas.line(crack, 2.5, random.choice([(60, 50, 44), (190, 166, 136)]), opacity=0.28, blur=0.6)
    grass: list[Point] = [(476, 590), (486, 566), (540, 540), (640, 520), (760, 508), (900, 506)]
    grass += [(WIDTH, 498), (WIDTH, 640), (900, 626), (800, 640), (690, 612), (600, 620), (540, 596)]
    canvas.polygon(grass, (140, 178, 84), (84, 132, 60), (56, 96, 46))
    for _ in range(900):
        x = random.uniform(500, WIDTH)
        y = random.uniform(562 - (x - 500) * 0.1, 606)
        blade = [(x, y), (x + random.uniform(-3, 3), y - random.uniform(4, 11))]
        canvas.line(blade, 1.2, random.choice([(166, 196, 96), (60, 104, 48), (108, 154, 70)]), opacity=0.7)


def _cottage(canvas: Canvas) -> None:
    canvas.polygon(rectangle(796, 474, 930, 548), (250, 246, 236), (222, 214, 202), across=True)
    canvas.polygon([(782, 478), (816, 428), (914, 428), (946, 478)], (186, 76, 58), (150, 54, 44))
    canvas.polygon(rectangle(884, 408, 904, 440), (176, 110, 92), (140, 84, 72), across=True)
    for left in (816, 888):
        canvas.polygon(rectangle(left, 494, left + 24, 520), (70, 96, 120), (120, 150, 172))
    canvas.polygon(rectangle(852, 500, 874, 548), (52, 92, 108), (38, 70, 84))


def _tower(canvas: Canvas) -> None:
    top, bottom, middle, bands = 196, 556, 712, 7
    white = ((236, 238, 240), WHITE, (206, 208, 214), (158, 162, 174))
    red = ((196, 58, 50), (224, 78, 64), (176, 44, 42), (122, 28, 34))

    def half(y: float) -> float:
        return 36 + 30 * math.pow((y - top) / (bottom - top), 1.25)

    # From the ground up, each band covering the round upper edge of the one below.
    for band in reversed(range(bands)):
        upper, lower = (top + (bottom - top) * edge / bands for edge in (band, band + 1))
        corners = [(middle - half(upper), upper), (middle + half(upper), upper)]
        rounding = arc((middle, lower), (half(lower), 7), 0, 180)
        canvas.polygon([*corners, *rounding], *(red if band % 2 else white), across=True)
    for y in (270, 375):
        canvas.polygon(rectangle(middle - 9, y, middle + 9, y + 30), (40, 52, 68), (84, 104, 124))
        canvas.ellipse((middle, y), (9, 9), (40, 52, 68))
    canvas.polygon(rectangle(middle - 17, 512, middle + 17, 562), (92, 60, 42), (64, 40, 30))
    canvas.ellipse((middle, 512), (17, 15), (92, 60, 42))
    canvas.polygon(rectangle(middle - 52, 184, middle + 52, 200), (70, 78, 90), (40, 46, 56))
    for x in range(middle - 50, middle + 51, 20):
        canvas.line([(x, 184), (x, 158)], 2.5, (52, 58, 68))
    canvas.line([(middle - 52, 158), (middle + 52, 158)], 3, (52, 58, 68))
    canvas.polygon(rectangle(middle - 28, 124, middle + 28, 184), (250, 236, 170), (255, 214, 110))
    canvas.ellipse((middle, 154), (46, 40), (255, 240, 180), opacity=0.45, blur=14)
    for x in (middle - 28, middle - 9, middle + 9, middle + 28):
        canvas.line([(x, 124), (x, 184)], 3, (48, 54, 64))
    canvas.polygon(
        [(middle - 40, 126), *arc((middle, 126), (40, 44), 180, 360)], (206, 70, 58), (140, 36, 38)
    )
    canvas.line([(middle, 84), (middle, 56)], 4, (48, 54, 64))
    canvas.ellipse((middle, 56), (6, 6), (190, 150, 60))


def mug(random: Random) -> Image.Image:
    """Draw a mug of coffee and two biscuits on a wooden table before a plain wall."""
    canvas = Canvas()
    edge = 500
    canvas.polygon(rectangle(0, 0, WIDTH, edge), (226, 214, 198), (238, 228, 214), across=True)
    canvas.polygon([(90, 0), (400, 0), (560, edge), (250, edge)], (255, 248, 232), opacity=0.6, blur=26)
    canvas.polygon(rectangle(0, edge, WIDTH, HEIGHT), (176, 120, 74), (148, 94, 54))
    for _ in range(420):
        y = edge + (HEIGHT - edge) * random.random()
        x, length = random.uniform(-200, WIDTH), random.uniform(80, 420)
        wave = [(x + length * step / 6, y + random.uniform(-1.2, 1.2)) for step in range(7)]
        canvas.line(
            wave, random.uniform(0.8, 2.2), random.choice([(104, 62, 34), (206, 152, 102)]), opacity=0.22
        )
    for y in (edge + 3, 588, 690):
        canvas.line([(0, y), (WIDTH, y)], 2.5, (84, 48, 26), opacity=0.7)
    canvas.ellipse((600, 648), (260, 30), (46, 24, 12), opacity=0.5, blur=16)
    canvas.ellipse((522, 632), (146, 24), (36, 18, 8), opacity=0.8, blur=6)
    teal = ((20, 92, 100), (52, 148, 154), (120, 204, 204), (46, 140, 146), (22, 92, 102), (14, 66, 76))
    handle = arc((646, 458), (118, 100), -95, 100)
    canvas.line(handle, 34, (30, 108, 116), (14, 70, 80))
    canvas.line([(x - 4, y - 5) for x, y in handle], 10, (110, 190, 192), opacity=0.55, blur=3)
    body = [*arc((512, 612), (136, 34), 0, 180), (352, 330), (672, 330)]
    canvas.polygon(body, *teal, across=True)
    canvas.ellipse((512, 330), (160, 38), (90, 180, 182), (40, 128, 136), (20, 92, 100), across=True)
    canvas.ellipse((512, 332), (148, 31), (12, 60, 68), (30, 104, 112))
    canvas.ellipse((512, 340), (139, 24), (58, 30, 16), (104, 62, 34))
    canvas.ellipse((470, 337), (56, 8), (190, 132, 84), opacity=0.5, blur=5)
    canvas.polygon([(396, 380), (420, 384), (430, 590), (410, 584)], WHITE, opacity=0.35, blur=7)
    for x, lean in ((450, 30), (520, -36), (580, 26)):
        wisp = [(x + lean * math.sin(step / 5), 318 - 9 * step) for step in range(25)]
        canvas.line(wisp, 15, (255, 255, 255), opacity=0.3, blur=9)
    for x, y in ((210, 646), (286, 684)):
        _biscuit(canvas, x, y, random)
    return canvas.finished(random)


def _biscuit(canvas: Canvas, x: float, y: float, random: Random) -> None:
    canvas.ellipse((x + 12, y + 20), (88, 26), (46, 24, 12), opacity=0.5, blur=9)
    canvas.ellipse((x, y + 10), (84, 32), (160, 98, 48), (120, 70, 34))
    canvas.ellipse((x, y), (84, 31), (226, 174, 106), (200, 140, 78))
    for _ in range(13):
        angle, reach = random.uniform(0, math.tau), math.sqrt(random.random()) * 0.8
        chip = (x + 84 * reach * math.cos(angle), y + 31 * reach * math.sin(angle))
        canvas.ellipse((chip[0] + 1, chip[1] + 2), (8, 5), (120, 74, 40), opacity=0.6)
        canvas.ellipse(chip, (random.uniform(5, 8), random.uniform(3, 4.5)), (84, 48, 30), (52, 28, 18))


def portrait(random: Random) -> Image.Image:
    """Draw a smiling woman in a yellow sweater before a plain backdrop."""
    canvas = Canvas()
    x = WIDTH / 2
    skin, shade, hair = (236, 186, 152), (206, 146, 114), (70, 42, 30)
    canvas.polygon(rectangle(0, 0, WIDTH, HEIGHT), (150, 176, 172), (176, 196, 188))
    canvas.ellipse((x, 330), (330, 300), (214, 228, 218), opacity=0.7, blur=70)
    canvas.ellipse((x, 130), (72, 66), (96, 60, 42), hair)
    canvas.ellipse((x, 330), (170, 196), (92, 58, 40), hair, (48, 28, 20))
    left = curve((x - 310, HEIGHT), (x - 296, 618), (x - 80, 586))
    right = curve((x + 80, 586), (x + 296, 618), (x + 310, HEIGHT))
    canvas.polygon(
        [*left, *right], (214, 158, 40), (242, 194, 76), (232, 178, 58), (178, 122, 22), across=True
    )
    for side in (-1, 1):
        fold = curve((x + side * 236, HEIGHT), (x + side * 226, 720), (x + side * 196, 672))
        canvas.line(fold, 7, (140, 92, 12), opacity=0.4, blur=4)
    canvas.polygon([(x - 58, 480), (x + 58, 480), (x + 66, 610), (x - 66, 610)], shade, skin, skin)
    canvas.ellipse((x, 512), (64, 44), (150, 92, 68), opacity=0.45, blur=12)
    canvas.line(arc((x, 578), (88, 34), 4, 176), 30, (236, 184, 62), (204, 148, 36))
    for side in (-1, 1):
        canvas.ellipse((x + side * 134, 372), (22, 34), skin, shade)
        canvas.ellipse((x + side * 136, 416), (7, 7), (250, 224, 140), (190, 140, 50))
    canvas.ellipse((x, 360), (134, 168), (246, 202, 170), skin, (224, 170, 136))
    canvas.ellipse((x + 84, 392), (36, 96), shade, opacity=0.4, blur=18)
    parting = (x - 34, 214)
    crown = arc((x, 326), (150, 170), 180, 360)
    fringe = [
        *curve((x + 134, 366), (x + 112, 236), parting),
        *curve(parting, (x - 100, 236), (x - 134, 366)),
    ]
    canvas.polygon([*crown, *fringe], (98, 62, 43), hair)
    for strand in (0, 1, 5, 6, 7, 8, 9):
        foot = (x - 126 + 28 * strand, 290 - 20 * min(strand, 9 - strand))
        canvas.line(
            curve(foot, (foot[0], 206), (x + 5 * (strand - 4.5), 166)), 2.5, (150, 104, 74), opacity=0.35
        )
    for side in (-1, 1):
        _eye(canvas, x + side * 56, 356, side)
        canvas.ellipse((x + side * 78, 424), (34, 22), (232, 120, 104), opacity=0.42, blur=12)
    canvas.line([(x + 4, 372), (x + 13, 412), (x - 2, 418)], 4, (196, 134, 104), opacity=0.8, blur=1.2)
    canvas.polygon([*arc((x, 446), (48, 34), 8, 172)], (170, 52, 58), (206, 92, 92))
    canvas.polygon([*arc((x, 447), (40, 15), 8, 172)], (250, 246, 240))
    canvas.line(curve((x - 49, 450), (x, 456), (x + 49, 450)), 3.5, (160, 56, 60))
    return canvas.finished(random)


def _eye(canvas: Canvas, x: float, y: float, side: int) -> None:
    canvas.ellipse((x, y), (24, 14), (252, 250, 246))
    canvas.ellipse((x, y), (12.5, 13), (92, 132, 96), (54, 88, 66))
    canvas.ellipse((x, y), (6, 6.5), (20, 22, 22))
    canvas.ellipse((x + 4, y - 5), (3, 3), WHITE)
    canvas.line(arc((x, y + 2), (26, 17), 190, 350), 4.5, (52, 30, 22))
    canvas.line(arc((x + side * 4, y - 18), (34, 18), 205, 335), 7, (84, 52, 38), blur=0.8)


PHOTOS = {"lighthouse": lighthouse, "mug": mug, "portrait": portrait}


def draw(directory: Path) -> list[Path]:
    """Draw every photo into a directory as JPEG and return where they are."""
    paths: list[Path] = []
    for seed, (name, scene) in enumerate(PHOTOS.items()):
        path = directory / f"{name}.jpg"
        scene(Random(seed)).save(path, quality=88, optimize=True)
        paths.append(path)
    return paths


if __name__ == "__main__":
    for drawn in draw(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("photos")):
        print(drawn)
