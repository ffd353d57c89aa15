"""Every form of the answers of the services, in turn, through the whole client."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.request import Request, urlopen

import pytest
from anyio import to_thread

from apimart_async import (
    AsyncApimart,
    BadRequestError,
    NotFoundError,
    Poll,
    Task,
    TaskCancelledError,
    TaskExpiredError,
    TaskFailedError,
)
from apimart_async.emulator import Emulator, Fault
from apimart_async.transport import parsing

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

PICTURE = "https://pictures.example/photo.jpg"
TURNS = 20
PLACES = ("result", "data", "output")


@pytest.fixture
async def emulator() -> AsyncIterator[Emulator]:
    async with Emulator(variants=True, compat=True, task_seconds=lambda _: 1000.0, images="tiny") as running:
        yield running


def connect(emulator: Emulator) -> AsyncApimart:
    poll = Poll(first=0.01, shortest=0.01, longest=0.02)
    return AsyncApimart(emulator.api_key, base_url=emulator.base_url, poll=poll)


@pytest.fixture
async def client(emulator: Emulator) -> AsyncIterator[AsyncApimart]:
    async with connect(emulator) as connected:
        yield connected


@pytest.mark.parametrize("verb", ["edits", "generations"])
async def test_every_accepted_submit_returns_the_billed_task(
    client: AsyncApimart, emulator: Emulator, verb: str
) -> None:
    tasks: list[Task] = []
    for number in range(TURNS):
        if verb == "edits":
            tasks.append(await client.edits.create(PICTURE, f"take {number}"))
        else:
            tasks.append(await client.generations.create(f"take {number}"))
    result = ("cost", "credits_cost", "object", "result", "status", "usage")
    shapes = {(tuple(sorted(task.raw)), task.id is not None, task.status) for task in tasks}
    assert shapes == {
        (("status", "task_id"), True, "submitted"),
        (("id", "progress", "status", "task_info"), True, "pending"),
        (("id", "poll_url", "status"), True, "queued"),
        (("id", "status"), True, "submitted"),
        (("id", "object", "status"), True, "submitted"),
        (result, False, "completed"),
        (tuple(sorted((*result, "id"))), True, "completed"),
        (("created", "data"), False, "completed"),
    }
    entries = emulator.ledger.entries
    assert [task.id or entry.task_id for task, entry in zip(tasks, entries, strict=True)] == [
        entry.task_id for entry in entries
    ]
    for task, entry in zip(tasks, entries, strict=True):
        assert len(task.images) == (1 if task.is_completed else 0)
        assert task.cost == (entry.cost if "cost" in task.raw else None)
    assert [task.idempotency_key for task in tasks] == [entry.idempotency_key for entry in entries]
    assert {task.estimated_time for task in tasks} == {None, 1000.0}


async def test_every_spelling_becomes_the_same_status(client: AsyncApimart, emulator: Emulator) -> None:
    good = await client.edits.create(PICTURE, "stars")
    bad = await client.edits.create(PICTURE, "moderated")

    async def statuses(task: Task) -> set[tuple[str, bool]]:
        seen = [await client.tasks.get(task) for _ in range(TURNS)]
        return {(task.status, task.is_finished) for task in seen}

    assert await statuses(good) == {("submitted", False), ("pending", False), ("queued", False)}
    emulator.advance(500)
    assert await statuses(good) == {("processing", False), ("in_progress", False)}
    emulator.advance(600)
    assert await statuses(good) == {("completed", True)}
    assert await statuses(bad) == {("failed", True)}


async def test_every_form_of_the_images_keeps_all_images(
    client: AsyncApimart, emulator: Emulator, tmp_path: Path
) -> None:
    submitted = await client.edits.create(PICTURE, "stars", n=3)
    emulator.advance(1100)
    shapes: set[tuple[Any, ...]] = set()
    contents: set[bytes] = set()
    for turn in range(TURNS):
        task = await client.tasks.get(submitted)
        assert len(task.images) == 3
        kinds = {image.url.partition(":")[0] for image in task.images}
        raw = task.raw.get("result")
        if isinstance(raw, dict) and isinstance(raw.get("images"), list):
            entries: list[dict[str, Any]] = raw["images"]
            ((name, value), *_) = entries[0].items()
            shapes.add((*kinds, len(entries), name, type(value).__name__))
        else:
            ((name, value), *_) = (place for place in task.raw.items() if place[0] in PLACES)
            shapes.add((*kinds, name, *(value if isinstance(value, dict) else [type(value).__name__])))
        assert all((image.expires_at is None) is (kinds == {"data"}) for image in task.images)
        paths = await client.images.save(task, tmp_path / str(turn))
        contents.add(b"".join(path.read_bytes() for path in paths))
    assert shapes == {
        ("http", 3, "url", "list"),
        ("http", 3, "url", "str"),
        ("http", 1, "url", "list"),
        ("data", 3, "url", "str"),
        ("data", 3, "b64_json", "str"),
        ("http", 3, "image_url", "str"),
        ("http", "result", "expires_at", "image_urls"),
        ("http", "result", "list"),
        ("http", "result", "str"),
        ("http", "result", "videos"),
        ("http", "data", "list"),
        ("http", "output", "expires_at", "image_urls"),
    }
    assert len(contents) == 1


async def test_every_form_of_an_error_raises_the_same_error(client: AsyncApimart, emulator: Emulator) -> None:
    codes: set[str | None] = set()
    for _ in range(TURNS):
        with pytest.raises(BadRequestError, match="size must be") as caught:
            await client.generations.create("stars", size="enormous")
        assert caught.value.status == 400
        codes.add(caught.value.code)
    for _ in range(TURNS):
        with pytest.raises(NotFoundError, match="does not exist"):
            await client.tasks.get("task_nobody")
    assert codes == {"400", None, "invalid_request_error"}
    assert emulator.counts["generations"] + emulator.counts["tasks"] == 2 * TURNS


async def test_a_submit_of_two_tasks_has_the_images_and_the_cost_of_both(
    client: AsyncApimart, emulator: Emulator, tmp_path: Path
) -> None:
    submitted = await client.edits.create(PICTURE, "stars", n=3)
    while not submitted.sibling_ids:
        submitted = await client.edits.create(PICTURE, "stars", n=3)
    assert [submitted.id, *submitted.sibling_ids] == [entry.task_id for entry in emulator.ledger.entries[-2:]]
    emulator.advance(1100)
    for task in (await client.tasks.wait(submitted, timeout=120), await client.tasks.get(submitted)):
        assert [image.index for image in task.images] == [1, 2, 3]
        assert task.cost == pytest.approx(3 * 0.015)
    assert len(await client.images.save(task, tmp_path)) == 3


async def test_a_run_succeeds_with_every_form(emulator: Emulator) -> None:
    for number in range(TURNS):
        # A new client, because a client that has statistics polls the next task later.
        async with connect(emulator) as client:
            task = await client.generations.run(
                f"take {number}", on_update=lambda task: None if task.is_finished else emulator.advance(600)
            )
        assert task.is_completed
        assert task.images
    assert not emulator.ledger.billed_more_than_once


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("task-failed", TaskFailedError),
        ("task-cancelled", TaskCancelledError),
        ("task-expired", TaskExpiredError),
    ],
)
async def test_every_spelling_of_a_final_status_ends_the_wait(
    client: AsyncApimart, emulator: Emulator, fault: Any, kind: type[Exception]
) -> None:
    emulator.faults.add(Fault(kind=fault, route="edits"))
    submitted = await client.edits.create(PICTURE, "stars")
    emulator.advance(1100)
    for _ in range(TURNS):
        with pytest.raises(kind, match=submitted.id):
            await client.tasks.wait(submitted, timeout=120)


# --- the polling path of the oldest documentation ---------------------------------------------------------


async def old_answer(emulator: Emulator, task: Task) -> Any:
    request = Request(  # noqa: S310 loopback
        f"{emulator.base_url}/v1/images/generations/{task.id}",
        headers={"Authorization": f"Bearer {emulator.api_key}"},
    )

    def fetch() -> Any:
        with urlopen(request, timeout=120) as response:  # noqa: S310 loopback
            return json.load(response)

    return await to_thread.run_sync(fetch)


async def test_answers_of_the_oldest_polling_path_are_parsed_like_current_ones(
    client: AsyncApimart, emulator: Emulator
) -> None:
    good = await client.generations.create("stars")
    bad = await client.generations.create("moderated")
    assert parsing.read_task(await old_answer(emulator, good)).status == "submitted"
    emulator.advance(500)
    half = parsing.read_task(await old_answer(emulator, good))
    assert (half.id, half.status, half.is_finished) == (good.id, "processing", False)
    assert half.progress
    emulator.advance(600)

    answer = await old_answer(emulator, good)
    assert "data" not in answer
    old, new = parsing.read_task(answer), await client.tasks.get(good)
    assert (old.id, old.status, old.progress) == (new.id, new.status, new.progress)
    assert old.images[0].url.startswith(f"{emulator.base_url}/files/results/{good.id}/")
    assert await client.images.read(old.images[0]) == await client.images.read(new.images[0])

    failure = await old_answer(emulator, bad)
    assert failure["fail_reason"]
    old, new = parsing.read_task(failure), await client.tasks.get(bad)
    assert old.status == new.status == "failed"
    assert old.error
    assert new.error
    assert old.error.message == new.error.message


async def test_a_task_without_an_id_has_the_requested_id(client: AsyncApimart, emulator: Emulator) -> None:
    task = await client.generations.create("stars")
    answer = await old_answer(emulator, task)
    del answer["id"]
    assert parsing.read_task(answer, task_id=task.id).id == task.id
