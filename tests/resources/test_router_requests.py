"""Requests of AppleRouter as they are sent, and the answers of the emulator."""

from __future__ import annotations

import base64
import inspect
import io
import json
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image as Pillow

from apimart_async import (
    AsyncAppleRouter,
    BadRequestError,
    ImageError,
    InvalidArgumentError,
    Media,
    SubmissionIndeterminateError,
)
from apimart_async.emulator import Emulator, Fault
from tests.resources.test_applerouter import PNG
from tests.transport.conftest import RawServer, listening

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.transport.conftest import Exchange

FIELDS: dict[str, Any] = {
    "output_format": "webp",
    "output_compression": 80,
    "background": "opaque",
    "quality": "high",
    "moderation": "low",
    "safety_identifier": "user-1",
    "user": "someone",
}
URL = "https://example.com/depth-map.webp"


@pytest.fixture
async def emulator() -> AsyncIterator[Emulator]:
    async with Emulator(task_seconds=0) as running:
        yield running


@pytest.fixture(params=["both services", "AppleRouter alone"])
async def router(emulator: Emulator, request: pytest.FixtureRequest) -> AsyncIterator[AsyncAppleRouter]:
    base_url = emulator.base_url if request.param == "both services" else emulator.router_url
    async with AsyncAppleRouter(emulator.api_key, base_url=base_url) as connected:
        yield connected


@pytest.fixture
async def raw_server() -> AsyncIterator[RawServer]:
    """Answer every request with an image."""

    async def handle(exchange: Exchange) -> None:
        await exchange.read()
        await exchange.answer(b'{"created":1713833628,"data":[{"url":"https://f.example/0.png"}]}')

    server = RawServer(handle)
    async with listening(server) as port:
        server.base_url = f"http://127.0.0.1:{port}"
        yield server


@pytest.fixture
async def sender(raw_server: RawServer) -> AsyncIterator[AsyncAppleRouter]:
    async with AsyncAppleRouter("sk-test", base_url=raw_server.base_url) as connected:
        yield connected


def form_of(body: bytes) -> dict[str, str]:
    """Return the text fields of a form."""
    parts = body.split(b'form-data; name="')[1:]
    fields = {}
    for part in parts:
        head, _, content = part.partition(b"\r\n\r\n")
        name, _, rest = head.partition(b'"')
        if b"filename" not in rest:
            fields[name.decode()] = content.partition(b"\r\n--")[0].decode()
    return fields


# --- generations ------------------------------------------------------------------------------------------


async def test_a_generation_returns_images_that_can_be_saved(
    router: AsyncAppleRouter, emulator: Emulator, tmp_path: Path
) -> None:
    result = await router.generations.create("a lighthouse", model="gpt-image-2", n=2, size="96x64")
    for path in await router.images.save(result, tmp_path):
        with Pillow.open(path) as picture:
            assert picture.size == (96, 64)
    assert result.usage is not None
    assert (result.usage.input_tokens, result.usage.total_tokens) == (50, 2050)
    assert result.cost is None
    (entry,) = emulator.ledger.entries
    assert (entry.endpoint, entry.model, entry.images) == ("applerouter", "gpt-image-2", 2)
    assert not emulator.key_leaks


async def test_a_generation_sends_what_it_is_given_and_no_more(
    sender: AsyncAppleRouter, raw_server: RawServer
) -> None:
    await sender.generations.create("a lighthouse")
    await sender.generations.create(
        "a lighthouse", model="m", n=3, size="auto", response_format="url", extra_body={"seed": 7}, **FIELDS
    )
    first, second = raw_server.seen
    assert (first.method, first.path) == ("POST", "/v1/images/generations/")
    assert first.headers["content-type"] == "application/json"
    assert "idempotency-key" not in first.headers
    assert json.loads(first.body) == {"prompt": "a lighthouse", "n": 1}
    rest = {"model": "m", "n": 3, "size": "auto", "response_format": "url", "seed": 7}
    assert json.loads(second.body) == {"prompt": "a lighthouse"} | rest | FIELDS


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (Fault(kind="disconnect", route="applerouter", executed=True), SubmissionIndeterminateError),
        (Fault(kind="truncated", route="applerouter"), SubmissionIndeterminateError),
        (Fault(kind="status", route="applerouter", status=500), SubmissionIndeterminateError),
        (Fault(kind="status", route="applerouter", status=400), BadRequestError),
    ],
    ids=lambda value: value.kind if isinstance(value, Fault) else "",
)
async def test_a_generation_of_unknown_outcome_is_not_sent_again(
    router: AsyncAppleRouter, emulator: Emulator, fault: Fault, kind: type[Exception]
) -> None:
    emulator.faults.add(fault)
    with pytest.raises(kind):
        await router.generations.create("a lighthouse")
    assert len(emulator.requests) == 1


