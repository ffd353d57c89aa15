"""Waits that share requests, on virtual time."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from random import Random
from typing import TYPE_CHECKING, Any

import attrs
import pytest

from apimart_async import (
    APIConnectionError,
    APIResponseValidationError,
    APIStatusError,
    APITimeoutError,
    AsyncApimart,
    AuthenticationError,
    BadRequestError,
    InternalServerError,
    NotFoundError,
    Poll,
    RateLimitError,
    Task,
)
from apimart_async.polling.cadence import Cadence, NextPoll, align
from apimart_async.polling.estimator import Observation
from apimart_async.polling.poller import PollQueue
from apimart_async.polling.watch import Watch, until_ended

from .virtual import BACKEND, NOW, Service, cadence, now, queued, until

if TYPE_CHECKING:
    from collections.abc import Callable

# The grid has steps of half a second, then of one.
EVERY_SECOND = Poll(first=1, shortest=1, longest=1)


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return BACKEND


def names(count: int) -> list[str]:
    return [f"task_{number}" for number in range(count)]


async def consume(watch: Watch) -> list[Task]:
    async with watch as finished:
        return [task async for task in finished]


async def test_waits_watches_and_cadences_share_requests() -> None:
    service = Service()
    service.ends = dict.fromkeys(names(30), 60.0)
    queue = service.queue()
    tasks = [queued(name) for name in service.ends]
    watch = Watch(queue, cadence(EVERY_SECOND, 2), tasks[10:])
    waits = [until_ended(queue, cadence(EVERY_SECOND, seed), task) for seed, task in enumerate(tasks[:10])]
    watching = asyncio.create_task(consume(watch))
    ended = await asyncio.gather(*waits)
    assert all(task.is_completed for task in (*ended, *await watching))
    # Each second at most four moments of the grid, where 30 tasks need 30 polls.
    assert service.requests <= 5 * now()
    assert max(map(len, service.batches)) >= 8


async def test_clients_share_requests_by_account_and_statistics_always() -> None:
    async with AsyncApimart("sk-1", base_url="http://127.0.0.1:1") as client:
        mine = client.tasks
        assert client.with_options(max_retries=0).tasks._queue is mine._queue
        for other in (
            client.with_options(api_key="sk-2"),
            client.with_options(default_headers={"X-Team": "2"}),
            client.with_options(poll=Poll(requests_per_second=5)),
        ):
            assert other.tasks._queue is not mine._queue
            assert other.tasks._cadence.stats is mine._cadence.stats


@pytest.mark.parametrize(
    "error",
    [
        NotFoundError("no such path", status=404),
        APIStatusError("not allowed", status=405),
        APIResponseValidationError("html", status=200),
    ],
    ids=["404", "405", "unreadable"],
)
async def test_after_one_refusal_of_a_batch_tasks_are_polled_singly(error: Exception) -> None:
    service = Service()
    service.batch_error = error
    service.ends = dict.fromkeys(names(10), 5.0)
    queue, pace = service.queue(), cadence(EVERY_SECOND)
    for _ in range(2):
        assert len(await consume(Watch(queue, pace, map(queued, service.ends)))) == 10
    assert len(service.batches) == 1
    assert not queue.is_batching
    assert set(service.singles) == set(service.ends)


@pytest.mark.parametrize(
    "error",
    [
        RateLimitError("slow", status=429),
        InternalServerError("oops", status=503),
        APIConnectionError("dropped"),
        APIStatusError("too early", status=425),
    ],
    ids=["429", "503", "disconnect", "425"],
)
async def test_a_transient_error_of_a_batch_keeps_batches(error: Exception) -> None:
    service = Service()
    service.error = error
    service.ends = dict.fromkeys(names(20), 0.0)
    queue = service.queue()
    watching = asyncio.create_task(consume(Watch(queue, cadence(EVERY_SECOND), map(queued, service.ends))))
    await until(lambda: service.requests > 8)
    service.error = None
    assert len(await watching) == 20
    assert queue.is_batching
    assert len(service.batches) > 4


async def test_a_permanent_error_reaches_every_wait_and_names_its_task() -> None:
    service = Service()
    service.error = AuthenticationError("no", status=401)
    queue, pace = service.queue(), cadence(EVERY_SECOND)
    waits = [until_ended(queue, pace, queued(name)) for name in names(5)]
    errors = await asyncio.gather(*waits, return_exceptions=True)
    assert all(isinstance(error, AuthenticationError) for error in errors)
    assert {getattr(error, "task_id", None) for error in errors} == set(names(5))


async def test_an_error_outside_the_api_reaches_every_wait() -> None:
    service = Service()
    service.error = RuntimeError("This client is closed; make a new one.")
    queue, pace = service.queue(), cadence(EVERY_SECOND)
    waits = [until_ended(queue, pace, queued(name)) for name in names(3)]
    errors = await asyncio.gather(*waits, return_exceptions=True)
    assert [str(error) for error in errors] == [str(service.error)] * 3


async def test_a_task_that_a_batch_omits_is_polled_singly() -> None:
    service = Service()
    service.ends = dict.fromkeys(names(5), 20.0)
    queue, pace = service.queue(), cadence(EVERY_SECOND)
    waits = [until_ended(queue, pace, queued(name)) for name in (*service.ends, "unknown")]
    *ended, unknown = await asyncio.gather(*waits)
    assert all(task.is_completed for task in ended)
    assert unknown.status == "expired"
    assert service.singles["unknown"] == 2
    assert queue.is_batching


async def test_batches_end_after_three_empty_answers_in_a_row() -> None:
    service = Service()
    service.ends = dict.fromkeys(names(6), math.inf)
    service.batches_are_empty = True
    queue, pace = service.queue(), cadence(EVERY_SECOND)
    for _ in range(4):
        tasks = await consume(Watch(queue, pace, map(queued, service.ends), 10))
        assert [task.status for task in tasks] == ["processing"] * 6
    assert not queue.is_batching
    assert len(service.batches) < 8


@pytest.mark.parametrize("seed", range(20))
async def test_cancelling_waits_at_random_moments_disturbs_no_other(seed: int) -> None:
    random = Random(seed)
    service = Service()
    service.seconds = 0.4
    service.ends = {name: random.uniform(5, 30) for name in names(40)}
    queue, pace = service.queue(), cadence(EVERY_SECOND)
    waits = [asyncio.create_task(until_ended(queue, pace, queued(name))) for name in service.ends]
    watching = asyncio.create_task(consume(Watch(queue, pace, map(queued, names(20)))))
    cancelled = random.sample(waits, 25)
    for wait in cancelled:
        await asyncio.sleep(random.uniform(0, 0.5))
        wait.cancel()
    for wait in waits:
        if wait not in cancelled:
            assert (await wait).is_completed
    assert len(await watching) == 20
    await asyncio.gather(*cancelled, return_exceptions=True)
    assert queue._timer is None
    assert queue._queue == []


@pytest.mark.parametrize("leaves", ["cancelled", "deadline"])
async def test_when_the_wait_that_runs_a_request_leaves_another_sends_it(leaves: str) -> None:
    service = Service()
    service.gate.clear()
    service.ends = dict.fromkeys(names(10), 0.0)
    queue, pace = service.queue(), cadence(EVERY_SECOND)
    timeout = 5.0 if leaves == "deadline" else None
    first = asyncio.create_task(until_ended(queue, pace, queued("task_0"), timeout))
    others = [asyncio.create_task(until_ended(queue, pace, queued(name))) for name in names(10)[1:]]
    await until(lambda: service.requests)
    if leaves == "cancelled":
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
    else:
        assert not (await first).is_finished
    await until(lambda: service.requests > 1)
    assert service.batches == [names(10), names(10)[1:]]
    service.gate.set()
    assert all(task.is_completed for task in await asyncio.gather(*others))
    assert service.requests == 2


async def test_leaving_a_watch_that_runs_a_request_hands_it_over() -> None:
    service = Service()
    service.gate.clear()
    service.ends = dict.fromkeys(names(2), 0.0)
    queue, pace = service.queue(), cadence(EVERY_SECOND)
    async with Watch(queue, pace, [queued("task_0")]):
        other = asyncio.create_task(until_ended(queue, pace, queued("task_1")))
        await until(lambda: service.requests)
    service.gate.set()
    assert (await other).is_completed
    assert queue._timer is None


async def test_a_wait_cancelled_before_its_request_starts_hands_it_over() -> None:
    service = Service()
    service.ends = dict.fromkeys(names(2), 0.0)
    queue, pace = service.queue(), cadence(EVERY_SECOND)
    first = asyncio.create_task(until_ended(queue, pace, queued("task_0")))
    second = asyncio.create_task(until_ended(queue, pace, queued("task_1")))
    await asyncio.sleep(0)
    assert queue._timer
    # The first wait wakes up after it was given the request, and before that starts.
    moment = math.nextafter(queue._timer.when(), 0)
    asyncio.get_running_loop().call_at(moment, first.cancel)
    assert (await second).is_completed
    with pytest.raises(asyncio.CancelledError):
        await first
    assert service.batches == []
    assert service.singles == {"task_1": 1}


async def test_a_request_names_at_most_a_hundred_tasks_and_none_twice() -> None:
    service = Service()
    service.ends = dict.fromkeys(names(250), 0.0)
    tasks = [queued(name) for name in (*service.ends, *service.ends)]
    ended = await consume(Watch(service.queue(), cadence(EVERY_SECOND), tasks))
    assert Counter(task.id for task in ended) == dict.fromkeys(names(250), 2)
    assert max(map(len, service.batches)) == 100
    assert all(len(set(ids)) == len(ids) for ids in service.batches)


async def test_a_budget_of_requests_is_kept_and_shared_fairly() -> None:
    service = Service()
    service.batch_error = NotFoundError("no such path", status=404, code="404")
    service.ends = dict.fromkeys(names(21), math.inf)
    queue, pace = service.queue(requests_per_second=5), cadence(EVERY_SECOND)
    *watched, alone = map(queued, service.ends)
    began = now()
    await asyncio.gather(consume(Watch(queue, pace, watched, 60)), until_ended(queue, pace, alone, 60))
    assert len(service.batches) == 1
    assert 250 <= service.requests <= 5 * (now() - began) + 1
    assert set(service.singles) == set(service.ends)
    assert max(service.singles.values()) - min(service.singles.values()) <= 2


def test_aligned_moments_are_near_and_within_their_window() -> None:
    assert align(103.3, earliest=102.8, latest=103.8, not_before=100.0) == 103.0
    assert align(103.3, earliest=103.1, latest=103.6, not_before=100.0) == 103.5
    assert align(103.3, earliest=101.3, latest=105.3, not_before=100.0) == 104.0
    assert align(103.1, earliest=103.05, latest=104.1, not_before=100.0) == 104.0
    assert align(103.4, earliest=102.9, latest=103.45, not_before=100.0) == 103.0
    assert align(103.1, earliest=103.1, latest=103.1, not_before=100.0) == 103.1
    assert align(math.inf, earliest=101.3, latest=105.3, not_before=math.inf) == math.inf


def test_an_aligned_poll_does_not_come_before_its_least_spacing() -> None:
    assert align(103.3, earliest=102.8, latest=103.8, not_before=103.05) == 104.0
    assert align(103.3, earliest=102.8, latest=103.8, not_before=110.5) == 111.0


@pytest.mark.parametrize("timeout", [0.7, 1.3, 2.2, 3.7])
async def test_no_poll_is_moved_beyond_the_deadline(timeout: float) -> None:
    service = Service()
    service.ends = dict.fromkeys(names(20), timeout - 0.2)
    queue, pace = service.queue(), cadence(Poll(first=0.5, shortest=0.5, longest=0.6))
    ended = await consume(Watch(queue, pace, map(queued, service.ends), timeout))
    assert all(task.is_completed for task in ended)


async def test_bad_ids_are_polled_singly_and_the_others_together() -> None:
    service = Service()
    service.ends = dict.fromkeys(names(40), 6.0)
    service.bad_ids = {"task_3", "task_30"}
    queue, pace = service.queue(), cadence(EVERY_SECOND)
    ended = await consume(Watch(queue, pace, map(queued, service.ends)))
    assert all(task.is_completed for task in ended)
    assert queue.is_batching
    assert service.singles["task_3"] > 3
    assert sum(count > 2 for count in service.singles.values()) <= 6
    assert max(map(len, service.batches[-3:])) > 20


async def test_a_limit_of_fifty_ids_is_remembered() -> None:
    service = Service()
    service.ends = dict.fromkeys(names(100), 8.0)
    service.max_ids = 50
    queue, pace = service.queue(), cadence(Poll(first=1, shortest=1, longest=1), 1)
    ended = await consume(Watch(queue, pace, map(queued, service.ends)))
    assert len(ended) == 100
    assert queue.is_batching
    assert sum(len(ids) > 50 for ids in service.batches) <= 2
    assert service.singles.total() < 20


@pytest.mark.parametrize(
    "error",
    [
        InternalServerError("oops", status=500),
        RateLimitError("slow", status=429),
        APIConnectionError("hangs"),
        BadRequestError("no", status=400),
    ],
    ids=["500", "429", "hangs", "400"],
)
async def test_where_only_batches_fail_single_polls_go_on(error: Exception) -> None:
    service = Service()
    service.batch_error = error
    service.ends = dict.fromkeys(names(30), 5.0)
    queue, pace = service.queue(), cadence(EVERY_SECOND)
    ended = await consume(Watch(queue, pace, map(queued, service.ends), 20))
    assert all(task.is_completed for task in ended)
    assert len(service.batches) < 15
    assert not queue.is_batching


async def test_batches_are_tried_again_after_a_pause() -> None:
    service = Service()
    service.batch_error = InternalServerError("oops", status=500)
    service.ends = dict.fromkeys(names(10), 100.0)
    queue, pace = service.queue(), cadence(EVERY_SECOND)
    watching = asyncio.create_task(consume(Watch(queue, pace, map(queued, service.ends))))
    await until(lambda: not queue.is_batching)
    service.batch_error = None
    before = len(service.batches)
    assert all(task.is_completed for task in await watching)
    assert len(service.batches) > before + 10


@pytest.mark.parametrize(
    ("error", "pause"),
    [
        (NotFoundError("no route", status=404), 30),
        (APIResponseValidationError("html", status=200), 30),
        (NotFoundError("no such path", status=404, type="invalid_request_error"), 3600),
    ],
    ids=["404 of a gateway", "a page", "404 of the service"],
)
async def test_batches_return_sooner_after_the_refusal_of_a_gateway(error: Exception, pause: float) -> None:
    service = Service()
    service.batch_error = error
    service.ends = dict.fromkeys(names(10), math.inf)
    queue, pace = service.queue(), cadence(Poll(first=1, shortest=1, longest=5))
    watching = asyncio.create_task(consume(Watch(queue, pace, map(queued, service.ends), 2 * pause)))
    await until(lambda: not queue.is_batching)
    service.batch_error = None
    await asyncio.sleep(pause - 1)
    assert len(service.batches) == 1
    await asyncio.sleep(10)
    assert len(service.batches) > 1
    assert queue.is_batching
    await watching


async def test_a_retry_after_of_the_batch_endpoint_does_not_delay_single_polls() -> None:
    service = Service()
    service.batch_error = RateLimitError("slow", status=429, retry_after=20.0)
    service.ends = dict.fromkeys(names(10), 5.0)
    queue, pace = service.queue(), cadence(EVERY_SECOND)
    ended = await consume(Watch(queue, pace, map(queued, service.ends), 15))
    assert all(task.is_completed for task in ended)
    assert len(service.batches) == 1


async def test_a_batch_that_hangs_once_has_its_tasks_polled_singly() -> None:
    service = Service()
    service.batch_error = APITimeoutError("hangs")
    service.ends = dict.fromkeys(names(10), 0.0)
    queue, pace = service.queue(), cadence(EVERY_SECOND)
    ended = await consume(Watch(queue, pace, map(queued, service.ends), 15))
    assert all(task.is_completed for task in ended)
    assert service.singles == dict.fromkeys(service.ends, 1)
    assert queue.is_batching


async def test_waits_that_are_due_join_a_batch_that_the_rate_limiter_holds_back() -> None:
    service = Service()
    service.admission.clear()
    service.ends = dict.fromkeys(names(80), 0.0)
    queue, pace = service.queue(), cadence(EVERY_SECOND)
    waits: list[asyncio.Task[Task]] = []
    for name in service.ends:
        waits.append(asyncio.create_task(until_ended(queue, pace, queued(name))))
        # The first two are due together, a batch; the others one by one.
        await asyncio.sleep(0.25 if len(waits) > 1 else 0)
    assert not service.batches
    service.admission.set()
    assert all(task.is_completed for task in await asyncio.gather(*waits))
    assert list(map(len, service.batches)) == [80]


async def test_no_wait_joins_a_batch_that_failed_before_it_was_sent() -> None:
    service = Service()
    service.ends = dict.fromkeys(names(4), 0.0)
    failures = [ValueError("no key")]

    async def poll_many(take_ids: Callable[[], list[str]]) -> dict[str, Task]:
        if failures:
            raise failures.pop()
        return await service.poll_many(take_ids)

    queue, pace = PollQueue(service.poll_one, poll_many), cadence(EVERY_SECOND)
    waits = (until_ended(queue, pace, queued(name)) for name in names(2))
    errors = await asyncio.gather(*waits, return_exceptions=True)
    assert all(isinstance(error, ValueError) for error in errors)
    ended = await consume(Watch(queue, pace, map(queued, names(4)[2:])))
    assert all(task.is_completed for task in ended)
    assert service.batches == [names(4)[2:]]


async def test_cancelling_a_batch_that_is_held_back_leaves_the_waits_that_joined_it() -> None:
    service = Service()
    service.admission.clear()
    service.ends = dict.fromkeys(names(6), 0.0)
    queue, pace = service.queue(), cadence(EVERY_SECOND)
    first = asyncio.create_task(consume(Watch(queue, pace, map(queued, names(3)))))
    await until(lambda: queue._joinable)
    others = asyncio.create_task(consume(Watch(queue, pace, map(queued, names(6)[3:]))))
    await until(lambda: sum(map(len, queue._joinable.values())) == len(service.ends))
    first.cancel()
    await until(first.done)
    service.admission.set()
    assert all(task.is_completed for task in await others)
    assert service.batches == [names(6)[3:]]


async def test_a_completed_task_without_images_in_a_batch_is_asked_for_once_more() -> None:
    service = Service()
    service.ends = dict.fromkeys(names(5), 3.0)
    service.batches_lack_images = True
    ended = await consume(Watch(service.queue(), cadence(EVERY_SECOND), map(queued, service.ends)))
    assert all(task.images for task in ended)
    assert max(service.singles.values()) == 1


async def test_a_hint_polls_its_task_at_once_and_alone() -> None:
    service = Service()
    service.ends = dict.fromkeys(names(2), math.inf)
    queue, pace = service.queue(), cadence(Poll(first=40, shortest=40, longest=40))
    wait = asyncio.create_task(until_ended(queue, pace, queued("task_0")))
    other = asyncio.create_task(until_ended(queue, pace, queued("task_1")))
    await until(lambda: service.batches)
    await asyncio.sleep(1)
    service.ends["task_0"] = now()
    for task_id in ("task_0", "task_0", "unknown"):
        queue.hint(task_id)
    hinted = now()
    assert (await wait).is_completed
    assert now() - hinted < 0.1
    assert service.singles == {"task_0": 1}
    assert service.batches == [["task_0", "task_1"]]
    other.cancel()


async def test_a_hint_during_a_poll_is_followed_by_another() -> None:
    service = Service()
    service.ends = {"task_0": math.inf}
    service.gate.clear()
    queue, pace = service.queue(), cadence(Poll(first=1, shortest=30, longest=40))
    wait = asyncio.create_task(until_ended(queue, pace, queued("task_0")))
    await until(lambda: service.requests)
    queue.hint("task_0")
    service.gate.set()
    await until(lambda: service.requests > 1)
    assert service.singles == {"task_0": 2}
    wait.cancel()


class CountedId(str):
    """Counts how often ids are compared."""

    __slots__ = ()
    comparisons = 0

    def __eq__(self, other: object) -> bool:
        CountedId.comparisons += 1
        return str.__eq__(self, other)

    __hash__ = str.__hash__


async def test_a_hint_searches_no_other_waits() -> None:
    service = Service()
    queue, pace = service.queue(), cadence(Poll(first=40, shortest=40, longest=40))
    async with Watch(queue, pace, [queued(CountedId(name)) for name in names(500)]):
        CountedId.comparisons = 0
        for task_id in ("unknown", "task_0"):
            queue.hint(task_id)
        assert CountedId.comparisons < 5
    queue.hint("task_0")
    assert not queue._waits


async def test_a_flood_of_hints_leaves_nothing_in_the_queue() -> None:
    service = Service()
    service.ends = {"task_0": math.inf}
    service.error = RateLimitError("wait", status=429, retry_after=60.0)
    queue = service.queue()
    wait = asyncio.create_task(until_ended(queue, cadence(Poll(first=1, shortest=1)), queued("task_0")))
    await until(lambda: service.requests)
    async with Watch(queue, cadence(Poll(first=20, shortest=20, longest=20)), [queued("task_1")]):
        await asyncio.sleep(1)
        for _ in range(1000):
            queue.hint("task_0")
        assert len(queue._queue) < 5
    service.error, service.ends["task_0"] = None, now()
    assert (await wait).is_completed
    assert service.requests == 2


async def test_polls_that_share_requests_are_closer_together() -> None:
    def delay(sharing: float) -> float:
        pace = cadence(Poll(shortest=0.1))
        return pace.next_poll(None, 20, remaining=600, polls=3, sharing=sharing).delay

    assert delay(4) == pytest.approx(delay(1) / 2, rel=0.25)
    assert delay(5) == pytest.approx(delay(4))


@attrs.frozen
class RecordingCadence(Cadence):
    """Records how many polls are said to share a request."""

    sharing: list[float] = attrs.field(factory=list[float])

    def next_poll(self, kind: str | None, age: float, **options: Any) -> NextPoll:
        self.sharing.append(options["sharing"])
        return super().next_poll(kind, age, **options)


@pytest.mark.parametrize("budget", [None, 50.0])
async def test_a_budget_of_requests_makes_each_cost_its_full_price(budget: float | None) -> None:
    service = Service()
    pace = RecordingCadence(EVERY_SECOND)
    service.ends = dict.fromkeys(names(50), 30.0)
    await consume(Watch(service.queue(budget), pace, map(queued, service.ends)))
    assert max(pace.sharing) == 1.0 if budget else max(pace.sharing) > 4.0


def fresh(task_id: str) -> Task:
    """Return a task of known age."""
    return attrs.evolve(queued(task_id), submitted_at=NOW)


def slow(poll: Poll) -> Cadence:
    """Return a cadence that knows forty tasks of 60 s."""
    pace = cadence(poll)
    pace.stats.of(None, poll.first).load(60.0, [Observation(55.0 + n / 4, 56.0 + n / 4) for n in range(40)])
    return pace


async def test_waiting_tasks_are_found_soon_once_a_service_has_become_faster() -> None:
    service = Service()
    queue, pace = service.queue(), slow(Poll())
    delays: list[float] = []

    async def run(name: str) -> None:
        service.ends[name] = now() + 20
        wait = until_ended(queue, pace, fresh(name))
        assert (await wait).is_completed
        delays.append(now() - service.ends[name])

    async with asyncio.TaskGroup() as group:
        for name in names(60):
            group.create_task(run(name))
            await asyncio.sleep(2.5)
    # The first ones are found when tasks used to end. Planned alike, half of all were found so late.
    assert delays[0] > 25
    assert sum(delay > 25 for delay in delays) < 20
    assert max(delays[30:]) < 5


async def test_a_hint_outlives_a_new_plan() -> None:
    service = Service()
    queue, pace = service.queue(), cadence(Poll(first=90, shortest=50, longest=90))
    service.ends = {"task_0": 0.0, "task_1": 60.0}
    hinted = asyncio.create_task(until_ended(queue, pace, fresh("task_0")))
    other = asyncio.create_task(until_ended(queue, pace, fresh("task_1")))
    await asyncio.sleep(0)
    service.error = RateLimitError("slow", status=429, retry_after=65.0)
    queue.hint("task_0")
    await asyncio.sleep(1)
    service.error = None
    queue.hint("task_0")
    await asyncio.sleep(60)
    # The first duration of all: the other task is planned anew.
    queue.hint("task_1")
    assert (await other).is_completed
    assert (await hinted).is_completed
    assert now() < 66
