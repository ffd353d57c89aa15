"""Bodies that are compressed although the client did not ask for it: answers of the API, stored files."""

from __future__ import annotations

import asyncio
import gzip
import random
import zlib
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from apimart_async import (
    APIResponseValidationError,
    AsyncApimart,
    AuthenticationError,
    DownloadError,
    Image,
    Limits,
    SubmissionIndeterminateError,
    Timeout,
)
from apimart_async.emulator import Fault
from apimart_async.transport import compression

from .conftest import png_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from apimart_async.emulator import Emulator

    from .conftest import Exchange, RawServer

KEY = "sk-test"
TASK = b'{"code":200,"data":{"id":"task_1","status":"processing"}}'
PNG = png_of(random.Random(0).randbytes(600_000))


def raw_deflate(data: bytes) -> bytes:
    return zlib.compress(data, wbits=-15)


def two_members(data: bytes) -> bytes:
    return gzip.compress(data[: len(data) // 2]) + gzip.compress(data[len(data) // 2 :])


SPELLINGS: dict[str, tuple[str | None, Callable[[bytes], bytes]]] = {
    "gzip": ("gzip", gzip.compress),
    "x-gzip": ("X-GZIP", gzip.compress),
    "gzip that nothing announces": (None, gzip.compress),
    "gzip announced as something else": ("identity", gzip.compress),
    "gzip in two members": ("gzip", two_members),
    "gzip with padding behind it": ("gzip", lambda data: gzip.compress(data) + bytes(100)),
    "gzip twice": ("gzip, gzip", lambda data: gzip.compress(gzip.compress(data))),
    "a stored gzip file that is compressed again": ("gzip", lambda data: gzip.compress(gzip.compress(data))),
    "deflate": ("deflate", zlib.compress),
    "deflate without zlib's header": ("deflate", raw_deflate),
    "gzip around deflate": ("deflate, gzip", lambda data: gzip.compress(zlib.compress(data))),
    "announced, but plain": ("gzip", bytes),
    "announced as deflate, but plain": ("deflate", bytes),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("own_session", [False, True])
async def test_answers_of_the_api_are_decompressed(
    raw_server: RawServer,
    spelling: str,
    own_session: bool,  # noqa: FBT001 a parameter of the test
) -> None:
    coding, compress = SPELLINGS[spelling]

    async def handle(exchange: Exchange) -> None:
        seen = await exchange.read()
        assert seen.headers["accept-encoding"] == "identity"
        await exchange.answer(compress(TASK), headers={"Content-Encoding": coding} if coding else {})

    raw_server.handle = handle
    session = aiohttp.ClientSession() if own_session else None
    async with AsyncApimart(KEY, base_url=raw_server.base_url, session=session, max_retries=0) as client:
        assert (await client.tasks.get("task_1")).status == "processing"
        assert (await client.tasks.get("task_1")).status == "processing"
    if session is not None:
        await session.close()
    assert raw_server.connections == 1


@pytest.mark.parametrize("spelling", SPELLINGS)
async def test_stored_files_are_decompressed(raw_server: RawServer, tmp_path: Path, spelling: str) -> None:
    coding, compress = SPELLINGS[spelling]

    async def handle(exchange: Exchange) -> None:
        await exchange.read()
        await exchange.answer(compress(PNG), headers={"Content-Encoding": coding} if coding else {})

    raw_server.handle = handle
    async with AsyncApimart(KEY, base_url=raw_server.base_url, max_retries=0) as client:
        url = f"{raw_server.base_url}/a.png"
        (path,) = await client.images.save(Image(url, task_id="task_1"), tmp_path)
        assert path.read_bytes() == PNG
        assert path.suffix == ".png"
        assert await client.images.read(url) == PNG
        async with client.images.stream(url) as chunks:
            assert b"".join([chunk async for chunk in chunks]) == PNG
    assert raw_server.connections == 1


@pytest.mark.parametrize("kind", ["gzip", "deflate"])
async def test_every_step_works_with_a_service_that_compresses(
    emulator: Emulator, client: AsyncApimart, photographs: dict[str, Path], tmp_path: Path, kind: Any
) -> None:
    emulator.faults.add(Fault(kind=kind))
    task = await client.edits.run(photographs["chelsea.png"], "black and white", n=2)
    paths = await client.images.save(task, tmp_path)
    assert len(paths) == 2
    assert (await client.account.balance()).remaining
    assert len(emulator.ledger.entries) == 1


async def test_a_compressed_file_that_ends_too_early_is_fetched_again(
    raw_server: RawServer, tmp_path: Path
) -> None:
    packed = gzip.compress(PNG)

    async def handle(exchange: Exchange) -> None:
        await exchange.read()
        part = packed[: len(packed) - 1 - 20_000 * (exchange.number == 1)] if exchange.number < 3 else packed
        await exchange.answer(part, headers={"Content-Encoding": "gzip"})

    raw_server.handle = handle
    async with AsyncApimart(KEY, base_url=raw_server.base_url) as client:
        image = Image(f"{raw_server.base_url}/a.png", task_id="task_1")
        (path,) = await client.images.save(image, tmp_path)
    assert path.read_bytes() == PNG
    assert len(raw_server.seen) == 3
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


BOMB = gzip.compress(bytes(50_000_000))
DAMAGED = gzip.compress(random.Random(1).randbytes(50_000))[:30_000] + bytes(30_000)


@pytest.mark.parametrize(
    ("packed", "limit", "reason"),
    [
        (BOMB, 1_000_000, r"Limits\.download_bytes"),
        (BOMB, 10**9, "200 times"),
        (gzip.compress(BOMB), 10**9, "200 times"),
        (gzip.compress(PNG), 100_000, r"Limits\.download_bytes"),
        (DAMAGED, 10**9, "damaged"),
    ],
)
async def test_files_that_unpack_too_far_are_refused(
    raw_server: RawServer, packed: bytes, limit: int, reason: str
) -> None:
    async def handle(exchange: Exchange) -> None:
        await exchange.read()
        await exchange.answer(packed, headers={"Content-Encoding": "gzip"})

    raw_server.handle = handle
    limits = Limits(download_bytes=limit)
    async with AsyncApimart(KEY, base_url=raw_server.base_url, limits=limits, max_retries=0) as client:
        with pytest.raises(DownloadError, match=reason):
            await client.images.read(f"{raw_server.base_url}/a.png")


@pytest.mark.parametrize(
    ("packed", "limit", "reason"),
    [
        (BOMB, 10**9, "200 times"),
        (gzip.compress(PNG), 100_000, r"Limits\.image_answer_bytes"),
        (DAMAGED, 10**9, "damaged"),
    ],
)
async def test_a_paid_answer_that_cannot_be_unpacked_is_indeterminate(
    raw_server: RawServer, packed: bytes, limit: int, reason: str
) -> None:
    async def handle(exchange: Exchange) -> None:
        await exchange.read()
        await exchange.answer(packed, headers={"Content-Encoding": "gzip"})

    raw_server.handle = handle
    limits = Limits(image_answer_bytes=limit)
    async with AsyncApimart(KEY, base_url=raw_server.base_url, limits=limits) as client:
        with pytest.raises(SubmissionIndeterminateError, match=reason) as caught:
            await client.edits.create("https://p.example/a.png", "stars")
    assert isinstance(caught.value.__cause__, APIResponseValidationError)
    assert len(raw_server.seen) == 1


@pytest.mark.parametrize(
    "packed",
    [gzip.compress(b'{"error":{"message":"no such key"}}'), BOMB, DAMAGED, b"\x1f\x8b"],
    ids=["whole", "bomb", "damaged", "cut"],
)
async def test_the_status_of_a_refusal_counts_even_if_its_body_cannot_be_unpacked(
    raw_server: RawServer, packed: bytes
) -> None:
    async def handle(exchange: Exchange) -> None:
        await exchange.read()
        await exchange.answer(packed, 401, {"Content-Encoding": "gzip"})

    raw_server.handle = handle
    async with AsyncApimart(KEY, base_url=raw_server.base_url) as client:
        with pytest.raises(AuthenticationError) as caught:
            await client.edits.create("https://p.example/a.png", "stars")
    assert len(caught.value.message) < 300


async def test_the_status_of_a_refusal_counts_even_if_its_body_is_too_large(raw_server: RawServer) -> None:
    async def handle(exchange: Exchange) -> None:
        await exchange.read()
        await exchange.answer(b'{"error":{"message":"' + b"x" * 100_000 + b'"}}', 401)

    raw_server.handle = handle
    limits = Limits(image_answer_bytes=10_000)
    async with AsyncApimart(KEY, base_url=raw_server.base_url, limits=limits) as client:
        with pytest.raises(AuthenticationError):
            await client.edits.create("https://p.example/a.png", "stars")


@given(st.data(), st.binary(max_size=3000), st.sampled_from(sorted(SPELLINGS)))
def test_content_comes_out_whole_in_whatever_pieces_it_arrives(
    data: st.DataObject, content: bytes, spelling: str
) -> None:
    coding, compress = SPELLINGS[spelling]
    content = b'{"' + content
    packed = compress(content)
    decompressor = compression.Decompressor(coding or "", 10_000)
    made = b""
    while packed:
        size = data.draw(st.integers(1, len(packed)))
        made += decompressor.decode(packed[:size])
        packed = packed[size:]
    assert made + decompressor.finish() == content


@given(st.binary(max_size=300), st.sampled_from(["gzip", "deflate", "br", ""]))
def test_any_bytes_are_decompressed_or_refused(data: bytes, coding: str) -> None:
    for packed in (data, b"\x1f\x8b\x08" + data, gzip.compress(data)[:-3] + data):
        try:
            compression.decompress(packed, coding, 1000)
        except ValueError:
            continue


ENDLESS = {
    "empty members": (gzip.compress(b""), gzip.compress(b"") * 1000, Timeout(), "100000 compressed parts"),
    "a name": (b"\x1f\x8b\x08\x08" + bytes(6), b"a" * 20_000, Timeout(total=0.5), "Timed out"),
}


@pytest.mark.parametrize(("head", "rest", "timeout", "reason"), ENDLESS.values(), ids=ENDLESS)
async def test_a_compressed_file_without_content_and_end_is_given_up(
    raw_server: RawServer, head: bytes, rest: bytes, timeout: Timeout, reason: str
) -> None:
    async def handle(exchange: Exchange) -> None:
        await exchange.read()
        exchange.writer.write(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n" + head)
        while True:
            exchange.writer.write(rest)
            await exchange.writer.drain()
            await asyncio.sleep(0)

    raw_server.handle = handle
    async with AsyncApimart(
        "sk-test", base_url=raw_server.base_url, max_retries=0, timeout=timeout
    ) as client:
        with pytest.raises(DownloadError, match=reason):
            await client.images.read(f"{raw_server.base_url}/a.png")