@pytest.mark.parametrize("redirect", [307, 308])
async def test_a_redirect_to_the_other_form_of_the_path_is_remembered(
    router: AsyncAppleRouter, emulator: Emulator, redirect: int
) -> None:
    if router.base_url == emulator.base_url:
        pytest.skip("without the slash, the path is APIMart's there")
    emulator.faults.add(Fault(kind="redirect", route="applerouter", status=redirect, times=1))
    for _ in range(2):
        assert (await router.generations.create("a lighthouse", size="256x256")).images
    assert [request.status for request in emulator.requests] == [redirect, 200, 200]


# --- the model and the newer fields -----------------------------------------------------------------------


async def test_no_model_is_sent_by_default(sender: AsyncAppleRouter, raw_server: RawServer) -> None:
    await sender.edits.create(PNG, "a red hat")
    assert form_of(raw_server.seen[0].body) == {"prompt": "a red hat", "n": "1"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"prompt": "a" * 1001}, "names no model has the limits of dall-e-2"),
        ({"size": "1536x1024"}, "names no model has the limits of dall-e-2"),
    ],
)
async def test_without_a_model_the_published_limits_are_checked(
    sender: AsyncAppleRouter, raw_server: RawServer, arguments: dict[str, Any], said: str
) -> None:
    options = {"prompt": "a red hat", **arguments}
    with pytest.raises(InvalidArgumentError, match=said):
        await sender.edits.create(PNG, **options)
    with pytest.raises(InvalidArgumentError, match=said):
        await sender.generations.create(**options)
    with pytest.raises(ImageError, match="squares"):
        await sender.edits.create(_png((64, 32)), "a red hat")
    assert not raw_server.seen


def _png(size: tuple[int, int]) -> bytes:
    file = io.BytesIO()
    Pillow.new("RGBA", size).save(file, "PNG")
    return file.getvalue()


async def test_newer_fields_are_sent_as_text_in_a_form(
    sender: AsyncAppleRouter, raw_server: RawServer
) -> None:
    nested = {"svg": {"model": "author", "reasoning": {"effort": "low"}}, "watermark": False}
    await sender.edits.create(PNG, "a red hat", model="m", input_fidelity="high", extra_body=nested, **FIELDS)
    expected = {name: str(value) for name, value in FIELDS.items()}
    expected |= {"prompt": "a red hat", "model": "m", "n": "1", "input_fidelity": "high"}
    expected |= {"svg[model]": "author", "svg[reasoning][effort]": "low", "watermark": "false"}
    assert form_of(raw_server.seen[0].body) == expected


@pytest.mark.parametrize("made", ["png", "jpeg", "webp", "gif", "svg"])
async def test_every_output_format_can_be_saved(router: AsyncAppleRouter, tmp_path: Path, made: Any) -> None:
    result = await router.edits.create(PNG, "a red hat", model="gpt-image-2", output_format=made)
    (path,) = await router.images.save(result, tmp_path)
    assert path.suffix == f".{made.replace('jpeg', 'jpg')}"
    if made == "svg":
        assert path.read_bytes().startswith(b"<svg")
    else:
        with Pillow.open(path) as picture:
            assert picture.format == made.upper()
    assert await router.images.save(result, tmp_path, name=path.stem) == [path]


def test_every_field_is_an_argument_of_both_methods() -> None:
    """So are the further fields of ``stream``."""
    router = AsyncAppleRouter("sk-test", base_url="http://127.0.0.1:9")
    for resource in (router.edits, router.generations):
        for method in (resource.create, resource.stream):
            assert set(FIELDS) <= inspect.signature(method).parameters.keys()
        streamed = inspect.signature(resource.stream).parameters.keys()
        created = inspect.signature(resource.create).parameters.keys()
        assert streamed ^ created == {"partial_images", "response_format"}


