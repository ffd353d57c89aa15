"""Waits and watches on virtual time, against answers from a script."""

from __future__ import annotations

import asyncio
import gc
from contextvars import ContextVar
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import attrs
import pytest

from apimart_async import (
    APIConnectionError,
    APIResponseValidationError,
    APIStatusError,
    AuthenticationError,
    ConflictError,
    InternalServerError,
    NotFoundError,
    PermissionDeniedError,
    Poll,
    RateLimitError,
    Task,
)
from apimart_async.polling.poller import PollQueue
from apimart_async.polling.wait import is_survived
from apimart_async.polling.watch import Watch, until_ended

from .virtual import BACKEND, cadence, ended, now, queued

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

POLL = Poll(first=1, shortest=1, longest=1, timeout=100)
VARIABLE: ContextVar[str] = ContextVar("VARIABLE")


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return BACKEND


class Script:
    """Answers polls line by line, with the last line forever."""

    def __init__(self, *lines: str | Exception) -> None:
        self.lines = lines
        self.polled: list[str] = []
        self.queue = PollQueue(self.poll)
        self.cadence = cadence(POLL)

    async def poll(self, task_id: str) -> Task:
        self.polled.append(task_id)
        await asyncio.sleep(0.01)
        line = self.lines[min(self.polled.count(task_id), len(self.lines)) - 1]
        if isinstance(line, Exception):
            raise line
        return ended(task_id) if line == "completed" else Task(task_id, line)

    def wait(
        self, task: Task, timeout: float | None = None, on_update: Callable[[Task], object] | None = None
    ) -> Coroutine[Any, Any, Task]:
        return until_ended(self.queue, self.cadence, task, timeout, on_update)

    def watch(self, *task_ids: str, timeout: float | None = None) -> Watch:
        return Watch(self.queue, self.cadence, map(queued, task_ids), timeout)


async def test_a_wait_survives_transient_errors_and_unknown_statuses() -> None:
    transient = [
        RateLimitError("slow", status=429, retry_after=0.02),
        InternalServerError("oops", status=502),
        APIConnectionError("dropped"),
        APIResponseValidationError("html"),
        APIStatusError("later", status=425),
    ]
    script = Script("queued", *transient, "meditating", "completed")
    task = await script.wait(Task("task_1", "submitted", idempotency_key="key"))
    assert task.status == "completed"
    assert task.idempotency_key == "key"
    assert len(script.polled) == 8


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (RateLimitError("slow", status=429), True),
        (RateLimitError("quota", status=429, code="insufficient_quota"), False),
        (InternalServerError("oops", status=500), True),
        (InternalServerError("moderation is down", status=500), True),
        (ConflictError("in use", status=409), True),
        (APIStatusError("timeout", status=408), True),
        (APIStatusError("too early", status=425), True),
        (APIStatusError("teapot", status=418), False),
        (APIConnectionError("dropped"), True),
        (APIResponseValidationError("html"), True),
        (AuthenticationError("no", status=401), False),
        (PermissionDeniedError("no", status=403), False),
        (NotFoundError("gone", status=404), False),
        (RuntimeError("closed"), False),
    ],
)
def test_which_errors_a_wait_survives(error: Exception, *, expected: bool) -> None:
    assert is_survived(error) is expected


async def test_retry_after_delays_the_next_poll() -> None:
    script = Script("queued", RateLimitError("slow", status=429, retry_after=30.0), "completed")
    await script.wait(queued("task_1"))
    assert 30 < now() < 40


@pytest.mark.parametrize("status", ["completed", "failed", "cancelled", "expired"])
async def test_a_wait_ends_on_every_terminal_status(status: str) -> None:
    script = Script("processing", status)
    assert (await script.wait(queued("task_1"))).status == status
    assert len(script.polled) == 2


async def test_a_finished_task_is_not_polled() -> None:
    script = Script("completed")
    finished = Task("task_1", "failed")
    assert await script.wait(finished) is finished
    assert not script.polled


async def test_a_404_of_a_gateway_never_ends_a_wait() -> None:
    page = NotFoundError("The answer is not JSON: 404 page not found", status=404)
    script = Script(*[page] * 20, "completed")
    assert (await script.wait(queued("task_1"))).is_completed
    assert len(script.polled) == 21


async def test_a_submitted_task_is_missing_only_after_a_minute_of_404() -> None:
    gone = NotFoundError("gone", status=404, type="invalid_request_error")
    script = Script(*[gone] * 1000)
    began = now()
    task = await script.wait(attrs.evolve(queued("task_1"), idempotency_key="key-1"))
    assert now() - began >= 60
    assert task.status == "expired"
    assert task.error
    assert task.error.message == "gone"


async def test_a_submitted_task_that_is_found_again_is_waited_for() -> None:
    gone = NotFoundError("gone", status=404, type="invalid_request_error")
    script = Script(*[gone] * 5, "queued", *[gone] * 5, "completed")
    task = await script.wait(attrs.evolve(queued("task_1"), idempotency_key="key-1"))
    assert task.is_completed


async def test_the_second_404_in_a_row_means_the_task_has_expired() -> None:
    gone = NotFoundError("gone", status=404, type="invalid_request_error")
    script = Script(gone, "queued", gone)
    task = await script.wait(queued("task_1"))
    assert task.status == "expired"
    assert task.error
    assert task.error.message == "gone"
    assert len(script.polled) == 4


async def test_a_permanent_error_is_raised_and_names_the_task() -> None:
    for error in (
        AuthenticationError("no", status=401),
        RateLimitError("quota", status=429, code="insufficient_quota"),
    ):
        with pytest.raises(type(error)) as caught:
            await Script("queued", error).wait(queued("task_1"))
        assert caught.value.task_id == "task_1"


