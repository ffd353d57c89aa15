"""Results in object storage: named as on disk, visible when whole, and never one in the place of another."""

from __future__ import annotations

import pickle
import sys
from typing import TYPE_CHECKING

import anyio
import pytest

from apimart_async import (
    ApimartError,
    AsyncApimart,
    DownloadError,
    Image,
    ImageError,
    InvalidArgumentError,
)
from apimart_async.transport.concurrency import for_each
from apimart_async.transport.files import objects
from apimart_async.transport.object_storage import ObjectPath, any_path, store_of

from .conftest import png_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from .conftest import Exchange, RawServer

SMALL = png_of(bytes(range(256)) * 300)
LARGE = png_of(bytes(range(256)) * 50_000)  # of three parts
OTHER = png_of(bytes(range(255, -1, -1)) * 50_000)


@pytest.fixture(params=["file", "memory"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectPath:
    """A folder of objects, on disk or in this process."""
    name = f"{id(tmp_path)}.{tmp_path.name}"
    path = any_path(f"file://{tmp_path}/out" if request.param == "file" else f"memory://{name}/out")
    assert isinstance(path, ObjectPath)
    return path


@pytest.fixture
async def client(raw_server: RawServer) -> AsyncIterator[AsyncApimart]:
    async with AsyncApimart("sk-test", base_url=raw_server.base_url, max_retries=0) as connected:
        yield connected


def serves(raw_server: RawServer, *contents: bytes) -> list[Image]:
    async def handle(exchange: Exchange) -> None:
        seen = await exchange.read()
        await exchange.answer(contents[int(seen.path[1])])

    raw_server.handle = handle
    return [Image(f"{raw_server.base_url}/{number}.png", task_id="t") for number in range(len(contents))]


def listed(folder: ObjectPath) -> list[str]:
    """Return the names of all objects, and of unfinished files of a store on disk."""
    return sorted(
        meta["path"].rpartition("/")[2] for page in store_of(folder).list(folder.key) for meta in page
    )


@pytest.mark.parametrize("content", [SMALL, LARGE], ids=["small", "large"])
async def test_image_becomes_an_object_with_the_name_of_a_file(
    client: AsyncApimart, raw_server: RawServer, folder: ObjectPath, content: bytes
) -> None:
    paths = await client.images.save(serves(raw_server, content), str(folder), name="snowy ü")
    assert [str(path) for path in paths] == [f"{folder}/snowy ü.png"]
    assert paths[0].read_bytes() == content
    assert listed(folder) == ["snowy ü.png"]


@pytest.mark.parametrize("content", [SMALL, LARGE], ids=["small", "large"])
async def test_same_content_is_kept_and_other_content_gets_a_number(
    client: AsyncApimart, raw_server: RawServer, folder: ObjectPath, content: bytes
) -> None:
    different = OTHER if content is LARGE else png_of(bytes(range(255, -1, -1)) * 300)
    first, again, other = serves(raw_server, content, content, different)
    saved = [
        (await client.images.save(image, folder, name="a"))[0].name for image in (first, again, other, other)
    ]
    assert saved == ["a.png", "a.png", "a-2.png", "a-2.png"]
    assert listed(folder) == ["a-2.png", "a.png"]


async def test_concurrent_images_of_one_name_replace_none(
    client: AsyncApimart, raw_server: RawServer, folder: ObjectPath
) -> None:
    images = serves(raw_server, LARGE, OTHER, SMALL)
    paths = await for_each(lambda image: client.images.save(image, folder, name="a"), images)
    assert listed(folder) == ["a-2.png", "a-3.png", "a.png"]
    assert [path.read_bytes() for (path,) in paths] == [LARGE, OTHER, SMALL]


async def test_image_that_is_cut_short_leaves_no_object(
    client: AsyncApimart, raw_server: RawServer, folder: ObjectPath
) -> None:
    for image in serves(raw_server, LARGE[:-20], SMALL[:-20], b"<html>no image</html>" * 10):
        with pytest.raises(DownloadError):
            await client.images.save(image, folder)
    assert listed(folder) == []


async def test_cancellation_in_the_middle_of_an_image_leaves_no_object(
    client: AsyncApimart, raw_server: RawServer, folder: ObjectPath
) -> None:
    reached = anyio.Event()

    async def handle(exchange: Exchange) -> None:
        await exchange.read()
        exchange.writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(LARGE))
        exchange.writer.write(LARGE[:-1000])
        await exchange.writer.drain()
        reached.set()
        await anyio.sleep_forever()

    raw_server.handle = handle
    async with anyio.create_task_group() as group:
        group.start_soon(client.images.save, Image(f"{raw_server.base_url}/0.png"), folder)
        await reached.wait()
        group.cancel_scope.cancel()
    assert listed(folder) == []


async def test_saved_images_of_a_task_are_recognised_by_their_beginning(folder: ObjectPath) -> None:
    for name, content in {"t-1.png": SMALL, "t-2.png": b"", "t-3.webp": b"no image" * 100}.items():
        store_of(folder).put(f"{folder.key}/{name}", content)
    assert await objects.find_objects(folder, ["t-1", "t-2", "t-3", "t-4"]) == [
        folder / "t-1.png",
        None,
        None,
        None,
    ]
    assert await objects.have_content([folder / "t-1.png"])
    assert not await objects.have_content([folder / "t-1.png", folder / "t-2.png"])
    assert not await objects.have_content([folder / "t-4.png"])


async def test_check_of_a_folder_leaves_nothing(folder: ObjectPath) -> None:
    await objects.check_writable(folder)
    assert listed(folder) == []


async def test_object_that_is_written_replaces_another(folder: ObjectPath) -> None:
    async with objects.writing(folder / "results.jsonl") as writer:
        for number in range(50):
            await writer.write(b"%d\n" % number)
    assert (folder / "results.jsonl").read_bytes().splitlines()[-1] == b"49"
    async with objects.writing(folder / "results.jsonl") as writer:
        await writer.write(b"new")
    assert (folder / "results.jsonl").read_bytes() == b"new"


# --- the path of an object --------------------------------------------------------------------------------


def test_path_of_an_object_is_its_url_and_can_be_pickled() -> None:
    folder = any_path("S3://bucket/a//b/")
    path = folder / "photo.png"
    assert (str(folder), str(path), path.as_posix()) == (
        "s3://bucket/a/b",
        *["s3://bucket/a/b/photo.png"] * 2,
    )
    assert isinstance(path, ObjectPath)
    assert (path.bucket, path.key, path.stem, path.suffix) == (
        "s3://bucket",
        "a/b/photo.png",
        "photo",
        ".png",
    )
    assert pickle.loads(pickle.dumps(path)) == path  # noqa: S301 our own
    assert str(path.relative_to(folder)) == "photo.png"
    assert any_path(path) is path
    assert str(any_path("file:///tmp/out") / "a.png") == "file:///tmp/out/a.png"


@pytest.mark.parametrize("name", ["open", "stat", "mkdir", "unlink", "is_file"])
def test_path_of_an_object_is_no_file(name: str) -> None:
    with pytest.raises(TypeError, match="has no path on disk"):
        getattr(ObjectPath("s3://bucket/photo.png"), name)()


@pytest.mark.parametrize(
    "url", ["s3://", "s3://key:secret@bucket/out", "gs://bu cket", "s3://bucket/../other", "file://out"]
)
def test_url_of_no_bucket_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        any_path(url)
    assert "secret" not in caught.value.message


def test_object_that_is_missing_does_not_exist(folder: ObjectPath) -> None:
    assert not (folder / "a.png").exists()
    store_of(folder).put(f"{folder.key}/a.png", b"1")
    assert (folder / "a.png").exists()
    with pytest.raises(FileNotFoundError, match="the object, or its bucket, does not exist"):
        (folder / "b.png").read_bytes()


async def test_without_obstore_the_extra_is_named(
    client: AsyncApimart, raw_server: RawServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = serves(raw_server, SMALL)
    monkeypatch.setitem(sys.modules, "obstore.store", None)
    with pytest.raises(ApimartError, match=r"pip install '\.\[storage\]'"):
        await client.images.save(images, "s3://without-the-extra/out")
    with pytest.raises(ImageError, match=r"pip install '\.\[storage\]'"):
        await client.edits.create("s3://without-the-extra/a.png", "snow")
