"""The runtime of the twins in this process: results, threads, closing and `with` blocks."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import threading
import traceback
import weakref
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel
import pytest

from apimart_async.sync.portal import Portal

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Iterator

PLACE = contextvars.ContextVar("PLACE", default="nowhere")


class Counter:
    """An async object with every kind of method that a twin can have."""

    def __init__(self) -> None:
        self.closed = 0
        self.left: list[str] = []
        self.waiting = threading.Event()

    async def close(self) -> None:
        await anyio.lowlevel.checkpoint()
        self.closed += 1

    async def double(self, number: int, *, times: int = 1) -> int:
        await anyio.lowlevel.checkpoint()
        return number << times

    async def fail(self, error: BaseException) -> None:
        await anyio.lowlevel.checkpoint()
        raise error

    async def place(self) -> str:
        return PLACE.get()

    async def wait(self) -> None:
        try:
            self.waiting.set()
            await anyio.sleep_forever()
        except asyncio.CancelledError as error:
            error.add_note("the task goes on")
            raise
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(0.01)
            self.left.append("wait")

    @asynccontextmanager
    async def count(
        self, end: int, *, breaks_at: int | None = None, swallows: bool = False
    ) -> AsyncGenerator[AsyncIterator[int], None]:
        """Count in a task of its own, inside a task group that belongs to the task that entered."""
        entered_in = asyncio.current_task()
        send, receive = anyio.create_memory_object_stream[int]()

        async def produce() -> None:
            async with send:
                for number in range(end):
                    if number == breaks_at:
                        raise ArithmeticError(f"cannot count to {number}")
                    await send.send(number)

        try:
            async with receive, anyio.create_task_group() as group:
                group.start_soon(produce)
                try:
                    yield receive
                finally:
                    assert asyncio.current_task() is entered_in
                    self.left.append("count")
                    group.cancel_scope.cancel()
        except BaseExceptionGroup as failures:
            if not swallows:
                raise failures.exceptions[0] from None

    @asynccontextmanager
    async def refuse(self) -> AsyncGenerator[AsyncIterator[int], None]:
        if not self.closed:
            raise LookupError("closed on Sundays")
        yield ()  # type: ignore[misc]  # makes it a generator

    @asynccontextmanager
    async def wait_to_enter(self) -> AsyncGenerator[AsyncIterator[int], None]:
        await self.wait()
        yield ()  # type: ignore[misc]  # makes it a generator


@pytest.fixture
def counter() -> Counter:
    return Counter()


@pytest.fixture
def portal(counter: Counter) -> Iterator[Portal]:
    portal = Portal(counter.close)
    yield portal
    portal.close()
    assert loop_threads() == []


def loop_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "apimart-async"]


def test_call_returns_the_result_of_the_coroutine(portal: Portal, counter: Counter) -> None:
    assert portal.call(counter.double, 3, times=2) == 12


def test_nothing_starts_before_the_first_call(portal: Portal) -> None:
    assert loop_threads() == []
    portal.close()
    with pytest.raises(RuntimeError, match="closed"):
        portal.thread()


@pytest.mark.parametrize("kind", [KeyError, SystemExit, KeyboardInterrupt, asyncio.CancelledError])
def test_exceptions_come_back_as_themselves(
    portal: Portal, counter: Counter, kind: type[BaseException]
) -> None:
    error = kind("x")
    with pytest.raises(kind) as raised:
        portal.call(counter.fail, error)
    assert raised.value is error
    assert raised.value.__cause__ is None
    frames = [frame.name for frame in traceback.extract_tb(raised.value.__traceback__)]
    assert frames[0] == "test_exceptions_come_back_as_themselves"
    assert frames[-1] == "fail"
    assert portal.call(counter.double, 1) == 2  # the loop goes on


def test_no_garbage_cycle_keeps_the_objects_of_a_failed_call(portal: Portal, counter: Counter) -> None:
    class Picture:
        """Something large."""

    async def fail(picture: Picture) -> None:
        raise LookupError(type(picture).__name__)

    picture = Picture()
    gone = weakref.ref(picture)
    gc.collect()
    gc.disable()
    try:
        with pytest.raises(LookupError):
            portal.call(fail, picture)
        del picture
        portal.call(counter.double, 1)  # the loop is through with the call before
        assert gone() is None
    finally:
        gc.enable()


def test_context_variables_are_carried_over(portal: Portal, counter: Counter) -> None:
    here = PLACE.set("here")
    try:
        assert portal.call(counter.place) == "here"
    finally:
        PLACE.reset(here)


def test_many_threads_share_one_client_and_one_loop(portal: Portal, counter: Counter) -> None:
    other = Counter()
    second = Portal(other.close)

    def double(number: int) -> int:
        return (portal if number % 2 else second).call(counter.double, number)

    with ThreadPoolExecutor(16) as threads:
        assert list(threads.map(double, range(400))) == [2 * number for number in range(400)]
    assert len(loop_threads()) == 1
    second.close()
    assert other.closed == 1
    assert portal.call(counter.double, 1) == 2


@pytest.mark.may_block
async def test_works_where_a_loop_runs_in_this_thread(portal: Portal, counter: Counter) -> None:
    assert portal.call(counter.double, 4) == 8
    with portal.open(counter.count, 3) as numbers:
        assert list(numbers) == [0, 1, 2]


def test_a_call_from_a_callback_on_the_loop_is_refused(portal: Portal, counter: Counter) -> None:
    async def call_back() -> None:
        portal.call(counter.double, 1)

    async def enter() -> None:
        portal.open(counter.count, 1).__enter__()

    for function in (call_back, enter):
        with pytest.raises(RuntimeError, match="would wait for itself"):
            portal.call(function)


def test_close_is_idempotent_and_final(portal: Portal, counter: Counter) -> None:
    portal.call(counter.double, 1)
    portal.close()
    portal.close()
    assert counter.closed == 1
    with pytest.raises(RuntimeError, match=r"^This client is closed\.$"):
        portal.call(counter.double, 1)
    with pytest.raises(RuntimeError, match=r"^This client is closed\.$"):
        portal.open(counter.count, 1)


def test_close_ends_the_calls_of_other_threads_and_their_cleanup(portal: Portal, counter: Counter) -> None:
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(portal.call, counter.wait)
        assert counter.waiting.wait(120)
        portal.close()
        assert counter.left == ["wait"]
        assert counter.closed == 1
        error = waiting.exception(120)
    assert isinstance(error, RuntimeError)
    assert str(error) == "This client is closed."
    assert error.__notes__ == ["the task goes on"]


def test_closing_raises_the_error_of_the_wrapped_close(counter: Counter) -> None:
    async def close() -> None:
        raise OSError("broken")

    portal = Portal(close)
    portal.call(counter.double, 1)
    with pytest.raises(OSError, match="broken"):
        portal.close()
    assert loop_threads() == []


def test_a_client_that_is_collected_is_closed(counter: Counter) -> None:
    portal = Portal(counter.close)
    portal.call(counter.double, 1)
    (thread,) = loop_threads()
    del portal
    gc.collect()
    thread.join(120)
    assert not thread.is_alive()
    assert counter.closed == 1


def test_an_open_block_keeps_its_client(counter: Counter) -> None:
    block = Portal(counter.close).open(counter.count, 2)
    gc.collect()
    with block as numbers:
        assert list(numbers) == [0, 1]
        assert counter.closed == 0
    (thread,) = loop_threads()
    del block, numbers
    gc.collect()
    thread.join(120)
    assert counter.closed == 1


def test_a_host_name_is_found_after_the_executors_of_python_have_shut_down(portal: Portal) -> None:
    async def look_up() -> str:
        found = await asyncio.get_running_loop().run_in_executor(None, threading.current_thread)
        return found.name

    assert portal.call(look_up) == "apimart-async executor"


class TestBlocks:
    """`with` over an asynchronous context manager."""

    def test_items_come_in_order_and_then_end(self, portal: Portal, counter: Counter) -> None:
        with portal.open(counter.count, 4) as numbers:
            assert list(numbers) == [0, 1, 2, 3]
            assert list(numbers) == []
        assert counter.left == ["count"]

    def test_leaving_early_leaves_the_manager(self, portal: Portal, counter: Counter) -> None:
        with portal.open(counter.count, 1000) as numbers:
            for number in numbers:
                if number == 2:
                    break
        assert counter.left == ["count"]
        assert list(numbers) == []

    def test_threads_may_share_the_items(self, portal: Portal, counter: Counter) -> None:
        def take(numbers: Iterator[int]) -> list[int]:
            return list(numbers)

        with portal.open(counter.count, 100) as numbers, ThreadPoolExecutor(4) as threads:
            shares = list(threads.map(take, [numbers] * 4))
        assert sorted(number for share in shares for number in share) == list(range(100))

    def test_an_exception_of_the_body_passes_through_the_manager(
        self, portal: Portal, counter: Counter
    ) -> None:
        error = LookupError("mine")

        def use() -> None:
            with portal.open(counter.count, 3):
                raise error

        with pytest.raises(LookupError) as raised:
            use()
        assert raised.value is error
        assert counter.left == ["count"]
        assert [frame.name for frame in traceback.extract_tb(error.__traceback__)][-1] == "use"

    def test_the_manager_may_swallow_it(self, portal: Portal, counter: Counter) -> None:
        def trip() -> None:
            raise LookupError("swallowed")

        with portal.open(counter.count, 3, swallows=True):
            trip()
        assert counter.left == ["count"]

    def test_a_failure_in_the_background_reaches_the_caller_that_waits_for_an_item(
        self, portal: Portal, counter: Counter
    ) -> None:
        taken: list[int] = []

        def use() -> None:
            with portal.open(counter.count, 5, breaks_at=2) as numbers:
                taken.extend(numbers)

        with pytest.raises(ArithmeticError, match="cannot count to 2"):
            use()
        assert taken == [0, 1]
        assert counter.left == ["count"]

    def test_a_failure_to_enter(self, portal: Portal, counter: Counter) -> None:
        with pytest.raises(LookupError, match="closed on Sundays"), portal.open(counter.refuse):
            pytest.fail("the block was entered")

    def test_items_before_entering_are_refused(self, portal: Portal, counter: Counter) -> None:
        with pytest.raises(RuntimeError, match="inside the with block"):
            next(portal.open(counter.count, 1))

    def test_a_block_cannot_be_entered_again(self, portal: Portal, counter: Counter) -> None:
        block = portal.open(counter.count, 2)

        def enter() -> None:
            with pytest.raises(RuntimeError, match="was entered before"), block:
                pytest.fail("the block was entered")

        with block as numbers:
            enter()
            assert list(numbers) == [0, 1]
        enter()
        assert counter.left == ["count"]

    def test_a_generator_that_ends_on_the_loop_leaves_its_block_and_closes_its_client(
        self, portal: Portal, counter: Counter
    ) -> None:
        """The garbage collector runs in any thread."""
        other = Counter()

        def count() -> Iterator[int]:
            own = Portal(other.close)
            try:
                own.call(other.double, 1)
                with portal.open(counter.count, 5) as numbers:
                    yield from numbers
            finally:
                own.close()

        generators = [count()]
        assert next(generators[0]) == 0

        async def drop() -> None:
            generators.clear()

        portal.call(drop)
        while not (counter.left and other.closed):
            portal.call(counter.double, 1)
        assert counter.left == ["count"]

    def test_closing_the_client_ends_a_block(self, portal: Portal, counter: Counter) -> None:
        with portal.open(counter.count, 5) as numbers:
            assert next(numbers) == 0
            portal.close()
            with pytest.raises(RuntimeError, match=r"^This client is closed\.$"):
                next(numbers)
        assert counter.left == ["count"]
        assert counter.closed == 1

    def test_closing_the_client_ends_an_entry(self, portal: Portal, counter: Counter) -> None:
        with ThreadPoolExecutor(1) as threads:
            entering = threads.submit(portal.open(counter.wait_to_enter).__enter__)
            assert counter.waiting.wait(120)
            portal.close()
            error = entering.exception(120)
        assert isinstance(error, RuntimeError)
        assert str(error) == "This client is closed."

    def test_a_block_of_a_closed_client_cannot_be_entered(self, portal: Portal, counter: Counter) -> None:
        block = portal.open(counter.count, 5)
        portal.close()
        with pytest.raises(RuntimeError, match=r"^This client is closed\.$"), block:
            pytest.fail("the block was entered")


def test_clients_may_come_and_go_in_many_threads_at_once() -> None:
    def come_and_go(number: int) -> int:
        counter = Counter()
        portal = Portal(counter.close)
        doubled = portal.call(counter.double, number)
        portal.close()
        return doubled + counter.closed

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(come_and_go, range(200))) == [2 * number + 1 for number in range(200)]
    assert loop_threads() == []
