from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import aiohttp
import pytest

from apimart_async import AsyncApimart, AuthenticationError, InvalidArgumentError, NotFoundError

if TYPE_CHECKING:
    from apimart_async.emulator import Emulator


async def test_a_new_client_opens_no_connection() -> None:
    client = AsyncApimart("sk-test")
    assert not client._session._pools
    await client.close()
    await client.close()


async def test_a_closed_client_raises(client: AsyncApimart) -> None:
    await client.close()
    with pytest.raises(RuntimeError, match="closed"):
        await client.tasks.get("task_1")


async def test_a_copy_with_options_shares_the_connections(client: AsyncApimart, emulator: Emulator) -> None:
    wrong = client.with_options(api_key="sk-wrong", max_retries=0)
    with pytest.raises(AuthenticationError, match="invalid API key"):
        await wrong.tasks.get("task_1")
    with pytest.raises(NotFoundError):
        await client.tasks.get("task_1")
    assert wrong._session is client._session
    with pytest.raises(InvalidArgumentError):
        client.with_options(timeout=0)


@pytest.mark.parametrize("is_async", [False, True])
async def test_a_function_may_return_the_key(emulator: Emulator, is_async: bool) -> None:  # noqa: FBT001
    keys = ["sk-old", emulator.api_key]

    async def fetch() -> str:
        await asyncio.sleep(0)
        return keys.pop(0)

    async with AsyncApimart(fetch if is_async else lambda: keys.pop(0), base_url=emulator.base_url) as client:
        with pytest.raises(AuthenticationError):
            await client.tasks.get("task_1")
        with pytest.raises(NotFoundError):
            await client.tasks.get("task_1")


async def test_a_key_function_that_returns_a_blank_key_raises(emulator: Emulator) -> None:
    async with AsyncApimart(lambda: "", base_url=emulator.base_url) as client:
        with pytest.raises(InvalidArgumentError, match="API key"):
            await client.tasks.get("task_1")
    assert not emulator.requests


async def test_the_session_of_the_caller_is_used_and_stays_open(emulator: Emulator) -> None:
    async with aiohttp.ClientSession() as session:
        async with AsyncApimart(emulator.api_key, base_url=emulator.base_url, session=session) as client:
            with pytest.raises(NotFoundError):
                await client.tasks.get("task_1")
        assert not session.closed


@pytest.mark.may_block
def test_a_client_in_a_second_loop_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    client = AsyncApimart("sk-test", base_url="http://127.0.0.1:9", max_retries=0)

    async def use() -> None:
        with pytest.raises(Exception, match=r"connection failed|another event loop") as caught:
            await client.tasks.get("task_1")
        if isinstance(caught.value, RuntimeError):
            raise caught.value

    with asyncio.Runner() as first, asyncio.Runner() as second:
        first.run(use())
        with pytest.raises(RuntimeError, match="another event loop"):
            second.run(use())
        first.run(client.close())


async def test_proxies_come_from_the_environment(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    proxied: list[bytes] = []

    async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        proxied.append(await reader.readuntil(b"\r\n\r\n"))
        body = b'{"data":{"id":"task_1","status":"queued"}}'
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(proxy, "127.0.0.1", 0)
    address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    for name in (
        "http_proxy",
        "https_proxy",
        "no_proxy",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "NO_PROXY",
        "all_proxy",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", address)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    async with AsyncApimart("sk-test", base_url="http://service.invalid", allow_http=True) as client:
        assert (await client.tasks.get("task_1")).status == "queued"
    assert proxied[0].startswith(b"GET http://service.invalid/v1/tasks/task_1?language=en ")
    async with AsyncApimart(emulator.api_key, base_url=emulator.base_url) as client:
        with pytest.raises(NotFoundError):
            await client.tasks.get("task_1")
    assert len(proxied) == 1
    server.close()
