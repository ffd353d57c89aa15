"""The journal keeps every row that was written, and refuses damaged files before anything is paid."""

from __future__ import annotations

import json
import os
import resource
import sqlite3
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread
import attrs
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from apimart_async import (
    AsyncApimart,
    Image,
    ImageSet,
    Job,
    JournalError,
    JournalInUseError,
    Task,
    TaskFailedError,
    Upload,
    edit_many,
)
from apimart_async.batch import Record, SqliteJournal
from apimart_async.batch.journal.sqlite import read_journal
from apimart_async.batch.journal.sqlite_file import VERSION

if TYPE_CHECKING:
    from collections.abc import Callable

    from apimart_async.batch import State
    from apimart_async.emulator import Emulator

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
INTENT = Record(
    id="job-1",
    state="intent",
    payload="digest",
    image="photo.jpg",
    prompt="a “prompt” 😀",
    model="a-model",
    n=2,
    name="name",
    options={"size": "1:1", "deep": {"list": [1, None]}},
    key="key-1",
    changed_at=NOW,
)
TASK = Task("task_1", "submitted", created_at=NOW, idempotency_key="key-1", model="a-model")
DONE = attrs.evolve(
    TASK, status="completed", cost=0.03, images=(Image("https://a/b.png", NOW, task_id="task_1", index=1),)
)


def holding(path: Path) -> subprocess.Popen[str]:
    """Start a process that has the journal open."""
    script = f"""
import asyncio, sys
from apimart_async.batch import SqliteJournal
async def main():
    async with SqliteJournal({str(path)!r}):
        print("open", flush=True)
        await asyncio.sleep(3600)
asyncio.run(main())
"""
    return subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)


async def opened(path: Path) -> None:
    async with SqliteJournal(path):
        pass


@pytest.mark.parametrize(
    "record",
    [
        INTENT,
        INTENT.in_doubt(ValueError("why")),
        INTENT.submitted(TASK),
        INTENT.submitted(TASK).completed(DONE),
        INTENT.completed(ImageSet(NOW, (Image("data:image/png;base64,AAAA"),))),
        INTENT.submitted(TASK).completed(DONE).saved(("a.png", "b.png"), 12.5),
        INTENT.failed(TaskFailedError("no", task=attrs.evolve(TASK, status="failed"), code="7"), 3.0),
    ],
    ids=lambda record: record.state,
)
async def test_a_row_comes_back_as_it_was_written(tmp_path: Path, record: Record) -> None:
    path = tmp_path / "new folder" / "journal.sqlite3"
    async with SqliteJournal(path) as journal:
        await journal.put(record)
        assert await journal.get("job-1") == record
        assert await journal.get("job-2") is None
        # Durable at once: another process sees it while the journal is open.
        assert await anyio.to_thread.run_sync(lambda: list(read_journal(path))) == [record]
    async with SqliteJournal(path) as journal:
        assert [row async for row in journal.records()] == [record]


async def test_an_intent_replaces_only_the_row_that_was_read(tmp_path: Path) -> None:
    async with SqliteJournal(tmp_path / "journal") as journal:
        assert await journal.begin(INTENT, None)
        assert not await journal.begin(attrs.evolve(INTENT, key="key-2"), None)
        failed = INTENT.failed(ValueError("no"), 1.0)
        await journal.put(failed)
        again = attrs.evolve(INTENT, key="key-2")
        assert not await journal.begin(again, INTENT)
        assert await journal.begin(again, failed)
        assert not await journal.begin(again, failed)
        assert await journal.get("job-1") == again


