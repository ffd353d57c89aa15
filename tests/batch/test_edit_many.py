"""The outcomes of jobs of a batch, against the emulator."""

from __future__ import annotations

import json
from collections import Counter
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread
import attrs
import pytest
from PIL import Image

from apimart_async import (
    AsyncApimart,
    AsyncAppleRouter,
    ImageError,
    InvalidArgumentError,
    Job,
    Outcome,
    SubmissionIndeterminateError,
    TaskFailedError,
    TaskTimeoutError,
    edit_many,
)
from apimart_async.batch import SqliteJournal, read_outcomes
from apimart_async.batch.journal.opening import read_records
from apimart_async.emulator.faults import Fault

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator
    from pathlib import Path

    from apimart_async.batch import Progress
    from apimart_async.emulator import Emulator
    from tests.clock import Clock


async def run(
    client: AsyncApimart | AsyncAppleRouter, jobs: Iterable[Job], output: str | Path, **options: Any
) -> list[Outcome]:
    async with edit_many(client, jobs, output=output, **options) as outcomes:
        return [outcome async for outcome in outcomes]


async def kept(output: Path) -> list[Outcome]:
    return await anyio.to_thread.run_sync(lambda: list(read_outcomes(output)))


async def test_a_picture_is_uploaded_once_for_all_its_prompts(
    client: AsyncApimart, emulator: Emulator, pictures: list[Path], tmp_path: Path
) -> None:
    twin = tmp_path / "same content.png"
    twin.write_bytes(pictures[0].read_bytes())
    jobs = [Job(picture, f"prompt {number}") for number in range(15) for picture in (pictures[0], twin)]
    outcomes = await run(client, jobs, tmp_path / "out")
    assert {outcome.status for outcome in outcomes} == {"saved"}
    # The two are the same picture, so that every second job is the one before it.
    assert emulator.counts["uploads"] == 1
    assert len(emulator.ledger.entries) == 15
    assert sum(outcome.resumed for outcome in outcomes) == 15
    assert len({path for outcome in outcomes for path in outcome.paths}) == 15
    await run(client, [Job(twin, "another prompt")], tmp_path / "out")
    assert emulator.counts["uploads"] == 1


async def test_journal_keeps_the_positions_of_the_jobs(
    client: AsyncApimart, pictures: list[Path], tmp_path: Path
) -> None:
    jobs = [Job(pictures[0], f"prompt {number}", id=f"job-{number}") for number in range(6)]
    jobs[2] = Job(tmp_path / "missing.png", "a picture that cannot be read", id="job-2")
    out = tmp_path / "out"
    await run(client, jobs[:3], out)
    await run(client, jobs, out)
    records = await anyio.to_thread.run_sync(lambda: list(read_records(None, out)))
    assert {each.id: each.position for each in records} == {f"job-{number}": number for number in range(6)}


async def test_an_upload_is_renewed_before_it_expires(
    client: AsyncApimart, emulator: Emulator, pictures: list[Path], tmp_path: Path
) -> None:
    await run(client, [Job(pictures[0], "one")], tmp_path / "out")
    path = tmp_path / "out" / ".batch" / "journal.sqlite3"
    async with SqliteJournal(path) as journal:
        key = await _only_upload(journal)
        upload = await journal.get_upload(key)
        assert upload
        half_an_hour = upload.expires_at.timestamp() - 71.5 * 3600
        moved = type(upload.expires_at).fromtimestamp(half_an_hour, upload.expires_at.tzinfo)
        await journal.put_upload(key, _expiring(upload, moved))
    # The first client still knows that its upload lives.
    async with AsyncApimart(emulator.api_key, base_url=emulator.base_url) as another:
        await run(another, [Job(pictures[0], "two")], tmp_path / "out")
    assert emulator.counts["uploads"] == 2


async def _only_upload(journal: SqliteJournal) -> str:
    rows = await journal._run(lambda connection: connection.execute("SELECT key FROM uploads").fetchall())
    ((key,),) = rows
    return str(key)


