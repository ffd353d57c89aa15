"""PNG headers, and any image converted for dall-e-2."""

from __future__ import annotations

import base64
import io
import random
import struct
import subprocess
import sys
import zlib
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as Pillow
from PIL import ImageDraw

from apimart_async import ImageError, InvalidArgumentError, Upload, errors, prepare_png
from apimart_async.transport.media import png

if TYPE_CHECKING:
    from pathlib import Path

RED, BLUE = (220, 30, 30), (30, 30, 220)


def encoded(picture: Pillow.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def opened(data: bytes) -> Pillow.Image:
    picture = Pillow.open(io.BytesIO(data))
    picture.load()
    assert picture.format == "PNG"
    return picture


def left_red(size: tuple[int, int] = (200, 100)) -> Pillow.Image:
    """Draw a picture whose left half is red and whose right half is blue."""
    picture = Pillow.new("RGB", size, BLUE)
    ImageDraw.Draw(picture).rectangle((0, 0, size[0] // 2 - 1, size[1] - 1), RED)
    return picture


def is_near(found: object, colour: tuple[int, ...], tolerance: int = 12) -> bool:
    assert isinstance(found, tuple)
    return all(abs(a - b) <= tolerance for a, b in zip(found, colour, strict=False))


# --- headers ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "has_alpha"),
    [("1", False), ("L", False), ("LA", True), ("P", False), ("RGB", False), ("RGBA", True), ("I;16", False)],
)
def test_header_has_size_and_alpha(mode: str, *, has_alpha: bool) -> None:
    header = png.read_header(encoded(Pillow.new(mode, (30, 20))))
    assert header == png.PngHeader(30, 20, has_alpha)


@pytest.mark.parametrize("mode", ["L", "P", "RGB"])
def test_transparent_colour_counts_as_alpha(mode: str) -> None:
    transparent = (1, 2, 3) if mode == "RGB" else 1
    data = encoded(Pillow.new(mode, (3, 3)), transparency=transparent)
    assert png.read_header(data) == png.PngHeader(3, 3, has_alpha=True)


def test_chunks_after_the_pixels_are_ignored() -> None:
    data = encoded(Pillow.new("RGB", (3, 3)))
    end = data.rindex(b"IEND") - 4
    chunk = struct.pack(">I4s", 2, b"tRNS") + bytes(2) + struct.pack(">I", zlib.crc32(b"tRNS" + bytes(2)))
    assert png.read_header(data[:end] + chunk + data[end:]) == png.PngHeader(3, 3, has_alpha=False)


@given(st.binary(max_size=80), st.integers(0, 120))
def test_any_bytes_are_a_header_or_none(noise: bytes, kept: int) -> None:
    whole = encoded(Pillow.new("RGB", (3, 3)))
    for data in (noise, whole[:kept], whole[:kept] + noise):
        header = png.read_header(data)
        assert header is None or header.width >= 0


# --- conversion -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [256, *(pytest.param(size, marks=pytest.mark.long) for size in (512, 1024))])
def test_every_photograph_is_converted(photographs: dict[str, Path], size: int) -> None:
    names = [
        "astronaut.png",
        "rocket.jpg",
        "chelsea.png",
        "coffee.png",
        "camera.png",
        "page.png",
        "horse.png",
    ]
    for name in names:
        data = prepare_png(photographs[name], size)
        assert png.read_header(data) == png.PngHeader(size, size, has_alpha=True)
        assert len(data) < png.PNG_LIMIT
        picture = opened(data)
        assert picture.mode == "RGBA"
        with Pillow.open(photographs[name]) as source:
            width, height = source.size
        share = min(width, height) / max(width, height)
        covered = sum(picture.getchannel("A").histogram()[128:]) / size**2
        assert covered == pytest.approx(share, abs=0.02)


def test_proportions_are_kept_inside_a_transparent_square() -> None:
    picture = opened(prepare_png(encoded(left_red()), 256))
    assert is_near(picture.getpixel((30, 128)), (*RED, 255))
    assert is_near(picture.getpixel((220, 128)), (*BLUE, 255))
    for y in (10, 60, 196, 250):
        assert picture.getpixel((128, y)) == (0, 0, 0, 0)
    assert picture.getpixel((128, 70)) != (0, 0, 0, 0)


MODES = ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBa", "CMYK", "YCbCr", "LAB", "HSV", "I", "F", "I;16"]


@pytest.mark.parametrize("mode", MODES)
def test_pillow_images_of_every_mode_are_converted(mode: str) -> None:
    picture = opened(prepare_png(Pillow.new(mode, (30, 20)), 256))
    assert (picture.mode, picture.size) == ("RGBA", (256, 256))


@pytest.mark.parametrize(
    ("kind", "mode"),
    [
        ("JPEG", "RGB"),
        ("JPEG", "L"),
        ("JPEG", "CMYK"),
        ("PNG", "P"),
        ("PNG", "RGBA"),
        ("WEBP", "RGB"),
        ("GIF", "RGB"),
        ("TIFF", "CMYK"),
        ("BMP", "RGB"),
    ],
)
def test_colours_are_kept_for_every_format(kind: str, mode: str) -> None:
    picture = opened(prepare_png(encoded(left_red().convert(mode), kind), 256))
    left, right = picture.getpixel((40, 128)), picture.getpixel((210, 128))
    if mode == "L":
        left, right = left_red().convert("L").convert("RGBA").getpixel((0, 0)), left
    assert is_near(left, (*RED, 255), 40) or mode == "L"
    assert is_near(right, (*(BLUE if mode != "L" else (82, 82, 82)), 255), 40)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_photograph_is_turned_upright(orientation: int) -> None:
    undo = {
        2: Pillow.Transpose.FLIP_LEFT_RIGHT,
        3: Pillow.Transpose.ROTATE_180,
        4: Pillow.Transpose.FLIP_TOP_BOTTOM,
        5: Pillow.Transpose.TRANSPOSE,
        6: Pillow.Transpose.ROTATE_90,
        7: Pillow.Transpose.TRANSVERSE,
        8: Pillow.Transpose.ROTATE_270,
    }
    stored = left_red() if orientation == 1 else left_red().transpose(undo[orientation])
    exif = Pillow.Exif()
    exif[0x0112] = orientation
    data = encoded(stored, "JPEG", exif=exif, quality=95)
    with Pillow.open(io.BytesIO(data)) as held:
        for given_as in (data, held):
            picture = opened(prepare_png(given_as, 256))
            assert is_near(picture.getpixel((40, 128)), (*RED, 255))
            assert is_near(picture.getpixel((210, 128)), (*BLUE, 255))
            assert picture.getpixel((128, 10)) == (0, 0, 0, 0)
            assert not picture.getexif()
        held.load()  # the caller's image is still open


@pytest.mark.parametrize("mode", ["I;16", "I;16B"])
def test_greys_of_16_bits_are_not_clipped(mode: str) -> None:
    ramp = Pillow.frombytes("I;16", (256, 1), struct.pack("<256H", *range(0, 65536, 256))).resize((256, 256))
    kind = "PNG" if mode == "I;16" else "TIFF"
    data = encoded(ramp, kind)
    if mode == "I;16B":
        swapped = struct.pack(">65536H", *struct.unpack("<65536H", ramp.tobytes()))
        data = encoded(Pillow.frombytes("I;16B", ramp.size, swapped), kind)
    picture = opened(prepare_png(data, 256))
    for x in (16, 128, 240):
        assert is_near(picture.getpixel((x, 128)), (x, x, x, 255), 2)


def test_first_frame_of_an_animation_is_used() -> None:
    frames = [Pillow.new("RGB", (40, 40), colour) for colour in (RED, BLUE)]
    for kind in ("GIF", "WEBP", "PNG"):
        data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], duration=50)
        assert is_near(opened(prepare_png(data, 256)).getpixel((128, 128)), (*RED, 255))


