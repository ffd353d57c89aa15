"""Atomic files: names, content, and no traces of failures."""

from __future__ import annotations

import errno
import io
import os
import sys
from typing import TYPE_CHECKING

import anyio
import pytest
from PIL import Image

from apimart_async.errors import DownloadError
from apimart_async.transport.files.atomic import find_images, write_image

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MIB = 1024 * 1024


def picture(kind: str = "PNG", colour: str = "teal") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64), colour).save(buffer, kind)
    return buffer.getvalue()


class Content:
    """The chunks of an image, followed by an error, by nothing for ever, or by the end."""

    def __init__(
        self,
        *chunks: bytes,
        extension: str = ".png",
        failure: Exception | None = None,
        stalls: bool = False,
    ) -> None:
        self.extension = extension
        self.has_stalled = anyio.Event()
        self._chunks = iter(chunks)
        self._failure = failure
        self._stalls = stalls

    async def read(self) -> bytes:
        await anyio.lowlevel.checkpoint()
        chunk = next(self._chunks, b"")
        if chunk:
            return chunk
        if self._failure is not None:
            raise self._failure
        if self._stalls:
            self.has_stalled.set()
            await anyio.sleep_forever()
        return b""


def names(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


@pytest.fixture(params=["all", "no links", "no nameless files", "neither"])
def file_system(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Imitate file systems without links or without nameless files."""
    really_open = os.open

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    def open_named(path: str, flags: int, *rest: int, **options: int) -> int:
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
        return really_open(path, flags, *rest, **options)

    if request.param in {"no links", "neither"}:
        monkeypatch.setattr(os, "link", refuse)
    if request.param in {"no nameless files", "neither"} and hasattr(os, "O_TMPFILE"):
        monkeypatch.setattr(os, "open", open_named)


@pytest.mark.usefixtures("file_system")
async def test_image_is_written_below_a_new_directory(tmp_path: Path) -> None:
    content = picture("JPEG")
    path = await write_image(Content(content, extension=".jpg"), tmp_path / "new" / "er", "sky")
    assert path == tmp_path / "new" / "er" / "sky.jpg"
    assert path.read_bytes() == content
    assert names(path.parent) == {"sky.jpg"}


@pytest.mark.usefixtures("file_system")
async def test_synced_image_is_written_like_any_other(tmp_path: Path) -> None:
    path = await write_image(Content(picture()), tmp_path, "sky", fsync=True)
    assert path.read_bytes() == picture()
    assert names(tmp_path) == {"sky.png"}


@pytest.mark.usefixtures("file_system")
async def test_large_image_is_written_in_order(tmp_path: Path) -> None:
    content = [picture(), *(bytes([number]) * 300_000 for number in range(20))]
    path = await write_image(Content(*content), tmp_path, "large")
    assert path.read_bytes() == b"".join(content)
    assert names(tmp_path) == {"large.png"}


async def test_file_has_the_usual_permissions(tmp_path: Path) -> None:
    ordinary = tmp_path / "ordinary"
    ordinary.touch()
    path = await write_image(Content(picture()), tmp_path, "sky")
    assert path.stat().st_mode == ordinary.stat().st_mode
    assert path.stat().st_nlink == 1


@pytest.mark.usefixtures("file_system")
async def test_existing_file_is_never_changed(tmp_path: Path) -> None:
    (tmp_path / "sky.png").write_bytes(b"precious")
    assert await write_image(Content(picture()), tmp_path, "sky") == tmp_path / "sky-2.png"
    assert await write_image(Content(picture(colour="red")), tmp_path, "sky") == tmp_path / "sky-3.png"
    assert (tmp_path / "sky.png").read_bytes() == b"precious"


@pytest.mark.usefixtures("file_system")
async def test_same_content_is_kept_once(tmp_path: Path) -> None:
    for colour, name in [
        ("teal", "sky.png"),
        ("red", "sky-2.png"),
        ("teal", "sky.png"),
        ("red", "sky-2.png"),
    ]:
        assert await write_image(Content(picture(colour=colour)), tmp_path, "sky") == tmp_path / name
    assert names(tmp_path) == {"sky.png", "sky-2.png"}


@pytest.mark.usefixtures("file_system")
async def test_concurrent_images_of_one_stem_get_distinct_names(tmp_path: Path) -> None:
    contents = [picture(colour=f"#0000{number:02x}") for number in range(24)]
    found: dict[int, Path] = {}

    async def save(number: int) -> None:
        found[number] = await write_image(Content(contents[number]), tmp_path, "sky")

    async with anyio.create_task_group() as group:
        for number in range(len(contents)):
            group.start_soon(save, number)
    assert len(set(found.values())) == len(contents)
    assert all(found[number].read_bytes() == content for number, content in enumerate(contents))
    assert names(tmp_path) == {path.name for path in found.values()}


async def test_concurrent_writes_of_one_image_make_one_file(tmp_path: Path) -> None:
    found: list[Path] = []

    async def save() -> None:
        found.append(await write_image(Content(picture()), tmp_path, "sky"))

    async with anyio.create_task_group() as group:
        for _ in range(24):
            group.start_soon(save)
    assert set(found) == {tmp_path / "sky.png"}
    assert names(tmp_path) == {"sky.png"}


@pytest.mark.skipif(os.name != "posix", reason="POSIX has symbolic links and pipes")
@pytest.mark.usefixtures("file_system")
async def test_links_directories_and_pipes_count_as_taken_names(tmp_path: Path) -> None:
    outside = tmp_path / "outside.png"
    directory = tmp_path / "out"
    directory.mkdir()
    (directory / "sky.png").symlink_to(outside)
    (directory / "sky-2.png").mkdir()
    os.mkfifo(directory / "sky-3.png")
    assert await write_image(Content(picture()), directory, "sky") == directory / "sky-4.png"
    assert not outside.exists()


# --- failures leave no file -------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1000, 3 * MIB])
async def test_failed_download_leaves_no_file(tmp_path: Path, size: int) -> None:
    broken = Content(picture() + bytes(size), failure=RuntimeError("broken"))
    with pytest.raises(RuntimeError, match="broken"):
        await write_image(broken, tmp_path, "sky")
    assert names(tmp_path) == set()


@pytest.mark.usefixtures("file_system")
@pytest.mark.parametrize("size", [1000, 3 * MIB])
async def test_cancellation_leaves_no_file(tmp_path: Path, size: int) -> None:
    stalled = Content(picture() + bytes(size), stalls=True)
    async with anyio.create_task_group() as group:
        group.start_soon(write_image, stalled, tmp_path, "sky")
        await stalled.has_stalled.wait()
        assert all(name.startswith(".") for name in names(tmp_path))
        group.cancel_scope.cancel()
    assert names(tmp_path) == set()


KILLED = """
import os, signal, sys
from pathlib import Path
import anyio
from apimart_async.transport.files.atomic import write_image

class Content:
    extension = ".png"
    chunks = [bytes(300_000)] * 10

    async def read(self):
        if not self.chunks:
            os.kill(os.getpid(), signal.SIGKILL)
        return self.chunks.pop()

anyio.run(write_image, Content(), Path(sys.argv[1]), "sky")
"""


@pytest.mark.skipif(not hasattr(os, "O_TMPFILE"), reason="only Linux has files without a name")
async def test_killed_program_leaves_no_file(tmp_path: Path) -> None:
    try:
        os.close(os.open(tmp_path, os.O_TMPFILE | os.O_WRONLY))
    except OSError:
        pytest.skip("this file system has no files without a name")
    process = await anyio.run_process([sys.executable, "-c", KILLED, str(tmp_path)], check=False)
    assert process.returncode == -9
    assert names(tmp_path) == set()


@pytest.fixture
def no_space_left() -> Iterator[None]:
    """A limit on the size of files stands in for a disk that fills up."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2 * MIB, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.usefixtures("no_space_left")
async def test_no_space_left_is_an_error_and_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match=r"File too large.*paid image is not lost") as caught:
        await write_image(Content(picture(), bytes(MIB), bytes(MIB), bytes(MIB)), tmp_path, "sky")
    assert isinstance(caught.value.__cause__, OSError)
    assert names(tmp_path) == set()


async def test_directory_that_cannot_be_created_is_named_in_the_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for attempt in (
        write_image(Content(picture()), tmp_path / "file" / "out", "sky"),
        find_images(tmp_path / "file", ["sky"]),
    ):
        with pytest.raises(DownloadError, match="file"):
            await attempt


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
async def test_read_only_directory_is_an_error(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(DownloadError, match="Permission denied"):
        await write_image(Content(picture()), tmp_path, "sky")


# --- images that exist already ----------------------------------------------------------------------------


async def test_whole_images_are_found_with_any_extension(tmp_path: Path) -> None:
    kinds = {"png": "PNG", "jpg": "JPEG", "webp": "WEBP", "gif": "GIF", "avif": "AVIF"}
    for extension, kind in kinds.items():
        (tmp_path / f"{kind}.{extension}").write_bytes(picture(kind))
    assert await find_images(tmp_path, [*kinds.values(), "missing"]) == [
        *(tmp_path / f"{kind}.{extension}" for extension, kind in kinds.items()),
        None,
    ]


async def test_other_files_are_not_found(tmp_path: Path) -> None:
    (tmp_path / "short.png").write_bytes(picture()[:-20])
    (tmp_path / "empty.png").touch()
    (tmp_path / "page.jpg").write_bytes(b"<!DOCTYPE html>")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "image.txt").write_bytes(picture())
    assert await find_images(tmp_path, ["short", "empty", "page", "folder", "image"]) == [None] * 5


async def test_search_creates_the_directory(tmp_path: Path) -> None:
    assert await find_images(tmp_path / "a" / "b", ["x"]) == [None]
    assert (tmp_path / "a" / "b").is_dir()
