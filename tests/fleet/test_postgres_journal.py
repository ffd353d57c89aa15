"""The journal in PostgreSQL: many processes, leases, payments, and a server that dies."""

from __future__ import annotations

import asyncio
import signal
import traceback
import uuid
from typing import TYPE_CHECKING

import asyncpg
import pytest
from anyio import to_thread

from apimart_async import AsyncApimart, InvalidArgumentError, Job, JournalError, Task, edit_many
from apimart_async.batch.journal.postgres import PostgresJournal
from apimart_async.batch.journal.postgres_reading import read_postgres_journal, read_tally
from apimart_async.batch.journal.protocol import ClaimedError
from apimart_async.batch.journal.record import Record

from .photo import PNG

if TYPE_CHECKING:
    from pathlib import Path

    from apimart_async.emulator import Emulator
    from tests.clock import Clock
    from tests.fleet.postgres_server import PostgresServer


# asyncpg looks for the files of libpq when it connects.
pytestmark = pytest.mark.may_block


def described(job_id: str = "job") -> Record:
    return Record.describe(
        Job("photo.jpg", "A starry sky", "model"), "model", job_id=job_id, payload="digest"
    )


def submitted(record: Record, task_id: str) -> Record:
    return record.submitted(Task(task_id, "submitted", idempotency_key=record.key))


async def expire(url: str, journal: PostgresJournal) -> None:
    """End the lease of a journal behind its back, as a pause of its process would."""
    connection = await asyncpg.connect(url)
    await connection.execute(
        "UPDATE apimart_workers SET lease_until = clock_timestamp() WHERE id = $1", journal._lease.worker
    )
    await connection.close()


async def payments(url: str) -> set[tuple[str, str]]:
    connection = await asyncpg.connect(url)
    rows = await connection.fetch("SELECT task_id, key FROM apimart_payments")
    await connection.close()
    return {(task_id, key) for task_id, key in rows}


async def test_rows_survive_and_are_listed_in_order(url: str) -> None:
    intents = [described(f"job {number}").intent(f"key {number}", 0.0) for number in range(20)]
    async with PostgresJournal(url) as journal:
        assert all(await asyncio.gather(*(journal.begin(intent, None) for intent in intents)))
        await asyncio.gather(*(journal.put(submitted(row, f"task_{row.key}")) for row in intents))
    async with PostgresJournal(url) as journal:
        rows = [record async for record in journal.records()]
        tally = await journal.tally()
    # Rows of one transaction are in the order of their ids.
    assert sorted(row.id for row in rows) == sorted(intent.id for intent in intents)
    assert {row.state for row in rows} == {"submitted"}
    assert dict(tally.jobs) == {"submitted": 20}
    assert dict(tally.outstanding) == {"model": 20}
    assert len(await payments(url)) == 20


async def test_an_intent_is_written_once(url: str) -> None:
    async with PostgresJournal(url) as first, PostgresJournal(url) as second:
        one, other = described().intent("one", 0.0), described().intent("other", 0.0)
        assert sorted(await asyncio.gather(first.begin(one, None), second.begin(other, None))) == [
            False,
            True,
        ]


async def test_the_job_of_a_living_worker_is_not_in_doubt(url: str) -> None:
    async with PostgresJournal(url) as first, PostgresJournal(url) as second:
        await first.begin(described().intent("key", 0.0), None)
        with pytest.raises(ClaimedError) as caught:
            await second.claim("job")
        assert caught.value.record.state == "intent"
        assert await first.claim("job") is not None


async def test_jobs_are_taken_from_the_dead_only(url: str) -> None:
    async with PostgresJournal(url) as second:
        async with PostgresJournal(url) as first:
            await first.begin(described().intent("key", 0.0), None)
        record = await second.claim("job")
        assert record is not None
        assert record.key == "key"
        async with PostgresJournal(url) as third:
            with pytest.raises(ClaimedError):
                await third.claim("job")


async def test_an_expired_lease_spends_nothing_and_is_not_revived(url: str) -> None:
    async with PostgresJournal(url) as first, PostgresJournal(url) as second:
        worker = first._lease.worker
        intent = described().intent("key", 0.0)
        await first.begin(intent, None)
        await first.undo(intent, None)
        await first.put(described().failed(ValueError("no such file"), 0.0))
        failed = await first.claim("job")
        assert failed is not None
        await expire(url, first)
        assert await second.claim("job") is not None
        assert not await first.begin(intent, failed)
        first._lease._trusted_until = -1.0
        with pytest.raises(ClaimedError):
            await first.claim("job")
        assert first._lease.worker != worker


async def test_what_a_worker_learns_after_its_lease_is_kept(url: str) -> None:
    """The first is paused after its request, the second takes the job over and reports it as in doubt."""
    async with PostgresJournal(url) as first, PostgresJournal(url) as second:
        intent = described().intent("key", 0.0)
        await first.begin(intent, None)
        await expire(url, first)
        taken = await second.claim("job")
        assert taken is not None
        await second.put(taken.in_doubt(None))
        await first.put(submitted(intent, "task_of_the_first"))
        record = await second.claim("job")
        assert record is not None
        assert record.state == "submitted"
        assert record.task is not None
        assert record.task.id == "task_of_the_first"


