"""Bodies larger than a connection takes at once: answers before their end, and files that change."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from apimart_async import AsyncApimart, ImageError, Limits, Media, PayloadTooLargeError, Retry

if TYPE_CHECKING:
    import ssl
    from pathlib import Path

    from .conftest import Exchange, RawServer

KEY = "sk-test"
PROMPT = "Change the background to a starry sky"
GIF = bytes.fromhex("47494638396101000100800000ffffff0000002c00000000010001000002024401003b")
LARGE = GIF[:-1] + bytes(8_000_000) + GIF[-1:]
SUBMITTED = b'{"code":200,"data":[{"status":"submitted","task_id":"task_1"}]}'
UPLOADED = (
    b'{"url":"https://u.example/1.gif","filename":"image.gif","content_type":"image/gif","bytes":8000035}'
)

inline_or_not = pytest.mark.parametrize("inline", [False, True], ids=["upload", "inline"])
plain_or_secure = pytest.mark.parametrize("is_secure", [False, True], ids=["plain", "tls"])


@inline_or_not
@plain_or_secure
async def test_an_error_is_an_answer_also_to_half_a_body(
    raw_server: RawServer, secure_server: tuple[str, ssl.SSLContext], *, inline: bool, is_secure: bool
) -> None:
    ended = asyncio.Event()

    async def handle(exchange: Exchange) -> None:
        await exchange.read_head()
        await exchange.answer(b'{"error":{"message":"file size 8 exceeds maximum 4 bytes"}}', 413)
        await ended.wait()
        exchange.drop()

    raw_server.handle = handle
    base_url, trusting = secure_server if is_secure else (raw_server.base_url, None)
    async with AsyncApimart(KEY, base_url=base_url, ssl=trusting) as client:
        with pytest.raises(PayloadTooLargeError, match="exceeds"):
            await (
                client.edits.create(LARGE, PROMPT, inline=True) if inline else client.uploads.create(LARGE)
            )
    ended.set()
    assert raw_server.connections == 1


@inline_or_not
@plain_or_secure
async def test_a_good_answer_is_believed_before_all_is_sent(
    raw_server: RawServer, secure_server: tuple[str, ssl.SSLContext], *, inline: bool, is_secure: bool
) -> None:
    """A paid task is not lost because a server does not care for the rest of a body."""
    ended = asyncio.Event()

    async def handle(exchange: Exchange) -> None:
        await exchange.read_head()
        await exchange.answer(SUBMITTED if inline else UPLOADED)
        await ended.wait()
        exchange.drop()

    raw_server.handle = handle
    base_url, trusting = secure_server if is_secure else (raw_server.base_url, None)
    async with AsyncApimart(KEY, base_url=base_url, ssl=trusting) as client:
        if inline:
            assert (await client.edits.create(LARGE, PROMPT, inline=True)).id == "task_1"
        else:
            assert (await client.uploads.create(LARGE)).url == "https://u.example/1.gif"
    ended.set()


async def test_a_connection_whose_body_was_cut_off_is_not_used_again(raw_server: RawServer) -> None:
    ended = asyncio.Event()

    async def handle(exchange: Exchange) -> None:
        if exchange.number > 1:
            await exchange.read()
        else:
            await exchange.read_head()
        await exchange.answer(UPLOADED if exchange.number == 1 else UPLOADED.replace(b"8000035", b"35"))
        if exchange.number == 1:
            await ended.wait()
            exchange.drop()

    raw_server.handle = handle
    async with AsyncApimart(KEY, base_url=raw_server.base_url) as client:
        await client.uploads.create(LARGE)
        await client.uploads.create(GIF)
    ended.set()
    assert raw_server.connections == 2


async def test_an_interim_answer_is_passed_over(raw_server: RawServer) -> None:
    async def handle(exchange: Exchange) -> None:
        await exchange.read()
        exchange.writer.write(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")
        await exchange.answer(b'{"code":200,"data":{"id":"task_1","status":"processing"}}')

    raw_server.handle = handle
    async with AsyncApimart(KEY, base_url=raw_server.base_url) as client:
        assert (await client.tasks.get("task_1")).status == "processing"


@pytest.mark.long
async def test_many_sent_at_once_to_a_slow_server_mix_nothing(raw_server: RawServer, tmp_path: Path) -> None:
    contents = {f"{number}.gif": GIF + bytes([number]) * 14_000_000 for number in range(5)}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    together = asyncio.Barrier(5)

    async def handle(exchange: Exchange) -> None:
        await together.wait()
        seen = await exchange.read()
        name = next(name for name in contents if f'filename="{name}"'.encode() in seen.body)
        framing = seen.body.partition(contents[name])
        assert framing[1] == contents[name]
        assert len(framing[0]) + len(framing[2]) < 500
        await exchange.answer(b'{"url":"https://u.example/%s"}' % name.encode())

    raw_server.handle = handle
    options: dict[str, Any] = {
        "limits": Limits(uploads=5, requests=5, adaptive=False),
        "media": Media(keep_metadata=True),  # the bytes behind the end of a GIF
        "max_retries": 0,
    }
    async with AsyncApimart(KEY, base_url=raw_server.base_url, **options) as client:
        for _ in range(2):
            uploads = await asyncio.gather(*(client.uploads.create(tmp_path / name) for name in contents))
            assert [upload.url.rpartition("/")[2] for upload in uploads] == list(contents)


async def test_a_file_that_changes_while_it_is_sent_is_named(raw_server: RawServer, tmp_path: Path) -> None:
    photo = tmp_path / "photo.gif"
    photo.write_bytes(LARGE)

    async def handle(exchange: Exchange) -> None:
        length = await exchange.read_head()
        photo.write_bytes(GIF)
        await exchange.reader.readexactly(length)

    raw_server.handle = handle
    async with AsyncApimart(KEY, base_url=raw_server.base_url) as client:
        with pytest.raises(ImageError, match=r"photo\.gif has changed"):
            await client.uploads.create(photo)


async def test_a_body_that_is_refused_in_the_middle_is_sent_again_from_its_start(
    raw_server: RawServer, tmp_path: Path
) -> None:
    photo = tmp_path / "photo.gif"
    photo.write_bytes(LARGE)

    async def handle(exchange: Exchange) -> None:
        if exchange.number == 1:
            await exchange.read_head()
            await exchange.answer(b'{"error":{"message":"busy"}}', 503)
            exchange.drop()
            return
        seen = await exchange.read()
        assert LARGE in seen.body
        await exchange.answer(UPLOADED)

    raw_server.handle = handle
    retry = Retry(initial_delay=0.001)
    async with AsyncApimart(KEY, base_url=raw_server.base_url, retry=retry) as client:
        assert (await client.uploads.create(photo)).bytes == len(LARGE)
