"""Output folders that a stranger prepared: nothing outside is changed, nothing inside is read by others."""

from __future__ import annotations

import os
import sqlite3
import stat
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from apimart_async import ApimartError, AsyncApimart, Job, JournalError, edit_many
from apimart_async.batch import SqliteJournal, read_outcomes
from apimart_async.batch.journal.opening import journal_path
from apimart_async.batch.report.page import write_report
from apimart_async.cli.local_batch import mark

if TYPE_CHECKING:
    from pathlib import Path

    from apimart_async import Outcome

pytestmark = pytest.mark.may_block
PRECIOUS = "precious"
SUFFIXES = ("", "-wal", "-shm", "-journal", "-lock", "-reserve")


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """A file outside the output folder."""
    path = tmp_path / "outside" / "precious.txt"
    path.parent.mkdir()
    path.write_text(PRECIOUS)
    return path


async def run(client: AsyncApimart, output: Path, photo: Path) -> list[str]:
    async with edit_many(client, [Job(photo, "stars", id="a")], output=output) as outcomes:
        return [outcome.status async for outcome in outcomes]


def is_private(path: Path) -> bool:
    return not stat.S_IMODE(path.stat().st_mode) & 0o077


@pytest.mark.parametrize("name", [".results.jsonl.part", "results.jsonl", "report.html", ".report.html-PID"])
async def test_a_planted_link_in_the_output_folder_is_not_followed(
    client: AsyncApimart, photographs: dict[str, Path], tmp_path: Path, victim: Path, name: str
) -> None:
    output = tmp_path / "out"
    output.mkdir()
    name = name.replace("PID", str(os.getpid()))
    (output / name).symlink_to(victim)
    assert await run(client, output, photographs["chelsea.png"]) == ["saved"]
    write_report(output)
    assert victim.read_text() == PRECIOUS
    for written in ("results.jsonl", "report.html"):
        assert not (output / written).is_symlink()
    assert not [path for path in output.iterdir() if path.suffix == ".part" and path.name != name]


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("is_dangling", [False, True])
async def test_a_link_in_the_folder_of_the_journal_is_refused(
    client: AsyncApimart,
    photographs: dict[str, Path],
    tmp_path: Path,
    victim: Path,
    suffix: str,
    *,
    is_dangling: bool,
) -> None:
    output = tmp_path / "out"
    journal_path(output).parent.mkdir(parents=True)
    target = victim.with_name("missing") if is_dangling else victim
    journal_path(output).with_name(f"{journal_path(output).name}{suffix}").symlink_to(target)
    with pytest.raises(JournalError, match="symbolic link"):
        await run(client, output, photographs["chelsea.png"])
    assert os.listdir(victim.parent) == [victim.name]  # noqa: PTH208 the names
    assert victim.read_text() == PRECIOUS


async def test_a_link_for_the_folder_of_the_journal_is_refused(
    client: AsyncApimart, photographs: dict[str, Path], tmp_path: Path, victim: Path
) -> None:
    output = tmp_path / "out"
    output.mkdir()
    journal_path(output).parent.symlink_to(victim.parent)
    with pytest.raises(JournalError, match="symbolic link"):
        await run(client, output, photographs["chelsea.png"])
    with pytest.raises(OSError, match="symbolic link"):
        mark(output)
    with pytest.raises(JournalError):
        list(read_outcomes(output))
    assert os.listdir(victim.parent) == [victim.name]  # noqa: PTH208 the names


async def test_a_hard_link_for_the_reserve_is_not_filled(
    client: AsyncApimart, photographs: dict[str, Path], tmp_path: Path, victim: Path
) -> None:
    output = tmp_path / "out"
    journal_path(output).parent.mkdir(parents=True)
    os.link(victim, f"{journal_path(output)}-reserve")
    assert await run(client, output, photographs["chelsea.png"]) == ["saved"]
    assert victim.read_text() == PRECIOUS


