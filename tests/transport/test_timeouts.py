"""Each setting of ``Timeout`` ends its part of a request, and is named in the error; tests move the clock."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Any

import pytest

from apimart_async import (
    APITimeoutError,
    AsyncApimart,
    DownloadError,
    Image,
    SubmissionIndeterminateError,
    Timeout,
)

from .conftest import arrive, png_of

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from pathlib import Path

    from tests.clock import Clock

    from .conftest import Exchange, RawServer

KEY = "sk-test"
GIF = bytes.fromhex("47494638396101000100800000ffffff0000002c00000000010001000002024401003b")
PNG = png_of(bytes(range(256)) * 12_000)
NEVER = 1e9


def connect(raw_server: RawServer, timeout: Timeout) -> AsyncApimart:
    return AsyncApimart(KEY, base_url=raw_server.base_url, timeout=timeout, max_retries=0)


CALLS: dict[str, Callable[[AsyncApimart], Coroutine[Any, Any, object]]] = {
    "poll": lambda client: client.tasks.get("task_1"),
    "upload": lambda client: client.uploads.create(GIF),
    "submit": lambda client: client.edits.create("https://p.example/a.png", "stars"),
    "download": lambda client: client.images.read(f"{client.base_url}/a.png"),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("sent", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n"])
@pytest.mark.parametrize(
    "timeout",
    [
        pytest.param(Timeout(read=500, total=NEVER), id="read"),
        pytest.param(Timeout(read=NEVER, total=500), id="total"),
    ],
)
async def test_a_server_that_falls_silent_is_given_up(
    raw_server: RawServer, clock: Clock, call: str, sent: bytes, timeout: Timeout
) -> None:
    begun = asyncio.Event()

    async def handle(exchange: Exchange) -> None:
        await exchange.read()
        exchange.writer.write(sent)
        await exchange.writer.drain()
        begun.set()
        await asyncio.Event().wait()

    raw_server.handle = handle
    name = "read" if timeout.read == 500 else "total"
    error = {"submit": SubmissionIndeterminateError, "download": DownloadError}.get(call, APITimeoutError)
    async with connect(raw_server, timeout) as client:
        calling = asyncio.create_task(CALLS[call](client))
        await begun.wait()
        await arrive()
        clock.advance(400)
        await arrive()
        assert not calling.done()
        clock.advance(200)
        with pytest.raises(error, match=rf"500 s \(Timeout\.{name}\)"):
            await calling


async def test_a_body_that_is_being_sent_is_not_silence(raw_server: RawServer, clock: Clock) -> None:
    large = GIF[:-1] + bytes(8_000_000) + GIF[-1:]
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def handle(exchange: Exchange) -> None:
        length = await exchange.read_head()
        begun.set()
        await go_on.wait()
        await exchange.reader.readexactly(length)
        await exchange.answer(b'{"url":"https://u.example/1.gif","bytes":%d}' % len(large))

    raw_server.handle = handle
    async with connect(raw_server, Timeout(read=10, total=NEVER)) as client:
        upload = asyncio.create_task(client.uploads.create(large))
        await begun.wait()
        clock.advance(1000)
        await arrive()
        go_on.set()
        assert (await upload).bytes == len(large)


async def test_a_slow_body_that_moves_is_not_silent(
    raw_server: RawServer, clock: Clock, tmp_path: Path
) -> None:
    async def handle(exchange: Exchange) -> None:
        await exchange.read()
        await exchange.answer(PNG[:600_000], length=len(PNG))
        for offset in range(600_000, len(PNG), 300_000):
            await arrive()
            clock.advance(400)
            exchange.writer.write(PNG[offset : offset + 300_000])
            await exchange.writer.drain()

    raw_server.handle = handle
    async with connect(raw_server, Timeout(read=600, total=NEVER)) as client:
        (path,) = await client.images.save(Image(f"{raw_server.base_url}/a.png", task_id="t"), tmp_path)
        assert path.read_bytes() == PNG


async def test_a_shorter_time_is_kept_beside_longer_ones(raw_server: RawServer, clock: Clock) -> None:
    begun = asyncio.Semaphore(0)

    async def handle(exchange: Exchange) -> None:
        await exchange.read()
        begun.release()
        await asyncio.Event().wait()

    raw_server.handle = handle
    async with connect(raw_server, Timeout(total=NEVER, read=NEVER)) as client:
        long = asyncio.create_task(client.tasks.get("task_1"))
        short = asyncio.create_task(client.tasks.get("task_2", timeout=100))
        await begun.acquire()
        await begun.acquire()
        clock.advance(200)
        with pytest.raises(APITimeoutError, match=r"within 100 s \(Timeout\.total\)"):
            await short
        assert not long.done()
        long.cancel()
        with pytest.raises(asyncio.CancelledError):
            await long


async def test_the_seconds_given_to_a_paid_call_may_pass_without_a_byte(
    raw_server: RawServer, clock: Clock
) -> None:
    async def handle(exchange: Exchange) -> None:
        await exchange.read()
        for _ in range(8):
            await arrive()
            clock.advance(100)
        await arrive()
        await exchange.answer(b'{"code":200,"data":[{"status":"submitted","task_id":"task_1"}]}')

    raw_server.handle = handle
    async with connect(raw_server, Timeout()) as client:
        task = await client.edits.create("https://p.example/a.png", "stars", timeout=900)
    assert task.id == "task_1"


async def test_a_timeout_leaves_the_task_as_it_was(raw_server: RawServer, clock: Clock) -> None:
    async def handle(exchange: Exchange) -> None:
        await exchange.read()
        await asyncio.Event().wait()

    raw_server.handle = handle
    async with connect(raw_server, Timeout(total=100)) as client:
        with pytest.raises(APITimeoutError):
            async with clock.rushing(200):
                await client.tasks.get("task_1")
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_a_cancellation_at_the_moment_of_a_timeout_wins(raw_server: RawServer, clock: Clock) -> None:
    begun = asyncio.Event()

    async def handle(exchange: Exchange) -> None:
        await exchange.read()
        begun.set()
        await asyncio.Event().wait()

    raw_server.handle = handle
    async with connect(raw_server, Timeout(total=100)) as client:
        for _ in range(10):
            begun.clear()
            polling = asyncio.create_task(client.tasks.get("task_1"))
            await begun.wait()
            clock.advance(200)
            await asyncio.sleep(0)
            polling.cancel()
            with pytest.raises((asyncio.CancelledError, APITimeoutError)) as caught:
                await polling
            assert polling.cancelled() == isinstance(caught.value, asyncio.CancelledError)


async def test_a_host_that_accepts_no_connection_is_given_up(clock: Clock) -> None:
    """A listener whose queue is full leaves connections half open."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        fillers = [socket.socket() for _ in range(8)]
        for filler in fillers:
            filler.settimeout(0)
            filler.connect_ex(address)
        client = AsyncApimart(
            KEY,
            base_url=f"http://127.0.0.1:{address[1]}",
            timeout=Timeout(connect=100, read=NEVER, total=NEVER),
            max_retries=0,
        )
        async with client:
            with pytest.raises(APITimeoutError, match=r"Timeout\.connect") as caught:
                async with clock.rushing(60):
                    await client.edits.create("https://p.example/a.png", "stars")
        for filler in fillers:
            filler.close()
    assert not isinstance(caught.value, SubmissionIndeterminateError)