def _expiring(upload: Any, moment: Any) -> Any:
    return attrs.evolve(upload, expires_at=moment)


async def test_saved_jobs_are_skipped_and_deleted_files_are_fetched_again(
    client: AsyncApimart, emulator: Emulator, pictures: list[Path], tmp_path: Path
) -> None:
    jobs = [Job(picture, "prompt", name=picture.stem) for picture in pictures]
    first = await run(client, jobs, tmp_path / "out")
    (tmp_path / "out" / "red.jpg").unlink()
    second = await run(client, jobs, tmp_path / "out")
    assert [outcome.resumed for outcome in second] == [True] * 3
    assert {outcome.id: outcome.paths for outcome in second} == {
        outcome.id: outcome.paths for outcome in first
    }
    assert all(path.is_file() for outcome in second for path in outcome.paths)
    assert emulator.counts["edits"] == 3
    assert emulator.counts["files"] == 4


async def test_several_variants_are_named_and_billed_together(
    client: AsyncApimart, emulator: Emulator, pictures: list[Path], tmp_path: Path
) -> None:
    (outcome,) = await run(client, [Job(pictures[0], "prompt", n=3, name="braces {x}")], tmp_path / "out")
    assert [path.name for path in outcome.paths] == [f"braces {{x}}-{number}.jpg" for number in (1, 2, 3)]
    assert outcome.cost == pytest.approx(0.045)
    assert emulator.ledger.total == pytest.approx(0.045)


async def test_a_job_that_fails_is_an_outcome(
    client: AsyncApimart, emulator: Emulator, pictures: list[Path], tmp_path: Path
) -> None:
    (tmp_path / "text.png").write_text("not a picture")
    jobs = [
        Job(tmp_path / "missing.png", "prompt", id="missing"),
        Job(tmp_path / "text.png", "prompt"),
        Job(pictures[0], " "),
        Job(pictures[0], "prompt", n=11),
        Job(pictures[0], "prompt", name="a/b"),
        Job(pictures[0], "prompt", options={"prompt": "another"}),
        Job(pictures[0], "prompt", options={"callback": object()}),
        Job(pictures[1], "good"),
    ]
    outcomes = await run(client, jobs, tmp_path / "out")
    assert Counter(outcome.status for outcome in outcomes) == {"failed": 7, "saved": 1}
    failed = [outcome for outcome in outcomes if outcome.status == "failed"]
    assert all(isinstance(outcome.error, InvalidArgumentError) for outcome in failed)
    assert emulator.counts["edits"] == 1
    assert {outcome.id for outcome in await kept(tmp_path / "out")} == {outcome.id for outcome in outcomes}
    # A job that was never submitted is tried again by every run.
    Image.new("RGB", (8, 8)).save(tmp_path / "missing.png")
    (mended,) = await run(client, jobs[:1], tmp_path / "out")
    assert (mended.id, mended.status, mended.resumed) == ("missing", "saved", False)
    assert Counter(outcome.status for outcome in await kept(tmp_path / "out")) == {"saved": 2}


async def test_a_failed_task_is_tried_again_only_when_asked(
    client: AsyncApimart, emulator: Emulator, pictures: list[Path], tmp_path: Path
) -> None:
    emulator.faults.add(Fault(kind="task-failed", times=1))
    jobs = [Job(pictures[0], "prompt")]
    (failed,) = await run(client, jobs, tmp_path / "out")
    assert (failed.status, failed.cost) == ("failed", 0.0)
    assert isinstance(failed.error, TaskFailedError)
    (still,) = await run(client, jobs, tmp_path / "out")
    assert (still.status, still.resumed) == ("failed", True)
    assert isinstance(still.error, TaskFailedError)
    assert emulator.counts["edits"] == 1
    (saved,) = await run(client, jobs, tmp_path / "out", retry_failed=True)
    assert saved.status == "saved"
    assert len({entry.idempotency_key for entry in emulator.ledger.entries}) == 2