async def test_others_read_neither_the_journal_nor_results_nor_report(
    client: AsyncApimart, photographs: dict[str, Path], tmp_path: Path
) -> None:
    output = tmp_path / "out"
    output.mkdir()
    journal_path(output).parent.mkdir(mode=0o755)
    previous = os.umask(0)
    try:
        async with SqliteJournal(journal_path(output)) as journal:
            await journal.put_state("any", b"1")
            kept = [*journal_path(output).parent.iterdir()]
        assert await run(client, output, photographs["chelsea.png"]) == ["saved"]
        mark(output)
        write_report(output)
    finally:
        os.umask(previous)
    assert len(kept) >= len(("journal", "wal", "shm", "lock", "reserve"))
    kept += [journal_path(output).parent, output / "results.jsonl", output / "report.html"]
    assert [path.name for path in kept if path.exists() and not is_private(path)] == []


# --- journals ---------------------------------------------------------------------------------------------

ENDLESS = (
    "CREATE VIEW jobs AS WITH RECURSIVE n(rowid) AS (SELECT 1 UNION ALL SELECT rowid + 1 FROM n) "
    "SELECT rowid, 'a' id, 'saved' state, NULL key, 'm' model, 1 images, 0.1 cost, '' body FROM n"
)
TRIGGER = "CREATE TRIGGER t AFTER INSERT ON states BEGIN DELETE FROM jobs; END"


async def make_journal(path: Path) -> None:
    async with SqliteJournal(path):
        pass


@pytest.mark.parametrize(
    "change",
    [
        f"DROP TABLE jobs; {ENDLESS}",
        TRIGGER,
        "DROP TABLE uploads",
        "ALTER TABLE jobs ADD COLUMN more TEXT",
        "CREATE TABLE more (a)",
        TRIGGER.replace("TRIGGER t", "TRIGGER sqlitesque"),
    ],
)
async def test_a_journal_of_another_schema_is_refused(tmp_path: Path, change: str) -> None:
    path = journal_path(tmp_path)
    await make_journal(path)
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(change)
    with pytest.raises(JournalError, match="not the journal"):
        list(read_outcomes(tmp_path))
    with pytest.raises(JournalError, match="not the journal"):
        await make_journal(path)


async def test_a_journal_with_statistics_of_sqlite_is_a_journal(tmp_path: Path) -> None:
    path = journal_path(tmp_path)
    async with SqliteJournal(path) as journal:
        await journal.put_state("any", b"1")
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript("ANALYZE")
    async with SqliteJournal(path) as journal:
        assert await journal.get_state("any") == b"1"


