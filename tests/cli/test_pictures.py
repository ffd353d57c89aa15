"""Pictures of every kind on the command line: converted, from stdin, and named as people named them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from PIL import Image

from apimart_async.emulator.faults import Fault

if TYPE_CHECKING:
    from apimart_async.emulator import Emulator

    from .conftest import Command

LINE = "scan.tiff was converted from a TIFF image to JPEG."


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    path = tmp_path / "scan.tiff"
    Image.linear_gradient("L").convert("RGB").save(path, "TIFF")
    return path


COMMANDS = {
    "edit": ("edit", "scan.tiff", "-p", "stars"),
    "edit inline": ("edit", "scan.tiff", "-p", "stars", "--inline"),
    "edit with AppleRouter": (
        "edit",
        "scan.tiff",
        "-p",
        "stars",
        "--service",
        "applerouter",
        "-m",
        "gpt-image-2",
    ),
    "generate": ("generate", "stars", "-i", "scan.tiff"),
    "upload": ("upload", "scan.tiff"),
    "batch": ("batch", "jobs.csv", "-o", "out"),
}


@pytest.mark.parametrize("arguments", COMMANDS.values(), ids=COMMANDS)
async def test_each_conversion_is_a_line_on_stderr(
    apimart: Command, scan: Path, arguments: tuple[str, ...]
) -> None:
    (scan.parent / "jobs.csv").write_text("image,prompt\nscan.tiff,stars\n")
    done = await apimart(*arguments)
    assert done.code == 0
    assert done.stderr.count(LINE) == 1
    assert LINE not in done.stdout


async def test_metadata_is_sent_only_if_the_user_wants_it(apimart: Command, tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    Image.linear_gradient("L").save(path, comment=b"52.5200N 13.4050E")
    sizes = [
        (await apimart("upload", "photo.jpg", "--json", *options)).records[0]["bytes"]
        for options in ((), ("--keep-metadata",))
    ]
    assert sizes == [path.stat().st_size - 21, path.stat().st_size]


@pytest.mark.parametrize("arguments", COMMANDS.values(), ids=COMMANDS)
async def test_convert_never_refuses_and_pays_nothing(
    apimart: Command, emulator: Emulator, scan: Path, arguments: tuple[str, ...]
) -> None:
    (scan.parent / "jobs.csv").write_text("image,prompt\nscan.tiff,stars\n")
    done = await apimart(*arguments, "--convert", "never")
    assert done.code in {1, 2}
    assert "scan.tiff is a TIFF image" in done.stderr
    assert "save it as one of these first" in done.stderr
    assert not emulator.requests


async def test_pictures_in_other_formats_are_made_to_fit_dall_e_2(
    apimart: Command, emulator: Emulator, scan: Path
) -> None:
    wide = scan.with_name("wide.tiff")
    Image.linear_gradient("L").resize((80, 40)).save(wide, "TIFF")
    options = ("-p", "stars", "--service", "applerouter", "--size", "256x256")
    assert (await apimart("edit", "wide.tiff", *options)).code == 0
    nowhere = await apimart("edit", "scan.tiff", *options)
    assert nowhere.code == 2
    assert "scan.tiff is square and has no transparency" in nowhere.stderr
    refused = await apimart("edit", "wide.tiff", *options, "--convert", "never")
    assert refused.code == 2
    assert len(emulator.ledger.entries) == 1


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
async def test_an_opaque_alpha_channel_is_no_transparency(
    apimart: Command, emulator: Emulator, tmp_path: Path, kind: str
) -> None:
    Image.new("RGBA", (64, 64), (200, 80, 40, 255)).save(tmp_path / "opaque", kind)
    done = await apimart("edit", "opaque", "-p", "stars", "--service", "applerouter")
    assert done.code == 2
    assert "opaque is square and has no transparency, so there is nowhere to edit" in done.stderr
    assert not emulator.requests


# --- patterns ---------------------------------------------------------------------------------------------


async def test_patterns_that_no_shell_has_expanded_are_the_matching_files(
    apimart: Command, emulator: Emulator, photo: Path
) -> None:
    for name in ("a", "b", "c[1]"):
        shutil.copy(photo, apimart.directory / f"{name}{photo.suffix}")
    (apimart.directory / "b.txt").write_text("no picture")
    done = await apimart("edit", f"b{photo.suffix}", f"*{photo.suffix}", "-p", "stars", "-o", "out")

    assert done.code == 0
    assert [Path(path).stem for path in done.results] == ["a", "b", "c[1]"]
    assert len(emulator.ledger.entries) == 3

    # The name of a file that exists is no pattern.
    named = await apimart("upload", f"c[1]{photo.suffix}", "--json")
    assert [record["image"] for record in named.records] == [f"c[1]{photo.suffix}"]


async def test_a_pattern_without_a_match_is_an_error(apimart: Command, photo: Path) -> None:
    done = await apimart("edit", photo, "none-*.jpg", "-p", "stars")
    assert done.code == 2
    assert "No file matches none-*.jpg. Nothing was sent." in done.stderr


# --- stdin ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [(), ("--inline",), ("--service", "applerouter", "-m", "gpt-image-2")])
async def test_the_picture_on_stdin_is_edited(
    apimart: Command, photo: Path, options: tuple[str, ...]
) -> None:
    done = await apimart.fed(photo.read_bytes(), "edit", "-", "-p", "stars", "-o", "out", *options)
    assert done.code == 0
    (path,) = done.results
    assert path.startswith("out/stdin.")
    assert "stdin: done in" in done.stderr


async def test_the_picture_on_stdin_is_a_reference_of_a_generation(apimart: Command, photo: Path) -> None:
    done = await apimart.fed(photo.read_bytes(), "generate", "stars", "-i", "-", "-o", "out")
    assert (done.code, len(done.results)) == (0, 1)


async def test_the_picture_on_stdin_is_uploaded_once_beside_others(apimart: Command, photo: Path) -> None:
    done = await apimart.fed(photo.read_bytes(), "upload", "-", photo, "-", "--json")
    assert done.code == 0
    assert len(done.records) == 2
    stdin = next(record for record in done.records if record["image"] == "-")
    assert {record["bytes"] for record in done.records} == {stdin["bytes"]}
    assert stdin["filename"].startswith("stdin.")


@pytest.mark.parametrize(
    ("content", "said"), [(b"", "stdin is empty: it has 0 bytes"), (b"%PDF-1.7", "stdin is a PDF")]
)
async def test_stdin_without_a_picture_is_refused(
    apimart: Command, emulator: Emulator, content: bytes, said: str
) -> None:
    for command in (("upload", "-"), ("edit", "-", "-p", "stars")):
        done = await apimart.fed(content, *command)
        assert done.code == 2
        assert said in done.stderr
    assert not emulator.requests


async def test_a_file_called_minus_is_a_file(apimart: Command, photo: Path) -> None:
    (apimart.directory / "-").write_bytes(photo.read_bytes())
    done = await apimart.fed(photo.read_bytes(), "upload", "-", "./-")
    assert done.code == 0
    assert len(done.results) == 2


# --- names ------------------------------------------------------------------------------------------------


async def test_results_are_named_after_the_decoded_name_in_a_url(apimart: Command) -> None:
    url = "https://pictures.example/a/caf%C3%A9%20terrace.png?size=1"
    done = await apimart("edit", url, "-p", "stars", "-o", "out")
    assert [path.rpartition(".")[0] for path in done.results] == ["out/café terrace"]
    assert "café terrace.png: done in" in done.stderr
    (apimart.directory / "jobs.csv").write_text(f"image,prompt\n{url},stars\n")
    done = await apimart("batch", "jobs.csv", "-o", "batch")
    assert [path.rpartition("/")[2].rpartition(".")[0] for path in done.results] == ["café terrace"]


@pytest.mark.parametrize("name", ["a%2Fb.png", "..%2F..%2Fb.png", "a%00b.png", "a%0Ab.png"])
async def test_a_decoded_name_is_still_a_plain_name(apimart: Command, name: str) -> None:
    done = await apimart("edit", f"https://pictures.example/{name}", "-p", "stars", "-o", "out")
    assert done.code == 0
    (path,) = (apimart.directory / "out").iterdir()
    assert path.is_file()


@pytest.mark.parametrize("message", ["photo.png is too blue", "café terrace.png is too blue"])
async def test_the_name_of_a_file_keeps_its_letters_in_an_error(
    apimart: Command, emulator: Emulator, photo: Path, message: str
) -> None:
    emulator.faults.add(Fault(kind="status", route="uploads", status=400, message=message))
    done = await apimart("upload", photo)
    assert f": {message}" in done.stderr


async def test_the_name_of_a_bad_file_in_a_folder_keeps_its_letters(apimart: Command, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "photo.png").write_bytes(b"%PDF-1.7")
    done = await apimart("batch", "folder", "-p", "stars", "-o", "out")
    assert done.code == 2
    assert "photo.png" in done.stderr
    assert "Photo.png" not in done.stderr
