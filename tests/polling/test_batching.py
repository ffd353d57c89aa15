"""Waits that share requests: against the emulator over real sockets, and leaders that go away."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from contextlib import asynccontextmanager
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from apimart_async import (
    AsyncApimart,
    AuthenticationError,
    InternalServerError,
    NotFoundError,
    Poll,
    Retry,
    Task,
    TaskExpiredError,
    TaskTimeoutError,
)
from apimart_async.emulator import Emulator, Fault
from apimart_async.polling.cadence import Cadence
from apimart_async.polling.experience import Experience
from apimart_async.polling.lookout import Lookout
from apimart_async.polling.meeting import meet
from apimart_async.polling.poller import Poller

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

QUICK = Poll(first=0.25, shortest=0.05, longest=0.2)
# Looks meet on a grid of a quarter of a second: waits that begin together share a request.
TOGETHER = Poll(first=1, shortest=1, longest=1)
PICTURE = "https://pictures.example/a.png"


@asynccontextmanager
async def running(*, poll: Poll = QUICK, **options: Any) -> AsyncGenerator[tuple[Emulator, AsyncApimart]]:
    retry = Retry(initial_delay=0.01, max_delay=0.01)
    options.setdefault("task_seconds", 0.5)
    async with (
        Emulator(images="tiny", **options) as emulator,
        AsyncApimart(emulator.api_key, base_url=emulator.base_url, poll=poll, retry=retry) as client,
    ):
        yield emulator, client


async def until(condition: Callable[[], object]) -> None:
    while not condition():  # noqa: ASYNC110 what is waited for is no event
        await asyncio.sleep(0.001)


async def submitted(client: AsyncApimart, count: int) -> list[Task]:
    return [await client.edits.create(PICTURE, f"number {number}") for number in range(count)]


async def watched(client: AsyncApimart, tasks: list[Task]) -> list[Task]:
    async with client.tasks.watch(tasks) as finished:
        return [task async for task in finished]


def polls(emulator: Emulator) -> tuple[int, int]:
    """Requests for many tasks, and for single ones."""
    return emulator.counts["tasks/batch"], emulator.counts["tasks"]


@pytest.mark.parametrize("shape", ["list", "tasks", "results"])
async def test_waits_share_requests_in_every_shape_of_the_answer(shape: str) -> None:
    async with running(batch=shape) as (emulator, client):
        tasks = await submitted(client, 30)
        ended = await asyncio.gather(*(client.tasks.wait(task) for task in tasks))
        assert [task.id for task in ended] == [task.id for task in tasks]
        assert all(task.is_completed and task.idempotency_key and task.model for task in ended)
        together, single = polls(emulator)
        assert together
        assert together + single < 60  # two looks at each, singly


async def test_waits_watches_and_copies_of_a_client_share_the_same_requests() -> None:
    async with running(task_seconds=1.0) as (emulator, client):
        tasks = await submitted(client, 30)
        copy = client.with_options(max_retries=1)
        watching = asyncio.create_task(watched(copy, tasks[10:]))
        waits = [client.tasks.wait(task) for task in tasks[:5]]
        await asyncio.gather(*waits, *(copy.tasks.wait(task) for task in tasks[5:10]))
        assert len(await watching) == 20
        together, single = polls(emulator)
        assert together + single < 60


async def test_another_key_or_budget_shares_no_requests_but_what_is_learnt() -> None:
    async with running() as (_, client):
        mine = client.tasks._poller
        assert client.with_options(max_retries=0).tasks._poller.lookout is mine.lookout
        for other in (
            client.with_options(api_key="sk-2"),
            client.with_options(default_headers={"X-Team": "2"}),
            client.with_options(poll=Poll(requests_per_second=5)),
        ):
            assert other.tasks._poller.lookout is not mine.lookout
            assert other.tasks._poller.cadence.experience is mine.cadence.experience


@pytest.mark.parametrize(
    "fault",
    [
        None,
        Fault(kind="status", route="tasks/batch", status=405),
        Fault(kind="status", route="tasks/batch", status=400),
        Fault(kind="error-in-200", route="tasks/batch", status=400),
    ],
    ids=["404", "405", "400", "400 in a 200"],
)
async def test_a_service_without_the_endpoint_is_asked_once(fault: Fault | None) -> None:
    async with running(poll=TOGETHER, batch=None if fault is None else "list") as (emulator, client):
        if fault is not None:
            emulator.faults.add(fault)
        assert len(await watched(client, await submitted(client, 10))) == 10
        await asyncio.gather(*(client.tasks.wait(task) for task in await submitted(client, 5)))
        together, single = polls(emulator)
        assert together == 1
        assert single >= 15


@pytest.mark.parametrize("kind", ["broken-json", "html"])
async def test_an_answer_that_cannot_be_read_is_asked_for_again_and_then_no_more(kind: Any) -> None:
    async with running(poll=TOGETHER) as (emulator, client):
        emulator.faults.add(Fault(kind=kind, route="tasks/batch", status=200 if kind == "html" else None))
        assert len(await watched(client, await submitted(client, 10))) == 10
        assert polls(emulator)[0] == 3  # with its retries


@pytest.mark.parametrize(
    "fault",
    [
        Fault(kind="status", route="tasks/batch", status=429, first=8, retry_after=0),
        Fault(kind="status", route="tasks/batch", status=503, first=8),
        Fault(kind="disconnect", route="tasks/batch", first=8),
    ],
    ids=["429", "503", "disconnect"],
)
async def test_a_passing_trouble_is_no_reason_to_poll_singly(fault: Fault) -> None:
    async with running() as (emulator, client):
        emulator.faults.add(fault)
        assert len(await watched(client, await submitted(client, 20))) == 20
        assert client.tasks._poller.lookout.looks_at_many
        assert polls(emulator)[0] > 8


async def test_a_wrong_key_reaches_every_wait_with_its_own_task() -> None:
    async with running() as (_, client):
        stranger = client.with_options(api_key="sk-wrong")
        waits = [stranger.tasks.wait(task) for task in await submitted(client, 5)]
        results = await asyncio.gather(*waits, return_exceptions=True)
        assert all(isinstance(error, AuthenticationError) for error in results)
        assert len({getattr(error, "task_id", None) for error in results}) == 5


async def test_a_task_that_the_answer_leaves_out_is_asked_for_by_itself() -> None:
    async with running() as (emulator, client):
        tasks = await submitted(client, 5)
        unknown = asyncio.create_task(client.tasks.wait("task_01NOTHING"))
        ended = await asyncio.gather(*(client.tasks.wait(task) for task in tasks))
        assert all(task.is_completed for task in ended)
        with pytest.raises(TaskExpiredError):
            await unknown
        assert client.tasks._poller.lookout.looks_at_many
        assert polls(emulator)[1] >= 2


async def test_cancelling_some_waits_disturbs_no_other() -> None:
    chance = Random(3)
    async with running(task_seconds=1.0) as (emulator, client):
        emulator.faults.add(Fault(kind="slow", route="tasks/batch", seconds=0.1))
        tasks = await submitted(client, 40)
        waits = [asyncio.create_task(client.tasks.wait(task)) for task in tasks]
        watching = asyncio.create_task(watched(client, tasks[:20]))
        cancelled = chance.sample(waits, 25)
        for wait in cancelled:
            await asyncio.sleep(0.02)
            wait.cancel()
        for wait in waits:
            if wait not in cancelled:
                assert (await wait).is_completed
        assert len(await watching) == 20
        await asyncio.gather(*cancelled, return_exceptions=True)
        assert client.tasks._poller.lookout._timer is None


class Service:
    """Counts who asks for what, and answers when it is let."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.leaders: list[asyncio.Task[Any] | None] = []
        self.asked: list[list[str]] = []
        self.singly: Counter[str] = Counter()
        self.known: dict[str, str] = {}
        self.trouble: Exception | None = None

    async def look(self, task_id: str) -> Task:
        self.singly[task_id] += 1
        await self.open.wait()
        if isinstance(self.trouble, InternalServerError):
            raise self.trouble
        if task_id not in self.known:
            raise NotFoundError("no such task", status=404)
        return Task(task_id, self.known[task_id])

    async def look_at_many(self, ids: list[str]) -> dict[str, Task]:
        self.leaders.append(asyncio.current_task())
        self.asked.append(ids)
        await self.open.wait()
        if self.trouble is not None:
            raise self.trouble
        return {name: Task(name, self.known[name]) for name in ids if name in self.known}

    def poller(self, requests_per_second: float | None = None, poll: Poll = QUICK) -> Poller:
        lookout = Lookout(self.look, self.look_at_many, requests_per_second)
        return Poller(lookout, Cadence(poll, Experience(), Random(1)))


