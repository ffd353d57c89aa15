"""An interrupted call leaves the ids of its paid work where a program finds them."""

from __future__ import annotations

import asyncio
import base64
import signal
import subprocess
import sys
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from apimart_async import (
    Apimart,
    AsyncApimart,
    AsyncAppleRouter,
    EventHooks,
    ImageError,
    Interrupted,
    Poll,
    SubmissionIndeterminateError,
    TaskFailedError,
    interrupted,
)
from apimart_async.emulator import Emulator, Fault
from apimart_async.hooks import Observer
from apimart_async.interruption import mark

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    from apimart_async import Task
    from apimart_async.hooks import Operation
    from tests.clock import Clock

PICTURE = "https://pictures.example/a.png"
LOST = Interrupted(idempotency_key="order-1")


@pytest.fixture
async def silent() -> AsyncIterator[Emulator]:
    """An emulator that executes submits and never answers them."""
    faults = [Fault(kind="hang", route="edits", executed=True)]
    async with Emulator(task_seconds=36_000, images="tiny", faults=faults) as emulator:
        yield emulator


@pytest.fixture
async def slow() -> AsyncIterator[Emulator]:
    """An emulator whose tasks take ten hours."""
    async with Emulator(task_seconds=36_000, images="tiny") as emulator:
        yield emulator


def client_of(emulator: Emulator) -> AsyncApimart:
    return AsyncApimart(emulator.api_key, base_url=emulator.base_url)


async def until_sent(emulator: Emulator, submits: int = 1) -> None:
    while len(emulator.ledger.entries) < submits:  # noqa: ASYNC110 the emulator tells nobody
        await anyio.sleep(0.001)


async def cancel(call: asyncio.Task[object]) -> BaseException:
    call.cancel()
    with pytest.raises(asyncio.CancelledError) as caught:
        await call
    return caught.value


async def timeout(call: Awaitable[object]) -> BaseException:
    with pytest.raises(TimeoutError) as caught:
        async with asyncio.timeout(0):
            await call
    return caught.value


async def test_cancelled_submit_has_its_key(silent: Emulator) -> None:
    async with client_of(silent) as client:
        call = asyncio.ensure_future(client.edits.create(PICTURE, "stars", idempotency_key="order-1"))
        await until_sent(silent)
        cancelled = await cancel(call)
    assert interrupted(cancelled) == LOST
    assert vars(cancelled)["idempotency_key"] == "order-1"


async def test_cancelled_run_has_its_task_and_its_key(slow: Emulator) -> None:
    submitted = asyncio.Queue[str]()

    def on_update(task: Task) -> None:
        submitted.put_nowait(str(task.id))

    async with client_of(slow) as client:
        run = client.edits.run(PICTURE, "stars", idempotency_key="order-1", on_update=on_update)
        call = asyncio.ensure_future(run)
        task_id = await submitted.get()
        cancelled = await cancel(call)
    assert interrupted(cancelled) == Interrupted(task_id, "order-1")


async def test_ids_are_found_behind_timeouts_and_in_groups(slow: Emulator) -> None:
    async with client_of(slow) as client:
        task = await client.edits.create(PICTURE, "stars", idempotency_key="order-1")
        expected = Interrupted(task.id, "order-1")

        assert interrupted(await timeout(client.tasks.wait(task))) == expected
        with pytest.raises(TimeoutError) as late:
            await asyncio.wait_for(client.tasks.wait(task), 0.01)
        assert interrupted(late.value) == expected

        inside: list[Interrupted | None] = []
        with anyio.move_on_after(0):
            try:
                await client.tasks.wait(task)
            except asyncio.CancelledError as cancelled:
                inside.append(interrupted(cancelled))
                raise
        assert inside == [expected]

        async def wait_for_both() -> None:
            async with asyncio.TaskGroup() as group:
                group.create_task(asyncio.wait_for(client.tasks.wait(task), 0.01))
                group.create_task(anyio.sleep_forever())

        with pytest.raises(ExceptionGroup) as several:
            await wait_for_both()
        assert interrupted(several.value) == expected


async def test_call_without_paid_work_has_no_ids(slow: Emulator) -> None:
    async with client_of(slow) as client:
        assert interrupted(await timeout(client.account.balance())) is None
    foreign = ValueError("another error")
    vars(foreign)["task_id"] = "of another package"
    assert interrupted(foreign) is None


def test_errors_of_the_package_have_their_own_ids() -> None:
    assert interrupted(TaskFailedError("no", task_id="task_1")) == Interrupted("task_1")