@pytest.mark.parametrize("executed", [True, False])
async def test_a_job_in_doubt_is_sent_again_only_when_asked_and_under_the_same_key(
    client: AsyncApimart,
    emulator: Emulator,
    pictures: list[Path],
    tmp_path: Path,
    executed: bool,  # noqa: FBT001
) -> None:
    emulator.faults.add(Fault(kind="disconnect", route="edits", executed=executed, times=1))
    jobs = [Job(pictures[0], "prompt")]
    (doubtful,) = await run(client, jobs, tmp_path / "out")
    assert doubtful.status == "in_doubt"
    assert isinstance(doubtful.error, SubmissionIndeterminateError)
    assert doubtful.error.url == f"{emulator.base_url}/v1/images/edits"
    assert doubtful.error.__traceback__ is not None
    (still,) = await run(client, jobs, tmp_path / "out")
    assert (still.status, still.resumed) == ("in_doubt", True)
    assert isinstance(still.error, SubmissionIndeterminateError)
    assert still.error.idempotency_key == doubtful.error.idempotency_key
    assert emulator.counts["edits"] == 1
    (saved,) = await run(client, jobs, tmp_path / "out", in_doubt="resubmit")
    assert saved.status == "saved"
    assert [entry.idempotency_key for entry in emulator.ledger.entries] == [doubtful.error.idempotency_key]


async def test_a_refusal_of_the_second_try_does_not_end_the_doubt(
    client: AsyncApimart, emulator: Emulator, pictures: list[Path], tmp_path: Path
) -> None:
    emulator.faults.add(Fault(kind="disconnect", route="edits", executed=True, times=1))
    emulator.faults.add(Fault(kind="status", route="edits", status=400))
    for options in ({}, {"in_doubt": "resubmit"}, {}):
        (outcome,) = await run(client, [Job(pictures[0], "prompt")], tmp_path / "out", **options)
        assert outcome.status == "in_doubt"


async def test_a_task_that_takes_too_long_is_waited_for_by_the_next_run(
    client: AsyncApimart, emulator: Emulator, pictures: list[Path], tmp_path: Path, clock: Clock
) -> None:
    jobs = [Job(picture, "prompt") for picture in pictures]
    emulator.faults.add(Fault(kind="task-stuck", times=1))
    for _ in range(2):
        async with edit_many(client, jobs, output=tmp_path / "out", timeout=600) as outcomes:
            assert {(await anext(outcomes)).status for _ in range(2)} == {"saved"}
            async with clock.rushing(60):
                (unfinished,) = [outcome async for outcome in outcomes]
        assert unfinished.status == "unfinished"
        assert isinstance(unfinished.error, TaskTimeoutError)
        assert unfinished.task
    assert emulator.counts["edits"] == 3


async def test_a_result_that_does_not_arrive_is_fetched_by_the_next_run(
    client: AsyncApimart, emulator: Emulator, pictures: list[Path], tmp_path: Path
) -> None:
    emulator.faults.add(Fault(kind="wrong-bytes", times=1))
    (outcome,) = await run(client, [Job(pictures[0], "prompt")], tmp_path / "out")
    assert (outcome.status, outcome.cost) == ("unfinished", 0.015)
    (outcome,) = await run(client, [Job(pictures[0], "prompt")], tmp_path / "out")
    assert outcome.status == "saved"
    assert emulator.counts["edits"] == 1


async def test_an_id_stands_for_one_piece_of_work(
    client: AsyncApimart, emulator: Emulator, pictures: list[Path], tmp_path: Path
) -> None:
    await run(client, [Job(pictures[0], "prompt", id="mine")], tmp_path / "out")
    (outcome,) = await run(client, [Job(pictures[0], "another prompt", id="mine")], tmp_path / "out")
    assert outcome.status == "failed"
    assert "another id" in str(outcome.error)
    assert [outcome.status for outcome in await kept(tmp_path / "out")] == ["saved"]
    # The same work under two ids is done twice.
    await run(client, [Job(pictures[0], "prompt", id="other")], tmp_path / "out")
    assert emulator.counts["edits"] == 2


