"""Requests written straight onto a connection: the same to the byte, and nothing lost or sent twice."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp
import pytest

from apimart_async import (
    APIConnectionError,
    AsyncApimart,
    DownloadError,
    ImageError,
    InvalidArgumentError,
    Limits,
    PayloadTooLargeError,
    SubmissionIndeterminateError,
    Timeout,
)
from apimart_async.transport.headers import Headers
from apimart_async.transport.session.direct import IS_KNOWN, plain_address

if TYPE_CHECKING:
    from .conftest import Exchange, RawServer, Seen

KEY = "sk-test"
PROMPT = "Change the background to a starry sky"
GIF = bytes.fromhex("47494638396101000100800000ffffff0000002c00000000010001000002024401003b")
TASK = b'{"code":200,"data":{"id":"task_1","status":"processing"}}'
SUBMITTED = b'{"code":200,"data":[{"status":"submitted","task_id":"task_1"}]}'
UPLOADED = b'{"url":"https://u.example/1.gif","filename":"a.gif","content_type":"image/gif","bytes":35}'
straight = pytest.mark.skipif(not IS_KNOWN, reason="with this aiohttp all goes through its sessions")
LARGE = GIF[:-1] + bytes(8_000_000) + GIF[-1:]


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://a.example/b?c=%20d&e=f,g", ("https://a.example", "a.example", "/b?c=%20d&e=f,g")),
        ("http://127.0.0.1:8080/", ("http://127.0.0.1:8080", "127.0.0.1", "/")),
        ("https://[2606:4700::1]:8443/a", ("https://[2606:4700::1]:8443", "2606:4700::1", "/a")),
        ("https://a.example", None),
        ("https://a.example?b", None),
        ("https://A.example/b", None),
        ("https://user:secret@a.example/b", None),
        ("https://a.example/b/../c", None),
        ("https://a.example/b#c", None),
        ("https://a.example/b c", None),
        ("https://a.example/b\r\nX: y", None),
        ("https://a.example/ü", None),
        ("https://ü.example/b", None),
        ("ftp://a.example/b", None),
        ("//a.example/b", None),
        ("http://a.example:99999/b", None),
    ],
)
def test_only_an_address_that_goes_as_it_is_written_is_plain(
    url: str, expected: tuple[str, ...] | None
) -> None:
    assert plain_address(url) == expected


def test_headers_are_written_once_and_the_last_of_a_name_counts() -> None:
    headers = Headers({"Accept": "a", "User-Agent": "b"}, {"user-agent": "c"})
    assert headers.lines("h", None) == "Host: h\r\nAccept: a\r\nuser-agent: c\r\n"
    assert headers.lines("h", {"X-Y": "d"}) == "Host: h\r\nAccept: a\r\nuser-agent: c\r\nX-Y: d\r\n"
    assert headers.lines("h", {"ACCEPT": "d"}) == "Host: h\r\nACCEPT: d\r\nuser-agent: c\r\n"
    assert headers.lines("h", {"host": "d"}) == "host: d\r\nAccept: a\r\nuser-agent: c\r\n"
    assert Headers({"Host": "a"}).lines("h", {"X": "b"}) == "Host: a\r\nX: b\r\n"
    assert headers.joined({"ACCEPT": "d"}) == {"ACCEPT": "d", "user-agent": "c"}


async def test_it_sends_what_a_session_of_aiohttp_sends(raw_server: RawServer) -> None:
    async def handle(exchange: Exchange) -> None:
        seen = await exchange.read()
        answers = {"/v1/uploads/images": UPLOADED, "/v1/images/edits": SUBMITTED, "/a.gif?b=%20c": GIF}
        await exchange.answer(answers.get(seen.path, TASK))

    raw_server.handle = handle

    async def work(session: aiohttp.ClientSession | None) -> list[Seen]:
        raw_server.seen.clear()
        async with AsyncApimart(
            KEY,
            base_url=raw_server.base_url,
            default_headers={"user-agent": "mine", "X-Team": "a"},
            session=session,
        ) as client:
            uploaded = await client.uploads.create(GIF)
            changed = {"x-team": "b", "X-Note": "für euch"}
            await client.edits.create(uploaded, PROMPT, idempotency_key="k-1", extra_headers=changed)
            await client.tasks.get("task_1")
            assert await client.images.read(f"{raw_server.base_url}/a.gif?b=%20c") == GIF
        for seen in raw_server.seen:
            _, _, boundary = seen.headers.get("content-type", "").partition("boundary=")
            if boundary:
                seen.body = seen.body.replace(boundary.encode(), b"---")
                seen.headers["content-type"] = "multipart/form-data"
        return list(raw_server.seen)

    direct = await work(None)
    async with aiohttp.ClientSession() as session:
        assert direct == await work(session)
    assert direct[1].headers["x-team"] == "b"
    assert direct[1].headers["user-agent"] == "mine"
    assert direct[1].headers["x-note"].encode("latin-1").decode() == "für euch"
    assert json.loads(direct[1].body)["prompt"] == PROMPT
    assert "authorization" not in direct[3].headers


@pytest.mark.parametrize("path", ["/ü.gif", "/a/../b.gif", "/a.gif#part"])
async def test_an_address_that_is_not_plain_is_fetched_all_the_same(raw_server: RawServer, path: str) -> None:
    async def handle(exchange: Exchange) -> None:
        await exchange.read()
        await exchange.answer(GIF)

    raw_server.handle = handle
    async with AsyncApimart(KEY, base_url=raw_server.base_url) as client:
        assert await client.images.read(raw_server.base_url + path) == GIF
    assert raw_server.seen[0].path in {"/%C3%BC.gif", "/b.gif", "/a.gif"}


@straight
async def test_what_came_unasked_is_not_taken_for_an_answer(raw_server: RawServer) -> None:
    """A server that gives up an idle connection may say so, and the next request must not believe it."""
    taken, farewells = asyncio.Semaphore(0), asyncio.Semaphore(0)

    async def farewell() -> None:
        taken.release()
        await farewells.acquire()
        await asyncio.sleep(0.05)  # until it has arrived, which nothing tells

    async def handle(exchange: Exchange) -> None:
        seen = await exchange.read()
        await exchange.answer(SUBMITTED if seen.method == "POST" else TASK)
        if len(raw_server.seen) < 3:
            await taken.acquire()
            await exchange.answer(b'{"data":[{"task_id":"task_of_somebody_else"}]}')
            farewells.release()

    raw_server.handle = handle
    async with AsyncApimart(KEY, base_url=raw_server.base_url) as client:
        await client.tasks.get("task_1")
        await farewell()
        task = await client.edits.create("https://p.example/a.png", PROMPT)
        assert task.id == "task_1"
        await farewell()
        assert (await client.tasks.get("task_1")).id == "task_1"
    assert [seen.method for seen in raw_server.seen] == ["GET", "POST", "GET"]
    assert raw_server.connections == 3


async def test_a_look_on_a_connection_that_was_closed_is_sent_anew_at_once(raw_server: RawServer) -> None:
    async def handle(exchange: Exchange) -> None:
        await exchange.read()
        if exchange.number == 2:
            exchange.drop()
        else:
            await exchange.answer(TASK)

    raw_server.handle = handle
    async with AsyncApimart(KEY, base_url=raw_server.base_url, max_retries=0) as client:
        for _ in range(2):
            assert (await client.tasks.get("task_1")).status == "processing"
    assert (len(raw_server.seen), raw_server.connections) == (3, 2)


async def test_a_server_that_always_hangs_up_is_asked_twice_and_no_more(raw_server: RawServer) -> None:
    async def handle(exchange: Exchange) -> None:
        await exchange.read()
        exchange.drop()

    raw_server.handle = handle
    async with AsyncApimart(KEY, base_url=raw_server.base_url, max_retries=0) as client:
        with pytest.raises(APIConnectionError):
            await client.tasks.get("task_1")
    assert len(raw_server.seen) == 2


async def test_an_interim_answer_is_passed_over(raw_server: RawServer) -> None:
    async def handle(exchange: Exchange) -> None:
        await exchange.read()
        exchange.writer.write(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")
        await exchange.answer(TASK)

    raw_server.handle = handle
    async with AsyncApimart(KEY, base_url=raw_server.base_url) as client:
        assert (await client.tasks.get("task_1")).status == "processing"


@straight
async def test_what_is_not_http_is_a_failed_connection(raw_server: RawServer) -> None:
    async def handle(exchange: Exchange) -> None:
        await exchange.read()
        exchange.writer.write(b"SSH-2.0-OpenSSH_9.6\r\n\r\n")

    raw_server.handle = handle
    async with AsyncApimart(KEY, base_url=raw_server.base_url, max_retries=0) as client:
        with pytest.raises(APIConnectionError, match="not HTTP"):
            await client.tasks.get("task_1")
        with pytest.raises(SubmissionIndeterminateError):
            await client.edits.create("https://p.example/a.png", PROMPT)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:99999/a.png", "http://[::::]/a.png", "http://127.0.0.1..x/a"]
)
async def test_an_address_that_leads_nowhere_is_an_error_of_the_download(
    raw_server: RawServer, url: str
) -> None:
    async def handle(exchange: Exchange) -> None:
        await exchange.read()
        await exchange.answer(b"", 302, {"Location": url})

    raw_server.handle = handle
    async with AsyncApimart(KEY, base_url=raw_server.base_url, max_retries=0) as client:
        for address in (url, f"{raw_server.base_url}/a.png"):
            with pytest.raises(DownloadError):
                await client.images.read(address)


async def test_a_header_that_replaces_the_key_replaces_it_whatever_its_case(raw_server: RawServer) -> None:
    heads: list[str] = []

    async def handle(exchange: Exchange) -> None:
        heads.append((await exchange.reader.readuntil(b"\r\n\r\n")).decode().lower())
        await exchange.answer(SUBMITTED)
        exchange.writer.close()

    raw_server.handle = handle
    for key in (KEY, lambda: KEY):
        async with AsyncApimart(key, base_url=raw_server.base_url) as client:
            await client.edits.create(
                "https://p.example/a.png", PROMPT, extra_headers={"authorization": "Bearer other"}
            )
    assert len(heads) == 2
    for head in heads:
        assert head.count("\r\nauthorization:") == head.count("bearer other") == 1


@pytest.mark.parametrize("value", ["a\r\nb", "a\x0bb", "a\x7f", "\ud800"])
async def test_a_header_that_no_line_can_carry_is_refused(raw_server: RawServer, value: str) -> None:
    async with AsyncApimart(KEY, base_url=raw_server.base_url) as client:
        with pytest.raises(InvalidArgumentError, match="X-Note"):
            await client.edits.create("https://p.example/a.png", PROMPT, extra_headers={"X-Note": value})
    assert not raw_server.connections


# --- bodies that are longer than the line -----------------------------------------------------------------


async def read_head(exchange: Exchange) -> int:
    """Read no more than a head; return how long the body is said to be."""
    head = (await exchange.reader.readuntil(b"\r\n\r\n")).decode()
    (length,) = (line[16:] for line in head.split("\r\n") if line.lower().startswith("content-length: "))
    return int(length)


@pytest.mark.parametrize("inline", [False, True])
async def test_an_error_is_an_answer_also_to_half_a_body(raw_server: RawServer, inline: bool) -> None:  # noqa: FBT001
    ended = asyncio.Event()

    async def handle(exchange: Exchange) -> None:
        await read_head(exchange)
        await exchange.answer(b'{"error":{"message":"file size 8 exceeds maximum 4 bytes"}}', 413)
        await ended.wait()
        exchange.drop()

    raw_server.handle = handle
    async with AsyncApimart(KEY, base_url=raw_server.base_url) as client:
        with pytest.raises(PayloadTooLargeError, match="exceeds"):
            await (
                client.edits.create(LARGE, PROMPT, inline=True) if inline else client.uploads.create(LARGE)
            )
    ended.set()
    assert raw_server.connections == 1


@pytest.mark.parametrize("inline", [False, True])
async def test_a_good_answer_is_believed_before_all_is_sent(raw_server: RawServer, inline: bool) -> None:  # noqa: FBT001
    """What was paid for is not lost because a server does not care for the rest of a body."""
    ended = asyncio.Event()

    async def handle(exchange: Exchange) -> None:
        await read_head(exchange)
        await exchange.answer(SUBMITTED if inline else UPLOADED)
        await ended.wait()
        exchange.drop()

    raw_server.handle = handle
    async with AsyncApimart(KEY, base_url=raw_server.base_url) as client, asyncio.timeout(20):
        if inline:
            assert (await client.edits.create(LARGE, PROMPT, inline=True)).id == "task_1"
        else:
            assert (await client.uploads.create(LARGE)).url == "https://u.example/1.gif"
    ended.set()


@straight
@pytest.mark.parametrize("turns", range(0, 24, 3))
async def test_a_cancellation_while_a_body_is_cut_off_is_not_lost(raw_server: RawServer, turns: int) -> None:
    async def handle(exchange: Exchange) -> None:
        await read_head(exchange)
        error = b'{"error":{"message":"busy"}}'
        await exchange.answer(error, 503, {"Retry-After": "30"})
        await asyncio.sleep(60)

    raw_server.handle = handle
    async with AsyncApimart(KEY, base_url=raw_server.base_url) as client:
        upload = asyncio.create_task(client.uploads.create(LARGE))
        for _ in range(turns):
            await asyncio.sleep(0)
        upload.cancel()
        async with asyncio.timeout(10):
            with pytest.raises(asyncio.CancelledError):
                await upload


@straight
async def test_a_client_can_be_closed_while_nobody_takes_a_body(raw_server: RawServer) -> None:
    begun = asyncio.Event()

    async def handle(exchange: Exchange) -> None:
        await read_head(exchange)
        begun.set()
        await asyncio.sleep(60)

    raw_server.handle = handle
    client = AsyncApimart(KEY, base_url=raw_server.base_url)
    edit = asyncio.create_task(client.edits.create(LARGE, PROMPT, inline=True, idempotency_key="k-1"))
    await begun.wait()
    async with asyncio.timeout(10):
        await client.close()
        with pytest.raises(SubmissionIndeterminateError) as caught:
            await edit
    assert caught.value.idempotency_key == "k-1"


@straight
async def test_a_cut_in_a_kept_pool_costs_no_tries(raw_server: RawServer) -> None:
    """However many kept connections a server has given up, a request that was never sent goes out."""
    taken, said = asyncio.Semaphore(0), asyncio.Semaphore(0)
    together = asyncio.Barrier(5)

    async def handle(exchange: Exchange) -> None:
        seen = await exchange.read()
        if seen.method == "POST":
            await exchange.answer(SUBMITTED)
            return
        await together.wait()
        await exchange.answer(TASK)
        await taken.acquire()
        await exchange.answer(b"{}", 408)
        said.release()

    raw_server.handle = handle
    async with AsyncApimart(KEY, base_url=raw_server.base_url, max_retries=0) as client:
        await asyncio.gather(*(client.tasks.get(f"task_{number}") for number in range(5)))
        for _ in range(5):
            taken.release()
        for _ in range(5):
            await said.acquire()
        await asyncio.sleep(0.05)
        assert (await client.edits.create("https://p.example/a.png", PROMPT)).id == "task_1"
    assert [seen.method for seen in raw_server.seen].count("POST") == 1


@straight
async def test_a_body_that_is_cut_off_leaves_no_file_open(raw_server: RawServer, tmp_path: Path) -> None:
    begun = asyncio.Event()

    async def handle(exchange: Exchange) -> None:
        await read_head(exchange)
        begun.set()
        await asyncio.sleep(60)

    raw_server.handle = handle
    photo = tmp_path / "photo.gif"
    photo.write_bytes(LARGE)
    async with AsyncApimart(KEY, base_url=raw_server.base_url) as client:
        upload = asyncio.create_task(client.uploads.create(photo))
        await begun.wait()
        upload.cancel()
        with pytest.raises(asyncio.CancelledError):
            await upload
        assert not open_files(photo)
        short = client.with_options(timeout=Timeout(total=0.2), max_retries=0)
        with pytest.raises(APIConnectionError, match=r"Timeout\.total"):
            await short.uploads.create(photo)
        assert not open_files(photo)


async def test_many_sent_at_once_to_one_that_is_slow_mix_nothing(
    raw_server: RawServer, tmp_path: Path
) -> None:
    contents = {f"{number}.gif": GIF + bytes([number]) * 14_000_000 for number in range(5)}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)

    async def handle(exchange: Exchange) -> None:
        await asyncio.sleep(0.1)  # until the system's own buffers are full
        seen = await exchange.read()
        name = next(name for name in contents if f'filename="{name}"'.encode() in seen.body)
        framing = seen.body.partition(contents[name])
        assert framing[1] == contents[name]
        assert len(framing[0]) + len(framing[2]) < 500
        await exchange.answer(UPLOADED)

    raw_server.handle = handle
    limits = Limits(uploads=5, requests=5, adaptive=False)
    async with AsyncApimart(KEY, base_url=raw_server.base_url, limits=limits, max_retries=0) as client:
        await asyncio.gather(*(client.uploads.create(tmp_path / name) for name in contents))
        await asyncio.gather(*(client.uploads.create(tmp_path / name) for name in contents))


async def test_a_file_that_changes_while_it_is_sent_is_named(raw_server: RawServer, tmp_path: Path) -> None:
    photo = tmp_path / "photo.gif"
    photo.write_bytes(LARGE)

    async def handle(exchange: Exchange) -> None:
        length = await read_head(exchange)
        photo.write_bytes(GIF)
        await exchange.reader.readexactly(length)

    raw_server.handle = handle
    async with AsyncApimart(KEY, base_url=raw_server.base_url) as client:
        with pytest.raises(ImageError, match=r"photo\.gif has changed"):
            await client.uploads.create(photo)
        assert not open_files(photo)


def open_files(path: Path) -> list[Path]:
    """Find the descriptors this process has of a file, where the system tells."""
    descriptors = Path("/proc/self/fd")
    return [each for each in descriptors.glob("*") if each.exists() and each.resolve() == path]
