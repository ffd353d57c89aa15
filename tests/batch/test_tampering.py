"""Manipulated files: hard links, pipes, loops of links, moved journals, deeply nested JSON."""

from __future__ import annotations

import json
import ntpath
import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from apimart_async import InvalidArgumentError, Job, JournalError, edit_many
from apimart_async.batch import SqliteJournal, read_outcomes
from apimart_async.batch.journal.opening import journal_path
from apimart_async.batch.manifest.paths import names_another_host
from apimart_async.batch.manifest.reader import open_manifest
from apimart_async.batch.manifest.rows import BadRow, ManifestOptions, Row, Skipped
from apimart_async.batch.report.page import write_report
from apimart_async.cli.options import expanded

if TYPE_CHECKING:
    from collections.abc import Iterator

    from apimart_async import AsyncApimart, Outcome
    from apimart_async.emulator import Emulator

pytestmark = pytest.mark.may_block
PRECIOUS = b"precious" * 1000


async def run(client: AsyncApimart, jobs: list[Job], output: Path) -> list[Outcome]:
    async with edit_many(client, jobs, output=output, max_in_flight=1) as outcomes:
        return [outcome async for outcome in outcomes]


# --- hard links -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("suffix", "content"),
    [("", b""), *((suffix, PRECIOUS) for suffix in ("-wal", "-shm", "-journal", "-lock", "-lock-journal"))],
)
async def test_a_hard_link_among_the_files_of_the_journal_is_refused(
    client: AsyncApimart, pictures: list[Path], tmp_path: Path, suffix: str, content: bytes
) -> None:
    outside = tmp_path / "precious"
    outside.write_bytes(content)
    before = outside.stat()
    path = journal_path(tmp_path / "out")
    path.parent.mkdir(parents=True)
    os.link(outside, f"{path}{suffix}")
    with pytest.raises(JournalError, match="hard link"):
        await run(client, [Job(pictures[0], "stars")], tmp_path / "out")
    assert outside.read_bytes() == content
    assert outside.stat().st_mode == before.st_mode


@pytest.mark.parametrize("suffix", ["-wal", "-shm"])
async def test_reading_a_journal_writes_through_no_hard_link(tmp_path: Path, suffix: str) -> None:
    async with SqliteJournal(journal_path(tmp_path)):
        pass
    outside = tmp_path / "precious"
    outside.write_bytes(PRECIOUS)
    os.link(outside, f"{journal_path(tmp_path)}{suffix}")
    with pytest.raises(JournalError, match="hard link"):
        list(read_outcomes(tmp_path))
    assert outside.read_bytes() == PRECIOUS


async def test_a_journal_in_a_snapshot_of_hard_links_can_be_read(
    client: AsyncApimart, pictures: list[Path], tmp_path: Path
) -> None:
    await run(client, [Job(pictures[0], "stars", id="a")], tmp_path / "out")
    copy = journal_path(tmp_path / "snapshot")
    copy.parent.mkdir(parents=True)
    os.link(journal_path(tmp_path / "out"), copy)
    assert [outcome.id for outcome in read_outcomes(tmp_path / "snapshot")] == ["a"]


# --- a journal that is moved while it is in use -----------------------------------------------------------


def tamper(change: str, journal: Path, elsewhere: Path) -> None:
    content = journal.read_bytes()
    if change == "moved with its folder":
        journal.parent.parent.rename(elsewhere)
    elif change == "moved":
        journal.rename(elsewhere)
    else:
        journal.unlink()
    if change == "replaced":
        journal.write_bytes(content)


