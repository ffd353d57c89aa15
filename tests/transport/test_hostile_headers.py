"""Unusual headers and settings, over raw sockets: no answer is lost, and nothing blocks."""

from __future__ import annotations

import math
import ssl
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from apimart_async import (
    APIStatusError,
    AsyncApimart,
    AsyncAppleRouter,
    DownloadError,
    InvalidArgumentError,
    Limits,
    Poll,
    SubmissionIndeterminateError,
    TaskTimeoutError,
    Timeout,
    record_responses,
)

from .conftest import png_of
from .test_event_stream import COMPLETED

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from yarl import URL

    from .conftest import Exchange, RawServer

KEY = "sk-very-secret-0123456789"
PICTURE = "https://pictures.example/photo.jpg"
ACCEPTED = b'{"code":200,"data":[{"status":"submitted","task_id":"task_01J"}]}'


def answering(server: RawServer, body: bytes, head: str = "Server: raw", status: int = 200) -> None:
    async def handle(exchange: Exchange) -> None:
        await exchange.read()
        lines = f"HTTP/1.1 {status} Said\r\nContent-Length: {len(body)}\r\n{head}\r\n\r\n"
        exchange.writer.write(lines.encode("latin-1") + body)
        await exchange.writer.drain()

    server.handle = handle


