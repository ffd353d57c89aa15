"""Folders and manifests as systems, spreadsheets and data frames write them."""

from __future__ import annotations

import sys
import unicodedata
from typing import TYPE_CHECKING

import pytest
from PIL import Image

from apimart_async.batch.manifest import files
from apimart_async.batch.manifest.reader import open_manifest
from apimart_async.batch.manifest.rows import BadRow, ManifestOptions, Row
from apimart_async.transport.media import conversion, sniffing

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def write_picture(path: Path, kind: str = "JPEG") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 4)).save(path, kind)


def rows(path: Path) -> Sequence[Row | BadRow]:
    found = open_manifest(path, ManifestOptions(prompt="stars")).rows()
    return [row for row in found if isinstance(row, (Row, BadRow))]


def jobs(path: Path) -> list[Row]:
    found = rows(path)
    assert all(isinstance(row, Row) for row in found), found
    return [row for row in found if isinstance(row, Row)]


# --- folders ----------------------------------------------------------------------------------------------

PROGRAM_FOLDERS = [
    "@eaDir/photo.jpg",  # Synology
    "__MACOSX",
    "#recycle",
    "$RECYCLE.BIN",
    "@Recycle",  # QNAP
    "System Volume Information",
    "lost+found",
    "Family.photoslibrary/resources/derivatives",
    "Catalog Previews.lrdata",
]


@pytest.mark.parametrize("folder", PROGRAM_FOLDERS)
@pytest.mark.parametrize("is_recursive", [False, True])
def test_thumbnails_and_deleted_files_of_programs_are_not_pictures(
    tmp_path: Path, folder: str, *, is_recursive: bool
) -> None:
    write_picture(tmp_path / "photo.jpg")
    write_picture(tmp_path / folder / "SYNOPHOTO_THUMB_XL.jpg")
    found = files.images(str(tmp_path), recursive=is_recursive, output=None, convert=True)
    top = folder.partition("/")[0]
    assert sorted(found, key=str) == sorted([("photo.jpg", None), (top, "folder of a program")], key=str)


def test_pattern_leaves_out_the_folders_of_programs_unless_it_names_one(tmp_path: Path) -> None:
    write_picture(tmp_path / "photo.jpg")
    write_picture(thumbnail := tmp_path / "@eaDir" / "photo.jpg")
    found = dict(files.matches(tmp_path / "**" / "*.jpg", None, convert=True))
    assert found == {str(tmp_path / "photo.jpg"): None, str(thumbnail): "in a folder of a program"}
    named = dict(files.matches(tmp_path / "@eaDir" / "*.jpg", None, convert=True))
    assert named == {str(thumbnail): None}


def test_picture_that_is_only_in_icloud_is_named(tmp_path: Path) -> None:
    (tmp_path / ".IMG_0001.HEIC.icloud").write_bytes(b"bplist00")
    (tmp_path / ".notes.txt.icloud").write_bytes(b"bplist00")
    found = list(files.images(str(tmp_path), recursive=False, output=None, convert=True))
    assert found == [("IMG_0001.HEIC", "only in iCloud")]


def test_jpeg_that_is_called_heic_needs_no_decoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_picture(tmp_path / "IMG_0001.HEIC")
    (tmp_path / "IMG_0002.HEIC").write_bytes(b"\0\0\0\x18ftypheic")
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    assert not conversion.can_decode(sniffing.HEIC)
    found = dict(files.images(str(tmp_path), recursive=False, output=None, convert=True))
    assert found["IMG_0001.HEIC"] is None
    assert found["IMG_0002.HEIC"] is not None


# --- names in manifests -----------------------------------------------------------------------------------