async def test_a_saved_job_with_an_id_needs_its_picture_no_more(
    client: AsyncApimart, pictures: list[Path], tmp_path: Path
) -> None:
    job = Job(pictures[0], "prompt", id="mine")
    await run(client, [job], tmp_path / "out")
    pictures[0].unlink()
    (outcome,) = await run(client, [job], tmp_path / "out")
    assert (outcome.status, outcome.resumed) == ("saved", True)
    (missing,) = await run(client, [Job(pictures[0], "prompt", id="new")], tmp_path / "out")
    assert isinstance(missing.error, ImageError)


@pytest.mark.parametrize("kind", ["generator", "asynchronous"])
async def test_jobs_are_taken_as_there_is_room(
    client: AsyncApimart, pictures: list[Path], tmp_path: Path, kind: str
) -> None:
    taken = 0

    def generate() -> Iterator[Job]:
        nonlocal taken
        for number in range(170):
            taken += 1
            yield Job(pictures[0], f"prompt {number}")

    async def generate_later() -> AsyncIterator[Job]:
        for job in generate():
            await anyio.lowlevel.checkpoint()
            yield job

    jobs = generate() if kind == "generator" else generate_later()
    limits: dict[str, Any] = {"max_in_flight": 16, "max_uploads": 2, "max_downloads": 2}
    async with edit_many(client, jobs, output=tmp_path / "out", **limits) as outcomes:
        count = 0
        async for _ in outcomes:
            count += 1
            # The jobs in flight, one that waits for a place, and those of one change of threads.
            assert taken <= count + 64 + 20 + 1 + 32
    assert count == taken == 170


async def test_unread_outcomes_hold_the_batch_up(
    client: AsyncApimart, emulator: Emulator, pictures: list[Path], tmp_path: Path
) -> None:
    jobs = [Job(pictures[0], f"prompt {number}") for number in range(150)]
    limits: dict[str, Any] = {"max_in_flight": 16, "max_uploads": 2, "max_downloads": 2}
    async with edit_many(client, jobs, output=tmp_path / "out", **limits) as outcomes:
        await anext(aiter(outcomes))
        most = 64 + 20 + 1
        while emulator.counts["edits"] < most:  # noqa: ASYNC110 the emulator has no event for it
            await anyio.sleep(0.01)
        await anyio.sleep(0.2)  # enough for many more
        assert emulator.counts["edits"] == most
        assert [outcome.status async for outcome in outcomes] == ["saved"] * 149


async def test_progress_and_results_are_complete(
    client: AsyncApimart, emulator: Emulator, pictures: list[Path], tmp_path: Path
) -> None:
    seen: list[Progress] = []
    jobs = [Job(picture, f"prompt {number}") for number in range(10) for picture in pictures]
    jobs.append(Job(tmp_path / "missing.png", "prompt", id="missing"))
    await run(client, jobs, tmp_path / "out", on_progress=seen.append)
    last = seen[-1]
    assert (last.total, last.saved, last.failed, last.done) == (31, 30, 1, 31)
    assert last.spent == pytest.approx(emulator.ledger.total) == pytest.approx(0.45)
    assert (last.in_flight, last.eta) == (0, 0.0)
    assert last.rate > 0
    assert all(earlier.done <= later.done for earlier, later in pairwise(seen))
    lines = [json.loads(line) for line in (tmp_path / "out" / "results.jsonl").read_text().splitlines()]
    assert len(lines) == 31
    saved = [line for line in lines if line["status"] == "saved"]
    assert all((tmp_path / "out" / path).is_file() for line in saved for path in line["paths"])
    (failed,) = [line for line in lines if line["status"] == "failed"]
    assert failed["error"]["type"] == "ImageError"
    assert emulator.api_key not in (tmp_path / "out" / "results.jsonl").read_text()
    journal = (tmp_path / "out" / ".batch" / "journal.sqlite3").read_bytes()
    assert emulator.api_key.encode() not in journal


