"""`apimart batch` with manifests as people have them: folders, spreadsheets and files of strangers."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from apimart_async.emulator.faults import Fault

from .gate import Gate

if TYPE_CHECKING:
    from apimart_async.emulator import Emulator

    from .conftest import Command


@pytest.fixture
def folder(apimart: Command, photos: list[Path]) -> Path:
    """A folder of two pictures and a HEIC photo, with a third picture in a subfolder."""
    pictures = apimart.directory / "pictures"
    (pictures / "more").mkdir(parents=True)
    for photo in photos[:2]:
        shutil.copy(photo, pictures)
    shutil.copy(photos[2], pictures / "more")
    (pictures / "scan.xcf").touch()
    return pictures


def results(directory: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (directory / "results.jsonl").read_text().splitlines()]


# --- operations ---------------------------------------------------------------------------------------------


async def test_a_manifest_without_images_makes_images_from_text(apimart: Command, emulator: Emulator) -> None:
    (apimart.directory / "prompts.csv").write_text("prompt,name\nA lighthouse,one\nA harbour,two\n")
    command = ("batch", "prompts.csv", "-o", "out")
    refused = await apimart(*command)
    assert (refused.code, len(emulator.requests)) == (2, 0)
    assert "names no column `image`" in refused.stderr
    checked = await apimart(*command, "--operation", "generate", "--check")
    assert "Jobs: 2" in checked.results
    done = await apimart(*command, "--operation", "generate")
    assert done.code == 0
    assert sorted(Path(path).name for path in done.results) == ["one.jpg", "two.jpg"]
    assert [entry.endpoint for entry in emulator.ledger.entries] == ["generations"] * 2
    assert {line["operation"] for line in results(apimart.directory / "out")} == {"generate"}


async def test_a_folder_is_segmented_for_free(apimart: Command, emulator: Emulator, folder: Path) -> None:
    command = ("batch", folder, "-o", "out", "--operation", "segment")
    checked = await apimart(*command, "--check")
    assert "Images to come: 2, 2 of them free" in checked.results
    done = await apimart(*command, "--max-cost", "0.01")
    assert (done.code, len(done.results)) == (0, 2)
    assert emulator.ledger.total == 0
    assert [entry.operation for entry in emulator.ledger.entries] == ["segment"] * 2


# --- folders and patterns -----------------------------------------------------------------------------------


async def test_left_out_results_are_counted_as_such(apimart: Command, photo: Path) -> None:
    for name in ("photos/1.png", "photos/old/1.png", "photos/old/2.png", "photos/old/.batch/journal.sqlite3"):
        path = apimart.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(photo, path)
    checked = await apimart("batch", "photos", "-p", "sunset", "-o", "out", "--check", "--recursive")
    assert "2 files skipped: 2 results of a batch" in checked.results


async def test_left_out_files_are_counted_and_the_others_are_done(
    apimart: Command, emulator: Emulator, folder: Path
) -> None:
    command = ("batch", folder, "-p", "sunset", "-o")
    line = "2 files skipped: 1 XCF, 1 in a subfolder; use --recursive"
    checked = await apimart(*command, "out", "--check")
    done = await apimart(*command, "out")

    assert (checked.code, done.code) == (0, 0)
    assert checked.results[-3:] == [line, "  scan.xcf", f"  {Path('more', 'no_time_for_that_tiny.gif')}"]
    assert done.stderr.splitlines()[0] == line
    assert len(emulator.ledger.entries) == len(done.results) == 2

    more = await apimart(*command, folder / "out", "--recursive")
    again = await apimart(*command, folder / "out", "--recursive")
    assert more.stderr.splitlines()[0] == again.stderr.splitlines()[0] == "1 file skipped: 1 XCF"
    assert (more.code, again.code, len(again.results)) == (0, 0, 3)
    assert len(emulator.ledger.entries) == 5


@pytest.mark.parametrize("check", [(), ("--check",)])
async def test_a_folder_without_pictures_is_nothing_done(
    apimart: Command, emulator: Emulator, check: tuple[str, ...]
) -> None:
    (apimart.directory / "docs").mkdir()
    (apimart.directory / "docs" / "notes.txt").touch()
    done = await apimart("batch", "docs", "-p", "sunset", "-o", "out", *check)
    said = done.stdout + done.stderr
    assert done.code == 1
    assert "1 file skipped: 1 TXT\n" in said
    assert said.endswith("It has no pictures to edit: there is nothing to do.\n")

    missing = await apimart("batch", "docs/*.jpg", "-p", "sunset", "-o", "out", *check)
    assert missing.code == 1
    assert emulator.requests == ()


async def test_a_quoted_pattern_is_expanded(apimart: Command, emulator: Emulator, folder: Path) -> None:
    done = await apimart("batch", "pictures/**/*.[gp]*", "-p", "sunset", "-o", "pictures/out")
    again = await apimart("batch", "pictures/**/*.[gp]*", "-p", "sunset", "-o", "pictures/out")
    assert (done.code, again.code, len(again.results)) == (0, 0, 2)
    assert len(emulator.ledger.entries) == 2
    among = await apimart("batch", "pictures/*.png", "-p", "sunset", "-o", folder)
    assert among.code == 2
    assert "among the images" in among.stderr


async def test_skip_bad_does_the_other_rows_and_says_so(
    apimart: Command, emulator: Emulator, folder: Path
) -> None:
    (folder / "a.jpg").write_text("no image")
    (folder / "z.png").touch()
    command = ("batch", folder, "-p", "sunset", "-o", "out")
    refused, checked = await apimart(*command), await apimart(*command, "--skip-bad", "--check")
    assert (refused.code, checked.code) == (2, 1)
    assert "2 of 4 rows cannot be done, left out:" in checked.results
    assert {seen.path for seen in emulator.requests} == {"/v1/model-schema"}

    done = await apimart(*command, "--skip-bad")
    lines = done.stderr.splitlines()
    assert done.code == 1
    assert lines[1] == "2 of 4 rows cannot be done, left out:"
    assert [line.split()[0] for line in lines[2:4]] == ["a.jpg", "z.png"]
    assert lines[-1].startswith("2 of 2 jobs saved in out; ")
    assert len(results(apimart.directory / "out")) == len(emulator.ledger.entries) == 2


async def test_only_bad_rows_are_nothing_done(apimart: Command, emulator: Emulator) -> None:
    (apimart.directory / "jobs.csv").write_text("image,prompt\nnone.png,x\n")
    done = await apimart("batch", "jobs.csv", "-o", "out", "--skip-bad")
    assert done.code == 1
    assert "none.png" in done.stderr
    assert emulator.requests == ()


# --- columns and rights -------------------------------------------------------------------------------------


async def test_other_columns_reach_the_results_and_not_the_service(
    apimart: Command, emulator: Emulator, folder: Path
) -> None:
    name = next(path.name for path in folder.iterdir() if path.suffix == ".png")
    text = f"image;prompt;n;size;option.seed;customer\npictures/{name};x;2.0;1:1;7;Ada & Söhne \n"
    (apimart.directory / "jobs.csv").write_text(f"sep=;\n{text}", encoding="utf-8")
    checked = await apimart("batch", "jobs.csv", "-o", "out", "--check")
    async with Gate(emulator, "/no such path", "received") as gate:
        done = await apimart("batch", "jobs.csv", "-o", "out", "--json", APIMART_BASE_URL=gate.url)

    assert checked.results[-2:] == [
        "Columns sent as options: size, seed",
        "Columns kept in results.jsonl, not sent: customer",
    ]
    assert done.stderr.splitlines()[0] == "Columns that are not sent, and kept in results.jsonl: customer"
    (entry,) = emulator.ledger.entries
    submitted = json.loads(gate.bodies["/v1/images/edits"])
    assert entry.images == 2
    assert submitted.keys() == {"image_urls", "model", "n", "prompt", "seed", "size"}
    (line,) = results(apimart.directory / "out")
    assert line == done.records[0]
    assert (line["options"], line["extra"]) == ({"size": "1:1", "seed": 7}, {"customer": "Ada & Söhne "})


async def test_a_check_holds_each_row_against_the_schema_of_its_model(
    apimart: Command, emulator: Emulator
) -> None:
    lines = ["prompt,model,quality", "x,gpt-image-2,high", "y,gpt-image-2,best", "z,gpt-image-2,low"]
    (apimart.directory / "jobs.csv").write_text("\n".join(lines), encoding="utf-8")
    command = ("batch", "jobs.csv", "-o", "out", "--operation", "generate", "--check")
    checked = await apimart(*command)
    assert checked.code == 2
    said = (checked.stdout + checked.stderr).splitlines()
    (complaint,) = [line for line in said if "quality must be one of" in line]
    assert complaint.strip().startswith("line 3: quality")
    assert "'best'" in complaint
    schemas = [seen for seen in emulator.requests if seen.path == "/v1/model-schema"]
    assert len(schemas) == 1
    assert not emulator.ledger.entries
    unchecked = await apimart(*command, APIMART_CHECK="off")
    keyless = await apimart(*command, APIMART_API_KEY="")
    assert (unchecked.code, keyless.code) == (0, 0)


@pytest.mark.parametrize(
    ("row", "flag"),
    [
        ("../private.png,x,", "--allow-outside"),
        ("pictures/a.png,x,https://example.com/hook", "--allow-webhook"),
    ],
)
async def test_a_strangers_manifest_needs_flags(
    apimart: Command, emulator: Emulator, folder: Path, row: str, flag: str
) -> None:
    picture = next(path for path in folder.iterdir() if path.suffix == ".png")
    jobs = apimart.directory / "received"
    jobs.mkdir()
    shutil.copytree(folder, jobs / "pictures")
    shutil.copy(picture, jobs / "pictures" / "a.png")
    shutil.copy(picture, apimart.directory / "private.png")
    (jobs / "jobs.csv").write_text(f"image,prompt,webhook\n{row}\n")

    refused = await apimart("batch", jobs / "jobs.csv", "-o", "out")
    assert refused.code == 2
    assert flag in refused.stderr
    assert emulator.requests == ()
    assert (await apimart("batch", jobs / "jobs.csv", "-o", "out", flag)).code == 0


# --- a check after a run ------------------------------------------------------------------------------------


async def test_a_check_knows_the_journal_and_the_budget(
    apimart: Command, emulator: Emulator, folder: Path
) -> None:
    emulator.faults.add(Fault(kind="task-failed", route="edits", times=1))
    await apimart("batch", folder, "-p", "sunset", "-o", "out")
    command = ("batch", folder, "-p", "sunset", "-o", "out", "--recursive", "--check")
    requests = len(emulator.requests)
    plain = await apimart(*command)
    retried = await apimart(*command, "--retry-failed", "--max-cost", "0.045")
    poor = await apimart(*command, "--retry-failed", "--max-cost", "0.04")
    as_json = await apimart(*command, "--max-cost", "0.04", "--json")

    assert plain.results[:7] == [
        "Jobs: 3",
        "Started: 1 saved, 1 failed and left alone without --retry-failed",
        "Left: 1",
        "Images to come: 1",
        "Models: grok-imagine-1.0-edit-apimart for 1 image",
        "Pictures to upload: 1, 4.4 kB",
        "Estimated cost: $0.015, in addition to $0.015 so far",
    ]
    assert retried.results[1:4] == ["Started: 1 saved", "Left: 2", "Images to come: 2"]
    assert "Budget: $0.045, enough" in retried.results
    assert "Budget: $0.04, not enough: the batch would end early" in poor.results
    assert (plain.code, retried.code, poor.code, as_json.code) == (0, 0, 1, 0)
    (record,) = as_json.records
    assert [record[name] for name in ("saved", "failed", "left", "spent", "max_cost", "fits")] == [
        *(1, 1, 1, 0.015, 0.04, True)
    ]
    sent = [seen.route for seen in emulator.requests[requests:]]
    assert set(sent) == {"catalogue"}


async def test_a_check_counts_copies_of_a_picture_once(apimart: Command, folder: Path) -> None:
    picture = next(path for path in folder.iterdir() if path.suffix == ".png")
    shutil.copy(picture, folder / "copy.png")
    checked = await apimart("batch", folder, "-p", "sunset", "-o", "out", "--check")
    assert checked.results[:2] == ["Jobs: 2 (1 more row asks for the same)", "Images to come: 2"]


@pytest.mark.long
async def test_a_check_refuses_the_directory_that_the_run_would_refuse(
    apimart: Command, folder: Path
) -> None:
    await apimart("batch", folder, "-p", "sunset", "-o", "out", "--local")
    checked = await apimart("batch", folder, "-p", "sunset", "-o", "out", "--check")
    assert checked.code == 2
    assert "holds a batch that --local made" in checked.stderr
