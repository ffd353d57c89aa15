from __future__ import annotations

import asyncio
import gc
from random import Random

import anyio
import pytest

from apimart_async import (
    APIConnectionError,
    APIError,
    APIResponseValidationError,
    AuthenticationError,
    InternalServerError,
    NotFoundError,
    Poll,
    RateLimitError,
    Task,
)
from apimart_async.polling.cadence import Cadence
from apimart_async.polling.experience import Experience
from apimart_async.polling.lookout import Lookout
from apimart_async.polling.poller import Poller

QUICK = Poll(first=0.01, shortest=0.01, longest=0.02, timeout=5)


def poller(*script: str | APIError, poll: Poll = QUICK) -> tuple[Poller, list[str]]:
    """A poller whose service answers with the script, its last line for ever."""
    asked: list[str] = []

    async def look(task_id: str) -> Task:
        asked.append(task_id)
        await asyncio.sleep(0)
        said = script[min(asked.count(task_id), len(script)) - 1]
        if isinstance(said, str):
            return Task(task_id, said)
        raise said

    return Poller(Lookout(look), Cadence(poll, Experience(), Random(1))), asked


async def test_a_wait_goes_through_every_passing_trouble_and_unknown_statuses() -> None:
    troubles = [
        RateLimitError("slow", status=429, retry_after=0.02),
        InternalServerError("oops", status=502),
        APIConnectionError("dropped"),
        APIResponseValidationError("html"),
        APIError("later", status=425),
    ]
    waiting, asked = poller("queued", *troubles, "meditating", "completed")
    task = await waiting.wait(Task("task_1", "submitted", idempotency_key="key"))
    assert task.status == "completed"
    assert task.idempotency_key == "key"
    assert len(asked) == 8


@pytest.mark.parametrize("status", ["completed", "failed", "cancelled", "expired"])
async def test_a_wait_ends_on_every_terminal_status(status: str) -> None:
    waiting, asked = poller("processing", status)
    assert (await waiting.wait(Task("task_1", "submitted"))).status == status
    assert len(asked) == 2


async def test_a_finished_task_is_not_asked_for() -> None:
    waiting, asked = poller("completed")
    finished = Task("task_1", "failed")
    assert await waiting.wait(finished) is finished
    assert not asked


async def test_a_missing_task_is_believed_the_second_time() -> None:
    waiting, asked = poller(NotFoundError("gone", status=404), "queued", NotFoundError("gone", status=404))
    task = await waiting.wait(Task("task_1", "submitted"))
    assert task.status == "expired"
    assert task.error
    assert task.error.message == "gone"
    assert len(asked) == 4


async def test_a_trouble_that_time_does_not_heal_is_raised_and_names_the_task() -> None:
    for error in (
        AuthenticationError("no", status=401),
        RateLimitError("quota", status=429, code="insufficient_quota"),
    ):
        waiting, _ = poller("queued", error)
        with pytest.raises(type(error)) as caught:
            await waiting.wait(Task("task_1", "submitted"))
        assert caught.value.task_id == "task_1"


async def test_at_the_deadline_the_task_comes_back_as_last_seen() -> None:
    updates: list[Task] = []
    waiting, asked = poller("queued", "processing")
    task = await waiting.wait(Task("task_1", "submitted"), 0.5, updates.append)
    assert task.status == "processing"
    assert [update.status for update in updates[:2]] == ["queued", "processing"]
    assert len(asked) >= 3


async def test_a_cancelled_wait_names_its_task() -> None:
    waiting, _ = poller("queued")
    following = asyncio.create_task(waiting.wait(Task("task_1", "submitted")))
    await asyncio.sleep(0.03)
    following.cancel()
    with pytest.raises(asyncio.CancelledError) as caught:
        await following
    assert "task_1 goes on" in "".join(caught.value.__notes__)


async def test_a_watch_gives_every_task_once_in_the_order_they_end() -> None:
    ends = {f"task_{number}": number for number in range(20)}
    asked: dict[str, int] = {}

    async def look(task_id: str) -> Task:
        asked[task_id] = asked.get(task_id, 0) + 1
        return Task(task_id, "completed" if asked[task_id] > ends[task_id] else "queued")

    waiting = Poller(Lookout(look), Cadence(QUICK, Experience(), Random(1)))
    async with waiting.watch(Task(name, "submitted") for name in reversed(ends)) as finished:
        order = [task.id async for task in finished]
    assert sorted(order) == sorted(ends)
    assert order.index("task_0") < order.index("task_19")


async def test_a_watch_gives_the_unfinished_as_last_seen() -> None:
    waiting, _ = poller("queued")
    async with waiting.watch([Task("task_1", "submitted"), Task("task_2", "failed")], 0.5) as finished:
        assert {task.id: task.status async for task in finished} == {"task_1": "queued", "task_2": "failed"}


async def test_an_empty_watch_ends_at_once() -> None:
    waiting, _ = poller("queued")
    async with waiting.watch([]) as finished:
        assert [task async for task in finished] == []


async def test_a_trouble_in_a_watch_comes_out_of_its_iterator_as_itself() -> None:
    waiting, _ = poller(AuthenticationError("no", status=401))

    async def watch() -> list[Task]:
        async with waiting.watch([Task("task_1", "submitted")]) as finished:
            return [task async for task in finished]

    with pytest.raises(AuthenticationError):
        await watch()


@pytest.mark.parametrize("leave", ["early", "raise", "cancel", "return"])
async def test_leaving_a_watch_leaves_no_task_behind(leave: str) -> None:
    before = asyncio.all_tasks()
    waiting, _ = poller("queued", poll=Poll(first=5))

    async def watch() -> None:
        async with waiting.watch(Task(f"task_{number}", "submitted") for number in range(5)):
            if leave == "raise":
                raise KeyError("mine")
            if leave == "cancel":
                await anyio.sleep(5)
            if leave == "return":
                return

    if leave == "cancel":
        with anyio.move_on_after(0.05) as scope:
            await watch()
        assert scope.cancelled_caught
        task = asyncio.create_task(watch())
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    elif leave == "raise":
        with pytest.raises(KeyError, match="mine"):
            await watch()
    else:
        await watch()
    assert asyncio.all_tasks() == before
    gc.collect()


async def test_waits_do_not_disturb_each_other() -> None:
    waiting, _ = poller("queued", "queued", "completed")
    cancelled = asyncio.create_task(waiting.wait(Task("task_1", "submitted")))
    other = asyncio.create_task(waiting.wait(Task("task_2", "submitted")))
    await asyncio.sleep(0)
    cancelled.cancel()
    assert (await other).is_completed
    with pytest.raises(asyncio.CancelledError):
        await cancelled
