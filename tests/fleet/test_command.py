"""`apimart batch --journal postgresql://…` and `apimart batch status --journal …`, as a user runs them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import asyncpg
import pytest
from anyio import open_process, run_process, sleep, to_thread

from apimart_async import InvalidArgumentError, Job, JournalError
from apimart_async.batch import read_outcomes
from apimart_async.batch.journal.postgres import PostgresJournal
from apimart_async.batch.journal.record import Record
from apimart_async.emulator import Emulator

from .photo import PNG

if TYPE_CHECKING:
    from pathlib import Path

# The test starts processes.
pytestmark = pytest.mark.may_block


def environment(emulator: Emulator, **variables: str) -> dict[str, str]:
    service = {"APIMART_API_KEY": emulator.api_key, "APIMART_BASE_URL": emulator.base_url}
    return os.environ | service | variables


async def apimart(*arguments: object, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "apimart_async", *map(str, arguments)]

    def run() -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, env=env, capture_output=True, text=True, check=False)

    return await to_thread.run_sync(run)


def with_password(url: str) -> str:
    return url.replace("postgres@", "postgres:hunter2@")


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """A manifest of four edits."""
    (tmp_path / "photo.png").write_bytes(PNG)
    path = tmp_path / "jobs.csv"
    path.write_text("image,prompt,id\n" + "".join(f"photo.png,prompt {n},{n}\n" for n in range(4)))
    return path


async def test_a_batch_with_the_journal_of_an_url_is_paid_once(
    url: str, manifest: Path, tmp_path: Path, emulator: Emulator
) -> None:
    env = environment(emulator)
    for directory in ("first", "second"):
        run = await apimart(
            "batch", manifest, "-o", tmp_path / directory, "--journal", with_password(url), env=env
        )
        assert run.returncode == 0, run.stderr
        assert "hunter2" not in run.stdout + run.stderr
        assert not (tmp_path / directory / ".batch" / "journal.sqlite3").exists()
    assert len(emulator.ledger.billed) == 4
    status = await apimart("batch", "status", env=environment(emulator, APIMART_JOURNAL=with_password(url)))
    assert status.returncode == 0, status.stderr
    assert "saved:               4" in status.stdout
    assert {outcome.status for outcome in read_outcomes(tmp_path, journal=url)} == {"saved"}


async def test_a_check_reads_the_journal_in_the_database(
    url: str, manifest: Path, tmp_path: Path, emulator: Emulator
) -> None:
    arguments = ("batch", manifest, "-o", tmp_path / "out", "--journal", url)
    before = await apimart(*arguments, "--check", env=environment(emulator))
    assert before.returncode == 0, before.stderr
    assert (await apimart(*arguments, env=environment(emulator))).returncode == 0
    after = await apimart(*arguments, "--check", "--json", env=environment(emulator))
    assert '"saved":4' in after.stdout.replace(" ", "")


async def test_a_database_without_a_journal_is_not_changed_by_reading(url: str, tmp_path: Path) -> None:
    for _ in range(2):
        with pytest.raises(JournalError, match="There is no journal at"):
            list(read_outcomes(tmp_path, journal=url))


async def test_a_worker_reads_a_manifest_as_a_batch_does(
    url: str, manifest: Path, tmp_path: Path, emulator: Emulator
) -> None:
    rows = f"image,prompt\n{tmp_path / 'photo.png'},Snow\nmissing.png,Snow\n"
    inside = tmp_path / "inside"
    inside.mkdir()
    (inside / "jobs.csv").write_text(rows)
    out = ("-o", tmp_path / "out", "--journal", url)
    refused = await apimart("fleet", "work", inside / "jobs.csv", *out, env=environment(emulator))
    assert (refused.returncode, emulator.ledger.billed) == (2, [])
    assert "--allow-outside" in refused.stderr
    rights = ("--allow-outside", "--skip-bad", "-n", "2")
    work = await apimart("fleet", "work", inside / "jobs.csv", *out, *rights, env=environment(emulator))
    assert (work.returncode, work.stdout.count("\n")) == (1, 2), work.stderr
    assert "1 of 2 rows cannot be done, left out" in work.stderr
    with manifest.open() as file:
        command = [sys.executable, "-m", "apimart_async", "fleet", "work", "-", *map(str, out)]
        piped = await run_process(command, stdin=file, env=environment(emulator), cwd=tmp_path)
    assert piped.stdout.count(b"\n") == 4


async def test_a_worker_without_a_database_sends_nothing(
    url: str, manifest: Path, tmp_path: Path, emulator: Emulator
) -> None:
    elsewhere = f"{url}_missing"
    work = await apimart(
        "fleet", "work", manifest, "-o", tmp_path / "out", "--journal", elsewhere, env=environment(emulator)
    )
    assert (work.returncode, work.stdout, len(emulator.ledger.billed)) == (2, "", 0)
    assert "does not exist" in work.stderr


async def test_jobs_of_another_process_are_not_called_paid(
    url: str, manifest: Path, tmp_path: Path, emulator: Emulator
) -> None:
    async with PostgresJournal(url) as other:
        job = Job("photo.png", "prompt 0", id="0")
        described = Record.describe(job, "grok-imagine-1.0-edit-apimart", job_id=job.id)
        assert await other.begin(described.intent("key", 0.0), None)
        out = ("-o", tmp_path / "out", "--journal", url)
        batch = await apimart("batch", manifest, *out, env=environment(emulator))
    assert batch.returncode == 1
    assert "1 are with other processes that share the journal." in batch.stderr
    assert "3 of 4 jobs saved" in batch.stderr
    assert "paid for" not in batch.stderr
    assert "unknown cost" not in batch.stderr


async def test_a_worker_counts_the_jobs_that_it_has_not_started(
    url: str, manifest: Path, tmp_path: Path, emulator: Emulator
) -> None:
    command = ("fleet", "work", manifest, "-o", tmp_path / "out", "--journal", url, "--max-cost", "0.03")
    work = await apimart(*command, env=environment(emulator))
    assert work.returncode == 1
    assert "raise --max-cost or leave it out, then run it again to continue." in work.stderr
    assert "2 saved, 2 not ended in this run." in work.stderr


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (("-n", "99"), "apimart: n must be a whole number from 1 to 10, not 99.\n"),
        (("--max-cost", "0"), "apimart: --max-cost must be more than 0 USD, not 0.\n"),
    ],
)
async def test_options_of_a_worker_are_checked_as_those_of_a_batch(
    manifest: Path, tmp_path: Path, emulator: Emulator, words: tuple[str, ...], part: str
) -> None:
    command = ("fleet", "work", manifest, "-o", tmp_path / "out", "--journal", "postgresql://host/database")
    work = await apimart(*command, *words, env=environment(emulator))
    assert (work.returncode, work.stderr) == (2, part)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
async def test_a_worker_that_is_interrupted_says_so_by_its_exit_code(
    url: str, manifest: Path, tmp_path: Path
) -> None:
    rows = "".join(f"photo.png,prompt {n},{n}\n" for n in range(40))
    await to_thread.run_sync(manifest.write_text, f"image,prompt,id\n{rows}")
    command = ("fleet", "work", manifest, "-o", tmp_path / "out", "--journal", url, "--in-flight", "1")
    async with Emulator(task_seconds=1, images="tiny") as service:
        words = [sys.executable, "-m", "apimart_async", *map(str, command)]
        async with await open_process(words, env=environment(service), stdout=subprocess.DEVNULL) as worker:
            while not service.ledger.entries:  # noqa: ASYNC110 the emulator has no event for it
                await sleep(0.05)
            worker.send_signal(signal.SIGTERM)
            assert worker.stderr
            said = b"".join([part async for part in worker.stderr]).decode()
            assert await worker.wait() == 130
    saved = len(service.ledger.billed)
    assert f"{saved} saved, {40 - saved} not ended in this run." in said
    assert "The worker was interrupted; the same command continues." in said


@pytest.mark.parametrize("limit", ["0", "-1", "nan", "inf", "1e-300"])
def test_a_rate_that_is_none_is_refused(limit: str) -> None:
    with pytest.raises(InvalidArgumentError, match="requests_per_second must be more than 0"):
        PostgresJournal("postgresql://host/database", requests_per_second=float(limit))


@pytest.mark.parametrize("lease", ["1", "nan", "inf", "1e10"])
def test_a_lease_that_is_none_is_refused(lease: str) -> None:
    with pytest.raises(InvalidArgumentError, match="lease must be 2 to 86400 seconds"):
        PostgresJournal("postgresql://host/database", lease=float(lease))


async def test_the_status_of_a_fleet_with_infinite_times_is_json(url: str, emulator: Emulator) -> None:
    async with PostgresJournal(url):
        pass
    connection = await asyncpg.connect(url)
    await connection.execute(
        "INSERT INTO apimart_workers (id, lease_until, host, started_at) "
        "VALUES (gen_random_uuid(), 'infinity', 'evil', '-infinity')"
    )
    await connection.close()
    status = await apimart("fleet", "status", "--journal", url, "--json", env=environment(emulator))
    (worker,) = json.loads(status.stdout, parse_constant=pytest.fail)["workers"]
    assert (worker["seconds"], worker["lease"]) == (None, None)


@pytest.mark.parametrize("secret", ["hunter2/slash", "hunter2#hash", "hunter2?question", "hunter2:colon"])
async def test_a_malformed_url_is_refused_without_its_password(secret: str, tmp_path: Path) -> None:
    url = f"postgresql://me:{secret}@127.0.0.1:1/database"
    with pytest.raises((InvalidArgumentError, JournalError)) as raised:
        list(read_outcomes(tmp_path, journal=url))
    assert "hunter2" not in str(raised.value)
    with pytest.raises((InvalidArgumentError, JournalError)) as raised:
        await PostgresJournal(url).__aenter__()
    assert "hunter2" not in str(raised.value)


async def test_another_scheme_and_a_local_emulator_are_refused(
    manifest: Path, tmp_path: Path, emulator: Emulator
) -> None:
    out = ("batch", manifest, "-o", tmp_path / "out")
    mysql = await apimart(*out, "--journal", "mysql://me:hunter2@host/db", env=environment(emulator))
    local = await apimart(
        *out, "--local", "--journal", "postgresql://me:hunter2@host/db", env=environment(emulator)
    )
    assert (mysql.returncode, local.returncode) == (2, 2)
    assert "hunter2" not in mysql.stderr + local.stderr
