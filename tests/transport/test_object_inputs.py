"""Images in object storage, as inputs: read in ranges, and never another version than the checked one."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest

from apimart_async import AsyncApimart, ImageError, UnsupportedImageError
from apimart_async.transport.media.forms import remote_url
from apimart_async.transport.media.inputs import open_and_digest, open_media
from apimart_async.transport.media.multipart import multipart
from apimart_async.transport.object_storage import ObjectPath, any_path, store_of
from tests.transport.test_inputs import picture

if TYPE_CHECKING:
    from pathlib import Path

    from apimart_async.emulator import Emulator


@pytest.fixture
def photo(request: pytest.FixtureRequest) -> ObjectPath:
    """An image of several chunks, in a store of this process."""
    path = any_path(f"memory://{request.node.name.replace('[', '.').replace(']', '')}/in/photo of me.png")
    assert isinstance(path, ObjectPath)
    put(path, picture(size=700))
    return path


def put(path: ObjectPath, content: bytes) -> None:
    store_of(path).put(path.key, content)


async def test_object_is_sent_in_chunks_under_its_own_name(photo: ObjectPath) -> None:
    content = photo.read_bytes()
    media = await open_and_digest(str(photo))
    assert (media.filename, media.size, media.content_type) == ("photo of me.png", len(content), "image/png")
    assert media.digest == hashlib.sha256(content).hexdigest()
    chunks = [chunk async for chunk in multipart([("file", media)]).chunks()]
    assert len(chunks) > 2
    assert content in b"".join(chunks)


async def test_object_that_changed_since_the_check_is_not_sent(photo: ObjectPath) -> None:
    media = await open_media(photo)
    put(photo, picture(size=701))
    with pytest.raises(ImageError, match="has changed"):
        [chunk async for chunk in multipart([("file", media)]).chunks()]


async def test_missing_object_and_object_that_is_no_image_are_refused(photo: ObjectPath) -> None:
    with pytest.raises(
        ImageError, match=r"memory://.*other\.png cannot be read: the object, or its bucket, does not exist"
    ):
        await open_media(str(photo.with_name("other.png")))
    put(photo, b"text" * 10)
    with pytest.raises(UnsupportedImageError, match="JPEG, PNG, WebP and GIF"):
        await open_media(str(photo))


async def test_credentials_in_a_url_are_refused_and_not_repeated() -> None:
    with pytest.raises(ImageError, match="It holds no credentials") as caught:
        await open_media("s3://AKIA:SeCrEt@bucket/photo.png")
    assert "SeCrEt" not in str(caught.value)


@pytest.mark.parametrize("key", ["a//photo.png", "/photo.png", "a/./photo.png"], ids=["two", "first", "dot"])
async def test_a_key_that_a_path_cannot_hold_names_no_other_object(photo: ObjectPath, key: str) -> None:
    # Those of a path are "a/photo.png" and "photo.png", which may be other pictures.
    for other in ("a/photo.png", "photo.png"):
        path = any_path(f"{photo.bucket}/{other}")
        assert isinstance(path, ObjectPath)
        store_of(path).put(path.key, picture())
    with pytest.raises(ImageError, match="cannot hold"):
        await open_media(f"{photo.bucket}/{key}")


async def test_url_of_an_object_in_a_mapping_is_refused(client: AsyncApimart, photo: ObjectPath) -> None:
    # A mapping may come from an untrusted request, which must not read the buckets of the caller.
    with pytest.raises(ImageError, match="an https:// or data: URL"):
        await client.edits.create({"url": str(photo)}, "Add snow")


async def test_edit_uploads_an_object_and_its_mask(
    client: AsyncApimart, emulator: Emulator, photo: ObjectPath, tmp_path: Path
) -> None:
    task = await client.edits.run([str(photo), photo], "Add snow")
    assert emulator.counts["uploads"] == 1
    assert await client.images.save(task, tmp_path)


@pytest.mark.parametrize("url", ["file:///tmp/photo.png", "FILE:///tmp/photo.png"])
def test_file_urls_stay_refused_as_inputs(url: str) -> None:
    with pytest.raises(UnsupportedImageError, match="Give the path itself"):
        remote_url(url)
