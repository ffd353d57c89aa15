"""`apimart batch` with a manifest on stdin, with AppleRouter, and as a dry run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from PIL import Image

if TYPE_CHECKING:
    from apimart_async.emulator import Emulator

    from .conftest import Command


@pytest.fixture
def folder(apimart: Command, photos: list[Path]) -> Path:
    """A folder of three pictures."""
    place = apimart.directory / "pictures"
    place.mkdir()
    for photo in photos:
        shutil.copy(photo, place)
    return place


# --- stdin ------------------------------------------------------------------------------------------------


@pytest.mark.long
async def test_a_manifest_on_stdin_is_run_and_continued(
    apimart: Command, emulator: Emulator, folder: Path
) -> None:
    names = sorted(path.name for path in folder.iterdir())
    csv = "image,prompt\n" + "".join(f"pictures/{name},stars\n" for name in names)
    done = await apimart.fed(csv.encode(), "batch", "-", "-o", "out")

    assert (done.code, len(done.results)) == (0, 3)
    assert sorted(Path(path).stem for path in done.results) == sorted(Path(name).stem for name in names)

    rows = [json.dumps({"image": f"pictures/{name}", "prompt": "stars"}) for name in names]
    again = await apimart.fed("\n".join(rows).encode(), "batch", "-", "-o", "out")
    assert (again.code, sorted(again.results)) == (0, sorted(done.results))
    assert len(emulator.ledger.entries) == 3


@pytest.mark.long
async def test_no_command_is_printed_that_would_show_a_password_or_lack_its_stdin(
    apimart: Command, folder: Path
) -> None:
    name = next(iter(folder.iterdir())).name
    row = f"image,prompt\npictures/{name},stars\n".encode()
    done = await apimart.fed(row, "batch", "-", "-o", "out", APIMART_API_KEY="sk-another")
    assert done.code == 1
    assert done.stderr.splitlines()[-1] == "Continue with the same command and input."

    secret = await apimart(
        *("batch", folder, "-p", "x", "-o", "other", "--base-url", "http://me:secret@127.0.0.1:9"),
        APIMART_API_KEY="sk-another",
    )
    assert "secret" not in secret.stderr


async def test_a_manifest_on_stdin_names_its_bad_rows(apimart: Command, emulator: Emulator) -> None:
    done = await apimart.fed(b"image,prompt\nnone.jpg,stars\n", "batch", "-", "-o", "out")
    assert done.code == 2
    assert "line 2" in done.stderr
    assert "none.jpg" in done.stderr
    assert not emulator.ledger.entries


async def test_an_empty_stdin_and_an_unknown_option_are_usage_errors(apimart: Command) -> None:
    empty = await apimart.fed(b"", "batch", "-", "-o", "out")
    assert (empty.code, "The manifest on stdin is empty." in empty.stderr) == (2, True)
    unknown = await apimart("batch", "--chek", "-o", "out")
    assert (unknown.code, "Unknown option: --chek" in unknown.stderr) == (2, True)


# --- AppleRouter ------------------------------------------------------------------------------------------


async def test_a_batch_with_applerouter_makes_the_pictures_fit_and_pays_once(
    apimart: Command, emulator: Emulator, repository: Path
) -> None:
    folder = repository / "docs" / "examples" / "photos"
    command = ("batch", folder, "-p", "stars", "--service", "applerouter", "-o", "out")
    done = await apimart(*command)

    assert done.code == 0
    assert sorted(Path(path).stem for path in done.results) == sorted(path.stem for path in folder.iterdir())
    assert len(emulator.ledger.entries) == 3
    again = await apimart(*command)
    assert (again.code, sorted(again.results)) == (0, sorted(done.results))
    assert len(emulator.ledger.entries) == 3


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (("--operation", "generate"), "--operation generate is for --service apimart."),
        (("--max-cost", "1"), "--max-cost is for --service apimart"),
        (("-n", "11"), "n must be"),
    ],
)
async def test_applerouter_refuses_options_that_it_cannot_keep(
    apimart: Command, folder: Path, options: tuple[str, ...], complaint: str
) -> None:
    done = await apimart("batch", folder, "-p", "x", "--service", "applerouter", "-o", "out", *options)
    assert done.code == 2
    assert complaint in done.stderr


async def test_an_address_of_an_image_is_a_bad_row_for_applerouter(apimart: Command) -> None:
    manifest = apimart.directory / "jobs.csv"
    manifest.write_text("image,prompt,size\nhttps://example.com/a.png,x,\npictures/a.png,x,9x9\n")
    done = await apimart("batch", manifest, "--service", "applerouter", "-o", "out", "--check")
    assert done.code == 2
    assert "line 2: Its image is an address: download it first" in done.stdout
    assert "line 3: size must be one of" in done.stdout


async def test_a_square_without_transparency_is_a_bad_row_for_dall_e_2(apimart: Command) -> None:
    Image.new("RGB", (64, 64), "blue").save(apimart.directory / "square.png")
    done = await apimart("batch", "*.png", "-p", "x", "--service", "applerouter", "-o", "out")
    assert done.code == 2
    assert "square.png is square and has no transparency, so there is nowhere to edit" in done.stderr


# --- dry runs ---------------------------------------------------------------------------------------------


async def test_a_dry_run_names_models_images_and_cost_and_sends_nothing(
    apimart: Command, emulator: Emulator, folder: Path
) -> None:
    done = await apimart("batch", folder, "-p", "stars", "-n", "2", "-o", "out", "--dry-run")

    assert done.code == 0
    assert "Models: grok-imagine-1.0-edit-apimart for 6 images" in done.results
    assert "Estimated cost: $0.09, for all of it" in done.results
    assert not emulator.ledger.entries
    assert not emulator.counts["uploads"]
    assert not (apimart.directory / "out").exists()
