from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import anyio
import pytest

from apimart_async import AsyncApimart, Limits, RateLimitError, Retry
from apimart_async.emulator import Emulator, RateLimit
from apimart_async.transport.concurrency import Semaphore
from apimart_async.transport.rate_limit import RateLimiter
from tests.conftest import CLOCK

from .conftest import arrive

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from tests.clock import Clock

    from .conftest import Exchange, RawServer

SLOW_DOWN = b'{"error":{"message":"slow down"}}'

# --- over sockets -----------------------------------------------------------------------------------------


async def test_retry_after_of_one_answer_delays_that_call_only(raw_server: RawServer, clock: Clock) -> None:
    async def handle(exchange: Exchange) -> None:
        await exchange.read()
        if len(raw_server.seen) == 1:
            await exchange.answer(SLOW_DOWN, 429, {"Retry-After": "25"})
        else:
            await exchange.answer(b'{"data":[]}')

    raw_server.handle = handle
    async with AsyncApimart("sk-test", base_url=raw_server.base_url) as client:
        refused = asyncio.create_task(client.account.models())
        await arrive()
        with anyio.fail_after(600):
            assert await client.account.models() == []
        clock.advance(20)
        await arrive()
        assert not refused.done()
        clock.advance(6)
        assert await refused == []
    assert len(raw_server.seen) == 3


async def test_every_call_succeeds_under_a_limit_of_the_service(clock: Clock) -> None:
    rules = [RateLimit(limit=20, burst=2, retry_after=1), RateLimit(kind="random", limit=0.1)]
    async with (
        Emulator(rate_limit=rules) as emulator,
        AsyncApimart(emulator.api_key, base_url=emulator.base_url, max_retries=1) as client,
        clock.rushing(0.1),
        asyncio.TaskGroup() as group,
    ):
        for _ in range(100):
            group.create_task(client.account.models())
    statuses = [request.status for request in emulator.requests]
    assert statuses.count(200) == 100
    assert 429 in statuses


async def test_refusals_do_not_count_as_retries(raw_server: RawServer, clock: Clock) -> None:
    async def handle(exchange: Exchange) -> None:
        await exchange.read()
        if len(raw_server.seen) <= 10:
            await exchange.answer(SLOW_DOWN, 429)
        else:
            await exchange.answer(b'{"data":[]}')

    raw_server.handle = handle
    async with (
        AsyncApimart("sk-test", base_url=raw_server.base_url, max_retries=1) as client,
        clock.rushing(1),
    ):
        assert await client.account.models() == []
    assert len(raw_server.seen) == 11


async def test_no_retries_are_none_after_a_refusal_either(raw_server: RawServer) -> None:
    async def handle(exchange: Exchange) -> None:
        await exchange.read()
        await exchange.answer(SLOW_DOWN, 429)

    raw_server.handle = handle
    async with AsyncApimart("sk-test", base_url=raw_server.base_url, max_retries=0) as client:
        with pytest.raises(RateLimitError):
            await client.account.models()
    assert len(raw_server.seen) == 1


async def test_a_retry_after_above_the_limit_fails_its_call_only(
    raw_server: RawServer,
) -> None:
    async def handle(exchange: Exchange) -> None:
        await exchange.read()
        if len(raw_server.seen) == 1:
            await exchange.answer(b'{"error":{"message":"tomorrow"}}', 429, {"Retry-After": "86400"})
        else:
            await exchange.answer(b'{"data":[]}')

    raw_server.handle = handle
    async with AsyncApimart("sk-test", base_url=raw_server.base_url) as client:
        with pytest.raises(RateLimitError):
            await client.account.models()
        with anyio.fail_after(600):
            assert await client.account.models() == []


async def test_retries_end_with_the_total_time(raw_server: RawServer, clock: Clock) -> None:
    async def handle(exchange: Exchange) -> None:
        await exchange.read()
        await exchange.answer(b'{"error":{"message":"slow down"}}', 429, {"Retry-After": "8"})

    raw_server.handle = handle
    options = {"max_retries": 1000, "retry": Retry(max_elapsed=20)}
    async with AsyncApimart("sk-test", base_url=raw_server.base_url, **options) as client:  # type: ignore[arg-type]
        calling = asyncio.create_task(client.account.models())
        while not calling.done():
            await arrive()
            clock.advance(1)
        with pytest.raises(RateLimitError):
            await calling
    assert 2 <= len(raw_server.seen) <= 4


