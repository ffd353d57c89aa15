"""Acknowledged writes of a journal in PostgreSQL through crashes: `python -m benchmarks.fleet_writes`.

Four processes write rows; each is killed five times, and the server crashes five times. A process logs each
write that the journal has acknowledged. In the end, each of these rows must be there, in the logged state or
a later one.
"""

# ruff: noqa: T201 (a benchmark prints its results)

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path
from typing import Final

from apimart_async import Image, Job, JournalError, Task
from apimart_async.batch.journal.postgres import PostgresJournal
from apimart_async.batch.journal.postgres_reading import read_postgres_journal
from apimart_async.batch.journal.record import Record
from tests.fleet.postgres_server import PostgresServer

WRITERS: Final = 4
KILLS: Final = 5
AT_ONCE: Final = 128
STATES: Final = ("intent", "submitted", "completed", "saved")


async def write(url: str, descriptor: int) -> None:
    """Write rows of jobs until this process is killed, and log each acknowledged write."""

    def log(record: Record) -> None:
        os.write(descriptor, f"{record.id} {record.state}\n".encode())

    async def write_jobs(journal: PostgresJournal) -> None:
        while True:
            key = uuid.uuid4().hex
            record = Record.describe(Job("photo.jpg", "Snow", "model"), "model", job_id=key)
            record = record.intent(key, time.time())
            if not await journal.begin(record, None):
                continue  # the lease has expired during an outage
            log(record)
            task = Task(f"task_{key}", "submitted", idempotency_key=key)
            image = Image("https://example.org/a.jpg")
            for next_record in (
                submitted := record.submitted(task),
                completed := submitted.completed(Task(task.id, "completed", images=(image,))),
                completed.saved(("a.jpg",), 1.0),
            ):
                await journal.put(next_record)
                log(next_record)

    while True:
        try:
            async with PostgresJournal(url, lease=5.0) as journal, asyncio.TaskGroup() as group:
                for _ in range(AT_ONCE):
                    group.create_task(write_jobs(journal))
        except JournalError:  # the server is starting
            await asyncio.sleep(0.1)


def start(url: str, log: Path) -> subprocess.Popen[bytes]:
    """Start a process that writes."""
    return subprocess.Popen([sys.executable, "-m", "benchmarks.fleet_writes", url, str(log)])  # noqa: S603


def acknowledged(folder: Path) -> list[tuple[str, str]]:
    """Return the job and the state of each logged write."""
    lines = [line for path in folder.iterdir() for line in path.read_text().splitlines()]
    return [(job, state) for job, _, state in (line.partition(" ") for line in lines)]


def wait_for(folder: Path, count: int) -> None:
    """Wait until a number of writes are logged."""
    while sum(path.read_bytes().count(b"\n") for path in folder.iterdir()) < count:
        time.sleep(0.2)


def measure(server: PostgresServer, folder: Path, writes: int) -> None:
    """Start the writers, kill them and the server in turn, and print how many logged writes are lost."""
    url = server.new_database()
    numbers = iter(range(1000))

    def start_next() -> subprocess.Popen[bytes]:
        return start(url, folder / str(next(numbers)))

    began = time.monotonic()
    writers = [start_next() for _ in range(WRITERS)]
    try:
        for crash in range(KILLS):
            wait_for(folder, writes * (2 * crash + 1) // (2 * KILLS + 1))
            killed = [writers.pop(0) for _ in range(WRITERS)]
            for writer in killed:
                writer.kill()
                writer.wait()
                writers.append(start_next())
            wait_for(folder, writes * (2 * crash + 2) // (2 * KILLS + 1))
            server.stop(signal.SIGKILL)
            server.start()
        wait_for(folder, writes)
    finally:
        for writer in writers:
            writer.kill()
            writer.wait()
    seconds = time.monotonic() - began
    rows = {record.id: STATES.index(record.state) for record in read_postgres_journal(url)}
    logged = acknowledged(folder)
    lost = sum(rows.get(job, -1) < STATES.index(state) for job, state in logged)
    kills = f"{KILLS} kills of each of {WRITERS} writers and {KILLS} of the server"
    print(f"{len(logged)} acknowledged writes in {seconds:.0f} s, {kills}: {lost} lost")


def main() -> None:
    """Read the command line and measure."""
    if len(sys.argv) == 3:  # noqa: PLR2004 the arguments of a writer
        descriptor = os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        asyncio.run(write(sys.argv[1], descriptor))
        return
    parser = argparse.ArgumentParser(prog="benchmarks.fleet_writes", description=__doc__)
    parser.add_argument("writes", type=int, nargs="?", default=60_000, help="number of writes (60000)")
    given = parser.parse_args()
    with PostgresServer() as server, tempfile.TemporaryDirectory() as folder:
        measure(server, Path(folder), given.writes)


if __name__ == "__main__":
    main()
