"""The key is in the request only: not in frames, reprs, pickles, or answers that repeat it."""

from __future__ import annotations

import asyncio
import copy
import json
import pickle
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import aiohttp
import pytest

from apimart_async import (
    ApimartError,
    APIResponseValidationError,
    AsyncApimart,
    AsyncAppleRouter,
    AuthenticationError,
    InvalidArgumentError,
    Retry,
    SubmissionIndeterminateError,
    TaskFailedError,
)
from apimart_async.credentials import Secret
from apimart_async.sync import Apimart

from .conftest import png_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType, TracebackType

    from .conftest import Exchange, RawServer

KEY = "sk-very/secret-0123456789"
IMAGE = "https://p.example/a.png"


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error, its causes and its contexts, suppressed ones too."""
    if error is not None:
        yield error
        yield from chain(error.__cause__)
        yield from chain(error.__context__)


def frames(error: BaseException) -> Iterator[FrameType]:
    for each in chain(error):
        step: TracebackType | None = each.__traceback__
        while step is not None:
            yield step.tb_frame
            step = step.tb_next


def shown(value: object, depth: int = 3) -> Iterator[str]:
    """Yield the reprs of a local variable and its parts, as error trackers show them."""
    try:
        yield repr(value)
    except AttributeError:  # an object whose constructor raised
        yield ""
    if depth:
        parts: list[object] = list(vars(value).values()) if hasattr(value, "__dict__") else []
        if isinstance(value, dict):
            parts += value.values()
        elif isinstance(value, list | tuple | set):
            parts += value
        for part in parts:
            yield from shown(part, depth - 1)


def assert_key_is_hidden(error: BaseException) -> None:
    for frame in frames(error):
        if frame.f_code.co_filename == __file__:
            continue  # the code of the user
        for name, value in frame.f_locals.items():
            for text in shown(value):
                assert KEY not in text, f"{name} in {frame.f_code.co_qualname}"


SAID: dict[str, bytes | None] = {
    "401": b"HTTP/1.1 401 No\r\nContent-Length: 2\r\n\r\n{}",
    "500": b"HTTP/1.1 500 No\r\nContent-Length: 2\r\n\r\n{}",
    "no JSON": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno",
    "no task": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
    "no HTTP": b"garbage\r\n\r\n",
    "cut": b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n{}",
    "nothing": b"",
    "redirect": b"HTTP/1.1 302 Go\r\nLocation: http://x.example/\r\nContent-Length: 0\r\n\r\n",
}


@pytest.mark.parametrize("is_own_session", [False, True])
@pytest.mark.parametrize("said", SAID.values(), ids=SAID)
async def test_no_frame_of_an_error_shows_the_key(
    raw_server: RawServer, said: bytes, *, is_own_session: bool
) -> None:
    async def handle(exchange: Exchange) -> None:
        await exchange.read()
        exchange.writer.write(said)
        await exchange.writer.drain()
        exchange.drop() if not said else exchange.writer.close()

    raw_server.handle = handle
    session = aiohttp.ClientSession() if is_own_session else None
    async with AsyncApimart(KEY, base_url=raw_server.base_url, max_retries=0, session=session) as client:
        for call in (
            lambda: client.edits.create(IMAGE, "stars"),
            lambda: client.edits.create(png_of(b"x"), "stars", extra_headers={"X-Team": "a"}),
            lambda: client.tasks.get("task_1"),
            client.account.models,
        ):
            with pytest.raises(ApimartError) as caught:
                await call()
            assert_key_is_hidden(caught.value)
    if session is not None:
        await session.close()


async def test_no_frame_shows_the_key_when_nothing_listens_or_all_is_cancelled(raw_server: RawServer) -> None:
    is_waiting = asyncio.Event()

    async def handle(exchange: Exchange) -> None:
        await exchange.read()
        is_waiting.set()
        await asyncio.Event().wait()

    raw_server.handle = handle
    async with AsyncApimart(KEY, base_url="http://127.0.0.1:9", max_retries=0) as client:
        with pytest.raises(ApimartError) as refused:
            await client.edits.create(IMAGE, "stars")
        assert_key_is_hidden(refused.value)
    async with AsyncApimart(KEY, base_url=raw_server.base_url) as client:
        call = asyncio.create_task(client.edits.create(IMAGE, "stars"))
        await is_waiting.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError) as cancelled:
            await call
        assert_key_is_hidden(cancelled.value)


@pytest.mark.parametrize("kind", [AsyncApimart, AsyncAppleRouter, Apimart])
@pytest.mark.parametrize(
    "options",
    [
        {"base_url": "ftp://x"},
        {"proxy": "socks5://x"},
        {"default_headers": {"a b": "c"}},
        {"max_retries": -1},
    ],
)
def test_a_constructor_that_refuses_shows_no_key(kind: Any, options: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        kind(KEY, **options)
    assert_key_is_hidden(caught.value)
    with pytest.raises(InvalidArgumentError) as malformed:
        kind(f"{KEY} and more")
    assert_key_is_hidden(malformed.value)


def test_a_secret_shows_stars() -> None:
    secret = Secret(KEY)
    assert {repr(secret), str(secret), f"{secret}", f"{secret!r:>3}", "%s" % secret} == {"***"}  # noqa: UP031
    for spread in (pickle.dumps, copy.deepcopy):
        with pytest.raises(TypeError, match="cannot be pickled"):
            spread(secret)
    assert secret == Secret(KEY)
    assert hash(secret) == hash(Secret(KEY))
    assert secret != KEY


def stored(error: BaseException) -> str:
    return "".join(f"{each!r} {each} {pickle.dumps(each)!r}" for each in chain(error))


SPELLINGS: dict[str, Callable[[str], str]] = {
    "as it is": lambda text: text,
    "with slashes escaped": lambda text: text.replace("/", "\\/"),
    "as JSON escapes": lambda text: text.replace(KEY, "".join(f"\\u{ord(each):04X}" for each in KEY)),
    "with a JSON escape": lambda text: text.replace(KEY, KEY.replace("-", "\\u002d").replace("/", "\\/")),
    "as in a URL": lambda text: text.replace(KEY, quote(KEY, safe="")),
}


@pytest.mark.parametrize("escape", SPELLINGS.values(), ids=SPELLINGS)
async def test_a_key_that_the_service_repeats_is_taken_out(raw_server: RawServer, escape: Any) -> None:
    error = {"code": f"c{KEY}", "message": f"m{KEY}", "type": f"t{KEY}"}
    bodies: list[tuple[int, object]] = [
        (401, {"error": error}),
        (200, f"excerpt {KEY}"),
        (200, {"data": {"id": "task_1", "status": "failed", "error": error}}),
        (200, {"data": {"status": KEY, "message": KEY}}),
    ]

    async def handle(exchange: Exchange) -> None:
        await exchange.read()
        status, body = bodies[min(exchange.number, len(bodies)) - 1]
        headers = {"X-Oneapi-Request-Id": f"id-{KEY}"}
        await exchange.answer(escape(json.dumps(body)).encode(), status, headers)

    raw_server.handle = handle
    async with AsyncApimart(KEY, base_url=raw_server.base_url, max_retries=0) as client:
        with pytest.raises(AuthenticationError) as refused:
            await client.tasks.get("task_1")
        with pytest.raises(APIResponseValidationError) as unread:
            await client.tasks.get("task_1")
        with pytest.raises(TaskFailedError) as failed:
            await client.tasks.wait("task_1")
        with pytest.raises(SubmissionIndeterminateError) as unknown:
            await client.edits.create(IMAGE, "stars")
    for caught in (refused, unread, failed, unknown):
        assert KEY not in stored(caught.value)
        assert "0123456789" not in stored(caught.value)
        assert_key_is_hidden(caught.value)


@pytest.mark.parametrize("target", ["/moved", "http://elsewhere.example"])
async def test_a_redirect_that_repeats_the_key_is_shown_without_it(
    raw_server: RawServer, caplog: pytest.LogCaptureFixture, target: str
) -> None:
    async def handle(exchange: Exchange) -> None:
        seen = await exchange.read()
        is_first = seen.path.startswith("/v1")
        headers = {"Location": f"{target}/{KEY}/x"} if is_first else {}
        await exchange.answer(b"{}", 307 if is_first else 500, headers)

    raw_server.handle = handle
    caplog.set_level("DEBUG")
    retry = Retry(initial_delay=0.001)
    async with AsyncApimart(KEY, base_url=raw_server.base_url, max_retries=1, retry=retry) as client:
        for call in (client.tasks.get("task_1"), client.edits.create(IMAGE, "stars")):
            with pytest.raises(ApimartError) as caught:
                await call
            assert KEY not in stored(caught.value)
    assert KEY not in caplog.text


async def test_an_authorization_of_the_caller_replaces_the_key_and_is_hidden(
    raw_server: RawServer,
) -> None:
    async def handle(exchange: Exchange) -> None:
        seen = await exchange.read()
        assert seen.headers["authorization"] == f"Basic {KEY}"
        await exchange.answer(f'{{"error":{{"message":"no {KEY}"}}}}'.encode(), 401)

    raw_server.handle = handle
    headers = {"authorization": f"Basic {KEY}"}
    async with AsyncApimart("sk-test", base_url=raw_server.base_url, default_headers=headers) as client:
        with pytest.raises(AuthenticationError, match=r"no \[api key\]"):
            await client.tasks.get("task_1")
    async with AsyncApimart("sk-test", base_url=raw_server.base_url) as client:
        with pytest.raises(AuthenticationError, match=r"no \[api key\]"):
            await client.edits.create(IMAGE, "stars", extra_headers=headers)