@pytest.mark.parametrize("change", ["moved", "moved with its folder", "removed", "replaced"])
async def test_nothing_is_paid_for_once_the_journal_was_moved(
    client: AsyncApimart, emulator: Emulator, pictures: list[Path], tmp_path: Path, change: str
) -> None:
    output = tmp_path / "out"
    path = journal_path(output)
    ended: list[str] = []

    async def run_and_tamper() -> None:
        jobs = [Job(picture, "stars") for picture in pictures]
        async with edit_many(client, jobs, output=output, max_in_flight=1) as outcomes:
            async for outcome in outcomes:
                ended.append(outcome.status)
                if len(ended) == 1:
                    tamper(change, path, tmp_path / "elsewhere")

    with pytest.raises(JournalError, match=r"deleted, moved or replaced .* bring it back"):
        await run_and_tamper()
    # The next job may have begun before the outcome of the first was taken.
    assert len(emulator.ledger.entries) == len(ended) < len(pictures)


async def test_a_change_of_the_working_directory_is_no_move(
    client: AsyncApimart, pictures: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    def jobs() -> Iterator[Job]:
        monkeypatch.chdir("/")
        yield Job(pictures[0], "stars")

    async with edit_many(client, jobs(), output=tmp_path, journal="journal.sqlite3") as outcomes:
        assert [outcome.status async for outcome in outcomes] == ["saved"]


# --- rows -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fields",
    [
        *({"seconds": seconds} for seconds in (-0.0005, -1e308, 1e308, 10**400, float("nan"), float("inf"))),
        {"paths": ["\ud800"]},
    ],
)
async def test_a_row_that_no_report_can_show_is_a_journal_error(
    tmp_path: Path, fields: dict[str, Any]
) -> None:
    async with SqliteJournal(journal_path(tmp_path)):
        pass
    with closing(sqlite3.connect(journal_path(tmp_path))) as connection:
        body = json.dumps({"changed_at": 1, **fields})
        connection.execute("INSERT INTO jobs VALUES ('a', 'saved', 'key', 'm', 1, 0.1, ?)", (body,))
        connection.commit()
    with pytest.raises(JournalError, match="damaged"):
        write_report(tmp_path)


# --- depth ------------------------------------------------------------------------------------------------


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


ENDLESS: list[Any] = []
ENDLESS += [ENDLESS, ENDLESS]


@pytest.mark.parametrize("value", [nested(600), nested(984), ENDLESS])
@pytest.mark.parametrize("field", ["options", "extra"])
async def test_a_job_of_any_depth_fails_alone_and_the_journal_stays_readable(
    client: AsyncApimart, pictures: list[Path], tmp_path: Path, field: str, value: object
) -> None:
    fields: dict[str, Any] = {field: {"a": value}}
    deep, plain = Job(pictures[0], "stars", id="deep", **fields), Job(pictures[1], "stars", id="plain")
    ended = {outcome.id: outcome for outcome in await run(client, [deep, plain], tmp_path)}
    assert (ended["deep"].status, ended["plain"].status) == ("failed", "saved")
    assert isinstance(ended["deep"].error, InvalidArgumentError)
    assert "100 levels" in str(ended["deep"].error)
    assert len(list(read_outcomes(tmp_path))) == len(ended)
    assert len((tmp_path / "results.jsonl").read_text().splitlines()) == len(ended)
    write_report(tmp_path)
    # The next run can go on.
    assert [outcome.status for outcome in await run(client, [plain], tmp_path)] == ["saved"]


async def test_a_job_of_a_hundred_levels_is_done(
    client: AsyncApimart, pictures: list[Path], tmp_path: Path
) -> None:
    (outcome,) = await run(client, [Job(pictures[0], "stars", extra={"a": nested(98)})], tmp_path)
    assert outcome.status == "saved"


@pytest.mark.parametrize("levels", [150, 984])
@pytest.mark.parametrize("column", ["extra", "option.x", "size", "image", "prompt"])
def test_a_row_of_any_depth_is_a_bad_row(tmp_path: Path, column: str, levels: int) -> None:
    values = {"image": "a.jpg", "prompt": "p"} | {column: "DEEP"}
    line = json.dumps(values).replace('"DEEP"', "[" * levels + "]" * levels)
    (tmp_path / "jobs.jsonl").write_text(f'{line}\n{{"image": "b.jpg"}}\n')
    deep, plain = open_manifest(tmp_path / "jobs.jsonl", ManifestOptions("stars")).rows()
    assert isinstance(deep, BadRow)
    assert "more than 100 lists or objects" in deep.complaint or "nested too deeply" in deep.complaint
    assert isinstance(plain, Row)


