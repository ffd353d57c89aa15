"""Cancelled calls and closed clients: they end at once with the right exception, and leave nothing."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from apimart_async import (
    APIConnectionError,
    AsyncApimart,
    DownloadError,
    Image,
    Limits,
    Retry,
    SubmissionIndeterminateError,
    Timeout,
)

from .conftest import arrive, png_of

if TYPE_CHECKING:
    import ssl

    from tests.clock import Clock

    from .conftest import Exchange, RawServer

KEY = "sk-test"
PROMPT = "Change the background to a starry sky"
GIF = bytes.fromhex("47494638396101000100800000ffffff0000002c00000000010001000002024401003b")
LARGE = GIF[:-1] + bytes(8_000_000) + GIF[-1:]
PNG = png_of(bytes(range(256)) * 12_000)
HANG = 600  # seconds: only for a test that hangs

plain_or_secure = pytest.mark.parametrize("is_secure", [False, True], ids=["plain", "tls"])


@pytest.fixture(autouse=True)
async def _no_complaints() -> Any:
    """Let no error be reported to the event loop alone."""
    complaints: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: complaints.append(context))
    yield
    loop.set_exception_handler(None)
    assert not complaints


def open_files(path: Path) -> list[Path]:
    """Find the descriptors this process has of a file, where the system tells."""
    descriptors = Path("/proc/self/fd")
    return [each for each in descriptors.glob("*") if each.exists() and each.resolve() == path]


def assert_idle(client: AsyncApimart) -> None:
    """Check that no request of the client holds a place."""
    session = client._session
    assert not session._deadlines
    assert session._connections.in_use == 0
    assert all(pool.users == 0 for pool in [*session._pools.values(), *session._retired])


def held(raw_server: RawServer, sent: bytes = b"") -> asyncio.Event:
    """Make the server send so much of an answer and then nothing; return the event of that."""
    begun = asyncio.Event()

    async def handle(exchange: Exchange) -> None:
        await exchange.reader.readuntil(b"\r\n\r\n")
        exchange.writer.write(sent)
        await exchange.writer.drain()
        begun.set()
        await asyncio.sleep(HANG)

    raw_server.handle = handle
    return begun


HALVES = [
    pytest.param(b"", id="no answer"),
    pytest.param(b"HTTP/1.1 200 OK\r\nContent-", id="half a head"),
    pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n\x89PNG", id="half a body"),
    pytest.param(
        b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(PNG), PNG[:600_000]), id="a large half"
    ),
]


@pytest.mark.parametrize("sent", HALVES)
@plain_or_secure
@pytest.mark.parametrize("end", ["closed", "cancelled", "late"])
async def test_a_download_ends_promptly_at_any_point_and_leaves_nothing(
    raw_server: RawServer,
    secure_server: tuple[str, ssl.SSLContext],
    tmp_path: Path,
    clock: Clock,
    *,
    sent: bytes,
    is_secure: bool,
    end: str,
) -> None:
    begun = held(raw_server, sent)
    base_url, trusting = secure_server if is_secure else (raw_server.base_url, None)
    client = AsyncApimart(KEY, base_url=base_url, timeout=Timeout(read=HANG), max_retries=0, ssl=trusting)
    saving = asyncio.create_task(client.images.save(Image(f"{base_url}/a.png", task_id="t"), tmp_path))
    await begun.wait()
    await arrive()
    if end == "cancelled":
        saving.cancel()
    elif end == "closed":
        await client.close()
    else:
        clock.advance(2 * HANG)
    with pytest.raises(asyncio.CancelledError if end == "cancelled" else DownloadError) as caught:
        await saving
    if end == "closed":
        assert "the client was closed" in str(caught.value)
    assert_idle(client)
    assert not list(tmp_path.iterdir())
    await client.close()


@pytest.mark.parametrize("sent", HALVES[:3])
@plain_or_secure
@pytest.mark.parametrize("end", ["closed", "cancelled"])
async def test_a_paid_request_ends_promptly_at_any_point_and_says_its_key(
    raw_server: RawServer,
    secure_server: tuple[str, ssl.SSLContext],
    *,
    sent: bytes,
    is_secure: bool,
    end: str,
) -> None:
    begun = held(raw_server, sent)
    base_url, trusting = secure_server if is_secure else (raw_server.base_url, None)
    client = AsyncApimart(KEY, base_url=base_url, ssl=trusting)
    edit = asyncio.create_task(client.edits.create("https://p.example/a", PROMPT, idempotency_key="k-1"))
    await begun.wait()
    await arrive()
    if end == "cancelled":
        edit.cancel()
        with pytest.raises(asyncio.CancelledError) as cancelled:
            await edit
        assert "k-1" in "".join(cancelled.value.__notes__)
    else:
        await client.close()
        with pytest.raises(SubmissionIndeterminateError, match="the client was closed") as unknown:
            await edit
        assert unknown.value.idempotency_key == "k-1"
    assert_idle(client)
    await client.close()


@pytest.mark.parametrize("inline", [False, True], ids=["upload", "inline"])
@plain_or_secure
async def test_a_client_can_be_closed_while_the_server_reads_no_body(
    raw_server: RawServer, secure_server: tuple[str, ssl.SSLContext], *, inline: bool, is_secure: bool
) -> None:
    begun = held(raw_server)
    base_url, trusting = secure_server if is_secure else (raw_server.base_url, None)
    client = AsyncApimart(KEY, base_url=base_url, ssl=trusting)
    call = asyncio.create_task(
        client.edits.create(LARGE, PROMPT, inline=True, idempotency_key="k-1")
        if inline
        else client.uploads.create(LARGE)
    )
    await begun.wait()
    await client.close()
    with pytest.raises(SubmissionIndeterminateError if inline else APIConnectionError, match="was closed"):
        await call
    assert_idle(client)


async def test_nothing_is_sent_again_once_the_client_is_closed(raw_server: RawServer) -> None:
    begun = held(raw_server)
    client = AsyncApimart(KEY, base_url=raw_server.base_url, max_retries=5)
    polling = asyncio.create_task(client.tasks.get("task_1"))
    await begun.wait()
    await client.close()
    with pytest.raises(APIConnectionError, match="was closed"):
        await polling
    with pytest.raises(RuntimeError, match="This client is closed"):
        await client.tasks.get("task_1")
    assert raw_server.exchanges == 1


async def test_requests_that_begin_while_a_client_is_closed_hold_up_nothing_and_are_not_sent(
    raw_server: RawServer,
) -> None:
    begun = held(raw_server)
    client = AsyncApimart(KEY, base_url=raw_server.base_url, check="off")

    async def edit_twice() -> None:
        with pytest.raises(SubmissionIndeterminateError, match="was closed"):
            await client.edits.create("https://p.example/a", PROMPT)
        await client.edits.create("https://p.example/b", PROMPT)

    # One of them goes on while the request of the other is still ending.
    calls = [asyncio.create_task(edit_twice()) for _ in range(2)]
    await begun.wait()
    await arrive()
    exchanges = raw_server.exchanges
    async with asyncio.timeout(120):
        await client.close()
        ends = await asyncio.gather(*calls, return_exceptions=True)
    assert [str(end) for end in ends] == ["This client is closed; make a new one."] * 2
    assert raw_server.exchanges == exchanges == 2
    assert_idle(client)


async def test_calls_that_wait_for_an_attempt_end_with_the_client(
    raw_server: RawServer, tmp_path: Path
) -> None:
    async def handle(exchange: Exchange) -> None:
        await exchange.read()
        await exchange.answer(b'{"error":{"message":"busy"}}', 503, {"Retry-After": "50"})

    raw_server.handle = handle
    retry = Retry(initial_delay=HANG, max_delay=HANG)
    client = AsyncApimart(KEY, base_url=raw_server.base_url, limits=Limits(adaptive=False), retry=retry)
    calls = [
        asyncio.create_task(call)
        for call in (
            client.account.balance(),
            client.images.save(Image(f"{raw_server.base_url}/a.png", task_id="t"), tmp_path),
        )
    ]
    while len(raw_server.seen) < len(calls):  # noqa: ASYNC110 the server tells nobody
        await asyncio.sleep(0.01)
    await arrive()
    # The Retry-After of the balance pauses all requests.
    calls.append(asyncio.create_task(client.edits.create("https://p.example/a", PROMPT)))
    await arrive()
    await client.close()
    async with asyncio.timeout(120):
        ends = await asyncio.gather(*calls, return_exceptions=True)
    assert [str(end) for end in ends] == ["This client is closed; make a new one."] * 3
    assert len(raw_server.seen) == 2
    assert_idle(client)


async def test_a_stream_is_an_error_at_its_next_piece_once_the_client_is_closed(
    raw_server: RawServer,
) -> None:
    held(raw_server, b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(PNG), PNG[:600_000]))
    client = AsyncApimart(KEY, base_url=raw_server.base_url)

    async def read_on() -> None:
        async with client.images.stream(f"{raw_server.base_url}/a.png") as pieces:
            await anext(pieces)
            await client.close()
            async for _ in pieces:
                pass

    with pytest.raises(DownloadError):
        await read_on()
    assert_idle(client)


@pytest.mark.parametrize("rounds", range(0, 24, 3))
async def test_a_cancellation_while_a_body_is_cut_off_is_not_lost(raw_server: RawServer, rounds: int) -> None:
    async def handle(exchange: Exchange) -> None:
        await exchange.read_head()
        await exchange.answer(b'{"error":{"message":"busy"}}', 503, {"Retry-After": "30"})
        await asyncio.sleep(HANG)

    raw_server.handle = handle
    async with AsyncApimart(KEY, base_url=raw_server.base_url) as client:
        upload = asyncio.create_task(client.uploads.create(LARGE))
        for _ in range(rounds):
            await asyncio.sleep(0)
        upload.cancel()
        with pytest.raises(asyncio.CancelledError):
            await upload
        assert_idle(client)


async def test_a_body_that_is_cut_off_leaves_no_file_open(
    raw_server: RawServer, tmp_path: Path, clock: Clock
) -> None:
    begun = held(raw_server)
    photo = tmp_path / "photo.gif"
    photo.write_bytes(LARGE)
    async with AsyncApimart(KEY, base_url=raw_server.base_url, timeout=1e6) as client:
        upload = asyncio.create_task(client.uploads.create(photo))
        await begun.wait()
        upload.cancel()
        with pytest.raises(asyncio.CancelledError):
            await upload
        await arrive()
        assert not open_files(photo)
        begun.clear()
        short = client.with_options(timeout=Timeout(total=1000), max_retries=0)
        upload = asyncio.create_task(short.uploads.create(photo))
        await begun.wait()
        clock.advance(2000)
        with pytest.raises(APIConnectionError, match=r"Timeout\.total"):
            await upload
        await arrive()
        assert not open_files(photo)


async def test_a_cancelled_download_closes_its_connection(raw_server: RawServer, tmp_path: Path) -> None:
    under_way, ended = asyncio.Event(), asyncio.Event()

    async def handle(exchange: Exchange) -> None:
        await exchange.read()
        await exchange.answer(PNG[:600_000], length=len(PNG))
        under_way.set()
        await exchange.reader.read()
        ended.set()

    raw_server.handle = handle
    async with AsyncApimart(KEY, base_url=raw_server.base_url) as client:
        image = Image(f"{raw_server.base_url}/a.png", task_id="t")
        save = asyncio.create_task(client.images.save(image, tmp_path))
        await under_way.wait()
        await arrive()
        save.cancel()
        with pytest.raises(asyncio.CancelledError):
            await save
        await ended.wait()
    assert not list(tmp_path.iterdir())
