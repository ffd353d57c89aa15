"""An image is uploaded once while its URL lives, for all methods; then it is uploaded again."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import os
import stat
import time
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import pytest
from anyio import to_thread
from PIL import Image

from apimart_async import (
    AsyncApimart,
    AuthenticationError,
    BadRequestError,
    Job,
    Media,
    Poll,
    Upload,
    edit_many,
)
from apimart_async.emulator import Emulator, Fault
from apimart_async.resources.uploads import UploadMemory
from apimart_async.transport.files.upload_folder import UploadFolder
from tests.transport.conftest import RawServer, listening

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from apimart_async import Outcome
    from tests.transport.conftest import Exchange

QUICK = Poll(first=0.02, shortest=0.02, longest=0.05)
KEY = "sk-test"


@pytest.fixture
async def emulator() -> AsyncIterator[Emulator]:
    async with Emulator(task_seconds=0.02, images="tiny") as running:
        yield running


@pytest.fixture
async def server() -> AsyncIterator[RawServer]:
    server = RawServer()
    async with listening(server) as port:
        server.base_url = f"http://127.0.0.1:{port}"
        yield server


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.jpg"
    Image.linear_gradient("L").save(path, comment=b"52.5200N 13.4050E")
    return path


def connect(emulator: Emulator, **options: Any) -> AsyncApimart:
    return AsyncApimart(emulator.api_key, base_url=emulator.base_url, poll=QUICK, **options)


async def run(client: AsyncApimart, jobs: list[Job], output: Path, **options: Any) -> list[Outcome]:
    async with edit_many(client, jobs, output=output, **options) as outcomes:
        return [outcome async for outcome in outcomes]


async def test_edits_generations_and_batches_share_one_upload(
    emulator: Emulator, photo: Path, tmp_path: Path
) -> None:
    twin = tmp_path / "twin.jpeg"
    twin.write_bytes(photo.read_bytes())
    async with connect(emulator) as client:
        await asyncio.gather(*(client.edits.create(photo, f"prompt {number}") for number in range(5)))
        await client.edits.create([twin, photo.read_bytes(), io.BytesIO(photo.read_bytes())], "stars")
        await client.generations.create("stars", images=photo, mask=twin)
        await client.with_options(timeout=10).edits.create(photo, "stars")
        outcomes = await run(client, [Job(photo, "snow"), Job(twin, "rain")], tmp_path / "out")
        upload = await client.uploads.get_or_create(photo)
    assert [outcome.status for outcome in outcomes] == ["saved", "saved"]
    assert upload.filename.startswith("photo")
    assert emulator.counts["uploads"] == 1


async def test_another_picture_is_another_upload(emulator: Emulator, photo: Path) -> None:
    async with connect(emulator) as client:
        first = await client.uploads.get_or_create(photo)
        photo.write_bytes(photo.read_bytes() + b"behind the end")
        assert await client.uploads.get_or_create(photo) != first


async def test_explicit_upload_is_always_sent(emulator: Emulator, photo: Path) -> None:
    async with connect(emulator) as client:
        urls = {(await client.uploads.create(photo)).url for _ in range(3)}
    assert len(urls) == emulator.counts["uploads"] == 3


async def test_nothing_is_reused_by_a_client_that_does_not_want_it(
    emulator: Emulator, photo: Path, tmp_path: Path
) -> None:
    async with connect(emulator, reuse_uploads=False) as client:
        for number in range(2):
            await client.edits.create(photo, f"prompt {number}")
            await client.uploads.get_or_create(photo)
        await run(client, [Job(photo, "snow"), Job(photo, "rain")], tmp_path / "out")
    assert emulator.counts["uploads"] == 6


async def test_upload_without_metadata_is_not_used_where_the_metadata_is_wanted(
    emulator: Emulator, photo: Path
) -> None:
    async with connect(emulator) as client:
        keeping = client.with_options(media=Media(keep_metadata=True))
        without = await client.uploads.get_or_create(photo)
        whole = await keeping.uploads.get_or_create(photo)
    assert whole.bytes == photo.stat().st_size > without.bytes


# --- concurrent calls -----------------------------------------------------------------------------------


def answering(created_at: float = 0.0) -> Callable[[Exchange], Awaitable[None]]:
    """Return a handler that answers each upload with a URL of its own."""

    async def handle(exchange: Exchange) -> None:
        await exchange.read()
        said = {"url": f"https://files.example/{exchange.number}", "created_at": created_at or time.time()}
        await exchange.answer(json.dumps(said).encode())

    return handle


async def test_next_call_uploads_itself_when_the_first_is_cancelled(server: RawServer, photo: Path) -> None:
    arrived, answer = asyncio.Event(), answering()
    content = await to_thread.run_sync(photo.read_bytes)

    async def handle(exchange: Exchange) -> None:
        if exchange.number == 1:
            await exchange.read()
            arrived.set()
            await asyncio.Event().wait()
        await answer(exchange)

    server.handle = handle
    async with AsyncApimart(KEY, base_url=server.base_url) as client:
        first = asyncio.create_task(client.uploads.get_or_create(content))
        await arrived.wait()
        others = [asyncio.create_task(client.uploads.get_or_create(content)) for _ in range(3)]
        await asyncio.sleep(0)  # a few bytes need no thread, so now they wait for the first
        first.cancel()
        uploads = await asyncio.gather(*others)
        with pytest.raises(asyncio.CancelledError):
            await first
    assert {upload.url for upload in uploads} == {"https://files.example/2"}
    assert len(server.seen) == 2


async def test_failure_is_shared_by_concurrent_calls_but_not_with_another_key(
    server: RawServer, photo: Path
) -> None:
    arrived, go = asyncio.Event(), asyncio.Event()
    answer = answering()

    async def handle(exchange: Exchange) -> None:
        if exchange.number > 1:
            await answer(exchange)
            return
        await exchange.read()
        arrived.set()
        await go.wait()
        await exchange.answer(b'{"error":{"message":"invalid API key"}}', 401)

    server.handle = handle
    content = await to_thread.run_sync(photo.read_bytes)
    async with AsyncApimart(KEY, base_url=server.base_url) as client:
        another = client.with_options(api_key="sk-other")
        users = [client, client, client, another]
        calls = [asyncio.create_task(user.uploads.get_or_create(content)) for user in users]
        await arrived.wait()
        go.set()
        *failures, upload = await asyncio.gather(*calls, return_exceptions=True)
    assert isinstance(upload, Upload)
    assert [type(failure) for failure in failures] == [AuthenticationError] * 3
    keys = [seen.headers["authorization"] for seen in server.seen]
    assert keys == [f"Bearer {KEY}", "Bearer sk-other"]


# --- the life of a URL ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("hours", "uploads"), [(70.9, 1), (71.1, 2)])
async def test_upload_is_used_until_an_hour_before_its_end(
    server: RawServer, photo: Path, hours: float, uploads: int
) -> None:
    server.handle = answering(time.time() - hours * 3600)
    async with AsyncApimart(KEY, base_url=server.base_url) as client:
        for _ in range(2):
            await client.uploads.get_or_create(photo)
    assert len(server.seen) == uploads


async def test_upload_that_the_service_cannot_fetch_is_forgotten(emulator: Emulator, photo: Path) -> None:
    async with connect(emulator) as client:
        await client.edits.create(photo, "stars")
        emulator.advance(73 * 3600)
        with pytest.raises(BadRequestError, match="expired"):
            await client.edits.create(photo, "snow")
        await client.edits.create(photo, "snow")
    assert emulator.counts["uploads"] == 2


async def test_next_run_of_a_batch_uploads_again_what_the_service_could_not_fetch(
    emulator: Emulator, photo: Path, tmp_path: Path
) -> None:
    async with connect(emulator) as client:
        await run(client, [Job(photo, "stars")], tmp_path / "out")
    emulator.advance(73 * 3600)
    statuses = []
    for _ in range(2):
        async with connect(emulator) as client:
            (outcome,) = await run(client, [Job(photo, "snow")], tmp_path / "out", retry_failed=True)
            statuses.append(outcome.status)
    assert statuses == ["failed", "saved"]
    assert emulator.counts["uploads"] == 2


async def test_refusal_of_a_prompt_forgets_no_upload(emulator: Emulator, photo: Path) -> None:
    emulator.faults.add(Fault(kind="status", route="edits", status=400, message="model not found", times=1))
    async with connect(emulator) as client:
        with pytest.raises(BadRequestError):
            await client.edits.create(photo, "stars")
        await client.edits.create(photo, "stars")
    assert emulator.counts["uploads"] == 1


# --- bounds ---------------------------------------------------------------------------------------------


def made(url: str) -> Upload:
    now = datetime.now(UTC)
    return Upload(url, "photo.jpg", "image/jpeg", 1, now, now + timedelta(hours=72))


async def test_uploads_used_last_are_kept() -> None:
    memory, asked = UploadMemory(), []

    async def get(key: str) -> None:
        async def upload() -> Upload:
            asked.append(key)
            return made(key)

        await memory.get(key, upload, owner=None)

    for number in range(4096):
        await get(str(number))
    await get("0")
    await get("one more")
    asked.clear()
    for key in ("0", "one more", "2", "1"):
        await get(key)
    assert asked == ["1"]


# --- on disk --------------------------------------------------------------------------------------------


async def test_another_client_uses_the_uploads_in_a_folder(
    emulator: Emulator, photo: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "kept" / "uploads"
    for _ in range(2):
        async with connect(emulator, reuse_uploads=folder) as client:
            await client.edits.create(photo, "stars")
    assert emulator.counts["uploads"] == 1
    (file,) = folder.iterdir()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


async def _planted(folder: Path, plant: Callable[[Path], object], photo: Path, emulator: Emulator) -> Upload:
    """Return the upload that a client uses after somebody has changed its file in the folder."""
    async with connect(emulator, reuse_uploads=folder) as client:
        await client.uploads.get_or_create(photo)
    (file,) = folder.iterdir()
    plant(file)
    async with connect(emulator, reuse_uploads=folder) as client:
        return await client.uploads.get_or_create(photo)


def _to_strange_url(file: Path) -> str:
    found = json.loads(file.read_bytes())
    found["upload"]["url"] = "https://evil.example/other.jpg"
    return json.dumps(found)


def _linked(file: Path) -> None:
    elsewhere = file.parent.parent / "elsewhere.json"
    elsewhere.write_text(_to_strange_url(file))
    file.unlink()
    file.symlink_to(elsewhere)


def _of_another_key(file: Path) -> None:
    file.write_text(_to_strange_url(file).replace('"key": "', '"key": "x'))


def _writable_by_others(file: Path) -> None:
    file.write_text(_to_strange_url(file))
    file.chmod(0o666)


def _a_pipe(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


PLANTED: dict[str, Callable[[Path], object]] = {
    "no JSON": lambda file: file.write_bytes(b"\0\xff{"),
    "another JSON": lambda file: file.write_text("[1]"),
    "no upload": lambda file: file.write_text(json.dumps({**json.loads(file.read_bytes()), "upload": 5})),
    "the upload of another image": _of_another_key,
    "a link": _linked,
    "a pipe": _a_pipe,
    "a file that others may write": _writable_by_others,
}


@pytest.mark.parametrize("planted", PLANTED)
async def test_what_a_stranger_put_into_the_folder_is_not_used(
    emulator: Emulator, photo: Path, tmp_path: Path, planted: str
) -> None:
    folder = tmp_path / "uploads"
    upload = await _planted(folder, PLANTED[planted], photo, emulator)
    assert upload.url.startswith(emulator.base_url)
    assert emulator.counts["uploads"] == 2
    (file,) = folder.iterdir()
    assert stat.S_ISREG(file.lstat().st_mode)


@pytest.mark.may_block
@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="counts the open files of Linux")  # noqa: PTH112
async def test_folder_in_the_place_of_an_upload_leaves_no_open_file(tmp_path: Path) -> None:
    store = UploadFolder(tmp_path)
    (tmp_path / f"{sha256(b'key').hexdigest()}.json").mkdir()
    assert await store.get_upload("key") is None
    before = os.listdir("/proc/self/fd")  # noqa: PTH208 the names are enough
    for _ in range(5):
        assert await store.get_upload("key") is None
    assert len(os.listdir("/proc/self/fd")) == len(before)  # noqa: PTH208


async def test_old_uploads_are_removed_and_other_files_stay(
    emulator: Emulator, photo: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "uploads"
    folder.mkdir()
    old = folder / f"{'0' * 64}.json"
    for path in (old, folder / "notes.json"):
        path.write_text("{}")
        os.utime(path, (0, 0))
    async with connect(emulator, reuse_uploads=str(folder)) as client:
        await client.uploads.get_or_create(photo)
    assert not old.exists()
    assert (folder / "notes.json").exists()
    assert len(list(folder.iterdir())) == 2


async def test_folder_that_cannot_be_written_is_a_warning(
    emulator: Emulator, photo: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, logger="apimart_async"):
        async with connect(emulator, reuse_uploads=photo) as client:
            for _ in range(2):
                await client.edits.create(photo, "stars")
    assert emulator.counts["uploads"] == 1
    assert "not kept" in caplog.text
