"""A run continues an earlier one: expired URLs, lost tasks, failed uploads."""

from __future__ import annotations

import json
import os
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import attrs
import pytest

from apimart_async import (
    AsyncApimart,
    AsyncAppleRouter,
    BadRequestError,
    InternalServerError,
    Job,
    JournalError,
    Outcome,
    Poll,
    Task,
    TaskExpiredError,
    edit_many,
)
from apimart_async.batch import SqliteJournal
from apimart_async.batch.journal.opening import journal_path
from apimart_async.emulator.faults import Fault

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from apimart_async.batch import Record
    from apimart_async.emulator import Emulator


async def run(client: AsyncApimart, jobs: list[Job], output: Path, **options: Any) -> list[Outcome]:
    async with edit_many(client, jobs, output=output, **options) as outcomes:
        return [outcome async for outcome in outcomes]


async def rewrite(output: Path, change: Callable[[Record], Record]) -> None:
    async with SqliteJournal(journal_path(output)) as journal:
        for row in [row async for row in journal.records()]:
            await journal.put(change(row))


async def completed(client: AsyncApimart, output: Path, job: Job) -> Task:
    """Leave a job as a crash between its task's end and its download does."""
    (outcome,) = await run(client, [job], output)
    assert outcome.task
    task = await client.tasks.get(outcome.task)
    await anyio.Path(outcome.paths[0]).unlink()
    return task


@pytest.mark.parametrize("how", ["expired", "gone", "unknown"])
async def test_a_task_whose_addresses_are_no_good_is_fetched_again(
    client: AsyncApimart, emulator: Emulator, pictures: list[Path], tmp_path: Path, how: str
) -> None:
    job, output = Job(pictures[0], "prompt"), tmp_path / "out"
    task = await completed(client, output, job)
    (image,) = task.images
    changes: dict[str, dict[str, Any]] = {
        "expired": {"expires_at": datetime.now(UTC) - timedelta(seconds=1)},
        "gone": {"url": image.url.replace("/image_", "/no_image_")},
        "unknown": {},
    }
    left = attrs.evolve(task, images=(attrs.evolve(image, **changes[how]),) if changes[how] else ())
    await rewrite(output, lambda row: row.lost().completed(left))
    before = emulator.counts["tasks"]
    (outcome,) = await run(client, [job], output)
    assert (outcome.status, outcome.resumed) == ("saved", True)
    assert outcome.paths[0].is_file()
    assert emulator.counts["tasks"] == before + 1
    assert emulator.counts["edits"] == 1


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410])
async def test_a_refused_url_of_a_result_is_replaced_by_a_fresh_one(
    client: AsyncApimart, emulator: Emulator, pictures: list[Path], tmp_path: Path, status: int
) -> None:
    emulator.faults.add(Fault(kind="status", route="files", status=status, times=1))
    (outcome,) = await run(client, [Job(pictures[0], "prompt")], tmp_path / "out")
    assert outcome.status == "saved"
    assert emulator.counts["edits"] == 1


@pytest.mark.parametrize("state", ["completed", "submitted"])
async def test_a_job_whose_task_is_unknown_is_submitted_again_only_with_retry_missing(
    client: AsyncApimart, emulator: Emulator, pictures: list[Path], tmp_path: Path, state: str
) -> None:
    job, output = Job(pictures[0], "prompt"), tmp_path / "out"
    await completed(client, output, job)
    # Without a key it is no submit of this package, and two answers are enough.
    gone = Task("task_of_another_time", "submitted")
    await rewrite(output, lambda row: row.completed(gone) if state == "completed" else row.submitted(gone))
    for options in ({}, {"retry_failed": True}, {"in_doubt": "resubmit"}):
        (outcome,) = await run(client, [job], output, **options)
        assert outcome.status == "unfinished"
        assert isinstance(outcome.error, TaskExpiredError)
        assert outcome.task
        assert outcome.task.id == gone.id
        assert emulator.counts["edits"] == 1
    (outcome,) = await run(client, [job], output, retry_missing=True)
    assert (outcome.status, outcome.resumed) == ("saved", True)
    assert emulator.counts["edits"] == 2
    assert len(emulator.ledger.entries) == 2


