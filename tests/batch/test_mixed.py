"""300 mixed jobs with both services, killed in the middle and resumed: the ledger equals the report.

The addresses of the services come and go, answers have every shape in turn, and a few are lost. The report is
the journal, ``results.jsonl``, the statistics and the last progress. Two amounts are not in it, and it names
the jobs of both: jobs in doubt, whose request may have been billed, and jobs whose answer tells no cost.
"""

from __future__ import annotations

import json
import math
import random
import sys
from collections import Counter
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import attrs
import pytest
from anyio import to_thread
from PIL import Image

from apimart_async.batch import read_outcomes
from apimart_async.batch.journal.opening import journal_path
from apimart_async.batch.journal.sqlite import read_journal
from apimart_async.batch.report.statistics import Totals
from apimart_async.emulator import Emulator, Fault, Mirror

from . import mixed_run

if TYPE_CHECKING:
    from apimart_async.batch import Outcome, Record
    from apimart_async.emulator.faults import Kind, Place
    from apimart_async.emulator.ledger import Entry

APIMART, APPLEROUTER = 240, 60
PROMISING = {mixed_run.GROK, "gpt-image-2.5-flare"}
SUBMITS: tuple[Place, ...] = ("edits", "generations", "applerouter")
TASKS: tuple[Place, ...] = ("edits", "generations")


def faults_of(kind: Kind, *routes: Place, **details: Any) -> list[Fault]:
    return [Fault(kind=kind, route=route, probability=0.015, **details) for route in routes]


FAULTS = [
    *faults_of("status", *SUBMITS, status=429, retry_after=0.01),
    *faults_of("status", "uploads", "tasks", "tasks/batch", "files", status=503),
    *faults_of("disconnect", *SUBMITS, "uploads", "tasks", "files"),
    *faults_of("disconnect", *SUBMITS, executed=True),
    *faults_of("status", *SUBMITS, status=500, executed=True),
    *faults_of("truncated", *SUBMITS, "files"),
    *faults_of("no-id", *TASKS),
    *faults_of("get-channel-failed", *TASKS),
    *faults_of("task-failed", *TASKS),
    *faults_of("task-cancelled", *TASKS),
    *faults_of("task-partial", *TASKS),
]


