"""File work in threads: what comes back, what a cancellation waits for, and that no thread is missed."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import anyio
import pytest

from apimart_async.transport.files.threads import on_disk

if TYPE_CHECKING:
    from pathlib import Path


async def test_a_function_runs_in_another_thread_and_its_result_comes_back() -> None:
    assert await on_disk(pow, 2, 10) == 1024
    assert await on_disk(threading.get_ident) != threading.get_ident()


async def test_what_a_function_raises_comes_out_as_itself(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        await on_disk(os.stat, tmp_path / "missing")
    assert await on_disk(os.path.basename, "a/b") == "b"


async def test_many_more_than_there_are_threads_all_come_back() -> None:
    assert await asyncio.gather(*(on_disk(abs, -number) for number in range(500))) == list(range(500))


async def test_a_cancelled_caller_waits_until_nobody_works_for_it() -> None:
    begun, may_end = threading.Event(), threading.Event()
    seen: list[str] = []

    def work() -> None:
        begun.set()
        may_end.wait(10)
        seen.append("worked")

    async def caller() -> None:
        try:
            await on_disk(work)
        finally:
            seen.append("left")

    task = asyncio.create_task(caller())
    assert await asyncio.to_thread(begun.wait, 10)
    task.cancel()
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.sleep(0)
    may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert seen == ["worked", "left"]


async def test_a_cancelled_scope_waits_too() -> None:
    begun, may_end = threading.Event(), threading.Event()
    seen: list[str] = []

    def work() -> None:
        begun.set()
        may_end.wait(10)
        seen.append("worked")

    async with anyio.create_task_group() as group:
        group.start_soon(on_disk, work)
        assert await asyncio.to_thread(begun.wait, 10)
        group.cancel_scope.cancel()
        may_end.set()
    assert seen == ["worked"]


def test_threads_outlive_an_event_loop() -> None:
    for number in range(3):
        assert asyncio.run(on_disk(abs, -number)) == number


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks here")
def test_a_forked_process_has_threads_of_its_own() -> None:
    assert asyncio.run(on_disk(abs, -1)) == 1
    code = """
import asyncio, os
from apimart_async.transport.files.threads import on_disk
asyncio.run(on_disk(abs, -1))
child = os.fork()
if not child:
    os._exit(asyncio.run(on_disk(abs, -7)))
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    command = [sys.executable, "-W", "ignore", "-c", code]
    done = subprocess.run(command, capture_output=True, check=True, timeout=30)
    assert done.stdout.strip() == b"7"