@pytest.mark.parametrize("ending", ["unknown", "failed"])
async def test_a_run_with_another_folder_loses_no_saved_job(
    client: AsyncApimart, emulator: Emulator, pictures: list[Path], tmp_path: Path, ending: str
) -> None:
    """A mistyped folder, or one that is not mounted, while the service has forgotten the results."""
    job, output, journal = Job(pictures[0], "prompt"), tmp_path / "out", journal_path(tmp_path / "out")
    (saved,) = await run(client, [job], output)
    if ending == "unknown":
        forgotten = Task("task_of_another_time", "submitted")
    else:
        emulator.faults.add(Fault(kind="task-expired", route="edits"))
        forgotten = await client.edits.create(pictures[1], "prompt")
        with pytest.raises(TaskExpiredError):
            await client.tasks.wait(forgotten)
    await rewrite(output, lambda row: attrs.evolve(row, task=forgotten))
    submits = emulator.counts["edits"]
    for options in ({}, {"retry_failed": True}):
        (outcome,) = await run(client, [job], tmp_path / "other", journal=journal, **options)
        assert (outcome.status, outcome.paths) == ("unfinished", ())
        assert str(tmp_path / "other") in str(outcome.error)
    (again,) = await run(client, [job], output, journal=journal, retry_failed=True)
    assert (again.status, again.paths) == ("saved", saved.paths)
    (line,) = (output / "results.jsonl").read_text().splitlines()
    assert json.loads(line)["paths"] == [saved.paths[0].name]
    assert emulator.counts["edits"] == submits


async def test_results_of_applerouter_in_another_folder_are_not_paid_for_again(
    emulator: Emulator, pictures: list[Path], tmp_path: Path
) -> None:
    """AppleRouter keeps no results: once moved, they are nowhere else."""
    job, output, moved = Job(pictures[0], "prompt", model="gpt-image-2"), tmp_path / "out", tmp_path / "moved"
    async with AsyncAppleRouter(emulator.api_key, base_url=emulator.base_url) as client:

        async def outcome_of(**options: Any) -> Outcome:
            async with edit_many(client, [job], output=output, **options) as outcomes:
                return await anext(outcomes)

        (path,) = (await outcome_of()).paths
        path.rename(moved)
        for options in ({}, {"retry_failed": True}):
            assert (await outcome_of(**options)).status == "unfinished"
        moved.rename(path)
        assert (await outcome_of()).paths == (path,)
    assert emulator.counts["applerouter"] == 1


async def test_a_refused_resubmit_keeps_the_missing_task(
    client: AsyncApimart, emulator: Emulator, pictures: list[Path], tmp_path: Path
) -> None:
    job, output = Job(pictures[0], "prompt"), tmp_path / "out"
    await completed(client, output, job)
    gone = Task("task_of_another_time", "submitted")
    await rewrite(output, lambda row: row.submitted(gone))
    emulator.faults.add(Fault(kind="status", route="edits", status=400))
    (outcome,) = await run(client, [job], output, retry_missing=True)
    assert outcome.status == "unfinished"
    assert isinstance(outcome.error, BadRequestError)
    assert outcome.task
    assert outcome.task.id == gone.id


async def test_a_resubmit_in_doubt_keeps_the_missing_task(
    client: AsyncApimart, emulator: Emulator, pictures: list[Path], tmp_path: Path
) -> None:
    job, output = Job(pictures[0], "prompt"), tmp_path / "out"
    await completed(client, output, job)
    gone = Task("task_of_another_time", "submitted")
    await rewrite(output, lambda row: row.submitted(gone))
    emulator.faults.add(Fault(kind="disconnect", route="edits", executed=True))
    (outcome,) = await run(client, [job], output, retry_missing=True)
    (again,) = await run(client, [job], output, retry_missing=True)
    for found in (outcome, again):
        assert found.status == "in_doubt"
        assert found.task
        assert found.task.id == gone.id
    assert emulator.counts["edits"] == 2  # with that of the first run


@pytest.mark.parametrize("state", ["completed", "submitted"])
async def test_a_page_of_a_gateway_with_404_loses_no_task(
    client: AsyncApimart, emulator: Emulator, pictures: list[Path], tmp_path: Path, state: str
) -> None:
    job, output = Job(pictures[0], "prompt"), tmp_path / "out"
    task = await completed(client, output, job)
    left = attrs.evolve(task, status="submitted", images=())
    await rewrite(output, lambda row: row.completed(left) if state == "completed" else row.submitted(left))
    emulator.faults.add(Fault(kind="html", route="tasks", status=404))
    options = {"retry_failed": True, "retry_missing": True, "timeout": 1.0}
    (outcome,) = await run(client, [job], output, **options)
    assert outcome.status == "unfinished"
    emulator.faults.clear()
    (outcome,) = await run(client, [job], output, **options)
    assert outcome.status == "saved"
    assert emulator.counts["edits"] == 1


