"""A batch whose submits are answered in every shape: results at once, several tasks, failures, refunds."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import attrs
import pytest

from apimart_async import (
    AsyncApimart,
    Image,
    Job,
    Outcome,
    Poll,
    Task,
    TaskExpiredError,
    edit_many,
)
from apimart_async.batch import SqliteJournal
from apimart_async.batch.journal.opening import journal_path
from apimart_async.batch.report.statistics import Totals
from apimart_async.emulator import Emulator, Fault

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from apimart_async.batch import Record

JOBS = 30


@pytest.fixture
async def emulator() -> AsyncIterator[Emulator]:
    async with Emulator(task_seconds=0.02, images="tiny", variants=True) as running:
        yield running


@pytest.fixture
async def client(emulator: Emulator) -> AsyncIterator[AsyncApimart]:
    poll = Poll(first=0.02, shortest=0.02, longest=0.05)
    async with AsyncApimart(emulator.api_key, base_url=emulator.base_url, poll=poll) as connected:
        yield connected


async def run(client: AsyncApimart, jobs: list[Job], output: Path, **options: Any) -> list[Outcome]:
    async with edit_many(client, jobs, output=output, **options) as outcomes:
        return [outcome async for outcome in outcomes]


async def rows(output: Path) -> list[Record]:
    async with SqliteJournal(journal_path(output)) as journal:
        return [row async for row in journal.records()]


async def rewrite(output: Path, change: Callable[[Record], Record]) -> None:
    changed = [change(row) for row in await rows(output)]
    async with SqliteJournal(journal_path(output)) as journal:
        for row in changed:
            await journal.put(row)


def jobs_of(pictures: list[Path]) -> list[Job]:
    return [
        Job(pictures[number % 3], f"{'moderated' if number % 7 == 6 else 'stars'} {number}", n=1 + number % 3)
        for number in range(JOBS)
    ]


async def test_every_shape_is_saved_and_costs_are_those_of_the_ledger(
    client: AsyncApimart, emulator: Emulator, pictures: list[Path], tmp_path: Path
) -> None:
    jobs, output = jobs_of(pictures), tmp_path / "out"
    outcomes = await run(client, jobs, output)
    ledger = emulator.ledger
    assert {outcome.status for outcome in outcomes} == {"saved", "failed"}
    billed: dict[str | None, float] = {}
    for entry in ledger.entries:
        billed[entry.idempotency_key] = billed.get(entry.idempotency_key, 0.0) + entry.cost
    keys = {row.id: row.key for row in await rows(output)}
    unknown = 0.0
    for outcome in outcomes:
        cost = billed[keys[outcome.id]]
        assert (cost > 0) is (outcome.status == "saved")
        assert len(outcome.paths) == (outcome.job.n if cost else 0)
        if outcome.cost is None:
            # The answers in OpenAI's form have no cost.
            assert outcome.task
            assert "created" in outcome.task.raw
            unknown += cost
        else:
            assert outcome.cost == pytest.approx(cost)
    assert 0 < unknown < ledger.total
    known = pytest.approx(ledger.total - unknown)
    assert sum(outcome.cost or 0.0 for outcome in outcomes) == known
    totals = Totals()
    for outcome in outcomes:
        totals.add(outcome)
    assert totals.spent == known
    async with SqliteJournal(journal_path(output)) as journal:
        assert (await journal.tally()).spent == known
    lines = (output / "results.jsonl").read_text().splitlines()
    assert sum(json.loads(line)["cost"] or 0.0 for line in lines) == known
    assert sum(outcome.task is not None and outcome.task.id is None for outcome in outcomes) > 0

    again = await run(client, jobs, output)
    assert sorted(outcome.id for outcome in again) == sorted(outcome.id for outcome in outcomes)
    assert len(ledger.entries) == len(billed) + sum(bool(o.task and o.task.sibling_ids) for o in outcomes)
    assert not ledger.executed_more_than_once


async def test_a_reserved_cost_is_no_spending(
    client: AsyncApimart, emulator: Emulator, pictures: list[Path], tmp_path: Path
) -> None:
    submitted = await client.edits.create(pictures[0], "moderated")
    emulator.advance(1000)
    for _ in range(5):
        task = await client.tasks.get(submitted)
        assert (task.status, task.cost) == ("failed", 0.0)
    outcomes = await run(
        client, [Job(pictures[0], f"moderated {n}", n=3) for n in range(8)], tmp_path / "out", max_cost=0.05
    )
    assert [outcome.status for outcome in outcomes] == 8 * ["failed"]
    assert {outcome.cost for outcome in outcomes} <= {0.0, None}
    assert emulator.ledger.total == 0.0


# --- a result without a task ------------------------------------------------------------------------------


async def left_completed(client: AsyncApimart, job: Job, output: Path, expires: timedelta) -> Record:
    """Leave a job whose submit was answered with its result, as a crash before the download does."""
    await run(client, [job], output)
    (row,) = await rows(output)
    assert row.task
    result = await client.edits.create("https://pictures.example/a.jpg", "stars")
    while result.id is not None:
        result = await client.edits.create("https://pictures.example/a.jpg", "stars")
    images = tuple(attrs.evolve(image, expires_at=datetime.now(UTC) + expires) for image in result.images)
    left = attrs.evolve(result, images=images)
    await rewrite(output, lambda row: attrs.evolve(row.lost().completed(left), paths=()))
    return row


async def test_a_result_at_once_is_downloaded_after_a_crash(
    client: AsyncApimart, emulator: Emulator, pictures: list[Path], tmp_path: Path
) -> None:
    job, output = Job(pictures[0], "stars", name="red"), tmp_path / "out"
    await left_completed(client, job, output, timedelta(hours=1))
    (output / "red.jpg").unlink(missing_ok=True)
    executed = len(emulator.ledger.entries)
    (outcome,) = await run(client, [job], output)
    assert outcome.status == "saved"
    assert all(path.is_file() for path in outcome.paths)
    assert len(emulator.ledger.entries) == executed


async def test_a_result_without_a_task_whose_host_does_not_have_it_now_is_not_paid_again(
    client: AsyncApimart, emulator: Emulator, pictures: list[Path], tmp_path: Path
) -> None:
    job, output = Job(pictures[0], "stars", name="red"), tmp_path / "out"
    await left_completed(client, job, output, timedelta(hours=1))
    (output / "red.jpg").unlink(missing_ok=True)
    executed = len(emulator.ledger.entries)
    emulator.faults.add(Fault(kind="status", status=410, route="files"))
    statuses = [outcome.status for outcome in await run(client, [job, job], output, retry_failed=True)]
    assert statuses == ["unfinished"] * 2
    emulator.faults.clear()
    (outcome,) = await run(client, [job], output, retry_failed=True)
    assert outcome.status == "saved"
    assert len(emulator.ledger.entries) == executed


async def test_an_expired_result_without_a_task_is_not_paid_again(
    client: AsyncApimart, emulator: Emulator, pictures: list[Path], tmp_path: Path
) -> None:
    job, output = Job(pictures[0], "stars", name="red"), tmp_path / "out"
    await left_completed(client, job, output, timedelta(seconds=-1))
    executed = len(emulator.ledger.entries)
    (outcome,) = await run(client, [job], output)
    assert outcome.status == "failed"
    assert isinstance(outcome.error, TaskExpiredError)
    assert len(emulator.ledger.entries) == executed


def test_a_task_without_an_id_is_plain_data() -> None:
    task = Task(None, "completed", images=(Image("https://f.example/0"),))
    assert task.is_finished
    assert task.is_completed
