"""Large bodies taken straight from the socket: whole, in order, and with the connection as it was."""

from __future__ import annotations

import asyncio
import gc
import ssl
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
import trustme

from apimart_async import (
    APIConnectionError,
    AsyncApimart,
    DownloadError,
    Image,
    Limits,
    Timeout,
)
from apimart_async.transport.session.direct import IS_KNOWN
from apimart_async.transport.session.downloads import Download
from apimart_async.transport.session.receiver import Receiver
from apimart_async.transport.session.response import Response

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from .conftest import Exchange, RawServer

straight = pytest.mark.skipif(not IS_KNOWN, reason="with this aiohttp all goes through its sessions")
named = pytest.mark.parametrize("is_named", [False, True], ids=["named late", "named before"])
KEY = "sk-test"
LARGE = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 12_000 + b"\0\0\0\0IEND\xaeB`\x82"
SMALL = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 300 + b"\0\0\0\0IEND\xaeB`\x82"
MANY = Limits(connections=60, downloads=60, requests=60, adaptive=False)
MEDIUM = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 1_500 + b"\0\0\0\0IEND\xaeB`\x82"
OTHER_TASK = b'{"code":200,"data":{"id":"other","status":"processing"}}'
TASK = b'{"code":200,"data":{"id":"task_1","status":"processing"}}'


@pytest.fixture
async def secure_server(raw_server: RawServer) -> AsyncIterator[tuple[str, ssl.SSLContext]]:
    """The same server behind TLS, and what trusts it."""
    authority = trustme.CA()
    served, trusting = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), ssl.create_default_context()
    authority.issue_cert("127.0.0.1").configure_cert(served)
    authority.configure_trust(trusting)
    tasks: set[asyncio.Task[None]] = set()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.get_running_loop().create_task(raw_server.serve(reader, writer)))

    listener = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=served)
    yield f"https://127.0.0.1:{listener.sockets[0].getsockname()[1]}", trusting
    listener.close()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def one_by_one(_: bytes | memoryview) -> bool:
    """Take a piece, and no more for now."""
    return False


async def serve_all(exchange: Exchange) -> None:
    seen = await exchange.read()
    await exchange.answer(TASK if "tasks" in seen.path else LARGE)


async def test_it_arrives_whole_and_the_connection_is_used_again(
    raw_server: RawServer, tmp_path: Path
) -> None:
    raw_server.handle = serve_all
    async with AsyncApimart(KEY, base_url=raw_server.base_url) as client:
        for number in range(12):  # first in threads, then on the loop
            image = Image(f"{raw_server.base_url}/{number}.png", task_id=f"task_{number}")
            (path,) = await client.images.save(image, tmp_path)
            assert path.read_bytes() == LARGE
            assert (await client.tasks.get("task_1")).status == "processing"
        assert await client.images.read(f"{raw_server.base_url}/a.png") == LARGE
        async with client.images.stream(f"{raw_server.base_url}/a.png") as pieces:
            assert b"".join([piece async for piece in pieces]) == LARGE
    assert raw_server.connections == 1


async def test_it_arrives_whole_through_tls(
    raw_server: RawServer, secure_server: tuple[str, ssl.SSLContext], tmp_path: Path
) -> None:
    raw_server.handle = serve_all
    base_url, trusting = secure_server
    async with AsyncApimart(KEY, base_url=base_url, ssl=trusting) as client:
        for number in range(12):
            image = Image(f"{base_url}/{number}.png", task_id=f"task_{number}")
            (path,) = await client.images.save(image, tmp_path)
            assert path.read_bytes() == LARGE
            assert (await client.tasks.get("task_1")).status == "processing"
    assert raw_server.connections == 1


async def test_many_at_once_share_one_buffer_and_mix_nothing(raw_server: RawServer, tmp_path: Path) -> None:
    def content(number: int) -> bytes:
        return LARGE[:8] + bytes([number]) * 2_000_000 + LARGE[-12:]

    async def handle(exchange: Exchange) -> None:
        seen = await exchange.read()
        await exchange.answer(content(int(seen.path[1:])))

    raw_server.handle = handle
    limits = Limits(connections=20, downloads=20)
    async with AsyncApimart(KEY, base_url=raw_server.base_url, limits=limits) as client:

        async def save(number: int) -> None:
            image = Image(f"{raw_server.base_url}/{number}", task_id=f"task_{number}")
            (path,) = await client.images.save(image, tmp_path)
            assert path.read_bytes() == content(number)

        await asyncio.gather(*map(save, range(40)))


