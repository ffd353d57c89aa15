"""Unusual pictures: raw photos, truncated files, and greys of 16 and 32 bits."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import pytest
from anyio import to_thread
from PIL import Image, TiffImagePlugin

from apimart_async import prepare_png
from apimart_async.errors import ImageError, UnsupportedImageError
from apimart_async.transport.media import conversion, sniffing
from apimart_async.transport.media.inputs import MAX_UPLOAD_BYTES, open_media
from apimart_async.transport.media.pillow_images import encode

if TYPE_CHECKING:
    from pathlib import Path

GREY = 128
TOLERANCE = 8


def noise(mode: str = "RGB") -> Image.Image:
    return Image.effect_noise((64, 64), 90).convert(mode)


def written(picture: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def tiff(fields: dict[int, int | bytes], *, big: bool = False) -> bytes:
    """Return a TIFF of a thumbnail with further fields."""
    directory = TiffImagePlugin.ImageFileDirectory_v2(prefix=b"MM" if big else b"II")
    for number, value in fields.items():
        directory[number] = value
        if isinstance(value, bytes):
            directory.tagtype[number] = 1
    return written(noise(), "TIFF", tiffinfo=directory, big_tiff=False)


# --- raw photos: Pillow would decode their thumbnail ------------------------------------------------------

RAW = {
    "a first image that is a smaller version": tiff({254: 1}),
    "a page and smaller version": tiff({254: 3}),
    "Canon's mark": b"II*\0\x10\0\0\0CR\x02\0" + bytes(500),
    "a short number of Motorola order": b"MM\0*\0\0\0\x08\0\x01\0\xfe\0\x03\0\0\0\x01\0\x01\0\0" + bytes(500),
}


@pytest.mark.parametrize("raw", RAW)
async def test_raw_photo_is_refused_before_it_is_sent(tmp_path: Path, raw: str) -> None:
    path = tmp_path / "IMG_0001.NEF"
    path.write_bytes(RAW[raw])
    with pytest.raises(UnsupportedImageError, match="is a raw photo of a camera"):
        await open_media(path)
    with pytest.raises(UnsupportedImageError, match="is a raw photo of a camera"):
        await to_thread.run_sync(prepare_png, path)


def test_raw_photo_with_an_unmarked_thumbnail_is_not_decoded() -> None:
    content = tiff({50_706: b"\x01\x04\0\0"})
    assert sniffing.identify(content[: sniffing.HEAD_BYTES]) is sniffing.TIFF
    with pytest.raises(UnsupportedImageError, match="it is a raw photo"):
        conversion.convert("photo.dng", content, sniffing.TIFF, MAX_UPLOAD_BYTES)


@pytest.mark.parametrize("fields", [{}, {254: 0}, {254: 2}])
def test_ordinary_tiff_is_no_raw_photo(fields: dict[int, int | bytes]) -> None:
    assert sniffing.identify(tiff(fields)[: sniffing.HEAD_BYTES]) is sniffing.TIFF


# --- files that are cut -----------------------------------------------------------------------------------

WHOLE = {kind: written(noise(), kind) for kind in ("JPEG", "PNG", "WEBP")}


@pytest.mark.parametrize("kind", WHOLE)
@pytest.mark.parametrize("cut", ["half of it", "half of it and zeros", "all but a byte"])
async def test_picture_without_its_end_is_refused(tmp_path: Path, kind: str, cut: str) -> None:
    whole = WHOLE[kind]
    half = whole[: len(whole) // 2]
    content = {
        "half of it": half,
        # A download under way often has its whole size from the beginning. WebP tells only its size.
        "half of it and zeros": half if kind == "WEBP" else half + bytes(len(whole) - len(half)),
        "all but a byte": whole[:-1],
    }[cut]
    path = tmp_path / "photo"
    path.write_bytes(content)
    for image in (path, content):
        with pytest.raises(ImageError, match="cut short"):
            await open_media(image)


@pytest.mark.parametrize("kind", WHOLE)
async def test_bytes_behind_a_picture_do_no_harm(kind: str) -> None:
    content = WHOLE[kind] + b"\0\0video of a motion photo"
    assert (await open_media(content)).size == len(content)


# --- greys of more than 8 bits ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "value", "white"),
    [
        *(("F", 0.5, 1.0), ("F", 127.5, 255.0), ("F", 32_767.5, 65_535.0), ("F", 1e6, 2e6)),
        *(("I", 128, 255), ("I", 32_896, 65_535)),
    ],
)
def test_grey_of_32_bits_keeps_its_brightness(mode: str, value: float, white: float) -> None:
    picture = Image.new(mode, (8, 8), value)
    picture.putpixel((0, 0), white)
    made = conversion.convert("scan.tiff", written(picture, "TIFF"), sniffing.TIFF, MAX_UPLOAD_BYTES)
    found = Image.open(io.BytesIO(made.content)).getpixel((6, 6))
    assert isinstance(found, (int, float))
    assert abs(found - GREY) < TOLERANCE


def test_black_picture_of_32_bits_stays_black() -> None:
    for mode in ("F", "I"):
        content = written(Image.new(mode, (8, 8), 0), "TIFF")
        made = conversion.convert("scan.tiff", content, sniffing.TIFF, MAX_UPLOAD_BYTES)
        assert Image.open(io.BytesIO(made.content)).convert("L").getextrema() == (0, 0)


@pytest.mark.parametrize(("mode", "value", "white"), [("F", 0.5, 1.0), ("I", 128, 255)])
def test_pillow_image_of_32_bits_keeps_its_brightness(mode: str, value: float, white: float) -> None:
    picture = Image.new(mode, (8, 8), value)
    picture.putpixel((0, 0), white)
    found = Image.open(io.BytesIO(encode(picture).content)).convert("L").getpixel((6, 6))
    assert isinstance(found, (int, float))
    assert abs(found - GREY) < TOLERANCE
