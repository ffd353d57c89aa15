"""A batch whose results go to object storage: resumed as one on disk, with its journal elsewhere."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from anyio import to_thread

from apimart_async import AsyncApimart, DownloadError, InvalidArgumentError, Job, edit_many
from apimart_async.batch import read_outcomes
from apimart_async.batch.report.page import write_report
from apimart_async.transport.object_storage import ObjectPath, any_path, store_of

from .test_edit_many import run

if TYPE_CHECKING:
    from pathlib import Path

    from apimart_async.emulator import Emulator


@pytest.fixture
def folder(tmp_path: Path) -> ObjectPath:
    path = any_path(f"memory://{id(tmp_path)}.{tmp_path.name}/out")
    assert isinstance(path, ObjectPath)
    return path


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return tmp_path / "batch.sqlite3"


def listed(folder: ObjectPath) -> list[str]:
    return sorted(
        meta["path"].rpartition("/")[2] for page in store_of(folder).list(folder.key) for meta in page
    )


async def test_results_and_their_list_are_objects(
    client: AsyncApimart, pictures: list[Path], folder: ObjectPath, journal: Path
) -> None:
    jobs = [Job(picture, "Add snow", name=picture.stem) for picture in pictures]
    outcomes = await run(client, jobs, str(folder), journal=journal)
    assert listed(folder) == ["blue.jpg", "green.jpg", "red.jpg", "results.jsonl"]
    assert {str(path) for outcome in outcomes for path in outcome.paths} == {
        f"{folder}/{picture.stem}.jpg" for picture in pictures
    }
    lines = [json.loads(line) for line in (folder / "results.jsonl").read_bytes().splitlines()]
    assert sorted(path for line in lines for path in line["paths"]) == ["blue.jpg", "green.jpg", "red.jpg"]
    kept = await to_thread.run_sync(lambda: list(read_outcomes(str(folder), journal=journal)))
    assert {str(path) for outcome in kept for path in outcome.paths} == {
        f"{folder}/{picture.stem}.jpg" for picture in pictures
    }


async def test_saved_objects_are_skipped_and_a_missing_one_is_saved_again(
    client: AsyncApimart, emulator: Emulator, pictures: list[Path], folder: ObjectPath, journal: Path
) -> None:
    jobs = [Job(picture, "Add snow", name=picture.stem) for picture in pictures]
    await run(client, jobs, folder, journal=journal)
    downloads = emulator.counts["files"]
    again = await run(client, jobs, folder, journal=journal)
    assert [(outcome.status, outcome.resumed) for outcome in again] == [("saved", True)] * 3
    assert emulator.counts["files"] == downloads
    store_of(folder).delete(f"{folder.key}/red.jpg")
    await run(client, jobs, folder, journal=journal)
    assert emulator.counts["files"] == downloads + 1
    assert listed(folder) == ["blue.jpg", "green.jpg", "red.jpg", "results.jsonl"]
    assert len(emulator.ledger.entries) == 3


async def test_images_of_a_bucket_are_edited_into_a_bucket(
    client: AsyncApimart, emulator: Emulator, pictures: list[Path], folder: ObjectPath, journal: Path
) -> None:
    sources = folder.parent / "in"
    for picture in pictures:
        store_of(sources).put(f"{sources.key}/{picture.name}", picture.read_bytes())
    # Equal requests under two names are paid for once, and the copy is an object too.
    jobs = [
        *(Job(f"{sources}/{picture.name}", "Add snow", name=picture.stem) for picture in pictures),
        Job(f"{sources}/red.png", "Add snow", name="again"),
    ]
    await run(client, jobs, folder, journal=journal)
    assert listed(folder) == ["again.jpg", "blue.jpg", "green.jpg", "red.jpg", "results.jsonl"]
    assert len(emulator.ledger.entries) == 3
    assert (folder / "again.jpg").read_bytes() == (folder / "red.jpg").read_bytes()


async def test_report_is_an_object_that_links_to_the_others(
    client: AsyncApimart, pictures: list[Path], folder: ObjectPath, journal: Path
) -> None:
    await run(client, [Job(pictures[0], "Add snow", name="a b")], folder, journal=journal)
    path = await to_thread.run_sync(lambda: write_report(folder, journal=journal))
    assert str(path) == f"{folder}/report.html"
    page = (folder / "report.html").read_bytes().decode()
    assert "a%20b.jpg" in page
    assert 'href="results.jsonl"' in page
    assert str(pictures[0].parent) not in page.replace(str(pictures[0]), "")


async def test_journal_in_object_storage_is_refused(client: AsyncApimart, folder: ObjectPath) -> None:
    with pytest.raises(InvalidArgumentError, match="journal="):
        edit_many(client, [], output=folder)


async def test_folder_that_cannot_be_written_is_found_before_anything_is_sent(
    client: AsyncApimart, emulator: Emulator, pictures: list[Path], tmp_path: Path, journal: Path
) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DownloadError, match="Nothing was submitted"):
        await run(client, [Job(pictures[0], "Add snow")], f"file://{tmp_path}/file/out", journal=journal)
    assert not emulator.counts["uploads"]
    assert not emulator.ledger.entries


def test_readers_of_a_batch_in_object_storage_ask_for_its_journal(folder: ObjectPath) -> None:
    for read in (read_outcomes, write_report):
        for place in (folder, str(folder)):
            with pytest.raises(InvalidArgumentError, match="is elsewhere: name it with journal="):
                read(place)
