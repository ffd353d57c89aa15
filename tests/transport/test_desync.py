"""The answer to another request is never taken for ours, whatever a server or a proxy does."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from apimart_async import (
    APIConnectionError,
    AsyncApimart,
    Image,
    Poll,
    Retry,
    SubmissionIndeterminateError,
    Timeout,
)
from apimart_async.transport.session import PAID_KEEPALIVE

from .conftest import arrive, png_of

if TYPE_CHECKING:
    import ssl
    from pathlib import Path

    from tests.clock import Clock

    from .conftest import Exchange, RawServer

KEY = "sk-test"
PROMPT = "Change the background to a starry sky"
PICTURE = "https://p.example/a.png"
GIF = bytes.fromhex("47494638396101000100800000ffffff0000002c00000000010001000002024401003b")
SUBMITTED = b'{"code":200,"data":[{"status":"submitted","task_id":"task_1"}]}'
ANOTHERS_SUBMIT = b'{"data":[{"task_id":"task_of_somebody_else"}]}'
PNG = png_of(bytes(range(256)) * 300)
QUICK = Retry(initial_delay=0.001, max_delay=0.002)


def running(task_id: str) -> bytes:
    return b'{"code":200,"data":{"id":"%s","status":"processing"}}' % task_id.encode()


def uploaded(size: int = len(GIF), filename: str = "image.gif") -> bytes:
    answer: dict[str, Any] = {"url": "https://u.example/1.gif", "content_type": "image/gif"}
    return json.dumps(answer | {"filename": filename, "bytes": size}).encode()


def connect(raw_server: RawServer, **options: Any) -> AsyncApimart:
    settings: dict[str, Any] = {"base_url": raw_server.base_url, "retry": QUICK}
    return AsyncApimart(KEY, **(settings | options))


# --- bytes that arrive while a connection is idle ---------------------------------------------------------


@pytest.mark.parametrize("is_secure", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("extra", [ANOTHERS_SUBMIT, running("task_2"), b"{}"])
@pytest.mark.parametrize("status", [200, 408])
async def test_an_answer_that_came_before_its_request_is_not_believed(
    raw_server: RawServer,
    secure_server: tuple[str, ssl.SSLContext],
    *,
    extra: bytes,
    status: int,
    is_secure: bool,
) -> None:
    """A server that gives up an idle connection may say so, which answers no request."""

    async def handle(exchange: Exchange) -> None:
        seen = await exchange.read()
        if seen.method == "GET":
            await exchange.answer(running("task_1"))
        else:
            await exchange.answer(uploaded() if "uploads" in seen.path else SUBMITTED)
        await arrive()
        await exchange.answer(extra, status)

    raw_server.handle = handle
    base_url, trusting = secure_server if is_secure else (raw_server.base_url, None)
    async with connect(raw_server, base_url=base_url, ssl=trusting, max_retries=0) as client:
        for _ in range(3):
            assert (await client.tasks.get("task_1")).id == "task_1"
            await arrive()
            assert (await client.edits.create(PICTURE, PROMPT)).id == "task_1"
            await arrive()
            assert (await client.uploads.create(GIF)).url == "https://u.example/1.gif"
            await arrive()
    sent = [seen.method for seen in raw_server.seen]
    assert sent.count("POST") == 6


async def test_a_connection_that_was_spoken_on_costs_no_attempt_however_many_there_are(
    raw_server: RawServer,
) -> None:
    said = asyncio.Semaphore(0)
    together, silence = asyncio.Barrier(5), asyncio.Event()

    async def handle(exchange: Exchange) -> None:
        seen = await exchange.read()
        if exchange.number > 5:
            await exchange.answer(SUBMITTED if seen.method == "POST" else running("task_1"))
            return
        await together.wait()
        await exchange.answer(running(seen.path.rpartition("/")[2].partition("?")[0]))
        await silence.wait()
        await exchange.answer(b"{}", 408)
        said.release()

    raw_server.handle = handle
    async with connect(raw_server, max_retries=0) as client:
        await asyncio.gather(*(client.tasks.get(f"task_{number}") for number in range(5)))
        silence.set()
        for _ in range(5):
            await said.acquire()
        await arrive()
        assert (await client.tasks.get("task_1")).status == "processing"
        assert (await client.edits.create(PICTURE, PROMPT)).id == "task_1"
    assert [seen.method for seen in raw_server.seen].count("POST") == 1


@pytest.mark.parametrize("is_secure", [False, True], ids=["plain", "tls"])
async def test_bytes_that_follow_an_image_are_not_the_next_answer(
    raw_server: RawServer, secure_server: tuple[str, ssl.SSLContext], tmp_path: Path, *, is_secure: bool
) -> None:
    async def handle(exchange: Exchange) -> None:
        seen = await exchange.read()
        if "tasks" in seen.path:
            await exchange.answer(running("task_1"))
            return
        other = running("task_1").replace(b"processing", b"failed")
        extra = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(other), other)
        await exchange.answer(PNG + extra, length=len(PNG))

    raw_server.handle = handle
    base_url, trusting = secure_server if is_secure else (raw_server.base_url, None)
    async with connect(raw_server, base_url=base_url, ssl=trusting) as client:
        for number in range(20):
            image = Image(f"{base_url}/a.png", task_id=f"t{number}")
            (path,) = await client.images.save(image, tmp_path)
            assert (await client.tasks.get("task_1")).status == "processing"
            assert path.read_bytes() == PNG


async def test_requests_under_way_survive_that_their_connections_are_given_up(raw_server: RawServer) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def handle(exchange: Exchange) -> None:
        seen = await exchange.read()
        if "slow" in seen.path:
            begun.set()
            await go_on.wait()
            await exchange.answer(running("slow"))
            return
        await exchange.answer(running("task_1"))
        await arrive()
        await exchange.answer(running("task_2"))

    raw_server.handle = handle
    async with connect(raw_server, max_retries=0) as client:
        slow = asyncio.create_task(client.tasks.get("slow"))
        await begun.wait()
        for _ in range(5):
            assert (await client.tasks.get("task_1")).id == "task_1"
            await arrive()
        go_on.set()
        assert (await slow).id == "slow"
    assert not client._session._pools
    assert not client._session._retired


async def test_a_session_of_the_callers_is_asked_anew_too(raw_server: RawServer) -> None:
    async def handle(exchange: Exchange) -> None:
        seen = await exchange.read()
        await exchange.answer(SUBMITTED if seen.method == "POST" else running("task_1"))
        if exchange.number == 1:
            await arrive()
            await exchange.answer(ANOTHERS_SUBMIT)

    raw_server.handle = handle
    async with aiohttp.ClientSession() as session:
        async with connect(raw_server, session=session, max_retries=0) as client:
            await client.tasks.get("task_1")
            await arrive()
            assert (await client.edits.create(PICTURE, PROMPT)).id == "task_1"
        assert not session.closed
    assert [seen.method for seen in raw_server.seen] == ["GET", "POST"]


# --- answers to other requests ----------------------------------------------------------------------------


async def test_a_poll_answered_with_another_task_is_sent_anew_on_a_new_connection(
    raw_server: RawServer,
) -> None:
    async def handle(exchange: Exchange) -> None:
        await exchange.read()
        await exchange.answer(running("task_2" if exchange.number == 1 else "task_1"))

    raw_server.handle = handle
    async with connect(raw_server) as client:
        assert (await client.tasks.get("task_1")).id == "task_1"
    assert (len(raw_server.seen), raw_server.connections) == (2, 2)


async def test_a_poll_that_is_always_answered_with_another_task_is_a_failed_connection(
    raw_server: RawServer,
) -> None:
    async def handle(exchange: Exchange) -> None:
        await exchange.read()
        await exchange.answer(running("task_2"))

    raw_server.handle = handle
    async with connect(raw_server, max_retries=1) as client:
        with pytest.raises(APIConnectionError, match="another request") as caught:
            await client.tasks.get("task_1")
    assert caught.value.task_id == "task_1"
    assert (len(raw_server.seen), raw_server.connections) == (2, 2)


async def test_a_batch_poll_answered_with_other_tasks_is_sent_anew(raw_server: RawServer) -> None:
    asked: list[list[str]] = []

    async def handle(exchange: Exchange) -> None:
        seen = await exchange.read()
        if seen.method == "GET":
            await exchange.answer(b"{}", 503)
            return
        ids = json.loads(seen.body)["task_ids"]
        asked.append(ids)
        named = [*ids, "task_of_somebody_else"] if len(asked) == 1 else ids
        result = {"images": [{"url": "https://u.example/1.png"}]}
        tasks = [{"id": name, "status": "completed", "result": result} for name in named]
        await exchange.answer(json.dumps({"data": tasks}).encode())

    raw_server.handle = handle
    poll = Poll(first=0.01, shortest=0.01)
    async with (
        connect(raw_server, poll=poll) as client,
        client.tasks.watch(["task_1", "task_2"]) as finished,
    ):
        assert sorted([str(task.id) async for task in finished]) == ["task_1", "task_2"]
    assert len(asked) == 2
    assert asked[0] == asked[1]
    assert raw_server.connections == 2


@pytest.mark.parametrize(
    "other", [uploaded(36), uploaded(1), b'{"data":%s}' % uploaded(36)], ids=["larger", "smaller", "nested"]
)
async def test_an_upload_answered_with_another_size_is_sent_anew(raw_server: RawServer, other: bytes) -> None:
    async def handle(exchange: Exchange) -> None:
        await exchange.read()
        await exchange.answer(other.replace(b"/1.gif", b"/2.gif") if exchange.number == 1 else uploaded())

    raw_server.handle = handle
    async with connect(raw_server) as client:
        assert (await client.uploads.create(GIF)).url == "https://u.example/1.gif"
    assert (len(raw_server.seen), raw_server.connections) == (2, 2)


async def test_an_upload_answered_with_the_name_of_another_upload_is_sent_anew(
    raw_server: RawServer,
) -> None:
    names = ["one.gif", "one.gif", "two.gif"]

    async def handle(exchange: Exchange) -> None:
        await exchange.read()
        await exchange.answer(uploaded(filename=names[len(raw_server.seen) - 1]))

    raw_server.handle = handle
    async with connect(raw_server) as client:
        await client.uploads.create(GIF, filename="one.gif")
        assert (await client.uploads.create(GIF, filename="two.gif")).filename == "two.gif"
    assert len(raw_server.seen) == 3


async def test_an_upload_may_be_stored_under_a_new_name(raw_server: RawServer) -> None:
    async def handle(exchange: Exchange) -> None:
        await exchange.read()
        await exchange.answer(uploaded(filename="01J9.gif"))

    raw_server.handle = handle
    async with connect(raw_server) as client:
        for _ in range(2):
            assert (await client.uploads.create(GIF)).filename == "01J9.gif"
    assert len(raw_server.seen) == 2


# --- connections that a server has closed -----------------------------------------------------------------


async def test_a_read_on_a_connection_that_was_closed_is_sent_anew_at_once(raw_server: RawServer) -> None:
    async def handle(exchange: Exchange) -> None:
        await exchange.read()
        if exchange.number == 2:
            exchange.drop()
        else:
            await exchange.answer(running("task_1"))

    raw_server.handle = handle
    async with connect(raw_server, max_retries=0) as client:
        for _ in range(2):
            assert (await client.tasks.get("task_1")).status == "processing"
    assert (len(raw_server.seen), raw_server.connections) == (3, 2)


async def test_a_server_that_always_hangs_up_is_asked_twice_and_no_more(raw_server: RawServer) -> None:
    async def handle(exchange: Exchange) -> None:
        await exchange.read()
        exchange.drop()

    raw_server.handle = handle
    async with connect(raw_server, max_retries=0) as client:
        with pytest.raises(APIConnectionError):
            await client.tasks.get("task_1")
    assert len(raw_server.seen) == 2


async def test_paid_requests_never_use_connections_of_others_or_old_ones(
    raw_server: RawServer, clock: Clock
) -> None:
    numbers: list[int] = []

    async def handle(exchange: Exchange) -> None:
        seen = await exchange.read()
        if seen.method == "POST":
            numbers.append(raw_server.connections)
        await exchange.answer(SUBMITTED if seen.method == "POST" else running("task_1"))

    raw_server.handle = handle
    async with connect(raw_server, timeout=Timeout(total=1e6, read=1e6)) as client:
        await client.tasks.get("task_1")
        for seconds in (0.0, PAID_KEEPALIVE / 2, PAID_KEEPALIVE * 2):
            clock.advance(seconds)
            await client.edits.create(PICTURE, PROMPT)
    assert numbers == [2, 2, 3]


async def test_an_answer_that_is_not_http_is_a_failed_connection(raw_server: RawServer) -> None:
    async def handle(exchange: Exchange) -> None:
        await exchange.read()
        exchange.writer.write(b"SSH-2.0-OpenSSH_9.6\r\n\r\n")

    raw_server.handle = handle
    async with connect(raw_server, max_retries=0) as client:
        with pytest.raises(APIConnectionError, match="not HTTP"):
            await client.tasks.get("task_1")
        with pytest.raises(SubmissionIndeterminateError):
            await client.edits.create(PICTURE, PROMPT)