@pytest.mark.parametrize("leaves", ["cancelled", "deadline"])
async def test_when_the_leader_leaves_another_leads(leaves: str) -> None:
    service = Service()
    poller = service.poller(poll=TOGETHER)
    names = [f"task_{number}" for number in range(10)]
    service.known = dict.fromkeys(names, "completed")
    timeouts = {names[0]: 1.0} if leaves == "deadline" else {}
    waits = {
        name: asyncio.create_task(poller.wait(Task(name, "queued"), timeouts.get(name))) for name in names
    }
    await until(lambda: service.leaders)
    first = service.leaders[0]
    assert first is waits[names[0]]
    if leaves == "cancelled":
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
    else:
        assert not (await first).is_finished
    # Those that shared its request, however many they were, are asked for by one of them.
    left = service.asked[0][1:]
    await until(lambda: any(set(left) <= {*ids} for ids in service.asked[1:]) or left[0] in service.singly)
    service.open.set()
    for name in names[1:]:
        assert (await waits[name]).is_completed
    assert sum(left[0] in ids for ids in service.asked) + service.singly[left[0]] == 2


async def test_a_watch_that_is_left_while_it_leads_hands_over() -> None:
    service = Service()
    poller = service.poller(poll=TOGETHER)
    service.known = {"task_1": "completed", "task_2": "completed"}
    async with poller.watch([Task("task_1", "queued")]):
        other = asyncio.create_task(poller.wait(Task("task_2", "queued")))
        await until(lambda: service.leaders)
    service.open.set()
    assert (await other).is_completed
    assert poller.lookout._timer is None


