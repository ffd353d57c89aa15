"""Folders and glob patterns as manifests: the images in them, and the files that are left out."""

from __future__ import annotations

import os
import sys
from collections import Counter
from pathlib import Path

import anyio.to_thread
import attrs
import pytest
from PIL import Image

from apimart_async import InvalidArgumentError
from apimart_async.batch.manifest.preflight import MAX_LISTED, preflight
from apimart_async.batch.manifest.reader import Manifest, open_manifest
from apimart_async.batch.manifest.rows import BadRow, ManifestOptions, Row, Skipped
from apimart_async.transport.media.forms import shown

PNG = b"\x89PNG\r\n\x1a\n" + b"\0\0\0\0teXt\0\0\0\0" + b"\0\0\0\0IEND\xaeB`\x82"

links = pytest.mark.skipif(os.name == "nt", reason="links need a privilege on Windows")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    for name in ("b.png", "a.JPG", "sub/c.png", "sub/deep/d.webp", "sub/notes.txt", ".hidden/e.png"):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(PNG + name.encode())
    return folder


def opened(path: Path | str, **options: bool | Path) -> Manifest:
    return open_manifest(path, ManifestOptions("sunset", **options))  # type: ignore[arg-type]


def taken(manifest: Manifest) -> list[str]:
    folder = manifest.folder.path
    return [
        Path(str(row.job.image)).relative_to(folder).as_posix()
        for row in manifest.rows()
        if isinstance(row, Row)
    ]


def left_out(manifest: Manifest) -> dict[str, str]:
    return {Path(row.location).as_posix(): row.reason for row in manifest.rows() if isinstance(row, Skipped)}


def test_left_out_files_are_named_by_their_kind(photos: Path) -> None:
    for name in ("drawing.SVG", "logo.svg", "scan.pdf", "README", "Thumbs.db", ".DS_Store"):
        (photos / name).touch()

    manifest = opened(photos)
    assert taken(manifest) == ["a.JPG", "b.png"]
    assert left_out(manifest) == {
        "README": "without an extension",
        "drawing.SVG": "SVG",
        "logo.svg": "SVG",
        "scan.pdf": "PDF",
        "sub/c.png": "in a subfolder",
        "sub/deep/d.webp": "in a subfolder",
    }


def test_recursive_takes_the_subfolders_in_order(photos: Path) -> None:
    manifest = opened(photos, recursive=True)
    assert taken(manifest) == ["a.JPG", "b.png", "sub/c.png", "sub/deep/d.webp"]
    assert left_out(manifest) == {"sub/notes.txt": "TXT"}


def test_results_of_batches_are_no_images(photos: Path) -> None:
    for name in ("out/1.png", "earlier/2.png", "earlier/.batch/journal.sqlite3"):
        (photos / name).parent.mkdir(parents=True, exist_ok=True)
        (photos / name).write_bytes(PNG)

    manifest = opened(photos, recursive=True, output=photos / "sub" / ".." / "out")
    assert taken(manifest) == ["a.JPG", "b.png", "sub/c.png", "sub/deep/d.webp"]
    assert left_out(manifest) == {"earlier/2.png": "result of a batch", "sub/notes.txt": "TXT"}


