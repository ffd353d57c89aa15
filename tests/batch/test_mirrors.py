"""A batch whose service has several addresses: they come and go, and nothing is paid twice or lost."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import attrs
import pytest

from apimart_async import (
    APIConnectionError,
    AsyncApimart,
    InvalidArgumentError,
    Job,
    Outcome,
    Poll,
    Retry,
    SubmissionIndeterminateError,
    edit_many,
)
from apimart_async.batch import SqliteJournal
from apimart_async.batch.journal.opening import journal_path
from apimart_async.emulator import Fault

if TYPE_CHECKING:
    from pathlib import Path

    from apimart_async.batch import Record
    from apimart_async.emulator import Emulator, Mirror

PICTURE = "https://pictures.example/photo.jpg"


def connect(*mirrors: Mirror | str) -> AsyncApimart:
    base_urls = [mirror if isinstance(mirror, str) else mirror.base_url for mirror in mirrors]
    poll = Poll(first=0.02, shortest=0.02, longest=0.05)
    return AsyncApimart(
        "sk-emulator", base_url=base_urls, poll=poll, retry=Retry(initial_delay=0.01, max_delay=0.05)
    )


def jobs(number: int) -> list[Job]:
    return [Job(PICTURE, f"snow {each}", id=f"job-{each}") for each in range(number)]


async def run(client: AsyncApimart, number: int, output: Path, **options: Any) -> list[Outcome]:
    async with client, edit_many(client, jobs(number), output=output, **options) as outcomes:
        return [outcome async for outcome in outcomes]


async def rows(output: Path) -> list[Record]:
    async with SqliteJournal(journal_path(output)) as journal:
        return [row async for row in journal.records()]


@pytest.mark.parametrize("seed", range(3))
async def test_a_batch_finishes_while_addresses_come_and_go(
    emulator: Emulator, tmp_path: Path, seed: int
) -> None:
    async with AsyncExitStack() as stack:
        mirrors = [await stack.enter_async_context(emulator.mirror()) for _ in range(3)]
        outcomes: list[Outcome] = []
        async with (
            connect(*mirrors) as client,
            edit_many(client, jobs(50), output=tmp_path, max_in_flight=8) as finished,
        ):
            async for outcome in finished:
                outcomes.append(outcome)
                # One of the three is out of reach at any time, and its open requests are cut off.
                down = mirrors[(len(outcomes) // 3 + seed) % 3]
                for mirror in mirrors:
                    if mirror is not down:
                        mirror.start()
                down.stop()
        for mirror in mirrors:
            mirror.start()
        assert len(outcomes) == 50
        assert {outcome.status for outcome in outcomes} <= {"saved", "in_doubt"}
        # The rest is a matter of the next run, under the same keys, with the addresses in another order.
        again = await run(connect(*reversed(mirrors)), 50, tmp_path, in_doubt="resubmit")
    assert {outcome.status for outcome in again} == {"saved"}
    assert len(emulator.ledger.billed) == 50
    assert not emulator.ledger.executed_more_than_once
    assert not emulator.key_leaks


async def test_an_address_that_dies_in_the_middle_costs_no_job(emulator: Emulator, tmp_path: Path) -> None:
    async with emulator.mirror() as first, emulator.mirror() as second:
        saved = 0
        async with (
            connect(first, second) as client,
            edit_many(client, jobs(20), output=tmp_path, max_in_flight=1) as outcomes,
        ):
            async for outcome in outcomes:
                assert outcome.status in {"saved", "in_doubt"}
                saved += outcome.status == "saved"
                if saved == 5:
                    first.stop()
        # The one that was being submitted may be in doubt.
        assert saved >= 19
        await run(connect(second), 20, tmp_path)
    assert len(emulator.ledger.billed) <= 20
    assert not emulator.ledger.executed_more_than_once


async def test_the_journal_knows_the_address_of_each_task(emulator: Emulator, tmp_path: Path) -> None:
    async with emulator.mirror() as first, emulator.mirror() as second:
        await run(connect(first, second), 1, tmp_path)
        first.stop()
        await run(connect(first, second), 2, tmp_path)
        found = {
            row.id: (row.base_url, row.task.base_url if row.task else None) for row in await rows(tmp_path)
        }
    assert found == {"job-0": (first.base_url,) * 2, "job-1": (second.base_url,) * 2}


@pytest.mark.parametrize("change", ["reordered", "replaced"])
async def test_a_batch_resumes_with_other_addresses(emulator: Emulator, tmp_path: Path, change: str) -> None:
    async with emulator.mirror() as first, emulator.mirror() as second:
        emulator.faults.add(Fault(kind="hang", route="tasks", seconds=3600))
        emulator.faults.add(Fault(kind="hang", route="tasks/batch", seconds=3600))
        unfinished = await run(connect(first), 3, tmp_path, timeout=0.1)
        assert {outcome.status for outcome in unfinished} == {"unfinished"}
        emulator.faults.clear()
        if change == "replaced":
            first.stop()
        mirrors = (second, first) if change == "reordered" else (second,)
        resumed = await run(connect(*mirrors), 3, tmp_path)
    assert {outcome.status for outcome in resumed} == {"saved"}
    assert len(emulator.ledger.entries) == 3


async def test_a_task_whose_address_is_not_listed_is_never_paid_for_again(
    emulator: Emulator, tmp_path: Path
) -> None:
    from apimart_async.emulator import Emulator as Stranger

    async with emulator.mirror() as own:
        emulator.faults.add(Fault(kind="task-stuck", route="edits"))
        await run(connect(own), 1, tmp_path, timeout=0.1)
        async with Stranger() as stranger:
            (outcome,) = await run(connect(stranger.base_url), 1, tmp_path, retry_missing=True)
            assert not stranger.ledger.entries
    assert outcome.status == "unfinished"
    assert isinstance(outcome.error, InvalidArgumentError)
    assert own.base_url in str(outcome.error)


async def test_a_task_that_another_address_does_not_know_is_not_missing(
    emulator: Emulator, tmp_path: Path
) -> None:
    from apimart_async.emulator import Emulator as Stranger

    async with emulator.mirror() as own:
        emulator.faults.add(Fault(kind="task-stuck", route="edits"))
        await run(connect(own), 1, tmp_path, timeout=0.1)
        own.stop()
        async with Stranger() as stranger:
            (outcome,) = await run(
                connect(stranger.base_url, own), 1, tmp_path, retry_missing=True, timeout=0.3
            )
            assert not stranger.ledger.entries
    assert outcome.status == "unfinished"
    assert not (await rows(tmp_path))[0].is_missing


async def test_a_job_in_doubt_is_sent_again_to_its_own_address_only(
    emulator: Emulator, tmp_path: Path
) -> None:
    from apimart_async.emulator import Emulator as Stranger

    async with emulator.mirror() as own, Stranger(task_seconds=0.02, images="tiny") as stranger:
        emulator.faults.add(Fault(kind="disconnect", route="edits", executed=True, times=1))
        (doubtful,) = await run(connect(own, stranger.base_url), 1, tmp_path)
        assert isinstance(doubtful.error, SubmissionIndeterminateError)

        # The service promises nothing for edits, so that this sends nothing.
        await run(connect(own, stranger.base_url), 1, tmp_path, in_doubt="collect")
        assert [row.base_url for row in await rows(tmp_path)] == [own.base_url]

        (unlisted,) = await run(connect(stranger.base_url), 1, tmp_path, in_doubt="resubmit")
        assert unlisted.status == "in_doubt"
        assert own.base_url in str(unlisted.error)

        own.stop()
        (unreached,) = await run(connect(stranger.base_url, own), 1, tmp_path, in_doubt="resubmit")
        assert unreached.status == "in_doubt"
        assert isinstance(unreached.error, SubmissionIndeterminateError)
        assert isinstance(unreached.error.__cause__, APIConnectionError)

        own.start()
        (saved,) = await run(connect(stranger.base_url, own), 1, tmp_path, in_doubt="resubmit")
        assert saved.status == "saved"
        assert not stranger.ledger.entries
    assert len(emulator.ledger.entries) == 1


async def test_images_at_an_address_that_has_died_are_downloaded_from_another(
    emulator: Emulator, tmp_path: Path
) -> None:
    async with emulator.mirror() as first, emulator.mirror() as second:
        emulator.faults.add(Fault(kind="status", route="files", status=500))
        (unsaved,) = await run(connect(first, second), 1, tmp_path)
        assert unsaved.status == "unfinished"
        emulator.faults.clear()
        (row,) = await rows(tmp_path)
        assert row.task
        # As if the answer had named them by a path of the address that sent it.
        images = tuple(
            attrs.evolve(image, url=image.url.replace(emulator.base_url, first.base_url))
            for image in row.task.images
        )
        async with SqliteJournal(journal_path(tmp_path)) as journal:
            await journal.put(attrs.evolve(row, task=attrs.evolve(row.task, images=images)))
        first.stop()
        (saved,) = await run(connect(first, second), 1, tmp_path)
    assert saved.status == "saved"
    assert len(emulator.ledger.entries) == 1
