"""Private metadata is left out of pictures, and nothing that decides how a picture looks."""

from __future__ import annotations

import io
import struct
import zlib
from typing import TYPE_CHECKING, Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageCms, ImageOps, ImageSequence, features

from apimart_async.errors import ImageError
from apimart_async.transport.media import metadata
from apimart_async.transport.media.metadata import without_metadata
from apimart_async.transport.media.sources import InMemory, InSeekableFile, LocalFile, Parts, Source

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SECRET: Final = b"52.5200N 13.4050E"
"""A place, which no picture may tell."""

ICC: Final = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP: Final = b'<x:xmpmeta xmlns:x="adobe:ns:meta/">' + SECRET + b"</x:xmpmeta>"
PILLOW_FORMATS: Final = {"image/jpeg": "JPEG", "image/png": "PNG", "image/webp": "WEBP", "image/gif": "GIF"}
ORIENTATIONS: Final = st.sampled_from([None, 1, 2, 3, 4, 5, 6, 7, 8])


def cleaned(content: bytes, content_type: str) -> bytes:
    source = without_metadata(InMemory(content), content_type)
    return source.read_at(0, source.size)


def exif(orientation: int | None) -> bytes:
    """Return EXIF metadata as telephones write it, with a place, a camera and an orientation."""
    found = Image.Exif()
    found[0x010F] = SECRET.decode()
    found[0x0132] = "2026:01:01 00:00:00"
    if orientation is not None:
        found[0x0112] = orientation
    found.get_ifd(0x8825).update({1: "N", 2: (52.0, 31.0, 12.0), 29: SECRET.decode()})
    return found.tobytes()


def look(content: bytes, content_type: str) -> list[Any]:
    """Return everything that decides how a picture looks; a decoder may refuse it."""
    with Image.open(io.BytesIO(content), formats=[PILLOW_FORMATS[content_type]]) as opened:
        seen: list[Any] = [opened.info.get("icc_profile"), opened.info.get("loop"), opened.info.get("gamma")]
        for frame in ImageSequence.Iterator(opened):
            frame.load()
            seen += [frame.mode, frame.size, frame.tobytes(), frame.info.get("duration")]
            seen.append(frame.info.get("transparency"))
        opened.seek(0)
        return [*seen, opened.getexif().get(0x0112, 1), ImageOps.exif_transpose(opened).tobytes()]


def look_or_refusal(content: bytes, content_type: str) -> list[Any] | str:
    try:
        return look(content, content_type)[:-2]  # damaged EXIF metadata have no orientation for all decoders
    except Exception:  # noqa: BLE001 decoders raise all kinds
        return "refused"


def drawn(mode: str, seed: int = 1) -> Image.Image:
    wide = Image.linear_gradient("L").resize((24, 16))
    picture = Image.merge("RGB", (wide, wide.rotate(180), Image.new("L", wide.size, seed % 256)))
    if mode == "P":
        return picture.quantize(16)
    return picture.convert(mode)


def saved(picture: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


# --- JPEG -----------------------------------------------------------------------------------------------


def segment(code: int, payload: bytes) -> bytes:
    return bytes((0xFF, code)) + (len(payload) + 2).to_bytes(2) + payload


PRIVATE_SEGMENTS: Final = st.sampled_from(
    [
        segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + XMP),
        segment(0xE1, b"http://ns.adobe.com/xmp/extension/\0" + SECRET),
        segment(0xE2, b"MPF\0" + SECRET),
        segment(0xE2, b"FPXR\0" + SECRET),
        segment(0xE0, b"JFXX\0\x10" + SECRET),
        segment(0xEB, b"JP" + SECRET),
        segment(0xED, b"Photoshop 3.0\x008BIM\x04\x04" + SECRET),
        segment(0xFE, SECRET),
        segment(0xFE, b""),
        segment(0xEF, SECRET * 3000),
    ]
)


