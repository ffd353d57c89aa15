"""Manifests with jobs of every operation: their columns, their mistakes and their check."""

from __future__ import annotations

import json
from importlib import import_module
from typing import TYPE_CHECKING, Any

import anyio.to_thread
import pytest

from apimart_async import InvalidArgumentError, run_many
from apimart_async.batch.journal.opening import journal_path
from apimart_async.batch.manifest.preflight import Preflight, preflight
from apimart_async.batch.manifest.reader import Manifest, open_manifest
from apimart_async.batch.manifest.rows import BadRow, EmbeddedImage, ManifestOptions, Row

if TYPE_CHECKING:
    from pathlib import Path

    from apimart_async import AsyncApimart
    from apimart_async.emulator import Emulator

arrow: Any = import_module("pyarrow")
parquet: Any = import_module("pyarrow.parquet")

PNG = b"\x89PNG\r\n\x1a\n" + bytes(24)
GPT, GROK = "gpt-image-2", "grok-imagine-2.0-ext"


@pytest.fixture
def folder(tmp_path: Path, pictures: list[Path]) -> Path:
    place = tmp_path / "manifest"
    place.mkdir()
    for picture, name in zip(pictures, ("a.png", "b.png"), strict=False):
        (place / name).write_bytes(picture.read_bytes())
    return place


def written(folder: Path, lines: list[dict[str, Any]] | str, **options: Any) -> Manifest:
    text = lines if isinstance(lines, str) else "\n".join(map(json.dumps, lines))
    path = folder / ("jobs.csv" if isinstance(lines, str) else "jobs.jsonl")
    path.write_text(text, encoding="utf-8")
    return open_manifest(path, ManifestOptions(**options))


def rows_of(manifest: Manifest) -> list[Row]:
    rows = list(manifest.rows())
    assert not [row for row in rows if not isinstance(row, Row)]
    return [row for row in rows if isinstance(row, Row)]


def complaint_of(manifest: Manifest) -> str:
    (row,) = manifest.rows()
    assert isinstance(row, BadRow)
    return row.complaint


async def checked(manifest: Manifest, **options: Any) -> Preflight:
    return await preflight(manifest, **options)


ROWS: list[dict[str, Any]] = [
    {"image": "a.png", "prompt": "x", "id": "edit"},
    {"image": ["a.png", "b.png"], "prompt": "x", "model": GPT, "operation": "Generate", "id": "references"},
    {"prompt": "x", "operation": "generate", "id": "text"},
    {"image": "b.png", "operation": "segment", "id": "segment"},
    {"image": "a.png", "prompt": "x", "operation": "region_edit", "option.mask": "b.png", "id": "region"},
    {
        "image_with_roles": [{"url": "a.png", "role": "style"}, {"url": "b.png", "role": "content"}],
        "prompt": "x",
        "model": GROK,
        "id": "roles",
    },
]


def test_every_operation_has_its_row(folder: Path) -> None:
    edit, references, text, segment, region, roles = (row.job for row in rows_of(written(folder, ROWS)))
    both = [str(folder / "a.png"), str(folder / "b.png")]
    assert (edit.operation, edit.image) == ("edit", both[0])
    assert (references.operation, references.image) == ("generate", both)
    assert (text.operation, text.image, text.name) == ("generate", None, "text")
    assert (segment.operation, segment.prompt) == ("segment", "")
    assert (region.operation, region.options) == ("region_edit", {"mask": both[1]})
    assert (roles.image, roles.roles) == (both, ["style", "content"])


def test_a_csv_file_has_several_images_as_json(folder: Path) -> None:
    text = 'image,prompt,model\n"[""a.png"", ""b.png""]",x,gpt-image-2\n'
    (row,) = rows_of(written(folder, text))
    assert row.job.image == [str(folder / "a.png"), str(folder / "b.png")]
    text = 'image_with_roles,prompt,model\n"[{""url"": ""a.png"", ""role"": ""style""}]",x,gpt-image-2\n'
    (row,) = rows_of(written(folder, text))
    assert (row.job.image, row.job.roles) == (str(folder / "a.png"), ["style"])


@pytest.mark.parametrize("text", ["prompt\nx\ny\n", "prompt;size\nx;1:1\ny;1:1\n"])
def test_a_csv_file_of_prompts_makes_images_from_text(folder: Path, text: str) -> None:
    first, second = (row.job for row in rows_of(written(folder, text, operation="generate")))
    assert (first.prompt, second.prompt) == ("x", "y")
    assert (first.operation, first.image, first.name) == ("generate", None, None)
    with pytest.raises(InvalidArgumentError, match="no column `image`"):
        list(written(folder, text).rows())
    with pytest.raises(InvalidArgumentError, match="no column `prompt`"):
        list(written(folder, "words\nx\n", operation="generate").rows())