async def test_a_leader_cancelled_before_it_begins_hands_over() -> None:
    service = Service()
    poller = service.poller(poll=TOGETHER)
    service.known = {"task_1": "completed", "task_2": "completed"}
    service.open.set()
    first = asyncio.create_task(poller.wait(Task("task_1", "queued")))
    second = asyncio.create_task(poller.wait(Task("task_2", "queued")))
    await asyncio.sleep(0)
    assert poller.lookout._timer
    # Right after it has been chosen, and before it wakes up.
    moment = math.nextafter(poller.lookout._timer.when(), math.inf)
    asyncio.get_running_loop().call_at(moment, first.cancel)
    assert (await second).is_completed
    with pytest.raises(asyncio.CancelledError):
        await first
    assert service.asked == []
    assert service.singly == {"task_2": 1}


async def test_no_request_names_more_than_a_hundred_tasks_or_one_twice() -> None:
    service = Service()
    service.open.set()
    names = [f"task_{number}" for number in range(250)]
    service.known = dict.fromkeys(names, "completed")
    async with service.poller().watch(Task(name, "queued") for name in (*names, *names)) as finished:
        ended = [task.id async for task in finished]
    assert Counter(ended) == dict.fromkeys(names, 2)
    assert max(map(len, service.asked)) == 100
    assert all(len(set(ids)) == len(ids) for ids in service.asked)


async def test_an_endpoint_that_knows_no_task_is_given_up() -> None:
    service = Service()
    service.open.set()
    names = [f"task_{number}" for number in range(6)]

    async def nothing(ids: list[str]) -> dict[str, Task]:
        service.asked.append(ids)
        return {}

    service.known = dict.fromkeys(names, "queued")
    lookout = Lookout(service.look, nothing)
    poller = Poller(lookout, Cadence(QUICK, Experience(), Random(1)))
    for _ in range(4):
        async with poller.watch([Task(name, "queued") for name in names], 0.3) as finished:
            assert [task.status async for task in finished] == ["queued"] * 6
    assert not lookout.looks_at_many
    assert len(service.asked) < 6