SPELLINGS = {
    "composed": unicodedata.normalize("NFC", "photos/café.png"),
    "decomposed": unicodedata.normalize("NFD", "photos/café.png"),
    "with backslashes": "photos\\café.png",
    "in quotation marks": '"""photos\\café.png"""',
    "in typographic quotation marks": "\u201cphotos/café.png\u201d",
    "behind a mark of direction": "\u202aphotos\\café.png\u202c",
    "among blanks": " \u00a0photos/café.png\u200b ",
    "behind a dot": ".\\photos\\café.png",
}


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_picture_is_found_however_the_manifest_spells_its_name(
    tmp_path: Path, spelling: str, form: str
) -> None:
    name = unicodedata.normalize("NFC" if form == "NFC" else "NFD", "café.png")
    write_picture(tmp_path / "photos" / name, "PNG")
    (tmp_path / "jobs.csv").write_text(f"image\n{SPELLINGS[spelling]}\n", encoding="utf-8")
    (row,) = jobs(tmp_path / "jobs.csv")
    assert row.job.image == str(tmp_path / "photos" / name)


def test_name_as_it_is_written_comes_first(tmp_path: Path) -> None:
    write_picture(tmp_path / "a.png", "PNG")
    write_picture(tmp_path / "'a.png'", "PNG")
    (tmp_path / "jobs.csv").write_text("image\n'a.png'\n", encoding="utf-8")
    (row,) = jobs(tmp_path / "jobs.csv")
    assert row.job.image == str(tmp_path / "'a.png'")


def test_other_spelling_leads_not_out_of_the_folder(tmp_path: Path) -> None:
    write_picture(tmp_path / "private.png", "PNG")
    (tmp_path / "given").mkdir()
    path = tmp_path / "given" / "jobs.csv"
    path.write_text("image\n..\\private.png\n\u202a../private.png\n", encoding="utf-8")
    assert all(isinstance(row, BadRow) and "outside the folder" in row.complaint for row in rows(path))


# --- cells of spreadsheets and data frames ----------------------------------------------------------------


@pytest.mark.parametrize("error", ["#REF!", "#N/A", "#NAME?", "#VALUE!", "#DIV/0!"])
@pytest.mark.parametrize("column", ["prompt", "image", "name", "size"])
def test_error_of_a_formula_is_never_paid_for(tmp_path: Path, error: str, column: str) -> None:
    write_picture(tmp_path / "a.png", "PNG")
    cells = {"image": "a.png", "prompt": "stars", "name": "a", "size": "1:1"} | {column: error}
    path = tmp_path / "jobs.csv"
    path.write_text(f"{','.join(cells)}\n{','.join(cells.values())}\n", encoding="utf-8")
    (row,) = rows(path)
    assert row == BadRow("line 2", f"{column} is {error}, the error of a formula in a spreadsheet.")


@pytest.mark.parametrize("missing", ["nan", "NaN", "None", "<NA>", "NaT"])
def test_missing_value_of_a_data_frame_is_not_sent(tmp_path: Path, missing: str) -> None:
    write_picture(tmp_path / "a.png", "PNG")
    path = tmp_path / "jobs.csv"
    path.write_text(f"image,n,size,note\na.png,{missing},{missing},{missing}\n", encoding="utf-8")
    (row,) = jobs(path)
    assert (row.job.n, row.job.options, row.job.extra) == (1, {}, {"note": missing})


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_manifest_is_read_in_every_encoding_of_spreadsheets(tmp_path: Path, encoding: str) -> None:
    write_picture(tmp_path / "é.png", "PNG")
    path = tmp_path / "jobs.csv"
    path.write_bytes("image,prompt\r\né.png,stars\r\n".encode(encoding))
    (row,) = jobs(path)
    assert row.job.image == str(tmp_path / "é.png")


def test_repeated_byte_order_marks_and_a_mark_of_the_end_are_ignored(tmp_path: Path) -> None:
    write_picture(tmp_path / "a.png", "PNG")
    path = tmp_path / "jobs.csv"
    path.write_bytes("\ufeff\ufeffimage,prompt\na.png,stars\n,,\n\x1a".encode())
    assert len(jobs(path)) == 1
