"""Pictures in formats and sizes that the service refuses become JPEG or PNG that it accepts."""

from __future__ import annotations

import io
import random
import sys
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image as Pillow
from PIL import ImageCms, ImageDraw

from apimart_async import ImageTooLargeError, UnsupportedImageError
from apimart_async.transport.media import sniffing
from apimart_async.transport.media.conversion import Converted, convert, is_convertible

if TYPE_CHECKING:
    from collections.abc import Callable

LIMIT = 20_971_520
RED, BLUE = (220, 30, 30), (30, 30, 220)
SRGB: bytes = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def left_red(mode: str = "RGB", size: tuple[int, int] = (80, 40)) -> Pillow.Image:
    """Draw a picture whose left half is red and whose right half is blue."""
    picture = Pillow.new("RGB", size, BLUE)
    ImageDraw.Draw(picture).rectangle((0, 0, size[0] // 2 - 1, size[1] - 1), RED)
    return picture.convert(mode)


def encoded(picture: Pillow.Image, format_: str, **options: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, format_, **options)
    return file.getvalue()


def heic(picture: Pillow.Image, **options: Any) -> bytes:
    pillow_heif = pytest.importorskip("pillow_heif")
    file = io.BytesIO()
    pillow_heif.from_pillow(picture).save(file, quality=90, **options)
    return file.getvalue()


def converted(content: bytes, limit: int = LIMIT) -> tuple[Converted, Pillow.Image]:
    result = convert("the picture", content, sniffing.identify(content), limit)
    picture = Pillow.open(io.BytesIO(result.content))
    picture.load()
    assert sniffing.identify(result.content) is result.kind
    return result, picture


def is_near(found: object, colour: tuple[int, ...], tolerance: int = 25) -> bool:
    assert isinstance(found, tuple)
    return all(abs(a - b) <= tolerance for a, b in zip(found, colour, strict=False))


MAKERS: dict[str, Callable[[], bytes]] = {
    "HEIC": lambda: heic(left_red()),
    "AVIF": lambda: encoded(left_red(), "AVIF"),
    "TIFF": lambda: encoded(left_red(), "TIFF"),
    "TIFF in CMYK": lambda: encoded(left_red("CMYK"), "TIFF"),
    "BMP": lambda: encoded(left_red(), "BMP"),
    "JPEG 2000": lambda: encoded(left_red(), "JPEG2000"),
    "an opaque RGBA": lambda: encoded(left_red("RGBA"), "TIFF"),
    "a palette": lambda: encoded(left_red().quantize(), "BMP"),
}


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_an_opaque_picture_becomes_a_jpeg_that_looks_the_same(make: Callable[[], bytes]) -> None:
    result, picture = converted(make())
    assert result.kind is sniffing.JPEG
    assert picture.size == (80, 40)
    shown = picture.convert("RGB")
    assert is_near(shown.getpixel((5, 20)), RED)
    assert is_near(shown.getpixel((75, 20)), BLUE)
    assert result.change.startswith("was converted from a")


@pytest.mark.parametrize("format_", ["TIFF", "AVIF", "HEIC"])
def test_transparent_pixels_stay_transparent(format_: str) -> None:
    clear = left_red("RGBA")
    clear.putalpha(Pillow.linear_gradient("L").resize(clear.size))
    content = heic(clear) if format_ == "HEIC" else encoded(clear, format_)
    result, picture = converted(content)
    assert result.kind is sniffing.PNG
    alpha = picture.getchannel("A").tobytes()
    assert min(alpha) < 10
    assert max(alpha) > 245


@pytest.mark.parametrize("format_", ["TIFF", "AVIF", "HEIC"])
def test_the_orientation_is_applied_once(format_: str) -> None:
    exif = Pillow.Exif()
    exif[0x0112] = 6  # stored lying on its left side: shown rotated a quarter to the right
    stored = left_red()
    content = heic(stored, exif=exif.tobytes()) if format_ == "HEIC" else encoded(stored, format_, exif=exif)
    _, picture = converted(content)
    assert picture.size == (40, 80)
    assert is_near(picture.getpixel((20, 5)), RED)
    assert 0x0112 not in picture.getexif()


def test_the_colour_profile_is_kept() -> None:
    _, picture = converted(encoded(left_red(), "TIFF", icc_profile=SRGB))
    assert picture.info["icc_profile"] == SRGB


def test_other_metadata_is_dropped() -> None:
    exif = Pillow.Exif()
    exif[0x010F] = "a camera"
    _, picture = converted(encoded(left_red(), "TIFF", exif=exif))
    assert dict(picture.getexif()) == {}


@pytest.mark.parametrize("mode", ["I;16", "1", "L", "LA"])
def test_grey_pictures_stay_grey(mode: str) -> None:
    ramp = Pillow.linear_gradient("L")
    grey = Pillow.new("I;16", ramp.size)
    grey.putdata([value * 257 for value in ramp.tobytes()])
    _, picture = converted(encoded(grey if mode == "I;16" else ramp.convert(mode), "TIFF"))
    assert picture.mode == "L"
    assert picture.getpixel((128, 2)) in range(13)
    assert picture.getpixel((128, 253)) in range(243, 256)


@pytest.mark.parametrize(
    ("format_", "mode", "kind"), [("PNG", "RGBA", sniffing.PNG), ("PNG", "RGB", sniffing.JPEG)]
)
def test_a_picture_over_the_limit_is_made_to_fit(format_: str, mode: str, kind: sniffing.Kind) -> None:
    noise = Pillow.frombytes(mode, (300, 200), random.Random(1).randbytes(300 * 200 * len(mode)))
    content = encoded(noise, format_)
    limit = len(content) // 9
    result, picture = converted(content, limit)
    assert result.kind is kind
    assert len(result.content) <= limit
    assert picture.width / picture.height == pytest.approx(1.5, rel=0.05)
    assert f"scaled from 300x200 to {picture.width}x{picture.height} pixels" in result.change


def test_an_animation_gives_its_first_frame() -> None:
    frames = [left_red(), Pillow.new("RGB", (80, 40), BLUE)]
    content = encoded(frames[0], "TIFF", save_all=True, append_images=frames[1:])
    _, picture = converted(content)
    assert is_near(picture.getpixel((5, 20)), RED)


def test_only_the_decoder_of_the_recognised_kind_runs() -> None:
    # Pillow alone would take this for an EPS drawing and start Ghostscript.
    drawing = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n"
    with pytest.raises(UnsupportedImageError, match="cannot be decoded"):
        convert("cat.png", drawing, sniffing.PNG, LIMIT)


def test_a_damaged_picture_is_refused() -> None:
    content = encoded(left_red(), "TIFF", compression="tiff_lzw")
    with pytest.raises(UnsupportedImageError, match=r"scan\.tiff is a TIFF image that cannot be decoded"):
        convert("scan.tiff", content[:60], sniffing.TIFF, LIMIT)


def test_too_many_pixels_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Pillow, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(ImageTooLargeError, match="too many pixels"):
        converted(encoded(left_red(), "BMP"))


def test_without_the_decoder_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(UnsupportedImageError, match=r"photo\.heic is a HEIC photo.*extra 'formats'"):
        convert("photo.heic", b"\x00\x00\x00\x18ftypheic", sniffing.HEIC, LIMIT)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (sniffing.HEIC, True),
        (sniffing.TIFF, True),
        (sniffing.PSD, True),
        (sniffing.JXL, True),
        (sniffing.UNKNOWN, False),
    ],
)
def test_kinds_that_can_be_converted_are_known(kind: sniffing.Kind, expected: bool) -> None:  # noqa: FBT001
    assert is_convertible(kind) is expected
