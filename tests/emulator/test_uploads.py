from __future__ import annotations

import os
from typing import TYPE_CHECKING

import aiohttp
import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from .conftest import MakeImage, Open, Raw

LIMIT = 20_971_520


@pytest.mark.parametrize(
    ("kind", "content_type"),
    [("JPEG", "image/jpeg"), ("PNG", "image/png"), ("WEBP", "image/webp"), ("GIF", "image/gif")],
)
async def test_an_upload_is_answered_as_documented(
    raw: Raw, make_image: MakeImage, kind: str, content_type: str
) -> None:
    content = make_image(kind)
    answer = await raw.upload(content, "photo.bin")
    assert answer.status == 200
    assert set(answer.json) == {"url", "filename", "content_type", "bytes", "created_at"}
    assert answer.json["filename"] == "photo.bin"
    assert answer.json["content_type"] == content_type, "judged by content, not by name"
    assert answer.json["bytes"] == len(content)
    assert isinstance(answer.json["created_at"], int)
    assert answer.headers["X-Oneapi-Request-Id"]
    async with raw.session.get(answer.json["url"]) as response:  # public: no key
        assert await response.read() == content
        assert response.headers["Content-Type"] == content_type
        assert response.headers["Content-Length"] == str(len(content))


async def test_a_filename_is_returned_untouched(raw: Raw, make_image: MakeImage) -> None:
    answer = await raw.upload(make_image(), "été ☃ 写真.jpg")
    assert answer.json["filename"] == "été ☃ 写真.jpg"


async def test_the_same_image_gets_a_new_url_each_time(raw: Raw, make_image: MakeImage) -> None:
    first, second = await raw.upload(make_image()), await raw.upload(make_image())
    assert first.json["url"] != second.json["url"]


async def test_camera_photographs_are_accepted(raw: Raw, photographs: dict[str, Path]) -> None:
    for name, path in photographs.items():
        answer = await raw.upload(path.read_bytes(), name)
        assert (answer.status, answer.json["bytes"]) == (200, path.stat().st_size)


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"", "text/plain; charset=utf-8"),
        (b"hello", "text/plain; charset=utf-8"),
        (b"%PDF-1.7", "application/pdf"),
        (b"BM\x00\x00", "image/bmp"),
        (b"\x00\x01\x02\x03", "application/octet-stream"),
        (b"\x00\x00\x00\x20ftypavif", "image/avif"),
    ],
)
async def test_other_file_types_are_named_and_refused(raw: Raw, content: bytes, named: str) -> None:
    answer = await raw.upload(content, "photo.jpg")
    assert answer.status == 400
    assert answer.json["error"] == {
        "code": 400,
        "message": f"unsupported image type: {named}, allowed: jpeg, png, gif, webp",
        "type": "invalid_request_error",
    }


async def test_the_size_limit_is_exact(raw: Raw, make_image: MakeImage) -> None:
    content = make_image("PNG")
    assert (await raw.upload(content + bytes(LIMIT - len(content)))).status == 200
    answer = await raw.upload(content + bytes(LIMIT - len(content) + 1))
    assert answer.status == 413
    assert answer.json["error"]["message"] == "file size 20971521 exceeds maximum 20971520 bytes"


async def test_large_images_arrive_whole(raw: Raw, make_image: MakeImage) -> None:
    content = make_image("PNG") + os.urandom(5_000_000)
    answer = await raw.upload(content)
    async with raw.session.get(answer.json["url"]) as response:
        assert await response.read() == content


async def test_a_file_field_is_required(raw: Raw, make_image: MakeImage) -> None:
    form = aiohttp.FormData()
    form.add_field("image", make_image(), filename="photo.jpg")
    wrong_name = await raw.send("POST", "/v1/uploads/images", data=form)
    no_file = await raw.send("POST", "/v1/uploads/images", data={"file": "photo.jpg"})
    no_multipart = await raw.send("POST", "/v1/uploads/images", data=make_image())
    broken = await raw.send(
        "POST",
        "/v1/uploads/images",
        data=b"--x\r\nnonsense",
        headers={"Content-Type": "multipart/form-data; boundary=x"},
    )
    no_boundary = await raw.send(
        "POST", "/v1/uploads/images", data=b"x", headers={"Content-Type": "multipart/form-data"}
    )
    for answer in (wrong_name, no_file, no_multipart, broken, no_boundary):
        assert answer.status == 400
        assert answer.json["error"]["message"].startswith("missing or invalid file field")


async def test_an_upload_expires(open_emulator: Open, make_image: MakeImage) -> None:
    async with open_emulator(upload_ttl=6000) as raw:
        url = (await raw.upload(make_image())).json["url"]
        raw.emulator.advance(4000)
        assert (await raw.send("GET", url)).status == 200
        raw.emulator.advance(2000)
        assert (await raw.send("GET", url)).status == 410
        answer = await raw.edit(image_urls=[url])
        assert answer.status == 400
        assert "expired" in answer.json["error"]["message"]


async def test_an_unknown_upload_is_not_found(raw: Raw) -> None:
    assert (await raw.send("GET", "/files/uploads/01ARZ3NDEKTSV4RRFFQ69G5FAV.jpg")).status == 404
    assert (await raw.send("GET", "/files/uploads/..%2f..%2fetc%2fpasswd")).status == 404