def test_a_default_prompt_is_not_for_segmentations(folder: Path) -> None:
    rows = rows_of(written(folder, "image,operation\na.png,segment\nb.png,\n", prompt="stars"))
    assert [(row.job.operation, row.job.prompt) for row in rows] == [("segment", ""), ("edit", "stars")]


def test_a_folder_can_be_segmented_without_a_prompt(folder: Path) -> None:
    rows = rows_of(open_manifest(folder, ManifestOptions(operation="segment")))
    assert [(row.job.operation, row.job.prompt, row.job.name) for row in rows] == [
        ("segment", "", "a"),
        ("segment", "", "b"),
    ]


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no image": ({"prompt": "x"}, "It has no image"),
    "an empty list of images": ({"prompt": "x", "image": []}, "It has no image"),
    "an unknown operation": ({"image": "a.png", "prompt": "x", "operation": "erase"}, "must be one of"),
    "a prompt for a segmentation": ({"image": "a.png", "prompt": "x", "operation": "segment"}, "no prompt"),
    "a model that would bill": ({"image": "a.png", "operation": "segment", "model": GPT}, "would bill"),
    "a model that only edits": (
        {"prompt": "x", "operation": "generate", "model": "grok-imagine-1.0-edit-apimart"},
        "only edits",
    ),
    "two images columns": (
        {"image": "a.png", "image_with_roles": [{"url": "a.png", "role": "x"}], "prompt": "x"},
        "both image and image_with_roles",
    ),
    "an image without a role": ({"image_with_roles": [{"url": "a.png"}], "prompt": "x"}, "must look like"),
    "a list inside a list": ({"image": [["a.png"]], "prompt": "x"}, "image must be a text"),
    "an outside mask": (
        {"image": "a.png", "prompt": "x", "model": GPT, "option.mask": "../red.png"},
        "outside the folder",
    ),
    "an outside image among others": ({"image": ["a.png", "../red.png"], "prompt": "x"}, "outside"),
    "the operation as an option": (
        {"image": "a.png", "prompt": "x", "option.operation": "segment"},
        "operation cannot be an option",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_each_mistake_is_named(folder: Path, case: str) -> None:
    line, complaint = WRONG[case]
    assert complaint in complaint_of(written(folder, [line]))


@pytest.mark.long
def test_several_images_and_a_mask_may_be_inside_a_table(folder: Path) -> None:
    table = arrow.table(
        {"images": [[PNG, PNG + b"1"]], "option.mask": [PNG], "prompt": ["x"], "model": [GPT]}
    )
    parquet.write_table(table, folder / "jobs.parquet")
    (row,) = rows_of(open_manifest(folder / "jobs.parquet"))
    assert isinstance(row.job.image, list)
    assert all(isinstance(image, EmbeddedImage) for image in (*row.job.image, row.job.options["mask"]))


async def test_a_check_counts_free_images_and_every_picture(folder: Path) -> None:
    manifest = await anyio.to_thread.run_sync(written, folder, ROWS)
    found = await checked(manifest, journal=folder / "no journal")
    assert (found.jobs, found.left, found.free, found.pictures) == (6, 6, 1, 2)
    assert found.images == {
        "grok-imagine-1.0-edit-apimart": 1,
        "gemini-3-pro-image-preview": 1,
        GROK: 2,
        GPT: 1,
    }


async def test_a_bad_mask_is_named_by_the_check(folder: Path) -> None:
    line = {"image": "a.png", "prompt": "x", "model": GPT, "option.mask": "missing.png"}
    found = await checked(await anyio.to_thread.run_sync(written, folder, [line]))
    assert "missing.png" in found.bad[0].complaint


async def test_a_check_knows_the_jobs_of_every_operation_that_have_run(
    client: AsyncApimart, emulator: Emulator, folder: Path, tmp_path: Path
) -> None:
    lines = [{name: value for name, value in line.items() if name != "id"} for line in ROWS]
    manifest = await anyio.to_thread.run_sync(written, folder, [*lines, lines[1]])
    output = tmp_path / "out"
    async with run_many(client, manifest.jobs(), output=output) as outcomes:
        statuses = [outcome.status async for outcome in outcomes]
    assert statuses == ["saved"] * 7
    assert len(emulator.ledger.entries) == 6
    found = await checked(manifest, journal=journal_path(output))
    assert (found.jobs, found.repeated, found.left, found.started["saved"]) == (6, 1, 0, 6)
    assert found.earlier
    assert found.earlier.spent == pytest.approx(emulator.ledger.total)
