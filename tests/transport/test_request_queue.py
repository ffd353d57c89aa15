from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest

from apimart_async.config import Limits
from apimart_async.transport.request_queue import RequestQueue
from tests.conftest import CLOCK

if TYPE_CHECKING:
    from collections.abc import Coroutine


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
    queue = RequestQueue(Limits(requests=2))
    before = time.monotonic()
    assert before <= await queue.acquire() <= time.monotonic()
    assert queue.acquire_nowait() is not None
    assert queue.acquire_nowait() is None


async def test_waiters_are_served_in_order_as_places_are_given_back() -> None:
    queue = RequestQueue(Limits(requests=1))
    sent = await queue.acquire()
    order: list[int] = []

    async def wait(number: int) -> float:
        at = await queue.acquire()
        order.append(number)
        return at

    tasks = start(*(wait(number) for number in range(3)))
    await settle()
    assert order == []
    for served in range(3):
        queue.release(sent, 200, None)
        await settle()
        assert order == list(range(served + 1))
        sent = tasks[served].result()


async def test_a_refused_call_waits_before_the_others() -> None:
    queue = RequestQueue(Limits(requests=1))
    sent = await queue.acquire()
    tasks = start(queue.acquire(), queue.acquire())
    await settle()
    again = asyncio.ensure_future(queue.acquire(front=True))
    await settle()
    queue.release(sent, 200, None)
    await settle()
    assert again.done()
    assert not any(task.done() for task in tasks)
    await stop(tasks)


async def test_nobody_overtakes_those_who_wait() -> None:
    queue = RequestQueue(Limits(requests=1))
    sent = await queue.acquire()
    tasks = start(queue.acquire())
    await settle()
    queue.release(sent, 200, None)
    assert queue.acquire_nowait() is None
    await settle()
    assert tasks[0].done()


async def test_places_come_at_the_rate_of_the_caller() -> None:
    queue = RequestQueue(Limits(requests=64, requests_per_second=1))
    await queue.acquire()
    tasks = start(*(queue.acquire() for _ in range(3)))
    await settle()
    assert not any(task.done() for task in tasks)
    for served in range(1, 4):
        await advance(1.05)
        assert [task.done() for task in tasks] == [number < served for number in range(3)]


async def test_a_rate_that_rises_while_requests_wait_applies_to_them() -> None:
    queue = RequestQueue(Limits(requests=64, requests_per_second=1000))
    queue.search.rate = 0.01
    first = await queue.acquire()
    tasks = start(queue.acquire())
    await settle()
    assert not tasks[0].done()
    queue.search.rate = 1000
    queue.search._next_at = 0.0
    queue.release(first, 200, None)
    await settle()
    assert tasks[0].done()


async def test_cancelling_a_waiter_leaves_the_place_to_the_next() -> None:
    queue = RequestQueue(Limits(requests=1))
    sent = await queue.acquire()
    first, second = start(queue.acquire(), queue.acquire())
    await settle()
    first.cancel()
    queue.release(sent, 200, None)
    await settle()
    assert second.done()
    assert queue.search.in_flight == 1


async def test_cancelling_a_waiter_that_was_just_given_a_place_gives_it_back() -> None:
    queue = RequestQueue(Limits(requests=1))
    sent = await queue.acquire()
    first, second = start(queue.acquire(), queue.acquire())
    await settle()
    queue.release(sent, 200, None)
    first.cancel()
    await settle()
    assert first.cancelled()
    assert second.done()
    assert queue.search.in_flight == 1


@pytest.mark.parametrize("adaptive", [True, False])
async def test_the_wait_of_a_pause_ends_by_itself(adaptive: bool) -> None:  # noqa: FBT001
    queue = RequestQueue(Limits(requests=4, adaptive=adaptive))
    queue.search.paused_until = time.monotonic() + 30
    tasks = start(queue.acquire())
    await settle()
    assert not tasks[0].done()
    await advance(31)
    assert tasks[0].done()


async def test_one_refusal_with_retry_after_pauses_nobody_else() -> None:
    queue = RequestQueue(Limits(requests=4))
    queue.release(await queue.acquire(), 429, 60.0)
    assert queue.acquire_nowait() is not None


async def test_a_client_that_is_not_adaptive_learns_nothing_but_obeys_retry_after() -> None:
    queue = RequestQueue(Limits(requests=32, adaptive=False))
    sent = [await queue.acquire() for _ in range(32)]
    for at in sent:
        queue.release(at, 429, None)
    assert queue.search.concurrency == 32
    queue.release(await queue.acquire(), 503, 10.0)
    assert queue.acquire_nowait() is None
    tasks = start(queue.acquire())
    await advance(11)
    assert tasks[0].done()


async def test_an_answer_that_says_nothing_of_limits_only_gives_the_place_back() -> None:
    queue = RequestQueue(Limits(requests=1))
    for _ in range(100):
        queue.release(await queue.acquire(), None, None)
    assert queue.search.state == "free"
    assert queue.search.in_flight == 0