async def test_an_error_that_is_no_answer_reaches_every_wait() -> None:
    service = Service()
    service.open.set()
    service.trouble = RuntimeError("This client is closed; make a new one.")

    async def look(_: str) -> Task:
        raise RuntimeError(str(service.trouble))

    poller = Poller(Lookout(look, service.look_at_many), Cadence(QUICK, Experience(), Random(1)))
    waits = [poller.wait(Task(f"task_{number}", "queued")) for number in range(3)]
    results = await asyncio.gather(*waits, return_exceptions=True)
    assert [str(error) for error in results] == [str(service.trouble)] * 3


async def test_a_budget_is_kept_and_shared_fairly() -> None:
    service = Service()
    service.open.set()
    service.trouble = NotFoundError("no such path", status=404)
    poller = service.poller(requests_per_second=100)
    names = [f"task_{number}" for number in range(21)]
    service.known = dict.fromkeys(names, "queued")

    async def alone() -> None:
        await poller.wait(Task(names[20], "queued"), 2.0)

    loop = asyncio.get_running_loop()
    began = loop.time()
    waiting = asyncio.create_task(alone())
    async with poller.watch([Task(name, "queued") for name in names[:20]], 2.0) as finished:
        assert len([task async for task in finished]) == 20
    await waiting
    seconds = loop.time() - began
    assert len(service.asked) == 1
    assert service.singly.total() <= 100 * seconds + 2
    assert set(service.singly) == set(names)
    assert max(service.singly.values()) - min(service.singly.values()) <= 3


async def test_updates_are_told_in_the_task_that_waits_and_an_error_there_is_its_own() -> None:
    service = Service()
    service.open.set()
    service.known = {"task_1": "completed", "task_2": "queued"}
    poller = service.poller()
    told: list[tuple[str, asyncio.Task[Any] | None]] = []

    def tell(task: Task) -> None:
        told.append((task.status, asyncio.current_task()))

    def fail(task: Task) -> None:
        raise KeyError(task.id)

    good = asyncio.create_task(poller.wait(Task("task_1", "queued"), on_update=tell))
    bad = asyncio.create_task(poller.wait(Task("task_2", "queued"), on_update=fail))
    assert (await good).is_completed
    with pytest.raises(KeyError, match="task_2"):
        await bad
    assert told == [("completed", good)]


async def test_the_deadline_ends_a_wait_whose_request_hangs() -> None:
    async with running() as (emulator, client):
        for route in ("tasks/batch", "tasks"):
            emulator.faults.add(Fault(kind="hang", route=route, seconds=30))
        tasks = await submitted(client, 3)
        waits = [client.tasks.wait(task, timeout=0.5) for task in tasks]
        results = await asyncio.gather(*waits, return_exceptions=True)
        assert all(isinstance(error, TaskTimeoutError) for error in results)


async def test_a_trouble_of_the_server_is_waited_through_together() -> None:
    service = Service()
    service.open.set()
    service.trouble = InternalServerError("oops", status=502)
    service.known = {"task_1": "completed", "task_2": "completed"}
    poller = service.poller()
    waits = [asyncio.create_task(poller.wait(Task(name, "queued"))) for name in service.known]
    await until(lambda: len(service.asked) + service.singly.total() > 4)
    service.trouble = None
    assert all([(await wait).is_completed for wait in waits])
    assert poller.lookout.looks_at_many


def test_shared_moments_are_near_and_within_bounds() -> None:
    assert meet(103.3, leeway=4.0, earliest=100.0, latest=200.0) == 103.0
    assert meet(103.3, leeway=2.0, earliest=100.0, latest=200.0) == 103.5
    assert meet(103.3, leeway=16.0, earliest=100.0, latest=200.0) == 104.0
    assert meet(103.1, leeway=4.0, earliest=103.05, latest=200.0) == 104.0
    assert meet(103.1, leeway=16.0, earliest=100.0, latest=103.5) == 103.1