async def test_both_task_ids_of_a_job_that_was_sent_twice_are_kept(url: str) -> None:
    async with PostgresJournal(url) as first, PostgresJournal(url) as second:
        intent = described().intent("key", 0.0)
        await first.begin(intent, None)
        await expire(url, first)
        taken = await second.claim("job")
        assert taken is not None
        again = taken.intent("key", 0.0)
        assert await second.begin(again, taken)
        await second.put(submitted(again, "task_of_the_second"))
        await first.put(submitted(intent, "task_of_the_first"))
        assert await payments(url) == {("task_of_the_first", "key"), ("task_of_the_second", "key")}


async def test_a_paid_task_is_kept_whatever_its_id(url: str) -> None:
    ids = ["task\0", "task'; DROP TABLE apimart_jobs; --", "task\n\u202e"]
    async with PostgresJournal(url) as journal:
        for number, task_id in enumerate(ids):
            intent = described(f"job {number}").intent(f"key {number}", 0.0)
            await journal.begin(intent, None)
            await journal.put(submitted(intent, task_id))
        kept = [record.task.id async for record in journal.records() if record.task]
    assert kept == ids
    assert {task_id for task_id, _ in await payments(url)} == {"task\\0", *ids[1:]}


async def test_a_worker_without_the_job_moves_it_forwards_only(url: str) -> None:
    async with PostgresJournal(url) as first, PostgresJournal(url) as second:
        intent = described().intent("key", 0.0)
        await first.begin(intent, None)
        await expire(url, first)
        taken = await second.claim("job")
        assert taken is not None
        done = taken.completed(Task("task_1", "completed"))
        await second.put(done)
        await first.put(intent.in_doubt(None))
        await first.put(submitted(described().intent("another key", 0.0), "task_2"))
        record = await second.get("job")
        assert record is not None
        assert (record.state, record.key) == ("completed", "key")


async def test_an_undone_intent_leaves_the_row_before_it(url: str) -> None:
    async with PostgresJournal(url) as journal:
        intent = described().intent("key", 0.0)
        await journal.begin(intent, None)
        await journal.undo(intent, None)
        assert await journal.claim("job") is None
        await journal.begin(intent, None)
        await journal.put(intent.failed(ValueError("refused"), 0.0))
        failed = await journal.claim("job")
        again = described().intent("second key", 0.0)
        assert await journal.begin(again, failed)
        await journal.undo(again, failed)
        record = await journal.claim("job")
        assert record is not None
        assert (record.state, record.key) == ("failed", "key")


async def test_a_row_that_no_database_takes_fails_alone(url: str) -> None:
    async with PostgresJournal(url) as journal:
        bad, good = described("NUL \0"), described("good")
        results = await asyncio.gather(
            journal.put(bad.intent("key", 0.0)), journal.put(good.intent("key", 0.0)), return_exceptions=True
        )
        assert isinstance(results[0], JournalError)
        assert results[1] is None
        assert await journal.get("good") is not None


async def test_writes_wait_for_a_server_that_crashes(server: PostgresServer, url: str) -> None:
    async with PostgresJournal(url) as journal:
        intents = [described(f"job {number}").intent(f"key {number}", 0.0) for number in range(50)]
        for intent in intents[:25]:
            await journal.begin(intent, None)
        await asyncio.to_thread(server.stop, signal.SIGKILL)
        writing = [asyncio.ensure_future(journal.put(submitted(row, "task"))) for row in intents[:25]]
        beginning = [asyncio.ensure_future(journal.begin(row, None)) for row in intents[25:]]
        await asyncio.sleep(0.2)
        assert not any(call.done() for call in writing + beginning)
        await asyncio.to_thread(server.start)
        await asyncio.gather(*writing)
        assert all(await asyncio.gather(*beginning))
        assert dict((await journal.tally()).jobs) == {"submitted": 25, "intent": 25}


async def test_an_outage_that_lasts_ends_with_an_error(
    url: str, clock: Clock, server: PostgresServer
) -> None:
    async with PostgresJournal(url) as journal:
        await asyncio.to_thread(server.stop, signal.SIGKILL)
        try:
            async with clock.rushing(10):
                with pytest.raises(JournalError, match="cannot be reached"):
                    await journal.put(described())
        finally:
            await asyncio.to_thread(server.start)


async def test_a_database_that_is_not_there_is_named_without_its_password() -> None:
    journal = PostgresJournal("postgresql://user:pass-word@127.0.0.1:9/journal")
    with pytest.raises(JournalError, match=r"127\.0\.0\.1/journal cannot be reached") as caught:
        async with journal:
            pass
    assert "pass-word" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://user:1234/pass@word@127.0.0.1:9/journal",
        "postgresql://user:1234#pass-word@127.0.0.1:9/journal",
        "postgresql://user:1234?pass-word@127.0.0.1:9/journal",
        "postgresql://user:pass@wo:pass-word@127.0.0.1:9/journal",
        "postgresql://user:[pass-word@127.0.0.1:9/journal",
        "postgresql://user:secret@127.0.0.1:pass-word/journal",
    ],
)
async def test_a_url_that_cannot_be_read_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(InvalidArgumentError, match="cannot be read") as caught:
        async with PostgresJournal(url):
            pass
    assert "pass-word" not in "".join(traceback.format_exception(caught.value))
    assert caught.value.__context__ is None


