"""The official client of OpenAI takes the emulator for one of its own services."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any, Literal

import openai
import pytest
import requests
from anyio import to_thread

from .conftest import opened

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

    from openai.types import ImagesResponse

    from .conftest import Service

Format = Literal["url", "b64_json"]


@pytest.fixture
def client(service: Service) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(
        api_key=service.api_key, base_url=f"{service.base_url}/v1", max_retries=0, timeout=120
    ) as connected:
        yield connected


@pytest.fixture
async def async_client(service: Service) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(
        api_key=service.api_key, base_url=f"{service.base_url}/v1", max_retries=0, timeout=120
    ) as connected:
        yield connected


@pytest.fixture
def router(service: Service) -> Iterator[openai.OpenAI]:
    """Connect to AppleRouter alone: it shares the path of generations with APIMart."""
    with openai.OpenAI(
        api_key=service.api_key, base_url=f"{service.base_url}/applerouter/v1", max_retries=0, timeout=120
    ) as connected:
        yield connected


@pytest.fixture
async def async_router(service: Service) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(
        api_key=service.api_key, base_url=f"{service.base_url}/applerouter/v1", max_retries=0, timeout=120
    ) as connected:
        yield connected


def contents(answer: ImagesResponse, response_format: Format) -> list[bytes]:
    assert answer.data
    assert answer.created > 1_700_000_000
    found: list[bytes] = []
    for image in answer.data:
        if response_format == "url":
            assert image.url
            assert image.b64_json is None
            found.append(requests.get(image.url, timeout=120).content)
        else:
            assert image.b64_json
            assert image.url is None
            found.append(base64.b64decode(image.b64_json))
    return found


@pytest.mark.parametrize("response_format", ["url", "b64_json"])
@pytest.mark.parametrize("mask", [None, "mask.png"])
def test_an_edit(client: openai.OpenAI, folder: Path, response_format: Format, mask: str | None) -> None:
    answer = client.images.edit(
        image=folder / ("transparent.png" if mask is None else "opaque.png"),
        mask=folder / mask if mask else openai.omit,
        prompt="A red hat",
        model="dall-e-2",
        n=2,
        size="256x256",
        response_format=response_format,
        user="someone",
    )
    pictures = [opened(content) for content in contents(answer, response_format)]
    assert [picture.size for picture in pictures] == [(256, 256), (256, 256)]
    assert pictures[0].tobytes() != pictures[1].tobytes()
    kept = pictures[0].convert("RGB").getpixel((200, 128))
    assert kept == (200, 80, 40)


@pytest.mark.parametrize("response_format", ["url", "b64_json"])
@pytest.mark.parametrize("mask", [None, "mask.png"])
async def test_an_edit_without_blocking(
    async_client: openai.AsyncOpenAI, folder: Path, response_format: Format, mask: str | None
) -> None:
    answer = await async_client.images.edit(
        image=folder / ("transparent.png" if mask is None else "opaque.png"),
        mask=folder / mask if mask else openai.omit,
        prompt="A red hat",
        model="dall-e-2",
        size="256x256",
        response_format=response_format,
    )
    (content,) = await to_thread.run_sync(contents, answer, response_format)
    assert opened(content).size == (256, 256)


def test_several_pictures_for_another_model(client: openai.OpenAI, folder: Path) -> None:
    answer = client.images.edit(
        image=[folder / "photo.jpg", folder / "opaque.png"],
        prompt="Put one into the other",
        model="gpt-image-2",
        size="1536x1024",
        quality="high",
        background="opaque",
    )
    (content,) = contents(answer, "url")
    assert opened(content).size == (1536, 1024)


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"image": "opaque.png"}, "image"),
        ({"image": "photo.jpg"}, "image"),
        ({"prompt": "a" * 1001}, "prompt"),
        ({"n": 11}, "n"),
        ({"size": "1536x1024"}, "size"),
    ],
)
def test_a_refusal_names_the_field(
    client: openai.OpenAI, folder: Path, changes: dict[str, Any], param: str
) -> None:
    options = {"image": "transparent.png", "prompt": "A red hat", "model": "dall-e-2"} | changes
    with pytest.raises(openai.BadRequestError) as caught:
        client.images.edit(**options | {"image": folder / options["image"]})
    assert (caught.value.param, caught.value.type) == (param, "invalid_request_error")
    assert caught.value.request_id


def test_moderation_is_named_as_there(client: openai.OpenAI, folder: Path) -> None:
    with pytest.raises(openai.BadRequestError, match="safety system") as caught:
        client.images.edit(image=folder / "transparent.png", prompt="moderated", model="dall-e-2")
    assert caught.value.code == "content_policy_violation"


def test_a_wrong_key(service: Service, folder: Path) -> None:
    with openai.OpenAI(api_key="sk-wrong", base_url=f"{service.base_url}/v1", max_retries=0) as client:
        with pytest.raises(openai.AuthenticationError, match="Incorrect API key") as caught:
            client.images.edit(image=folder / "transparent.png", prompt="A red hat", model="dall-e-2")
        assert caught.value.code == "invalid_api_key"


@pytest.mark.parametrize("response_format", ["url", "b64_json"])
def test_a_generation(router: openai.OpenAI, response_format: Format) -> None:
    answer = router.images.generate(
        prompt="A lighthouse", model="gpt-image-2", n=2, size="512x512", response_format=response_format
    )
    assert [opened(content).size for content in contents(answer, response_format)] == [(512, 512)] * 2
    assert answer.usage
    assert answer.usage.total_tokens == answer.usage.input_tokens + answer.usage.output_tokens


@pytest.mark.parametrize("made", ["png", "jpeg", "webp", "gif"])
async def test_a_generation_without_blocking(
    async_router: openai.AsyncOpenAI, made: Literal["png", "jpeg", "webp", "gif"]
) -> None:
    answer = await async_router.images.generate(
        prompt="A lighthouse", model="gpt-image-2", size="256x256", output_format=made, background="opaque"
    )
    (content,) = await to_thread.run_sync(contents, answer, "b64_json")
    assert opened(content).format == made.upper()


def test_a_stream_of_an_edit(router: openai.OpenAI, folder: Path) -> None:
    types: list[str] = []
    with router.images.edit(
        image=folder / "photo.jpg",
        prompt="A red hat",
        model="gpt-image-2",
        size="256x256",
        input_fidelity="high",
        stream=True,
        partial_images=2,
    ) as stream:
        for event in stream:
            types.append(event.type)
            assert opened(base64.b64decode(event.b64_json)).size == (256, 256)
            if event.type == "image_edit.partial_image":
                assert event.partial_image_index == len(types) - 1
            else:
                assert event.usage.input_tokens == 50
    assert types == ["image_edit.partial_image"] * 2 + ["image_edit.completed"]


async def test_a_stream_of_an_edit_without_blocking(async_router: openai.AsyncOpenAI, folder: Path) -> None:
    stream = await async_router.images.edit(
        image=folder / "photo.jpg", prompt="A red hat", model="gpt-image-2", stream=True, partial_images=1
    )
    assert [event.type async for event in stream] == ["image_edit.partial_image", "image_edit.completed"]


def test_a_stream_of_a_generation(router: openai.OpenAI) -> None:
    with router.images.generate(
        prompt="A lighthouse", model="gpt-image-2", size="256x256", n=2, stream=True, partial_images=1
    ) as stream:
        events = list(stream)
    names = ["image_generation.partial_image", "image_generation.completed"]
    assert [event.type for event in events] == names * 2
    assert {event.size for event in events} == {"256x256"}


async def test_a_stream_of_a_generation_without_blocking(async_router: openai.AsyncOpenAI) -> None:
    stream = await async_router.images.generate(
        prompt="A lighthouse", model="gpt-image-2", size="256x256", stream=True
    )
    assert [event.type async for event in stream] == ["image_generation.completed"]


@pytest.fixture
def faults(service: Service) -> Iterator[Callable[..., None]]:
    """Return the function that adds a fault to the emulator, and remove the faults afterwards."""
    url = f"{service.base_url}/emulator/faults"
    headers = {"Authorization": f"Bearer {service.api_key}"}

    def add(kind: str) -> None:
        answer = requests.post(
            url, json=[{"kind": kind, "route": "applerouter"}], headers=headers, timeout=120
        )
        answer.raise_for_status()

    yield add
    requests.delete(url, headers=headers, timeout=120).raise_for_status()


@pytest.mark.parametrize(
    ("kind", "error"),
    [("stream-error", openai.APIError), ("error-as-stream", openai.UnprocessableEntityError)],
)
def test_an_error_of_a_stream(
    router: openai.OpenAI, faults: Callable[..., None], kind: str, error: type[Exception]
) -> None:
    faults(kind)
    with pytest.raises(error, match=r"could not be finished|injected"):
        list(router.images.generate(prompt="A lighthouse", model="gpt-image-2", stream=True))


def test_a_stream_that_is_cut(router: openai.OpenAI, faults: Callable[..., None]) -> None:
    """The package lets the exception of its HTTP client through, or wraps it."""
    faults("stream-cut")
    stream = router.images.generate(prompt="A", model="gpt-image-2", stream=True, partial_images=2)
    events: list[str] = []
    with pytest.raises(Exception, match=r"[Cc]onnection|peer|incomplete|[Rr]ead"):
        events.extend(event.type for event in stream)
    assert "image_generation.completed" not in events


def test_the_models(client: openai.OpenAI) -> None:
    assert "dall-e-2" in [model.id for model in client.models.list()]
