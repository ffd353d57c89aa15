"""Formats of files, judged by their first bytes."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from apimart_async.transport.media import sniffing

if TYPE_CHECKING:
    from pathlib import Path


def encoded(kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64), "teal").save(buffer, kind)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("encoder", "kind"),
    [
        ("JPEG", sniffing.JPEG),
        ("PNG", sniffing.PNG),
        ("WEBP", sniffing.WEBP),
        ("GIF", sniffing.GIF),
        ("TIFF", sniffing.TIFF),
        ("BMP", sniffing.BMP),
        ("JPEG2000", sniffing.JPEG_2000),
    ],
)
def test_files_of_pillow_are_identified(encoder: str, kind: sniffing.Kind) -> None:
    content = encoded(encoder)
    assert sniffing.identify(content[:32]) == kind


def test_photographs_are_identified(photographs: dict[str, Path]) -> None:
    kinds = {".jpg": sniffing.JPEG, ".png": sniffing.PNG, ".gif": sniffing.GIF}
    assert len(photographs) > 10
    for path in photographs.values():
        content = path.read_bytes()
        assert sniffing.identify(content[: sniffing.HEAD_BYTES]) == kinds[path.suffix], path


@pytest.mark.parametrize(
    ("head", "description"),
    [
        (b"%PDF-1.7\n", "a PDF"),
        (b"\x00\x00\x00\x1cftypheic\x00\x00\x00\x00", "a HEIC photo"),
        (b"\x00\x00\x00\x1cftypavif\x00\x00\x00\x00", "an AVIF image"),
        (b"\x00\x00\x00\x1cftypmif1\x00\x00\x00\x00mif1avifmiaf", "an AVIF image"),
        (b"\x00\x00\x00\x1cftypmif1\x00\x00\x00\x00mif1heicmiaf", "a HEIC photo"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "a PostScript drawing"),
        (b"\xc5\xd0\xd3\xc6\x1e\x00\x00\x00", "a PostScript drawing"),
        (b"\x00\x00\x00\x20ftypisom\x00\x00\x02\x00", "a video"),
        (b"\n<!DOCTYPE HTML><html>", "an HTML page"),
        (b"\xef\xbb\xbf<html>", "an HTML page"),
        (b'<?xml version="1.0"?><svg xmlns="', "an SVG drawing"),
        (b'<?xml version="1.0"?><Error><Code>AccessDenied', "XML"),
        (b'{"error": {"code": 404}}', "JSON"),
        (b"BMW is not a bitmap", "text"),
        ("中".encode()[:2] + b"not cut at the end", "not an image of any known kind"),
        ("photo 中".encode()[:-1], "text"),
        (b"PK\x03\x04", "a ZIP archive"),
        (b"RIFF\x00\x00\x00\x00WAVEfmt ", "not an image of any known kind"),
        (bytes(64), "not an image of any known kind"),
        (b"", "not an image of any known kind"),
    ],
)
def test_other_files_are_described(head: bytes, description: str) -> None:
    assert sniffing.identify(head).description == description


@given(st.binary(max_size=80))
def test_any_bytes_have_a_kind(head: bytes) -> None:
    kind = sniffing.identify(head)
    assert kind.extension is None or kind in sniffing.IMAGES
