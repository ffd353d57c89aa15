"""A batch that is ended by a second Ctrl-C while its database is slow."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, NoReturn

import anyio
import asyncpg
import pytest

from apimart_async import AsyncApimart, EventHooks, Job, edit_many
from apimart_async.batch import read_outcomes
from apimart_async.emulator import Emulator

if TYPE_CHECKING:
    from pathlib import Path

    from apimart_async.hooks import RequestEvent

PICTURE = "https://pictures.example/a.png"
BOUND = 60
"""Seconds; only catches a hang."""


@pytest.mark.may_block
async def test_second_ctrl_c_while_the_database_is_slow_loses_no_task(
    url: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    loops: list[asyncio.AbstractEventLoop] = []
    is_sending, is_locked, is_raised = threading.Event(), threading.Event(), threading.Event()
    ended: list[BaseException] = []

    def on_request(event: RequestEvent) -> None:
        if event.method == "POST":
            is_sending.set()
            is_locked.wait(BOUND)

    async def batch(emulator: Emulator) -> None:
        loops.append(asyncio.get_running_loop())
        hooks = EventHooks(on_request=on_request)
        async with (
            AsyncApimart(emulator.api_key, base_url=emulator.base_url, event_hooks=hooks) as client,
            edit_many(client, [Job(PICTURE, "stars")], output=tmp_path, journal=url) as outcomes,
        ):
            async for _ in outcomes:
                pass

    def run(emulator: Emulator) -> None:
        try:
            asyncio.run(batch(emulator))
        except BaseException as error:  # noqa: BLE001 the result of the thread
            ended.append(error)

    def interrupt() -> NoReturn:
        # As the second SIGINT does: `asyncio.run` then cancels every task, those of the journal too.
        is_raised.set()
        raise KeyboardInterrupt

    async with Emulator(task_seconds=36_000, images="tiny") as emulator:
        thread = threading.Thread(target=run, args=(emulator,), daemon=True)
        thread.start()
        await anyio.to_thread.run_sync(is_sending.wait, BOUND)
        connection = await asyncpg.connect(url)
        async with connection.transaction():
            await connection.execute("LOCK TABLE apimart_jobs IN ACCESS EXCLUSIVE MODE")
            is_locked.set()
            # The answer has come, and its row waits for the lock.
            while not await connection.fetchval(  # noqa: ASYNC110 the database tells nobody
                "SELECT count(*) FROM pg_locks WHERE NOT granted"
            ):
                await anyio.sleep(0.005)
            loops[0].call_soon_threadsafe(interrupt)
            await anyio.to_thread.run_sync(is_raised.wait, BOUND)
        await connection.close()
        await anyio.to_thread.run_sync(thread.join, BOUND)
        assert not thread.is_alive()
    assert isinstance(ended[0], KeyboardInterrupt)
    (entry,) = emulator.ledger.entries
    (outcome,) = read_outcomes(tmp_path, journal=url)
    assert outcome.task is not None
    assert outcome.task.id == entry.task_id
    # Told as well: yet another Ctrl-C would not wait for the database.
    assert str(entry.task_id) in capfd.readouterr().err