@attrs.define
class Batches:
    """Both batches, run repeatedly, with one of three addresses unreachable at any time."""

    service: Emulator
    mirrors: list[Mirror]
    output: Path
    pictures: list[Path]
    has_all_addresses: bool = False

    async def run(self, in_doubt: str = "report", *, kill_after: float = math.inf) -> dict[str, Any]:
        """Return the last progress; kill the process after so many outcomes."""
        options = {
            "base_urls": [mirror.base_url for mirror in self.mirrors],
            "key": self.service.api_key,
            "output": str(self.output),
            "pictures": [str(picture) for picture in self.pictures],
            "apimart": APIMART,
            "applerouter": APPLEROUTER,
            "in_doubt": in_doubt,
        }
        command = [sys.executable, mixed_run.__file__, json.dumps(options)]
        said: dict[str, Any] = {}
        async with await anyio.open_process(command, stderr=None) as process:
            assert process.stdout
            seen, rest = 0, b""
            async for chunk in process.stdout:
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    said = json.loads(line)
                    seen += 1
                    if not self.has_all_addresses:
                        self.change_address(seen)
                if seen >= kill_after:
                    process.kill()
                    break
            await process.wait()
        assert (process.returncode == 0) is (kill_after == math.inf)
        return said

    def change_address(self, seen: int) -> None:
        """Close the next address, with the requests that are open there, and open the others."""
        down = self.mirrors[seen // 40 % len(self.mirrors)]
        for mirror in self.mirrors:
            if mirror is not down:
                mirror.start()
        down.stop()

    def rows(self, batch: str) -> list[Record]:
        return list(read_journal(journal_path(self.output / batch)))

    def in_doubt(self, promising: set[str]) -> set[str]:
        """Return the jobs in doubt of APIMart, but for those of some models."""
        rows = self.rows("apimart")
        return {row.id for row in rows if row.state == "in_doubt" and row.model not in promising}

    def entries(self, batch: str, row: Record) -> list[Entry]:
        """Return all executions of a job."""
        entries = [
            each
            for each in self.service.ledger.entries
            if (each.endpoint == "applerouter") is (batch == "applerouter")
        ]
        if batch == "applerouter":
            return [entry for entry in entries if entry.model == row.model]
        return [entry for entry in entries if entry.idempotency_key == row.key]


def cents(amount: float) -> int:
    """Return an amount in hundredths of a cent."""
    return round(amount * 10_000)


def compare(batches: Batches, batch: str, progress: dict[str, Any], jobs: int) -> Counter[str]:
    """Compare the reports of a batch with the ledger; return the number of jobs by status."""
    output = batches.output / batch
    outcomes: list[Outcome] = list(read_outcomes(output))
    rows = {row.id: row for row in batches.rows(batch)}
    assert len(rows) == len(outcomes) == jobs
    known = doubtful = untold = images = 0
    without_cost: set[str] = set()
    for outcome in outcomes:
        row, entries = rows[outcome.id], batches.entries(batch, rows[outcome.id])
        billed = cents(sum(entry.cost for entry in entries))
        if outcome.status == "in_doubt":
            doubtful += billed
            assert outcome.cost is None or not row.billable
            continue
        if outcome.status == "failed":
            assert (billed, cents(outcome.cost or 0)) == (0, 0), row
            continue
        assert outcome.status == "saved", row.error
        images += len(outcome.paths)
        assert len(outcome.paths) == sum(entry.images for entry in entries) > 0, row
        assert all((output / path).stat().st_size for path in outcome.paths)
        if outcome.has_unknown_cost:
            without_cost.add(outcome.id)
            untold += billed
            # Only the answers in OpenAI's form have no cost.
            assert batch == "applerouter" or (outcome.task and outcome.task.id is None)
        else:
            assert cents(outcome.cost or 0) == billed, row
            known += billed
    # The sum of the ledger is that of the report, but for the jobs that the report names.
    is_applerouter = batch == "applerouter"
    ledger = sum(
        cents(entry.cost)
        for entry in batches.service.ledger.entries
        if (entry.endpoint == "applerouter") is is_applerouter
    )
    assert ledger == known + untold + doubtful
    totals = Totals()
    for outcome in outcomes:
        totals.add(outcome)
    assert (cents(totals.spent), totals.unknown_costs, totals.files) == (known, len(without_cost), images)
    lines = [json.loads(line) for line in (output / "results.jsonl").read_text(encoding="utf-8").splitlines()]
    assert {line["id"]: line["status"] for line in lines} == {each.id: each.status for each in outcomes}
    assert cents(sum(line["cost"] or 0.0 for line in lines)) == known
    assert sum(len(line["paths"]) for line in lines) == images
    assert (cents(progress["spent"]), progress["unknown_costs"]) == (known, len(without_cost))
    assert {state: progress[state] for state in ("saved", "failed", "in_doubt", "unfinished")} == {
        state: totals.statuses[state] for state in ("saved", "failed", "in_doubt", "unfinished")
    }
    return Counter({str(status): number for status, number in totals.statuses.items()})


@pytest.mark.long
@pytest.mark.may_block  # it reads the journals of others
@pytest.mark.parametrize("seed", [1, 2])
async def test_the_report_of_mixed_jobs_equals_the_ledger_after_a_kill(tmp_path: Path, seed: int) -> None:
    source = random.Random(seed)
    pictures = [tmp_path / f"{name}.png" for name in ("red", "green", "blue")]
    for path in pictures:
        await to_thread.run_sync(partial(Image.new("RGBA", (16, 16), path.stem).save, path))
    async with AsyncExitStack() as stack:
        service = await stack.enter_async_context(
            Emulator(seed=seed, task_seconds=0.05, images="tiny", variants=True, faults=FAULTS)
        )
        mirrors = [await stack.enter_async_context(service.mirror()) for _ in range(3)]
        batches = Batches(service, mirrors, tmp_path / "out", pictures)
        counted = {"apimart": APIMART, "applerouter": APPLEROUTER}

        def check(progress: dict[str, Any]) -> dict[str, Counter[str]]:
            assert not service.ledger.executed_more_than_once
            assert not service.key_leaks
            return {name: compare(batches, name, progress[name], jobs) for name, jobs in counted.items()}

        await batches.run(kill_after=source.randint(60, 200))
        assert not (batches.output / "apimart" / "results.jsonl").exists(), "it was not killed in the middle"
        found = check(await batches.run())
        for counts in found.values():
            assert counts.keys() == {"saved", "failed", "in_doubt"}
            assert counts["saved"] > counts.total() / 4

        entries = len(service.ledger.entries)
        assert check(await batches.run()) == found
        assert len(service.ledger.entries) == entries, "a finished batch was paid for again"

        service.faults.clear()
        batches.has_all_addresses = True
        for mirror in mirrors:
            mirror.start()
        # A promise may end early: an answer to a repeat is no replay if the first request was not executed.
        unpromised = batches.in_doubt(PROMISING)
        check(await batches.run("collect"))
        assert batches.in_doubt(PROMISING) == unpromised
        # The emulator keeps every key, so all others can be sent again without paying twice.
        resolved = check(await batches.run("resubmit"))
        assert resolved["apimart"]["in_doubt"] == 0
        assert resolved["applerouter"] == found["applerouter"], "it has no keys"
