"""Kill a batch with SIGKILL repeatedly, and compare the ledger with its results in the end.

A few moments with one seed always run. `nox -s crash` runs 40 moments with each of 3 seeds.
"""

from __future__ import annotations

import json
import os
import random
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import attrs
import pytest
from anyio.streams.text import TextReceiveStream

from apimart_async.batch.journal.opening import journal_path
from apimart_async.batch.journal.sqlite import read_journal
from apimart_async.emulator import Emulator, Fault
from apimart_async.errors import JournalError

from . import crash_run

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from apimart_async.batch import Record

pytestmark = pytest.mark.may_block  # it reads the journals of others

MOMENTS = int(os.environ.get("CRASH_MOMENTS", "5"))
SEEDS = [int(seed) for seed in os.environ.get("CRASH_SEEDS", "1").split(",")]
JOBS = 300
POINTS = [
    f"{when} {what}"
    for what in ("upload", "intent", "submitted", "completed", "saved")
    for when in ("before", "after")
]


@pytest.fixture
async def service() -> AsyncIterator[Emulator]:
    async with Emulator(task_seconds=0.05, images="tiny") as running:
        yield running


@attrs.frozen
class Batch:
    """A batch that is run repeatedly."""

    service: Emulator
    output: Path
    pictures: list[Path]
    count: int
    is_mixed: bool = False
    cut_off: set[str] = attrs.field(factory=set[str])

    @property
    def arguments(self) -> list[str]:
        words = [self.service.base_url, self.service.api_key, self.output, *self.pictures]
        return [*map(str, words), f"--count={self.count}", *(["--mixed"] if self.is_mixed else [])]

    async def run_and_kill_when(self, condition: Callable[[], object], *options: str) -> None:
        """Kill the batch as soon as the condition holds."""
        command = [sys.executable, crash_run.__file__, *self.arguments, *options]
        async with await anyio.open_process(command, stdout=None, stderr=None) as process:
            while not condition():  # noqa: ASYNC110 the condition is no event
                await anyio.sleep(0.01)
            process.kill()
            await process.wait()

    async def run_and_kill(self, *options: str, until: float | None = None) -> list[str]:
        """Run the batch, kill it after some seconds or let it kill itself, and return its output."""
        command = [sys.executable, crash_run.__file__, *self.arguments, *options]
        process = await anyio.open_process(command, stderr=None)
        async with process:
            assert process.stdout
            said = ""
            with anyio.move_on_after(None) as patience:
                async for text in TextReceiveStream(process.stdout):
                    said += text
                    if "begun" in said and until is not None and patience.deadline == float("inf"):
                        patience.deadline = anyio.current_time() + until
            if patience.cancelled_caught:
                process.kill()
            await process.wait()
        self.cut_off.update(row.id for row in self.rows() if row.state == "intent")
        return said.splitlines()

    async def finish(self) -> None:
        """Run the batch to its end, in this process."""
        self.check(await crash_run.run(crash_run.parse(self.arguments)))

    def rows(self) -> list[Record]:
        try:
            return list(read_journal(journal_path(self.output)))
        except JournalError:  # killed before there was one
            return []

    def check(self, said: dict[str, Any]) -> None:
        """Compare the last run, the journal, the folder and the ledger."""
        rows = {row.id: row for row in self.rows()}
        saved = [row for row in rows.values() if row.state == "saved"]
        in_doubt = {row.id for row in rows.values() if row.state == "in_doubt"}
        # Every job is saved, or was cut off between intent and answer.
        assert len(saved) + len(in_doubt) == len(rows) == self.count
        assert in_doubt == self.cut_off
        assert said["in_doubt"] == sorted(in_doubt)
        # Exactly once.
        files = [path for row in saved for path in row.paths]
        assert len(files) == len(set(files)) == sum(row.n for row in saved)
        assert {path.name for path in self.output.iterdir() if path.suffix in {".png", ".jpg"}} == set(files)
        # The ledger has no execution that the journal lacks, and none twice.
        ledger = self.service.ledger
        assert ledger.executed_more_than_once == {}
        keys = {row.key: row for row in rows.values()}
        mine = [entry for entry in ledger.entries if entry.idempotency_key in keys]
        assert {entry.idempotency_key for entry in mine} >= {row.key for row in saved}
        for entry in mine:
            row = keys[entry.idempotency_key]
            assert row.state == "in_doubt" or (row.task and row.task.id == entry.task_id)
        lines = (self.output / "results.jsonl").read_text().splitlines()
        assert sorted(json.loads(line)["id"] for line in lines) == sorted(rows)