@pytest.mark.parametrize("sent", [1, 8, 31, 32, 100, 300_000, len(LARGE) - 1])
@pytest.mark.parametrize("how", ["hung up", "reset"])
async def test_one_that_breaks_off_is_fetched_anew(
    raw_server: RawServer, tmp_path: Path, sent: int, how: str
) -> None:
    async def handle(exchange: Exchange) -> None:
        await exchange.read()
        if exchange.number > 1:
            await exchange.answer(LARGE)
            return
        await exchange.answer(LARGE[:sent], length=len(LARGE))
        if how == "reset":
            exchange.drop()
        else:
            exchange.writer.close()

    raw_server.handle = handle
    async with AsyncApimart(KEY, base_url=raw_server.base_url) as client:
        image = Image(f"{raw_server.base_url}/a.png", task_id="task_1")
        (path,) = await client.images.save(image, tmp_path)
        assert path.read_bytes() == LARGE
        assert [each.name for each in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("pieces", [(1,) * 40, (8, 24, 1000), (31, 1, 1), (200_000,) * 10])
async def test_it_may_come_in_any_pieces(
    raw_server: RawServer, tmp_path: Path, pieces: tuple[int, ...]
) -> None:
    async def handle(exchange: Exchange) -> None:
        await exchange.read()
        await exchange.answer(b"", length=len(LARGE))
        offset = 0
        for size in pieces:
            await asyncio.sleep(0.002)
            exchange.writer.write(LARGE[offset : offset + size])
            await exchange.writer.drain()
            offset += size
        exchange.writer.write(LARGE[offset:])
        await exchange.writer.drain()

    raw_server.handle = handle
    async with AsyncApimart(KEY, base_url=raw_server.base_url) as client:
        (path,) = await client.images.save(Image(f"{raw_server.base_url}/a.png", task_id="t"), tmp_path)
        assert path.read_bytes() == LARGE


@straight
@pytest.mark.parametrize("content", ["small", "large"])
async def test_what_follows_it_unasked_ends_the_connection(
    raw_server: RawServer, tmp_path: Path, content: str
) -> None:
    body = LARGE if content == "large" else SMALL

    async def handle(exchange: Exchange) -> None:
        seen = await exchange.read()
        if "tasks" in seen.path:
            await exchange.answer(TASK)
            return
        other = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(OTHER_TASK), OTHER_TASK)
        await exchange.answer(body + other, length=len(body))

    raw_server.handle = handle
    async with AsyncApimart(KEY, base_url=raw_server.base_url) as client:
        for number in range(20):  # in threads at first, then on the loop, with no time between
            image = Image(f"{raw_server.base_url}/a.png", task_id=f"t{number}")
            (path,) = await client.images.save(image, tmp_path)
            task = await client.tasks.get("task_1")
            assert (task.id, task.status) == ("task_1", "processing")
            assert path.read_bytes() == body


async def test_silence_in_the_middle_ends_at_the_limit(raw_server: RawServer, tmp_path: Path) -> None:
    async def handle(exchange: Exchange) -> None:
        await exchange.read()
        await exchange.answer(LARGE[:600_000], length=len(LARGE))
        await asyncio.sleep(60)

    raw_server.handle = handle
    timeout = Timeout(read=0.3)
    async with AsyncApimart(KEY, base_url=raw_server.base_url, timeout=timeout, max_retries=0) as client:
        with pytest.raises(DownloadError, match=r"Timeout\.read"):
            await client.images.save(Image(f"{raw_server.base_url}/a.png", task_id="t"), tmp_path)
    assert not list(tmp_path.iterdir())


async def test_a_slow_body_that_moves_is_not_silent(raw_server: RawServer, tmp_path: Path) -> None:
    async def handle(exchange: Exchange) -> None:
        await exchange.read()
        await exchange.answer(LARGE[:600_000], length=len(LARGE))
        for offset in range(600_000, len(LARGE), 300_000):
            await asyncio.sleep(0.15)
            exchange.writer.write(LARGE[offset : offset + 300_000])
            await exchange.writer.drain()

    raw_server.handle = handle
    timeout = Timeout(read=0.6)
    async with AsyncApimart(KEY, base_url=raw_server.base_url, timeout=timeout, max_retries=0) as client:
        (path,) = await client.images.save(Image(f"{raw_server.base_url}/a.png", task_id="t"), tmp_path)
        assert path.read_bytes() == LARGE