def test_transparency_is_kept() -> None:
    half = Pillow.new("RGBA", (64, 64), (*RED, 255))
    half.paste((0, 0, 0, 0), (0, 0, 32, 64))
    for data in (encoded(half), encoded(half, "GIF"), encoded(half.convert("P"), "PNG")):
        picture = opened(prepare_png(data, 256))
        assert picture.getchannel("A").getpixel((40, 128)) == 0
        assert is_near(picture.getpixel((200, 128)), (*RED, 255))


@pytest.mark.parametrize("size", [(1, 1), (4000, 1), (1, 4000), (3, 2000), (2000, 2001)])
def test_images_of_every_shape_are_converted(size: tuple[int, int]) -> None:
    picture = opened(prepare_png(encoded(Pillow.new("RGB", size, RED)), 512))
    assert picture.size == (512, 512)
    assert is_near(picture.getpixel((255, 255)), RED)


def test_image_over_4_mb_is_made_smaller() -> None:
    noise = Pillow.frombytes("RGBA", (1024, 1024), random.Random(1).randbytes(4 * 1024 * 1024))
    data = prepare_png(noise)
    assert len(data) < png.PNG_LIMIT
    assert png.read_header(data) == png.PngHeader(512, 512, has_alpha=True)


def test_every_form_of_an_image_is_accepted(tmp_path: Path) -> None:
    data = encoded(left_red())
    path = tmp_path / "picture.png"
    path.write_bytes(data)
    url = "data:image/png;base64," + base64.b64encode(data).decode()
    file = io.BytesIO(data)
    forms: list[Any] = [path, str(path), data, bytearray(data), memoryview(data), file, url, left_red()]
    assert len({prepare_png(form, 256) for form in forms}) == 1
    assert file.tell() == 0


