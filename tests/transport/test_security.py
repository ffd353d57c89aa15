"""The key goes to the configured origin and nowhere else, and nothing secret is ever shown."""

from __future__ import annotations

import gzip
import json
import logging
import pickle
import socket
import traceback
from typing import TYPE_CHECKING

import aiohttp
import pytest

from apimart_async import (
    APIConnectionError,
    ApimartError,
    AsyncApimart,
    BadRequestError,
    DownloadError,
    InvalidArgumentError,
    Limits,
    Poll,
    Retry,
    SubmissionIndeterminateError,
    TaskFailedError,
    Timeout,
)
from apimart_async.emulator import Emulator

from .conftest import listening

if TYPE_CHECKING:
    from pathlib import Path

    from .conftest import Exchange, RawServer

KEY = "sk-very-secret-0123456789"
PROMPT = "a prompt nobody else should read"
GIF = b"GIF89a" + bytes(39) + b";"


@pytest.mark.parametrize("url", ["http://api.example", "http://10.0.0.7", "http://localhost.example"])
def test_a_key_is_not_sent_unencrypted_to_another_machine(url: str) -> None:
    with pytest.raises(InvalidArgumentError, match="unencrypted"):
        AsyncApimart(KEY, base_url=url)
    assert AsyncApimart(KEY, base_url=url, allow_http=True).base_url == url


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:8000", "http://localhost", "http://[::1]:1", "https://api.example"]
)
def test_this_machine_and_https_need_no_leave(url: str) -> None:
    assert AsyncApimart(KEY, base_url=url).base_url == url


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "0x7f.1",
        "10.1.2.3.",
        "[::ffff:10.0.0.1]",
        "[fec0::1]",
        "127%2e0.0.1",
        "printer",
        "nas.local",
    ],
)
async def test_a_result_on_a_private_host_is_not_fetched(host: str) -> None:
    async with AsyncApimart(KEY, max_retries=0) as client:
        with pytest.raises(DownloadError, match=r"not a public host.*APIMART_RESULT_HOSTS"):
            await client.images.read(f"https://{host}/a.png")


@pytest.mark.parametrize(
    "url", ["http://10.0.0.1/a.png", "http://nas.local/a.png", "http://169.254.169.254/"]
)
async def test_an_api_on_this_machine_names_no_other_private_host(url: str) -> None:
    async with AsyncApimart(KEY, base_url="http://127.0.0.1:9", max_retries=0) as client:
        with pytest.raises(DownloadError, match="not a public host"):
            await client.images.read(url)