def test_replaced_exceptions_are_searched_unless_they_are_suppressed() -> None:
    def replaced(raise_new: Callable[[BaseException], None]) -> BaseException:
        inner = asyncio.CancelledError()
        mark(inner, task_id="task_1", sibling_ids=("task_2",))

        def replace() -> None:
            try:
                raise inner
            except asyncio.CancelledError as error:
                raise_new(error)

        with pytest.raises(RuntimeError) as caught:
            replace()
        return caught.value

    def plainly(_: BaseException) -> None:
        raise RuntimeError

    def suppressing(_: BaseException) -> None:
        raise RuntimeError from None

    assert interrupted(replaced(plainly)) == Interrupted("task_1", None, ("task_2",))
    assert interrupted(replaced(suppressing)) is None
    circle = RuntimeError()
    circle.__context__ = KeyError()
    circle.__context__.__context__ = circle
    assert interrupted(circle) is None


SCRIPT = """
from apimart_async import {client}, Poll, interrupted
SOON = Poll(first=0.02)
{code}
"""
BLOCKING = """
with Apimart(poll=Poll(first=0.02)) as client:
    task = client.edits.create("https://pictures.example/a.png", "stars", idempotency_key="order-1")
    print(task.id, flush=True)
    try:
        client.tasks.wait(task, on_update=lambda task: print("waits", flush=True))
    except KeyboardInterrupt as error:
        print(interrupted(error), flush=True)
"""
ASYNC = """
import asyncio
async def main():
    async with AsyncApimart(poll=Poll(first=0.02)) as client:
        task = await client.edits.create("https://pictures.example/a.png", "stars", idempotency_key="order-1")
        print(task.id, flush=True)
        await client.tasks.wait(task, on_update=lambda task: print("waits", flush=True))
try:
    asyncio.run(main())
except KeyboardInterrupt as error:
    print(interrupted(error), flush=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT for one process")
@pytest.mark.parametrize(("name", "code"), [("Apimart", BLOCKING), ("AsyncApimart", ASYNC)])
async def test_ctrl_c_has_the_ids(slow: Emulator, name: str, code: str) -> None:
    environment = {"APIMART_API_KEY": slow.api_key, "APIMART_BASE_URL": slow.base_url}
    script = SCRIPT.format(client=name, code=code)
    async with await anyio.open_process(
        [sys.executable, "-c", script], env=environment, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdout
        received, is_sent = b"", False
        async for chunk in process.stdout:
            received += chunk
            if b"waits" in received and not is_sent:
                is_sent = True
                process.send_signal(signal.SIGINT)
    lines = received.decode().split("\n")
    assert f"Interrupted(task_id='{lines[0]}', idempotency_key='order-1', sibling_ids=())" in lines


async def test_a_blocking_call_that_another_thread_ends_has_the_ids(slow: Emulator) -> None:
    client = Apimart(slow.api_key, base_url=slow.base_url, poll=Poll(first=0.02))
    task = await anyio.to_thread.run_sync(lambda: client.edits.create(PICTURE, "stars"))
    polled = anyio.Event()
    loop = asyncio.get_running_loop()

    def wait() -> BaseException | None:
        try:
            client.tasks.wait(task, on_update=lambda _: loop.call_soon_threadsafe(polled.set))
        except RuntimeError as error:
            return error
        return None

    async def close() -> None:
        await polled.wait()
        await anyio.to_thread.run_sync(client.close)

    async with anyio.create_task_group() as group:
        group.start_soon(close)
        error = await anyio.to_thread.run_sync(wait)
    assert error
    assert interrupted(error) == Interrupted(task.id, task.idempotency_key)


@pytest.mark.parametrize("call", [1, 2])
@pytest.mark.parametrize("method", ["edits", "generations"])
async def test_error_of_on_update_names_the_task(call: int, method: str) -> None:
    calls = 0

    def on_update(_: Task) -> None:
        nonlocal calls
        calls += 1
        if calls == call:
            raise LookupError("a mistake of the caller")

    async with (
        Emulator(task_seconds=0.01, images="tiny") as emulator,
        AsyncApimart(emulator.api_key, base_url=emulator.base_url, poll=Poll(first=0.02)) as client,
    ):
        if method == "edits":
            run = client.edits.run(PICTURE, "stars", idempotency_key="order-1", on_update=on_update)
        else:
            run = client.generations.run("stars", idempotency_key="order-1", on_update=on_update)
        with pytest.raises(LookupError) as caught:
            await run
    (entry,) = emulator.ledger.entries
    assert interrupted(caught.value) == Interrupted(entry.task_id, "order-1")
    (note,) = caught.value.__notes__
    assert entry.task_id in note


async def test_closing_the_client_during_a_wait_names_the_task(slow: Emulator) -> None:
    submitted = asyncio.Event()
    client = AsyncApimart(slow.api_key, base_url=slow.base_url, poll=Poll(first=0.02))
    run = client.edits.run(
        PICTURE, "stars", idempotency_key="order-1", on_update=lambda _: submitted.set(), timeout=36_000
    )
    call = asyncio.ensure_future(run)
    await submitted.wait()
    await client.close()
    with pytest.raises(RuntimeError, match="closed") as caught:
        await call
    (entry,) = slow.ledger.entries
    assert interrupted(caught.value) == Interrupted(entry.task_id, "order-1")


class BadObserver(Observer):
    """Fails at every end of a paid call, and would suppress its errors."""

    @contextmanager
    def operation(self, operation: Operation) -> Iterator[None]:
        with suppress(Exception):
            yield
        raise LookupError(operation.name)


async def test_errors_of_an_observer_cost_no_task_and_hide_no_error(silent: Emulator, clock: Clock) -> None:
    url = silent.base_url
    async with AsyncApimart(silent.api_key, base_url=url, event_hooks=BadObserver()) as client:
        task = await client.generations.create("stars", idempotency_key="order-1")
        assert task.id == silent.ledger.entries[0].task_id
        edit = asyncio.ensure_future(client.edits.create(PICTURE, "stars", timeout=100))
        await until_sent(silent, 2)
        clock.advance(200)
        with pytest.raises(SubmissionIndeterminateError):
            await edit


async def test_error_of_a_key_function_after_a_lost_answer_has_the_key_of_the_request() -> None:
    lost = Fault(kind="disconnect", route="generations", executed=True)
    async with Emulator(images="tiny", faults=[lost]) as emulator:

        def api_key() -> str:
            if emulator.ledger.entries:
                raise LookupError("no key any more")
            return emulator.api_key

        async with AsyncApimart(api_key, base_url=emulator.base_url, check="off") as client:
            with pytest.raises(LookupError) as caught:
                await client.generations.create(
                    "stars", model="gpt-image-2.5-flare", idempotency_key="order-1"
                )
    assert interrupted(caught.value) == LOST


async def test_answer_of_applerouter_that_is_cut_off_while_it_is_read_is_noted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    calls: list[asyncio.Future[Any]] = []

    def cancel_at_the_answer(_: object) -> None:
        calls[0].cancel()

    hooks = EventHooks(on_response=cancel_at_the_answer)
    picture = base64.b64decode(
        "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
    )
    async with (
        Emulator(images="tiny") as emulator,
        AsyncAppleRouter(emulator.api_key, base_url=emulator.base_url, event_hooks=hooks) as client,
    ):
        calls.append(asyncio.ensure_future(client.edits.create(picture, "stars", model="gpt-image-2")))
        with pytest.raises(asyncio.CancelledError) as caught:
            await calls[0]
    assert len(emulator.ledger.entries) == 1
    assert "may have been billed" in str(caught.value.__notes__)
    assert "may have been billed" in caplog.text
    assert interrupted(caught.value) == Interrupted()


async def test_paid_work_without_task_and_key_is_not_taken_for_none() -> None:
    silent = Fault(kind="hang", route="applerouter", executed=True)
    async with (
        Emulator(images="tiny", faults=[silent]) as emulator,
        AsyncAppleRouter(emulator.api_key, base_url=emulator.base_url) as client,
    ):
        call = asyncio.create_task(client.generations.create("stars", model="gpt-image-2"))
        await until_sent(emulator)
        assert interrupted(await cancel(call)) == Interrupted()
    assert interrupted(SubmissionIndeterminateError("lost")) == Interrupted()
    assert interrupted(ImageError("not sent")) is None


async def test_stream_that_is_left_is_paid_work() -> None:
    async with (
        Emulator(images="tiny") as emulator,
        AsyncAppleRouter(emulator.api_key, base_url=emulator.base_url) as client,
    ):

        async def leave(error: Exception) -> None:
            async with client.generations.stream("stars", model="gpt-image-2", partial_images=1):
                raise error

        with pytest.raises(KeyError) as caught:
            await leave(KeyError("mine"))
        assert interrupted(caught.value) == Interrupted()
        with pytest.raises(TaskFailedError) as own:
            await leave(TaskFailedError("no", task_id="task_1"))
        assert interrupted(own.value) == Interrupted("task_1")