async def test_cancelling_it_closes_the_connection_and_leaves_no_file(
    raw_server: RawServer, tmp_path: Path
) -> None:
    under_way, ended = asyncio.Event(), asyncio.Event()

    async def handle(exchange: Exchange) -> None:
        await exchange.read()
        await exchange.answer(LARGE[:600_000], length=len(LARGE))
        under_way.set()
        await exchange.reader.read()
        ended.set()

    raw_server.handle = handle
    async with AsyncApimart(KEY, base_url=raw_server.base_url) as client:
        image = Image(f"{raw_server.base_url}/a.png", task_id="t")
        save = asyncio.create_task(client.images.save(image, tmp_path))
        await under_way.wait()
        await asyncio.sleep(0.05)
        save.cancel()
        with pytest.raises(asyncio.CancelledError):
            await save
        async with asyncio.timeout(10):
            await ended.wait()
    assert not list(tmp_path.iterdir())


@named
async def test_who_has_no_room_is_not_pushed(raw_server: RawServer, is_named: bool) -> None:  # noqa: FBT001
    raw_server.handle = serve_all
    taken: list[bytes] = []

    def take_one(piece: bytes | memoryview) -> bool:
        taken.append(bytes(piece))
        return False

    async with AsyncApimart(KEY, base_url=raw_server.base_url) as client:
        url = f"{raw_server.base_url}/a.png"
        download = await client._session.download(url, Timeout(), take_one if is_named else None)
        calls = 1
        while not await download.pour(take_one):
            assert len(taken) == calls
            await asyncio.sleep(0.01)  # more than enough for the next piece to come, if it were let
            assert len(taken) == calls
            calls += 1
        assert b"".join(taken) == LARGE
        assert calls > 2
        download.close()


@straight
async def test_what_the_taker_raises_comes_out(raw_server: RawServer) -> None:
    raw_server.handle = serve_all

    def take(piece: bytes | memoryview) -> bool:
        if isinstance(piece, memoryview):
            raise LookupError("no")  # noqa: TRY004 any other error than those that are looked for
        return True

    async with AsyncApimart(KEY, base_url=raw_server.base_url) as client:
        download = await client._session.download(f"{raw_server.base_url}/a.png", Timeout(), take)
        with pytest.raises(LookupError):
            await download.pour(take)
        download.close()
        assert (await client.tasks.get("task_1")).status == "processing"
    assert raw_server.connections == 2


@named
async def test_a_connection_that_goes_between_two_calls_is_an_error(
    raw_server: RawServer,
    is_named: bool,  # noqa: FBT001
) -> None:
    async def handle(exchange: Exchange) -> None:
        await exchange.read()
        await exchange.answer(LARGE[:600_000], length=len(LARGE))
        exchange.drop()

    raw_server.handle = handle
    async with AsyncApimart(KEY, base_url=raw_server.base_url) as client:
        url = f"{raw_server.base_url}/a.png"
        download = await client._session.download(url, Timeout(), one_by_one if is_named else None)

        async def go_on() -> None:
            for _ in range(1000):
                assert not await download.pour(one_by_one)
                await asyncio.sleep(0.01)

        with pytest.raises(APIConnectionError):
            await go_on()
        download.close()


# --- what comes with the head, or before anybody waits for it ---------------------------------------------