@pytest.mark.parametrize(
    ("limits", "most"), [(Limits(uploads=2), 2), (Limits(requests=3), 3), (Limits(connections=2), 2)]
)
async def test_each_limit_is_kept(raw_server: RawServer, limits: Limits, most: int) -> None:
    inside = highest = 0
    full = asyncio.Event()

    async def handle(exchange: Exchange) -> None:
        nonlocal inside, highest
        await exchange.read()
        inside += 1
        highest = max(highest, inside)
        if inside == most:
            full.set()
        await full.wait()
        await arrive()
        inside -= 1
        await exchange.answer(
            b'{"url":"https://u.example/a","filename":"a","content_type":"image/gif","bytes":46}'
        )

    raw_server.handle = handle
    gif = b"GIF89a" + bytes(39) + b";"
    async with (
        AsyncApimart("sk-test", base_url=raw_server.base_url, limits=limits) as client,
        anyio.create_task_group() as group,
    ):
        for _ in range(20):
            group.start_soon(client.uploads.create, gif)
    assert len(raw_server.seen) == 20
    assert highest == most


async def test_downloads_have_a_limit_of_their_own(raw_server: RawServer) -> None:
    inside = highest = 0
    full = asyncio.Event()

    async def handle(exchange: Exchange) -> None:
        nonlocal inside, highest
        await exchange.read()
        inside += 1
        highest = max(highest, inside)
        if inside == 2:
            full.set()
        await full.wait()
        await arrive()
        inside -= 1
        await exchange.answer(b"GIF89a" + bytes(39) + b";")

    raw_server.handle = handle
    limits = Limits(downloads=2)
    async with (
        AsyncApimart("sk-test", base_url=raw_server.base_url, limits=limits) as client,
        anyio.create_task_group() as group,
    ):
        for number in range(12):
            group.start_soon(client.images.read, f"{raw_server.base_url}/{number}.gif")
    assert highest == 2


async def test_a_semaphore_is_fair_and_loses_no_place_to_a_cancellation() -> None:
    semaphore = Semaphore(1)
    order: list[int] = []
    await semaphore.acquire()

    async def pass_through(number: int) -> None:
        await semaphore.acquire()
        order.append(number)
        semaphore.release()

    tasks = [asyncio.create_task(pass_through(number)) for number in range(5)]
    await asyncio.sleep(0)
    tasks[0].cancel()
    semaphore.release()
    tasks[1].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert order == [2, 3, 4]
    assert semaphore.in_use == 0


# --- the queue ---------------------------------------------------------------------------------------------


async def settle() -> None:
    """Let callbacks and tasks that are ready run."""
    for _ in range(10):
        await asyncio.sleep(0)


async def advance(seconds: float) -> None:
    CLOCK.advance(seconds)
    # One pass of the selector, which runs the timers that are due.
    await asyncio.sleep(0.001)
    await settle()


def start(*waits: Coroutine[object, object, float]) -> list[asyncio.Task[float]]:
    return [asyncio.ensure_future(wait) for wait in waits]


