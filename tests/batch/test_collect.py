"""Jobs in doubt are sent again under their key if their model promises to execute a key once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import attrs
import pytest

from apimart_async import (
    AsyncApimart,
    AsyncAppleRouter,
    InvalidArgumentError,
    Job,
    Outcome,
    Poll,
    Retry,
    SubmissionIndeterminateError,
    edit_many,
)
from apimart_async.batch import SqliteJournal
from apimart_async.emulator import Emulator, Fault, ModelSpec

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from apimart_async.batch.journal.record import Record

EDITS = "/v1/images/edits"
KEEPS = ModelSpec(model="keeps-edit-1", path=EDITS, is_open=True, promises=True)
BREAKS = ModelSpec(model="breaks-edit-1", path=EDITS, is_open=True, promises=True, keeps=False)
PLAIN = ModelSpec(model="plain-edit-1", path=EDITS, is_open=True)
LOST = Fault(kind="disconnect", route="edits", executed=True, first=3)
QUICK = Poll(first=0.02, shortest=0.02, longest=0.05)
PICTURE = bytes.fromhex("47494638396101000100800000ffffff0000002c00000000010001000002024401003b")


@pytest.fixture
async def emulator() -> AsyncIterator[Emulator]:
    async with Emulator(task_seconds=0, images="tiny", models=[KEEPS, BREAKS, PLAIN]) as running:
        yield running


async def run(emulator: Emulator, models: list[str], output: Path, **options: Any) -> list[Outcome]:
    """Run a batch with a client of its own, as each run of a program has."""
    jobs = [Job(PICTURE, "stars", model=model, id=f"{model} {number}") for number, model in enumerate(models)]
    retry = Retry(initial_delay=0.01, max_delay=0.02, indeterminate="raise")
    async with (
        AsyncApimart(emulator.api_key, base_url=emulator.base_url, retry=retry, poll=QUICK) as client,
        edit_many(client, jobs, output=output, **options) as outcomes,
    ):
        return sorted([outcome async for outcome in outcomes], key=lambda outcome: outcome.id)


async def test_only_jobs_with_a_promise_are_collected(emulator: Emulator, tmp_path: Path) -> None:
    emulator.faults.add(LOST)
    models = ["keeps-edit-1", "keeps-edit-1", "plain-edit-1"]
    for doubtful in await run(emulator, models, tmp_path):
        assert doubtful.status == "in_doubt"
    first, second, left = await run(emulator, models, tmp_path, in_doubt="collect")
    assert (first.status, second.status, left.status) == ("saved", "saved", "in_doubt")
    assert isinstance(left.error, SubmissionIndeterminateError)
    assert "the service does not promise to execute the key once" in left.error.message
    assert len(emulator.ledger.entries) == 3
    costs = sum(outcome.cost or 0 for outcome in (first, second))
    assert costs == pytest.approx(emulator.ledger.total * 2 / 3)


async def test_broken_promise_ends_collecting_for_its_model(emulator: Emulator, tmp_path: Path) -> None:
    emulator.faults.add(LOST)
    models = ["breaks-edit-1"] * 3
    await run(emulator, models, tmp_path)
    found = await run(emulator, models, tmp_path, in_doubt="collect")
    assert sorted(outcome.status for outcome in found) == ["in_doubt", "in_doubt", "saved"]
    (saved,) = [outcome for outcome in found if outcome.status == "saved"]
    assert saved.task is not None
    assert saved.task.is_replay is False
    assert len(emulator.ledger.entries) == 4


@pytest.mark.parametrize(
    "age",
    [timedelta(hours=24), None, timedelta(hours=-1)],
    ids=["too old", "of unknown age", "sent in the future"],
)
async def test_job_whose_key_may_be_forgotten_is_left(
    emulator: Emulator, tmp_path: Path, age: timedelta | None
) -> None:
    emulator.faults.add(LOST)
    (doubtful,) = await run(emulator, ["keeps-edit-1"], tmp_path)
    async with SqliteJournal(tmp_path / ".batch" / "journal.sqlite3") as journal:
        record: Record | None = await journal.get(doubtful.id)
        assert record is not None
        assert record.sent_at is not None
        await journal.put(attrs.evolve(record, sent_at=None if age is None else datetime.now(UTC) - age))
    for _ in range(2):
        (left,) = await run(emulator, ["keeps-edit-1"], tmp_path, in_doubt="collect")
        assert left.status == "in_doubt"
    assert [times for _, times in emulator.faults.happened] == [1]  # nothing was sent again
    assert len(emulator.ledger.entries) == 1
    # The user decides otherwise.
    emulator.faults.clear()
    (saved,) = await run(emulator, ["keeps-edit-1"], tmp_path, in_doubt="resubmit")
    assert saved.status == "saved"


async def test_lost_collection_keeps_the_time_of_the_first_request(
    emulator: Emulator, tmp_path: Path
) -> None:
    emulator.faults.add(LOST)
    (doubtful,) = await run(emulator, ["keeps-edit-1"], tmp_path)
    for _ in range(2):
        (left,) = await run(emulator, ["keeps-edit-1"], tmp_path, in_doubt="collect")
        assert left.status == "in_doubt"
        async with SqliteJournal(tmp_path / ".batch" / "journal.sqlite3") as journal:
            record = await journal.get(doubtful.id)
        assert record is not None
        assert record.sent_at is not None
        assert record.sent_at < record.changed_at
    (saved,) = await run(emulator, ["keeps-edit-1"], tmp_path, in_doubt="collect")
    assert (saved.status, len(emulator.ledger.entries)) == ("saved", 1)


async def test_applerouter_job_in_doubt_is_never_collected(
    emulator: Emulator, tmp_path: Path, photo_png: bytes
) -> None:
    emulator.faults.add(Fault(kind="disconnect", route="applerouter", executed=True, first=1))
    for mode in ("report", "collect"):
        async with (
            AsyncAppleRouter(emulator.api_key, base_url=emulator.base_url) as client,
            edit_many(
                client, [Job(photo_png, "stars", model="gpt-image-2")], output=tmp_path, in_doubt=mode
            ) as found,
        ):
            (outcome,) = [outcome async for outcome in found]
        assert outcome.status == "in_doubt"
    assert emulator.counts["applerouter"] == 1


@pytest.fixture
def photo_png(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    from PIL import Image

    path = tmp_path_factory.mktemp("photo") / "photo.png"
    Image.new("RGB", (8, 8), "red").save(path)
    return path.read_bytes()


async def test_job_that_its_model_does_not_take_fails_before_its_upload_and_is_free(tmp_path: Path) -> None:
    narrow = ModelSpec(model="narrow-edit-1", path=EDITS, max_n=1, parameters={"image_urls": {}})
    async with (
        Emulator(task_seconds=0, images="tiny", models=[narrow]) as strict,
        AsyncApimart(strict.api_key, base_url=strict.base_url, poll=QUICK) as client,
    ):
        job = Job(PICTURE, "stars", model="narrow-edit-1", n=2)
        async with edit_many(client, [job], output=tmp_path) as outcomes:
            (failed,) = [outcome async for outcome in outcomes]
        assert failed.status == "failed"
        assert isinstance(failed.error, InvalidArgumentError)
        assert "n must be a number from 1 to 1 for narrow-edit-1, not 2" in failed.error.message
        assert not strict.ledger.entries
        assert not strict.counts["uploads"]
        async with edit_many(client, [job], output=tmp_path, check="off") as outcomes:
            (saved,) = [outcome async for outcome in outcomes]
        assert (saved.status, len(saved.paths)) == ("saved", 2)
