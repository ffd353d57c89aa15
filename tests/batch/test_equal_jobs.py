"""Pictures with the same content in one batch: paid once, each with files, a row and a line of its own."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread
import pytest

from apimart_async import AsyncApimart, Job, TaskFailedError
from apimart_async.batch import read_outcomes
from apimart_async.emulator.faults import Fault

from .test_edit_many import run

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from apimart_async import Outcome
    from apimart_async.emulator import Emulator


@pytest.fixture
def twins(pictures: list[Path]) -> list[Path]:
    """Three pictures, of which the first two are equal."""
    pictures[1].write_bytes(pictures[0].read_bytes())
    return pictures


def jobs_for(paths: Sequence[Path], n: int = 1) -> list[Job]:
    return [Job(path, "prompt", name=path.stem, n=n) for path in paths]


async def rows(output: Path) -> list[Outcome]:
    return await anyio.to_thread.run_sync(lambda: list(read_outcomes(output)))


async def lines(output: Path) -> list[dict[str, object]]:
    text = await anyio.Path(output / "results.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.parametrize("n", [1, 2])
async def test_equal_pictures_are_paid_once_and_each_has_its_files_its_row_and_its_line(
    client: AsyncApimart, emulator: Emulator, twins: list[Path], tmp_path: Path, n: int
) -> None:
    output = tmp_path / "out"
    outcomes = await run(client, jobs_for(twins, n), output)
    assert len(emulator.ledger.entries) == 2
    assert {outcome.status for outcome in outcomes} == {"saved"}
    saved = {outcome.job.name: outcome for outcome in outcomes}
    suffixes = [""] if n == 1 else [f"-{number}" for number in range(1, n + 1)]
    for name in ("red", "green", "blue"):
        assert [path.stem for path in saved[name].paths] == [f"{name}{suffix}" for suffix in suffixes]
    for red, green in zip(saved["red"].paths, saved["green"].paths, strict=True):
        assert red.read_bytes() == green.read_bytes()
    kept = await rows(output)
    assert {row.job.name: row.paths for row in kept} == {name: saved[name].paths for name in saved}
    assert math.isclose(
        sum(row.cost or 0.0 for row in kept), sum(entry.cost for entry in emulator.ledger.entries)
    )
    assert sorted(str(line["name"]) for line in await lines(output)) == ["blue", "green", "red"]


async def test_the_next_run_finds_all_of_them_saved_in_any_order(
    client: AsyncApimart, emulator: Emulator, twins: list[Path], tmp_path: Path
) -> None:
    output = tmp_path / "out"
    first = {outcome.job.name: outcome for outcome in await run(client, jobs_for(twins), output)}
    again = await run(client, jobs_for(twins[::-1]), output)
    assert all(outcome.resumed for outcome in again)
    assert {outcome.job.name: outcome.paths for outcome in again} == {
        name: outcome.paths for name, outcome in first.items()
    }
    assert len(await rows(output)) == 3
    assert len(emulator.ledger.entries) == 2


async def test_a_deleted_copy_is_made_again_without_a_request(
    client: AsyncApimart, emulator: Emulator, twins: list[Path], tmp_path: Path
) -> None:
    output = tmp_path / "out"
    first = {outcome.job.name: outcome for outcome in await run(client, jobs_for(twins), output)}
    for name in ("red", "green"):
        await anyio.Path(first[name].paths[0]).unlink()
        again = await run(client, jobs_for(twins), output)
        assert {outcome.job.name: outcome.paths for outcome in again} == {
            name: outcome.paths for name, outcome in first.items()
        }
        assert all(path.is_file() for outcome in again for path in outcome.paths)
    assert len(await rows(output)) == 3
    assert len(emulator.ledger.entries) == 2


async def test_equal_jobs_fail_together_and_are_retried_once(
    client: AsyncApimart, emulator: Emulator, twins: list[Path], tmp_path: Path
) -> None:
    output = tmp_path / "out"
    emulator.faults.add(Fault(kind="task-failed", times=1))
    failed = await run(client, jobs_for(twins[:2]), output)
    assert [outcome.status for outcome in failed] == ["failed"] * 2
    assert all(isinstance(outcome.error, TaskFailedError) for outcome in failed)
    assert emulator.counts["edits"] == 1
    saved = await run(client, jobs_for(twins[:2]), output, retry_failed=True)
    assert sorted(outcome.paths[0].stem for outcome in saved) == ["green", "red"]
    assert emulator.counts["edits"] == 2
    assert [row.status for row in await rows(output)] == ["saved"] * 2


async def test_an_equal_job_finishes_the_task_that_another_was_cut_off_from(
    client: AsyncApimart, emulator: Emulator, twins: list[Path], tmp_path: Path
) -> None:
    output = tmp_path / "out"
    emulator.faults.add(Fault(kind="wrong-bytes", times=1))
    (unfinished,) = await run(client, jobs_for(twins[:1]), output)
    assert unfinished.status == "unfinished"
    outcomes = await run(client, jobs_for([twins[1], twins[0]]), output)
    assert sorted((outcome.status, outcome.paths[0].stem) for outcome in outcomes) == [
        ("saved", "green"),
        ("saved", "red"),
    ]
    assert emulator.counts["edits"] == 1


async def test_a_picture_that_was_moved_remains_the_same_job(
    client: AsyncApimart, emulator: Emulator, twins: list[Path], tmp_path: Path
) -> None:
    output = tmp_path / "out"
    await run(client, jobs_for(twins), output)
    moved = [path.rename(path.with_name(f"moved-{path.name}")) for path in twins]
    jobs = [Job(path, "prompt", name=old.stem) for path, old in zip(moved, twins, strict=True)]
    outcomes = await run(client, jobs, output)
    assert [outcome.resumed for outcome in outcomes] == [True] * 3
    assert {row.job.image for row in await rows(output)} == {str(path) for path in moved}
    assert {line["image"] for line in await lines(output)} == {str(path) for path in moved}
    assert len(emulator.ledger.entries) == 2


async def test_the_row_of_a_saved_job_follows_its_picture_and_the_data_of_the_caller(
    client: AsyncApimart, emulator: Emulator, pictures: list[Path], tmp_path: Path
) -> None:
    output, picture = tmp_path / "out", pictures[0]
    await run(client, [Job(picture, "prompt", id="1", extra={"customer": 17})], output)
    moved = picture.rename(tmp_path / "moved.png")
    await run(client, [Job(moved, "prompt", id="1", extra={"customer": 18})], output)
    (line,) = await lines(output)
    assert (line["image"], line["extra"]) == (str(moved), {"customer": 18})
    # A picture that is not there at all is no new place.
    await run(client, [Job(tmp_path / "missing.png", "prompt", id="1", extra={"customer": 18})], output)
    (line,) = await lines(output)
    assert (line["status"], line["image"]) == ("saved", str(moved))
    assert len(emulator.ledger.entries) == 1
