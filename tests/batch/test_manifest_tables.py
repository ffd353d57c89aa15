"""Parquet and Arrow files as manifests, with images inside them or beside them."""

from __future__ import annotations

import json
import sys
import tracemalloc
from datetime import UTC, date, datetime
from decimal import Decimal
from importlib import import_module
from typing import TYPE_CHECKING, Any

import anyio.to_thread
import pytest

from apimart_async import AsyncApimart, InvalidArgumentError, Poll
from apimart_async.batch import edit_many
from apimart_async.batch.manifest.preflight import preflight
from apimart_async.batch.manifest.reader import Manifest, open_manifest
from apimart_async.batch.manifest.rows import BadRow, EmbeddedImage, ManifestOptions, Row
from apimart_async.emulator import Emulator

if TYPE_CHECKING:
    from pathlib import Path

arrow: Any = import_module("pyarrow")
feather: Any = import_module("pyarrow.feather")
ipc: Any = import_module("pyarrow.ipc")
parquet: Any = import_module("pyarrow.parquet")

PNG = b"\x89PNG\r\n\x1a\n" + b"\0\0\0\0teXt\0\0\0\0" + b"\0\0\0\0IEND\xaeB`\x82"
SOON = Poll(first=0.02, shortest=0.02, longest=0.05)
FORMATS = ["jobs.parquet", "jobs.feather", "jobs.arrow", "stream.arrow"]

aside = anyio.to_thread.run_sync


def written(folder: Path, columns: dict[str, Any], name: str = "jobs.parquet", **options: Any) -> Manifest:
    table, path = arrow.table(columns), str(folder / name)
    if name.endswith(".parquet"):
        parquet.write_table(table, path, row_group_size=50)
    elif name.endswith(".feather"):
        feather.write_feather(table, path, compression="zstd")
    else:
        new = ipc.new_stream if name.startswith("stream") else ipc.new_file
        with new(path, table.schema) as writer:
            writer.write_table(table)
    return open_manifest(path, ManifestOptions(**options))


def jobs(manifest: Manifest) -> list[Any]:
    rows = list(manifest.rows())
    assert not [row for row in rows if not isinstance(row, Row)]
    return [row.job for row in rows if isinstance(row, Row)]


@pytest.mark.parametrize("name", FORMATS)
def test_columns_mean_the_same_in_every_format(tmp_path: Path, name: str) -> None:
    columns = {
        "Image": ["a.png", "https://example.com/b.jpg"],
        "prompt": arrow.array(["sunset", None]).dictionary_encode(),
        "n": arrow.array([2.0, None]),
        "size": ["1:1", None],
        "option.seed": [7, None],
        "sku": ["A-1", None],
    }
    first, second = jobs(written(tmp_path, columns, name, prompt="snow"))
    assert (first.image, first.prompt, first.n) == (str(tmp_path / "a.png"), "sunset", 2)
    assert (first.options, first.extra) == ({"size": "1:1", "seed": 7}, {"sku": "A-1"})
    assert (second.image, second.prompt, second.n) == ("https://example.com/b.jpg", "snow", 1)
    assert (second.options, second.extra) == ({}, {"sku": None})


@pytest.mark.long
@pytest.mark.parametrize("name", FORMATS)
def test_images_may_be_inside_the_table(tmp_path: Path, name: str) -> None:
    images = [
        {"path": "animals/cat.png", "bytes": PNG},
        {"path": None, "bytes": PNG + b"1"},
        {"path": "dog.png", "bytes": None},
        {"path": None, "bytes": None},
    ]
    *rows, bad = written(tmp_path, {"image": images, "prompt": ["x"] * 4}, name).rows()
    first, second, third = (row.job for row in rows if isinstance(row, Row))
    assert isinstance(first.image, EmbeddedImage)
    assert (first.image.read(), first.image.name, first.name) == (PNG, f"{name}/1/cat.png", "cat")
    assert isinstance(second.image, EmbeddedImage)
    assert (second.image.read(), second.name) == (PNG + b"1", "row-2")
    assert third.image == str(tmp_path / "dog.png")
    assert isinstance(bad, BadRow)
    assert (bad.location, bad.complaint[:16]) == ("row 4", "It has no image:")


def test_images_may_be_a_column_of_bytes(tmp_path: Path) -> None:
    (job,) = jobs(written(tmp_path, {"image": [PNG], "prompt": ["x"]}))
    assert isinstance(job.image, EmbeddedImage)
    assert job.image.read() == PNG


def test_the_only_column_of_images_needs_no_name(tmp_path: Path) -> None:
    columns = {"photo": [{"bytes": PNG, "path": "a.png"}], "prompt": ["x"]}
    (job,) = jobs(written(tmp_path, columns))
    assert isinstance(job.image, EmbeddedImage)

    columns["other"] = columns["photo"]
    with pytest.raises(InvalidArgumentError, match="names no column `image`"):
        jobs(written(tmp_path, columns))