async def stop(tasks: list[asyncio.Task[float]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_place_is_given_at_once_while_there_are_places() -> None:
    limiter = RateLimiter(Limits(requests=2))
    before = time.monotonic()
    assert before <= await limiter.acquire() <= time.monotonic()
    assert limiter.acquire_nowait() is not None
    assert limiter.acquire_nowait() is None


async def test_waiters_are_served_in_order_as_places_are_given_back() -> None:
    limiter = RateLimiter(Limits(requests=1))
    sent = await limiter.acquire()
    order: list[int] = []

    async def wait(number: int) -> float:
        at = await limiter.acquire()
        order.append(number)
        return at

    tasks = start(*(wait(number) for number in range(3)))
    await settle()
    assert order == []
    for served in range(3):
        limiter.release(sent, 200, None)
        await settle()
        assert order == list(range(served + 1))
        sent = tasks[served].result()


async def test_a_refused_call_waits_before_the_others() -> None:
    limiter = RateLimiter(Limits(requests=1))
    sent = await limiter.acquire()
    tasks = start(limiter.acquire(), limiter.acquire())
    await settle()
    again = asyncio.ensure_future(limiter.acquire(front=True))
    await settle()
    limiter.release(sent, 200, None)
    await settle()
    assert again.done()
    assert not any(task.done() for task in tasks)
    await stop(tasks)


async def test_waiting_requests_are_not_overtaken() -> None:
    limiter = RateLimiter(Limits(requests=1))
    sent = await limiter.acquire()
    tasks = start(limiter.acquire())
    await settle()
    limiter.release(sent, 200, None)
    assert limiter.acquire_nowait() is None
    await settle()
    assert tasks[0].done()


async def test_places_come_at_the_rate_of_the_caller() -> None:
    limiter = RateLimiter(Limits(requests=64, requests_per_second=1))
    await limiter.acquire()
    tasks = start(*(limiter.acquire() for _ in range(3)))
    await settle()
    assert not any(task.done() for task in tasks)
    for served in range(1, 4):
        await advance(1.05)
        assert [task.done() for task in tasks] == [number < served for number in range(3)]


async def test_a_rate_that_rises_while_requests_wait_applies_to_them() -> None:
    limiter = RateLimiter(Limits(requests=64, requests_per_second=1000))
    limiter.search.rate = 0.01
    first = await limiter.acquire()
    tasks = start(limiter.acquire())
    await settle()
    assert not tasks[0].done()
    limiter.search.rate = 1000
    limiter.search._next_at = 0.0
    limiter.release(first, 200, None)
    await settle()
    assert tasks[0].done()


async def test_cancelling_a_waiter_leaves_the_place_to_the_next() -> None:
    limiter = RateLimiter(Limits(requests=1))
    sent = await limiter.acquire()
    first, second = start(limiter.acquire(), limiter.acquire())
    await settle()
    first.cancel()
    limiter.release(sent, 200, None)
    await settle()
    assert second.done()
    assert limiter.search.in_flight == 1


async def test_cancelling_a_waiter_that_was_just_given_a_place_gives_it_back() -> None:
    limiter = RateLimiter(Limits(requests=1))
    sent = await limiter.acquire()
    first, second = start(limiter.acquire(), limiter.acquire())
    await settle()
    limiter.release(sent, 200, None)
    first.cancel()
    await settle()
    assert first.cancelled()
    assert second.done()
    assert limiter.search.in_flight == 1


@pytest.mark.parametrize("adaptive", [True, False])
async def test_the_wait_of_a_pause_ends_by_itself(adaptive: bool) -> None:  # noqa: FBT001
    limiter = RateLimiter(Limits(requests=4, adaptive=adaptive))
    limiter.search.paused_until = time.monotonic() + 30
    tasks = start(limiter.acquire())
    await settle()
    assert not tasks[0].done()
    await advance(31)
    assert tasks[0].done()


async def test_one_refusal_with_retry_after_pauses_no_other_request() -> None:
    limiter = RateLimiter(Limits(requests=4))
    limiter.release(await limiter.acquire(), 429, 60.0)
    assert limiter.acquire_nowait() is not None


async def test_a_client_that_is_not_adaptive_learns_nothing_but_obeys_retry_after() -> None:
    limiter = RateLimiter(Limits(requests=32, adaptive=False))
    sent = [await limiter.acquire() for _ in range(32)]
    for at in sent:
        limiter.release(at, 429, None)
    assert limiter.search.concurrency == 32
    limiter.release(await limiter.acquire(), 503, 10.0)
    assert limiter.acquire_nowait() is None
    tasks = start(limiter.acquire())
    await advance(11)
    assert tasks[0].done()


async def test_an_answer_that_says_nothing_of_limits_only_gives_the_place_back() -> None:
    limiter = RateLimiter(Limits(requests=1))
    for _ in range(100):
        limiter.release(await limiter.acquire(), None, None)
    assert limiter.search.state == "free"
    assert limiter.search.in_flight == 0