async def test_at_the_deadline_a_wait_returns_the_task_as_last_seen() -> None:
    updates: list[Task] = []
    script = Script("queued", "processing")
    began = now()
    task = await script.wait(queued("task_1"), 10, updates.append)
    assert now() - began == pytest.approx(10)
    assert task.status == "processing"
    assert [update.status for update in updates[:2]] == ["queued", "processing"]
    assert len(updates) > 5
    assert task is updates[-1]


async def test_updates_come_in_the_waiting_task_and_their_errors_are_raised_there() -> None:
    updates: list[tuple[str, asyncio.Task[Any] | None]] = []

    def update(task: Task) -> None:
        updates.append((task.status, asyncio.current_task()))

    def fail(task: Task) -> None:
        raise KeyError(task.id)

    good = asyncio.create_task(Script("queued", "completed").wait(queued("task_1"), None, update))
    bad = asyncio.create_task(Script("queued").wait(queued("task_2"), None, fail))
    assert (await good).is_completed
    with pytest.raises(KeyError, match="task_2"):
        await bad
    assert updates == [("queued", good), ("completed", good)]


async def test_a_cancelled_wait_names_its_task() -> None:
    waiting = asyncio.create_task(Script("queued").wait(queued("task_1")))
    await asyncio.sleep(3)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError) as caught:
        await waiting
    assert "task_1 goes on" in "".join(caught.value.__notes__)


async def test_cancelling_one_wait_leaves_another_alone() -> None:
    script = Script("queued", "queued", "completed")
    cancelled = asyncio.create_task(script.wait(queued("task_1")))
    other = asyncio.create_task(script.wait(queued("task_2")))
    await asyncio.sleep(0)
    cancelled.cancel()
    assert (await other).is_completed
    with pytest.raises(asyncio.CancelledError):
        await cancelled


async def test_a_watch_yields_each_task_once_in_the_order_they_end() -> None:
    script = Script()
    ends = {f"task_{number}": number for number in range(20)}

    async def poll(task_id: str) -> Task:
        script.polled.append(task_id)
        return ended(task_id) if script.polled.count(task_id) > ends[task_id] else Task(task_id, "queued")

    script.queue = PollQueue(poll)
    async with script.watch(*reversed(ends)) as finished:
        order = [str(task.id) async for task in finished]
    assert sorted(order) == sorted(ends)
    assert order.index("task_0") < order.index("task_19")


async def test_several_consumers_of_a_watch_share_its_tasks() -> None:
    names = [f"task_{number}" for number in range(10)]

    async def consume(finished: Watch) -> list[str]:
        return [str(task.id) async for task in finished]

    async with Script("queued", "completed").watch(*names) as finished:
        shares = await asyncio.gather(*(consume(finished) for _ in range(3)))
    assert sorted(name for share in shares for name in share) == names


async def test_at_the_deadline_a_watch_yields_unfinished_tasks_as_last_seen() -> None:
    script = Script("processing")
    tasks = [queued("task_1"), Task("task_2", "failed")]
    async with Watch(script.queue, script.cadence, tasks, 10) as finished:
        statuses = {task.id: task.status async for task in finished}
    assert statuses == {"task_1": "processing", "task_2": "failed"}


async def test_an_empty_watch_ends_at_once() -> None:
    async with Script("queued").watch() as finished:
        assert [task async for task in finished] == []


async def test_the_iterator_of_a_watch_raises_permanent_errors_as_themselves() -> None:
    async def consume() -> None:
        async with Script(AuthenticationError("no", status=401)).watch("task_1") as finished:
            async for _ in finished:
                pass

    with pytest.raises(AuthenticationError):
        await consume()


@pytest.mark.parametrize("request_is_open", [False, True], ids=["between polls", "during a poll"])
@pytest.mark.parametrize("leave", ["return", "raise", "cancel scope", "cancel task"])
async def test_leaving_a_watch_leaves_no_asyncio_task(leave: str, *, request_is_open: bool) -> None:
    before = asyncio.all_tasks()
    hangs = asyncio.Event()

    async def poll(_: str) -> Task:
        if request_is_open:
            await hangs.wait()
        return queued("task_1")

    script = Script()
    script.queue = PollQueue(poll)

    async def watch() -> None:
        async with script.watch(*(f"task_{number}" for number in range(5))):
            await asyncio.sleep(5.5)
            if leave == "raise":
                raise KeyError("mine")
            if leave.startswith("cancel"):
                await asyncio.sleep(1000)

    if leave == "cancel scope":
        with anyio.move_on_after(20) as scope:
            await watch()
        assert scope.cancelled_caught
    elif leave == "cancel task":
        task = asyncio.create_task(watch())
        await asyncio.sleep(20)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    elif leave == "raise":
        with pytest.raises(KeyError, match="mine"):
            await watch()
    else:
        await watch()
    assert asyncio.all_tasks() == before
    assert script.queue._timer is None
    gc.collect()


async def test_requests_run_in_the_context_of_their_watch() -> None:
    seen: dict[str, str] = {}

    async def poll(task_id: str) -> Task:
        seen[task_id] = VARIABLE.get()
        return ended(task_id)

    script = Script()
    script.queue = PollQueue(poll)

    async def wait(name: str) -> None:
        VARIABLE.set(f"of {name}")
        await script.wait(queued(name))

    names = [f"task_{number}" for number in range(5)]
    await asyncio.gather(*map(partial(wait), names))
    assert seen == {name: f"of {name}" for name in names}
