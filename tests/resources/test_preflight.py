"""Paid requests are checked against the schema of their model before money is spent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import pytest

from apimart_async import AsyncApimart, InvalidArgumentError, Job, run_many
from apimart_async.emulator import Emulator, Fault, ModelSpec

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.clock import Clock

PICTURE = "https://pictures.example/a.png"
PAINTER = ModelSpec(
    model="painter",
    parameters={
        "resolution": {"type": "string", "enum": ["1k", "2k"]},
        "image_urls": {"type": "array", "maxItems": 2},
    },
    max_n=4,
)
EDITOR = ModelSpec(
    model="editor",
    path="/v1/images/edits",
    parameters={"image_urls": {"type": "array"}},
    max_n=2,
    response_version="2026-07-27",
)
SEGMENTER = ModelSpec(model="segmenter", parameters={"resolution": {"enum": ["1k"]}})


@pytest.fixture
async def emulator() -> AsyncIterator[Emulator]:
    async with Emulator(task_seconds=0, images="tiny", models=[PAINTER, EDITOR, SEGMENTER]) as running:
        yield running


def paid(emulator: Emulator) -> int:
    return emulator.counts["edits"] + emulator.counts["generations"]


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"n": 5}, "n must be a number from 1 to 4 for painter, not 5"),
    ({"resolution": "4k"}, "resolution must be one of '1k', '2k' for painter, not '4k'"),
    ({"quality": "high"}, "painter has no parameter quality"),
    ({"images": [PICTURE] * 3}, "image_urls must be a list whose length is of at most 2"),
    ({"mask": PICTURE}, "painter has no parameter mask_url"),
    ({"extra_body": {"resolutoin": "2k"}}, "no parameter resolutoin .* did you mean resolution?"),
    ({"extra_body": {"resolution": 2}}, "resolution must be a string for painter, not 2"),
]


@pytest.mark.parametrize(("arguments", "words"), WRONG)
async def test_request_that_the_model_does_not_take_is_not_sent(
    client: AsyncApimart, emulator: Emulator, arguments: dict[str, Any], words: str
) -> None:
    with pytest.raises(InvalidArgumentError, match=words):
        await client.generations.create("stars", model="painter", **arguments)
    assert (paid(emulator), emulator.counts["uploads"]) == (0, 0)
    assert not emulator.ledger.entries


async def test_fields_are_checked_without_a_request(client: AsyncApimart, emulator: Emulator) -> None:
    await client.models.check({"model": "editor", "prompt": "stars", "n": 2})
    with pytest.raises(InvalidArgumentError, match="n must be a number from 1 to 2 for editor, not 3"):
        await client.models.check({"model": "editor", "prompt": "stars", "n": 3})
    with pytest.raises(InvalidArgumentError, match="model must be a text"):
        await client.models.check({"prompt": "stars"})
    await client.models.check({"model": "editor", "n": 3}, path="/v1/another")
    await client.with_options(check="off").models.check({"model": "editor", "n": 3})
    assert paid(emulator) == 0


async def test_edit_is_checked_before_its_image_is_uploaded(client: AsyncApimart, emulator: Emulator) -> None:
    with pytest.raises(InvalidArgumentError, match="n must be a number from 1 to 2 for editor, not 3"):
        await client.edits.create(b"GIF89a not uploaded", "stars", model="editor", n=3)
    assert (paid(emulator), emulator.counts["uploads"]) == (0, 0)


async def test_request_that_the_model_takes_is_sent(client: AsyncApimart, emulator: Emulator) -> None:
    await client.generations.create("stars", model="painter", n=4, resolution="2k", images=[PICTURE])
    await client.edits.create(PICTURE, "stars", model="editor", n=2)
    assert paid(emulator) == 2


async def test_check_off_sends_no_request_for_a_schema_and_checks_nothing(
    client: AsyncApimart, emulator: Emulator
) -> None:
    await client.with_options(check="off").generations.create("stars", model="painter", n=5, quality="high")
    assert (paid(emulator), emulator.counts["catalogue"]) == (1, 0)


async def test_many_submits_at_once_cost_one_request_for_the_schema(
    client: AsyncApimart, emulator: Emulator
) -> None:
    async with anyio.create_task_group() as group:
        for _ in range(20):
            group.start_soon(client.edits.create, PICTURE, "stars")
    assert (paid(emulator), emulator.counts["catalogue"]) == (20, 1)


@pytest.mark.parametrize(
    "fault",
    [
        Fault(kind="status", status=500, route="catalogue"),
        Fault(kind="status", status=429, route="catalogue", retry_after=600),
        Fault(kind="status", status=401, route="catalogue"),
        Fault(kind="disconnect", route="catalogue"),
        Fault(kind="broken-json", route="catalogue"),
        Fault(kind="error-in-200", route="catalogue"),
        Fault(kind="redirect", route="catalogue"),
        Fault(kind="redirect-elsewhere", route="catalogue"),
        Fault(kind="empty", route="catalogue"),
    ],
    ids=lambda fault: f"{fault.kind} {fault.status or ''}".strip(),
)
async def test_schema_that_cannot_be_fetched_blocks_no_submit_and_is_asked_for_once(
    client: AsyncApimart, emulator: Emulator, clock: Clock, fault: Fault
) -> None:
    emulator.faults.add(fault)
    await client.generations.create("stars", model="painter", n=5)
    asked = emulator.counts["catalogue"]
    for _ in range(2):
        await client.generations.create("stars", model="painter", n=5)
    assert (paid(emulator), emulator.counts["catalogue"]) == (3, asked)
    # The HTTP client repeats a GET itself when its connection was dropped.
    assert asked == (2 if fault.kind == "disconnect" else 1)
    emulator.faults.clear()
    clock.advance(3700)
    with pytest.raises(InvalidArgumentError):
        await client.generations.create("stars", model="painter", n=5)


async def test_schema_that_never_comes_delays_a_submit_for_its_own_timeout_only(
    client: AsyncApimart, emulator: Emulator, clock: Clock
) -> None:
    emulator.faults.add(Fault(kind="hang", route="catalogue", seconds=3600))
    async with clock.rushing(0.5):
        await client.generations.create("stars", model="painter", n=5)
        await client.generations.create("stars", model="painter", n=5)
    assert (paid(emulator), emulator.faults.happened[0][1]) == (2, 1)


async def test_cancelled_submit_leaves_the_schema_to_the_next(
    client: AsyncApimart, emulator: Emulator
) -> None:
    emulator.faults.add(Fault(kind="hang", route="catalogue", seconds=3600, first=1))

    async def submit() -> None:
        await client.generations.create("stars", model="painter", n=4)

    async with anyio.create_task_group() as group:
        first = anyio.CancelScope()

        async def cancelled() -> None:
            with first:
                await submit()

        group.start_soon(cancelled)
        while not emulator.faults.happened[0][1]:  # noqa: ASYNC110 the emulator has no event for it
            await anyio.sleep(0.01)
        group.start_soon(submit)
        first.cancel()
    assert paid(emulator) == 1


async def test_schema_for_another_endpoint_checks_nothing(client: AsyncApimart, emulator: Emulator) -> None:
    await client.generations.create("stars", images=PICTURE, model="editor", n=3)
    assert paid(emulator) == 1


async def test_edits_go_to_the_endpoint_that_the_schema_names(
    client: AsyncApimart, emulator: Emulator, tmp_path: Path
) -> None:
    for model in ("painter", "editor"):
        await client.edits.create(PICTURE, "stars", model=model)
    await client.with_options(check="off").edits.create(PICTURE, "stars", model="editor")
    jobs = [Job(PICTURE, "snow", model) for model in ("painter", "editor")]
    async with run_many(client, jobs, output=tmp_path / "out") as outcomes:
        assert [outcome.status async for outcome in outcomes] == ["saved"] * 2
    found = [(entry.model, entry.endpoint) for entry in emulator.ledger.entries]
    assert sorted(found) == [
        ("editor", "edits"),
        ("editor", "edits"),
        ("editor", "generations"),
        ("painter", "generations"),
        ("painter", "generations"),
    ]


async def test_operation_that_the_schema_does_not_name_is_not_checked(
    client: AsyncApimart, emulator: Emulator
) -> None:
    body = {"operation": "segment", "points": [1, 2]}
    await client.generations.create("x", model="segmenter", extra_body=body)
    assert paid(emulator) == 1


@pytest.mark.parametrize(
    ("model", "version"),
    [("editor", True), ("grok-imagine-2.0-ext", True), ("unknown", False)],
    ids=["from the schema", "by the name where there is no schema", "neither"],
)
async def test_version_of_the_answer_is_that_of_the_schema(
    client: AsyncApimart, model: str, *, version: bool
) -> None:
    task = await client.edits.create(PICTURE, "stars", model=model)
    assert (task.raw.get("object") == "generation.task") is version


async def test_newer_version_than_this_package_reads_is_not_asked_for() -> None:
    newer = ModelSpec(model="newer", path="/v1/images/edits", is_open=True, response_version="2031-01-01")
    async with (
        Emulator(task_seconds=0, images="tiny", models=[newer]) as emulator,
        AsyncApimart(emulator.api_key, base_url=emulator.base_url) as client,
    ):
        task = await client.edits.create(PICTURE, "stars", model="newer")
    assert task.raw["object"] == "generation.task"


async def test_variable_of_the_environment_switches_the_check_off(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("APIMART_CHECK", "off")
    async with AsyncApimart(emulator.api_key, base_url=emulator.base_url) as client:
        await client.generations.create("stars", model="painter", n=5)
    monkeypatch.setenv("APIMART_CHECK", "maybe")
    with pytest.raises(InvalidArgumentError, match="check and APIMART_CHECK must be 'schema' or 'off'"):
        AsyncApimart(emulator.api_key, base_url=emulator.base_url)
