"""JPEG XL pictures: decoded by their decoder alone, upright, with transparency and profile, and bounded."""

from __future__ import annotations

import io
import sys
import warnings
from typing import TYPE_CHECKING

import pytest
from PIL import Image, ImageCms
from pillow_jxl import JpegXLImagePlugin

from apimart_async import config
from apimart_async.errors import ImageTooLargeError, UnsupportedImageError
from apimart_async.transport.media import conversion, jpeg_xl, sniffing
from apimart_async.transport.media.inputs import MAX_UPLOAD_BYTES, as_sent, open_media

if TYPE_CHECKING:
    from pathlib import Path

ORIENTATION = 0x0112
TURNED = 6
SRGB: bytes = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()  # pyright: ignore[reportUnknownArgumentType, reportUnknownMemberType]
SIZES = [(1, 1), (8, 8), (64, 48), (256, 256), (300, 300), (513, 200), (40, 20), (10_000, 3)]


def written(picture: Image.Image, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, JpegXLImagePlugin.JXLImageFile.format, **options)
    return buffer.getvalue()


def boxes(content: bytes) -> list[tuple[bytes, bytes]]:
    """Return the kind and the content of each box of a file."""
    found: list[tuple[bytes, bytes]] = []
    start = 0
    while start < len(content):
        length = int.from_bytes(content[start : start + 4]) or len(content) - start
        found.append((content[start + 4 : start + 8], content[start : start + length]))
        start += length
    return found


def turned_photo(path: Path) -> bytes:
    """Return a JPEG of 40 by 20 pixels, lying on its side, packed losslessly as JPEG XL."""
    exif = Image.Exif()
    exif[ORIENTATION] = TURNED
    picture = Image.new("RGB", (40, 20), "blue")
    picture.paste("red", (0, 0, 20, 20))
    picture.save(path, quality=95, exif=exif)
    with warnings.catch_warnings(), Image.open(path) as opened:
        warnings.simplefilter("ignore")
        return written(opened)


def result(content: bytes) -> tuple[conversion.Converted, Image.Image]:
    made = conversion.convert("photo.jxl", content, sniffing.JXL, MAX_UPLOAD_BYTES)
    return made, Image.open(io.BytesIO(made.content))


async def test_picture_is_converted_when_it_is_sent(tmp_path: Path) -> None:
    path = tmp_path / "photo.jxl"
    path.write_bytes(written(Image.new("RGB", (64, 48), "red")))
    media = await open_media(path)
    sent = await as_sent(media, config.Media())
    assert (sent.filename, sent.content_type) == ("photo.jpg", "image/jpeg")


def test_transparency_and_profile_are_kept() -> None:
    picture = Image.new("RGBA", (8, 8), (255, 0, 0, 100))
    made, found = result(written(picture, lossless=True, icc_profile=SRGB))
    assert made.kind is sniffing.PNG
    assert found.convert("RGBA").getpixel((4, 4)) == (255, 0, 0, 100)
    assert found.info["icc_profile"]


@pytest.mark.parametrize("is_packed", [True, False])
def test_picture_is_upright(tmp_path: Path, *, is_packed: bool) -> None:
    content = turned_photo(tmp_path / "photo.jpg")
    if not is_packed:
        # Without the data to restore the JPEG, the decoder turns the pixels: EXIF must not turn them again.
        content = b"".join(box for kind, box in boxes(content) if kind != b"jbrd")
    _, found = result(content)
    assert found.size == (20, 40)
    top, bottom = found.getpixel((10, 5)), found.getpixel((10, 35))
    assert isinstance(top, tuple)
    assert isinstance(bottom, tuple)
    assert top[0] > top[2]
    assert bottom[2] > bottom[0]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("is_boxed", [False, True])
def test_size_is_read_from_the_header(size: tuple[int, int], *, is_boxed: bool) -> None:
    assert jpeg_xl.size(written(Image.new("L", size), use_container=is_boxed, effort=1)) == size


@pytest.mark.parametrize("ratio", range(1, 8))
def test_size_with_a_ratio_is_read(ratio: int) -> None:
    width, height = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))[ratio - 1]
    head = 0b10 << 1 | 3599 << 3 | ratio << 21  # a side of 18 bits
    assert jpeg_xl.size(b"\xff\x0a" + head.to_bytes(4, "little")) == (3600 * width // height, 3600)


def test_picture_of_too_many_pixels_is_not_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    content = written(Image.new("L", (300, 300)), effort=1)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 44_000)
    with pytest.raises(ImageTooLargeError, match="300x300"):
        conversion.convert("photo.jxl", content, sniffing.JXL, MAX_UPLOAD_BYTES)
    largest = b"\xff\x0a" + ((1 << 50) - 1 & ~1).to_bytes(8, "little")
    monkeypatch.undo()
    with pytest.raises(ImageTooLargeError):
        conversion.convert("photo.jxl", largest, sniffing.JXL, MAX_UPLOAD_BYTES)


DAMAGED = {
    "a box of no length": b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(20),
    "a box beyond the end": b"\0\0\0\x0cJXL \r\n\x87\n" + b"\xff\xff\xff\xffftyp",
    "a box of 64 bits": b"\0\0\0\x0cJXL \r\n\x87\n" + b"\0\0\0\x01ftyp" + bytes(7) + b"\x10",
    "no codestream": b"\0\0\0\x0cJXL \r\n\x87\n" + b"\0\0\0\x10jxlc" + b"nothing!",
    "the mark alone": b"\xff\x0a",
    "half of it": written(Image.effect_noise((64, 64), 60))[:200],
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_damaged_file_is_refused(damage: str) -> None:
    with pytest.raises(UnsupportedImageError):
        conversion.convert("photo.jxl", DAMAGED[damage], sniffing.JXL, MAX_UPLOAD_BYTES)


def test_error_without_the_decoder_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_jxl", None)
    with pytest.raises(UnsupportedImageError, match="the extra 'jxl'"):
        conversion.convert("photo.jxl", b"\xff\x0a", sniffing.JXL, MAX_UPLOAD_BYTES)