@pytest.mark.parametrize(
    ("state", "body"),
    [
        ("unheard of", '{"changed_at":1}'),
        ("saved", ""),
        ("saved", "[]"),
        ("saved", "{}"),
        ("saved", '{"changed_at":1e300}'),
        ("saved", '{"changed_at":"now"}'),
        ("saved", '{"changed_at":1,"paths":[1]}'),
        ("saved", '{"changed_at":1,"paths":7}'),
        ("saved", '{"changed_at":1,"paths":["/etc/passwd"]}'),
        ("saved", '{"changed_at":1,"paths":["a.png","in/../../b.png"]}'),
        ("saved", '{"changed_at":1,"options":[]}'),
        ("saved", '{"changed_at":1,"image":7}'),
        ("saved", '{"changed_at":1,"seconds":"x"}'),
        ("failed", '{"changed_at":1,"error":{"type":1,"message":"m"}}'),
        ("failed", '{"changed_at":1,"error":{"more":1}}'),
        ("failed", '{"changed_at":1,"error":[1]}'),
        ("saved", '{"changed_at":1,"task":7}'),
        ("saved", '{"changed_at":1,"extra":' + "[" * 100_000 + "}"),
    ],
)
async def test_a_hostile_row_is_a_journal_error(tmp_path: Path, state: str, body: str) -> None:
    path = journal_path(tmp_path)
    await make_journal(path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("INSERT INTO jobs VALUES ('a', ?, 'key', 'm', 1, 0.1, ?)", (state, body))
        connection.commit()
    with pytest.raises(JournalError, match="damaged"):
        list(read_outcomes(tmp_path))
    with pytest.raises(JournalError, match="damaged"):
        write_report(tmp_path)
    async with SqliteJournal(path) as journal:
        with pytest.raises(JournalError, match="damaged"):
            await journal.get("a")


@pytest.mark.parametrize(("images", "cost"), [(-1, None), (1, -1.0), (1, 1e999)])
async def test_numbers_of_a_hostile_row_make_no_room_in_the_budget(
    tmp_path: Path, images: int, cost: float | None
) -> None:
    path = journal_path(tmp_path)
    await make_journal(path)
    with closing(sqlite3.connect(path)) as connection:
        row = ("a", "submitted", "key", "m", images, cost, '{"changed_at":1}')
        connection.execute("INSERT INTO jobs VALUES (?, ?, ?, ?, ?, ?, ?)", row)
        connection.commit()
    async with SqliteJournal(path) as journal:
        found = await journal.tally()
        assert found.spent >= 0
        assert all(count >= 0 for count in found.outstanding.values())
        with pytest.raises(JournalError, match="damaged"):
            await journal.get("a")


async def test_a_copy_of_an_equal_job_follows_no_link_out_of_the_folder(
    client: AsyncApimart, photographs: dict[str, Path], tmp_path: Path, victim: Path
) -> None:
    output, photo = tmp_path / "out", photographs["chelsea.png"]
    twin = tmp_path / "twin.png"
    twin.write_bytes(photo.read_bytes())

    async def run_alone(path: Path) -> Outcome:
        async with edit_many(client, [Job(path, "stars", name=path.stem)], output=output) as outcomes:
            (outcome,) = [outcome async for outcome in outcomes]
        return outcome

    # One after the other: of two at once, either may be the one that is paid for.
    (original,), (copy,) = (await run_alone(photo)).paths, (await run_alone(twin)).paths
    copy.unlink()
    original.unlink()
    original.symlink_to(victim)
    again = await run_alone(twin)
    assert again.status == "unfinished"
    assert "is a link out of the output folder" in str(again.error)
    assert not copy.exists()


@pytest.mark.parametrize(
    ("name", "data"),
    [
        *(("prices", data) for data in (b"{", b"[]", b"7", b"\xff", b"[" * 100_000, b'{"m":"x"}')),
        *(("prices", data) for data in (b'{"m":-1}', b'{"m":0}', b'{"m":NaN}', b'{"m":1e999}')),
        *(("stats", data) for data in (b"{", b"[]", b"7", b"\xff", b'{"durations":7}')),
    ],
)
async def test_a_hostile_state_is_a_journal_error(
    client: AsyncApimart, photographs: dict[str, Path], tmp_path: Path, name: str, data: bytes
) -> None:
    async with SqliteJournal(journal_path(tmp_path)) as journal:
        await journal.put_state(name, data)
    with pytest.raises(JournalError, match="damaged"):
        await run(client, tmp_path, photographs["chelsea.png"])


async def test_a_hostile_upload_is_a_journal_error(tmp_path: Path) -> None:
    path = journal_path(tmp_path)
    await make_journal(path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("INSERT INTO uploads VALUES ('a', 1e12, '[7]')")
        connection.commit()
    async with SqliteJournal(path) as journal:
        with pytest.raises(JournalError, match="damaged"):
            await journal.get_upload("a")


# --- halves of surrogate pairs ----------------------------------------------------------------------------


async def test_halves_of_surrogate_pairs_in_a_job_are_refused_before_it_is_paid(
    client: AsyncApimart, photographs: dict[str, Path], tmp_path: Path
) -> None:
    photo = photographs["chelsea.png"]
    jobs = [
        Job(photo, "a \ud800 prompt", id="prompt"),
        Job(photo, "stars", id="id \udcff"),
        Job(photo, "stars", id="name", name="a\ud800"),
        Job(photo, "stars", id="extra", extra={"a": "\ud800"}),
        Job(photo, "stars", id="good"),
    ]
    statuses: dict[str, str] = {}
    async with edit_many(client, jobs, output=tmp_path) as outcomes:
        async for outcome in outcomes:
            statuses[outcome.id] = outcome.status
            assert isinstance(outcome.error, ApimartError | None)
    assert statuses["good"] == "saved"
    assert statuses["prompt"] == "failed"
    assert "unfinished" not in statuses.values()
    assert "in_doubt" not in statuses.values()
