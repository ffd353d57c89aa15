"""The content type and the dimensions of results: of the answer, of the content, of the file."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image as Pillow

from apimart_async import AsyncApimart, DownloadError, Image
from apimart_async.emulator import Emulator
from apimart_async.transport import parsing
from apimart_async.transport.image_parsing import read_image_events, read_image_set
from apimart_async.transport.media.dimensions import read_dimensions

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

URL = "https://files.example/picture"
FORMATS = {"JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp", "GIF": "image/gif"}


def content_of(kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    Pillow.new("RGB", (300, 40), "navy").save(file, kind, **options)
    return file.getvalue()


def data_url(content: bytes) -> str:
    return f"data:application/octet-stream;base64,{base64.b64encode(content).decode()}"


def facts(image: Image) -> tuple[str | None, int | None, int | None]:
    return image.content_type, image.width, image.height


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        *((kind, {}) for kind in FORMATS),
        ("WEBP", {"lossless": True}),
        ("WEBP", {"exif": b"Exif\0\0" + bytes(40)}),
        ("JPEG", {"progressive": True, "exif": b"Exif\0\0" + bytes(60_000)}),
    ],
)
def test_dimensions_are_those_of_pillow(kind: str, options: dict[str, Any]) -> None:
    content = content_of(kind, **options)
    assert read_dimensions(content) == (300, 40)
    assert not any(read_dimensions(content[:length]) for length in range(10))
    for length in range(10, len(content), 97):
        assert read_dimensions(content[:length]) in {None, (300, 40)}


def test_other_content_has_no_dimensions() -> None:
    for content in (b"", b"<svg/>", b"\x89PNG\r\n\x1a\n" + bytes(40), b"\xff\xd8\xff\xe0\x00\x00" * 9):
        assert read_dimensions(content) is None


def images_of(result: dict[str, Any], **outer: Any) -> list[tuple[str | None, int | None, int | None]]:
    task = {"id": "task_1", "status": "completed", "result": result, **outer}
    return [facts(image) for image in parsing.read_task({"code": 200, "data": task}).images]


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        ({"url": [URL]}, (None, None, None)),
        ({"url": f"{URL}.webp?size=1x1"}, ("image/webp", None, None)),
        ({"url": f"{URL}.PNG", "content_type": "image/jpeg; q=1"}, ("image/jpeg", None, None)),
        ({"url": URL, "mime_type": "text/html", "width": 640, "height": "480"}, (None, 640, 480)),
        ({"url": URL, "output_format": "jpeg", "size": "1024x1536"}, ("image/jpeg", 1024, 1536)),
        ({"url": URL, "size": "16:9", "width": 640}, (None, None, None)),
        ({"url": URL, "width": -3, "height": 0}, (None, None, None)),
        ({"url": "https://[", "content_type": ["image/png"]}, (None, None, None)),
    ],
)
def test_facts_of_an_answer(image: dict[str, Any], expected: object) -> None:
    assert images_of({"images": [image]}) == [expected]


def test_facts_of_the_result_are_those_of_its_images() -> None:
    result = {
        "size": "512x256",
        "output_format": "webp",
        "images": [{"url": [URL, URL]}, {"url": URL, "size": "8x9"}],
    }
    wide = ("image/webp", 512, 256)
    assert images_of(result) == [wide, wide, ("image/webp", 8, 9)]
    top = {"created": 1, "data": [{"url": URL}], "size": "1024x1024", "output_format": "png"}
    assert facts(read_image_set(top).images[0]) == ("image/png", 1024, 1024)
    event = {"type": "image_edit.completed", "b64_json": "x", "url": URL, "size": "10x20"}
    assert facts(read_image_events(event)[0].image)[1:] == (10, 20)


@pytest.mark.parametrize("kind", FORMATS)
def test_content_of_a_data_url_is_believed_and_nothing_else(kind: str) -> None:
    answer = {"url": data_url(content_of(kind)), "content_type": "image/tiff", "size": "1x1"}
    assert images_of({"images": [answer]}) == [(FORMATS[kind], 300, 40)]


def test_head_of_a_large_data_url_is_enough() -> None:
    content = content_of("PNG") + bytes(200_000)
    assert images_of({"images": [{"url": data_url(content)}]}) == [("image/png", 300, 40)]


@pytest.fixture
async def client() -> AsyncIterator[AsyncApimart]:
    async with (
        Emulator(task_seconds=0) as emulator,
        AsyncApimart(emulator.api_key, base_url=emulator.base_url) as made,
    ):
        yield made


@pytest.mark.long
async def test_file_is_inspected_where_the_answer_has_no_facts(client: AsyncApimart) -> None:
    task = await client.edits.run(data_url(content_of("PNG")), "A starry sky")
    (image,) = task.images
    found = await client.images.inspect(image)
    with Pillow.open(io.BytesIO(await client.images.read(image))) as opened:
        assert facts(found) == (Pillow.MIME[opened.format or ""], *opened.size)
    assert (found.url, found.task_id, found.index) == (image.url, task.id, 1)


async def test_inspection_of_a_data_url(client: AsyncApimart) -> None:
    jpeg = content_of("JPEG", exif=b"Exif\0\0" + bytes(60_000))
    assert facts(await client.images.inspect(data_url(jpeg))) == ("image/jpeg", 300, 40)
    with pytest.raises(DownloadError, match="a file that is text"):
        await client.images.inspect("data:text/plain,no image at all, but quite a few words")
