"""Exchanges that take too long end as timeouts, and a cancellation from outside stays one."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time

import pytest

from apimart_async.config import Timeout
from apimart_async.transport.session.deadlines import Deadline, Deadlines


async def exchange(deadlines: Deadlines, timeout: Timeout, *, is_sent: bool = True) -> str:
    deadline = Deadline(deadlines, deadlines.current_task(), timeout, is_sent=is_sent)
    try:
        await asyncio.sleep(30)
    except asyncio.CancelledError:
        if deadline.was_missed():
            return deadline.late
        raise
    finally:
        deadline.end()
    return ""


async def test_the_whole_and_the_silence_have_a_limit_each() -> None:
    deadlines = Deadlines()
    assert "Timeout.total" in await exchange(deadlines, Timeout(total=0.02, read=5))
    assert "Timeout.read" in await exchange(deadlines, Timeout(total=5, read=0.02))
    assert not deadlines.running


async def test_a_body_that_is_being_sent_is_not_silence() -> None:
    assert "Timeout.total" in await exchange(Deadlines(), Timeout(total=0.1, read=0.01), is_sent=False)


async def test_a_shorter_limit_is_kept_beside_longer_ones() -> None:
    deadlines = Deadlines()
    long = asyncio.create_task(exchange(deadlines, Timeout(total=20)))
    await asyncio.sleep(0)
    assert "Timeout.total" in await exchange(deadlines, Timeout(total=0.02))
    assert not long.done()
    long.cancel()
    with pytest.raises(asyncio.CancelledError):
        await long
    assert not deadlines.running


async def test_a_deadline_leaves_the_task_as_it_was() -> None:
    await exchange(Deadlines(), Timeout(total=0.02))
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    async with asyncio.timeout(5):
        await asyncio.sleep(0)


async def test_a_cancellation_at_the_same_moment_wins() -> None:
    deadlines = Deadlines()
    task = asyncio.create_task(exchange(deadlines, Timeout(total=0.02)))
    await asyncio.sleep(0)
    (deadline,) = deadlines.running
    deadline.look(time.monotonic() + 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks here")
def test_a_process_forked_inside_a_loop_does_not_take_its_parents_task_for_its_own() -> None:
    code = """
import asyncio, os
from apimart_async.transport.session.deadlines import Deadlines

deadlines = Deadlines()

async def child():
    try:
        deadlines.current_task()
    except RuntimeError as error:
        os._exit(0 if "another event loop" in str(error) else 2)
    os._exit(1)

async def parent():
    assert deadlines.current_task() is asyncio.current_task()
    if not os.fork():
        asyncio.run(child())
    _, status = os.wait()
    raise SystemExit(os.waitstatus_to_exitcode(status))

asyncio.run(parent())
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, timeout=30)
