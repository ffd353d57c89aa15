"""The end of an image is found wherever it is, and never where it is not."""

from __future__ import annotations

import io
import random
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from apimart_async.transport.media import sniffing
from apimart_async.transport.media.dimensions import read_dimensions
from apimart_async.transport.media.sniffing import EndFinder, is_surely_whole

if TYPE_CHECKING:
    from pathlib import Path

KINDS = {"JPEG": sniffing.JPEG, "PNG": sniffing.PNG, "WEBP": sniffing.WEBP, "GIF": sniffing.GIF}


def encoded(encoder: str, size: int = 64, **options: Any) -> bytes:
    noise = Image.frombytes("RGB", (size, size), random.Random(3).randbytes(size * size * 3))
    file = io.BytesIO()
    noise.save(file, encoder, **options)
    return file.getvalue()


def animation() -> bytes:
    frames = [Image.new("P", (9, 9), index) for index in range(3)]
    file = io.BytesIO()
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:], comment=b"; is not the end;")
    return file.getvalue()


def with_thumbnail() -> bytes:
    """Return a JPEG with a whole JPEG inside of its EXIF segment, as cameras write it."""
    segment = b"Exif\0\0" + encoded("JPEG", 16)
    return b"\xff\xd8\xff\xe1" + (len(segment) + 2).to_bytes(2) + segment + encoded("JPEG")[2:]


WHOLE = {
    **{encoder: encoded(encoder) for encoder in KINDS},
    "progressive JPEG": encoded("JPEG", progressive=True),
    "JPEG with restart markers": encoded("JPEG", restart_marker_blocks=1),
    "JPEG with a thumbnail": with_thumbnail(),
    "lossless WebP": encoded("WEBP", lossless=True),
    "animated GIF": animation(),
}


def has_end(content: bytes, step: int = 1000) -> bool:
    end = EndFinder(sniffing.identify(content[:32]))
    for start in range(0, len(content), step):
        end.feed(content[start : start + step])
    return end.is_found


@pytest.mark.parametrize("content", WHOLE.values(), ids=WHOLE)
def test_the_end_is_found_at_the_last_byte_and_not_before(content: bytes) -> None:
    end = EndFinder(sniffing.identify(content[:32]))
    for offset in range(len(content) - 1):
        end.feed(content[offset : offset + 1])
    padding = content[-1:] == b"\0"  # of WebP
    assert not end.is_found or padding
    end.feed(content[-1:])
    assert end.is_found


@pytest.mark.parametrize("content", WHOLE.values(), ids=WHOLE)
@pytest.mark.parametrize("step", [1, 2, 3, 7, 100, 100_000])
def test_the_size_of_the_chunks_changes_nothing(content: bytes, step: int) -> None:
    assert has_end(content, step)
    assert not has_end(content[: len(content) // 2], step)


@pytest.mark.parametrize("content", WHOLE.values(), ids=WHOLE)
def test_bytes_behind_the_end_change_nothing(content: bytes) -> None:
    assert has_end(content + bytes(10_000))


@pytest.mark.parametrize("kind", [sniffing.AVIF, sniffing.HEIC, sniffing.TIFF, sniffing.BMP])
def test_a_format_without_an_end_marker_is_whole_as_it_comes(kind: sniffing.Kind) -> None:
    assert EndFinder(kind).is_found


def test_the_end_of_every_photograph_is_found(photographs: dict[str, Path]) -> None:
    for path in photographs.values():
        content = path.read_bytes()
        assert has_end(content, 64 * 1024), path
        assert not has_end(content[:-30], 64 * 1024), path


@pytest.mark.parametrize("encoder", ["JPEG", "PNG", "WEBP"])
def test_the_last_bytes_show_that_a_usual_file_is_whole(encoder: str) -> None:
    content, kind = encoded(encoder), KINDS[encoder]
    assert is_surely_whole(kind, content[:32], content[-16:], len(content))
    cut = content[:-20]
    assert not is_surely_whole(kind, cut[:32], cut[-16:], len(cut))


@given(st.sampled_from(list(KINDS.values())), st.lists(st.binary(max_size=40), max_size=6))
def test_any_bytes_can_be_followed(kind: sniffing.Kind, chunks: list[bytes]) -> None:
    end, once = EndFinder(kind), EndFinder(kind)
    for chunk in chunks:
        end.feed(chunk)
    once.feed(b"".join(chunks))
    assert end.is_found is once.is_found


FLOODS = {
    "JPEG": b"\xff\xd8" + b"\xff\xfe\x00\x02" * 1_000_000 + b"\xff\xd9",
    "GIF": bytes.fromhex("47494638396101000100000000") + b"\x21\xfe\x00" * 1_000_000 + b";",
    "PNG": b"\x89PNG\r\n\x1a\n" + b"\0\0\0\0tEXt\0\0\0\0" * 1_000_000 + b"\0\0\0\0IEND\xaeB`\x82",
}


@pytest.mark.parametrize("kind", FLOODS)
def test_a_flood_of_blocks_has_no_end(kind: str) -> None:
    """A file host could stop the event loop with one, as downloads are checked there."""
    end = EndFinder(KINDS[kind])
    end.feed(FLOODS[kind])
    end.feed(FLOODS[kind])
    assert not end.is_found


@pytest.mark.parametrize("filler", [b"\xff", b"\xff\xd0", b"\xff\xfe\x00\x02"])
def test_a_flood_of_markers_has_no_dimensions(filler: bytes) -> None:
    """The head of a file is searched again with each of its chunks."""
    content = encoded("JPEG")
    assert read_dimensions(content[:2] + filler * 100 + content[2:]) == (64, 64)
    assert read_dimensions(content[:2] + filler * 100_000 + content[2:]) is None


def test_an_animation_of_very_many_tiny_frames_has_an_end() -> None:
    frame = bytes.fromhex("21f90400000000002c00000000010001000002024401003b")[:-1]
    content = bytes.fromhex("47494638396101000100800000ffffff000000") + frame * 9_000 + b";"
    assert has_end(content)
    assert has_end(content, 1)
