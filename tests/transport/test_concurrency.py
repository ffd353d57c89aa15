"""File threads: results, errors, cancellation, forks and interpreter shutdown."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import pytest

from apimart_async.transport.concurrency import file_threads

if TYPE_CHECKING:
    from collections.abc import Callable

HANG = 300


async def test_function_runs_in_another_thread_and_its_result_is_returned() -> None:
    assert await file_threads.run(pow, 2, 10) == 1024
    assert await file_threads.run(threading.get_ident) != threading.get_ident()


async def test_exception_of_the_function_is_raised_unchanged(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        await file_threads.run(os.stat, tmp_path / "missing")
    assert await file_threads.run(os.path.basename, "a/b") == "b"


async def test_more_calls_than_threads_all_return() -> None:
    results = await asyncio.gather(*(file_threads.run(abs, -number) for number in range(500)))
    assert results == list(range(500))


class Blocked:
    """A function that runs until the test lets it end."""

    def __init__(self, end: Callable[[], object] = lambda: None) -> None:
        self.begun, self.may_end = threading.Event(), threading.Event()
        self.order: list[str] = []
        self._end = end

    def __call__(self) -> None:
        self.begun.set()
        assert self.may_end.wait(HANG)
        self.order.append("function")
        self._end()

    async def call(self) -> None:
        try:
            await file_threads.run(self)
        finally:
            self.order.append("caller")


async def test_cancellation_waits_for_the_function() -> None:
    blocked = Blocked()
    task = asyncio.create_task(blocked.call())
    assert await asyncio.to_thread(blocked.begun.wait, HANG)
    for _ in range(2):
        task.cancel()
        await asyncio.sleep(0)
    blocked.may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert blocked.order == ["function", "caller"]


async def test_cancellation_hides_a_late_error_without_a_warning() -> None:
    reported: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
    blocked = Blocked(Path("/missing").stat)
    task = asyncio.create_task(blocked.call())
    assert await asyncio.to_thread(blocked.begun.wait, HANG)
    task.cancel()
    blocked.may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    del task
    assert not reported


async def test_cancelled_scope_waits_for_the_function() -> None:
    blocked = Blocked()
    async with anyio.create_task_group() as group:
        group.start_soon(blocked.call)
        assert await asyncio.to_thread(blocked.begun.wait, HANG)
        group.cancel_scope.cancel()
        blocked.may_end.set()
    assert blocked.order == ["function", "caller"]


def test_threads_outlive_an_event_loop() -> None:
    for number in range(3):
        assert asyncio.run(file_threads.run(abs, -number)) == number


def output_of(code: str) -> str:
    command = [sys.executable, "-W", "ignore", "-c", code]
    return subprocess.run(command, capture_output=True, check=True, timeout=HANG, text=True).stdout.strip()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_forked_process_starts_its_own_threads() -> None:
    code = """
import asyncio, os
from apimart_async.transport.concurrency import file_threads
asyncio.run(file_threads.run(abs, -1))
child = os.fork()
if not child:
    os._exit(asyncio.run(file_threads.run(abs, -7)))
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    assert output_of(code) == "7"


def test_file_work_goes_on_while_the_interpreter_shuts_down() -> None:
    code = """
import asyncio, threading
from apimart_async.transport.concurrency import file_threads

def work():
    threading.main_thread().join()
    print(asyncio.run(file_threads.run(abs, -7)))

threading.Thread(target=work).start()
"""
    assert output_of(code) == "7"
