from __future__ import annotations

import os
from typing import TYPE_CHECKING

import aiohttp
import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from .conftest import MakePicture, Open, Raw

LIMIT = 20_971_520


@pytest.mark.parametrize(
    ("kind", "content_type"),
    [("JPEG", "image/jpeg"), ("PNG", "image/png"), ("WEBP", "image/webp"), ("GIF", "image/gif")],
)
async def test_an_upload_is_answered_as_documented(
    raw: Raw, picture: MakePicture, kind: str, content_type: str
) -> None:
    content = picture(kind)
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


async def test_a_filename_is_returned_untouched(raw: Raw, picture: MakePicture) -> None:
    answer = await raw.upload(picture(), "été ☃ 写真.jpg")
    assert answer.json["filename"] == "été ☃ 写真.jpg"


async def test_the_same_picture_gets_a_new_address_each_time(raw: Raw, picture: MakePicture) -> None:
    first, second = await raw.upload(picture()), await raw.upload(picture())
    assert first.json["url"] != second.json["url"]


async def test_photographs_from_cameras_are_taken(raw: Raw, photographs: dict[str, Path]) -> None:
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
async def test_what_is_no_picture_is_named_and_refused(raw: Raw, content: bytes, named: str) -> None:
    answer = await raw.upload(content, "photo.jpg")
    assert answer.status == 400
    assert answer.json["error"] == {
        "code": 400,
        "message": f"unsupported image type: {named}, allowed: jpeg, png, gif, webp",
        "type": "invalid_request_error",
    }


async def test_the_largest_size_is_taken_and_one_byte_more_is_not(raw: Raw, picture: MakePicture) -> None:
    content = picture("PNG")
    assert (await raw.upload(content + bytes(LIMIT - len(content)))).status == 200
    answer = await raw.upload(content + bytes(LIMIT - len(content) + 1))
    assert answer.status == 413
    assert answer.json["error"]["message"] == "file size 20971521 exceeds maximum 20971520 bytes"


async def test_large_pictures_arrive_whole(raw: Raw, picture: MakePicture) -> None:
    content = picture("PNG") + os.urandom(5_000_000)
    answer = await raw.upload(content)
    async with raw.session.get(answer.json["url"]) as response:
        assert await response.read() == content


async def test_a_file_field_is_required(raw: Raw, picture: MakePicture) -> None:
    form = aiohttp.FormData()
    form.add_field("image", picture(), filename="photo.jpg")
    wrong_name = await raw.send("POST", "/v1/uploads/images", data=form)
    no_file = await raw.send("POST", "/v1/uploads/images", data={"file": "photo.jpg"})
    no_multipart = await raw.send("POST", "/v1/uploads/images", data=picture())
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


async def test_an_upload_expires(open_emulator: Open, picture: MakePicture) -> None:
    async with open_emulator(upload_ttl=60) as raw:
        url = (await raw.upload(picture())).json["url"]
        raw.emulator.advance(59)
        assert (await raw.send("GET", url)).status == 200
        raw.emulator.advance(2)
        assert (await raw.send("GET", url)).status == 410
        answer = await raw.edit(image_urls=[url])
        assert answer.status == 400
        assert "expired" in answer.json["error"]["message"]


async def test_what_was_never_uploaded_is_not_found(raw: Raw) -> None:
    assert (await raw.send("GET", "/files/uploads/01ARZ3NDEKTSV4RRFFQ69G5FAV.jpg")).status == 404
    assert (await raw.send("GET", "/files/uploads/..%2f..%2fetc%2fpasswd")).status == 404
