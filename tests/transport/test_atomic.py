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
from apimart_async.transport.files.atomic import find_saved, land

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

MIB = 1024 * 1024


def picture(kind: str = "PNG", colour: str = "teal") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64), colour).save(buffer, kind)
    return buffer.getvalue()


class Coming:
    """What comes of a download, until it is over or as long as nothing else happens."""

    def __init__(self, *content: bytes, failure: Exception | None = None, stalls: bool = False) -> None:
        self._content = iter(content)
        self._failure = failure
        self._stalls = stalls
        self.has_stalled = anyio.Event()

    async def read(self) -> bytes:
        await anyio.lowlevel.checkpoint()
        piece = next(self._content, b"")
        if piece:
            return piece
        if self._failure is not None:
            raise self._failure
        if self._stalls:
            self.has_stalled.set()
            await anyio.sleep_forever()
        return b""

    async def pour(self, take: Callable[[bytes], bool]) -> bool:
        while piece := await self.read():
            if not take(piece):
                return False
        return True


def names(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


@pytest.fixture(params=["all", "no links", "no nameless files", "neither"])
def file_system(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every kind of file system: some have no links, some no files without a name."""
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
@pytest.mark.parametrize(
    ("kind", "extension"),
    [("PNG", "png"), ("JPEG", "jpg"), ("WEBP", "webp"), ("GIF", "gif"), ("AVIF", "avif")],
)
async def test_the_extension_is_that_of_the_content(tmp_path: Path, kind: str, extension: str) -> None:
    content = picture(kind)
    path = await land(Coming(content), tmp_path / "new" / "er", "sky")
    assert path == tmp_path / "new" / "er" / f"sky.{extension}"
    assert path.read_bytes() == content
    assert names(path.parent) == {path.name}


@pytest.mark.usefixtures("file_system")
async def test_a_large_image_arrives_in_order(tmp_path: Path) -> None:
    content = [picture(), *(bytes([number]) * 300_000 for number in range(20))]
    path = await land(Coming(*content), tmp_path, "large")
    assert path.read_bytes() == b"".join(content)
    assert names(tmp_path) == {"large.png"}


async def test_a_file_is_made_with_the_permissions_that_files_are_made_with(tmp_path: Path) -> None:
    ordinary = tmp_path / "ordinary"
    ordinary.touch()
    path = await land(Coming(picture()), tmp_path, "sky")
    assert path.stat().st_mode == ordinary.stat().st_mode
    assert path.stat().st_nlink == 1


@pytest.mark.usefixtures("file_system")
async def test_a_file_that_exists_is_never_touched(tmp_path: Path) -> None:
    (tmp_path / "sky.png").write_bytes(b"precious")
    assert await land(Coming(picture()), tmp_path, "sky") == tmp_path / "sky-2.png"
    assert await land(Coming(picture(colour="red")), tmp_path, "sky") == tmp_path / "sky-3.png"
    assert (tmp_path / "sky.png").read_bytes() == b"precious"


@pytest.mark.usefixtures("file_system")
async def test_the_same_content_is_kept_once(tmp_path: Path) -> None:
    for colour, name in [
        ("teal", "sky.png"),
        ("red", "sky-2.png"),
        ("teal", "sky.png"),
        ("red", "sky-2.png"),
    ]:
        assert await land(Coming(picture(colour=colour)), tmp_path, "sky") == tmp_path / name
    assert names(tmp_path) == {"sky.png", "sky-2.png"}


@pytest.mark.usefixtures("file_system")
async def test_many_at_once_under_one_name_get_a_name_each(tmp_path: Path) -> None:
    contents = [picture(colour=f"#0000{number:02x}") for number in range(24)]
    found: dict[int, Path] = {}

    async def save(number: int) -> None:
        found[number] = await land(Coming(contents[number]), tmp_path, "sky")

    async with anyio.create_task_group() as group:
        for number in range(len(contents)):
            group.start_soon(save, number)
    assert len(set(found.values())) == len(contents)
    assert all(found[number].read_bytes() == content for number, content in enumerate(contents))
    assert names(tmp_path) == {path.name for path in found.values()}


async def test_the_same_image_many_times_at_once_is_one_file(tmp_path: Path) -> None:
    found: list[Path] = []

    async def save() -> None:
        found.append(await land(Coming(picture()), tmp_path, "sky"))

    async with anyio.create_task_group() as group:
        for _ in range(24):
            group.start_soon(save)
    assert set(found) == {tmp_path / "sky.png"}
    assert names(tmp_path) == {"sky.png"}


@pytest.mark.skipif(os.name != "posix", reason="these are things of POSIX")
@pytest.mark.usefixtures("file_system")
async def test_what_is_no_file_counts_as_taken_and_is_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside.png"
    directory = tmp_path / "out"
    directory.mkdir()
    (directory / "sky.png").symlink_to(outside)
    (directory / "sky-2.png").mkdir()
    os.mkfifo(directory / "sky-3.png")
    assert await land(Coming(picture()), directory, "sky") == directory / "sky-4.png"
    assert not outside.exists()


# --- what leaves nothing behind ---------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1000, 3 * MIB])
async def test_a_failure_of_the_download_leaves_nothing(tmp_path: Path, size: int) -> None:
    broken = Coming(picture() + bytes(size), failure=RuntimeError("broken"))
    with pytest.raises(RuntimeError, match="broken"):
        await land(broken, tmp_path, "sky")
    assert names(tmp_path) == set()


@pytest.mark.usefixtures("file_system")
@pytest.mark.parametrize("size", [1000, 3 * MIB])
async def test_cancelling_leaves_nothing(tmp_path: Path, size: int) -> None:
    stalled = Coming(picture() + bytes(size), stalls=True)
    async with anyio.create_task_group() as group:
        group.start_soon(land, stalled, tmp_path, "sky")
        await stalled.has_stalled.wait()
        assert all(name.startswith(".") for name in names(tmp_path))
        group.cancel_scope.cancel()
    assert names(tmp_path) == set()


KILLED = """
import os, signal, sys
from pathlib import Path
import anyio
from apimart_async.transport.files.atomic import land

class Coming:
    async def pour(self, take):
        while take(b"\\x89PNG\\r\\n\\x1a\\n" + bytes(300_000)):
            pass
        self.pour = self.kill
        return False

    async def kill(self, take):
        os.kill(os.getpid(), signal.SIGKILL)

anyio.run(land, Coming(), Path(sys.argv[1]), "sky")
"""


@pytest.mark.skipif(not hasattr(os, "O_TMPFILE"), reason="only Linux has files without a name")
async def test_a_program_that_is_killed_leaves_nothing(tmp_path: Path) -> None:
    try:
        os.close(os.open(tmp_path, os.O_TMPFILE | os.O_WRONLY))
    except OSError:
        pytest.skip("this file system has no files without a name")
    process = await anyio.run_process([sys.executable, "-c", KILLED, str(tmp_path)], check=False)
    assert process.returncode == -9
    assert names(tmp_path) == set()


@pytest.fixture
def full_disk() -> Iterator[None]:
    """A limit on the size of files stands in for a disk that fills up."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2 * MIB, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.usefixtures("full_disk")
async def test_a_full_disk_is_an_error_that_gives_hope_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match=r"File too large.*paid for is not lost") as caught:
        await land(Coming(picture(), bytes(MIB), bytes(MIB), bytes(MIB)), tmp_path, "sky")
    assert isinstance(caught.value.__cause__, OSError)
    assert names(tmp_path) == set()


async def test_a_directory_that_cannot_be_made_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for attempt in (
        land(Coming(picture()), tmp_path / "file" / "out", "sky"),
        find_saved(tmp_path / "file", ["sky"], [None]),
    ):
        with pytest.raises(DownloadError, match="file"):
            await attempt


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
async def test_a_directory_that_may_not_be_written_is_an_error(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(DownloadError, match="Permission denied"):
        await land(Coming(picture()), tmp_path, "sky")


# --- what is saved already --------------------------------------------------------------------------------


async def test_complete_images_are_found_whatever_their_extension(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(picture())
    (tmp_path / "b.jpg").write_bytes(picture("JPEG"))
    (tmp_path / "c.webp").write_bytes(picture("WEBP"))
    assert await find_saved(tmp_path, ["a", "b", "c", "d"], [None] * 4) == [
        tmp_path / "a.png",
        tmp_path / "b.jpg",
        tmp_path / "c.webp",
        None,
    ]


async def test_what_is_not_a_whole_image_is_not_found(tmp_path: Path) -> None:
    (tmp_path / "short.png").write_bytes(picture()[:-20])
    (tmp_path / "empty.png").touch()
    (tmp_path / "page.jpg").write_bytes(b"<!DOCTYPE html>")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "image.txt").write_bytes(picture())
    assert await find_saved(tmp_path, ["short", "empty", "page", "folder", "image"], [None] * 5) == [None] * 5


async def test_where_urls_told_the_truth_it_is_asked_for_what_they_tell(tmp_path: Path) -> None:
    (tmp_path / "old.webp").write_bytes(picture("WEBP"))
    for number in range(8):
        await land(Coming(picture()), tmp_path, f"new-{number}", told=".png")
    assert await find_saved(tmp_path, ["old", "new-1"], [".png", ".png"]) == [None, tmp_path / "new-1.png"]
    assert await find_saved(tmp_path, ["old"], [None]) == [tmp_path / "old.webp"]
    await land(Coming(picture("WEBP")), tmp_path, "odd", told=".png")
    assert await find_saved(tmp_path, ["old"], [".png"]) == [tmp_path / "old.webp"]


async def test_looking_makes_the_directory(tmp_path: Path) -> None:
    assert await find_saved(tmp_path / "a" / "b", ["x"], [None]) == [None]
    assert (tmp_path / "a" / "b").is_dir()