@pytest.mark.parametrize("cut", [1, 12, 40, -4, -2, -1, 0, 1000])
async def test_a_head_may_be_cut_anywhere(raw_server: RawServer, tmp_path: Path, cut: int) -> None:
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(SMALL)}\r\nContent-Type: image/png\r\n\r\n".encode()
    place = cut if cut > 0 else len(head) + cut
    whole = head + SMALL

    async def handle(exchange: Exchange) -> None:
        seen = await exchange.read()
        if "tasks" in seen.path:
            await exchange.answer(TASK)
            return
        exchange.writer.write(whole[:place])
        await exchange.writer.drain()
        await asyncio.sleep(0.02)
        exchange.writer.write(whole[place:])
        await exchange.writer.drain()

    raw_server.handle = handle
    async with AsyncApimart(KEY, base_url=raw_server.base_url) as client:
        for number in range(3):
            image = Image(f"{raw_server.base_url}/{number}.png", task_id=f"task_{number}")
            (path,) = await client.images.save(image, tmp_path)
            assert path.read_bytes() == SMALL
            assert (await client.tasks.get("task_1")).status == "processing"
    assert raw_server.connections == 1


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", id="chunked"),
        pytest.param(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", id="until the end"),
        pytest.param(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\n", id="interim"),
    ],
)
async def test_an_answer_of_another_form_comes_whole_too(
    raw_server: RawServer, tmp_path: Path, lines: bytes
) -> None:
    async def handle(exchange: Exchange) -> None:
        await exchange.read()
        if b"chunked" in lines:
            chunks = [LARGE[place : place + 70_000] for place in range(0, len(LARGE), 70_000)]
            body = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"
        elif b"103" in lines:
            body = b"Content-Length: %d\r\n\r\n" % len(LARGE) + LARGE
        else:
            body = LARGE
        exchange.writer.write(lines + body)
        await exchange.writer.drain()
        if b"close" in lines:
            exchange.writer.close()

    raw_server.handle = handle
    async with AsyncApimart(KEY, base_url=raw_server.base_url) as client:
        image = Image(f"{raw_server.base_url}/a.png", task_id="task_1")
        (path,) = await client.images.save(image, tmp_path)
        assert path.read_bytes() == LARGE
        assert await client.images.read(image) == LARGE
        async with client.images.stream(image) as pieces:
            assert b"".join([piece async for piece in pieces]) == LARGE


@pytest.mark.parametrize("content", [SMALL, MEDIUM, LARGE], ids=["small", "medium", "large"])
@pytest.mark.parametrize("is_last", [True, False], ids=["hung up", "kept"])
@named
async def test_what_came_is_not_lost_on_who_is_late(
    raw_server: RawServer,
    content: bytes,
    is_last: bool,  # noqa: FBT001
    is_named: bool,  # noqa: FBT001
) -> None:
    async def handle(exchange: Exchange) -> None:
        seen = await exchange.read()
        if "tasks" in seen.path:
            await exchange.answer(TASK)
            return
        await exchange.answer(content, headers={"Connection": "close"} if is_last else {})
        if is_last:
            exchange.writer.close()

    raw_server.handle = handle
    async with AsyncApimart(KEY, base_url=raw_server.base_url, limits=MANY) as client:

        async def get(start: asyncio.Event) -> None:
            taken: list[bytes] = []

            def take(piece: bytes | memoryview) -> bool:
                taken.append(bytes(piece))
                return True

            url = f"{raw_server.base_url}/a.png"
            download = await client._session.download(url, Timeout(), take if is_named else None)
            await start.wait()
            assert await download.pour(take)
            assert b"".join(taken) == content
            download.close()

        start = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            for _ in range(40):
                group.create_task(get(start))
            await asyncio.sleep(0.1)
            start.set()
        async with asyncio.timeout(10):
            await asyncio.gather(*(client.tasks.get("task_1") for _ in range(40)))
    if not is_last and IS_KNOWN:
        assert raw_server.connections <= 40


@straight
@pytest.mark.parametrize(("size", "connections"), [("small", 1), ("large", 81)])
@named
async def test_one_that_is_not_taken_costs_its_connection_at_most(
    raw_server: RawServer,
    tmp_path: Path,
    size: str,
    connections: int,
    is_named: bool,  # noqa: FBT001
) -> None:
    async def handle(exchange: Exchange) -> None:
        seen = await exchange.read()
        await exchange.answer(LARGE if "large" in seen.path else SMALL)

    raw_server.handle = handle
    async with AsyncApimart(KEY, base_url=raw_server.base_url, limits=Limits(connections=60)) as client:
        for _ in range(2):
            url, take = f"{raw_server.base_url}/{size}.png", one_by_one if is_named else None
            downloads = [await client._session.download(url, Timeout(), take) for _ in range(40)]
            for download in downloads:
                download.close()
        (path,) = await client.images.save(Image(f"{raw_server.base_url}/a.png", task_id="t"), tmp_path)
        assert path.read_bytes() == SMALL
    assert raw_server.connections == connections


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(b"HTTP/1.1 200 OK\nContent-Length: %d\n\n", id="bare line feeds"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: %d\n\r\n", id="one bare line feed"),
        pytest.param(b"\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", id="empty lines before it"),
        pytest.param(b"HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n", id="HTTP/1.0"),
    ],
)
async def test_a_head_of_any_form_that_aiohttp_reads_is_read(
    raw_server: RawServer, tmp_path: Path, head: bytes
) -> None:
    body = SMALL[:40] + b"\r\n\r\n" + SMALL[40:]

    async def handle(exchange: Exchange) -> None:
        await exchange.read()
        exchange.writer.write(head % len(body) + body)
        await exchange.writer.drain()

    raw_server.handle = handle
    timeout = Timeout(read=1)
    async with AsyncApimart(KEY, base_url=raw_server.base_url, timeout=timeout, max_retries=0) as client:
        async with aiohttp.ClientSession() as session:
            try:
                async with session.get(f"{raw_server.base_url}/a.png") as response:
                    is_read_by_aiohttp = await response.read() == body
            except aiohttp.ClientError:
                is_read_by_aiohttp = False
        image = Image(f"{raw_server.base_url}/a.png", task_id="task_1")
        if is_read_by_aiohttp:
            (path,) = await client.images.save(image, tmp_path)
            assert path.read_bytes() == body
        else:
            with pytest.raises(DownloadError, match="connection"):
                await client.images.save(image, tmp_path)


