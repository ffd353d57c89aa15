"""Bodies of images: whole and in order however they come, fetched anew when they break off."""

from __future__ import annotations

import asyncio
import gc
from typing import TYPE_CHECKING

import aiohttp
import pytest

from apimart_async import AsyncApimart, DownloadError, Image, Limits, Timeout
from apimart_async.transport.exchange import Download

from .conftest import arrive, png_of

if TYPE_CHECKING:
    import ssl
    from pathlib import Path

    from .conftest import Exchange, RawServer

KEY = "sk-test"
LARGE = png_of(bytes(range(256)) * 12_000)
SMALL = png_of(bytes(range(256)) * 300)
TASK = b'{"code":200,"data":{"id":"task_1","status":"processing"}}'


async def serve_all(exchange: Exchange) -> None:
    seen = await exchange.read()
    await exchange.answer(TASK if "tasks" in seen.path else LARGE)


async def test_file_arrives_whole_and_the_connection_is_used_again(
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
    assert raw_server.connections == 2  # one for polls, one for files


async def test_file_arrives_whole_through_tls(
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
    assert raw_server.connections == 2  # one for polls, one for files


async def test_many_at_once_mix_nothing(raw_server: RawServer, tmp_path: Path) -> None:
    def content(number: int) -> bytes:
        return png_of(bytes([number]) * 2_000_000)

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
async def test_download_that_breaks_off_is_fetched_again(
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
async def test_file_may_arrive_in_any_chunks(
    raw_server: RawServer, tmp_path: Path, pieces: tuple[int, ...]
) -> None:
    async def handle(exchange: Exchange) -> None:
        await exchange.read()
        await exchange.answer(b"", length=len(LARGE))
        offset = 0
        for size in pieces:
            await arrive()
            exchange.writer.write(LARGE[offset : offset + size])
            await exchange.writer.drain()
            offset += size
        exchange.writer.write(LARGE[offset:])
        await exchange.writer.drain()

    raw_server.handle = handle
    async with AsyncApimart(KEY, base_url=raw_server.base_url) as client:
        (path,) = await client.images.save(Image(f"{raw_server.base_url}/a.png", task_id="t"), tmp_path)
        assert path.read_bytes() == LARGE


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
        await arrive()
        exchange.writer.write(whole[place:])
        await exchange.writer.drain()

    raw_server.handle = handle
    async with AsyncApimart(KEY, base_url=raw_server.base_url) as client:
        for number in range(3):
            image = Image(f"{raw_server.base_url}/{number}.png", task_id=f"task_{number}")
            (path,) = await client.images.save(image, tmp_path)
            assert path.read_bytes() == SMALL
            assert (await client.tasks.get("task_1")).status == "processing"
    assert raw_server.connections == 2  # one for polls, one for files


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", id="chunked"),
        pytest.param(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", id="until the end"),
        pytest.param(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\n", id="interim"),
    ],
)
async def test_an_answer_of_another_form_arrives_whole_too(
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
    body = png_of(b"\r\n\r\n" * 1000)

    async def handle(exchange: Exchange) -> None:
        await exchange.read()
        exchange.writer.write(head % len(body) + body)
        await exchange.writer.drain()

    raw_server.handle = handle
    timeout = Timeout(read=600)
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
async def test_a_file_that_is_no_image_does_not_delay_the_next_requests(
    raw_server: RawServer, tmp_path: Path, sent: str
) -> None:
    page = b"<!doctype html><title>An error</title>" * 10 if sent == "an HTML page" else b""

    async def handle(exchange: Exchange) -> None:
        seen = await exchange.read()
        await exchange.answer({"/a.png": page, "/b.png": SMALL}.get(seen.path, TASK))

    raw_server.handle = handle
    timeout = Timeout(read=600)
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
    async with AsyncApimart(KEY, base_url=raw_server.base_url, timeout=Timeout(read=600)) as client:
        image = Image(f"{raw_server.base_url}/a.png", task_id="task_1")
        with pytest.raises(DownloadError, match="empty file"):
            await client.images.save(image, tmp_path)


async def test_a_download_gives_all_that_has_come_at_each_read(raw_server: RawServer) -> None:
    parts = asyncio.Semaphore(0)

    async def handle(exchange: Exchange) -> None:
        await exchange.read()
        await exchange.answer(SMALL[:1000], length=len(SMALL))
        await parts.acquire()
        for offset in range(1000, len(SMALL), 7000):
            exchange.writer.write(SMALL[offset : offset + 7000])
            await exchange.writer.drain()

    raw_server.handle = handle
    async with AsyncApimart(KEY, base_url=raw_server.base_url) as client:
        download = await client._session.download(f"{raw_server.base_url}/a.png", Timeout())
        assert download.length == len(SMALL)
        assert download.content_type == "application/json"
        assert await download.read() == SMALL[:1000]
        parts.release()
        await arrive()
        assert await download.read() == SMALL[1000:]
        assert await download.read() == b""
        download.close()
        download.close()


@pytest.mark.parametrize("is_large", [False, True], ids=["small", "large"])
async def test_a_download_that_is_not_read_costs_its_connection_at_most(
    raw_server: RawServer,
    is_large: bool,  # noqa: FBT001
) -> None:
    async def handle(exchange: Exchange) -> None:
        await exchange.read()
        await exchange.answer(LARGE if is_large else SMALL[:100])

    raw_server.handle = handle
    async with AsyncApimart(KEY, base_url=raw_server.base_url, limits=Limits(connections=10)) as client:
        for _ in range(2):
            url = f"{raw_server.base_url}/a.png"
            downloads = [await client._session.download(url, Timeout()) for _ in range(10)]
            await arrive()
            for download in downloads:
                download.close()
            assert client._session._connections.in_use == 0
    assert raw_server.connections == (20 if is_large else 1)


async def test_a_caller_that_does_not_read_is_sent_no_more_than_its_buffer(raw_server: RawServer) -> None:
    huge = png_of(bytes(40_000_000))
    sent = 0

    async def handle(exchange: Exchange) -> None:
        nonlocal sent
        await exchange.read()
        await exchange.answer(b"", length=len(huge))
        for offset in range(0, len(huge), 100_000):
            exchange.writer.write(huge[offset : offset + 100_000])
            await exchange.writer.drain()
            sent = offset + 100_000

    raw_server.handle = handle
    async with AsyncApimart(KEY, base_url=raw_server.base_url) as client:
        download = await client._session.download(f"{raw_server.base_url}/a.png", Timeout())
        for _ in range(2000):
            await asyncio.sleep(0)
        assert sent < len(huge) - 20_000_000  # the system's own buffers take some
        received = 0
        while chunk := await download.read():
            received += len(chunk)
        assert received == len(huge)
        download.close()


async def test_nothing_is_left_for_the_garbage_collector(raw_server: RawServer, tmp_path: Path) -> None:
    """Downloads that only the collector frees keep their buffers until it runs."""

    async def handle(exchange: Exchange) -> None:
        seen = await exchange.read()
        await exchange.answer(LARGE if "large" in seen.path else SMALL)

    raw_server.handle = handle
    async with AsyncApimart(KEY, base_url=raw_server.base_url) as client:
        gc.collect()
        gc.disable()
        try:
            for number in range(10):
                for size in ("small", "large"):
                    image = Image(f"{raw_server.base_url}/{size}.png", task_id=f"{size}_{number}")
                    await client.images.save(image, tmp_path)
            assert not [each for each in gc.get_objects() if isinstance(each, Download)]
        finally:
            gc.enable()


@pytest.mark.parametrize(
    "target",
    [
        "/q%40.png?X-Amz-Signature=%27%2F%2f&a=b+c&d=~e'(f)*",
        "/%2e%2e/a.png",
        "//double//a.png?x=[1]|2^`{}",
        "?no=path",
    ],
)
@pytest.mark.parametrize("is_redirect", [False, True])
async def test_a_signed_url_is_sent_as_it_was_written(
    raw_server: RawServer,
    target: str,
    is_redirect: bool,  # noqa: FBT001 a parameter of the test
) -> None:
    async def handle(exchange: Exchange) -> None:
        seen = await exchange.read()
        if seen.path == "/start.png":
            location = f"{raw_server.base_url}{target}"
            await exchange.answer(b"", 302, headers={"Location": location})
        else:
            await exchange.answer(SMALL)

    raw_server.handle = handle
    async with AsyncApimart(KEY, base_url=raw_server.base_url) as client:
        path = "/start.png" if is_redirect else target
        assert await client.images.read(raw_server.base_url + path) == SMALL
    assert raw_server.seen[-1].path == (target if target.startswith("/") else f"/{target}")


async def test_blanks_in_a_url_are_quoted(raw_server: RawServer) -> None:
    async def handle(exchange: Exchange) -> None:
        await exchange.read()
        await exchange.answer(SMALL)

    raw_server.handle = handle
    async with AsyncApimart(KEY, base_url=raw_server.base_url) as client:
        await client.images.read(f"{raw_server.base_url}/a b.gif?c=1 2+3%20%")
    assert raw_server.seen[0].path == "/a%20b.gif?c=1%202+3%20%"


@pytest.mark.parametrize("path", ["/ü.gif", "/a/../b.gif", "/a.gif#part"])
async def test_a_url_is_quoted_and_resolved_as_browsers_do(raw_server: RawServer, path: str) -> None:
    async def handle(exchange: Exchange) -> None:
        await exchange.read()
        await exchange.answer(SMALL)

    raw_server.handle = handle
    async with AsyncApimart(KEY, base_url=raw_server.base_url) as client:
        assert await client.images.read(raw_server.base_url + path) == SMALL
    assert raw_server.seen[0].path in {"/%C3%BC.gif", "/b.gif", "/a.gif"}


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:99999/a.png", "http://[::::]/a.png", "http://127.0.0.1..x/a"]
)
async def test_a_url_that_leads_nowhere_is_an_error_of_the_download(raw_server: RawServer, url: str) -> None:
    async def handle(exchange: Exchange) -> None:
        await exchange.read()
        await exchange.answer(b"", 302, {"Location": url})

    raw_server.handle = handle
    async with AsyncApimart(KEY, base_url=raw_server.base_url, max_retries=0) as client:
        for address in (url, f"{raw_server.base_url}/a.png"):
            with pytest.raises(DownloadError):
                await client.images.read(address)
