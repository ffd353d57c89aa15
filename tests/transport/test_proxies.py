"""Proxies: their passwords are never shown, this machine is never proxied, and the key is never in clear."""

from __future__ import annotations

import pickle
import traceback
from base64 import b64decode
from typing import TYPE_CHECKING

import pytest
from yarl import URL

from apimart_async import (
    APIConnectionError,
    ApimartError,
    AsyncApimart,
    InvalidArgumentError,
    SubmissionIndeterminateError,
)
from apimart_async.transport.proxies import Proxies

from .conftest import listening

if TYPE_CHECKING:
    from .conftest import Exchange, RawServer

KEY = "sk-very-secret-0123456789"
PASSWORD = "pass-word-of-a-proxy"
SIGNED = "https://files.example/a.png?signature=signed-secret"
VARIABLES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def everything_of(error: BaseException) -> str:
    """Return all that is printed, logged or stored of an error."""
    return "\n".join([repr(error), *traceback.format_exception(error), repr(pickle.dumps(error))])


ANSWERS = {
    "407": b"HTTP/1.1 407 pass-word-of-a-proxy\r\nContent-Length: 0\r\n\r\n",
    "502": b"HTTP/1.1 502 Bad\r\nContent-Length: 0\r\n\r\n",
    "garbage": b"pass-word-of-a-proxy signed-secret\r\n\r\n",
    "hang up": b"",
}


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
async def test_the_password_of_a_proxy_is_never_shown(raw_server: RawServer, answer: bytes) -> None:
    async def handle(exchange: Exchange) -> None:
        await exchange.read()
        exchange.writer.write(answer)
        await exchange.writer.drain()
        exchange.writer.close()

    raw_server.handle = handle
    proxy = raw_server.base_url.replace("http://", f"http://user:{PASSWORD}@")
    failures: list[BaseException] = []
    async with AsyncApimart(KEY, base_url="https://api.example", proxy=proxy, max_retries=0) as client:
        assert PASSWORD not in repr(client) + repr(vars(client))
        with pytest.raises(APIConnectionError) as refused:
            await client.edits.create("https://p.example/a.png", "stars")
        failures.append(refused.value)
        with pytest.raises(ApimartError) as failed:
            await client.images.read(SIGNED)
        failures.append(failed.value)
    # Nothing of the request passed the proxy, so nothing is in doubt.
    assert not isinstance(refused.value, SubmissionIndeterminateError)
    for failure in failures:
        text = everything_of(failure)
        assert PASSWORD not in text
        assert "signed-secret" not in text
        assert KEY not in text
        assert "aiohttp." not in text
    assert raw_server.seen[0].headers["proxy-authorization"].startswith("Basic ")