@straight
@pytest.mark.parametrize("status", [302, 404])
async def test_an_answer_that_is_no_image_keeps_its_connection_when_all_of_it_has_come(
    raw_server: RawServer, tmp_path: Path, status: int
) -> None:
    async def handle(exchange: Exchange) -> None:
        seen = await exchange.read()
        if seen.path == "/moved.png":
            await exchange.answer(b"<html>elsewhere</html>", status, headers={"Location": "/a.png"})
        else:
            await exchange.answer(SMALL)

    raw_server.handle = handle
    async with AsyncApimart(KEY, base_url=raw_server.base_url, max_retries=0) as client:
        image = Image(f"{raw_server.base_url}/moved.png", task_id="task_1")
        for _ in range(3):
            if status == 302:
                (path,) = await client.images.save(image, tmp_path)
                assert path.read_bytes() == SMALL
            else:
                with pytest.raises(DownloadError):
                    await client.images.save(image, tmp_path)
        assert await client.images.read(f"{raw_server.base_url}/a.png") == SMALL
    assert raw_server.connections == 1


@pytest.mark.parametrize("sent", ["an HTML page", "nothing"])
async def test_what_is_no_image_keeps_nothing_waiting_after_it(
    raw_server: RawServer, tmp_path: Path, sent: str
) -> None:
    page = b"<!doctype html><title>An error</title>" * 10 if sent == "an HTML page" else b""

    async def handle(exchange: Exchange) -> None:
        seen = await exchange.read()
        await exchange.answer({"/a.png": page, "/b.png": SMALL}.get(seen.path, TASK))

    raw_server.handle = handle
    timeout = Timeout(read=5)
    async with AsyncApimart(KEY, base_url=raw_server.base_url, timeout=timeout, max_retries=0) as client:
        for name in "ababba":
            image = Image(f"{raw_server.base_url}/{name}.png", task_id=f"task_{name}")
            if name == "a":
                with pytest.raises(DownloadError, match="HTML page" if page else "empty"):
                    await client.images.save(image, tmp_path)
            else:
                (path,) = await client.images.save(image, tmp_path)
                assert path.read_bytes() == SMALL
            assert (await client.tasks.get("task_1")).status == "processing"


