from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import anyio
import pytest

from apimart_async import AsyncApimart, Limits, RateLimitError, Retry
from apimart_async.emulator import Emulator
from apimart_async.transport.rate_limit import LearnedRate, RateLimiter, Semaphore

from .conftest import arrive

if TYPE_CHECKING:
    from tests.clock import Clock

    from .conftest import Exchange, RawServer


@pytest.mark.long
async def test_a_thousand_calls_find_a_limit_of_fifty_a_second_by_themselves() -> None:
    calls, limit = 1000, 50.0
    async with (
        Emulator(rate_limit=limit) as emulator,
        AsyncApimart(emulator.api_key, base_url=emulator.base_url) as client,
    ):
        started = time.monotonic()
        async with anyio.create_task_group() as group:
            for _ in range(calls):
                group.start_soon(client.account.models)
        elapsed = time.monotonic() - started
        refused = sum(request.status == 429 for request in emulator.requests)
        answered = sum(request.status == 200 for request in emulator.requests)
    assert answered == calls
    assert calls / elapsed >= 0.9 * limit
    assert refused <= 0.05 * (answered + refused)


async def test_requests_per_second_are_kept_without_a_single_refusal() -> None:
    async with (
        Emulator(rate_limit=100) as emulator,
        AsyncApimart(
            emulator.api_key, base_url=emulator.base_url, limits=Limits(requests_per_second=90)
        ) as client,
    ):
        started = time.monotonic()
        async with anyio.create_task_group() as group:
            for _ in range(200):
                group.start_soon(client.account.models)
        elapsed = time.monotonic() - started
        assert {request.status for request in emulator.requests} == {200}
    assert 200 / elapsed <= 100


async def test_one_429_pauses_the_whole_client(raw_server: RawServer, clock: Clock) -> None:
    answered = asyncio.Event()

    async def handle(exchange: Exchange) -> None:
        await exchange.read()
        if len(raw_server.seen) == 1:
            await exchange.answer(b'{"error":{"message":"slow down"}}', 429, {"Retry-After": "25"})
            answered.set()
        else:
            await exchange.answer(b'{"data":[]}')

    raw_server.handle = handle
    async with AsyncApimart("sk-test", base_url=raw_server.base_url) as client:
        async with asyncio.TaskGroup() as group:
            refused = group.create_task(client.account.models())
            await answered.wait()
            await arrive()
            other = group.create_task(client.with_options(max_retries=0).account.models())
            await arrive()
            clock.advance(20)
            await arrive()
            assert len(raw_server.seen) == 1
            clock.advance(20)
        assert refused.result() == other.result() == []


async def test_a_wait_too_long_to_be_waited_pauses_nobody(raw_server: RawServer) -> None:
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


async def test_a_limiter_cancelled_in_a_pause_gives_its_place_back() -> None:
    limiter = RateLimiter(Limits(requests=1))
    acquired = await limiter.acquire()
    limiter.release(acquired, 429, 60)
    with anyio.move_on_after(0.05) as scope:
        await limiter.acquire()
    assert scope.cancelled_caught
    assert limiter.requests.in_use == 0


async def test_overload_halves_the_concurrency_once_and_success_raises_it_again() -> None:
    limiter = RateLimiter(Limits(requests=64))
    together = [await limiter.acquire() for _ in range(8)]
    for acquired in together:
        limiter.release(acquired, 503, None)
    assert limiter.requests.limit == 4
    assert limiter.rate.is_unlimited
    for _ in range(200):
        for acquired in [await limiter.acquire() for _ in range(4)]:
            limiter.release(acquired, 200, None)
    assert 4 < limiter.requests.limit <= 64


def test_a_learned_rate_is_held_then_raised_then_forgotten() -> None:
    rate = LearnedRate(None)
    now = 100.0
    assert rate.is_unlimited
    for _ in range(150):
        now += 0.02
        rate.record_answer(now)
    rate.record_refusal(now, 1.0)
    learned = rate.current(now)
    assert learned is not None
    assert 45 < learned < 50
    assert rate.current(now + 4) == learned
    later = rate.current(now + 30)
    assert later is not None
    assert learned < later < 2 * learned
    assert rate.current(now + 300) is None
    assert rate.is_unlimited


def test_a_callers_rate_is_never_passed() -> None:
    rate = LearnedRate(10.0)
    now, sent = 0.0, 0
    while now < 10:
        now += rate.reserve(now) or 0.001
        sent += 1
    assert sent <= 10 * 10 + 2


async def test_an_attempt_without_an_answer_raises_no_limit() -> None:
    limiter = RateLimiter(Limits(requests=64))
    limiter.release(await limiter.acquire(), 503, None)
    before = limiter.requests.limit
    for _ in range(200):
        limiter.release(await limiter.acquire(), None, None)
    assert limiter.requests.limit == before