@st.composite
def jpegs(draw: st.DrawFn) -> bytes:
    mode = draw(st.sampled_from(["L", "RGB", "CMYK"]))
    options: dict[str, Any] = {
        "quality": draw(st.integers(10, 100)),
        "progressive": draw(st.booleans()),
        "icc_profile": draw(st.sampled_from([None, ICC])),
        "restart_marker_blocks": draw(st.sampled_from([0, 1, 3])),
    }
    whole = saved(drawn(mode, draw(st.integers(0, 255))), "JPEG", **options)
    private = draw(st.lists(PRIVATE_SEGMENTS, max_size=4))
    if draw(st.booleans()):
        private.append(segment(0xE1, exif(draw(ORIENTATIONS))))
    behind = draw(st.sampled_from([b"", b"MPVD" + SECRET, whole, b"\0" * 5 + SECRET + b"\xff\xd9"]))
    private = draw(st.permutations(private))
    filled = draw(st.sampled_from([b"", b"\xff\xff"]))
    # Before the last scan, or before the end.
    late = draw(st.sampled_from([whole.rindex(b"\xff\xda"), len(whole) - 2]))
    between = b"".join(draw(st.lists(PRIVATE_SEGMENTS, max_size=2)))
    beginning = whole[:2] + b"".join(filled + each for each in private)
    return beginning + whole[2:late] + between + whole[late:] + behind


@pytest.mark.filterwarnings("ignore:Image appears to be a malformed MPO")
@given(jpegs())
def test_jpeg_looks_as_before_and_has_no_metadata(content: bytes) -> None:
    sent = cleaned(content, "image/jpeg")
    assert SECRET not in sent
    assert len(sent) <= len(content)
    assert look(sent, "image/jpeg") == look(content, "image/jpeg")
    assert cleaned(sent, "image/jpeg") == sent


def test_jpeg_keeps_its_scan_byte_for_byte_and_an_exif_segment_of_36_bytes() -> None:
    plain = saved(drawn("RGB"), "JPEG")
    content = saved(drawn("RGB"), "JPEG", exif=exif(6), comment=SECRET)
    sent = cleaned(content, "image/jpeg")
    assert len(sent) == len(plain) + 36
    assert sent.endswith(plain[plain.index(b"\xff\xdb") :])


def test_thumbnail_of_jfif_goes() -> None:
    plain = saved(drawn("RGB"), "JPEG")
    header = b"JFIF\0\1\1\0\0\1\0\1"
    with_thumbnail = plain[:2] + segment(0xE0, header + b"\x01\x01" + bytes(3)) + plain[20:]
    sent = cleaned(with_thumbnail, "image/jpeg")
    assert sent == plain[:2] + segment(0xE0, header + b"\0\0") + plain[20:]


def test_pictures_of_two_kinds_in_one_file_are_sent_as_the_first() -> None:
    picture = drawn("RGB")
    both = saved(picture, "MPO", save_all=True, append_images=[drawn("RGB", 9)])
    sent = cleaned(both, "image/jpeg")
    assert b"MPF\0" not in sent
    with Image.open(io.BytesIO(both)) as before, Image.open(io.BytesIO(sent)) as after:
        assert (before.format, after.format) == ("MPO", "JPEG")
        assert after.tobytes() == before.tobytes()


# --- PNG ------------------------------------------------------------------------------------------------


def chunk(name: bytes, content: bytes) -> bytes:
    return len(content).to_bytes(4) + name + content + zlib.crc32(name + content).to_bytes(4)


PRIVATE_CHUNKS: Final = st.sampled_from(
    [
        chunk(b"tEXt", b"Author\0" + SECRET),
        chunk(b"zTXt", b"Comment\0\0" + zlib.compress(SECRET)),
        chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP),
        chunk(b"tIME", struct.pack(">HBBBBB", 2026, 1, 1, 0, 0, 0)),
        chunk(b"prVt", SECRET),
        chunk(b"sPLT", SECRET + b"\0\x08"),
        chunk(b"caBX", SECRET),
    ]
)


@st.composite
def pngs(draw: st.DrawFn) -> bytes:
    mode = draw(st.sampled_from(["1", "L", "LA", "P", "RGB", "RGBA", "I;16"]))
    options: dict[str, Any] = {"icc_profile": draw(st.sampled_from([None, ICC]))}
    if mode in {"L", "RGB", "P"} and draw(st.booleans()):
        options["transparency"] = (1, 2, 3) if mode == "RGB" else 1
    if mode == "RGBA" and draw(st.booleans()):
        options |= {"save_all": True, "append_images": [drawn(mode, 7)], "duration": 30, "loop": 2}
    whole = saved(drawn(mode, draw(st.integers(0, 255))), "PNG", **options)
    private = draw(st.lists(PRIVATE_CHUNKS, max_size=4))
    if draw(st.booleans()):
        private.append(chunk(b"eXIf", exif(draw(ORIENTATIONS)).removeprefix(b"Exif\0\0")))
    private = draw(st.permutations(private))
    at = draw(st.sampled_from([33, len(whole) - 12]))
    behind = draw(st.sampled_from([b"", SECRET, whole]))
    gamma = chunk(b"gAMA", (45455).to_bytes(4)) if draw(st.booleans()) else b""
    front, rest = whole[:33] + gamma, whole[33:]
    at = len(front) if at == 33 else len(front) + len(rest) - 12
    return (front + rest)[:at] + b"".join(private) + (front + rest)[at:] + behind