async def test_jobs_that_failed_before_their_submit_are_forgotten_by_the_next_run(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    async with SqliteJournal(path) as journal:
        await journal.put(attrs.evolve(INTENT, id="unreadable", state="failed", key=None))
        await journal.put(attrs.evolve(INTENT, id="refused", state="failed"))
        assert (await journal.tally()).jobs == {"failed": 2}
    async with SqliteJournal(path) as journal:
        assert [row.id async for row in journal.records()] == ["refused"]


async def test_a_tally_adds_up_certain_and_possible_costs(tmp_path: Path) -> None:
    states: list[tuple[State, float | None]] = [
        ("intent", None),
        ("in_doubt", None),
        ("submitted", None),
        ("completed", 0.5),
        ("completed", None),
        ("saved", 0.25),
        ("failed", 0.0),
    ]
    async with SqliteJournal(tmp_path / "journal") as journal:
        async with anyio.create_task_group() as group:
            for number, (state, cost) in enumerate(states):
                row = attrs.evolve(INTENT, id=str(number), state=state, cost=cost)
                group.start_soon(journal.put, row)
        tally = await journal.tally()
    assert tally.jobs == {
        "intent": 1,
        "in_doubt": 1,
        "submitted": 1,
        "completed": 2,
        "saved": 1,
        "failed": 1,
    }
    assert (tally.spent, tally.outstanding) == (0.75, {"a-model": 8})


async def test_uploads_and_states_are_kept_and_expired_uploads_dropped(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    later = datetime.now(UTC) + timedelta(hours=72)
    upload = Upload("https://a/b.png", "b.png", "image/png", 5, NOW, later)
    async with SqliteJournal(path) as journal:
        await journal.put_upload("new", upload)
        await journal.put_upload("old", attrs.evolve(upload, expires_at=NOW))
        await journal.put_state("learnt", b"\x00\xff")
    async with SqliteJournal(path) as journal:
        assert await journal.get_upload("new") == upload
        assert await journal.get_upload("old") is None
        assert await journal.get_state("learnt") == b"\x00\xff"
        assert await journal.get_state("nothing") is None


async def test_many_rows_are_read_in_the_order_of_their_beginnings(tmp_path: Path) -> None:
    async with SqliteJournal(tmp_path / "journal") as journal:
        async with anyio.create_task_group() as group:
            for number in range(1200):
                group.start_soon(journal.put, attrs.evolve(INTENT, id=f"{number:04}"))
        await journal.put(attrs.evolve(INTENT, id="0000", state="saved"))
        assert [row.id async for row in journal.records()] == [f"{number:04}" for number in range(1200)]


async def test_a_second_process_is_refused_and_a_kill_releases_the_lock(
    client: AsyncApimart, emulator: Emulator, pictures: list[Path], tmp_path: Path
) -> None:
    path = tmp_path / "out" / ".batch" / "journal.sqlite3"
    with holding(path) as other:
        try:
            assert other.stdout
            assert await anyio.to_thread.run_sync(other.stdout.readline) == "open\n"
            with pytest.raises(JournalInUseError, match="another output folder") as refused:
                async with edit_many(client, [Job(pictures[0], "prompt")], output=tmp_path / "out"):
                    pytest.fail("entered")
            assert refused.value.path == str(path)
            assert not emulator.counts
        finally:
            other.kill()
            await anyio.to_thread.run_sync(other.wait)
    async with edit_many(client, [Job(pictures[0], "prompt")], output=tmp_path / "out") as outcomes:
        assert [outcome.status async for outcome in outcomes] == ["saved"]


@pytest.mark.parametrize("seconds", [0, 0.001, 0.02])
async def test_a_batch_that_is_cancelled_as_it_begins_lets_go(tmp_path: Path, seconds: float) -> None:
    for each in range(10):
        path = tmp_path / f"{each}.sqlite3"
        with anyio.move_on_after(seconds):
            async with SqliteJournal(path):
                await anyio.sleep_forever()
        async with SqliteJournal(path) as journal:
            assert await journal.get("job-1") is None


async def test_a_second_batch_of_the_same_process_is_told(tmp_path: Path) -> None:
    async with SqliteJournal(tmp_path / "journal"):
        with pytest.raises(JournalInUseError):
            await opened(tmp_path / "journal")
    await opened(tmp_path / "journal")


def _overwrite(path: Path, where: slice) -> None:
    content = bytearray(path.read_bytes())
    content[where] = os.urandom(len(content[where]))
    path.write_bytes(content)


def _execute(path: Path, sql: str) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute(sql)
    connection.close()


def _replace(path: Path, sql: str) -> None:
    path.unlink()
    _execute(path, sql)


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "text": (lambda path: path.write_text("not a database " * 100), "is damaged"),
    "cut short": (lambda path: path.write_bytes(path.read_bytes()[:9000]), "is damaged"),
    "a page": (lambda path: _overwrite(path, slice(8192, 9192)), "is damaged"),
    "another database": (lambda path: _replace(path, "CREATE TABLE a (b)"), "is not the journal"),
    "newer": (lambda path: _execute(path, f"PRAGMA user_version = {VERSION + 1}"), "newer version"),
}


@pytest.mark.parametrize("damage", DAMAGES)
async def test_a_file_that_is_not_a_whole_journal_is_refused_and_left_unchanged(
    client: AsyncApimart, emulator: Emulator, pictures: list[Path], tmp_path: Path, damage: str
) -> None:
    path = tmp_path / "out" / ".batch" / "journal.sqlite3"
    async with SqliteJournal(path) as journal:
        for number in range(200):
            await journal.put(attrs.evolve(INTENT, id=str(number)))
    break_it, message = DAMAGES[damage]
    await anyio.to_thread.run_sync(break_it, path)
    before = path.read_bytes()
    for _ in range(2):
        with pytest.raises(JournalError, match=message):
            async with edit_many(client, [Job(pictures[0], "prompt")], output=tmp_path / "out"):
                pytest.fail("entered")
    assert not emulator.counts
    assert path.read_bytes() == before


async def test_an_invalid_row_is_damage(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    async with SqliteJournal(path) as journal:
        await journal.put(INTENT)
    await anyio.to_thread.run_sync(_execute, path, "UPDATE jobs SET body = '[]'")
    async with SqliteJournal(path) as journal:
        with pytest.raises(JournalError, match="row of job 'job-1'"):
            await journal.get("job-1")
    with pytest.raises(JournalError, match="row of job 'job-1'"):
        await anyio.to_thread.run_sync(lambda: list(read_journal(path)))


async def test_a_path_that_cannot_be_a_folder_is_refused(client: AsyncApimart, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(JournalError, match="cannot be written"):
        await opened(tmp_path / "file" / "journal")
    with pytest.raises(JournalError, match="no batch has run there"):
        await anyio.to_thread.run_sync(lambda: list(read_journal(tmp_path / "nothing")))


def _limited(size: int) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


SCRIPT = Path(__file__).with_name("crash_run.py")


async def run_batch(
    emulator: Emulator, output: Path, pictures: list[Path], *options: str, **more: Any
) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, SCRIPT, emulator.base_url, emulator.api_key, output, *pictures, *options]

    def wait() -> subprocess.CompletedProcess[bytes]:
        words = [str(part) for part in command]
        return subprocess.run(words, capture_output=True, timeout=300, check=False, **more)

    return await anyio.to_thread.run_sync(wait)


async def test_a_disk_without_room_is_refused_before_anything_is_paid(
    emulator: Emulator, pictures: list[Path], tmp_path: Path
) -> None:
    done = await run_batch(
        emulator, tmp_path / "out", pictures, "--count=5", preexec_fn=partial(_limited, 100_000)
    )
    assert b"JournalError" in done.stderr
    assert b"make room on the disk" in done.stderr
    assert not emulator.counts
    assert not (tmp_path / "out" / ".batch" / "journal.sqlite3-reserve").exists(), "it takes the last room"


@pytest.mark.long
async def test_a_disk_that_fills_up_ends_the_batch_and_bills_nothing_twice(
    emulator: Emulator, pictures: list[Path], tmp_path: Path
) -> None:
    # Room for the reserve, and for a part of the rows: their names are long.
    long = tmp_path / ("out" * 40)
    done = await run_batch(emulator, long, pictures, "--count=700", preexec_fn=partial(_limited, 1024 * 1024))
    assert b"JournalError" in done.stderr, done.stderr
    assert b"cannot be written" in done.stderr
    paid = len(emulator.ledger.entries)
    assert 0 < paid < 700
    done = await run_batch(emulator, long, pictures, "--count=700")
    assert done.returncode == 0, done.stderr
    assert emulator.ledger.executed_more_than_once == {}
    rows = await anyio.to_thread.run_sync(lambda: list(read_journal(long / ".batch" / "journal.sqlite3")))
    assert len(rows) == 700
    assert {row.state for row in rows} <= {"saved", "in_doubt"}
    # Only the jobs whose task id found no room are in doubt.
    assert sum(row.state == "in_doubt" for row in rows) <= 24


@pytest.mark.long
async def test_a_full_disk_still_has_room_for_the_jobs_in_flight(
    emulator: Emulator, pictures: list[Path], tmp_path: Path
) -> None:
    """The journal alone is on a disk of 1.5 MB, which is made larger for the second run."""
    output = tmp_path / "out"
    (output / ".batch").mkdir(parents=True)
    command = [sys.executable, SCRIPT, emulator.base_url, emulator.api_key, output, *pictures, "--count=200"]
    script = """
        mount -t tmpfs -o size=1500k tmpfs "$0" || exit 77
        "$@" >&2
        echo $?
        ls "$0"
        mount -o remount,size=64m "$0"
        "$@"
    """
    words = ["unshare", "--mount", "--map-root-user", "sh", "-c", script, output / ".batch", *command]
    try:
        done = await anyio.run_process([str(word) for word in words], check=False)
    except FileNotFoundError:
        pytest.skip("no unshare here")
    if done.returncode in {1, 77} and b"begun" not in done.stderr:
        pytest.skip("nothing can be mounted here")
    first, *files, _, said = done.stdout.decode().split("\n")[:-1]
    assert first == "1"
    assert b"JournalError" in done.stderr
    assert b"make room on the disk" in done.stderr
    assert "journal.sqlite3" in files
    assert "journal.sqlite3-reserve" not in files, "it was not needed"
    assert json.loads(said) == {"statuses": {"saved": 200}, "in_doubt": []}
    assert emulator.ledger.executed_more_than_once == {}
    assert len(emulator.ledger.entries) == 200


class JournalMachine(RuleBasedStateMachine):
    """A journal that is closed and opened at random has the same content as a dictionary."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(os.environ["JOURNALLING"], os.urandom(8).hex())
        self.rows: dict[str, Record] = {}
        self.portal_manager = anyio.from_thread.start_blocking_portal()
        self.portal = self.portal_manager.__enter__()
        self.journal = self.portal.call(SqliteJournal(self.folder / "journal").__aenter__)

    @rule(job=st.sampled_from("abc"), key=st.sampled_from("xyz"), seen=st.booleans())
    def begin(self, job: str, key: str, seen: bool) -> None:  # noqa: FBT001
        previous = self.rows.get(job) if seen else None
        intent = attrs.evolve(INTENT, id=job, key=key)
        began = self.portal.call(self.journal.begin, intent, previous)
        assert began == (previous is not None or job not in self.rows)
        if began:
            self.rows[job] = intent

    @rule(job=st.sampled_from("abc"), step=st.sampled_from(["submitted", "completed", "saved", "failed"]))
    def go_on(self, job: str, step: str) -> None:
        row = self.rows.get(job)
        if row is None:
            return
        arguments: dict[str, tuple[Any, ...]] = {
            "submitted": (TASK,),
            "completed": (DONE,),
            "saved": (("a.png",), 1.0),
            "failed": (ValueError("no"), 1.0),
        }
        self.rows[job] = getattr(row, step)(*arguments[step])
        self.portal.call(self.journal.put, self.rows[job])

    @rule(job=st.sampled_from("abc"))
    def drop(self, job: str) -> None:
        self.rows.pop(job, None)
        self.portal.call(self.journal.drop, job)

    @rule()
    def reopen(self) -> None:
        self.portal.call(self.journal.__aexit__, None, None, None)
        self.journal = self.portal.call(SqliteJournal(self.folder / "journal").__aenter__)

    @invariant()
    def holds_the_same(self) -> None:
        for job in "abc":
            assert self.portal.call(self.journal.get, job) == self.rows.get(job)

    def teardown(self) -> None:
        self.portal.call(self.journal.__aexit__, None, None, None)
        self.portal_manager.__exit__(None, None, None)


def test_a_journal_agrees_with_a_dictionary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOURNALLING", str(tmp_path))
    run_state_machine_as_test(
        JournalMachine, settings=settings(max_examples=10, stateful_step_count=15, deadline=None)
    )
