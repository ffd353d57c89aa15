"""Images of Pillow are sent as they look: upright, with their colours and their transparency."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image, ImageCms, ImageDraw

from apimart_async.transport.media.inputs import open_and_digest, open_media

if TYPE_CHECKING:
    from collections.abc import Callable

RED, BLUE = (220, 30, 30), (30, 30, 220)
SRGB: bytes = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
TURNS = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def left_red() -> Image.Image:
    image = Image.new("RGB", (80, 40), BLUE)
    ImageDraw.Draw(image).rectangle((0, 0, 39, 39), RED)
    return image


def photograph(kind: str, orientation: int = 1, **options: Any) -> Image.Image:
    """Open a file of a red and a blue half that is stored turned."""
    turn = TURNS.get(orientation)
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    stored = left_red() if turn is None else left_red().transpose(turn)
    stored.save(file, kind, exif=exif, **options)
    return Image.open(file)


async def sent(image: Image.Image) -> Image.Image:
    media = await open_media(image)
    received = Image.open(io.BytesIO(media.source.read_at(0, media.size)))
    received.load()
    return received


def is_near(found: object, colour: tuple[int, ...]) -> bool:
    assert isinstance(found, tuple)
    return all(abs(a - b) <= 25 for a, b in zip(found, colour, strict=False))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", TURNS)
async def test_the_orientation_is_applied_once_and_the_image_is_not_changed(
    kind: str, orientation: int
) -> None:
    image = photograph(kind, orientation, icc_profile=SRGB)
    size = image.size
    received = await sent(image)
    assert received.size == (80, 40)
    assert received.format == ("JPEG" if kind == "JPEG" else "PNG")
    assert is_near(received.getpixel((5, 20)), RED)
    assert is_near(received.getpixel((75, 20)), BLUE)
    assert received.getexif().get(0x0112, 1) == 1
    assert received.info["icc_profile"] == SRGB
    if kind != "TIFF":  # Pillow turns it when it loads it
        assert (image.size, image.getexif()[0x0112]) == (size, orientation)


@pytest.mark.parametrize("orientation", [0, 9, 700])
async def test_an_orientation_that_does_not_exist_is_ignored(orientation: int) -> None:
    assert (await sent(photograph("TIFF", orientation))).size == (80, 40)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
async def test_damaged_metadata_is_ignored() -> None:
    file = io.BytesIO()
    left_red().save(file, "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff")
    assert (await sent(Image.open(file))).size == (80, 40)


@pytest.mark.parametrize("mode", ["L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX"])
async def test_the_colour_profile_is_kept_where_it_still_describes_the_colours(mode: str) -> None:
    image = Image.new(mode, (8, 8))
    image.info["icc_profile"] = SRGB
    assert (await sent(image)).info["icc_profile"] == SRGB


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr", "LAB", "HSV", "F"])
async def test_the_colour_profile_of_other_colours_is_dropped(mode: str) -> None:
    image = Image.new(mode, (8, 8))
    image.info["icc_profile"] = SRGB
    assert "icc_profile" not in (await sent(image)).info


def with_hole(mode: str) -> Image.Image:
    image = Image.new("RGBA", (8, 8), (*RED, 255))
    image.paste((0, 0, 0, 0), (0, 0, 4, 8))
    if mode in {"RGBa", "LA"}:
        return image.convert(mode)
    if mode == "La":
        return image.convert("LA").convert("La")
    if mode == "GIF":
        file = io.BytesIO()
        image.save(file, "GIF")
        return Image.open(file)
    if mode == "RGB":
        flat = Image.new("RGB", (8, 8), RED)
        flat.paste((1, 2, 3), (0, 0, 4, 8))
        flat.info["transparency"] = (1, 2, 3)
        return flat
    return image.quantize() if mode == "P" else image


@pytest.mark.parametrize("orientation", [1, 3])
@pytest.mark.parametrize("mode", ["RGBA", "RGBa", "LA", "La", "P", "GIF", "RGB"])
async def test_transparent_pixels_stay_transparent(mode: str, orientation: int) -> None:
    image = with_hole(mode)
    image.getexif()[0x0112] = orientation
    alpha = (await sent(image)).convert("RGBA").getchannel("A")
    left, right = (alpha.getpixel((1, 4)), alpha.getpixel((6, 4)))
    assert (left, right) == ((0, 255) if orientation == 1 else (255, 0))


# --- the digest decides whether a job of a batch is paid for again ----------------------------------------


async def digest_of(image: Any) -> str | None:
    return (await open_and_digest(image)).digest


async def test_the_digest_of_a_pillow_image_does_not_depend_on_the_encoder(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    image = left_red()
    media = await open_and_digest(image)
    preinit = Image.SAVE["PNG"]

    def other_encoder(image: Image.Image, file: io.BytesIO, name: str) -> None:
        image.encoderinfo["compress_level"] = 0  # as another version of an encoder writes other bytes
        preinit(image, file, name)

    monkeypatch.setitem(Image.SAVE, "PNG", other_encoder)
    again = await open_and_digest(image)
    assert again.digest == media.digest
    assert again.size != media.size


OTHERS: dict[str, Callable[[Image.Image], Image.Image]] = {
    "other pixels": lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    "another size": lambda image: image.resize((40, 80)),
    "another mode": lambda image: image.convert("RGBA"),
    "another palette": lambda image: image.quantize(4),
    "another profile": lambda image: changed(image, icc_profile=SRGB),
    "transparency": lambda image: changed(image, transparency=RED),
}


def changed(image: Image.Image, **info: object) -> Image.Image:
    copy = image.copy()
    copy.info.update(info)
    return copy


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
async def test_images_that_look_different_have_different_digests(
    other: Callable[[Image.Image], Image.Image],
) -> None:
    assert await digest_of(other(left_red())) != await digest_of(left_red())


async def test_the_orientation_is_part_of_the_digest() -> None:
    assert await digest_of(photograph("PNG", 2)) != await digest_of(photograph("PNG", 1))
    flipped = left_red().transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    assert await digest_of(flipped) != await digest_of(left_red())
