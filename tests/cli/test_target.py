"""Exact output files, dry runs and budgets of `apimart edit` and `apimart generate`."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import anyio
import pytest

from apimart_async.cli.display.item import Item
from apimart_async.cli.target import Target
from apimart_async.transport.media.sniffing import identify

if TYPE_CHECKING:
    from pathlib import Path

    from apimart_async.emulator import Emulator

    from .conftest import Command


# --- exact files ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["edit PHOTO -p stars", "generate stars"])
@pytest.mark.parametrize("extension", [".png", ".jpg"])
async def test_the_only_image_gets_the_exact_path(
    apimart: Command, photo: Path, command: str, extension: str
) -> None:
    words = [str(photo) if word == "PHOTO" else word for word in command.split()]
    done = await apimart(*words, "-o", f"made/exact{extension}")

    assert (done.code, done.results) == (0, [f"made/exact{extension}"])
    assert [path.name for path in (apimart.directory / "made").iterdir()] == [f"exact{extension}"]
    kind = identify((apimart.directory / done.results[0]).read_bytes()).extension
    assert ("image, as the service has sent it" in done.stderr) == (kind != extension)

    again = await apimart(*words, "-o", f"made/exact{extension}")
    assert again.code == 2
    assert "exists already, and no file is overwritten" in again.stderr


async def test_an_earlier_file_of_the_same_content_stays(apimart: Command, photo: Path) -> None:
    first = await apimart("edit", photo, "-p", "stars", "-o", "made/exact.jpg")
    content = (apimart.directory / "made" / "exact.jpg").read_bytes()
    again = await apimart("edit", photo, "-p", "stars", "-o", "made/exact.png")
    assert (first.code, again.code, again.results) == (0, 0, ["made/exact.png"])
    made = {path.name: path.read_bytes() for path in (apimart.directory / "made").iterdir()}
    assert made == {"exact.jpg": content, "exact.png": content}


def test_a_file_that_appears_meanwhile_is_not_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    # As on file systems without links, such as exFAT on a memory card.
    monkeypatch.setattr(os, "link", refuse)
    (tmp_path / "saved.png").write_bytes(b"new")
    item = Item("photo.png", "photo.png")
    item.paths = (tmp_path / "saved.png",)
    target = Target(tmp_path, tmp_path / "exact.png")
    (tmp_path / "exact.png").write_bytes(b"old")
    anyio.run(target.place, item)
    assert (tmp_path / "exact.png").read_bytes() == b"old"
    assert item.paths[0].read_bytes() == b"new"
    assert "exists by now" in capsys.readouterr().err

    (tmp_path / "exact.png").unlink()
    anyio.run(target.place, item)
    assert item.paths == (tmp_path / "exact.png",)
    assert [path.name for path in tmp_path.iterdir()] == ["exact.png"]


async def test_a_file_cannot_take_several_images_and_a_directory_may_have_any_name(
    apimart: Command, emulator: Emulator, photos: list[Path]
) -> None:
    for several in (photos, [photos[0], "-n", "2"]):
        done = await apimart("edit", *several, "-p", "stars", "-o", "out.png")
        assert done.code == 2
        assert "-o out.png names one file, but" in done.stderr
    assert not emulator.ledger.entries

    (apimart.directory / "folder.png").mkdir()
    inside = await apimart("edit", photos[0], "-p", "stars", "-o", "folder.png")
    assert inside.code == 0
    assert inside.results[0].startswith("folder.png/")


@pytest.mark.parametrize("command", [("task", "save", "task_1"), ("batch", "FOLDER", "-p", "stars")])
async def test_other_commands_take_a_directory_alone(
    apimart: Command, photo: Path, command: tuple[str, ...]
) -> None:
    words = [str(photo.parent) if word == "FOLDER" else word for word in command]
    done = await apimart(*words, "-o", "out.png", *(["--skip-bad"] if "FOLDER" in command else []))
    assert done.code == 2
    assert "out.png is the name of a file: name a directory with -o." in done.stderr


# --- dry runs and budgets ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "command", ["edit PHOTO -p stars", "generate stars -i PHOTO", "edit PHOTO -p stars --inline"]
)
async def test_a_dry_run_needs_no_key_and_sends_nothing(
    apimart: Command, offline: Command, emulator: Emulator, photo: Path, command: str
) -> None:
    words = [str(photo) if word == "PHOTO" else word for word in command.split()]
    for where in (apimart, offline):
        done = await where(*words, "-n", "2", "--dry-run")
        assert done.code == 0
        assert done.results[0].startswith("Model: g")
        assert done.results[1].startswith("Pictures to send: 1, ")
        assert done.results[2].startswith("Images to come: 2, into ")
        assert done.results[3].startswith("Estimated cost: ")
        assert not list(where.directory.glob("*ed"))
    assert not emulator.ledger.entries
    assert not emulator.counts["uploads"]


async def test_a_dry_run_counts_pictures_at_addresses_by_themselves(offline: Command, photo: Path) -> None:
    done = await offline("edit", photo, "https://example.com/a.jpg", "-p", "stars", "--dry-run")
    assert done.results[1] == f"Pictures to send: 1, {photo.stat().st_size} bytes; 1 by URL"


async def test_a_dry_run_as_json_has_the_price_of_the_service(apimart: Command, photo: Path) -> None:
    done = await apimart("edit", photo, "-p", "stars", "-n", "2", "--dry-run", "--json")
    (record,) = done.records
    assert record["model"] == "grok-imagine-1.0-edit-apimart"
    assert (record["pictures"], record["bytes"]) == (1, photo.stat().st_size)
    assert (record["images"], record["estimated_cost"]) == (2, 0.03)

    router = await apimart(
        "edit", photo, "-p", "stars", "--service", "applerouter", "-m", "other", "--dry-run"
    )
    assert router.results[0] == "Model: other"
    assert router.results[3] == "Estimated cost: not known"


async def test_a_dry_run_checks_the_pictures(apimart: Command) -> None:
    (apimart.directory / "a.png").write_bytes(b"%PDF-1.7")
    done = await apimart("edit", "a.png", "-p", "stars", "--dry-run")
    assert done.code == 2
    assert "a.png is a PDF" in done.stderr


@pytest.mark.parametrize("command", ["edit PHOTO -p stars", "generate stars"])
async def test_a_dry_run_refuses_the_place_of_results_that_the_command_would_refuse(
    apimart: Command, photo: Path, command: str
) -> None:
    words = [str(photo) if word == "PHOTO" else word for word in command.split()]
    (apimart.directory / "notes").write_text("a file")
    found = [await apimart(*words, "-o", "notes", *dry) for dry in ((), ("--dry-run",))]
    assert [(done.code, done.stderr) for done in found] == [
        (2, "apimart: notes is not a directory: name another one with -o.\n")
    ] * 2


async def test_a_dry_run_compares_the_cost_with_the_budget(
    apimart: Command, emulator: Emulator, photos: list[Path]
) -> None:
    command = ["edit", *map(str, photos), "-p", "stars", "--dry-run", "--max-cost"]
    poor, enough = await apimart(*command, "0.04"), await apimart(*command, "0.045")
    assert (poor.code, enough.code) == (1, 0)
    assert poor.results[4] == "Budget: $0.04, not enough: the command would end early"
    assert enough.results[4] == "Budget: $0.045, enough"
    as_json = await apimart(*command, "0.04", "--json")
    (record,) = as_json.records
    assert (as_json.code, record["max_cost"], record["fits"]) == (1, 0.04, False)
    assert not emulator.ledger.entries


async def test_edits_stop_before_the_budget(apimart: Command, emulator: Emulator, photos: list[Path]) -> None:
    done = await apimart("edit", *photos, "-p", "stars", "-o", "out", "--max-cost", "0.031")

    assert done.code == 1
    assert len(done.results) == 2
    assert len(emulator.ledger.entries) == 2
    assert (
        "could pass the budget of 0.031 USD: 0.03 USD are spent. Edit the pictures that are left with a "
        "command of their own." in done.stderr
    )
    assert "2 of 3 images edited" in done.stderr


async def test_a_budget_below_the_price_of_one_picture_sends_nothing(
    apimart: Command, emulator: Emulator, photo: Path
) -> None:
    done = await apimart("edit", photo, "-p", "stars", "-n", "2", "--max-cost", "0.02")
    assert done.code == 2
    assert (
        "--max-cost $0.02 does not pay for one picture, which costs $0.03. Nothing was sent." in done.stderr
    )
    assert not emulator.ledger.entries

    refused = await apimart("edit", photo, "-p", "x", "--max-cost", "0")
    assert (refused.code, "--max-cost must be more than 0 USD" in refused.stderr) == (2, True)
