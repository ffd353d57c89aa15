"""Images that the service refuses as they are: checked at once, and converted when they are sent."""

from __future__ import annotations

import hashlib
import io
import logging
import os
import sys
from typing import TYPE_CHECKING, Any

import anyio
import attrs
import pytest
from PIL import EpsImagePlugin, Image

from apimart_async import config, prepare_png
from apimart_async.errors import ImageError, UnsupportedImageError
from apimart_async.transport.media import sniffing
from apimart_async.transport.media.inputs import Media, as_sent, open_and_digest, open_media

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def content_of(media: Media) -> bytes:
    return media.source.read_at(0, media.size)


@attrs.frozen
class Drawn:
    """A picture in a file, and the kind that it is converted to."""

    name: str
    kind: str
    mode: str
    target: str

    def write(self, directory: Path) -> Path:
        path = directory / self.name
        noise = Image.effect_noise((64, 64), 90).convert(self.mode)
        if self.mode == "RGBA":
            noise.putalpha(Image.linear_gradient("L").resize(noise.size))
        noise.save(path, self.kind)
        return path


DRAWN = [
    Drawn("scan.tiff", "TIFF", "RGB", "image/jpeg"),
    Drawn("clear.tif", "TIFF", "RGBA", "image/png"),
    Drawn("paint.bmp", "BMP", "RGB", "image/jpeg"),
    Drawn("modern.avif", "AVIF", "RGB", "image/jpeg"),
    Drawn("named as a.png", "TIFF", "RGB", "image/jpeg"),
]


@pytest.mark.parametrize("drawn", DRAWN, ids=lambda drawn: drawn.name)
async def test_image_in_another_format_is_converted_before_it_is_sent(
    tmp_path: Path, drawn: Drawn, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="apimart_async")
    path, told = drawn.write(tmp_path), list[str]()
    content = path.read_bytes()
    forms: list[Any] = [path, (drawn.name, content, ""), content, io.BytesIO(content)]
    for given, stem in zip(forms, (path.stem, path.stem, "image", "image"), strict=True):
        checked = await open_media(given)
        assert not told, "nothing is decoded before it is needed"
        media = await as_sent(checked, config.Media(on_convert=told.append))
        extension = {"image/jpeg": ".jpg", "image/png": ".png"}[drawn.target]
        assert media.content_type == drawn.target
        assert media.filename == f"{stem}{extension}"
        assert sniffing.identify(content_of(media)).content_type == drawn.target
        (line,) = told
        assert caplog.messages == [line]
        assert line.startswith(checked.name)
        assert " was converted from a" in line
        told.clear()
        caplog.clear()


async def test_accepted_image_is_not_converted(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "photo.jpg")
    checked = await open_media(tmp_path / "photo.jpg")
    assert await as_sent(checked, config.Media()) is checked


async def test_image_over_the_limit_is_scaled_to_fit(tmp_path: Path) -> None:
    path, told = tmp_path / "large.png", list[str]()
    Image.effect_noise((300, 300), 90).save(path)
    limit = path.stat().st_size // 20
    media = await as_sent(await open_media(path, limit=limit), config.Media(on_convert=told.append))
    assert media.size <= limit
    assert media.content_type == "image/jpeg"
    assert "was scaled from 300x300 to" in told[0]


async def test_digest_is_that_of_the_file_before_it_is_converted(tmp_path: Path) -> None:
    path = DRAWN[0].write(tmp_path)
    assert (await open_and_digest(path)).digest == hashlib.sha256(path.read_bytes()).hexdigest()


async def test_image_is_refused_when_the_client_converts_nothing(tmp_path: Path) -> None:
    path = DRAWN[0].write(tmp_path)
    with pytest.raises(UnsupportedImageError, match=r"scan\.tiff is a TIFF image .* save it as one of these"):
        await open_media(path, convert=False)
    checked = await open_media(path)
    with pytest.raises(UnsupportedImageError, match=r"scan\.tiff is a TIFF image"):
        await open_media(checked, convert=False)


@pytest.mark.parametrize("missing", ["PIL", "pillow_heif"])
async def test_error_without_the_decoder_names_the_extra(
    missing: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    path = tmp_path / "photo.heic"
    path.write_bytes(b"\0\0\0\x18ftypheic" + bytes(20))
    with pytest.raises(UnsupportedImageError, match=r"is a HEIC photo .*'\.\[formats\]'"):
        await open_media(path)


async def test_image_that_changes_before_its_conversion_is_not_sent(tmp_path: Path) -> None:
    path = DRAWN[0].write(tmp_path)
    checked = await open_media(path)
    path.write_bytes(path.read_bytes() + b"more")
    with pytest.raises(ImageError, match="has changed"):
        await as_sent(checked, config.Media())


@pytest.mark.skipif(os.name != "posix", reason="the program in place of Ghostscript is a script")
@pytest.mark.parametrize("prepare", [open_media, lambda path: anyio.to_thread.run_sync(prepare_png, path)])
async def test_drawing_called_png_never_starts_ghostscript(
    prepare: Callable[[Path], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ghostscript, ran = tmp_path / "gs", tmp_path / "it ran"
    ghostscript.write_text(f"#!/bin/sh\ntouch '{ran}'\n")
    ghostscript.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)  # Pillow looks for it once
    path = tmp_path / "cat.png"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n%%EOF\n")
    with pytest.raises(UnsupportedImageError, match=r"cat\.png is a PostScript drawing"):
        await prepare(path)
    assert not ran.exists()
    with Image.open(path) as drawing, pytest.raises(OSError):  # noqa: PT011 of the empty result
        drawing.load()
    assert ran.exists(), "the test would notice"