@pytest.fixture
def _names(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name server that sends a public name to this machine, as an attacker's would."""
    known = socket.getaddrinfo

    def look_up(host: str | bytes | None, *arguments: object, **options: object) -> object:
        name = host.decode() if isinstance(host, bytes) else host
        return known("127.0.0.1" if name == "files.example" else host, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)


@pytest.mark.usefixtures("_names")
@pytest.mark.parametrize("is_own_session", [False, True])
async def test_a_name_is_judged_by_the_address_it_leads_to(
    raw_server: RawServer, *, is_own_session: bool
) -> None:
    async def handle(exchange: Exchange) -> None:
        await exchange.read()
        await exchange.answer(GIF)

    raw_server.handle = handle
    url = raw_server.base_url.replace("127.0.0.1", "files.example")
    session = aiohttp.ClientSession() if is_own_session else None
    options = {"base_url": "http://api.example", "allow_http": True, "session": session}
    async with AsyncApimart(KEY, **options) as client:  # type: ignore[arg-type]
        with pytest.raises(DownloadError, match=r"files\.example, which is not a public host"):
            await client.images.read(url)
    assert raw_server.connections == 0
    for pattern in ("*.example", "127.0.0.0/8"):
        limits = Limits(result_hosts=(pattern,))
        async with AsyncApimart(KEY, limits=limits, **options) as client:  # type: ignore[arg-type]
            assert await client.images.read(url) == GIF
    if session is not None:
        await session.close()


async def test_a_name_of_this_machine_that_leads_elsewhere_gets_no_key(
    raw_server: RawServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def handle(exchange: Exchange) -> None:
        await exchange.read()
        await exchange.answer(json.dumps({"data": [{"id": "a"}]}).encode())

    raw_server.handle = handle
    known, addresses = socket.getaddrinfo, {"api.localhost": "127.0.0.1", "evil.localhost": "192.0.2.7"}

    def look_up(host: str | bytes | None, *arguments: object, **options: object) -> object:
        name = host.decode() if isinstance(host, bytes) else host
        return known(addresses.get(str(name), host), *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    url = raw_server.base_url.replace("127.0.0.1", "api.localhost")
    async with AsyncApimart(KEY, base_url=url) as client:
        assert await client.account.models()
    url, timeout = raw_server.base_url.replace("127.0.0.1", "evil.localhost"), Timeout(connect=1)
    async with AsyncApimart(KEY, base_url=url, check="off", max_retries=0, timeout=timeout) as client:
        with pytest.raises(APIConnectionError, match="leads to another machine") as caught:
            await client.edits.create("https://p.example/a.png", PROMPT)
    assert not isinstance(caught.value, SubmissionIndeterminateError)


async def test_a_long_address_fills_no_error_and_no_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "apimart_async")
    async with AsyncApimart(KEY, base_url="http://127.0.0.1:9", max_retries=1) as client:
        with pytest.raises(DownloadError, match=r"at most 65,536 are fetched") as caught:
            await client.images.read(f"http://127.0.0.1:9/{'a' * 1_000_000}?signature=x")
    assert max(map(len, [*caplog.messages, str(caught.value)])) < 3000


async def test_a_long_redirect_shows_no_part_of_the_key(raw_server: RawServer) -> None:
    padding = "a" * (2000 - len(raw_server.base_url) - 12)

    async def handle(exchange: Exchange) -> None:
        request = await exchange.read()
        if padding in request.path:
            await exchange.answer(b'{"error":{"message":"no"}}', 400)
        else:
            await exchange.answer(status=307, headers={"Location": f"/{padding}{KEY}"})

    raw_server.handle = handle
    async with AsyncApimart(KEY, base_url=raw_server.base_url) as client:
        with pytest.raises(BadRequestError) as caught:
            await client.account.models()
    assert KEY[:6] not in str(caught.value) + str(caught.value.url)


async def test_an_api_with_tls_names_no_file_without(raw_server: RawServer) -> None:
    async def handle(exchange: Exchange) -> None:
        await exchange.read()
        await exchange.answer(GIF)

    raw_server.handle = handle
    async with AsyncApimart(KEY) as client:
        with pytest.raises(DownloadError, match=r"without TLS.*result_hosts.*APIMART_RESULT_HOSTS"):
            await client.images.read("http://files.example/a.png")
    async with AsyncApimart(KEY, limits=Limits(result_hosts=("127.0.0.1",))) as client:
        assert await client.images.read(f"{raw_server.base_url}/a.png") == GIF


async def test_a_redirect_leads_to_no_private_host(raw_server: RawServer) -> None:
    async def handle(exchange: Exchange) -> None:
        await exchange.read()
        await exchange.answer(b"", 302, {"Location": "http://0xa000001/a.png"})

    raw_server.handle = handle
    async with AsyncApimart(KEY, base_url=raw_server.base_url) as client:
        with pytest.raises(DownloadError, match="not a public host"):
            await client.images.read(f"{raw_server.base_url}/a.png")


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "ftp://f.example/a.png", "gopher://x/", "//f.example/a", "a.png"]
)
async def test_only_http_addresses_are_fetched(url: str) -> None:
    async with AsyncApimart(KEY) as client:
        with pytest.raises(DownloadError, match=r"http\(s\)"):
            await client.images.read(url)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_to_another_origin_never_sees_the_key(raw_server: RawServer, status: int) -> None:
    other = raw_server.base_url.replace("127.0.0.1", "localhost")

    async def handle(exchange: Exchange) -> None:
        await exchange.read()
        await exchange.answer(b"", status, {"Location": f"{other}/v1/stolen"})

    raw_server.handle = handle
    async with AsyncApimart(KEY, base_url=raw_server.base_url) as client:
        with pytest.raises(ApimartError, match="redirects to"):
            await client.edits.create("https://p.example/a.png", PROMPT)
        with pytest.raises(ApimartError, match="redirects to"):
            await client.tasks.get("task_1")
    assert not [seen for seen in raw_server.seen if "stolen" in seen.path]