@pytest.mark.long
async def test_a_failed_upload_fails_for_all_waiting_jobs_and_is_tried_by_the_next_run(
    client: AsyncApimart, emulator: Emulator, pictures: list[Path], tmp_path: Path
) -> None:
    async def key() -> str:
        await anyio.sleep(1.5)  # all jobs are waiting for the upload when it is sent
        return emulator.api_key

    impatient = client.with_options(api_key=key, max_retries=0)
    emulator.faults.add(Fault(kind="status", route="uploads", status=500))
    jobs = [Job(pictures[0], f"prompt {number}") for number in range(20)]
    outcomes = await run(impatient, jobs, tmp_path / "out")
    assert [outcome.status for outcome in outcomes] == ["failed"] * 20
    assert all(isinstance(outcome.error, InternalServerError) for outcome in outcomes)
    assert emulator.counts["uploads"] == 1
    assert emulator.counts["edits"] == 0
    emulator.faults.clear()
    outcomes = await run(client, jobs, tmp_path / "out")
    assert [(outcome.status, outcome.resumed) for outcome in outcomes] == [("saved", False)] * 20


async def test_a_file_that_was_there_before_is_never_overwritten(
    client: AsyncApimart, pictures: list[Path], tmp_path: Path
) -> None:
    output = anyio.Path(tmp_path / "out")
    await output.mkdir()
    await (output / "mine.jpg").write_bytes(b"somebody's own")
    (outcome,) = await run(client, [Job(pictures[0], "prompt", name="mine.png")], tmp_path / "out")
    assert [path.name for path in outcome.paths] == ["mine-2.jpg"]
    assert await (output / "mine.jpg").read_bytes() == b"somebody's own"


class Full(SqliteJournal):
    """A journal on a disk that is full, its reserve included, once a task is submitted."""

    async def put(self, record: Record) -> None:
        if record.task is not None:
            raise JournalError("The disk is full.")
        await super().put(record)


async def test_a_task_id_that_no_journal_takes_is_written_to_stderr(
    client: AsyncApimart,
    emulator: Emulator,
    pictures: list[Path],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    journal = Full(tmp_path / "journal")
    with pytest.raises(JournalError):
        await run(client, [Job(pictures[0], "prompt")], tmp_path / "out", journal=journal)
    (entry,) = emulator.ledger.entries
    said = capfd.readouterr().err
    assert entry.task_id in said
    assert f"idempotency key {entry.idempotency_key}" in said


class Shared(SqliteJournal):
    """A journal in which another process begins a job a moment before this one does."""

    def __init__(self, path: Path, other: Callable[[], Awaitable[Task]]) -> None:
        super().__init__(path)
        self._other = other
        self.refused = 0

    async def begin(self, intent: Record, previous: Record | None) -> bool:
        if not self.refused:
            await self.put(attrs.evolve(intent, key="another").submitted(await self._other()))
        began = await super().begin(intent, previous)
        self.refused += not began
        return began


async def test_a_job_that_another_process_has_begun_is_taken_up_from_there(
    client: AsyncApimart, emulator: Emulator, pictures: list[Path], tmp_path: Path
) -> None:
    journal = Shared(tmp_path / "journal", lambda: client.edits.create(pictures[0], "prompt"))
    jobs = [Job(pictures[0], "prompt")]
    async with edit_many(client, jobs, output=tmp_path / "out", journal=journal, max_in_flight=1) as outcomes:
        (outcome,) = [outcome async for outcome in outcomes]
    assert (outcome.status, outcome.resumed, journal.refused) == ("saved", True, 1)
    assert len(emulator.ledger.entries) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
async def test_a_saved_job_survives_a_power_cut(
    client: AsyncApimart, pictures: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: set[str] = set()

    def fsync(descriptor: int) -> None:
        synced.add(str(Path(f"/proc/self/fd/{descriptor}").readlink()))

    monkeypatch.setattr(os, "fsync", fsync)
    await run(client, [Job(pictures[0], "prompt")], tmp_path / "out")
    assert str(tmp_path / "out") in synced
    # The picture, before it had its name.
    assert any(path.startswith(f"{tmp_path / 'out'}{os.sep}") for path in synced)


async def test_the_limits_of_the_service_are_kept_for_the_next_run(
    emulator: Emulator, pictures: list[Path], tmp_path: Path
) -> None:
    learnt = {"version": 1, "rate": None, "concurrency": None, "noise": 0.2}
    for limits in (learnt, {}):
        poll = Poll(first=0.02, shortest=0.02)
        async with AsyncApimart(emulator.api_key, base_url=emulator.base_url, poll=poll) as client:
            client.load_rate_limit_stats(limits)
            (outcome,) = await run(client, [Job(pictures[0], "stars")], tmp_path / "out")
            assert outcome.status == "saved"
            assert client.rate_limit_stats()["noise"] == pytest.approx(0.2, rel=0.1)
