"""Images as web frameworks, JSON and desktops pass them: taken, or refused with the form to give instead."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

from apimart_async.errors import ImageError, UnsupportedImageError
from apimart_async.transport.media import forms
from apimart_async.transport.media.inputs import Media, open_media

if TYPE_CHECKING:
    from collections.abc import Callable


def picture(kind: str = "PNG", size: int = 8) -> bytes:
    buffer = io.BytesIO()
    Image.linear_gradient("L").resize((size, size)).convert("RGB").save(buffer, kind)
    return buffer.getvalue()


def content_of(media: Media) -> bytes:
    return media.source.read_at(0, media.size)


class Pipe(io.RawIOBase):
    """A stream that cannot be rewound."""

    def __init__(self, content: bytes) -> None:
        self._content = io.BytesIO(content)

    def read(self, size: int | None = -1, /) -> bytes:
        return self._content.read(size)


NAMED: dict[str, Callable[[bytes], Any]] = {
    "bytes": lambda content: ("my photo.png", content, "image/png"),
    "a wrong type": lambda content: ("my photo.png", content, "application/octet-stream"),
    "a type with parameters": lambda content: ("my photo.png", content, "image/png; charset=binary"),
    "no type": lambda content: ("my photo.png", content, None),
    "an empty type": lambda content: ("my photo.png", bytearray(content), ""),
    "a file object": lambda content: ("my photo.png", io.BytesIO(content), "image/png"),
    "a pipe": lambda content: ("my photo.png", Pipe(content), "image/png"),
    "a hostile name": lambda content: ("../../my photo.png", content, "image/png"),
}


@pytest.mark.parametrize("form", NAMED.values(), ids=NAMED)
async def test_file_is_taken_as_web_frameworks_pass_it(form: Callable[[bytes], Any]) -> None:
    given = form(picture())
    assert forms.flatten(given) == [given]
    assert forms.flatten([given, given]) == [given, given]
    opened = await open_media(given)
    assert (opened.filename, opened.content_type) == ("my photo.png", "image/png")
    assert content_of(opened) == picture()


async def test_named_file_without_a_name_is_taken_and_errors_name_the_file() -> None:
    assert (await open_media((None, picture(), None))).filename == "image.png"
    with pytest.raises(UnsupportedImageError, match=r"^scan\.pdf is a PDF"):
        await open_media(("scan.pdf", b"%PDF-1.7", "application/pdf"))


def test_three_images_in_a_tuple_are_not_taken_for_one_file() -> None:
    for images in (
        ("a.png", picture(), "image/b.png"),
        ("a.png", picture(), "photos/b"),
        ("a.png", "b.png", "image/png"),
        (picture(), picture(), "image/png"),
    ):
        assert forms.flatten(images) == list(images)


async def test_tuple_that_may_mean_a_file_or_two_images_is_refused() -> None:
    for images in (("a.png", picture()), ("a.png", io.BytesIO(picture()))):
        with pytest.raises(ImageError, match=r"give \(name, content, MIME type\)"):
            forms.flatten(images)
        with pytest.raises(ImageError, match=r"\(name, content, MIME type\)"):
            forms.flatten([images])  # type: ignore[list-item]
        with pytest.raises(ImageError, match=r"as tuple: give .*\(name, content, MIME type\)"):
            await open_media(images)  # type: ignore[arg-type]
    assert len(forms.flatten(["a.png", picture()])) == 2
    assert len(forms.flatten(("a.png", "b.png"))) == 2


@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode, base64.encodebytes])
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF"])
@pytest.mark.parametrize("size", [8, 90])
async def test_base64_text_is_refused_with_the_forms_to_give(
    encode: Callable[[bytes], bytes], kind: str, size: int
) -> None:
    text = encode(picture(kind, size)).decode()
    with pytest.raises(ImageError, match=r"as base64 text, not a path: give base64\.b64decode") as caught:
        await open_media(text)
    assert f"data:image/{kind.lower()};base64," in caught.value.message
    assert len(caught.value.message) < 300


async def test_path_that_looks_like_base64_is_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    name = base64.urlsafe_b64encode(picture()).decode()[:80]
    Path(name).write_bytes(picture())
    assert content_of(await open_media(name)) == picture()
    with pytest.raises(ImageError, match="no such file"):
        await open_media("a" * 80)


@pytest.mark.parametrize(
    ("url", "advice"),
    [
        ("file:///home/ada/caf%C3%A9%20terrace.png", "Give the path itself, '/home/ada/café terrace.png'"),
        ("FILE://localhost/home/ada/a.png", "Give the path itself, '/home/ada/a.png'"),
        ("file://server/share/a.png", "Give a path"),
        ("ftp://server/a.png", "Give a path, or download it first"),
    ],
)
def test_error_for_another_scheme_names_the_supported_forms(url: str, advice: str) -> None:
    with pytest.raises(UnsupportedImageError, match=advice):
        forms.remote_url(url)
