"""Polling over real sockets, against the emulator."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import attrs
import pytest

from apimart_async import (
    AsyncApimart,
    AuthenticationError,
    Poll,
    Retry,
    Task,
    TaskExpiredError,
    TaskTimeoutError,
)
from apimart_async.emulator import Emulator, Fault

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

IMAGE = "https://pictures.example/a.png"


@asynccontextmanager
async def running(**options: Any) -> AsyncGenerator[tuple[Emulator, AsyncApimart]]:
    retry = Retry(initial_delay=0.01, max_delay=0.01)
    poll = Poll(first=0.2, shortest=0.2, longest=0.2)
    options.setdefault("task_seconds", 0.3)
    async with (
        Emulator(images="tiny", **options) as emulator,
        AsyncApimart(emulator.api_key, base_url=emulator.base_url, poll=poll, retry=retry) as client,
    ):
        yield emulator, client


async def submit(client: AsyncApimart, count: int) -> list[Task]:
    return [await client.edits.create(IMAGE, f"number {number}") for number in range(count)]


async def watch(client: AsyncApimart, tasks: list[Task]) -> list[Task]:
    # Tasks of unknown age are polled at once, with one request, however long the submits took.
    ageless = [attrs.evolve(task, created_at=None) for task in tasks]
    async with client.tasks.watch(ageless) as finished:
        return [task async for task in finished]


@pytest.mark.parametrize("shape", ["list", "tasks", "results"])
async def test_every_shape_of_a_batch_answer_is_read(shape: str) -> None:
    async with running(batch=shape) as (emulator, client):
        tasks = await submit(client, 10)
        ended = await watch(client, tasks)
        assert {task.id for task in ended} == {task.id for task in tasks}
        assert all(task.is_completed and task.idempotency_key and task.model for task in ended)
        assert emulator.counts["tasks/batch"]
        assert client.tasks._queue.is_batching


@pytest.mark.parametrize(
    "fault",
    [
        None,
        Fault(kind="error-in-200", route="tasks/batch", status=400),
        Fault(kind="broken-json", route="tasks/batch"),
        Fault(kind="html", route="tasks/batch", status=200),
    ],
    ids=["404", "400 in a 200", "broken JSON", "HTML"],
)
async def test_tasks_are_polled_singly_where_batches_are_refused_or_unreadable(fault: Fault | None) -> None:
    async with running(batch=None if fault is None else "list") as (emulator, client):
        if fault is not None:
            emulator.faults.add(fault)
        assert len(await watch(client, await submit(client, 10))) == 10
        assert not client.tasks._queue.is_batching
        assert emulator.counts["tasks"] >= 10
        before = emulator.counts["tasks/batch"]
        assert len(await watch(client, await submit(client, 10))) == 10
        assert emulator.counts["tasks/batch"] == before


@pytest.mark.parametrize(
    "fault",
    [
        Fault(kind="status", route="tasks/batch", status=429, first=8, retry_after=0),
        Fault(kind="status", route="tasks/batch", status=503, first=8),
        Fault(kind="disconnect", route="tasks/batch", first=8),
    ],
    ids=["429", "503", "disconnect"],
)
async def test_transient_faults_of_batches_are_survived(fault: Fault) -> None:
    async with running() as (emulator, client):
        emulator.faults.add(fault)
        assert len(await watch(client, await submit(client, 10))) == 10
        assert emulator.counts["tasks/batch"] >= 1


async def test_a_wrong_key_reaches_every_wait_and_names_its_task() -> None:
    async with running() as (_, client):
        stranger = client.with_options(api_key="sk-wrong")
        waits = [stranger.tasks.wait(task) for task in await submit(client, 5)]
        errors = await asyncio.gather(*waits, return_exceptions=True)
        assert all(isinstance(error, AuthenticationError) for error in errors)
        assert len({getattr(error, "task_id", None) for error in errors}) == 5


async def test_an_unknown_task_expires_beside_others_that_complete() -> None:
    async with running() as (_, client):
        tasks = await submit(client, 5)
        waits = [client.tasks.wait(task) for task in tasks]
        waits.append(client.tasks.wait("task_01NOTHING"))
        *ended, unknown = await asyncio.gather(*waits, return_exceptions=True)
        assert all(isinstance(task, Task) and task.is_completed for task in ended)
        assert isinstance(unknown, TaskExpiredError)
        assert client.tasks._queue.is_batching


async def test_the_deadline_ends_waits_whose_request_hangs() -> None:
    async with running() as (emulator, client):
        for route in ("tasks/batch", "tasks"):
            emulator.faults.add(Fault(kind="hang", route=route, seconds=600))
        waits = [client.tasks.wait(task, timeout=0.3) for task in await submit(client, 3)]
        errors = await asyncio.gather(*waits, return_exceptions=True)
        assert all(isinstance(error, TaskTimeoutError) for error in errors)


async def test_a_hint_ends_a_wait_that_would_poll_much_later() -> None:
    poll = Poll(first=500, shortest=400, longest=500)
    async with running() as (_, client):
        patient = client.with_options(poll=poll)
        (task,) = await submit(client, 1)
        waiting = asyncio.create_task(patient.tasks.wait(task))
        await asyncio.sleep(0)
        await client.tasks.wait(task)
        assert not waiting.done()
        while not waiting.done():
            await patient.tasks.hint(task.id)
            await patient.tasks.hint("task_unknown")
            await asyncio.sleep(0.01)
        assert (await waiting).is_completed