def test_values_that_json_lacks_are_kept_as_texts(tmp_path: Path) -> None:
    columns = {
        "image": ["a.png"],
        "prompt": ["x"],
        "when": arrow.array([1_700_000_000_123_456_789], arrow.timestamp("ns")),
        "at": [datetime(2026, 1, 2, tzinfo=UTC)],
        "day": [date(2026, 1, 2)],
        "price": [Decimal("1.50")],
        "embedding": [[1.0, float("nan")]],
        "mask": [b"12345"],
        "nested": [{"a": {"b": b"1"}}],
    }
    (job,) = jobs(written(tmp_path, columns))
    assert job.extra == {
        "when": "2023-11-14 22:13:20.123456789",
        "at": "2026-01-02 00:00:00.000000Z",
        "day": "2026-01-02",
        "price": "1.50",
        "embedding": [1.0, None],
        "mask": "5 bytes",
        "nested": {"a": {"b": "1 bytes"}},
    }


def test_a_path_in_a_table_stays_inside_its_folder(tmp_path: Path) -> None:
    columns = {"image": [{"path": "/etc/passwd.png", "bytes": None}], "prompt": ["x"]}
    (row,) = written(tmp_path, columns).rows()
    assert isinstance(row, BadRow)
    assert "--allow-outside" in row.complaint


@pytest.mark.parametrize("name", FORMATS)
def test_a_damaged_table_is_an_error_in_one_line(tmp_path: Path, name: str) -> None:
    manifest = written(tmp_path, {"image": ["a.png"] * 100, "prompt": ["x"] * 100}, name)
    content = manifest.path.read_bytes()
    manifest.path.write_bytes(content[: len(content) // 2])
    with pytest.raises(InvalidArgumentError, match=r"is damaged, or no Parquet|cannot be read") as raised:
        list(manifest.rows())
    assert "\n" not in raised.value.message


def test_offsets_that_lead_nowhere_are_found(tmp_path: Path) -> None:
    manifest = written(tmp_path, {"image": ["abcdefgh.png"] * 3, "prompt": ["x"] * 3}, "jobs.arrow")
    content = bytearray(manifest.path.read_bytes())
    offsets = b"".join(number.to_bytes(4, "little") for number in (0, 12, 24, 36))
    start = content.index(offsets)
    content[start + 4 : start + 8] = (2**30).to_bytes(4, "little")
    manifest.path.write_bytes(content)
    with pytest.raises(InvalidArgumentError, match="is damaged"):
        list(manifest.rows())


def test_other_content_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "jobs.parquet").write_text("image,prompt\n")
    with pytest.raises(InvalidArgumentError, match="is damaged, or no Parquet, Arrow or Feather file"):
        list(open_manifest(tmp_path / "jobs.parquet").rows())
    with pytest.raises(InvalidArgumentError, match="cannot be read"):
        list(Manifest(tmp_path, "table").rows())


def test_without_pyarrow_the_error_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = written(tmp_path, {"image": ["a.png"], "prompt": ["x"]})
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(InvalidArgumentError, match=r"pip install '\.\[tables\]'"):
        list(manifest.rows())


async def test_a_preflight_counts_equal_images_inside_a_table_once(tmp_path: Path) -> None:
    images = [{"path": f"{number}.png", "bytes": PNG + bytes([number % 3])} for number in range(30)]
    manifest = await aside(written, tmp_path, {"image": images, "prompt": ["x"] * 30})
    found = await preflight(manifest)
    assert (found.jobs, found.repeated, found.pictures, found.bytes) == (3, 27, 3, 3 * (len(PNG) + 1))


async def test_images_inside_a_table_are_edited_and_other_columns_reach_the_results(tmp_path: Path) -> None:
    images = [{"path": "cat.png", "bytes": PNG}, {"path": "dog.png", "bytes": PNG + b"1"}]
    columns = {"image": images, "prompt": ["x", "y"], "label": ["cat", "dog"]}
    manifest = await aside(written, tmp_path, columns)
    async with (
        Emulator(task_seconds=0.05, images="tiny") as emulator,
        AsyncApimart(emulator.api_key, base_url=emulator.base_url, poll=SOON) as client,
        edit_many(client, manifest.jobs(), output=tmp_path / "out") as outcomes,
    ):
        assert {outcome.status async for outcome in outcomes} == {"saved"}
    lines = (tmp_path / "out" / "results.jsonl").read_text().splitlines()
    found = {line["image"]: (line["extra"], line["options"], line["name"]) for line in map(json.loads, lines)}
    assert found == {
        "jobs.parquet/1/cat.png": ({"label": "cat"}, {}, "cat"),
        "jobs.parquet/2/dog.png": ({"label": "dog"}, {}, "dog"),
    }


@pytest.mark.parametrize("name", FORMATS)
async def test_memory_does_not_grow_with_the_rows_of_a_table(tmp_path: Path, name: str) -> None:
    peaks: list[int] = []
    for rows in (50, 50, 200, 200):  # the first run also imports modules
        images = [
            {"path": "a.png", "bytes": PNG + number.to_bytes(2) + bytes(100_000)} for number in range(rows)
        ]
        manifest = await aside(written, tmp_path, {"image": images, "prompt": ["x"] * rows}, name)
        del images
        tracemalloc.start()
        read = sum(1 for _ in await aside(list, map(type, manifest.rows())))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert read == rows
    # The smaller one: a table of the whole process, such as that of interned strings, may grow meanwhile.
    assert min(peaks[2:]) < peaks[1] + 500_000