UPLOAD = Upload("https://u.example/a.png", "a.png", "image/png", 1, *[None] * 2)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("image", "kind", "said"),
    [
        (b"", errors.UnsupportedImageError, "bytes is not an image"),
        (b"no picture at all", errors.UnsupportedImageError, "is text, which cannot be decoded"),
        (b"%PDF-1.7", errors.UnsupportedImageError, "is a PDF, which cannot be decoded"),
        ("nowhere.png", ImageError, r"nowhere\.png"),
        ("https://a.example/b.png", ImageError, "not a URL: download it first"),
        (UPLOAD, ImageError, "not a URL"),
        ("ftp://a.example/b.png", errors.UnsupportedImageError, "ftp"),
        (7, errors.UnsupportedImageError, "int"),
    ],
)
def test_error_has_the_reason_for_the_refusal(image: Any, kind: type[ImageError], said: str) -> None:
    with pytest.raises(kind, match=said):
        prepare_png(image)


@pytest.mark.parametrize("size", [0, 255, 2048, "512", None])
def test_other_sizes_are_refused(size: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="256, 512 or 1024"):
        prepare_png(encoded(left_red()), size)


def test_image_with_too_many_pixels_is_refused() -> None:
    whole = bytearray(encoded(Pillow.new("L", (8, 8))))
    whole[16:24] = struct.pack(">II", 60_000, 60_000)
    whole[29:33] = struct.pack(">I", zlib.crc32(whole[12:29]))
    with pytest.raises(errors.ImageTooLargeError, match="too many pixels"):
        prepare_png(bytes(whole))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP"])
@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_damaged_file_is_converted_or_an_image_error(kind: str) -> None:
    source = random.Random(kind)
    whole = encoded(left_red((40, 40)), kind)
    for _ in range(60):
        damaged = bytearray(whole)
        for _ in range(source.randint(1, 5)):
            damaged[source.randrange(len(damaged))] = source.randrange(256)
        try:
            data = prepare_png(bytes(damaged[: source.randint(8, len(damaged))]), 256)
        except ImageError:
            continue
        assert png.read_header(data) == png.PngHeader(256, 256, has_alpha=True)


def test_error_without_pillow_names_the_package() -> None:
    script = """
import sys
sys.modules["PIL"] = None
import apimart_async
try:
    apimart_async.prepare_png(b"picture")
except apimart_async.UnsupportedImageError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=300
    )
    assert "pip install '.[images]' in the clone" in done.stdout