@given(pngs())
def test_png_looks_as_before_and_has_no_metadata(content: bytes) -> None:
    sent = cleaned(content, "image/png")
    assert SECRET not in sent
    assert not any(name in sent for name in (b"tEXt", b"zTXt", b"iTXt", b"tIME", b"prVt", b"caBX", b"sPLT"))
    assert len(sent) <= len(content)
    assert look(sent, "image/png") == look(content, "image/png")
    assert cleaned(sent, "image/png") == sent


# --- WebP -----------------------------------------------------------------------------------------------


@st.composite
def webps(draw: st.DrawFn) -> bytes:
    mode = draw(st.sampled_from(["RGB", "RGBA"]))
    options: dict[str, Any] = {
        "lossless": draw(st.booleans()),
        "icc_profile": draw(st.sampled_from([b"", ICC])),
        "xmp": draw(st.sampled_from([b"", XMP, XMP + b" "])),
    }
    if draw(st.booleans()):
        options["exif"] = exif(draw(ORIENTATIONS))
    if draw(st.booleans()):
        options |= {"save_all": True, "append_images": [drawn(mode, 7)], "duration": 30, "loop": 2}
    whole = saved(drawn(mode, draw(st.integers(0, 255))), "WEBP", **options)
    if draw(st.booleans()):
        whole = with_chunk_in_frames(whole)
    return whole + draw(st.sampled_from([b"", SECRET]))


def with_chunk_in_frames(content: bytes) -> bytes:
    """Put an unknown chunk into each frame of an animated WebP, behind its pixels."""
    secret = b"note" + (len(SECRET) + 1).to_bytes(4, "little") + SECRET + b"!"
    secret += b"\0" * (len(secret) % 2)
    found, position = b"", 12
    while position < len(content):
        size = int.from_bytes(content[position + 4 : position + 8], "little")
        name, body = content[position : position + 4], content[position + 8 : position + 8 + size + size % 2]
        if name == b"ANMF":
            found += name + (size + len(secret)).to_bytes(4, "little") + body + secret
        else:
            found += name + size.to_bytes(4, "little") + body
        position += 8 + len(body)
    return content[:4] + (len(found) + 4).to_bytes(4, "little") + content[8:12] + found


@pytest.mark.skipif(not features.check("webp"), reason="Pillow has no WebP here")
@given(webps())
def test_webp_looks_as_before_and_has_no_metadata(content: bytes) -> None:
    sent = cleaned(content, "image/webp")
    assert SECRET not in sent
    assert len(sent) <= len(content)
    assert int.from_bytes(sent[4:8], "little") == len(sent) - 8
    if sent[12:16] == b"VP8X":
        assert not sent[20] & 0x04
        assert bool(sent[20] & 0x08) == (b"EXIF" in sent)
    assert look(sent, "image/webp") == look(content, "image/webp")
    assert cleaned(sent, "image/webp") == sent


# --- GIF ------------------------------------------------------------------------------------------------

XMP_IN_GIF: Final = b"!\xff\x0bXMP DataXMP" + XMP + b"\x01" + bytes(range(255, -1, -1)) + b"\0"

TEXT_IN_GIF: Final = b"!\x01\x0c" + bytes(12) + bytes([len(SECRET)]) + SECRET + b"\0"


@st.composite
def gifs(draw: st.DrawFn) -> bytes:
    options: dict[str, Any] = {}
    if draw(st.booleans()):
        options |= {"save_all": True, "append_images": [drawn("P", 7)], "duration": 30, "loop": 2}
    if draw(st.booleans()):
        options |= {"comment": SECRET, "transparency": 1}
    whole = saved(drawn("P", draw(st.integers(0, 255))), "GIF", **options)
    private = draw(
        st.lists(st.sampled_from([b"!\xfe\x11" + SECRET + b"\0", XMP_IN_GIF, TEXT_IN_GIF]), max_size=3)
    )
    behind = draw(st.sampled_from([b"", SECRET, whole]))
    ends = draw(st.sampled_from([b"", b"\0", b"\0\0"]))
    return whole[:-1] + ends + b"".join(each + ends for each in private) + b";" + behind


