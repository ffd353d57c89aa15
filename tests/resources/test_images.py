"""Result images: saved under their own names, whole or not at all."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import io
import os
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import attrs
import pytest
from PIL import Image as Pillow

from apimart_async import (
    APIConnectionError,
    AsyncApimart,
    DownloadError,
    Image,
    ImageSet,
    InvalidArgumentError,
    Limits,
    Retry,
    Task,
    TaskCancelledError,
    TaskExpiredError,
    TaskFailedError,
    TaskFailure,
    Timeout,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from apimart_async.emulator import Emulator

KEY = "sk-the-key-that-stays-home"
MIB = 1024 * 1024
HANG = 300
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


def picture(kind: str = "PNG", colour: str = "teal") -> bytes:
    buffer = io.BytesIO()
    Pillow.new("RGB", (64, 64), colour).save(buffer, kind)
    return buffer.getvalue()


@attrs.define
class Reply:
    """The answer of the file host to one request.

    Attributes:
        body: The bytes sent.
        length: The announced length; -1 for none, ``None`` for the true length.
        stalls: Whether the host stays silent afterwards instead of closing the connection.
    """

    body: bytes = b""
    status: int = 200
    length: int | None = None
    headers: dict[str, str] = attrs.field(factory=dict[str, str])
    stalls: bool = False

    def encode(self) -> bytes:
        length = len(self.body) if self.length is None else self.length
        headers = dict(self.headers) | ({} if length < 0 else {"Content-Length": str(length)})
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        return f"HTTP/1.1 {self.status} Said\r\nConnection: close\r\n{lines}\r\n".encode() + self.body


@attrs.define
class FileHost:
    """Serves the replies of each path in turn, the last one repeatedly, over real sockets."""

    replies: dict[str, list[Reply]] = attrs.field(factory=dict[str, list[Reply]])
    requests: list[str] = attrs.field(factory=list[str])
    stalled: anyio.Event = attrs.field(factory=anyio.Event)
    open_connections: int = 0
    idle: anyio.Event = attrs.field(factory=anyio.Event)
    url: str = ""

    def put(self, path: str, *replies: Reply | bytes) -> str:
        self.replies[path] = [Reply(reply) if isinstance(reply, bytes) else reply for reply in replies]
        return self.url + path

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open_connections += 1
        self.idle = anyio.Event()
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            self.requests.append(head)
            waiting = self.replies[head.split(" ")[1].partition("?")[0]]
            reply = waiting[0] if len(waiting) == 1 else waiting.pop(0)
            writer.write(reply.encode())
            await writer.drain()
            if reply.stalls:
                self.stalled.set()
                await reader.read()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self.open_connections -= 1
            if not self.open_connections:
                self.idle.set()
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()


@pytest.fixture
async def host() -> AsyncIterator[FileHost]:
    serving = FileHost()
    listener = await asyncio.start_server(serving.serve, "127.0.0.1", 0)
    serving.url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    yield serving
    listener.close()
    with anyio.move_on_after(HANG):
        if serving.open_connections:
            await serving.idle.wait()
    assert not serving.open_connections, "a download left its connection open"


def client_for(host: FileHost, **options: Any) -> AsyncApimart:
    defaults: dict[str, Any] = {
        "retry": Retry(initial_delay=0.001, max_delay=0.002),
        "timeout": Timeout(read=HANG),
    }
    return AsyncApimart(KEY, base_url=host.url, **(defaults | options))


@pytest.fixture
async def client(host: FileHost) -> AsyncIterator[AsyncApimart]:
    async with client_for(host) as opened:
        yield opened


def task_of(*urls: str, task_id: str = "task_01", expires_at: datetime | None = None) -> Task:
    images = tuple(Image(url, expires_at=expires_at, task_id=task_id) for url in urls)
    return Task(task_id, "completed", images=images)


def names(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


# --- save -------------------------------------------------------------------------------------------------


async def test_images_of_a_task_get_the_extension_of_their_content(
    host: FileHost, client: AsyncApimart, tmp_path: Path
) -> None:
    kinds = {"PNG": "png", "JPEG": "jpg", "WEBP": "webp", "GIF": "gif", "AVIF": "avif"}
    contents = [picture(kind) for kind in kinds]
    urls = [host.put(f"/image_{number}.bin", content) for number, content in enumerate(contents)]
    paths = await client.images.save(task_of(*urls), tmp_path / "a" / "b")
    assert [path.name for path in paths] == [f"task_01-{n}.{end}" for n, end in enumerate(kinds.values(), 1)]
    assert [path.read_bytes() for path in paths] == contents
    assert names(tmp_path / "a" / "b") == {path.name for path in paths}


async def test_results_of_the_emulator_can_be_saved(emulator: Emulator, tmp_path: Path) -> None:
    from apimart_async import Poll

    poll = Poll(first=0.05, shortest=0.05, longest=0.5)
    async with AsyncApimart(emulator.api_key, base_url=emulator.base_url, poll=poll) as client:
        task = await client.edits.run(picture(), "a sketch", n=2)
        paths = await client.images.save(task, tmp_path)
    assert len(paths) == 2
    for path in paths:
        with Pillow.open(path) as image:
            image.load()


async def test_key_is_not_sent_to_a_file_host_nor_through_a_redirect(host: FileHost, tmp_path: Path) -> None:
    host.put("/final.png", picture())
    url = host.put("/first", Reply(status=302, headers={"Location": "/final.png"}))
    headers = {"X-Account": KEY}
    async with client_for(host, default_headers=headers) as client:
        await client.images.save(task_of(url), tmp_path)
        await client.images.read(url)
        async with client.images.stream(url) as chunks:
            assert b"".join([chunk async for chunk in chunks]) == picture()
    assert len(host.requests) == 6
    for request in host.requests:
        assert KEY not in request
        assert "authorization" not in request.lower()


async def test_large_image_is_saved_whole(host: FileHost, client: AsyncApimart, tmp_path: Path) -> None:
    content = picture() + os.urandom(7 * MIB)
    (path,) = await client.images.save(task_of(host.put("/a", content)), tmp_path)
    assert path.read_bytes() == content


async def test_data_urls_are_saved(client: AsyncApimart, tmp_path: Path) -> None:
    urls = [f"data:image/png;base64,{base64.b64encode(picture(kind)).decode()}" for kind in ("PNG", "JPEG")]
    paths = await client.images.save(task_of(*urls), tmp_path)
    assert [path.name for path in paths] == ["task_01-1.png", "task_01-2.jpg"]
    assert paths[1].read_bytes() == picture("JPEG")


async def test_saving_again_sends_no_request(host: FileHost, client: AsyncApimart, tmp_path: Path) -> None:
    task = task_of(host.put("/a", picture()), host.put("/b", picture("JPEG")))
    first = await client.images.save(task, tmp_path)
    first[1].write_bytes(picture("JPEG")[:-30])
    again = await client.images.save(task, tmp_path)
    assert again == [first[0], tmp_path / "task_01-2-2.jpg"], (
        "the second file was cut short and is not overwritten"
    )
    assert len(host.requests) == 3
    assert await client.images.save(task, tmp_path) == again
    assert len(host.requests) == 4


async def test_existing_image_is_found_although_its_url_has_another_extension(
    host: FileHost, client: AsyncApimart, tmp_path: Path
) -> None:
    task = task_of(host.put("/a.png", picture("WEBP")) + "?sign=1")
    first = await client.images.save(task, tmp_path)
    assert first == [tmp_path / "task_01-1.webp"]
    assert await client.images.save(task, tmp_path) == first
    assert len(host.requests) == 1


async def test_ambiguous_name_does_not_prevent_a_download(
    host: FileHost, client: AsyncApimart, tmp_path: Path
) -> None:
    one, other = (
        task_of(host.put("/a", picture())),
        task_of(host.put("/b", picture(colour="red")), task_id="x"),
    )
    for _ in range(2):
        assert await client.images.save(one, tmp_path, name="sky") == [tmp_path / "sky.png"]
        assert await client.images.save(other, tmp_path, name="sky") == [tmp_path / "sky-2.png"]
    assert (tmp_path / "sky.png").read_bytes() == picture()
    assert (tmp_path / "sky-2.png").read_bytes() == picture(colour="red")


async def test_position_in_a_list_does_not_prevent_a_download(
    host: FileHost, client: AsyncApimart, tmp_path: Path
) -> None:
    task = task_of(host.put("/a", picture()), host.put("/b", picture(colour="red")))
    await client.images.save(task, tmp_path)
    (path,) = await client.images.save(task.images[1:], tmp_path)
    assert path.read_bytes() == picture(colour="red")
    assert path == tmp_path / "task_01-1-2.png"


async def test_one_image_and_lists_of_images_are_saved(
    host: FileHost, client: AsyncApimart, tmp_path: Path
) -> None:
    urls = [host.put(f"/{number}", picture(colour=f"#00{number:02}00")) for number in range(40)]
    assert await client.images.save(Image(urls[0]), tmp_path) == [tmp_path / "image-1.png"]
    assert await client.images.save([], tmp_path) == []
    paths = await client.images.save([Image(url) for url in urls], tmp_path / "all", name="{index:02}")
    assert [path.name for path in paths] == [f"{number:02}.png" for number in range(1, 41)]
    assert paths[-1].read_bytes() == picture(colour="#003900")


async def test_image_set_is_named_after_its_creation(
    host: FileHost, client: AsyncApimart, tmp_path: Path
) -> None:
    images = (Image(host.put("/a", picture())), Image(host.put("/b", picture())))
    paths = await client.images.save(ImageSet(datetime.fromtimestamp(1713833628, UTC), images), tmp_path)
    assert [path.name for path in paths] == ["1713833628-1.png", "1713833628-2.png"]


@pytest.mark.parametrize("task_id", ["../../evil", "/tmp/evil", "..", "a\0b", "a\\..\\b", "\r\n", "x" * 5000])
async def test_hostile_task_id_cannot_leave_the_directory(
    host: FileHost, client: AsyncApimart, tmp_path: Path, task_id: str
) -> None:
    directory = tmp_path / "deep" / "er"
    (path,) = await client.images.save(task_of(host.put("/a", picture()), task_id=task_id), directory)
    assert path.parent == directory
    assert names(directory) == {path.name}
    assert names(tmp_path) == {"deep"}
    assert await client.images.save(task_of(host.put("/a", picture()), task_id=task_id), directory) == [path]


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("name", ["{task_id}-{index}", "sky"])
async def test_an_image_that_was_saved_before_survives_a_power_cut_too(
    host: FileHost, client: AsyncApimart, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    synced: set[str] = set()

    def fsync(descriptor: int) -> None:
        synced.add(str(Path(f"/proc/self/fd/{descriptor}").readlink()))

    monkeypatch.setattr(os, "fsync", fsync)
    task = task_of(host.put("/a", picture()))
    (path,) = await client.images.save(task, tmp_path, name=name)
    assert not synced
    assert await client.images.save(task, tmp_path, name=name, fsync=True) == [path]
    assert synced >= {str(path), str(tmp_path)}


@pytest.mark.parametrize("directory", ["a\0b", "\ud800"])
async def test_a_directory_that_cannot_be_is_refused(
    host: FileHost, client: AsyncApimart, directory: str
) -> None:
    with pytest.raises(InvalidArgumentError, match="cannot be a path"):
        await client.images.save(task_of(host.put("/a", picture())), directory)


@pytest.mark.parametrize(
    "name", ["../{index}", "a/b", ".hidden", "{prompt}", "{task_id.__class__}", "CON", "a\0b"]
)
async def test_invalid_template_is_refused_before_any_request(
    host: FileHost, client: AsyncApimart, tmp_path: Path, name: str
) -> None:
    with pytest.raises(InvalidArgumentError):
        await client.images.save(task_of(host.put("/a", picture())), tmp_path / "out", name=name)
    assert not host.requests
    assert names(tmp_path) == set()


# --- broken and foreign bodies ----------------------------------------------------------------------------


async def test_broken_download_starts_again(host: FileHost, client: AsyncApimart, tmp_path: Path) -> None:
    content = picture() + bytes(3 * MIB)
    broken = Reply(content[: 2 * MIB], length=len(content))
    (path,) = await client.images.save(task_of(host.put("/a", broken, broken, content)), tmp_path)
    assert path.read_bytes() == content
    assert names(tmp_path) == {path.name}
    assert await client.images.read(host.put("/b", broken, content)) == content


async def test_failures_to_open_and_to_read_share_one_count_of_retries(
    host: FileHost, client: AsyncApimart, tmp_path: Path
) -> None:
    busy, broken = Reply(status=503), Reply(picture()[:50], length=100_000)
    task = task_of(host.put("/a", busy, broken, picture()))
    assert await client.images.save(task, tmp_path)
    assert len(host.requests) == 1 + 2
    with pytest.raises(DownloadError):
        await client.images.read(host.put("/b", busy, broken, busy, picture()))
    assert len(host.requests) == 2 * (1 + 2)
    async with client.images.stream(host.put("/c", busy, picture())) as chunks:
        assert b"".join([chunk async for chunk in chunks]) == picture()


async def test_download_that_always_breaks_is_an_error_and_leaves_no_file(
    host: FileHost, client: AsyncApimart, tmp_path: Path
) -> None:
    url = host.put("/a", Reply(picture()[:50], length=100_000))
    with pytest.raises(DownloadError) as caught:
        await client.images.save(task_of(url), tmp_path)
    assert isinstance(caught.value.__cause__, APIConnectionError)
    assert (caught.value.task_id, caught.value.url) == ("task_01", url)
    assert len(host.requests) == 1 + 2
    assert names(tmp_path) == set()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF"])
async def test_image_that_is_cut_short_by_its_length_too_is_not_whole(
    host: FileHost, client: AsyncApimart, tmp_path: Path, kind: str
) -> None:
    whole, short = picture(kind), picture(kind)[:-20]
    (path,) = await client.images.save(task_of(host.put("/a", short, whole)), tmp_path)
    assert path.read_bytes() == whole
    with pytest.raises(DownloadError, match="cut short"):
        await client.images.read(host.put("/b", short))
    async with client.images.stream(host.put("/c", short)) as chunks:
        with pytest.raises(DownloadError, match="cut short"):
            _ = [chunk async for chunk in chunks]
    host.requests.clear()
    inside = f"data:image/png;base64,{base64.b64encode(short).decode()}"
    with pytest.raises(DownloadError, match="cut short"):
        await client.images.save(task_of(inside), tmp_path / "inside")
    assert names(tmp_path / "inside") == set()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF"])
async def test_bytes_behind_the_end_of_a_chunked_image_belong_to_it(
    host: FileHost, client: AsyncApimart, kind: str
) -> None:
    content = picture(kind) + bytes(10_000)
    body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(content), content)
    url = host.put("/a", Reply(body, length=-1, headers={"Transfer-Encoding": "chunked"}))
    assert await client.images.read(url) == content


async def test_image_that_the_emulator_cuts_short_is_fetched_again(
    emulator: Emulator, tmp_path: Path
) -> None:
    from apimart_async import Poll
    from apimart_async.emulator import Fault

    emulator.faults.add(Fault(kind="cut-image", times=1))
    poll = Poll(first=0.05, shortest=0.05, longest=0.5)
    async with AsyncApimart(emulator.api_key, base_url=emulator.base_url, poll=poll) as client:
        task = await client.edits.run(picture(), "stars")
        (path,) = await client.images.save(task, tmp_path)
    assert [happened for _, happened in emulator.faults.happened] == [1]
    with Pillow.open(path) as saved:
        saved.load()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF"])
async def test_file_that_was_saved_cut_short_is_not_taken_for_the_image(
    host: FileHost, client: AsyncApimart, tmp_path: Path, kind: str
) -> None:
    whole, task = picture(kind), task_of(host.put("/a", picture(kind)))
    (path,) = await client.images.save(task, tmp_path)
    path.write_bytes(whole[:-20])
    (again,) = await client.images.save(task, tmp_path)
    assert (again.read_bytes(), path.read_bytes()) == (whole, whole[:-20])
    assert again != path


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF"])
async def test_file_that_was_saved_with_bytes_behind_its_end_is_found(
    host: FileHost, client: AsyncApimart, tmp_path: Path, kind: str
) -> None:
    task = task_of(host.put("/a", picture(kind) + bytes(10_000)))
    paths = await client.images.save(task, tmp_path)
    host.requests.clear()
    assert await client.images.save(task, tmp_path) == paths
    assert not host.requests


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF"])
async def test_body_of_unknown_length_is_checked_by_its_end(
    host: FileHost, client: AsyncApimart, kind: str
) -> None:
    whole = Reply(picture(kind), length=-1)
    short = Reply(picture(kind)[:-20], length=-1)
    assert await client.images.read(host.put("/a", short, whole)) == picture(kind)
    with pytest.raises(DownloadError, match="cut short"):
        await client.images.read(host.put("/b", short))


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"<!DOCTYPE html><title>Sign in", "an HTML page"),
        (b'{"error":{"message":"not found"}}', "JSON"),
        (b"<?xml version='1.0'?><Error>", "XML"),
        (b"x", "text"),
        (bytes(100), "not an image"),
    ],
)
async def test_other_content_is_not_saved(
    host: FileHost, client: AsyncApimart, tmp_path: Path, body: bytes, kind: str
) -> None:
    url = host.put("/a", Reply(body, headers={"Content-Type": "image/png"}))
    with pytest.raises(DownloadError, match=kind):
        await client.images.save(task_of(url), tmp_path)
    with pytest.raises(DownloadError, match=kind):
        await client.images.read(url)
    async with client.images.stream(url) as chunks:
        with pytest.raises(DownloadError, match=kind):
            await anext(chunks)
    assert len(host.requests) == 3, "another attempt would change nothing"
    assert names(tmp_path) == set()


@pytest.mark.parametrize("length", [None, -1])
async def test_body_above_the_limit_is_refused(host: FileHost, tmp_path: Path, length: int | None) -> None:
    url = host.put("/a", Reply(picture() + bytes(200_000), length=length))
    inside = "data:image/png;base64," + base64.b64encode(picture() + bytes(200_000)).decode()
    async with client_for(host, limits=Limits(download_bytes=100_000)) as client:
        for address in (url, inside):
            with pytest.raises(DownloadError, match="100000 bytes"):
                await client.images.save(task_of(address), tmp_path)
            with pytest.raises(DownloadError, match="100000 bytes"):
                await client.images.read(address)
    assert names(tmp_path) == set()


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "ftp://host/a.png", "/etc/passwd", "data:nothing", "javascript:1"]
)
async def test_other_schemes_are_refused(client: AsyncApimart, tmp_path: Path, url: str) -> None:
    with pytest.raises(DownloadError):
        await client.images.save(task_of(url), tmp_path)
    with pytest.raises(DownloadError):
        await client.images.read(url)


# --- errors -----------------------------------------------------------------------------------------------


async def test_error_names_failed_images_and_the_others_are_saved(
    host: FileHost, client: AsyncApimart, tmp_path: Path
) -> None:
    good, bad = host.put("/good", picture()), host.put("/bad", Reply(b"gone", status=404))
    with pytest.raises(DownloadError, match=r"2 of 4 images.*Image 2: .*Image 3: .*") as caught:
        await client.images.save(task_of(good, bad, bad, good), tmp_path)
    error = caught.value
    assert (error.task_id, error.status, error.url) == ("task_01", 404, bad)
    assert names(tmp_path) == {"task_01-1.png", "task_01-4.png"}
    assert all(str(tmp_path / name) in error.message for name in names(tmp_path))
    host.put("/bad", picture("GIF"))
    assert len(await client.images.save(task_of(good, bad, bad, good), tmp_path)) == 4


@pytest.mark.parametrize("status", [403, 404, 410])
async def test_error_says_that_the_url_expired(
    host: FileHost, client: AsyncApimart, tmp_path: Path, status: int
) -> None:
    url = host.put("/a", Reply(b"gone", status=status))
    with pytest.raises(DownloadError, match=r"expired at 2020-01-01 .*tasks\.get\('task_01'\)") as caught:
        await client.images.save(task_of(url, expires_at=LONG_AGO), tmp_path)
    assert caught.value.status == status
    later = datetime.now(UTC) + timedelta(hours=1)
    with pytest.raises(DownloadError, match="may have expired"):
        await client.images.save(task_of(url, expires_at=later), tmp_path)


async def test_image_past_its_expiry_is_still_downloaded(
    host: FileHost, client: AsyncApimart, tmp_path: Path
) -> None:
    assert await client.images.save(task_of(host.put("/a", picture()), expires_at=LONG_AGO), tmp_path)


async def test_unreachable_host_is_a_download_error(client: AsyncApimart, tmp_path: Path) -> None:
    with pytest.raises(DownloadError) as caught:
        await client.images.save(task_of("http://127.0.0.1:9/a.png"), tmp_path)
    assert isinstance(caught.value.__cause__, APIConnectionError)
    assert caught.value.task_id == "task_01"


async def test_error_of_the_file_system_names_the_task(
    host: FileHost, client: AsyncApimart, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    for name in ("{task_id}-{index}", "sky"):
        with pytest.raises(DownloadError, match="paid image is not lost") as caught:
            await client.images.save(task_of(host.put("/a", picture())), tmp_path / "file" / "x", name=name)
        assert caught.value.task_id == "task_01"


@pytest.mark.parametrize(
    ("status", "error"),
    [
        ("failed", TaskFailedError),
        ("cancelled", TaskCancelledError),
        ("expired", TaskExpiredError),
        ("processing", InvalidArgumentError),
        ("a word of tomorrow", InvalidArgumentError),
        ("completed", DownloadError),
    ],
)
async def test_error_says_why_a_task_has_no_images(
    client: AsyncApimart, tmp_path: Path, status: str, error: type[InvalidArgumentError | DownloadError]
) -> None:
    task = Task("task_01", status, error=TaskFailure("too blue") if status == "failed" else None)
    with pytest.raises(error, match="task_01") as caught:
        await client.images.save(task, tmp_path)
    assert caught.value.task_id == "task_01"
    assert ("too blue" in caught.value.message) is (status == "failed")


@pytest.mark.parametrize("result", ["task_01", ["https://x/a.png"], [None]])
async def test_other_values_than_results_are_refused(
    client: AsyncApimart, tmp_path: Path, result: Any
) -> None:
    with pytest.raises(InvalidArgumentError, match=r"tasks\.get"):
        await client.images.save(result, tmp_path)


@pytest.mark.parametrize("image", [None, 3, "", b"https://x"])
async def test_other_values_than_images_are_refused(client: AsyncApimart, image: Any) -> None:
    with pytest.raises(InvalidArgumentError):
        await client.images.read(image)
    with pytest.raises(InvalidArgumentError):
        client.images.stream(image)


# --- cancellation -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("sent", [100, 2 * MIB])
async def test_cancellation_leaves_whole_images_only(
    host: FileHost, client: AsyncApimart, tmp_path: Path, sent: int
) -> None:
    content = picture() + bytes(3 * MIB)
    silent = host.put("/silent", Reply(content[:sent], length=len(content), stalls=True))
    good = host.put("/good", picture())
    with anyio.fail_after(HANG):
        async with anyio.create_task_group() as group:
            group.start_soon(client.images.save, task_of(good, silent), tmp_path)
            await host.stalled.wait()
            while "task_01-1.png" not in names(tmp_path):  # noqa: ASYNC110 a directory tells nobody
                await anyio.sleep(0.01)
            group.cancel_scope.cancel()
    assert names(tmp_path) == {"task_01-1.png"}


async def test_concurrent_saves_of_one_task_make_one_file_per_image(
    host: FileHost, client: AsyncApimart, tmp_path: Path
) -> None:
    task = task_of(host.put("/a", picture()), host.put("/b", picture("JPEG")))
    async with anyio.create_task_group() as group:
        for _ in range(10):
            group.start_soon(client.images.save, task, tmp_path)
    assert names(tmp_path) == {"task_01-1.png", "task_01-2.jpg"}


# --- read and stream --------------------------------------------------------------------------------------


async def test_image_and_url_can_be_read(host: FileHost, client: AsyncApimart) -> None:
    url = host.put("/a.png", picture())
    assert await client.images.read(url) == picture()
    assert await client.images.read(Image(url)) == picture()
    assert await client.images.read(f"data:,{''.join(f'%{byte:02x}' for byte in picture())}") == picture()


async def test_stream_yields_chunks_and_checks_the_end(host: FileHost, client: AsyncApimart) -> None:
    content = picture() + os.urandom(2 * MIB)
    async with client.images.stream(host.put("/a", content)) as chunks:
        assert b"".join([chunk async for chunk in chunks]) == content
    broken = host.put("/b", Reply(content[:MIB], length=len(content)))
    received: list[bytes] = []

    async def receive(chunks: AsyncIterator[bytes]) -> None:
        async for chunk in chunks:
            received.append(chunk)  # noqa: PERF401 what came before the error counts

    async with client.images.stream(Image(broken, task_id="task_01")) as chunks:
        with pytest.raises(DownloadError) as caught:
            await receive(chunks)
    assert caught.value.task_id == "task_01"
    assert b"".join(received) == content[:MIB]


async def test_leaving_a_stream_early_closes_its_connection(host: FileHost, client: AsyncApimart) -> None:
    silent = host.put("/a", Reply(picture() + bytes(1000), length=10 * MIB, stalls=True))
    async with client.images.stream(silent) as chunks:
        assert (await anext(chunks)).startswith(picture())
        assert host.open_connections == 1
    with anyio.fail_after(HANG):
        await host.idle.wait()


async def test_a_cancelled_stream_does_not_end_as_if_the_image_were_whole(
    host: FileHost, client: AsyncApimart
) -> None:
    silent = host.put("/a", Reply(picture() + bytes(1000), length=10 * MIB, stalls=True))
    async with client.images.stream(silent) as chunks:
        await anext(chunks)
        with anyio.move_on_after(0.05) as scope:
            await anext(chunks)
        assert scope.cancelled_caught
        with pytest.raises(DownloadError, match="connection was closed") as caught:
            await anext(chunks)
    cause: BaseException = caught.value
    while found := cause.__cause__ or cause.__context__:
        cause = found
    assert cause.__traceback__ is None  # aiohttp keeps this object, and a traceback keeps the download


async def test_error_of_the_caller_inside_a_stream_is_unchanged(host: FileHost, client: AsyncApimart) -> None:
    mine = APIConnectionError("something else broke")

    async def use() -> None:
        async with client.images.stream(host.put("/a", picture())) as chunks:
            await anext(chunks)
            raise mine

    with pytest.raises(APIConnectionError) as caught:
        await use()
    assert caught.value is mine


async def test_unavailable_stream_fails_on_entering(host: FileHost, client: AsyncApimart) -> None:
    with pytest.raises(DownloadError, match="may have expired"):
        await client.images.stream(host.put("/a", Reply(status=404))).__aenter__()
