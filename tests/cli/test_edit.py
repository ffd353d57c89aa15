"""`apimart edit` against an emulator: results, order, names, and one failure among many."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from apimart_async.emulator.faults import Fault
from apimart_async.transport.media.sniffing import identify

if TYPE_CHECKING:
    from apimart_async.emulator import Emulator

    from .conftest import Command

PROMPT = "A sunset that nobody else may read about"


async def test_paths_on_stdout_and_all_else_on_stderr(
    apimart: Command, emulator: Emulator, photos: list[Path]
) -> None:
    twins = [apimart.directory / folder / "same {name}.png" for folder in ("a", "b")]
    for twin, photo in zip(twins, photos, strict=False):
        twin.parent.mkdir()
        shutil.copy(photo, twin)
    again = twins[0].parent / ".." / "a" / twins[0].name

    done = await apimart("edit", photos[0], *twins, again, "-p", PROMPT, "-o", "out")

    assert done.code == 0
    saved = [apimart.directory / path for path in done.results]
    assert saved[0].stem == photos[0].stem
    assert sorted(path.stem for path in saved[1:]) == ["same {name}", "same {name}-2"]
    assert sorted(saved) == sorted((apimart.directory / "out").iterdir())
    assert all(identify(path.read_bytes()).content_type.startswith("image/") for path in saved)

    assert f"{photos[0].name}: submitted as task_" in done.stderr
    assert f"{photos[0].name}: done in " in done.stderr
    assert "3 images edited in " in done.stderr
    assert "given twice" in done.stderr
    assert len(emulator.ledger.entries) == 3
    assert PROMPT not in done.stdout + done.stderr


async def test_json_is_in_the_order_of_the_arguments_and_one_failure_ends_nothing(
    apimart: Command, emulator: Emulator, photos: list[Path]
) -> None:
    emulator.faults.add(
        Fault(kind="slow", route="uploads", seconds=0.1, times=1),
        Fault(kind="task-failed", route="edits", times=1),
    )
    done = await apimart("edit", *photos, "-p", PROMPT, "-n", "2", "-o", "out", "--json")

    assert done.code == 1
    assert "2 of 3 images edited, 1 failed" in done.stderr
    assert "Failed tasks are free" in done.stderr
    assert PROMPT not in done.stdout + done.stderr
    assert [record["image"] for record in done.records] == [str(photo) for photo in photos]
    for record in done.records:
        assert list(record) == ["image", "status", "task_id", "paths", "cost", "seconds", "error"]
        assert record["task_id"].startswith("task_")
        assert record["seconds"] > 0
        stem = f"out/{Path(record['image']).stem}"
        if record["status"] == "done":
            assert [path.rpartition(".")[0] for path in record["paths"]] == [f"{stem}-1", f"{stem}-2"]
            assert record["cost"] == 0.03
            assert record["error"] is None
    (failed,) = (record for record in done.records if record["status"] == "failed")
    assert failed["paths"] == []
    assert failed["error"]["type"] == "TaskFailedError"
    assert failed["error"]["task_id"] == failed["task_id"]
    assert len(failed["error"]["idempotency_key"]) == 32


async def test_an_uncertain_submit_is_not_repeated_and_names_its_key(
    apimart: Command, emulator: Emulator, photo: Path
) -> None:
    emulator.faults.add(Fault(kind="disconnect", route="edits", executed=True))
    done = await apimart("edit", photo, "-p", PROMPT, "-o", "out", "--json")

    assert done.code == 1
    (entry,) = emulator.ledger.entries
    (record,) = done.records
    assert record["error"]["type"] == "SubmissionIndeterminateError"
    assert record["error"]["idempotency_key"] == entry.idempotency_key
    assert f"idempotency key {entry.idempotency_key}" in done.stderr


async def test_the_summary_tells_edits_in_doubt_from_failed_ones(
    apimart: Command, emulator: Emulator, photos: list[Path]
) -> None:
    emulator.faults.add(
        Fault(kind="disconnect", route="edits", executed=True, times=1),
        Fault(kind="task-failed", route="edits", times=1),
    )
    done = await apimart("edit", *photos, "-p", PROMPT, "-o", "out")
    assert done.code == 1
    assert "1 of 3 images edited, 1 failed, 1 in doubt in " in done.stderr.splitlines()[-1]


async def test_a_wrong_key_is_reported_once(apimart: Command, photo: Path) -> None:
    pictures = [shutil.copy(photo, apimart.directory / f"{number}{photo.suffix}") for number in range(40)]
    done = await apimart("edit", *pictures, "-p", PROMPT, "-o", "out", APIMART_API_KEY="sk-another")

    assert done.code == 1
    assert done.stdout == ""
    assert "sk-another" not in done.stderr
    assert done.stderr.count("Check the key in APIMART_API_KEY") == 1
    assert "0 of 40 images edited" in done.stderr
    assert "not started" in done.stderr


async def test_a_long_wait_that_the_service_asks_for_loses_no_result(
    apimart: Command, emulator: Emulator, photo: Path
) -> None:
    """Whoever runs the command again pays again, so it has to tell which edits were made."""
    pictures = [shutil.copy(photo, apimart.directory / f"{number}.jpg") for number in range(5)]
    emulator.faults.add(
        Fault(kind="status", route="edits", status=429, retry_after=100_000, times=1),
        Fault(kind="task-failed", route="edits", times=1),
    )
    done = await apimart("edit", *pictures, "-p", PROMPT, "-o", "out", "--json")
    assert done.code == 1
    assert [record["image"] for record in done.records] == list(map(str, pictures))
    paths = [path for record in done.records for path in record["paths"]]
    assert len(paths) == len(emulator.ledger.billed)
    assert all((apimart.directory / path).is_file() for path in paths)
    assert ".jpg: an injected fault (HTTP 429, request id " in done.stderr
    assert "Nothing was billed; run it again in 100,000 s." in done.stderr
    assert "batch" not in done.stderr
    assert "of 5 images edited" in done.stderr


async def test_equal_pictures_are_uploaded_once_and_edited_each(
    apimart: Command, emulator: Emulator, photo: Path
) -> None:
    twins = [Path(shutil.copy(photo, apimart.directory / f"{name}{photo.suffix}")) for name in "ab"]
    done = await apimart("edit", *twins, "-p", PROMPT, "-o", "out")

    assert done.code == 0
    assert [Path(path).stem for path in done.results] == ["a", "b"]
    assert len(emulator.ledger.billed) == 2
    assert emulator.counts["uploads"] == 1


async def test_local_needs_no_key_and_inline_no_upload(offline: Command, repository: Path) -> None:
    photo = repository / "docs" / "examples" / "photos" / "mug.jpg"
    address = "https://example.com/folder/remote.png?size=1"
    done = await offline("edit", photo, address, "-p", "A starry sky", "--inline", "--local", "-o", "out")

    assert done.code == 0
    edited, remote = (offline.directory / path for path in done.results)
    assert edited.name.startswith("mug.")
    assert edited.read_bytes() != photo.read_bytes()
    assert remote.name.startswith("remote.")
