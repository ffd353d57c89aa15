"""A file host that is slow, and a caller who is: only one of them runs into a timeout."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from apimart_async import AsyncApimart, DownloadError, Timeout

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

GIF = bytes.fromhex("47494638396101000100800000ffffff0000002c00000000010001000002024401003b")
PIECE = 10_000


@asynccontextmanager
async def host(pieces: int, *, silence: float, announced: int | None = None) -> AsyncGenerator[str]:
    """Serve an image in so many pieces, with a silence after each."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            size = announced or pieces * PIECE
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
            for number in range(pieces):
                writer.write((GIF if number == 0 else b"").ljust(PIECE, b";"))
                await writer.drain()
                await asyncio.sleep(silence)
            await reader.read()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


def connect(url: str, timeout: Timeout) -> AsyncApimart:
    return AsyncApimart("sk-test", base_url=url, timeout=timeout, max_retries=0)


async def _rest(pieces: AsyncIterator[bytes]) -> int:
    return sum([len(piece) async for piece in pieces])


async def test_a_host_that_falls_silent_is_given_up() -> None:
    async with (
        host(1, silence=0, announced=9 * PIECE) as url,
        connect(url, Timeout(read=0.2)) as client,
    ):
        with pytest.raises(DownloadError, match=r"nothing came for 0\.2 s \(Timeout\.read\)"):
            await client.images.read(f"{url}/a.gif")
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_a_host_that_goes_on_slowly_is_not_silent() -> None:
    async with host(12, silence=0.1) as url, connect(url, Timeout(read=1)) as client:
        assert len(await client.images.read(f"{url}/a.gif")) == 12 * PIECE


async def test_a_download_has_a_limit_as_a_whole() -> None:
    async with host(100, silence=0.05) as url, connect(url, Timeout(read=5, total=0.4)) as client:
        with pytest.raises(DownloadError, match=r"no whole answer within 0\.4 s \(Timeout\.total\)"):
            await client.images.read(f"{url}/a.gif")


async def test_a_caller_may_take_longer_over_a_piece_than_a_host_may_be_silent() -> None:
    received = 0
    async with (
        host(3, silence=0.01) as url,
        connect(url, Timeout(read=1)) as client,
        client.images.stream(f"{url}/a.gif") as pieces,
    ):
        async for piece in pieces:
            received += len(piece)
            if received == len(piece):
                await asyncio.sleep(1.5)
    assert received == 3 * PIECE


async def test_a_caller_who_is_late_for_the_whole_learns_it_at_the_next_piece() -> None:
    async with host(50, silence=0.05) as url, connect(url, Timeout(total=1)) as client:
        async with client.images.stream(f"{url}/a.gif") as pieces:
            await anext(pieces)
            await asyncio.sleep(1.5)
            with pytest.raises(DownloadError, match=r"Timeout\.total"):
                await _rest(pieces)
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0


async def test_a_stream_may_be_read_in_another_task_than_opened_it() -> None:
    async with (
        host(2, silence=0, announced=9 * PIECE) as url,
        connect(url, Timeout(read=1)) as client,
        client.images.stream(f"{url}/a.gif") as pieces,
    ):
        with pytest.raises(DownloadError, match=r"Timeout\.read"):
            await asyncio.create_task(_rest(pieces))
        await asyncio.sleep(0.4)