async def test_a_download_is_redirected_without_the_key_and_not_for_ever(raw_server: RawServer) -> None:
    async def handle(exchange: Exchange) -> None:
        seen = await exchange.read()
        hop = int(seen.path.strip("/") or 0)
        if hop == 3:
            await exchange.answer(GIF)
        else:
            await exchange.answer(b"", 302, {"Location": f"/{hop + 1}"})

    raw_server.handle = handle
    async with AsyncApimart(KEY, base_url=raw_server.base_url, default_headers={"X-Team": "a"}) as client:
        assert await client.images.read(f"{raw_server.base_url}/0") == GIF
        with pytest.raises(DownloadError, match="more than 5 times"):
            await client.images.read(f"{raw_server.base_url}/4")
    for seen in raw_server.seen:
        assert "authorization" not in seen.headers
        assert "x-team" not in seen.headers


async def test_an_announced_poll_url_is_not_followed(raw_server: RawServer) -> None:
    async def handle(exchange: Exchange) -> None:
        seen = await exchange.read()
        if seen.method == "POST":
            await exchange.answer(
                b'{"code":202,"data":{"id":"task_1","status":"queued","poll_url":"http://evil.example/t"}}',
                202,
            )
        else:
            await exchange.answer(b'{"data":{"id":"task_1","status":"completed","url":"https://f/0"}}')

    raw_server.handle = handle
    poll = Poll(first=0.01, shortest=0.01)
    async with AsyncApimart(KEY, base_url=raw_server.base_url, poll=poll) as client:
        assert (await client.edits.run("https://p.example/a.png", PROMPT)).is_completed
    assert [seen.path.partition("?")[0] for seen in raw_server.seen] == [
        "/v1/images/edits",
        "/v1/tasks/task_1",
    ]


async def test_the_key_is_taken_out_of_answers_that_repeat_it(raw_server: RawServer) -> None:
    async def handle(exchange: Exchange) -> None:
        await exchange.read()
        await exchange.answer(f'{{"error":{{"message":"invalid key {KEY}"}}}}'.encode(), 401)

    raw_server.handle = handle
    async with AsyncApimart(KEY, base_url=raw_server.base_url) as client:
        with pytest.raises(ApimartError, match=r"invalid key \[api key\]") as caught:
            await client.tasks.get("task_1")
    assert KEY not in repr(caught.value)


@pytest.mark.parametrize("own_session", [False, True])
async def test_a_small_answer_that_unpacks_to_a_large_one_is_stopped(
    raw_server: RawServer,
    own_session: bool,  # noqa: FBT001 a parameter of the test
) -> None:
    bomb = gzip.compress(b'"' + b"x" * 50_000_000 + b'"')

    async def handle(exchange: Exchange) -> None:
        seen = await exchange.read()
        assert seen.headers["accept-encoding"] == "identity"
        await exchange.answer(bomb, 200, {"Content-Encoding": "gzip"})

    raw_server.handle = handle
    session = aiohttp.ClientSession() if own_session else None
    limits = Limits(answer_bytes=1_000_000)
    async with AsyncApimart(
        KEY, base_url=raw_server.base_url, limits=limits, max_retries=0, session=session
    ) as client:
        with pytest.raises(ApimartError, match=r"200 times"):
            await client.tasks.get("task_1")
    if session is not None:
        await session.close()


async def test_a_download_is_stopped_at_its_limit(raw_server: RawServer) -> None:
    async def handle(exchange: Exchange) -> None:
        seen = await exchange.read()
        if seen.path == "/announced":
            await exchange.answer(GIF, length=10_000_000)
            exchange.drop()
        else:
            head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
            exchange.writer.write(
                head + b"%x\r\n%s\r\n" % (len(GIF) + 5000, GIF + bytes(5000)) + b"0\r\n\r\n"
            )
            await exchange.writer.drain()

    raw_server.handle = handle
    async with AsyncApimart(KEY, base_url=raw_server.base_url, limits=Limits(download_bytes=1000)) as client:
        for path in ("announced", "chunked"):
            with pytest.raises(DownloadError, match=r"Limits\.download_bytes"):
                await client.images.read(f"{raw_server.base_url}/{path}")


