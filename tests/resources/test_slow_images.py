"""A slow file host times out; a slow caller does not.

The test moves the clock and says when the host sends the next piece, so nothing here takes time.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

import pytest

from apimart_async import AsyncApimart, DownloadError, Timeout

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

    from tests.clock import Clock

GIF = bytes.fromhex("47494638396101000100800000ffffff0000002c00000000010001000002024401003b")
PIECE = 10_000


class Host:
    """Serves one image, a piece each time it is told to."""

    def __init__(self) -> None:
        self.url = ""
        self.asked = asyncio.Event()
        self._pieces = asyncio.Semaphore(0)

    def send(self) -> None:
        self._pieces.release()

    async def answer(self, size: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            self.asked.set()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
            for start in range(0, size, PIECE):
                await self._pieces.acquire()
                writer.write((b"" if start else GIF).ljust(PIECE, b";"))
                await writer.drain()
            await reader.read()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def host(pieces: int) -> AsyncGenerator[Host]:
    """Run a host whose image has so many pieces."""
    found = Host()
    size = pieces * PIECE
    server = await asyncio.start_server(partial(found.answer, size), "127.0.0.1", 0)
    async with server:
        found.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/a.gif"
        try:
            yield found
        finally:
            # From Python 3.12 on, the server waits for its handlers to end.
            for _ in range(pieces):
                found.send()


def connect(timeout: Timeout) -> AsyncApimart:
    return AsyncApimart("sk-test", base_url="http://127.0.0.1:9", timeout=timeout, max_retries=0)


async def _take(pieces: AsyncIterator[bytes], size: int) -> None:
    """Receive so many bytes."""
    while size > 0:
        size -= len(await anext(pieces))
    assert size == 0


async def _rest(pieces: AsyncIterator[bytes]) -> int:
    return sum([len(piece) async for piece in pieces])


async def test_silent_host_times_out(clock: Clock) -> None:
    async with host(9) as slow, connect(Timeout(read=60, total=1e9)) as client:
        slow.send()
        reading = asyncio.create_task(client.images.read(slow.url))
        await slow.asked.wait()
        with pytest.raises(DownloadError, match=r"nothing came for 60 s \(Timeout\.read\)"):
            async with clock.rushing(61):
                await reading
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_slow_host_does_not_time_out(clock: Clock) -> None:
    async with (
        host(12) as slow,
        connect(Timeout(read=600, total=1e9)) as client,
        client.images.stream(slow.url) as pieces,
    ):
        for _ in range(12):
            taking = asyncio.create_task(_take(pieces, PIECE))
            await asyncio.sleep(0)
            clock.advance(400)
            await asyncio.sleep(0)
            slow.send()
            await taking
        assert await _rest(pieces) == 0


async def test_whole_download_has_a_timeout(clock: Clock) -> None:
    async with host(1000) as slow, connect(Timeout(read=1000, total=400)) as client:
        reading = asyncio.create_task(client.images.read(slow.url))
        await slow.asked.wait()
        while not reading.done():
            slow.send()
            clock.advance(50)
            await asyncio.sleep(0.01)
        with pytest.raises(DownloadError, match=r"no whole answer within 400 s \(Timeout\.total\)"):
            await reading


async def test_slow_caller_does_not_time_out(clock: Clock) -> None:
    async with (
        host(3) as slow,
        connect(Timeout(read=600, total=1e9)) as client,
        client.images.stream(slow.url) as pieces,
    ):
        slow.send()
        await _take(pieces, PIECE)
        clock.advance(900)
        await asyncio.sleep(0.01)
        slow.send()
        slow.send()
        assert await _rest(pieces) == 2 * PIECE


async def test_total_timeout_is_raised_at_the_next_chunk(clock: Clock) -> None:
    async with host(50) as slow, connect(Timeout(total=600)) as client:
        async with client.images.stream(slow.url) as pieces:
            slow.send()
            await _take(pieces, PIECE)
            clock.advance(900)
            await asyncio.sleep(0.01)
            slow.send()
            with pytest.raises(DownloadError, match=r"Timeout\.total"):
                await _rest(pieces)
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0


async def test_stream_may_be_read_in_another_task(clock: Clock) -> None:
    async with (
        host(9) as slow,
        connect(Timeout(read=60, total=1e9)) as client,
        client.images.stream(slow.url) as pieces,
    ):
        slow.send()
        with pytest.raises(DownloadError, match=r"Timeout\.read"):
            async with clock.rushing(61):
                await asyncio.create_task(_rest(pieces))
        clock.advance(600)
        await asyncio.sleep(0.01)
