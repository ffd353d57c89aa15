"""`apimart edit --service applerouter`: pictures made to fit, masks, and results that no task remembers."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from PIL import Image

from apimart_async.emulator.faults import Fault

from .gate import Gate

if TYPE_CHECKING:
    from apimart_async.emulator import Emulator

    from .conftest import Command, Finished

PROMPT = "A red hat that nobody else may read about"


def draw(place: Path, size: tuple[int, int] = (64, 64), *, mode: str = "RGBA", hole: bool = True) -> Path:
    picture = Image.new(mode, size, (200, 80, 40, 255)[: len(mode)])
    if hole:
        picture.paste((0, 0, 0, 0), (0, 0, size[0] // 2, size[1]))
    picture.save(place)
    return place


async def edit(command: Command, *arguments: str | Path) -> Finished:
    return await command("edit", *arguments, "-p", PROMPT, "--service", "applerouter", "-o", "out")


async def test_a_picture_that_fits_is_sent_unchanged(apimart: Command, emulator: Emulator) -> None:
    picture = draw(apimart.directory / "room.png")
    done = await edit(apimart, picture, "-n", "2", "--size", "256x256")
    assert done.code == 0
    assert done.results == ["out/room-1.png", "out/room-2.png"]
    assert "made to fit" not in done.stderr
    assert "room.png: done in " in done.stderr
    (entry,) = emulator.ledger.entries
    assert (entry.endpoint, entry.model, entry.images) == ("applerouter", "dall-e-2", 2)
    assert PROMPT not in done.stdout + done.stderr


async def test_photographs_are_converted(
    apimart: Command, emulator: Emulator, photographs: dict[str, Path]
) -> None:
    photos = [photographs["rocket.jpg"], photographs["chelsea.png"], draw(apimart.directory / "fits.png")]
    done = await edit(apimart, *photos, "--size", "256x256", "--json")
    assert done.code == 0
    assert "2 of 3 pictures are made to fit dall-e-2, as square PNGs of 256 pixels" in done.stderr
    assert [record["status"] for record in done.records] == ["done"] * 3
    assert {record["task_id"] for record in done.records} == {None}
    assert len(emulator.ledger.entries) == 3
    one = await edit(apimart, photographs["rocket.jpg"])
    assert f"{photographs['rocket.jpg']} is made to fit dall-e-2, as a square PNG of 1024" in one.stderr


@pytest.mark.parametrize("name", ["photo.png", "photo.jpg"])
async def test_a_mask_is_converted_with_its_picture(apimart: Command, name: str) -> None:
    photo = draw(apimart.directory / name, (80, 40), mode="RGB", hole=False)
    mask = draw(apimart.directory / "mask.png", (80, 40))
    done = await edit(apimart, photo, "--mask", mask, "--size", "256x256")
    assert done.code == 0
    assert "is made to fit" in done.stderr


async def test_a_mask_that_fits_leaves_the_picture_as_it_is(apimart: Command) -> None:
    photo = draw(apimart.directory / "photo.png", mode="RGB", hole=False)
    done = await edit(apimart, photo, "--mask", draw(apimart.directory / "mask.png"))
    assert done.code == 0
    assert "made to fit" not in done.stderr


async def test_pictures_without_an_area_to_edit_are_refused(apimart: Command, emulator: Emulator) -> None:
    square = draw(apimart.directory / "square.jpg", mode="RGB", hole=False)
    strip = draw(apimart.directory / "strip.jpg", (80, 40), mode="RGB", hole=False)
    opaque = draw(apimart.directory / "opaque.png", mode="RGB", hole=False)
    other = draw(apimart.directory / "other.png", (32, 32))
    nowhere = await edit(apimart, square, strip)
    assert nowhere.code == 2
    assert "square.jpg is square and has no transparency, so there is nowhere to edit" in nowhere.stderr
    assert "give a --mask" in nowhere.stderr
    no_mask = await edit(apimart, square, "--mask", opaque)
    assert no_mask.code == 2
    assert "opaque.png has no transparency: make the area to edit transparent" in no_mask.stderr
    sizes = await edit(apimart, square, strip, "--mask", other)
    assert sizes.code == 2
    assert "strip.jpg is 80 x 40 pixels and the mask 32 x 32: make the mask from the picture" in sizes.stderr
    assert "2 of 2 pictures cannot be sent" in sizes.stderr
    assert not emulator.requests


async def test_a_photograph_on_its_side_and_its_mask_agree(apimart: Command) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    photo = apimart.directory / "photo.jpg"
    Image.new("RGB", (80, 40), (200, 80, 40)).save(photo, exif=exif)
    upright = draw(apimart.directory / "upright.png", (40, 80))
    stored = draw(apimart.directory / "stored.png", (80, 40))
    assert (await edit(apimart, photo, "--mask", upright)).code == 0
    assert "is 40 x 80 pixels" in (await edit(apimart, photo, "--mask", stored)).stderr


async def test_pictures_for_other_models_are_sent_unchanged(
    apimart: Command, emulator: Emulator, photographs: dict[str, Path]
) -> None:
    done = await edit(apimart, photographs["rocket.jpg"], "-m", "gpt-image-2", "--size", "1536x1024")
    assert done.code == 0
    assert "made to fit" not in done.stderr
    assert emulator.ledger.entries[0].model == "gpt-image-2"


async def test_a_wrong_key_stops_the_command_and_names_its_variable(
    apimart: Command, emulator: Emulator
) -> None:
    pictures = [draw(apimart.directory / f"{number}.png") for number in range(40)]
    options = ("-p", PROMPT, "--service", "applerouter")
    done = await apimart("edit", *pictures, *options, APPLEROUTER_API_KEY="sk-wrong")
    assert done.code == 1
    assert "Check the key in APPLEROUTER_API_KEY" in done.stderr
    assert "not started" in done.stderr
    assert len(emulator.requests) <= 32
    keyless = await apimart("edit", pictures[0], *options, APPLEROUTER_API_KEY="")
    assert keyless.code == 2
    assert "set APPLEROUTER_API_KEY, or add --local" in keyless.stderr


async def test_a_used_up_quota_stops_the_command(apimart: Command, emulator: Emulator) -> None:
    emulator.faults.add(Fault(kind="status", route="applerouter", status=429, code="insufficient_quota"))
    pictures = [draw(apimart.directory / f"{number}.png") for number in range(40)]
    done = await edit(apimart, *pictures)
    assert done.code == 1
    assert "Top up the account, then run it again." in done.stderr
    assert "not started" in done.stderr
    assert len(emulator.requests) <= 32


async def test_an_uncertain_submit_is_reported_and_not_repeated(apimart: Command, emulator: Emulator) -> None:
    emulator.faults.add(Fault(kind="disconnect", route="applerouter", executed=True))
    done = await edit(apimart, draw(apimart.directory / "room.png"), "--json")
    assert done.code == 1
    (record,) = done.records
    assert record["error"]["type"] == "SubmissionIndeterminateError"
    assert "It is not sent again" in done.stderr
    emulator.faults.clear()
    emulator.faults.add(Fault(kind="status", route="applerouter", status=503, executed=True))
    again = await edit(apimart, apimart.directory / "room.png", "-n", "2", "--json")
    assert f"request id {again.records[0]['error']['request_id']}" in again.stderr
    assert len(emulator.ledger.entries) == 2


async def test_results_that_cannot_be_fetched_are_named(
    apimart: Command, emulator: Emulator, photographs: dict[str, Path]
) -> None:
    emulator.faults.add(Fault(kind="wrong-bytes", route="files"))
    done = await edit(apimart, photographs["rocket.jpg"], "-m", "another")
    assert done.code == 1
    place = f"{emulator.base_url}/files/results/{emulator.ledger.entries[0].task_id}/image_0."
    assert "It is paid for, and its images are not saved." in done.stderr
    assert f"Until they expire they are at {place}" in done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="a directory in use cannot be replaced")
async def test_an_image_in_a_temporary_directory_stays_there(apimart: Command, emulator: Emulator) -> None:
    picture = draw(apimart.directory / "room.png")
    options = ("-p", PROMPT, "--service", "applerouter", "-o", "out/hat.png")
    async with Gate(emulator, "/images/edits", "executed") as gate:
        place = {"TMPDIR": str(apimart.directory)}
        running = await apimart.start("edit", picture, *options, "--base-url", gate.url, **place)
        await gate.holds()
        (apimart.directory / "out").rmdir()
        (apimart.directory / "out").touch()
        gate.release()
        done = await running.finish()
    assert done.code == 1
    (path,) = map(Path, done.results)
    assert path.name == "hat.png"
    assert path.parent.parent == apimart.directory
    assert path.is_file()


@pytest.mark.skipif(sys.platform == "win32", reason="a directory in use cannot be replaced")
async def test_images_that_their_directory_does_not_take_are_saved_in_a_temporary_one(
    apimart: Command, emulator: Emulator
) -> None:
    picture, temporary = draw(apimart.directory / "room.png"), apimart.directory / "temporary"
    temporary.mkdir()
    options = ("-p", PROMPT, "--service", "applerouter", "-n", "2", "--json", "-o", "out")
    async with Gate(emulator, "/images/edits", "executed") as gate:
        place = {"TMPDIR": str(temporary)}
        running = await apimart.start("edit", picture, *options, "--base-url", gate.url, **place)
        await gate.holds()
        (apimart.directory / "out").rmdir()
        (apimart.directory / "out").touch()
        gate.release()
        done = await running.finish()
    assert done.code == 1
    (record,) = done.records
    assert record["status"] == "failed"
    assert "Not a directory. It is paid for, and its images are in" in done.stderr
    assert [Path(path).name for path in record["paths"]] == ["room-1.png", "room-2.png"]
    for path in record["paths"]:
        assert Path(path).is_relative_to(temporary)
        with Image.open(path) as saved:
            assert saved.size == (8, 8)


@pytest.mark.skipif(sys.platform == "win32", reason="signals are those of POSIX")
async def test_an_interruption_reports_a_request_that_may_be_billed(
    apimart: Command, emulator: Emulator
) -> None:
    picture = draw(apimart.directory / "room.png")
    options = ("-p", PROMPT, "--service", "applerouter", "--json")
    async with Gate(emulator, "/images/edits", "executed") as gate:
        running = await apimart.start("edit", picture, *options, "--base-url", gate.url)
        await gate.holds()
        running.send_signal(signal.SIGINT)
        await running.stderr_until("Waiting up to 600 s")
        done = await running.interrupt()
    assert done.code == 130
    (record,) = done.records
    assert record["status"] == "interrupted"
    assert "may have been billed" in record["error"]["message"]
    assert "room.png: A paid request was cut off and may have been billed." in done.stderr
    assert "Look at the account" in done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="signals are those of POSIX")
async def test_an_answer_that_comes_in_time_is_saved(apimart: Command, emulator: Emulator) -> None:
    picture = draw(apimart.directory / "room.png")
    options = ("-p", PROMPT, "--service", "applerouter", "-o", "out")
    async with Gate(emulator, "/images/edits", "executed") as gate:
        running = await apimart.start("edit", picture, *options, "--base-url", gate.url)
        await gate.holds()
        running.send_signal(signal.SIGINT)
        await running.stderr_until("Waiting up to 600 s")
        gate.release()
        done = await running.finish()
    assert done.code == 130
    assert [path.name for path in (apimart.directory / "out").iterdir()] == ["room.png"]
    assert "billed" not in done.stderr


async def test_local_needs_no_key(offline: Command, photographs: dict[str, Path]) -> None:
    done = await edit(offline, photographs["rocket.jpg"], "--local", "--size", "256x256")
    assert done.code == 0
    with Image.open(offline.directory / done.results[0]) as picture:
        assert picture.size == (256, 256)
