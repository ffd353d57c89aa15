"""Manifests: the meaning of each cell, the line of each mistake, and memory that does not grow with rows."""

from __future__ import annotations

import csv
import io
import json
import os
import tempfile
import tracemalloc
from pathlib import Path
from typing import Any

import anyio.to_thread
import pytest
from hypothesis import given
from hypothesis import strategies as st

from apimart_async import InvalidArgumentError
from apimart_async.batch.job import Job
from apimart_async.batch.manifest.csv import typed, whole_number
from apimart_async.batch.manifest.preflight import MAX_LISTED, preflight
from apimart_async.batch.manifest.reader import Manifest, open_manifest
from apimart_async.batch.manifest.rows import BadRow, ManifestOptions, Row

PNG = b"\x89PNG\r\n\x1a\n" + b"\0\0\0\0teXt\0\0\0\0" + b"\0\0\0\0IEND\xaeB`\x82"

TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1).filter(lambda text: text.strip())
PREFIX = "option."
FIELDS = st.text("abcdefgh", min_size=1, max_size=5)
OTHER_COLUMNS = st.dictionaries(
    FIELDS | FIELDS.map(lambda name: PREFIX + name),
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    max_size=3,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "photos").mkdir()
    for name in ("a.png", "b.png", "c d.png"):
        (tmp_path / "photos" / name).write_bytes(PNG + name.encode())
    return tmp_path


def written(folder: Path, name: str, text: str | bytes, **options: Any) -> Manifest:
    content = text.encode() if isinstance(text, str) else text
    (folder / name).write_bytes(content)
    return open_manifest(folder / name, ManifestOptions(**options))


def jobs(manifest: Manifest) -> list[Job]:
    rows = list(manifest.rows())
    assert not [row for row in rows if isinstance(row, BadRow)]
    return [row.job for row in rows if isinstance(row, Row)]


aside = anyio.to_thread.run_sync


def complaints(manifest: Manifest) -> dict[str, str]:
    return {row.location: row.complaint for row in manifest.rows() if isinstance(row, BadRow)}


# --- the meaning of rows ------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_csv_as_spreadsheets_write_it(folder: Path, encoding: str, delimiter: str, newline: str) -> None:
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter, lineterminator=newline)
    writer.writerow(["Image", " prompt", "N", "model", "id", "name", "size", "Option.seed", ""])
    writer.writerow(
        ["photos/a.png", 'Say "hi"; then,\nwave 👋', "2", "", "one", "first {x}", "16:9", "7", ""]
    )
    writer.writerow([])
    writer.writerow(["https://example.com/x.jpg?y=1", "sunset", "", "other", "", "", "", "", ""])
    manifest = written(folder, "jobs.csv", text.getvalue().encode(encoding))

    first, second = jobs(manifest)
    assert first == Job(
        str(folder / "photos" / "a.png"),
        f'Say "hi"; then,{newline if newline == chr(10) else chr(10)}wave 👋',
        None,
        2,
        "one",
        "first {x}",
        {"size": "16:9", "seed": 7},
    )
    assert second == Job("https://example.com/x.jpg?y=1", "sunset", "other", 1, None, "x", {})


def test_jsonl_keeps_its_types_and_defaults_fill_missing_fields(folder: Path) -> None:
    lines = [
        {
            "image": "photos/a.png",
            "n": 3,
            "option.seed": 1.5,
            "option.flags": ["x", {"y": None}],
            "size": None,
        },
        {"image": "photos/b.png", "prompt": "snow", "model": "own", "id": 12},
    ]
    text = "\n\n".join(json.dumps(line, ensure_ascii=False) for line in lines)
    manifest = written(folder, "jobs.jsonl", text, prompt="sunset", model="default", n=2)

    assert jobs(manifest) == [
        Job(
            str(folder / "photos" / "a.png"),
            "sunset",
            "default",
            3,
            None,
            "a",
            {"seed": 1.5, "flags": ["x", {"y": None}]},
        ),
        Job(str(folder / "photos" / "b.png"), "snow", "own", 2, "12", "12", {}),
    ]