async def test_apple_router_takes_the_same_jobs(emulator: Emulator, tmp_path: Path) -> None:
    Image.new("RGBA", (32, 32)).save(tmp_path / "square.png")
    jobs = [
        Job(tmp_path / "square.png", f"prompt {number}", options={"size": "256x256", "response_format": how})
        for number, how in enumerate(("url", "b64_json"))
    ]
    async with AsyncAppleRouter(emulator.api_key, base_url=emulator.base_url) as client:
        first = await run(client, jobs, tmp_path / "out")
        assert [outcome.status for outcome in first] == ["saved", "saved"]
        second = await run(client, jobs, tmp_path / "out")
        assert [outcome.resumed for outcome in second] == [True, True]
        assert emulator.counts["applerouter"] == 2
        first[0].paths[0].unlink()
        for retry_missing, status in ((False, "unfinished"), (True, "failed")):
            again = await run(client, jobs, tmp_path / "out", retry_missing=retry_missing)
            assert {outcome.id: outcome for outcome in again}[first[0].id].status == status
        emulator.faults.add(Fault(kind="disconnect", route="applerouter", executed=True, times=1))
        (doubtful,) = await run(client, [Job(tmp_path / "square.png", "third")], tmp_path / "out")
        assert doubtful.status == "in_doubt"
        with pytest.raises(InvalidArgumentError, match="max_cost"):
            edit_many(client, jobs, output=tmp_path / "out", max_cost=1.0)


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_in_flight": 0},
        {"max_uploads": 0},
        {"max_downloads": -1},
        {"max_cost": 0.0},
        {"timeout": 0},
        {"in_doubt": "pay"},
    ],
)
async def test_invalid_arguments_are_refused(client: AsyncApimart, tmp_path: Path, wrong: Any) -> None:
    with pytest.raises(InvalidArgumentError):
        edit_many(client, [], output=tmp_path / "out", **wrong)


async def test_no_jobs_at_all(client: AsyncApimart, tmp_path: Path) -> None:
    assert await run(client, [], tmp_path / "out") == []
    assert (tmp_path / "out" / "results.jsonl").read_text() == ""


async def test_a_flood_of_images_fills_neither_the_folder_nor_the_journal(
    client: AsyncApimart, emulator: Emulator, pictures: list[Path], tmp_path: Path
) -> None:
    emulator.faults.add(Fault(kind="many-images"))
    (outcome,) = await run(client, [Job(pictures[0], "stars")], tmp_path / "out")
    assert (outcome.status, len(outcome.paths)) == ("saved", 17)
    assert (tmp_path / "out" / ".batch" / "journal.sqlite3").stat().st_size < 200_000


@pytest.mark.parametrize("kind", ["status", "error-in-200"])
async def test_a_message_of_megabytes_is_journaled_as_kilobytes(
    client: AsyncApimart, emulator: Emulator, pictures: list[Path], tmp_path: Path, kind: Any
) -> None:
    page = "<html>" + "x" * 3_000_000
    emulator.faults.add(Fault(kind=kind, route="edits", status=400, code=400, message=page))
    (outcome,) = await run(client, [Job(pictures[0], "stars")], tmp_path / "out")
    assert outcome.status == "failed"
    assert 2000 < len(str(outcome.error)) < 3000
    files = [path async for path in anyio.Path(tmp_path / "out").rglob("*") if await path.is_file()]
    assert sum([(await path.stat()).st_size for path in files]) < 1_200_000  # of which 1 MiB is the reserve
    assert len(str((await kept(tmp_path / "out"))[0].error)) < 3000
