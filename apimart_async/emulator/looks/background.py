"""Telling the background of a photograph from its subject, well enough to repaint it."""

from __future__ import annotations

from collections import deque

from PIL import Image, ImageChops, ImageFilter

from .tones import curve, vertical_mask

_LONG_SIDE = 112
_STEP = 26
_DRIFT = 190
_DETAIL = 5
_CORNER = 190
_FAINT = 8
_LEAST, _MOST = 0.12, 0.93


def background_mask(picture: Image.Image) -> Image.Image:
    """Return a mask of an RGB picture that is white where its background is.

    The background is what can be reached from the upper edges in small steps of colour. Where that is next to
    nothing, or nearly everything, the upper half fades into the lower instead.
    """
    small = picture.copy()
    small.thumbnail((_LONG_SIDE, _LONG_SIDE), Image.Resampling.BOX)
    small = small.filter(ImageFilter.MedianFilter(3))
    reached = _grow(small, _barrier(picture, small.size))
    share = sum(reached) / len(reached)
    if not _LEAST <= share <= _MOST:
        return vertical_mask(picture.size, 235, 0, 0.25, 0.62)
    coarse = Image.frombytes("L", small.size, bytes(255 if hit else 0 for hit in reached))
    return _refine(picture, small, coarse)


def _barrier(picture: Image.Image, size: tuple[int, int]) -> bytes:
    """Return non-zero where a picture, but for its corners, has detail as fur and faces have."""
    grey = picture.convert("L").resize((3 * size[0], 3 * size[1]), Image.Resampling.BOX)
    detail = ImageChops.difference(grey, grey.filter(ImageFilter.GaussianBlur(3)))
    detail = detail.filter(ImageFilter.BoxBlur(4)).resize(size, Image.Resampling.BOX)
    corners = curve(Image.radial_gradient("L").resize(size), lambda level: 255 * (level > _CORNER))
    return ImageChops.subtract(curve(detail, lambda level: 255 * (level > _DETAIL)), corners).tobytes()


def _grow(small: Image.Image, barrier: bytes) -> bytearray:
    """Return one byte for each pixel: 1 when small steps of colour lead to it from the upper edges."""
    width, height = small.size
    data = small.tobytes()
    reached = bytearray(width * height)
    edge = [*range(width)]
    for row in range(1, round(height * 0.55)):
        edge += (row * width, row * width + width - 1)
    origin = [0] * (width * height)
    waiting: deque[int] = deque()
    for pixel in edge:
        reached[pixel] = 1
        origin[pixel] = pixel
        waiting.append(pixel)
    while waiting:
        pixel = waiting.popleft()
        column = pixel % width
        at, home = 3 * pixel, 3 * origin[pixel]
        red, green, blue = data[at], data[at + 1], data[at + 2]
        for near, inside in (
            (pixel - width, pixel >= width),
            (pixel + width, pixel + width < len(reached)),
            (pixel - 1, column > 0),
            (pixel + 1, column + 1 < width),
        ):
            if not inside or reached[near] or barrier[near]:
                continue
            to = 3 * near
            step = abs(data[to] - red) + abs(data[to + 1] - green) + abs(data[to + 2] - blue)
            if step > _STEP:
                continue
            drift = (
                abs(data[to] - data[home])
                + abs(data[to + 1] - data[home + 1])
                + abs(data[to + 2] - data[home + 2])
            )
            if drift > _DRIFT:
                continue
            reached[near] = 1
            origin[near] = origin[pixel]
            waiting.append(near)
    return reached


def _refine(picture: Image.Image, small: Image.Image, coarse: Image.Image) -> Image.Image:
    """Sharpen a coarse mask: near its border, a pixel belongs where its colour does."""
    solid = coarse.filter(ImageFilter.MedianFilter(5)).filter(ImageFilter.MinFilter(3))
    scale = max(picture.size) / max(small.size)
    smooth = picture.resize(small.size, Image.Resampling.BOX)
    behind = _spread(smooth, solid).resize(picture.size, Image.Resampling.BICUBIC)
    red, green, blue = ImageChops.difference(picture, behind).split()
    distance = ImageChops.add(ImageChops.add(red, green), blue)
    alike = curve(distance, lambda level: 255 * (90 - level) / 60)
    inner = solid.filter(ImageFilter.MinFilter(3)).resize(picture.size, Image.Resampling.BICUBIC)
    outer = coarse.filter(ImageFilter.MaxFilter(5)).resize(picture.size, Image.Resampling.BICUBIC)
    mask = ImageChops.lighter(inner, ImageChops.darker(outer, alike))
    return mask.filter(ImageFilter.GaussianBlur(max(0.6, scale / 6)))


def _spread(picture: Image.Image, mask: Image.Image) -> Image.Image:
    """Carry the colours under a mask outwards, over what is not under it."""
    spread = picture
    for radius in (20, 4):
        weight = mask.filter(ImageFilter.GaussianBlur(radius))
        kept = Image.composite(picture, Image.new("RGB", picture.size), mask).filter(
            ImageFilter.GaussianBlur(radius)
        )
        spread = _divide(kept, weight, spread)
    return Image.composite(picture, spread, mask)


def _divide(kept: Image.Image, weight: Image.Image, otherwise: Image.Image) -> Image.Image:
    colours, shares, rest = kept.tobytes(), weight.tobytes(), otherwise.tobytes()
    result = bytearray(len(colours))
    for pixel, share in enumerate(shares):
        at = 3 * pixel
        if share < _FAINT:
            result[at : at + 3] = rest[at : at + 3]
            continue
        for channel in range(at, at + 3):
            result[channel] = min(255, colours[channel] * 255 // share)
    return Image.frombytes("RGB", kept.size, bytes(result))