async def test_batches_of_several_processes_share_the_work(
    url: str, emulator: Emulator, client: AsyncApimart, tmp_path: Path
) -> None:
    """Each is given all jobs; each job is paid once, and afterwards a run finds all of them saved."""
    jobs = [Job(PNG, f"A starry sky, {number}") for number in range(12)]

    async def run() -> list[str]:
        async with edit_many(client, jobs, output=tmp_path, journal=url) as outcomes:
            return [outcome.status async for outcome in outcomes]

    await asyncio.gather(run(), run(), run())
    assert await run() == ["saved"] * 12
    assert len(emulator.ledger.billed) == 12
    assert not emulator.ledger.executed_more_than_once
    assert len(await payments(url)) == 12


async def change(url: str, statement: str, *values: object) -> None:
    """Write as another user of the database could."""
    connection = await asyncpg.connect(url)
    await connection.execute(statement, *values)
    await connection.close()


@pytest.mark.parametrize(
    ("images", "cost", "body"),
    [
        (-1, None, '{"changed_at":1}'),
        (1, -1.0, '{"changed_at":1}'),
        (1, float("nan"), '{"changed_at":1}'),
        (1, 0.1, '{"changed_at":1,"paths":["/etc/passwd"]}'),
        (1, 0.1, '{"changed_at":1e300}'),
        (1, 0.1, "[" * 100_000),
    ],
)
async def test_a_row_of_a_stranger_is_a_journal_error_and_makes_no_room_in_the_budget(
    url: str, images: int, cost: float | None, body: str
) -> None:
    async with PostgresJournal(url) as journal:
        await change(
            url,
            "INSERT INTO apimart_jobs (owner, id, state, key, model, images, cost, body) "
            "VALUES ($1, 'a', 'submitted', 'key', 'm', $2, $3, $4)",
            uuid.uuid4(),
            images,
            cost,
            body,
        )
        found = await journal.tally()
        assert not found.spent < 0
        assert all(count >= 0 for count in found.outstanding.values())
        with pytest.raises(JournalError, match="damaged"):
            await journal.get("a")
        with pytest.raises(JournalError, match="damaged"):
            await journal.claim("a")
    with pytest.raises(JournalError, match="damaged"):
        await to_thread.run_sync(lambda: list(read_postgres_journal(url)))


@pytest.mark.parametrize("version", [b"", b"x", b"-1", b"9" * 5000, None])
async def test_a_version_of_a_stranger_is_a_journal_error(url: str, version: bytes | None) -> None:
    async with PostgresJournal(url):
        await change(url, "DELETE FROM apimart_states WHERE name = 'version'")
    if version is not None:
        await change(url, "INSERT INTO apimart_states VALUES ('version', $1)", version)
        with pytest.raises(JournalError, match="version"):
            await PostgresJournal(url).__aenter__()
    with pytest.raises(JournalError, match="version"):
        await to_thread.run_sync(read_tally, url)


async def test_a_schema_that_hides_the_journal_starts_no_new_one(
    url: str, emulator: Emulator, client: AsyncApimart, tmp_path: Path
) -> None:
    async def run(journal: str, *ids: str) -> list[str]:
        jobs = [Job(PNG, "stars", id=job_id) for job_id in ids]
        async with edit_many(client, jobs, output=tmp_path, journal=journal) as outcomes:
            return [outcome.status async for outcome in outcomes]

    assert await run(url, "a") == ["saved"]
    # The default search path is "$user", public, and each user may get a schema of their own.
    await change(url, "CREATE SCHEMA postgres")
    with pytest.raises(JournalError, match=r"in the schema 'public'.*search_path"):
        await run(url, "a", "b")
    assert await run(f"{url}?search_path=public", "a", "b") == ["saved", "saved"]
    assert len(emulator.ledger.entries) == 2
    # Another journal in a schema of its own is meant.
    assert await run(f"{url}?search_path=postgres", "a") == ["saved"]
    assert await run(url, "a") == ["saved"]


@pytest.mark.parametrize("prices", [b"{", b"[]", b'{"m":"x"}', b'{"m":-1}', b'{"m":NaN}'])
async def test_prices_of_a_stranger_are_a_journal_error(
    url: str, emulator: Emulator, client: AsyncApimart, tmp_path: Path, prices: bytes
) -> None:
    async with PostgresJournal(url) as journal:
        await journal.put_state("prices", prices)
    with pytest.raises(JournalError, match="prices"):
        async with edit_many(
            client, [Job(PNG, "stars")], output=tmp_path, journal=PostgresJournal(url), max_cost=1.0
        ) as outcomes:
            assert [outcome async for outcome in outcomes] == []
    assert not emulator.ledger.entries