@pytest.mark.parametrize("levels", [150, 900, 970, 990, 100_000])
def test_a_cell_of_any_depth_is_a_text_or_a_bad_row(tmp_path: Path, levels: int) -> None:
    deep = "[" * levels + "]" * levels
    (tmp_path / "jobs.csv").write_text(f"image,option.x\na.jpg,{deep}\n{deep},\na.jpg,\n")
    rows = list(open_manifest(tmp_path / "jobs.csv", ManifestOptions("stars")).rows())
    assert isinstance(rows[-1], Row)
    assert not isinstance(rows[0], Skipped)


# --- links and pipes in folders of images -----------------------------------------------------------------


@pytest.fixture
def looped(tmp_path: Path, pictures: list[Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with two links to itself, so that there are 2 ** 40 paths to each picture."""
    folder = tmp_path / "looped"
    (folder / "inner").mkdir(parents=True)
    pictures[0].rename(folder / "a.png")
    pictures[1].rename(folder / "inner" / "b.png")
    (folder / "first").symlink_to(".")
    (folder / "second").symlink_to(".")
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.parametrize("pattern", ["**/*.png", "./**/*.png", "{folder}/**/*.png", "**", "**/**/*.png"])
def test_a_pattern_ends_in_a_folder_with_links_to_itself(looped: Path, pattern: str) -> None:
    pattern = pattern.replace("{folder}", str(looped))
    rows = list(open_manifest(pattern, ManifestOptions("stars")).rows())
    found = [row.job.image for row in rows if isinstance(row, Row)]
    assert found == [str(looped / "a.png"), str(looped / "inner" / "b.png")]
    taken = [os.path.relpath(path, looped) for path in expanded([Path(pattern)])]
    assert taken == ["a.png", os.path.join("inner", "b.png")]  # noqa: PTH118 as the text


def test_a_link_that_a_pattern_names_is_followed(looped: Path) -> None:
    rows = list(open_manifest("first/**/*.png", ManifestOptions("stars")).rows())
    found = [row.job.image for row in rows if isinstance(row, Row)]
    assert found == [str(looped / "first" / "a.png"), str(looped / "first" / "inner" / "b.png")]


def test_a_pipe_with_the_name_of_a_photo_holds_up_no_pattern(tmp_path: Path, pictures: list[Path]) -> None:
    os.mkfifo(tmp_path / "photo.heic")
    options = ManifestOptions("stars", convert=False)
    rows = list(open_manifest(tmp_path / "*", options).rows())
    assert [row.location for row in rows if isinstance(row, Row)] == sorted(map(str, pictures))
    assert [Path(row.location).name for row in rows if isinstance(row, Skipped)] == ["photo.heic"]


@pytest.mark.parametrize(
    ("path", "is_elsewhere"),
    [
        (r"\\evil.example\share\a.jpg", True),
        ("//evil.example/share/a.jpg", True),
        (r"\/evil.example\share\a.jpg", True),
        (r'"\\evil.example\share\a.jpg"', True),
        ("\u200e\\\\evil.example\\share\\a.jpg", True),
        (r"\\?\UNC\evil.example\share\a.jpg", True),
        (r"\\.\pipe\a.jpg", True),
        (r"\\NAS\Photos\a.jpg", False),
        (r"C:\photos\a.jpg", False),
        ("a.jpg", False),
        (r"..\a.jpg", False),
    ],
)
def test_a_path_on_another_host_is_known_before_it_is_looked_for(path: str, *, is_elsewhere: bool) -> None:
    # Windows would tell the name and a digest of the password of the user to the host.
    assert names_another_host(path, r"\\nas\photos\new", ntpath) == is_elsewhere
    assert not names_another_host(path, "/home/me/photos")