@given(gifs())
def test_gif_looks_as_before_and_has_no_metadata(content: bytes) -> None:
    sent = cleaned(content, "image/gif")
    assert SECRET not in sent
    assert look(sent, "image/gif") == look(content, "image/gif")
    assert cleaned(sent, "image/gif") == sent


# --- any kind -------------------------------------------------------------------------------------------

WHOLE: Final[dict[str, bytes]] = {
    "image/jpeg": saved(drawn("RGB"), "JPEG", exif=exif(6), comment=SECRET, icc_profile=ICC) + SECRET,
    "image/png": saved(drawn("RGBA"), "PNG", exif=exif(6), icc_profile=ICC) + SECRET,
    "image/webp": saved(drawn("RGBA"), "WEBP", exif=exif(6), xmp=XMP, lossless=True) + SECRET
    if features.check("webp")
    else b"",
    "image/gif": saved(drawn("P"), "GIF", comment=SECRET) + SECRET,
}
KINDS: Final = [kind for kind, content in WHOLE.items() if content]


@given(st.sampled_from(KINDS), st.data())
def test_damaged_picture_decodes_as_before_or_is_refused_as_before(kind: str, data: st.DataObject) -> None:
    content = bytearray(WHOLE[kind])
    for _ in range(data.draw(st.integers(0, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    damaged = bytes(content[: data.draw(st.integers(16, len(content)))])
    before = look_or_refusal(damaged, kind)
    after = look_or_refusal(cleaned(damaged, kind), kind)
    assert before in (after, "refused")


@given(st.sampled_from(KINDS), st.binary(max_size=200))
def test_any_bytes_are_read_to_their_end_or_left_as_they_are(kind: str, rest: bytes) -> None:
    content = WHOLE[kind][:16] + rest
    assert len(cleaned(content, kind)) <= len(content) + 4


@given(st.sampled_from(KINDS), st.lists(st.integers(0, 4000), max_size=8))
def test_any_part_of_the_picture_can_be_read_at_any_time(kind: str, offsets: list[int]) -> None:
    source = without_metadata(InMemory(WHOLE[kind]), kind)
    whole = source.read_at(0, source.size)
    assert len(whole) == source.size < len(WHOLE[kind])
    for offset in offsets:
        start = min(offset, source.size)
        assert source.read_at(start, source.size - start) == whole[start:]
        assert source.read_at(0, start) == whole[:start]


@pytest.mark.parametrize("kind", KINDS)
def test_files_and_file_objects_are_read_in_pieces(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metadata, "_WINDOW_BYTES", 7)
    path = tmp_path / "photo"
    path.write_bytes(WHOLE[kind])
    sources: list[Source] = [
        LocalFile.examine("photo", str(path)),
        InSeekableFile("photo", io.BytesIO(WHOLE[kind])),
    ]
    for source in sources:
        found = without_metadata(source, kind)
        assert isinstance(found, Parts)
        assert found.read_at(0, found.size) == cleaned(WHOLE[kind], kind)


@pytest.mark.parametrize("kind", KINDS)
def test_picture_without_metadata_is_sent_as_it_is(kind: str) -> None:
    source = InMemory(cleaned(WHOLE[kind], kind))
    assert without_metadata(source, kind) is source


MANY: Final[dict[str, Callable[[], tuple[bytes, str]]]] = {
    "blocks": lambda: (b"\xff\xd8" + segment(0xFE, b"") * 500_001, "image/jpeg"),
    "markers": lambda: (b"\xff\xd8" * 500_002, "image/jpeg"),
    "places": lambda: (
        WHOLE["image/png"][:33] + (chunk(b"tIME", b"") + chunk(b"bKGD", b"")) * 10_001,
        "image/png",
    ),
}


@pytest.mark.long
@pytest.mark.parametrize("many", MANY)
def test_picture_in_too_many_pieces_is_refused(many: str) -> None:
    content, kind = MANY[many]()
    with pytest.raises(ImageError, match=r"too many pieces.*keep_metadata=True"):
        cleaned(content, kind)
