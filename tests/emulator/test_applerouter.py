from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from PIL import Image

from apimart_async.emulator import Fault

if TYPE_CHECKING:
    from .conftest import Answer, MakeImage, Open, Raw


def png(size: tuple[int, int] = (64, 64), *, hole: bool = True, mode: str = "RGBA") -> bytes:
    image = Image.new(mode, size, (200, 80, 40, 255)[: len(mode)])
    if hole:
        image.paste((0, 0, 0, 0), (0, 0, size[0] // 2, size[1]))
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


async def edit(raw: Raw, files: dict[str, bytes | list[bytes]] | None = None, **text: Any) -> Answer:
    form = aiohttp.FormData(default_to_multipart=True)
    for name, value in ({"image": png()} if files is None else files).items():
        for content in value if isinstance(value, list) else [value]:
            form.add_field(name, io.BytesIO(content), filename=f"{name}.png", content_type="image/png")
    for name, value in ({"prompt": "a red hat"} | text).items():
        if value is not None:
            form.add_field(name, value)
    return await raw.send("POST", "/v1/images/edits/", data=form)


@pytest.fixture
async def raw(open_emulator: Open) -> Any:
    async with open_emulator(task_seconds=0.01) as opened:
        yield opened


async def test_results_are_urls_by_default(raw: Raw) -> None:
    answer = await edit(raw, n="2", size="256x256", user="someone")
    assert answer.status == 200
    assert set(answer.json) == {"created", "data"}
    assert isinstance(answer.json["created"], int)
    assert [set(image) for image in answer.json["data"]] == [{"url"}, {"url"}]
    for image in answer.json["data"]:
        async with raw.session.get(image["url"]) as response:
            assert response.headers["Content-Type"] == "image/png"
            assert Image.open(io.BytesIO(await response.read())).size == (256, 256)
    assert answer.headers["x-request-id"]


async def test_results_can_be_base64(raw: Raw) -> None:
    answer = await edit(raw, response_format="b64_json")
    (image,) = answer.json["data"]
    decoded = Image.open(io.BytesIO(base64.b64decode(image["b64_json"])))
    assert (decoded.format, decoded.size) == ("PNG", (1024, 1024))


async def test_both_forms_of_the_path_are_served(raw: Raw) -> None:
    form = aiohttp.FormData({"prompt": "p"})
    form.add_field("image", png(), filename="a.png")
    answer = await raw.send("POST", "/v1/images/edits", data=form)
    assert list(answer.json) == ["created", "data"]


async def test_only_transparent_areas_are_edited(raw: Raw) -> None:
    answer = await edit(raw, model="another", response_format="b64_json")
    content = base64.b64decode(answer.json["data"][0]["b64_json"])
    edited = Image.open(io.BytesIO(content)).convert("RGB")
    assert edited.getpixel((60, 32)) == (200, 80, 40)
    assert edited.getpixel((4, 32)) != (0, 0, 0)


async def test_only_where_the_mask_is_transparent_is_edited(raw: Raw) -> None:
    mask = png()
    files: dict[str, bytes | list[bytes]] = {"image": png(hole=False, mode="RGB"), "mask": mask}
    answer = await edit(raw, files, model="another", response_format="b64_json")
    content = base64.b64decode(answer.json["data"][0]["b64_json"])
    edited = Image.open(io.BytesIO(content)).convert("RGB")
    assert edited.getpixel((60, 32)) == (200, 80, 40)
    assert edited.getpixel((4, 32)) != (200, 80, 40)


@pytest.mark.parametrize(
    ("files", "text", "param"),
    [
        ({}, {}, "image"),
        ({"image": png(hole=False, mode="RGB")}, {}, "image"),
        ({"image": png((64, 32))}, {}, "image"),
        ({"image": png() + bytes(4 * 1024 * 1024)}, {}, "image"),
        ({"image": [png(), png()]}, {}, "image"),
        ({"image": png()[:50]}, {}, "image"),
        ({"image": png(), "mask": png((32, 32))}, {}, "mask"),
        (None, {"prompt": None}, "prompt"),
        (None, {"prompt": "a" * 1001}, "prompt"),
        (None, {"n": "0"}, "n"),
        (None, {"n": "11"}, "n"),
        (None, {"n": "two"}, "n"),
        (None, {"size": "100x100"}, "size"),
        (None, {"response_format": "png"}, "response_format"),
    ],
)
async def test_the_published_limits_hold(
    raw: Raw, files: dict[str, bytes | list[bytes]] | None, text: dict[str, str | None], param: str
) -> None:
    answer = await edit(raw, files, **text)
    assert answer.status == 400
    error = answer.json["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert (error["type"], error["param"]) == ("invalid_request_error", param)
    assert raw.emulator.ledger.entries == []


async def test_dall_e_2_refuses_jpeg(raw: Raw, make_image: MakeImage) -> None:
    answer = await edit(raw, {"image": make_image("JPEG", size=(64, 64))})
    assert (answer.status, answer.json["error"]["param"]) == (400, "image")


async def test_other_models_accept_more(raw: Raw, make_image: MakeImage) -> None:
    files: dict[str, bytes | list[bytes]] = {"image[]": [make_image("JPEG"), make_image("WEBP")]}
    answer = await edit(raw, files, model="gpt-image-1", size="auto", prompt="a" * 1001, quality="high")
    assert answer.status == 200
    large = await edit(raw, {"image": make_image("JPEG")}, model="gpt-image-1", size="384x256")
    async with raw.session.get(large.json["data"][0]["url"]) as response:
        assert Image.open(io.BytesIO(await response.read())).size == (384, 256)


async def test_moderation_refuses_immediately_and_is_free(raw: Raw) -> None:
    answer = await edit(raw, prompt="moderated")
    assert answer.status == 400
    assert answer.json["error"]["code"] == "content_policy_violation"
    assert raw.emulator.ledger.entries == []


async def test_an_edit_is_billed_by_its_content(raw: Raw) -> None:
    await edit(raw, n="2")
    await edit(raw, n="2")
    ledger = raw.emulator.ledger
    assert [entry.endpoint for entry in ledger.entries] == ["applerouter", "applerouter"]
    assert ledger.total == pytest.approx(0.08)
    assert list(ledger.billed_more_than_once.values()) == [2]


async def test_a_wrong_key_is_refused_as_openai_does(raw: Raw) -> None:
    raw.headers = {"Authorization": "Bearer wrong"}
    answer = await edit(raw)
    assert answer.status == 401
    assert answer.json["error"]["code"] == "invalid_api_key"


async def test_an_edit_cannot_be_polled(raw: Raw) -> None:
    await edit(raw)
    (entry,) = raw.emulator.ledger.entries
    assert (await raw.send("GET", f"/v1/tasks/{entry.task_id}")).status == 404


async def test_the_rate_limit_is_reported(open_emulator: Open) -> None:
    async with open_emulator(task_seconds=0, rate_limit=0.01) as raw:
        first, second = await edit(raw), await edit(raw)
        assert first.headers["x-ratelimit-limit-requests"] == "1"
        assert first.headers["x-ratelimit-remaining-requests"] == "0"
        assert second.status == 429
        assert int(second.headers["retry-after-ms"]) <= 100_000
        assert 0 < int(second.headers["retry-after"]) <= 100
        assert set(second.json["error"]) == {"message", "type", "param", "code"}


@pytest.mark.long
async def test_images_of_a_given_size_remain_images(open_emulator: Open) -> None:
    large = Fault(kind="large-images", size=1_000_000)
    async with open_emulator(variants=True, faults=[large]) as raw:
        for _ in range(5):
            answer = await edit(raw, model="another", response_format="b64_json", n="2")
            for entry in answer.json["data"]:
                content = base64.b64decode(entry["b64_json"])
                assert len(content) == 1_000_000
                image = Image.open(io.BytesIO(content))
                image.load()
                assert image.format == "PNG"
        (url,) = (await edit(raw, model="another")).json["data"]
        assert set(url) == {"url"}


@pytest.mark.long
async def test_base64_rotates_through_every_spelling(open_emulator: Open) -> None:
    async with open_emulator(variants=True) as raw:
        entries = [
            (await edit(raw, model="another", response_format="b64_json")).json["data"][0] for _ in range(6)
        ]
    plain, scheme, safe, unpadded, lines, bare = [next(iter(entry.values())) for entry in entries]
    assert [next(iter(entry)) for entry in entries] == ["b64_json"] * 5 + ["url"]
    assert scheme.startswith("data:image/png;base64,iVBOR")
    assert not set("+/") & set(safe)
    assert not unpadded.endswith("=")
    assert "\r\n" in lines
    for text in (plain, lines, bare):
        assert base64.b64decode(text).startswith(b"\x89PNG")


# --- JSON, and the prefix of AppleRouter ------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "/v1/images/generations/",
        "/applerouter/v1/images/generations",
        "/applerouter/v1/images/generations/",
    ],
)
async def test_generations_are_answered_with_images(raw: Raw, path: str) -> None:
    body = {"prompt": "a lighthouse", "model": "gpt-image-2", "n": 2, "size": "64x32"}
    answer = await raw.send("POST", path, json=body)
    assert set(answer.json) == {"created", "data", "usage"}
    assert [set(image) for image in answer.json["data"]] == [{"url"}, {"url"}]
    assert answer.headers["x-request-id"]


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"prompt": " "}, "prompt"),
        ({"prompt": "a" * 1001, "model": None}, "prompt"),
        ({"size": "64x32", "model": None}, "size"),
        ({"size": "large"}, "size"),
        ({"n": "2"}, "n"),
        ({"n": 11}, "n"),
        ({"n": True}, "n"),
        ({"user": 7}, "user"),
        ({"output_format": "bmp"}, "output_format"),
        ({"output_compression": 101}, "output_compression"),
        ({"background": "red"}, "background"),
        ({"quality": "best"}, "quality"),
        ({"moderation": "none"}, "moderation"),
        ({"stream": "true"}, "stream"),
        ({"stream": True, "output_format": "svg"}, "stream"),
        ({"stream": True, "partial_images": 4}, "partial_images"),
        ({"partial_images": 1}, "partial_images"),
    ],
)
async def test_a_wrong_field_is_named(raw: Raw, changes: dict[str, Any], param: str) -> None:
    body = {"prompt": "a lighthouse", "model": "gpt-image-2"} | changes
    answer = await raw.send("POST", "/applerouter/v1/images/generations", json=body)
    assert (answer.status, answer.json["error"]["param"]) == (400, param)


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"model": "gpt-image-2"}, "model"),
        ({"input": {}}, "input"),
        ({"input": {"messages": [{"content": [{"text": "p"}]}]}}, "input"),
        ({"input": {"messages": [{"content": [{"image": 7}, {"text": "p"}]}]}}, "input"),
        ({"input": {"messages": [{"content": [{"image": "https://a.example/b.png"}]}]}}, "prompt"),
        ({"parameters": [1]}, "parameters"),
        ({"parameters": {"n": 0}}, "n"),
    ],
)
async def test_a_wrong_message_is_named(raw: Raw, changes: dict[str, Any], param: str) -> None:
    content = [{"image": "https://a.example/b.png"}, {"text": "a red bicycle"}]
    body = {"model": "qwen-image-edit-plus", "input": {"messages": [{"role": "user", "content": content}]}}
    assert (await raw.send("POST", "/applerouter/v1/images/edits", json=body)).status == 200
    answer = await raw.send("POST", "/applerouter/v1/images/edits", json=body | changes)
    assert (answer.status, answer.json["error"]["param"]) == (400, param)


@pytest.mark.parametrize("kind", ["task-failed", "task-cancelled", "task-stuck", "task-partial"])
async def test_the_end_of_a_task_is_no_end_of_a_json_edit(raw: Raw, kind: Any) -> None:
    raw.emulator.faults.add(Fault(kind=kind, route="edits"))
    content = [{"image": "https://a.example/b.png"}, {"text": "a red bicycle"}]
    body = {"model": "qwen-image-edit-plus", "input": {"messages": [{"role": "user", "content": content}]}}
    answer = await raw.send("POST", "/v1/images/edits", json=body | {"parameters": {"n": 2}})
    assert len(answer.json["data"]) == 2
    for image in answer.json["data"]:
        async with raw.session.get(image["url"]) as response:
            assert response.status == 200
    assert [entry.images for entry in raw.emulator.ledger.billed] == [2]