@pytest.mark.parametrize("repeated", [";", ";a=b"])
async def test_very_many_parameters_of_a_content_type_do_not_stop_a_stream(
    raw_server: RawServer, repeated: str
) -> None:
    kind = "text/event-stream" + repeated * (120_000 // len(repeated))
    answering(raw_server, f"data: {COMPLETED}\n\n".encode(), f"Content-Type: {kind}")
    async with (
        AsyncAppleRouter(KEY, base_url=raw_server.base_url) as client,
        client.generations.stream("stars", model="another") as events,
    ):
        assert [event.type async for event in events] == ["image_generation.completed"]


@pytest.mark.parametrize("name", ["X-Request-Id", "X-Oneapi-Request-Id"])
async def test_a_request_id_that_is_no_text_can_be_printed(raw_server: RawServer, name: str) -> None:
    answering(raw_server, b'{"error":{"message":"busy"}}', f"{name}: r\xff\xfe", 500)
    async with AsyncApimart(KEY, base_url=raw_server.base_url, check="off", max_retries=0) as client:
        with pytest.raises(SubmissionIndeterminateError) as caught, record_responses() as responses:
            await client.edits.create(PICTURE, "stars")
    assert caught.value.request_id == responses[0].request_id == responses[0].headers[name] == "r\ufffd\ufffd"
    assert str(caught.value).encode()


async def test_a_redirect_that_is_no_text_can_be_printed(raw_server: RawServer) -> None:
    answering(raw_server, b"", "Location: /\xff", 302)
    async with AsyncApimart(KEY, base_url=raw_server.base_url, check="off", max_retries=0) as client:
        with pytest.raises(APIStatusError) as caught:
            await client.edits.create(PICTURE, "stars")
    assert str(caught.value).encode()


async def test_names_of_recorded_headers_hold_no_key(raw_server: RawServer) -> None:
    answering(raw_server, ACCEPTED, f"X-{KEY}: 1")
    async with AsyncApimart(KEY, base_url=raw_server.base_url, check="off") as client:
        with record_responses() as responses:
            await client.edits.create(PICTURE, "stars")
    assert KEY not in repr(list(responses[0].headers.items()))


@pytest.mark.parametrize("key", ["1", "a", "id", "url", "task", "task_id", "data", "code", "200"])
async def test_a_key_that_is_a_word_of_the_answers_damages_none(raw_server: RawServer, key: str) -> None:
    async def handle(exchange: Exchange) -> None:
        request = await exchange.read()
        images = f'{{"images":[{{"url":["{raw_server.base_url}/data/1.png"]}}]}}'
        done = f'{{"code":200,"data":{{"id":"task_01J","status":"completed","result":{images}}}}}'
        await exchange.answer(ACCEPTED if request.method == "POST" else done.encode())

    raw_server.handle = handle
    poll = Poll(first=0.01, shortest=0.01)
    async with AsyncApimart(key, base_url=raw_server.base_url, check="off", poll=poll) as client:
        task = await client.edits.run(PICTURE, "stars")
    assert (task.id, task.images[0].url) == ("task_01J", f"{raw_server.base_url}/data/1.png")


async def test_infinite_times_are_no_limits(raw_server: RawServer) -> None:
    answering(raw_server, ACCEPTED)
    timeout = Timeout(connect=math.inf, pool=math.inf, read=math.inf, total=math.inf)
    async with AsyncApimart(
        KEY, base_url=raw_server.base_url, check="off", timeout=timeout, limits=Limits(keepalive=math.inf)
    ) as client:
        for _ in range(2):
            assert (await client.tasks.get("task_01J")).id == "task_01J"
    assert raw_server.connections == 1


async def test_the_ssl_argument_counts_with_the_session_of_the_caller_too(
    raw_server: RawServer, secure_server: tuple[str, ssl.SSLContext]
) -> None:
    async def handle(exchange: Exchange) -> None:
        request = await exchange.read()
        await exchange.answer(ACCEPTED if request.method == "POST" else png_of(b"one"))

    raw_server.handle = handle
    base_url, trusting = secure_server
    async with (
        aiohttp.ClientSession() as session,
        AsyncApimart(KEY, base_url=base_url, check="off", session=session, ssl=trusting) as client,
    ):
        assert (await client.edits.create(PICTURE, "stars")).id == "task_01J"
        assert await client.images.read(f"{base_url}/a.png") == png_of(b"one")
    # A context without trusted certificates takes precedence over that of the session.
    connector = aiohttp.TCPConnector(ssl=trusting)
    distrusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    async with (
        aiohttp.ClientSession(connector=connector) as session,
        AsyncApimart(KEY, base_url=base_url, session=session, ssl=distrusting, max_retries=0) as client,
    ):
        with pytest.raises(Exception, match="certificate is not trusted"):
            await client.tasks.get("task_01J")


@pytest.mark.parametrize("head", [("X-Large", "x" * 140_000), ("X-Many", "")], ids=["large", "many"])
async def test_the_headers_of_an_answer_take_no_gigabytes(
    raw_server: RawServer, head: tuple[str, str]
) -> None:
    name, value = head
    lines = f"{name}: {value}" if value else "\r\n".join(f"{name}-{number}: x" for number in range(1100))
    answering(raw_server, png_of(b"one"), lines)
    async with AsyncApimart(KEY, base_url=raw_server.base_url, max_retries=0) as client:
        with pytest.raises(DownloadError, match="the answer is not HTTP"):
            await client.images.read(f"{raw_server.base_url}/a.png")


@pytest.mark.parametrize(
    "options",
    [
        {"headers": {"Authorization": f"Bearer {KEY}"}},
        {"headers": {"Cookie": f"sid={KEY}"}},
        {"cookies": {"sid": KEY}},
    ],
    ids=str,
)
async def test_what_a_session_sends_with_every_request_reaches_no_file_host(
    raw_server: RawServer, options: dict[str, Any]
) -> None:
    async def handle(exchange: Exchange) -> None:
        request = await exchange.read()
        await exchange.answer(ACCEPTED if request.method == "POST" else png_of(b"one"))

    raw_server.handle = handle
    async with (
        aiohttp.ClientSession(**options) as session,
        AsyncApimart(KEY, base_url=raw_server.base_url, check="off", session=session) as client,
    ):
        assert (await client.edits.create(PICTURE, "stars")).id == "task_01J"
        assert await client.images.read(f"{raw_server.base_url}/a.png") == png_of(b"one")
    submit, download = raw_server.seen
    assert submit.headers["authorization"] == f"Bearer {KEY}"
    assert KEY not in repr(download)


class AsciiJar(aiohttp.CookieJar):
    """Keeps cookies in a file of ASCII, and so fails at others."""

    def update_cookies_from_headers(self, headers: Sequence[str], response_url: URL) -> None:
        for header in headers:
            header.encode("ascii")
        super().update_cookies_from_headers(headers, response_url)


async def test_a_session_that_fails_behind_the_answer_sends_no_paid_request_again(
    raw_server: RawServer,
) -> None:
    answering(raw_server, ACCEPTED, "Set-Cookie: name=é")
    async with (
        aiohttp.ClientSession(cookie_jar=AsciiJar()) as session,
        AsyncApimart(KEY, base_url=raw_server.base_url, check="off", session=session) as client,
    ):
        with pytest.raises(SubmissionIndeterminateError):
            await client.edits.create(PICTURE, "stars")
    assert len(raw_server.seen) == 1


async def test_a_session_shows_the_key_to_no_proxy_of_the_environment(
    raw_server: RawServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    answering(raw_server, ACCEPTED)
    monkeypatch.setenv("http_proxy", raw_server.base_url)
    async with aiohttp.ClientSession(trust_env=True) as session:
        with pytest.raises(InvalidArgumentError, match="trust_env"):
            AsyncApimart(KEY, base_url="http://127.0.0.1:9", session=session)
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        async with AsyncApimart(KEY, base_url="http://127.0.0.1:9", session=session) as client:
            assert client.base_url
    assert not raw_server.seen


@pytest.mark.may_block
@pytest.mark.parametrize("entry", ["default", "machine 127.0.0.1"])
async def test_a_session_with_a_login_of_the_user_is_refused(
    raw_server: RawServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, entry: str
) -> None:
    """The file hosts would get it, and aiohttp sends no key beside it."""
    logins = tmp_path / "netrc"
    monkeypatch.setenv("NETRC", str(logins))
    answering(raw_server, ACCEPTED)
    async with aiohttp.ClientSession(trust_env=True) as session:
        for content in ("", "machine another.example login me password hidden", "not a netrc"):
            logins.write_text(content)
            client = AsyncApimart(KEY, base_url=raw_server.base_url, check="off", session=session)
            async with client:
                assert (await client.edits.create(PICTURE, "stars")).id == "task_01J"
        logins.write_text(f"{entry} login me password hidden")
        with pytest.raises(InvalidArgumentError, match="netrc file"):
            AsyncApimart(KEY, base_url=raw_server.base_url, session=session)
    assert "hidden" not in repr(raw_server.seen)


@pytest.mark.parametrize("seconds", ["1e308", "9" * 300], ids=["exponent", "digits"])
async def test_a_wait_survives_a_retry_after_that_is_endless(raw_server: RawServer, seconds: str) -> None:
    answering(raw_server, b'{"error":{"message":"busy"}}', f"Retry-After: {seconds}", 429)
    poll = Poll(first=0.01, shortest=0.01, longest=0.02)
    async with AsyncApimart(KEY, base_url=raw_server.base_url, poll=poll) as client:
        with pytest.raises(TaskTimeoutError):
            await client.tasks.wait("task_01J", timeout=0.2)
        async with client.tasks.watch(["task_01J", "task_02J"], timeout=0.2) as finished:
            assert not any([task.is_finished async for task in finished])