async def test_nothing_secret_is_logged_or_shown(
    caplog: pytest.LogCaptureFixture, photographs: dict[str, Path], tmp_path: Path
) -> None:
    caplog.set_level(logging.DEBUG)
    seen: list[str] = []
    poll = Poll(first=0.02, shortest=0.02, longest=0.05)
    async with Emulator(api_key=KEY, task_seconds=0.05, images="tiny", rate_limit=30) as emulator:
        options = {"poll": poll, "retry": Retry(initial_delay=0.01)}
        async with AsyncApimart(KEY, base_url=emulator.base_url, **options) as client:  # type: ignore[arg-type]
            for inline in (False, True):
                for number in range(8):
                    task = await client.edits.run(
                        photographs["chelsea.png"], f"{PROMPT} {number}", inline=inline
                    )
                    await client.images.save(task, tmp_path)
            with pytest.raises(TaskFailedError) as failed:
                await client.edits.run(photographs["chelsea.png"], f"{PROMPT} moderated", inline=True)
            seen += [repr(client), repr(failed.value), "".join(traceback.format_exception(failed.value))]
            wrong = client.with_options(api_key=f"{KEY}-wrong")
            with pytest.raises(ApimartError) as refused:
                await wrong.edits.run("https://p.example/a.png", PROMPT)
            seen += [repr(refused.value), "".join(traceback.format_exception(refused.value))]
            seen.append(repr(pickle.dumps(refused.value)))
    timeout = Timeout(connect=600)
    async with AsyncApimart(KEY, base_url="http://127.0.0.1:9", max_retries=1, timeout=timeout) as client:
        with pytest.raises(APIConnectionError) as unreachable:
            await client.edits.create("https://p.example/a.png", PROMPT)
    seen += [repr(unreachable.value), "".join(traceback.format_exception(unreachable.value)), caplog.text]
    for text in seen:
        assert KEY not in text
        assert PROMPT not in text
        assert ";base64," not in text


async def test_notes_and_logs_hold_no_control_characters_of_a_service(
    raw_server: RawServer, caplog: pytest.LogCaptureFixture
) -> None:
    hostile = "no \x1b[31m\nforged"

    async def handle(exchange: Exchange) -> None:
        seen = await exchange.read()
        error = json.dumps({"error": {"message": hostile}}).encode()
        if seen.method == "POST":
            tasks = [{"task_id": f"{number} {hostile}"} for number in range(2)]
            await exchange.answer(json.dumps({"code": 200, "data": tasks}).encode())
        else:
            await exchange.answer(error, 401 if "/tasks/" in seen.path else 503)

    raw_server.handle = handle
    caplog.set_level(logging.DEBUG)
    options = {"retry": Retry(initial_delay=0.001), "poll": Poll(first=0.01), "max_retries": 1}
    async with listening(raw_server) as port:
        base_urls = [raw_server.base_url, f"http://127.0.0.1:{port}"]
        async with AsyncApimart(KEY, base_url=base_urls, **options) as client:  # type: ignore[arg-type]
            for call in (
                client.account.models(),
                client.edits.run("https://p.example/a.png", PROMPT, n=2),
                client.images.read(f"{raw_server.base_url}/a\x1b[31m.png"),
            ):
                with pytest.raises(ApimartError) as caught:
                    await call
                shown = "".join(traceback.format_exception(caught.value))
                assert "\x1b" not in shown
                assert "\nforged" not in shown
    assert "\x1b" not in caplog.text
    assert "\nforged" not in caplog.text


async def test_an_indeterminate_error_shows_its_key_but_not_the_api_key(raw_server: RawServer) -> None:
    async def handle(exchange: Exchange) -> None:
        await exchange.read()
        exchange.drop()

    raw_server.handle = handle
    async with AsyncApimart(KEY, base_url=raw_server.base_url) as client:
        with pytest.raises(SubmissionIndeterminateError) as caught:
            await client.edits.create("https://p.example/a.png", PROMPT, idempotency_key="mine-1")
    text = "".join(traceback.format_exception(caught.value))
    assert "mine-1" in text
    assert KEY not in text
    assert PROMPT not in text