async def test_the_password_reaches_the_proxy_of_a_plain_request(
    raw_server: RawServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def handle(exchange: Exchange) -> None:
        await exchange.read()
        await exchange.answer(b'{"data":{"id":"task_1","status":"queued"}}')

    raw_server.handle = handle
    monkeypatch.setenv("HTTP_PROXY", raw_server.base_url.replace("http://", f"user:{PASSWORD}@"))
    async with AsyncApimart(KEY, base_url="http://service.invalid", allow_http=True) as client:
        await client.tasks.get("task_1")
    (seen,) = raw_server.seen
    assert seen.path.startswith("http://service.invalid/")
    assert seen.headers["proxy-authorization"] == "Basic dXNlcjpwYXNzLXdvcmQtb2YtYS1wcm94eQ=="


@pytest.mark.parametrize("variable", ["http_proxy", "HTTP_PROXY", "all_proxy"])
async def test_this_machine_is_never_proxied_from_the_environment(
    raw_server: RawServer, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    async def handle(exchange: Exchange) -> None:
        await exchange.read()
        await exchange.answer(b'{"data":{"id":"task_1","status":"queued"}}')

    raw_server.handle = handle
    from .conftest import RawServer as Server

    spy = Server()
    async with listening(spy) as port:
        monkeypatch.setenv(variable, f"http://127.0.0.1:{port}")
        for host in ("127.0.0.1", "localhost"):
            base_url = raw_server.base_url.replace("127.0.0.1", host)
            async with AsyncApimart(KEY, base_url=base_url) as client:
                assert (await client.tasks.get("task_1")).status == "queued"
    assert spy.connections == 0


@pytest.mark.parametrize("base_url", ["http://127.0.0.1:1", "http://localhost:1"])
def test_a_proxy_elsewhere_does_not_get_the_key_in_clear(base_url: str) -> None:
    with pytest.raises(InvalidArgumentError, match="unencrypted"):
        AsyncApimart(KEY, base_url=base_url, proxy="http://proxy.example:3128")
    AsyncApimart(KEY, base_url=base_url, proxy="http://proxy.example:3128", allow_http=True)
    AsyncApimart(KEY, base_url=base_url, proxy="http://127.0.0.1:3128")


@pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:1080", "socks4://h", "SOCKS5H://u:p@h:1"])
def test_a_socks_proxy_is_refused_before_anything_is_sent(
    monkeypatch: pytest.MonkeyPatch, proxy: str
) -> None:
    with pytest.raises(InvalidArgumentError, match="not supported"):
        AsyncApimart(KEY, proxy=proxy)
    monkeypatch.setenv("ALL_PROXY", proxy)
    with pytest.raises(InvalidArgumentError, match="not supported"):
        AsyncApimart(KEY)
    AsyncApimart(KEY, base_url="http://127.0.0.1:1")
    monkeypatch.setenv("NO_PROXY", "api.apimart.ai")
    AsyncApimart(KEY)


@pytest.mark.parametrize("proxy", ["http://", "ftp://h:1", "http://h:port", "http://[::1", f"x://{PASSWORD}"])
def test_a_malformed_proxy_is_refused_without_its_text(proxy: str) -> None:
    with pytest.raises(InvalidArgumentError, match=r"must look like http://proxy\.example:3128") as caught:
        AsyncApimart(KEY, proxy=proxy)
    assert PASSWORD not in everything_of(caught.value)


@pytest.mark.parametrize(
    ("exempt", "url", "is_proxied"),
    [
        ("api.example", "https://api.example/", False),
        ("api.example", "https://sub.api.example/", False),
        (".example", "https://api.example/", False),
        ("*.example", "https://api.example/", False),
        ("example.", "https://api.example./", False),
        ("ample", "https://api.example/", True),
        ("api.example:443", "https://api.example/", False),
        ("api.example:8443", "https://api.example/", True),
        ("10.0.0.0/8", "https://10.1.2.3/", False),
        ("10.0.0.0/8", "https://11.1.2.3/", True),
        ("10.0.0.0/8:443", "https://10.1.2.3/", False),
        ("fd00::/8", "https://[fd00::1]/", False),
        ("[fd00::1]:443", "https://[fd00::1]/", False),
        ("a.example, .api.example other", "https://api.example/", False),
        ("*", "https://api.example/", False),
        ("", "https://api.example/", True),
        (",:443", "https://api.example/", True),
    ],
)
def test_no_proxy_exempts(
    monkeypatch: pytest.MonkeyPatch, exempt: str, url: str, *, is_proxied: bool
) -> None:
    monkeypatch.setenv("https_proxy", "proxy.example:3128")
    monkeypatch.setenv("no_proxy", exempt)
    proxy = Proxies(None).find(URL(url))
    assert (proxy is not None) == is_proxied
    if proxy is not None:
        assert proxy.url == "http://proxy.example:3128"


async def test_a_password_that_is_no_text_is_sent_as_it_is(
    raw_server: RawServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def handle(exchange: Exchange) -> None:
        await exchange.read()
        exchange.writer.close()

    raw_server.handle = handle
    monkeypatch.setenv("HTTPS_PROXY", raw_server.base_url.replace("http://", "http://us\udcffer:pass-word@"))
    async with AsyncApimart(KEY, base_url="https://api.example", max_retries=0) as client:
        with pytest.raises(APIConnectionError):
            await client.tasks.get("task_01J")
    sent = raw_server.seen[0].headers["proxy-authorization"].removeprefix("Basic ")
    assert b64decode(sent) == b"us\xffer:pass-word"


@pytest.mark.parametrize(
    "entry", ["a:" + "1" * 5000, "api.example:443" + ":443" * 3000, "api.example:\u0664"]
)
def test_an_odd_entry_of_no_proxy_exempts_nothing(monkeypatch: pytest.MonkeyPatch, entry: str) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    monkeypatch.setenv("NO_PROXY", entry)
    assert Proxies(None).find(URL("https://api.example/v1/models")) is not None
