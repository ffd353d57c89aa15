"""`apimart batch` and earlier runs: it claims nothing about jobs not seen, and pays for none twice."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from apimart_async.batch.journal.sqlite import SqliteJournal
from apimart_async.emulator import Fault

if TYPE_CHECKING:
    from pathlib import Path

    from apimart_async.emulator import Emulator

    from .conftest import Command, Finished

NAMES = ("a", "b", "c")


@pytest.fixture
async def saved(apimart: Command, photo: Path) -> Finished:
    """A batch of three saved jobs in the folder ``out``."""
    shutil.copy(photo, apimart.directory / "photo")
    write_manifest(apimart, {name: f"Stars {name}" for name in NAMES})
    done = await apimart("batch", "jobs.csv", "-o", "out")
    assert done.code == 0
    return done


def write_manifest(apimart: Command, prompts: dict[str, str]) -> None:
    rows = "".join(f"{name},photo,{prompt}\n" for name, prompt in prompts.items())
    (apimart.directory / "jobs.csv").write_text(f"id,image,prompt\n{rows}")


@pytest.mark.usefixtures("saved")
async def test_a_batch_that_cannot_start_counts_no_jobs(apimart: Command, emulator: Emulator) -> None:
    journal = apimart.directory / "out" / ".batch" / "journal.sqlite3"
    async with SqliteJournal(journal):
        in_use = await apimart("batch", "jobs.csv", "-o", "out")
    mistaken = await apimart("batch", "jobs.csv", "-o", "out", APIMART_CHECK="no")
    journal.write_bytes(b"no database" * 1000)
    damaged = await apimart("batch", "jobs.csv", "-o", "out")

    reasons = ("another batch is running", "APIMART_CHECK must be 'schema' or 'off'", "out/.batch/journal")
    for done, reason in zip((in_use, mistaken, damaged), reasons, strict=True):
        assert (done.code, done.results) == (2, [])
        assert reason in done.stderr
        assert "jobs saved" not in done.stderr
        assert "Continue with" not in done.stderr
    assert len(emulator.ledger.entries) == 3


@pytest.mark.usefixtures("saved")
async def test_jobs_that_earlier_runs_have_saved_are_not_called_undone(apimart: Command) -> None:
    new = {f"new{number}": f"Snow {number}" for number in range(300)}
    write_manifest(apimart, new | {name: f"Stars {name}" for name in NAMES})
    done = await apimart("batch", "jobs.csv", "-o", "out", "--max-cost", "0.05", "--in-flight", "1")

    assert done.code == 1
    assert "0 of 303 jobs saved in out, 303 not ended in this run; " in done.stderr
    assert "`apimart batch status` counts all jobs that are saved, paid for or in doubt" in done.stderr
    status = await apimart("batch", "status", "out", "--json")
    assert status.records[0]["saved"] == 3


@pytest.mark.usefixtures("saved")
async def test_a_changed_row_under_a_used_id_is_not_to_be_retried(
    apimart: Command, emulator: Emulator
) -> None:
    write_manifest(apimart, {"a": "Stars a", "b": "Rain"})
    done = await apimart("batch", "jobs.csv", "-o", "out")

    assert done.code == 1
    assert "b: The id 'b' belongs to another image, prompt" in done.stderr
    assert "1 cannot be submitted as they are: change them. --check lists the reasons." in done.stderr
    assert "--retry-failed" not in done.stderr
    assert "results.jsonl" not in done.stderr
    checked = await apimart("batch", "jobs.csv", "-o", "out", "--check")
    assert "line 3: Its id b is that of another image, prompt" in checked.stdout
    assert len(emulator.ledger.entries) == 3


async def test_the_command_that_continues_a_batch_cannot_pay_twice(
    apimart: Command, emulator: Emulator, photo: Path
) -> None:
    shutil.copy(photo, apimart.directory / "photo")
    write_manifest(apimart, {name: f"Stars {name}" for name in NAMES})
    emulator.faults.add(Fault(kind="disconnect", route="edits", executed=True, times=1))
    command = ("batch", "jobs.csv", "-o", "out")
    assert "1 in doubt" in (await apimart(*command)).stderr

    unsafe = ("--resubmit-unsafe", "--retry-missing")
    stopped = await apimart(*command, *unsafe, APIMART_API_KEY="sk-another")
    *_, advice, continuing = stopped.stderr.splitlines()
    assert (advice, continuing) == ("Continue with:", "  apimart batch jobs.csv -o out")
    assert "1 in doubt" in (await apimart(*continuing.split()[1:])).stderr
    assert len(emulator.ledger.entries) == 3


@pytest.mark.usefixtures("saved")
async def test_results_without_their_journal_are_not_paid_for_again(
    apimart: Command, emulator: Emulator
) -> None:
    output = apimart.directory / "out"
    (output / ".batch").rename(apimart.directory / "left-behind")  # as `cp out/*` leaves it
    command = ("batch", "jobs.csv", "-o", "out")
    for done in (await apimart(*command), await apimart(*command, "--check")):
        assert done.code == 2
        assert (
            "journal out/.batch/journal.sqlite3 is not there, so they would be paid for again" in done.stderr
        )
    assert len(emulator.ledger.entries) == 3

    named = await apimart(*command, "--journal", "left-behind/journal.sqlite3")
    assert named.code == 0
    assert len(emulator.ledger.entries) == 3
    (output / "results.jsonl").unlink()
    assert (await apimart(*command)).code == 0
    assert len(emulator.ledger.entries) == 6