@pytest.mark.parametrize(
    "sent", [b"", b"HTTP/1.1 200 OK\r\nContent-", b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n\x89PNG"]
)
@pytest.mark.parametrize("is_secure", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("end", ["closed", "cancelled", "late"])
async def test_an_end_at_any_point_is_prompt_and_leaves_nothing(
    raw_server: RawServer,
    secure_server: tuple[str, ssl.SSLContext],
    tmp_path: Path,
    *,
    sent: bytes,
    is_secure: bool,
    end: str,
) -> None:
    if end == "closed" and (not IS_KNOWN or b"PNG" in sent):
        pytest.skip("an aiohttp session leaves who waits for a body to their deadline")
    begun = asyncio.Event()

    async def handle(exchange: Exchange) -> None:
        await exchange.read()
        exchange.writer.write(sent)
        await exchange.writer.drain()
        begun.set()
        await asyncio.sleep(60)

    raw_server.handle = handle
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    base_url, trusting = secure_server if is_secure else (raw_server.base_url, None)
    timeout = Timeout(read=0.3 if end == "late" else 30)
    client = AsyncApimart(KEY, base_url=base_url, timeout=timeout, max_retries=0, ssl=trusting)
    saving = asyncio.create_task(client.images.save(Image(f"{base_url}/a.png", task_id="t"), tmp_path))
    await begun.wait()
    await asyncio.sleep(0.05)
    if end == "cancelled":
        saving.cancel()
    elif end == "closed":
        await client.close()
    async with asyncio.timeout(10):
        with pytest.raises(asyncio.CancelledError if end == "cancelled" else DownloadError):
            await saving
    await asyncio.sleep(0.05)
    assert (client._session._gate.inside, len(client._session._deadlines.running)) == (0, 0)
    assert not list(tmp_path.iterdir())
    assert not complaints
    await client.close()


@straight
@pytest.mark.parametrize("status", [302, 404, 503])
async def test_only_what_is_asked_for_is_taken(raw_server: RawServer, status: int) -> None:
    taken: list[bytes] = []

    def take(piece: bytes | memoryview) -> bool:
        taken.append(bytes(piece))
        return True

    async def handle(exchange: Exchange) -> None:
        seen = await exchange.read()
        if seen.path == "/a.png":
            await exchange.answer(LARGE)
        else:
            await exchange.answer(b"elsewhere" * 100_000, status, headers={"Location": "/a.png"})

    raw_server.handle = handle
    async with AsyncApimart(KEY, base_url=raw_server.base_url) as client:
        url = f"{raw_server.base_url}/b.png"
        if status == 302:
            download = await client._session.download(url, Timeout(), take)
            assert await download.pour(take)
            download.close()
        else:
            with pytest.raises(DownloadError):
                await client._session.download(url, Timeout(), take)
        assert b"".join(taken) == (LARGE if status == 302 else b"")


@pytest.mark.parametrize(
    "head", [b"204 No Content\r\n", b"204 No\r\nContent-Length: 9\r\n", b"200 OK\r\nContent-Length: 0\r\n"]
)
async def test_an_answer_without_a_body_is_no_image(
    raw_server: RawServer, tmp_path: Path, head: bytes
) -> None:
    async def handle(exchange: Exchange) -> None:
        await exchange.read()
        exchange.writer.write(b"HTTP/1.1 " + head + b"\r\n")
        await exchange.writer.drain()

    raw_server.handle = handle
    async with AsyncApimart(KEY, base_url=raw_server.base_url, timeout=Timeout(read=5)) as client:
        image = Image(f"{raw_server.base_url}/a.png", task_id="task_1")
        with pytest.raises(DownloadError, match="empty file"):
            await client.images.save(image, tmp_path)


@straight
async def test_closing_the_client_between_two_calls_is_an_error_at_once(raw_server: RawServer) -> None:
    async def handle(exchange: Exchange) -> None:
        await exchange.read()
        await exchange.answer(LARGE[:600_000], length=len(LARGE))
        await asyncio.sleep(60)

    raw_server.handle = handle
    client = AsyncApimart(KEY, base_url=raw_server.base_url)
    download = await client._session.download(f"{raw_server.base_url}/a.png", Timeout(), one_by_one)
    assert not await download.pour(one_by_one)
    await client.close()
    await asyncio.sleep(0.01)
    async with asyncio.timeout(5):
        with pytest.raises(APIConnectionError):
            await download.pour(lambda _: True)
    download.close()


@straight
async def test_nothing_is_left_for_the_garbage_collector(raw_server: RawServer, tmp_path: Path) -> None:
    """A download of large files that only the collector frees keeps their state until it comes round."""

    async def handle(exchange: Exchange) -> None:
        seen = await exchange.read()
        await exchange.answer(LARGE if "large" in seen.path else SMALL)

    def left() -> int:
        return sum(isinstance(each, Receiver | Response | Download) for each in gc.get_objects())

    raw_server.handle = handle
    async with AsyncApimart(KEY, base_url=raw_server.base_url) as client:
        gc.collect()
        gc.disable()
        try:
            for number in range(10):
                for size in ("small", "large"):
                    image = Image(f"{raw_server.base_url}/{size}.png", task_id=f"{size}_{number}")
                    await client.images.save(image, tmp_path)
            assert left() == 0
        finally:
            gc.enable()
