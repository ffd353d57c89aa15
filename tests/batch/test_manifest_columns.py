"""Columns of manifests: options that are sent, data that is not, and rights that need a flag."""

from __future__ import annotations

import csv
import io
import json
import os
from pathlib import Path
from typing import Any

import anyio.to_thread
import pytest

from apimart_async import InvalidArgumentError
from apimart_async.batch.manifest.preflight import preflight
from apimart_async.batch.manifest.reader import Manifest, open_manifest
from apimart_async.batch.manifest.rows import OPTIONS, BadRow, ManifestOptions, Row

PNG = b"\x89PNG\r\n\x1a\n" + b"\0\0\0\0teXt\0\0\0\0" + b"\0\0\0\0IEND\xaeB`\x82"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "manifest"
    place.mkdir()
    (place / "a.png").write_bytes(PNG)
    return place


def written(folder: Path, text: str, name: str = "jobs.csv", **options: Any) -> Manifest:
    (folder / name).write_text(text, encoding="utf-8")
    return open_manifest(folder / name, ManifestOptions(**options))


def row_of(manifest: Manifest) -> Row:
    (row,) = manifest.rows()
    assert isinstance(row, Row), row
    return row


def complaint_of(manifest: Manifest) -> str:
    (row,) = manifest.rows()
    assert isinstance(row, BadRow)
    return row.complaint


# --- options and other columns ------------------------------------------------------------------------------


def test_only_documented_and_prefixed_columns_of_csv_are_options(folder: Path) -> None:
    text = "image,prompt,Size,customer,option.seed,notes,price\na.png,x,16:9,Ada ,7,,1.50\n"
    job = row_of(written(folder, text)).job
    assert job.options == {"size": "16:9", "seed": 7}
    assert job.extra == {"customer": "Ada ", "notes": "", "price": "1.50"}


def test_only_documented_and_prefixed_fields_of_jsonl_are_options(folder: Path) -> None:
    line = {
        "image": "a.png",
        "prompt": "x",
        "quality": "high",
        "option.seed": 7,
        "seed": 8,
        "customer": {"name": "Ada", "since": None},
        "metadata": ["private"],
        "operations": "segment",
    }
    job = row_of(written(folder, json.dumps(line), "jobs.jsonl")).job
    assert job.options == {"quality": "high", "seed": 7}
    assert job.extra == {name: line[name] for name in ("seed", "customer", "metadata", "operations")}


@pytest.mark.parametrize("name", sorted(OPTIONS))
def test_every_documented_field_is_an_option(folder: Path, name: str) -> None:
    manifest = written(folder, f"image,prompt,{name.upper()}\na.png,x,y\n", allow_webhook=True)
    assert row_of(manifest).job.options == {name: "y"}


def test_the_unnamed_index_of_a_data_frame_is_kept(folder: Path) -> None:
    job = row_of(written(folder, ",image,prompt,\n0,a.png,x,\n")).job
    assert (job.options, job.extra) == ({}, {"column 1": "0"})


@pytest.mark.parametrize("line", ["size,option.size", "notes,notes", "Prompt,prompt"])
def test_two_columns_for_one_field_are_refused(folder: Path, line: str) -> None:
    manifest = written(folder, f"image,prompt,{line}\n")
    with pytest.raises(InvalidArgumentError, match="two columns"):
        list(manifest.rows())


def test_two_spellings_of_one_field_in_jsonl_are_refused(folder: Path) -> None:
    line = '{"image": "a.png", "prompt": "x", "Prompt": "y"}'
    assert complaint_of(written(folder, line, "jobs.jsonl")) == "It has two columns prompt."


@pytest.mark.parametrize("field", ["image", "prompt", "n", "image_urls", "images"])
def test_an_option_cannot_replace_a_column(folder: Path, field: str) -> None:
    line = {"image": "a.png", "prompt": "x", f"option.{field}": "y"}
    manifest = written(folder, json.dumps(line), "jobs.jsonl")
    assert f"{field} cannot be an option" in complaint_of(manifest)


def test_columns_of_image_folder_metadata_are_understood(folder: Path) -> None:
    job = row_of(written(folder, "file_name,text\na.png,a cat\n", prompt="x")).job
    assert (Path(str(job.image)).name, job.extra) == ("a.png", {"text": "a cat"})
    line = '{"file_name": "a.png", "text": "a cat"}'
    assert row_of(written(folder, line, "jobs.jsonl", prompt="x")).job.extra == {"text": "a cat"}


async def test_a_preflight_says_which_column_is_sent(folder: Path) -> None:
    text = "image,prompt,size,option.seed,sku,quality\na.png,x,,1,A-1,\na.png,y,1:1,,,\n"
    found = await preflight(await anyio.to_thread.run_sync(written, folder, text))
    assert (list(found.options), list(found.extra)) == (["seed", "size"], ["sku"])


# --- spreadsheets -------------------------------------------------------------------------------------------


