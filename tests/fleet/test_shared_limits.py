"""The limit on the rate and the budget that the processes of a fleet share."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import asyncpg
import attrs
import pytest
from anyio import to_thread

from apimart_async import AsyncApimart, BudgetExceededError, Job, Poll, edit_many
from apimart_async.batch.budget import Budget
from apimart_async.batch.journal.postgres import PostgresJournal
from apimart_async.batch.journal.protocol import Tally
from apimart_async.batch.journal.record import Record
from apimart_async.batch.journal.shared_rate import SharedRate, Slot
from apimart_async.emulator import Emulator
from apimart_async.emulator.faults import Fault

from .photo import PNG

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from tests.clock import Clock

# asyncpg looks for the files of libpq when it connects, and the test starts processes.
pytestmark = pytest.mark.may_block

LOG = """
    CREATE TABLE log (began timestamptz, before timestamptz, after timestamptz);
    CREATE FUNCTION log() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        INSERT INTO log VALUES (statement_timestamp(), OLD.next_at, NEW.next_at); RETURN NULL;
    END $$;
    CREATE TRIGGER log AFTER INSERT OR UPDATE ON apimart_rate FOR EACH ROW EXECUTE FUNCTION log();"""
LEASES = """
    SELECT extract(epoch FROM began)::double precision,
        extract(epoch FROM coalesce(before, began))::double precision,
        extract(epoch FROM after)::double precision
    FROM log ORDER BY after"""


@asynccontextmanager
async def rate_of(url: str, per_second: float) -> AsyncGenerator[SharedRate]:
    async with PostgresJournal(url, lease=3600, requests_per_second=per_second) as journal:
        assert journal.rate
        yield journal.rate


async def query(url: str, statement: str) -> list[Any]:
    connection = await asyncpg.connect(url)
    try:
        return list(await connection.fetch(statement))
    finally:
        await connection.close()


async def execute(url: str, statements: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statements)
    finally:
        await connection.close()


async def run_workers(service: Emulator, commands: Sequence[Sequence[object]]) -> None:
    env = os.environ | {"APIMART_API_KEY": service.api_key, "APIMART_BASE_URL": service.base_url}
    processes = [
        subprocess.Popen(  # noqa: ASYNC220 it only starts them
            [sys.executable, str(Path(__file__).with_name("limited_worker.py")), *map(str, command)],
            env=env,
            stderr=subprocess.PIPE,
        )
        for command in commands
    ]
    try:
        for process in processes:
            _, complaints = await to_thread.run_sync(process.communicate)
            assert process.returncode == 0, complaints.decode()[-2000:]
    finally:
        for process in processes:
            process.kill()
            process.wait()


async def leases_of(url: str) -> list[tuple[float, float, float]]:
    """Return when each lease of slots began, and the time of the next free slot before and after it."""
    return [tuple(row) for row in await query(url, LEASES)]


def slots_of(leases: Sequence[tuple[float, float, float]], rate: float) -> list[float]:
    """Return the times of the leased slots; of one that is late, those may be too many, but never too few."""
    slots: list[float] = []
    for began, before, after in leases:
        count = int((after - max(before, began - 0.05)) * rate + 0.01)
        slots += [after - number / rate for number in range(count, 0, -1)]
    return slots


@pytest.mark.long
async def test_eight_journals_in_two_processes_never_exceed_the_rate_that_they_share(
    url: str, tmp_path: Path
) -> None:
    """At no time have more requests arrived than there were slots until then, however late they are."""
    rate, jobs = 50, 240
    (tmp_path / "photo.png").write_bytes(PNG)
    async with PostgresJournal(url):
        await execute(url, LOG)
    async with Emulator(task_seconds=0.05, images="tiny") as service:
        await run_workers(
            service,
            [
                (tmp_path / "photo.png", url, tmp_path / f"out{part}", json.dumps(options))
                for part in range(2)
                for options in [{"clients": 4, "jobs": jobs // 8, "first": part * jobs // 2, "rate": rate}]
            ],
        )
        assert len(service.ledger.billed) == jobs
    slots, arrivals = (
        slots_of(await leases_of(url), rate),
        sorted(entry.at for entry in service.ledger.billed),
    )
    assert len(slots) >= jobs
    assert min(later - slot for slot, later in pairwise(slots)) >= 0.999 / rate
    assert min(at - slot for slot, at in zip(slots, arrivals, strict=False)) >= -1 / rate


@pytest.mark.long
@pytest.mark.realtime
async def test_eight_journals_use_up_the_rate_that_they_share(url: str) -> None:
    rate, random = 50, Random(1)

    async def send(shared: SharedRate) -> None:
        for _ in range(5):
            slot = await shared.wait()
            await asyncio.sleep(random.uniform(0, 0.05))  # the write of its intent
            assert await shared.reach(slot)

    async with AsyncExitStack() as stack:
        shared = [await stack.enter_async_context(rate_of(url, rate)) for _ in range(8)]
        await execute(url, LOG)
        await asyncio.gather(*(send(each) for each in shared for _ in range(16)))
    leases = await leases_of(url)
    slots = slots_of(leases, rate)
    # While all of them send, hardly a slot is missing, and they lease several at once.
    begin, end = slots[0] + 2, slots[-1] - 3
    assert len([slot for slot in slots if begin < slot < end]) >= 0.9 * rate * (end - begin)
    assert len([began for began, _, _ in leases if begin < began < end]) <= 10 * (end - begin) + 8


async def test_a_pause_is_obeyed_by_the_other_process(url: str) -> None:
    async with rate_of(url, 1000.0) as first, rate_of(url, 1000.0) as second:
        await first.wait()
        began = time.monotonic()
        await second.pause(0.6)
        slots = await asyncio.gather(*(first.wait() for _ in range(20)), second.wait())
        assert min(slot.at for slot in slots) >= began + 0.6


async def test_last_jobs_leave_no_leased_slot_unused(url: str) -> None:
    """Slots that a process does not use are lost to all."""
    async with rate_of(url, 1000.0) as rate:
        waits = asyncio.gather(*(rate.wait() for _ in range(30)))
        await asyncio.sleep(0)
        rate._demand = 0.0  # they came long ago
        assert len({slot.at for slot in await waits}) == 30
        assert len(rate._slots) + rate._unused == 0


async def test_a_request_is_prepared_before_its_place_and_sent_in_it(url: str) -> None:
    async with rate_of(url, 1000.0) as rate:
        slot = await rate.wait()
        await asyncio.sleep(0.05)  # the write of its intent
        await rate.reach(slot)
        assert 0.05 <= rate._preparation <= 1.0
        later = attrs.evolve(slot, at=time.monotonic() + 0.1, given_at=time.monotonic())
        await rate.reach(later)
        assert time.monotonic() >= later.at
        # The next request has that long for its preparation.
        assert rate._preparation >= 0.04


async def test_a_request_that_is_late_waits_for_another_slot(url: str) -> None:
    """Requests with slow writes would arrive together with those after them."""
    async with rate_of(url, 2.0) as rate:
        moment = time.monotonic() - 0.2
        assert await rate.reach(Slot(moment, moment, rate._lease.worker))
        # The slot that it took instead is the only one.
        assert not rate._slots
        assert rate._last > 0


async def test_nothing_is_sent_in_a_slot_of_before_a_pause_or_a_stop(url: str, clock: Clock) -> None:
    async with rate_of(url, 1000.0) as rate:
        slot = await rate.wait()
        for is_paused in (True, False):
            now = time.monotonic()
            reaching = asyncio.create_task(rate.reach(attrs.evolve(slot, at=now + 100, given_at=now)))
            await asyncio.sleep(0)  # the request waits for its moment
            if is_paused:
                await rate.pause(101)
            clock.advance(100 if is_paused else 102)
            assert not await reaching


@pytest.mark.parametrize("is_late", [False, True])
@pytest.mark.parametrize("how", ["ended", "renewed as another worker"])
async def test_nothing_is_sent_after_the_lease_of_its_intent(url: str, how: str, *, is_late: bool) -> None:
    """Also of a request that is late, and waits for another slot."""
    async with PostgresJournal(url, requests_per_second=1000) as journal:
        assert journal.rate
        slot = await journal.rate.wait()
        if is_late:
            slot = attrs.evolve(slot, at=slot.at - 0.2)
        assert await journal.rate.reach(slot)
        if how == "ended":
            journal._lease._trusted_until = -1.0
        else:
            await journal._database.retried(journal._lease.register)
        assert not await journal.rate.reach(slot)


class StoppedJournal(PostgresJournal):
    """A journal whose process stands still after the first intent, for longer than the shortest lease."""

    begun = 0

    async def begin(self, intent: Record, previous: Record | None) -> bool:
        written = await super().begin(intent, previous)
        self.begun += 1
        if self.begun == 1:
            time.sleep(2.5)  # noqa: ASYNC251 the whole process stands still
        return written


@pytest.mark.may_block
@pytest.mark.parametrize(
    ("lease", "status", "billed"),
    [
        pytest.param(3600, "saved", 1, id="within its lease"),
        pytest.param(2, "in_doubt", 0, id="past its lease"),
    ],
)
async def test_a_process_that_stood_still_sends_within_its_lease_only(
    url: str, tmp_path: Path, lease: int, status: str, billed: int
) -> None:
    poll = Poll(first=0.02, shortest=0.02, longest=0.05)
    async with (
        Emulator(task_seconds=0.02, images="tiny") as emulator,
        AsyncApimart(emulator.api_key, base_url=emulator.base_url, poll=poll) as client,
    ):
        journal = StoppedJournal(url, lease=lease, requests_per_second=100)
        async with edit_many(client, [Job(PNG, "A sky")], output=tmp_path, journal=journal) as outcomes:
            assert [outcome.status async for outcome in outcomes] == [status]
        assert len(emulator.ledger.entries) == billed


class SlowJournal(PostgresJournal):
    """A journal whose writes of intents each take two seconds by the clock of the process."""

    def __init__(self, url: str, clock: Clock) -> None:
        super().__init__(url, requests_per_second=100)
        self._clock = clock
        self.begun = 0

    async def begin(self, intent: Record, previous: Record | None) -> bool:
        self.begun += 1
        self._clock.advance(2.0)
        return self.begun < 10 and await super().begin(intent, previous)


async def test_a_slow_database_delays_a_request_and_does_not_prevent_it(
    url: str, tmp_path: Path, clock: Clock
) -> None:
    poll = Poll(first=0.02, shortest=0.02, longest=0.05)
    async with (
        Emulator(task_seconds=0.02, images="tiny") as emulator,
        AsyncApimart(emulator.api_key, base_url=emulator.base_url, poll=poll) as client,
    ):
        journal = SlowJournal(url, clock)
        async with edit_many(client, [Job(PNG, "A sky")], output=tmp_path, journal=journal) as outcomes:
            assert [outcome.status async for outcome in outcomes] == ["saved"]
        assert journal.begun == 1


async def test_a_429_with_a_delay_pauses_the_fleet(url: str, tmp_path: Path) -> None:
    poll = Poll(first=0.02, shortest=0.02, longest=0.05)
    async with (
        Emulator(task_seconds=0.02, images="tiny") as emulator,
        AsyncApimart(emulator.api_key, base_url=emulator.base_url, poll=poll) as client,
    ):
        emulator.faults.add(Fault(kind="status", route="edits", status=429, retry_after=1, first=1))
        journal = PostgresJournal(url, requests_per_second=100)
        async with edit_many(client, [Job(PNG, "Snow")], output=tmp_path, journal=journal) as outcomes:
            assert [outcome.status async for outcome in outcomes] == ["saved"]
    ((paused,),) = await query(url, "SELECT paused_until IS NOT NULL FROM apimart_rate")
    assert paused


async def test_three_processes_share_a_budget(url: str, tmp_path: Path) -> None:
    """The limit is that of the sum of their jobs, and exceeded by the first job of each at most."""
    (tmp_path / "photo.png").write_bytes(PNG)
    async with Emulator(task_seconds=0.05, images="tiny") as service:
        jobs = 60
        price = 0.04
        await run_workers(
            service,
            [
                (tmp_path / "photo.png", url, tmp_path / f"out{part}", json.dumps(options))
                for part in range(3)
                for options in [{"clients": 1, "jobs": jobs, "first": part * jobs, "max_cost": 60 * price}]
            ],
        )
        billed = service.ledger.billed
        cost = sum(entry.cost for entry in billed)
        price = max(entry.cost for entry in billed)
    assert cost <= 60 * 0.04 + 3 * price
    # A process that waits keeps the part that it has reserved, so not all of the limit is used.
    assert cost >= 60 * 0.04 / 3


async def test_a_repeated_transaction_changes_a_reservation_once(url: str) -> None:
    """A transaction is repeated when the answer to its commit is lost."""
    intent = Record.describe(Job("a.jpg", "Snow", "model"), "model", job_id="job").intent("key", 0.0)

    async def reserved() -> float:
        ((usd,),) = await query(url, "SELECT usd FROM apimart_reservations")
        return float(usd)

    async with PostgresJournal(url) as journal:
        await journal.budget.reserve(10.0, 0.5, lambda: 0.0, lambda _: 0.5)
        before = await reserved()
        for _ in range(2):
            assert await journal.begin(intent, None)
            assert await reserved() == pytest.approx(before - 0.5)
        for _ in range(2):
            await journal.undo(intent, None)
            assert await reserved() == pytest.approx(before)


async def test_reservations_never_pass_the_limit(url: str) -> None:
    """Also of submits that no row shows yet, and with a price that another process has learnt."""
    limit, price = 10.0, 0.5
    async with PostgresJournal(url) as first, PostgresJournal(url) as second:
        await first.put_state("prices", json.dumps({"model": price}).encode())
        budgets = [Budget(limit, Tally({}, 0.0, {}), {}, journal.budget) for journal in (first, second)]
        admitted = 0
        while budgets:
            for budget in list(budgets):
                try:
                    assert await budget.admit("model", 1)
                except BudgetExceededError:
                    budgets.remove(budget)
                else:
                    admitted += 1
                    budget.leave_open()
    assert admitted == limit / price
