"""Generations: from a prompt, from reference images, and with a mask."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image as Pillow

from apimart_async import (
    AsyncApimart,
    BadRequestError,
    ImageError,
    InvalidArgumentError,
    SubmissionIndeterminateError,
    Task,
    TaskFailedError,
    UnsupportedImageError,
)
from apimart_async.emulator import Emulator, Fault

if TYPE_CHECKING:
    from pathlib import Path

MODEL = "gemini-3-pro-image-preview"
URL = "https://pictures.example/a.png"


def uploads(emulator: Emulator) -> int:
    return emulator.counts["uploads"]


async def test_whole_workflow_is_one_call(
    client: AsyncApimart, emulator: Emulator, photographs: dict[str, Path], tmp_path: Path
) -> None:
    """Upload, generation with the upload as reference, polls, URL."""
    seen: list[Task] = []
    task = await client.generations.run(
        "A starry sky over the same place",
        images=[photographs["rocket.jpg"]],
        model=MODEL,
        size="16:9",
        on_update=seen.append,
    )
    assert task.is_completed
    assert task.images[0].url.startswith(emulator.base_url)
    assert not seen[0].is_finished
    assert seen[0].idempotency_key == task.idempotency_key
    assert seen[-1].id == task.id
    (path,) = await client.images.save(task, tmp_path)
    with Pillow.open(path) as picture:
        assert picture.size == (1024, 576)
    (entry,) = emulator.ledger.entries
    assert (entry.endpoint, entry.model, entry.task_id) == ("generations", MODEL, task.id)
    assert uploads(emulator) == 1
    assert not emulator.key_leaks


async def test_prompt_alone_is_enough(client: AsyncApimart, emulator: Emulator, tmp_path: Path) -> None:
    task = await client.generations.run("a lighthouse", n=2, resolution="1k", output_format="png")
    paths = await client.images.save(task, tmp_path)
    assert [path.suffix for path in paths] == [".png", ".png"]
    assert paths[0].read_bytes() != paths[1].read_bytes()
    assert emulator.ledger.entries[0].model == MODEL
    assert uploads(emulator) == 0


async def test_every_form_of_reference_image_is_accepted(
    client: AsyncApimart, emulator: Emulator, photographs: dict[str, Path]
) -> None:
    path = photographs["chelsea.png"]
    upload = await client.uploads.create(path)
    with Pillow.open(path) as opened:
        one_by_one: list[Any] = [path, path.read_bytes(), io.BytesIO(path.read_bytes()), opened, upload]
        for reference in one_by_one:
            assert (await client.generations.create("snow", images=reference)).id
        assert (await client.generations.create("snow", images=[*one_by_one, "https://a.example/b.png"])).id
    # One is explicit, one for the file in all its forms, and one for the picture that Pillow has encoded.
    assert uploads(emulator) == 3
    assert len(emulator.ledger.entries) == 6


async def test_inline_images_are_not_uploaded(
    client: AsyncApimart, emulator: Emulator, photographs: dict[str, Path]
) -> None:
    path = photographs["chelsea.png"]
    assert (await client.generations.run("snow", images=path, mask=path, inline=True)).is_completed
    assert uploads(emulator) == 0


async def test_mask_limits_the_change(client: AsyncApimart, emulator: Emulator) -> None:
    reference = Pillow.new("RGB", (80, 60), (200, 80, 40))
    mask = Pillow.new("RGBA", (80, 60), (0, 0, 0, 255))
    mask.paste((0, 0, 0, 0), (0, 0, 40, 60))
    task = await client.generations.run("snow", images=reference, mask=mask, output_format="png")
    edited = Pillow.open(io.BytesIO(await client.images.read(task.images[0]))).convert("RGB")
    assert edited.getpixel((60, 30)) == (200, 80, 40)
    assert edited.getpixel((20, 30)) != (200, 80, 40)
    assert uploads(emulator) == 2


WRONG: dict[str, tuple[dict[str, Any], type[InvalidArgumentError], str]] = {
    "an empty prompt": ({"prompt": " "}, InvalidArgumentError, "prompt must be a text that is not empty"),
    "an empty model": ({"model": ""}, InvalidArgumentError, "model must be a text that is not empty"),
    "no prompt": ({"prompt": None}, InvalidArgumentError, "prompt must be a text"),
    "a segmentation that would be billed": (
        {"prompt": None, "operation": "segment", "images": URL},
        InvalidArgumentError,
        "would bill an image",
    ),
    "a segmentation with a prompt": (
        {"operation": "segment", "images": URL, "model": "grok-imagine-2.0-ext"},
        InvalidArgumentError,
        "takes no prompt",
    ),
    "a segmentation without an image": (
        {"prompt": None, "operation": "segment", "model": "grok-imagine-2.0-ext"},
        InvalidArgumentError,
        "needs an image",
    ),
    "an unknown operation": (
        {"operation": "erase", "images": URL},
        InvalidArgumentError,
        "must be 'segment'",
    ),
    "n of 0": ({"n": 0}, InvalidArgumentError, "n must be a whole number"),
    "n as a text": ({"n": "2"}, InvalidArgumentError, "not '2'"),
    "a missing reference": ({"images": ["nowhere.jpg"]}, ImageError, r"nowhere\.jpg"),
    "a reference that is none": ({"images": b"hello, this is no image"}, UnsupportedImageError, "JPEG, PNG"),
    "a good reference, a bad mask": ({"images": b"GIF89a" + bytes(40), "mask": b"no"}, ImageError, "JPEG"),
    "two masks": ({"mask": ["a.png", "b.png"]}, ImageError, "another list"),
    "a webhook that is none": ({"webhook": "example.org/hook"}, InvalidArgumentError, "webhook must be"),
    "a bad key": ({"idempotency_key": "two words"}, InvalidArgumentError, "idempotency_key"),
    "not JSON": ({"extra_body": {"seed": {1}}}, InvalidArgumentError, "JSON"),
}


@pytest.mark.parametrize("case", WRONG)
async def test_invalid_argument_is_refused_before_anything_is_sent(
    client: AsyncApimart, emulator: Emulator, case: str
) -> None:
    changes, kind, said = WRONG[case]
    with pytest.raises(kind, match=said):
        await client.generations.create(**{"prompt": "stars"} | changes)
    assert not emulator.requests


async def test_limits_of_a_model_are_checked_by_the_service(client: AsyncApimart, emulator: Emulator) -> None:
    with pytest.raises(BadRequestError, match="size must be"):
        await client.generations.create("stars", size="enormous")
    with pytest.raises(BadRequestError, match="n must be"):
        await client.with_options(check="off").generations.create("stars", n=11)
    assert emulator.counts["generations"] == 2
    assert not emulator.ledger.entries


async def test_moderated_prompt_fails_the_task_without_cost(client: AsyncApimart, emulator: Emulator) -> None:
    with pytest.raises(TaskFailedError, match="moderat"):
        await client.generations.run("moderated")
    assert emulator.ledger.total == 0


async def test_lost_answer_is_indeterminate_and_its_replay_is_free(
    client: AsyncApimart, emulator: Emulator
) -> None:
    emulator.faults.add(Fault(kind="disconnect", route="generations", executed=True, times=1))
    with pytest.raises(SubmissionIndeterminateError) as caught:
        await client.generations.create("stars")
    key = caught.value.idempotency_key
    assert key
    task = await client.generations.create("stars", idempotency_key=key)
    (entry,) = emulator.ledger.entries
    assert (entry.task_id, entry.idempotency_key) == (task.id, key)


async def test_a_segmentation_is_free_and_an_edit_of_regions_is_not(
    client: AsyncApimart, emulator: Emulator
) -> None:
    url, model = "https://pictures.example/a.png", "grok-imagine-2.0-ext"
    free = await client.generations.run(images=url, model=model, operation="segment")
    paid = await client.generations.run("A roof", images=url, mask=url, model=model, operation="region_edit")
    assert free.images
    assert (free.cost, paid.cost) == (0, 0.015)
    assert [entry.operation for entry in emulator.ledger.entries] == ["segment", "region_edit"]


async def test_images_may_have_roles(client: AsyncApimart, emulator: Emulator) -> None:
    urls = ["https://pictures.example/a.png", "https://pictures.example/b.png"]
    assert (await client.generations.run("Both", images=urls, model="m", roles=["style", "content"])).images
    assert len(emulator.ledger.entries) == 1
    with pytest.raises(InvalidArgumentError, match="1 roles for 2 images"):
        await client.generations.create("Both", images=urls, model="m", roles=["style"])