def test_a_cell_may_be_longer_than_the_csv_module_allows_by_default(folder: Path) -> None:
    text = io.StringIO()
    csv.writer(text).writerows([["image", "prompt", "notes"], ["a.png", "p" * 200_000, "n" * 1_000_000]])
    job = row_of(written(folder, text.getvalue())).job
    assert (len(job.prompt), len(job.extra["notes"])) == (200_000, 1_000_000)


@pytest.mark.parametrize(
    ("line", "delimiter"),
    [("sep=;", ";"), ("SEP=,", ","), ('"sep=|"', "|"), ("sep=\t", "\t"), ("sep=^", "^")],
)
def test_the_separator_line_of_excel_is_obeyed(folder: Path, line: str, delimiter: str) -> None:
    rows = [["image", "prompt", "size"], ["a.png", "one; two, three", "1:1"], ["", "x", ""]]
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter).writerows(rows)
    first, second = written(folder, f"{line}\r\n{text.getvalue()}").rows()
    assert isinstance(first, Row)
    assert (first.location, first.job.prompt) == ("line 3", "one; two, three")
    assert isinstance(second, BadRow)
    assert second.location == "line 4"


@pytest.mark.parametrize(("number", "n"), [("2.0", 2), ("2,0", 2), ("10.00", 10), (" 3 ", 3)])
def test_n_may_be_written_as_spreadsheets_do(folder: Path, number: str, n: int) -> None:
    assert row_of(written(folder, f"image;prompt;n\na.png;x;{number}\n")).job.n == n


@pytest.mark.parametrize("number", ["2.5", "2.", "0.0", "1e1", "2.0.0"])
def test_another_n_is_refused(folder: Path, number: str) -> None:
    assert "n must be a whole number" in complaint_of(written(folder, f"image;prompt;n\na.png;x;{number}\n"))


def test_whole_floats_of_data_frames_are_whole_numbers(folder: Path) -> None:
    line = '{"image": "a.png", "prompt": "x", "n": 2.0, "id": 12.0}'
    job = row_of(written(folder, line, "jobs.jsonl")).job
    assert (job.n, job.id) == (2, "12")


def test_a_header_may_span_lines(folder: Path) -> None:
    row = row_of(written(folder, 'image,prompt,"notes\n(internal)"\na.png,x,y\n'))
    assert (row.location, row.job.extra) == ("line 3", {"notes\n(internal)": "y"})


# --- rights -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("column", ["webhook", "option.webhook", "Option.Callback_URL", "option.my_webhook"])
def test_an_address_that_the_service_calls_needs_permission(folder: Path, column: str) -> None:
    text = f"image,prompt,{column}\na.png,x,https://example.com/hook\n"
    assert "permit it with --allow-webhook" in complaint_of(written(folder, text))
    (value,) = row_of(written(folder, text, allow_webhook=True)).job.options.values()
    assert value == "https://example.com/hook"
    assert row_of(written(folder, f"image,prompt,{column}\na.png,x,\n")).job.options == {}


@pytest.mark.parametrize("path", ["../private.png", "ABSOLUTE", "sub/../../private.png", "~/private.png"])
def test_a_path_outside_the_folder_needs_permission(
    folder: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setenv("HOME", str(folder.parent))
    monkeypatch.setenv("USERPROFILE", str(folder.parent))
    private = folder.parent / "private.png"
    private.write_bytes(PNG)
    path = path.replace("ABSOLUTE", str(private))
    lines = json.dumps({"image": path, "prompt": "x"})

    assert "is outside the folder of the manifest" in complaint_of(written(folder, lines, "jobs.jsonl"))
    allowed = row_of(written(folder, lines, "jobs.jsonl", allow_outside=True))
    assert allowed.job.image == str(private)


def test_a_folder_whose_name_begins_alike_is_outside(folder: Path) -> None:
    other = folder.with_name("manifest-private")
    other.mkdir()
    (other / "a.png").write_bytes(PNG)
    text = "image,prompt\n../manifest-private/a.png,x\n"
    assert "is outside the folder" in complaint_of(written(folder, text))


def test_an_absolute_path_inside_the_folder_is_taken(folder: Path) -> None:
    assert row_of(written(folder, f"image,prompt\n{folder / 'a.png'},x\n")).job.image == str(folder / "a.png")


@pytest.mark.skipif(os.name == "nt", reason="links need a privilege on Windows")
@pytest.mark.parametrize("path", ["link.png", "linked/private.png", "linked/../link.png"])
def test_symbolic_links_are_resolved_before_a_path_is_judged(folder: Path, path: str) -> None:
    private = folder.parent / "private.png"
    private.write_bytes(PNG)
    (folder / "link.png").symlink_to(private)
    (folder / "linked").symlink_to(folder.parent, target_is_directory=True)
    assert "is outside the folder" in complaint_of(written(folder, f"image,prompt\n{path},x\n"))


@pytest.mark.skipif(os.name == "nt", reason="links need a privilege on Windows")
def test_a_manifest_may_be_in_a_folder_that_is_a_link(folder: Path) -> None:
    link = folder.with_name("link")
    link.symlink_to(folder, target_is_directory=True)
    assert row_of(written(link, "image,prompt\na.png,x\n")).job.image == str(link / "a.png")
