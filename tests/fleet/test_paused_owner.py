"""A worker that is paused past its lease, at each point of a job, and a second one that takes the job over.

docs/fleet.md has these cases as a table.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Literal

import asyncpg
import pytest

from apimart_async import AsyncApimart, Job, Outcome, Poll, edit_many
from apimart_async.batch.journal.postgres import PostgresJournal
from apimart_async.emulator import Emulator

from .photo import PNG

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from apimart_async.batch.journal.record import Record

# asyncpg looks for the files of libpq when it connects.
pytestmark = pytest.mark.may_block

Point = Literal["before the check", "after the check", "after the answer"]
JOBS = [Job(PNG, "A starry sky", id="job")]


class PausedJournal(PostgresJournal):
    """A journal whose process is paused at a point of its first job, for longer than its lease."""

    def __init__(self, url: str, point: Point) -> None:
        super().__init__(url)
        self._url = url
        self._point = point
        self.is_paused = asyncio.Event()
        self.wakes = asyncio.Event()

    async def begin(self, intent: Record, previous: Record | None) -> bool:
        if self._point == "before the check":
            await self._pause()
        written = await super().begin(intent, previous)
        if self._point == "after the check" and written:
            await self._pause()
        return written

    async def put(self, record: Record) -> None:
        await super().put(record)
        if self._point == "after the answer" and record.state == "submitted":
            await self._pause()

    async def _pause(self) -> None:
        if self.wakes.is_set():
            return
        connection = await asyncpg.connect(self._url)
        await connection.execute(
            "UPDATE apimart_workers SET lease_until = clock_timestamp() WHERE id = $1", self._lease.worker
        )
        await connection.close()
        self._lease._trusted_until = -1.0
        self.is_paused.set()
        await self.wakes.wait()


@asynccontextmanager
async def service(*, honours_keys: bool) -> AsyncGenerator[tuple[Emulator, AsyncApimart]]:
    poll = Poll(first=0.02, shortest=0.02, longest=0.05)
    async with (
        Emulator(task_seconds=0.02, images="tiny", idempotent_replay=honours_keys) as emulator,
        AsyncApimart(emulator.api_key, base_url=emulator.base_url, poll=poll) as client,
    ):
        yield emulator, client


async def run(client: AsyncApimart, journal: Any, output: Path, in_doubt: Any = "report") -> Outcome:
    async with edit_many(client, JOBS, output=output, journal=journal, in_doubt=in_doubt) as outcomes:
        (outcome,) = [outcome async for outcome in outcomes]
    return outcome


async def table(url: str, name: str) -> list[tuple[Any, ...]]:
    connection = await asyncpg.connect(url)
    rows = await connection.fetch(f"SELECT * FROM apimart_{name}")  # noqa: S608 a name of this file
    await connection.close()
    return [tuple(row) for row in rows]


async def leave_in_doubt(url: str, client: AsyncApimart, output: Path) -> None:
    """Have a worker die between the intent of the job and its request: nothing is sent."""
    journal = PausedJournal(url, "after the check")
    dying = asyncio.create_task(run(client, journal, output))
    await journal.is_paused.wait()
    dying.cancel()
    journal.wakes.set()
    await asyncio.wait([dying])


# The paused worker resubmits jobs that are in doubt; the columns have the option of the other worker.
@pytest.mark.parametrize(
    ("is_doubtful", "point", "in_doubt", "honours_keys", "second", "billed"),
    [
        pytest.param(False, "after the answer", "report", False, "saved", 1, id="takeover"),
        pytest.param(False, "before the check", "report", False, "saved", 1, id="checked, done"),
        pytest.param(True, "before the check", "report", False, "in_doubt", 1, id="checked, reported"),
        pytest.param(True, "before the check", "resubmit", False, "saved", 1, id="checked, resubmitted"),
        pytest.param(False, "after the check", "report", False, "in_doubt", 1, id="sent, reported"),
        pytest.param(False, "after the check", "report", True, "in_doubt", 1, id="sent, reported, keys"),
        pytest.param(False, "after the check", "resubmit", True, "saved", 1, id="sent, resubmitted, keys"),
        pytest.param(False, "after the check", "resubmit", False, "saved", 2, id="sent, resubmitted"),
    ],
)
async def test_a_paused_worker_wakes_after_its_job_was_taken(
    url: str,
    tmp_path: Path,
    point: Point,
    in_doubt: str,
    second: str,
    *,
    is_doubtful: bool,
    honours_keys: bool,
    billed: int,
) -> None:
    async with service(honours_keys=honours_keys) as (emulator, client), asyncio.TaskGroup() as group:
        if is_doubtful:
            await leave_in_doubt(url, client, tmp_path)
        journal = PausedJournal(url, point)
        first = group.create_task(run(client, journal, tmp_path, "resubmit"))
        await journal.is_paused.wait()
        taken = await run(client, url, tmp_path, in_doubt)
        assert taken.status == second
        journal.wakes.set()
        await first
        last = await run(client, url, tmp_path)
        assert last.status == "saved"
        assert len(emulator.ledger.billed) == billed
        # No task that was paid for is unknown.
        billed_ids = {entry.task_id for entry in emulator.ledger.billed}
        assert {row[1] for row in await table(url, "payments")} == billed_ids
        assert [row[3] for row in await table(url, "jobs")] == ["saved"]


@pytest.mark.parametrize("in_doubt", ["report", "resubmit"])
async def test_a_worker_that_never_wakes(url: str, tmp_path: Path, in_doubt: str) -> None:
    """It was paused after its check, before its request, and then killed: nothing was sent."""
    async with service(honours_keys=False) as (emulator, client):
        await leave_in_doubt(url, client, tmp_path)
        taken = await run(client, url, tmp_path, in_doubt)
        assert taken.status == ("saved" if in_doubt == "resubmit" else "in_doubt")
        assert len(emulator.ledger.billed) == (in_doubt == "resubmit")
