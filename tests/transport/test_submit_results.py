"""Paid answers through the whole client: results at once, missing results, the version, the inputs."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any, Final

import pytest
from PIL import Image as Picture

from apimart_async import (
    AsyncApimart,
    ImageError,
    Interrupted,
    InvalidArgumentError,
    Job,
    Outcome,
    Poll,
    SubmissionIndeterminateError,
    Task,
    TaskFailedError,
    TaskResultError,
    edit_many,
    interrupted,
)
from apimart_async.emulator import Emulator, Fault

if TYPE_CHECKING:
    from pathlib import Path

    from .conftest import Exchange, RawServer

PICTURE: Final = "https://pictures.example/a.png"


def png() -> bytes:
    file = io.BytesIO()
    Picture.new("RGB", (16, 16), "red").save(file, "PNG")
    return file.getvalue()


PNG: Final = png()


async def run(client: AsyncApimart, job: Job, output: Path) -> list[Outcome]:
    async with edit_many(client, [job], output=output) as outcomes:
        return [outcome async for outcome in outcomes]


RESULT: Final = {"images": [{"url": "/files/0.png"}]}
AT_ONCE: Final = {
    "generation.result": {
        "code": 200,
        "data": {"object": "generation.result", "status": "completed", "cost": 0.03, "result": RESULT},
        "request_id": "req-1",
    },
    "OpenAI": {"created": 1763088289, "data": [{"url": "/files/0.png"}]},
}


@pytest.mark.parametrize("shape", AT_ONCE)
async def test_a_result_at_once_is_a_completed_task_that_can_be_saved(
    raw_server: RawServer, tmp_path: Path, shape: str
) -> None:
    async def handle(exchange: Exchange) -> None:
        seen = await exchange.read()
        await exchange.answer(json.dumps(AT_ONCE[shape]).encode() if seen.method == "POST" else PNG)

    raw_server.handle = handle
    async with AsyncApimart("sk-test", base_url=raw_server.base_url) as client:
        task = await client.generations.create("stars", idempotency_key="order/17")
        assert (task.id, task.is_finished, task.is_completed) == (None, True, True)
        assert task.idempotency_key == "order/17"
        assert await client.tasks.wait(task) == task
        async with client.tasks.watch([task]) as finished:
            assert [each async for each in finished] == [task]
        (path,) = await client.images.save(task, tmp_path)
        with pytest.raises(InvalidArgumentError, match="has no id"):
            await client.tasks.get(task)
        with pytest.raises(InvalidArgumentError, match="has no id"):
            await client.tasks.get(task.id)
        task = await client.generations.run("stars")
    assert task.is_completed
    assert path.read_bytes() == PNG
    assert "order" in path.name


async def test_an_error_after_a_result_at_once_names_no_task_to_wait_for(raw_server: RawServer) -> None:
    async def handle(exchange: Exchange) -> None:
        await exchange.read()
        await exchange.answer(json.dumps(AT_ONCE["OpenAI"]).encode())

    def on_update(_: Task) -> None:
        raise LookupError

    raw_server.handle = handle
    async with AsyncApimart("sk-test", base_url=raw_server.base_url) as client:
        with pytest.raises(LookupError) as raised:
            await client.generations.run("stars", idempotency_key="order-17", on_update=on_update)
    assert interrupted(raised.value) == Interrupted(idempotency_key="order-17")
    (note,) = raised.value.__notes__
    assert "order-17" in note
    assert "None" not in note


async def test_a_result_at_once_that_failed_is_the_error_of_a_task(raw_server: RawServer) -> None:
    error = {"message": "too dark", "code": "dark"}
    failed = {"object": "generation.result", "status": "failed", "error": error}

    async def handle(exchange: Exchange) -> None:
        await exchange.read()
        await exchange.answer(json.dumps({"code": 200, "data": failed}).encode())

    raw_server.handle = handle
    async with AsyncApimart("sk-test", base_url=raw_server.base_url) as client:
        with pytest.raises(TaskFailedError, match="The task failed: too dark") as caught:
            await client.generations.run("stars")
    assert caught.value.task_id is None
    assert caught.value.idempotency_key


async def test_a_result_at_once_without_an_image_is_indeterminate(raw_server: RawServer) -> None:
    async def handle(exchange: Exchange) -> None:
        await exchange.read()
        data = {"object": "generation.result", "status": "completed", "result": {}}
        await exchange.answer(json.dumps({"data": data, "request_id": "req-000001"}).encode())

    raw_server.handle = handle
    async with AsyncApimart("sk-test", base_url=raw_server.base_url) as client:
        with pytest.raises(SubmissionIndeterminateError) as caught:
            await client.generations.create("stars")
    assert caught.value.request_id == "req-000001"


async def test_a_completed_task_without_an_image_is_unfinished_and_not_paid_again(
    raw_server: RawServer, tmp_path: Path
) -> None:
    requests: list[str] = []
    results: list[Any] = [None, None, None, None, {"images": [{"url": "/files/0.png"}]}]

    async def handle(exchange: Exchange) -> None:
        seen = await exchange.read()
        requests.append(seen.path.partition("?")[0])
        if seen.method == "POST":
            await exchange.answer(b'{"code":200,"data":[{"status":"submitted","task_id":"task_1"}]}')
        elif seen.path.startswith("/files"):
            await exchange.answer(PNG)
        else:
            result = results.pop(0) if len(results) > 1 else results[0]
            task = {"id": "task_1", "status": "completed", "cost": 0.015, "result": result, "trace": "t-7"}
            await exchange.answer(json.dumps({"code": 200, "data": task}).encode())

    raw_server.handle = handle
    job = Job("https://pictures.example/a.png", "stars", name="a")
    poll = Poll(first=0.01, shortest=0.01)
    async with AsyncApimart("sk-test", base_url=raw_server.base_url, poll=poll) as client:
        with pytest.raises(TaskResultError, match="no image") as caught:
            await client.tasks.wait("task_1", timeout=120)
        assert caught.value.task
        assert caught.value.task.raw["trace"] == "t-7"
        assert requests == 2 * ["/v1/tasks/task_1"]
        (outcome,) = await run(client, job, tmp_path / "out")
        assert (outcome.status, outcome.cost) == ("unfinished", 0.015)
        assert isinstance(outcome.error, TaskResultError)
        assert requests[2:] == ["/v1/images/edits", *2 * ["/v1/tasks/task_1"]]
        (outcome,) = await run(client, job, tmp_path / "out")
    assert (outcome.status, outcome.cost) == ("saved", 0.015)
    assert requests.count("/v1/images/edits") == 1


# --- the version of the answer ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "version"),
    [
        ("grok-imagine-2.0-ext", "2026-07-27"),
        ("grok-imagine-2.0", "2026-07-27"),
        ("gpt-image-2.5-ext", "2026-07-27"),
        ("gpt-image-2.5-flare", None),
        ("grok-imagine-1.5-apimart", None),
        ("gemini-3-pro-image-preview", None),
    ],
)
async def test_the_version_is_asked_for_where_the_schema_of_the_model_names_it(
    raw_server: RawServer, model: str, version: str | None
) -> None:
    async def handle(exchange: Exchange) -> None:
        await exchange.read()
        data = {"object": "generation.task", "id": "task_1", "status": "submitted"}
        await exchange.answer(json.dumps({"code": 200, "data": data}).encode())

    raw_server.handle = handle
    async with AsyncApimart("sk-test", base_url=raw_server.base_url) as client:
        assert (await client.generations.create("stars", model=model)).id == "task_1"
        chosen = {"x-apimart-response-version": "2025-01-01"}
        await client.generations.create("stars", model=model, extra_headers=chosen)
    sent = [seen.headers.get("x-apimart-response-version") for seen in raw_server.seen]
    assert sent == [version, "2025-01-01"]


async def test_the_emulator_answers_in_the_version_that_is_asked_for() -> None:
    async with Emulator() as emulator, AsyncApimart(emulator.api_key, base_url=emulator.base_url) as client:
        task = await client.generations.create("stars", model="grok-imagine-2.0-ext")
    assert task.raw["object"] == "generation.task"
    assert task.id == emulator.ledger.entries[0].task_id


# --- images as objects ------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [lambda url: {"url": url}, lambda url: {"image_url": url}])
async def test_an_object_with_a_url_is_an_image(make: Any) -> None:
    inside = "data:image/png;base64,iVBORw0KGgoAAAAASUVORK5CYII="
    async with Emulator() as emulator, AsyncApimart(emulator.api_key, base_url=emulator.base_url) as client:
        await client.edits.create(make(PICTURE), "stars")
        await client.edits.create(PICTURE, "stars")
        await client.generations.create("stars", images=[make(PICTURE), PICTURE], mask=make(PICTURE))
        await client.generations.create("stars", images=[{"image_url": {"url": PICTURE}}])
        assert (await client.uploads.create(make(inside))).content_type == "image/png"
        first, second, *_ = emulator.ledger.entries
        assert first.payload == second.payload


@pytest.mark.parametrize(
    "image", [{}, {"url": ""}, {"url": "photo.jpg"}, {"image_url": 7}, {"path": PICTURE}]
)
async def test_an_object_without_a_url_is_refused_before_anything_is_sent(image: dict[str, Any]) -> None:
    async with AsyncApimart("sk-test", base_url="http://127.0.0.1:9") as client:
        with pytest.raises(ImageError, match="must hold an https:// or data: URL"):
            await client.edits.create(image, "stars")


# --- refusals ---------------------------------------------------------------------------------------------


async def test_a_submit_without_a_free_channel_is_sent_again() -> None:
    faults = [Fault(kind="get-channel-failed", route="generations", times=2)]
    async with Emulator(faults=faults) as emulator:
        async with AsyncApimart(emulator.api_key, base_url=emulator.base_url) as client:
            task = await client.generations.create("stars")
        assert [entry.task_id for entry in emulator.ledger.entries] == [task.id]
