from __future__ import annotations

import io
from typing import TYPE_CHECKING

import pytest
from PIL import Image

if TYPE_CHECKING:
    from .conftest import MakeImage, Open, Raw


async def result_urls(raw: Raw, **fields: object) -> list[str]:
    task = await raw.finished(await raw.submitted(**fields))
    return [url for image in task["result"]["images"] for url in image["url"]]


async def test_results_have_the_size_of_the_input_and_differ(raw: Raw, make_image: MakeImage) -> None:
    upload = (await raw.upload(make_image(size=(90, 60)))).json["url"]
    contents: list[bytes] = []
    for url in await result_urls(raw, image_urls=[upload], n=3):
        async with raw.session.get(url) as response:
            assert response.headers["Content-Type"] == "image/jpeg"
            contents.append(await response.read())
        assert Image.open(io.BytesIO(contents[-1])).size == (90, 60)
        async with raw.session.head(url) as head:
            assert head.status == 200
            assert head.headers["Content-Length"] == str(len(contents[-1]))
            assert head.headers["Content-Type"] == "image/jpeg"
    assert len(set(contents)) == 3


async def test_a_transparent_image_stays_transparent(raw: Raw, make_image: MakeImage) -> None:
    upload = (await raw.upload(make_image("PNG", mode="RGBA"))).json["url"]
    (url,) = await result_urls(raw, image_urls=[upload])
    answer = await raw.send("GET", url)
    assert answer.headers["Content-Type"] == "image/png"
    assert Image.open(io.BytesIO(answer.content)).mode == "RGBA"


async def test_results_expire(open_emulator: Open) -> None:
    async with open_emulator(result_ttl=7200) as raw:
        (url,) = await result_urls(raw)  # an hour later
        assert (await raw.send("GET", url)).status == 200
        raw.emulator.advance(7200)
        assert (await raw.send("GET", url)).status == 410
        assert (await raw.send("HEAD", url)).status == 410


async def test_there_is_no_result_before_the_task_has_completed(raw: Raw) -> None:
    task_id = await raw.submitted()
    assert (await raw.send("GET", f"/files/results/{task_id}/image_0.jpg")).status == 404
    raw.emulator.advance(60)
    assert (await raw.send("GET", f"/files/results/{task_id}/image_0.jpg")).status == 200
    for name in ("image_1.jpg", "image_0.png", "image_-1.jpg", "..%2fimage_0.jpg"):
        assert (await raw.send("GET", f"/files/results/{task_id}/{name}")).status == 404


async def test_a_result_can_be_edited_again(raw: Raw, make_image: MakeImage) -> None:
    upload = (await raw.upload(make_image(size=(50, 40)))).json["url"]
    (first,) = await result_urls(raw, image_urls=[upload])
    (second,) = await result_urls(raw, image_urls=[first], prompt="in watercolour")
    content = (await raw.send("GET", second)).content
    assert Image.open(io.BytesIO(content)).size == (50, 40)
    answer = await raw.edit(image_urls=[first.replace("image_0", "image_7")])
    assert answer.status == 400


async def test_a_foreign_url_becomes_a_placeholder(raw: Raw) -> None:
    (url,) = await result_urls(raw, image_urls=["https://pictures.example/photo.jpg"])
    content = (await raw.send("GET", url)).content
    assert Image.open(io.BytesIO(content)).size == (1024, 768)


async def test_an_unreadable_image_fails_its_task(raw: Raw, make_image: MakeImage) -> None:
    broken = (await raw.upload(make_image("PNG")[:120])).json["url"]
    task = await raw.finished(await raw.submitted(image_urls=[broken]))
    assert (task["status"], task["error"]["code"]) == ("failed", "invalid_image")
    assert raw.emulator.ledger.total == 0


async def test_an_image_with_too_many_pixels_fails_its_task(raw: Raw) -> None:
    file = io.BytesIO()
    Image.new("1", (7200, 7200)).save(file, "PNG")
    assert len(file.getvalue()) < 100_000
    large = (await raw.upload(file.getvalue())).json["url"]
    task = await raw.finished(await raw.submitted(image_urls=[large]))
    assert task["status"] == "failed"


async def test_a_large_image_comes_back_smaller(raw: Raw, make_image: MakeImage) -> None:
    upload = (await raw.upload(make_image(size=(3000, 1500)))).json["url"]
    (url,) = await result_urls(raw, image_urls=[upload], prompt="make it green")
    content = (await raw.send("GET", url)).content
    assert Image.open(io.BytesIO(content)).size == (1600, 800)


async def test_tiny_results_for_load_tests(open_emulator: Open, make_image: MakeImage) -> None:
    async with open_emulator(images="tiny") as raw:
        upload = (await raw.upload(make_image())).json["url"]
        urls = await result_urls(raw, image_urls=[upload], n=2)
        contents = [(await raw.send("GET", url)).content for url in urls]
        assert Image.open(io.BytesIO(contents[0])).size == (8, 8)
        assert contents[0] != contents[1]
        assert max(map(len, contents)) < 1000


async def test_a_key_sent_to_the_file_host_is_recorded(raw: Raw) -> None:
    (url,) = await result_urls(raw)
    async with raw.session.get(url) as response:
        assert response.status == 200
    assert not raw.emulator.key_leaks
    async with raw.session.get(url, headers={"Authorization": "Bearer sk-emulator"}):
        pass
    async with raw.session.get(url, headers={"Authorization": "Bearer another"}):
        pass
    async with raw.session.get(url, headers={"Cookie": "key=sk-emulator"}):
        pass
    async with raw.session.get(url, params={"key": "sk-emulator"}):
        pass
    leaks = raw.emulator.key_leaks
    assert len(leaks) == 4
    assert all(leak.route == "files" and leak.status == 200 for leak in leaks)


@pytest.mark.parametrize("mode", ["L", "LA", "P", "1", "CMYK", "I;16"])
async def test_every_image_mode_can_be_edited(raw: Raw, mode: str) -> None:
    file = io.BytesIO()
    Image.new(mode, (40, 30)).save(file, "JPEG" if mode == "CMYK" else "PNG")
    upload = (await raw.upload(file.getvalue())).json["url"]
    (url,) = await result_urls(raw, image_urls=[upload])
    assert (await raw.send("GET", url)).status == 200