# --- Qwen models take JSON --------------------------------------------------------------------------------


async def test_an_edit_by_a_qwen_model_is_a_message(sender: AsyncAppleRouter, raw_server: RawServer) -> None:
    parameters = {"prompt_extend": True, "watermark": False}
    await sender.edits.create(
        [URL, {"url": URL}],
        "a red bicycle",
        model="qwen-image-edit-plus",
        n=2,
        size="1024x512",
        extra_body={"parameters": parameters},
    )
    (seen,) = raw_server.seen
    assert (seen.method, seen.path) == ("POST", "/v1/images/edits")
    content = [{"image": URL}, {"image": URL}, {"text": "a red bicycle"}]
    assert json.loads(seen.body) == {
        "model": "qwen-image-edit-plus",
        "input": {"messages": [{"role": "user", "content": content}]},
        "parameters": {"n": 2, "size": "1024*512", **parameters},
    }


async def test_images_of_this_machine_are_sent_inside_the_message(
    sender: AsyncAppleRouter, raw_server: RawServer
) -> None:
    await sender.edits.create([PNG, URL], "a red bicycle", model="edit-qwen")
    content = json.loads(raw_server.seen[0].body)["input"]["messages"][0]["content"]
    packed = "data:image/png;base64," + base64.b64encode(PNG).decode()
    assert content == [{"image": packed}, {"image": URL}, {"text": "a red bicycle"}]


@pytest.mark.parametrize("image", [URL, PNG], ids=["URL", "file"])
@pytest.mark.parametrize("model", ["qwen-image-edit-plus", "edit-qwen"])
async def test_the_emulator_edits_with_qwen_models(
    router: AsyncAppleRouter, emulator: Emulator, image: str | bytes, model: str
) -> None:
    result = await router.edits.create(image, "a red bicycle", model=model, n=2, size="64x32")
    edited = Pillow.open(io.BytesIO(await router.images.read(result.images[1])))
    assert edited.size == (64, 32)
    (entry,) = emulator.ledger.entries
    assert (entry.endpoint, entry.model, entry.images) == ("applerouter", model, 2)


@pytest.mark.parametrize(
    ("changes", "kind", "said"),
    [
        ({"mask": PNG, "quality": "high"}, InvalidArgumentError, "Qwen models do not take mask, quality"),
        ({"user": "someone"}, InvalidArgumentError, "Qwen models do not take user"),
        ({"model": "gpt-image-2"}, ImageError, "not a URL: give a path or bytes. Qwen models take URLs"),
        ({"model": None}, ImageError, "not a URL"),
        ({"image": [URL] * 17}, ImageError, "At most 16"),
    ],
)
async def test_an_edit_that_does_not_fit_its_model_is_not_sent(
    sender: AsyncAppleRouter,
    raw_server: RawServer,
    changes: dict[str, Any],
    kind: type[Exception],
    said: str,
) -> None:
    options: dict[str, Any] = {"image": URL, "prompt": "a red hat", "model": "edit-qwen", **changes}
    with pytest.raises(kind, match=said):
        await sender.edits.create(**options)
    assert not raw_server.seen


async def test_an_image_for_a_qwen_model_is_not_converted_if_that_is_off(raw_server: RawServer) -> None:
    file = io.BytesIO()
    Pillow.new("RGB", (8, 8)).save(file, "TIFF")
    media = Media(convert="never")
    async with AsyncAppleRouter("sk-test", base_url=raw_server.base_url, media=media) as sender:
        with pytest.raises(ImageError, match="TIFF"):
            await sender.edits.create(file.getvalue(), "a red hat", model="edit-qwen")
    assert not raw_server.seen


async def test_a_cost_in_the_answer_is_the_cost_of_the_result(
    sender: AsyncAppleRouter, raw_server: RawServer
) -> None:
    async def handle(exchange: Exchange) -> None:
        await exchange.read()
        await exchange.answer(b'{"created":1,"data":[{"url":"https://f.example/0.png"}],"cost":0.25}')

    raw_server.handle = handle
    assert (await sender.generations.create("a lighthouse")).cost == 0.25