def test_convertible_images_are_taken(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("IMG_1.HEIC", "scan.tif"):
        (photos / name).touch()
    assert taken(opened(photos)) == ["IMG_1.HEIC", "a.JPG", "b.png", "scan.tif"]
    never = {"IMG_1.HEIC": "HEIC with --convert never", "scan.tif": "TIF with --convert never"}
    assert left_out(opened(photos / "*.*", convert=False)) == {
        shown((photos / name).as_posix()): reason for name, reason in never.items()
    }

    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    assert taken(opened(photos)) == ["a.JPG", "b.png", "scan.tif"]
    assert left_out(opened(photos))["IMG_1.HEIC"] == "HEIC without the extra formats"


async def test_an_image_that_must_not_be_converted_is_bad(photos: Path) -> None:
    Image.new("RGB", (8, 8)).save(photos / "c.png", "BMP")
    manifest = await anyio.to_thread.run_sync(opened, photos)
    found = await preflight(manifest)
    assert (found.jobs, found.bad) == (3, ())

    refusing = attrs.evolve(manifest, options=attrs.evolve(manifest.options, convert=False))
    for journal in (None, photos / "journal"):
        found = await preflight(refusing, journal=journal)
        assert (found.jobs, [row.location for row in found.bad]) == (2, ["c.png"])
        assert "BMP" in found.bad[0].complaint


@links
def test_links_to_folders_are_not_followed(photos: Path) -> None:
    (photos / "sub" / "above").symlink_to(photos, target_is_directory=True)
    manifest = opened(photos, recursive=True)
    assert taken(manifest) == ["a.JPG", "b.png", "sub/c.png", "sub/deep/d.webp"]
    assert left_out(manifest) == {"sub/above": "link to a folder", "sub/notes.txt": "TXT"}


@links
def test_links_in_a_circle_are_left_out_and_end_nothing(photos: Path) -> None:
    (photos / "c.png").symlink_to("d.png")
    (photos / "d.png").symlink_to("c.png")
    manifest = opened(photos)
    assert taken(manifest) == ["a.JPG", "b.png"]
    assert left_out(manifest)["c.png"] == left_out(manifest)["d.png"] == "no regular file"


@links
def test_a_link_out_of_the_folder_needs_permission(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "private.png").write_bytes(PNG)
    (photos / "link.png").symlink_to(tmp_path / "private.png")
    (photos / "inside.png").symlink_to(photos / "sub" / "c.png")

    (bad,) = (row for row in opened(photos).rows() if isinstance(row, BadRow))
    assert bad.location == "link.png"
    assert "outside the folder of the manifest: permit such paths with --allow-outside" in bad.complaint
    assert taken(opened(photos, allow_outside=True)) == ["a.JPG", "b.png", "inside.png", "link.png"]


@pytest.mark.parametrize(
    ("pattern", "images"),
    [
        ("photos/*.png", ["b.png"]),
        ("photos/[ab].*", ["a.JPG", "b.png"]),
        ("photos/**/*.png", ["b.png", "sub/c.png"]),
        ("photos/**", ["a.JPG", "b.png", "sub/c.png", "sub/deep/d.webp"]),
        ("photo?/sub/*/*.webp", ["photos/sub/deep/d.webp"]),
        ("photos/*.gif", []),
    ],
)
def test_a_glob_pattern_that_the_shell_left_alone_is_expanded(
    photos: Path, monkeypatch: pytest.MonkeyPatch, pattern: str, images: list[str]
) -> None:
    monkeypatch.chdir(photos.parent)
    assert taken(opened(pattern)) == images


def test_a_pattern_names_its_left_out_matches(photos: Path) -> None:
    (photos / "logo.svg").touch()
    assert left_out(opened(photos / "*")) == {
        shown((photos / "logo.svg").as_posix()): "SVG",
        shown((photos / "sub").as_posix()): "folder",
    }


def test_a_file_with_magic_letters_in_its_name_is_itself(tmp_path: Path) -> None:
    folder = tmp_path / "photos [1]"
    folder.mkdir()
    (folder / "a.png").write_bytes(PNG)
    manifest = opened(folder)
    assert (manifest.kind, taken(manifest)) == ("folder", ["a.png"])


def test_a_pattern_needs_a_prompt(photos: Path) -> None:
    with pytest.raises(InvalidArgumentError, match="is a pattern: give the prompt with -p"):
        open_manifest(photos / "*.png")


async def test_a_preflight_counts_left_out_files_and_lists_the_first(photos: Path) -> None:
    for number in range(MAX_LISTED + 5):
        (photos / f"{number:02}.svg").touch()
    found = await preflight(await anyio.to_thread.run_sync(opened, photos))
    assert (found.jobs, found.skipped) == (2, Counter({"SVG": MAX_LISTED + 5, "in a subfolder": 2}))
    assert len(found.skipped_names) == MAX_LISTED


async def test_bad_rows_are_left_out_by_their_number(photos: Path) -> None:
    (photos / "aa.png").write_text("no image")
    (photos / "z.png").touch()
    (photos / "ab.svg").touch()
    manifest = await anyio.to_thread.run_sync(opened, photos)
    found = await preflight(manifest)

    assert list(found.bad_rows) == [1, 3]
    jobs = [Path(str(job.image)).name async for job in manifest.jobs(found.bad_rows)]
    assert jobs == ["a.JPG", "b.png"]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have names in Unicode only")
async def test_a_name_that_is_not_utf8_is_to_be_changed_and_not_the_picture(photos: Path) -> None:
    Path(os.fsdecode(os.fsencode(photos) + b"/caf\xe9.png")).write_bytes(PNG)

    manifest = await anyio.to_thread.run_sync(opened, photos)
    (bad,) = (await preflight(manifest)).bad
    assert bad.complaint == "Its path is not UTF-8: rename it."