def test_a_folder_is_its_pictures_in_order(folder: Path) -> None:
    photos = folder / "photos"
    (photos / ".hidden.png").write_bytes(PNG)
    (photos / "notes.txt").touch()
    (photos / "deeper.png").mkdir()
    (photos / "https:").mkdir()
    (photos / "Z.JPG").write_bytes(PNG)

    found = jobs(open_manifest(photos, ManifestOptions(prompt="sunset")))
    assert [Path(str(job.image)).name for job in found] == ["Z.JPG", "a.png", "b.png", "c d.png"]
    assert [job.name for job in found] == ["Z", "a", "b", "c d"]
    assert {job.prompt for job in found} == {"sunset"}


def test_paths_start_from_the_manifest_and_stay_true_elsewhere(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    (folder / "jobs.jsonl").write_text('{"image": "photos/../photos/a.png", "prompt": "x"}\n')
    (job,) = jobs(open_manifest("jobs.jsonl"))
    assert job.image == str(folder / "photos" / "a.png")


@pytest.mark.parametrize(
    ("cell", "value"),
    [
        ("", None),
        ("  ", None),
        ("null", None),
        ("true", True),
        ("false", False),
        ("True", "True"),
        ("42", 42),
        ("-1.5e3", -1500.0),
        ("007", "007"),
        ("16:9", "16:9"),
        ("1024x1024", "1024x1024"),
        ("2k", "2k"),
        ('"42"', "42"),
        ("[1, 2]", [1, 2]),
        ('{"a": null}', {"a": None}),
        ("[draft] a text", "[draft] a text"),
        ("NaN", "NaN"),
        ("1e999", "1e999"),
        ("-Infinity", "-Infinity"),
        ("-", "-"),
        ("9" * 5000, "9" * 5000),
        ("[" * 100_000, "[" * 100_000),
    ],
)
def test_options_in_csv_have_the_type_of_their_spelling(cell: str, value: object) -> None:
    found = typed(cell)
    assert (found, type(found)) == (value, type(value))


@given(st.text())
def test_any_cell_is_a_value_that_json_can_carry(cell: str) -> None:
    json.dumps([typed(cell), whole_number(cell)], allow_nan=False)


@given(st.lists(st.tuples(TEXT, st.integers(1, 10), OTHER_COLUMNS), max_size=5))
def test_a_written_jsonl_file_can_be_read(written: list[tuple[str, int, dict[str, object]]]) -> None:
    # A folder of hypothesis' own: fixtures live for all examples together.
    with tempfile.TemporaryDirectory() as place:
        manifest = Path(place, "jobs.jsonl")
        lines = [{"image": "a.png", "prompt": p, "n": n, **o} for p, n, o in written]
        manifest.write_text("".join(json.dumps(line) + "\n" for line in lines))
        found = jobs(open_manifest(manifest))
        assert [(job.prompt, job.n, dict(job.options), dict(job.extra)) for job in found] == [
            (
                prompt,
                n,
                {
                    name[len(PREFIX) :]: o[name]
                    for name in o
                    if name.startswith(PREFIX) and o[name] is not None
                },
                {name: o[name] for name in o if not name.startswith(PREFIX)},
            )
            for prompt, n, o in written
        ]


@given(st.binary(max_size=300), st.sampled_from(["jobs.csv", "jobs.jsonl"]), st.booleans())
def test_any_bytes_are_rows_or_complaints(content: bytes, name: str, headed: bool) -> None:  # noqa: FBT001
    with tempfile.TemporaryDirectory() as place:
        manifest = Path(place, name)
        manifest.write_bytes(b"image,prompt,x\n" * headed + content)
        try:
            rows = list(open_manifest(manifest).rows())
        except InvalidArgumentError as error:
            assert error.message.endswith((".", "image,prompt"))  # noqa: PT017
        else:
            assert all(row.location.startswith("line ") for row in rows)


# --- mistakes -----------------------------------------------------------------------------------------------


def test_each_mistake_has_its_line(folder: Path) -> None:
    text = """image,prompt,n,id,name,size
photos/a.png,"two
lines",1,,,
,x,1,,,
photos/a.png,,1,,,
photos/a.png,x,0,,,
photos/a.png,x,two,,,
photos/a.png,x,1,,a/b,
ftp://host/a.png,x,1,,,
photos/a.png,x,1,,,16:9,too,many
photos/a.png,x,1,,,"unfinished
"""
    found = complaints(written(folder, "jobs.csv", text))
    expected = {
        "line 4": "no image",
        "line 5": "no prompt",
        "line 6": "n must be a whole number from 1 to 10, not 0",
        "line 7": "not 'two'",
        "line 8": "name",
        "line 9": "ftp://",
        "line 10": "8 cells, but there are 6 columns",
        "line 11": "not CSV: unexpected end of data. Write a quotation mark inside a quoted text twice",
    }
    assert found.keys() == expected.keys()
    for place, part in expected.items():
        assert part in found[place]


@pytest.mark.parametrize(
    ("line", "part"),
    [
        ("{", "not JSON: Expecting property name enclosed in double quotes, character"),
        ('{"image": "photos/a.png", "prompt": "x", "prompt": "y"}', "It has the key 'prompt' twice."),
        ('{"image": "photos/a.png", "prompt": "x", "deep": {"a": 1, "a": 1}}', "It has the key 'a' twice."),
        ("[1]", "not a JSON object"),
        ('{"image": "a.png", "prompt": "x", "seed": NaN}', "NaN"),
        ('{"image": "a.png", "prompt": "x", "n": true}', "n must be"),
        ('{"image": "a.png", "prompt": "x", "n": "2"}', "n must be"),
        ('{"image": "a.png", "prompt": 7}', "prompt must be a text"),
        ('{"image": [7], "prompt": "x"}', "image must be a text"),
        ('{"image": "a.png", "prompt": "x", "id": true}', "id must be a text"),
        ('{"image": "a.png", "prompt": "\\ud800"}', "UTF-8"),
        ('{"image": "\\ud800.png", "prompt": "x"}', "UTF-8"),
        ('{"image": "a\\u0000.png", "prompt": "x"}', "zero byte"),
        ('{"image": "a.png", "prompt": "x", "image_urls": ["b"]}', "image_urls cannot be an option"),
        ('{"image": "a.png", "prompt": "x", "deep": ' + "[" * 100_000, "nested too deeply"),
        (b'{"image": "caf\xe9.png", "prompt": "x"}', "UTF-8"),
    ],
)
def test_each_mistake_in_jsonl_is_named(folder: Path, line: str | bytes, part: str) -> None:
    content = line.encode() if isinstance(line, str) else line
    found = complaints(written(folder, "jobs.jsonl", b"\n" + content + b"\n"))
    assert list(found) == ["line 2"]
    assert part in found["line 2"]


@pytest.mark.parametrize(
    ("name", "text", "part"),
    [
        ("jobs.csv", "", "names no column `image`"),
        ("jobs.csv", "picture,prompt\n", "names no column `image`, only 'picture,prompt'; it should look"),
        ("jobs.csv", "file|text\n", "only 'file.text'; it should look like: image,prompt"),
        ("jobs.csv", "x" * 100_000 + "\n", "only 'x{39}…; it should"),
        ("jobs.csv", "image,prompt,Image\n", "two columns image"),
        ("jobs.txt", "image,prompt\n", "give a .csv, .jsonl or .parquet file"),
        ("photo.jpg", "", "is an image"),
        ("jobs.jsonl", "x" * (32 * 1024 * 1024), "longer than"),
    ],
)
def test_a_file_that_is_no_manifest_is_refused_with_the_reason(
    folder: Path, name: str, text: str, part: str
) -> None:
    with pytest.raises(InvalidArgumentError, match=part):
        list(written(folder, name, text).rows())


def test_a_manifest_of_very_many_columns_is_read_in_linear_time(folder: Path) -> None:
    columns = ",".join(map(str, range(100_000)))
    (row,) = written(folder, "jobs.csv", f"image,prompt,{columns}\nphotos/a.png,x\n").rows()
    assert isinstance(row, Row)


def test_a_missing_manifest_and_a_folder_without_a_prompt(folder: Path) -> None:
    with pytest.raises(InvalidArgumentError, match=r"There is no manifest"):
        open_manifest(folder / "none.csv")
    with pytest.raises(InvalidArgumentError, match="give the prompt with -p"):
        open_manifest(folder / "photos")
    with pytest.raises(InvalidArgumentError, match="cannot be read: Is a directory"):
        list(Manifest(folder, "csv").rows())


# --- as a whole ---------------------------------------------------------------------------------------------


async def test_a_preflight_counts_the_work(folder: Path) -> None:
    manifest = await aside(
        written,
        folder,
        "jobs.csv",
        """image,prompt,n,model,id
photos/a.png,sunset,2,,
photos/a.png,snow,1,other,
photos/a.png,sunset,2,,
photos/b.png,sunset,1,,
https://example.com/c.png,sunset,1,,
"data:image/png;base64,iVBORw0KGgoAAAAASUVORK5CYII=",sunset,1,,
photos/b.png,sunset,1,,again
""",
    )
    found = await preflight(manifest)

    assert found.bad == ()
    assert (found.jobs, found.repeated, found.pictures) == (6, 1, 3)
    assert found.images == {"grok-imagine-1.0-edit-apimart": 6, "other": 1}
    assert found.bytes == 2 * (len(PNG) + 5) + 20


async def test_bad_pictures_and_ids_are_found_row_by_row_and_not_all_listed(folder: Path) -> None:
    (folder / "text.png").write_text("hello")
    good = [f"photos/a.png,x{number},{number}\n" for number in range(300)]
    bad = ["text.png,x,a\n", "none.png,x,b\n", "text.png,y,c\n", "photos/b.png,x,7\n"] * 20
    manifest = await aside(written, folder, "jobs.csv", "".join(["image,prompt,id\n", *good, *bad]))
    found = await preflight(manifest)

    assert (found.jobs, found.bad_count, len(found.bad)) == (300, 80, MAX_LISTED)
    assert [row.location for row in found.bad[:4]] == ["line 302", "line 303", "line 304", "line 305"]
    first, second, third, fourth = (row.complaint for row in found.bad[:4])
    assert "is text" in first
    assert first == third
    assert "none.png" in second
    assert fourth == "Its id 7 is that of line 9 already."


async def test_the_jobs_are_those_that_were_checked_or_an_error(folder: Path) -> None:
    manifest = await aside(written, folder, "jobs.csv", "image,prompt\n" + "photos/a.png,x\n" * 1000)
    assert len([job async for job in manifest.jobs()]) == 1000

    (folder / "jobs.csv").write_text("image,prompt\nphotos/a.png,x\nphotos/a.png\n")
    with pytest.raises(InvalidArgumentError, match=r"jobs.csv, line 3: It has no prompt"):
        [job async for job in manifest.jobs()]


@pytest.mark.long
async def test_memory_does_not_grow_with_the_rows(folder: Path) -> None:
    manifest = folder / "many.csv"
    peaks: list[int] = []
    for rows in (100, 1_000, 3_000):  # the first run also imports modules
        with manifest.open("w") as file:
            file.write("image,prompt,id\n")
            file.writelines(f"photos/a.png,a prompt of some length {row},{row}\n" for row in range(rows))
        tracemalloc.start()
        found = await preflight(await aside(open_manifest, manifest))
        counted = 0
        async for _ in (await aside(open_manifest, manifest)).jobs():
            counted += 1
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert found.jobs == counted == rows
    # A row that is kept takes some hundred bytes; garbage takes as much for any number of rows.
    assert peaks[2] < peaks[1] + 250_000


@pytest.mark.skipif(os.name == "nt", reason="Windows names are Unicode")
def test_a_name_that_is_no_text_is_a_bad_row(folder: Path) -> None:
    try:
        (folder / "photos" / os.fsdecode(b"caf\xe9.png")).write_bytes(PNG)
    except OSError:
        return  # this file system has no such names either
    found = complaints(open_manifest(folder / "photos", ManifestOptions(prompt="x")))
    assert list(found) == ["caf�.png"]
