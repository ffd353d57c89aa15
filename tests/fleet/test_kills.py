"""Four processes share 2,000 jobs; one is killed, one is paused past its lease, and the server crashes."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import asyncpg
import pytest
from anyio import to_thread

from apimart_async.emulator import Emulator

from .photo import PNG
from .postgres_server import PostgresServer

JOBS = 2_000
LEASE = 3.0
# asyncpg looks for the files of libpq when it connects, and the test starts processes.
pytestmark = pytest.mark.may_block


def start(url: str, output: Path, service: Emulator, first: int, log: Path) -> subprocess.Popen[bytes]:
    with log.open("ab") as file:
        return subprocess.Popen(
            [
                *(sys.executable, str(Path(__file__).with_name("worker.py"))),
                *(str(output.parent / "photo.png"), url, str(output), str(JOBS), str(first), str(LEASE)),
            ],
            env=os.environ | {"APIMART_API_KEY": service.api_key, "APIMART_BASE_URL": service.base_url},
            stdout=file,
            stderr=file,
        )


async def until_billed(service: Emulator, share: float) -> None:
    while len(service.ledger.entries) < JOBS * share:  # noqa: ASYNC110 the emulator has no event for it
        await asyncio.sleep(0.05)


async def test_kills_and_pauses_bill_nothing_twice(tmp_path: Path) -> None:
    log = tmp_path / "log"
    (tmp_path / "photo.png").write_bytes(PNG)
    with PostgresServer() as server:
        url = server.new_database()
        async with Emulator(task_seconds=0.2, images="tiny", idempotent_replay=False) as service:
            workers = [
                start(url, tmp_path / "output", service, number * JOBS // 4, log) for number in range(4)
            ]
            killed, paused, *others = workers
            try:
                await until_billed(service, 0.2)
                killed.send_signal(signal.SIGKILL)
                await until_billed(service, 0.4)
                paused.send_signal(signal.SIGSTOP)
                await until_billed(service, 0.6)
                await to_thread.run_sync(server.stop, signal.SIGKILL)
                await asyncio.sleep(0.5)
                await to_thread.run_sync(server.start)
                await asyncio.sleep(LEASE)
                paused.send_signal(signal.SIGCONT)
                for worker in (paused, *others):
                    assert await to_thread.run_sync(worker.wait) == 0, log.read_text()[-3000:]
                # The next run finishes the jobs that the killed process had in flight.
                last = start(url, tmp_path / "output", service, 0, log)
                workers.append(last)
                assert await to_thread.run_sync(last.wait) == 0, log.read_text()[-3000:]
            finally:
                for worker in workers:
                    worker.kill()
                    worker.wait()
            connection = await asyncpg.connect(url)
            states = dict(await connection.fetch("SELECT state, count(*) FROM apimart_jobs GROUP BY state"))
            paid = {row[0] for row in await connection.fetch("SELECT task_id FROM apimart_payments")}
            doubtful = {
                row[0]
                for row in await connection.fetch("SELECT key FROM apimart_jobs WHERE state = 'in_doubt'")
            }
            await connection.close()
    assert not service.ledger.billed_more_than_once
    assert sum(states.values()) == JOBS
    assert set(states) <= {"saved", "failed", "in_doubt"}
    assert states["saved"] > JOBS * 0.9
    # An answer that a killed process has taken with it is in doubt; any other task is known.
    unknown = [entry for entry in service.ledger.billed if entry.task_id not in paid]
    assert {entry.idempotency_key for entry in unknown} <= doubtful