@pytest.mark.long
@pytest.mark.timeout(600 + 60 * MOMENTS)
@pytest.mark.parametrize("seed", SEEDS)
async def test_a_batch_that_is_killed_at_random_moments(
    service: Emulator, tmp_path: Path, pictures: list[Path], seed: int
) -> None:
    source = random.Random(seed)
    batches = [Batch(service, tmp_path / f"batch-{seed}-0", pictures, JOBS)]
    for _ in range(MOMENTS):
        said = await batches[-1].run_and_kill(until=source.uniform(0.0, 0.7))
        if len(said) > 1:  # it had ended before
            batches[-1].check(json.loads(said[-1]))
            batches.append(Batch(service, tmp_path / f"batch-{seed}-{len(batches)}", pictures, JOBS))
    await batches[-1].finish()
    assert len(service.ledger.entries) == len({entry.idempotency_key for entry in service.ledger.entries})


@pytest.mark.parametrize("point", POINTS)
async def test_a_batch_that_is_killed_at_a_named_point(
    service: Emulator, tmp_path: Path, pictures: list[Path], point: str
) -> None:
    batch = Batch(service, tmp_path / "batch", pictures, 12)
    said = await batch.run_and_kill(f"--point={point}", "--occurrence=2")
    assert said == ["begun"], "was not killed"
    counted = {row.state for row in batch.rows()}
    when, what = point.split()
    if when == "after" and what != "upload":
        assert what in counted
    await batch.finish()


@pytest.mark.long
@pytest.mark.parametrize("point", ["after intent", "after submitted", "before completed", "before saved"])
async def test_a_batch_of_every_operation_that_is_killed_at_a_named_point(
    service: Emulator, tmp_path: Path, pictures: list[Path], point: str
) -> None:
    batch = Batch(service, tmp_path / "batch", pictures, 18, is_mixed=True)
    said = await batch.run_and_kill(f"--point={point}", "--occurrence=5", "--in-flight=6")
    assert said == ["begun"], "was not killed"
    await batch.finish()
    rows, ledger = {row.key: row for row in batch.rows()}, service.ledger
    assert {entry.idempotency_key for entry in ledger.entries} <= rows.keys()
    for entry in ledger.entries:
        row = rows[entry.idempotency_key]
        is_edit = row.model == "grok-imagine-1.0-edit-apimart"
        assert (entry.endpoint, entry.model) == ("edits" if is_edit else "generations", row.model)
        assert entry.operation == (row.operation if row.operation in {"segment", "region_edit"} else None)
        assert row.cost == pytest.approx(entry.cost) or row.state == "in_doubt"
        assert (entry.cost == 0) is (row.operation == "segment")


async def test_jobs_that_wait_for_the_rate_limiter_are_not_in_doubt_after_a_kill(
    service: Emulator, tmp_path: Path, pictures: list[Path]
) -> None:
    batch = Batch(service, tmp_path / "batch", pictures, 24)
    service.faults.add(Fault(kind="hang", route="edits", executed=True, seconds=600))
    # Two submits are never answered, and the rate limiter lets no other begin.
    await batch.run_and_kill_when(lambda: len(service.ledger.entries) == 2, "--requests=2")
    sent = {entry.idempotency_key for entry in service.ledger.entries}
    assert {row.key for row in batch.rows()} == sent
    assert len(sent) == 2


@pytest.mark.long
async def test_jobs_that_were_refused_are_not_in_doubt_after_a_kill(
    service: Emulator, tmp_path: Path, pictures: list[Path]
) -> None:
    batch = Batch(service, tmp_path / "batch", pictures, 24)
    service.faults.add(Fault(kind="status", route="edits", status=429))
    # The first of each job are under way at once; after that, one at a time.
    await batch.run_and_kill_when(lambda: service.counts["edits"] >= 26)
    assert len(batch.rows()) <= 1
    assert not service.ledger.entries
    service.faults.clear()
    batch.cut_off.update(row.id for row in batch.rows())
    await batch.finish()
