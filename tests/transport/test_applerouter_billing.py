"""A synchronous service without idempotency keys: the reaction to each answer, over real sockets."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import TYPE_CHECKING, Any

import pytest

from apimart_async import (
    APIConnectionError,
    APIStatusError,
    AsyncAppleRouter,
    ImageSet,
    InternalServerError,
    Limits,
    RateLimitError,
    Retry,
    SubmissionIndeterminateError,
    Timeout,
)

from .conftest import arrive

if TYPE_CHECKING:
    from tests.clock import Clock

    from .conftest import Exchange, RawServer

GIF = bytes.fromhex("47494638396101000100800000ffffff0000002c00000000010001000002024401003b")
MADE = b'{"created":1713833628,"data":[{"url":"https://f.example/0.png"}]}'
RATES = {
    "x-ratelimit-limit-requests": "50",
    "x-ratelimit-remaining-requests": "49",
    "x-ratelimit-reset-requests": "1.2s",
    "x-ratelimit-limit-tokens": "-1",
    "x-ratelimit-remaining-tokens": "many",
    "x-ratelimit-reset-tokens": "",
    "x-request-id": "req_7",
}


def connect(raw_server: RawServer, **options: Any) -> AsyncAppleRouter:
    settings: dict[str, Any] = {
        "retry": Retry(initial_delay=0.01, max_delay=0.02, max_retry_after=0.5),
        "timeout": Timeout(read=100, total=1000),
        "base_url": raw_server.base_url,
    }
    return AsyncAppleRouter("sk-test", **(settings | options))


async def edit(client: AsyncAppleRouter) -> ImageSet:
    return await client.edits.create(GIF, "stars", model="another")


def refusal(code: str | None = None, message: str = "no", kind: str = "requests") -> bytes:
    return json.dumps({"error": {"message": message, "type": kind, "param": None, "code": code}}).encode()


async def test_rate_headers_are_taken_as_they_come(raw_server: RawServer) -> None:
    async def handle(exchange: Exchange) -> None:
        await exchange.read()
        await exchange.answer(MADE, headers=RATES)

    raw_server.handle = handle
    async with connect(raw_server) as client:
        result = await edit(client)
    assert [image.url for image in result.images] == ["https://f.example/0.png"]
    assert result.created.timestamp() == 1713833628


@pytest.mark.parametrize(
    "headers",
    [{"retry-after-ms": "20"}, {"retry-after": "0.02"}, {"retry-after": "60", "retry-after-ms": "20"}, {}],
)
async def test_too_many_requests_are_sent_again_when_the_service_says(
    raw_server: RawServer, headers: dict[str, str]
) -> None:
    async def handle(exchange: Exchange) -> None:
        await exchange.read()
        if len(raw_server.seen) < 3:
            await exchange.answer(refusal("rate_limit_exceeded"), 429, RATES | headers)
        else:
            await exchange.answer(MADE)

    raw_server.handle = handle
    async with connect(raw_server) as client:
        assert (await edit(client)).images
    assert len(raw_server.seen) == 3
    assert len({seen.body.count(GIF) for seen in raw_server.seen}) == 1


async def test_a_used_up_quota_is_permanent(raw_server: RawServer) -> None:
    async def handle(exchange: Exchange) -> None:
        await exchange.read()
        await exchange.answer(refusal("insufficient_quota"), 429, RATES | {"retry-after-ms": "1"})

    raw_server.handle = handle
    async with connect(raw_server) as client:
        with pytest.raises(RateLimitError) as caught:
            await edit(client)
    assert (caught.value.code, caught.value.request_id) == ("insufficient_quota", "req_7")
    assert len(raw_server.seen) == 1


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 413, 415, 422])
@pytest.mark.parametrize("body", [refusal(), b"<html>no</html>", b""])
async def test_a_refusal_is_raised_at_once(raw_server: RawServer, status: int, body: bytes) -> None:
    async def handle(exchange: Exchange) -> None:
        await exchange.read()
        await exchange.answer(body, status, RATES)

    raw_server.handle = handle
    async with connect(raw_server) as client:
        with pytest.raises(APIStatusError) as caught:
            await edit(client)
    assert (caught.value.status, caught.value.request_id) == (status, "req_7")
    assert len(raw_server.seen) == 1


@pytest.mark.parametrize("status", [408, 500, 502, 503, 504, 529])
async def test_a_server_error_is_indeterminate(raw_server: RawServer, status: int) -> None:
    async def handle(exchange: Exchange) -> None:
        await exchange.read()
        await exchange.answer(refusal(message="The server had an error"), status)

    raw_server.handle = handle
    async with connect(raw_server) as client:
        with pytest.raises(SubmissionIndeterminateError, match="The server had an error") as caught:
            await edit(client)
    assert caught.value.status == status
    assert len(raw_server.seen) == 1


async def test_a_500_that_blames_the_request_is_permanent(raw_server: RawServer) -> None:
    async def handle(exchange: Exchange) -> None:
        await exchange.read()
        await exchange.answer(refusal(message="build_request_failed: no such model"), 500)

    raw_server.handle = handle
    async with connect(raw_server) as client:
        with pytest.raises(InternalServerError, match="no such model"):
            await edit(client)
    assert len(raw_server.seen) == 1


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"{}",
        b"[]",
        b"null",
        b'{"created":1,"data":null}',
        b'{"created":1,"data":[]}',
        b'{"created":1,"data":[{"url":null}]}',
        b'{"created":1,"data":[{"url":"https://f.exam',
    ],
)
async def test_a_good_answer_without_an_image_is_indeterminate(raw_server: RawServer, body: bytes) -> None:
    async def handle(exchange: Exchange) -> None:
        await exchange.read()
        await exchange.answer(body, headers=RATES)

    raw_server.handle = handle
    async with connect(raw_server) as client:
        with pytest.raises(SubmissionIndeterminateError) as caught:
            await edit(client)
    assert caught.value.request_id == "req_7"
    assert caught.value.url == f"{raw_server.base_url}/v1/images/edits/"
    assert len(raw_server.seen) == 1


@pytest.mark.parametrize("when", ["before reading", "after reading", "half an answer", "no answer"])
async def test_a_lost_answer_is_indeterminate(raw_server: RawServer, clock: Clock, when: str) -> None:
    async def handle(exchange: Exchange) -> None:
        if when == "before reading":
            await exchange.reader.read(1)
            exchange.drop()
            return
        await exchange.read()
        if when == "half an answer":
            await exchange.answer(MADE[:20], length=len(MADE))
        if when == "no answer":
            async with clock.rushing(200):
                await asyncio.Event().wait()
        exchange.drop()

    raw_server.handle = handle
    async with connect(raw_server) as client:
        with pytest.raises(SubmissionIndeterminateError, match="not sent again") as caught:
            await edit(client)
    assert raw_server.connections == 1
    assert isinstance(caught.value.__cause__, APIConnectionError)


async def test_a_kept_connection_that_was_closed_does_not_send_it_twice(raw_server: RawServer) -> None:
    async def handle(exchange: Exchange) -> None:
        await exchange.read()
        if len(raw_server.seen) == 1:
            await exchange.answer(MADE)
        else:
            exchange.drop()

    raw_server.handle = handle
    async with connect(raw_server) as client:
        await edit(client)
        with pytest.raises(SubmissionIndeterminateError):
            await edit(client)
    assert len(raw_server.seen) == 2


async def test_a_cancelled_edit_says_so_in_its_notes_and_in_the_log(
    raw_server: RawServer, caplog: pytest.LogCaptureFixture
) -> None:
    arrived = asyncio.Event()

    async def handle(exchange: Exchange) -> None:
        await exchange.read()
        arrived.set()
        await asyncio.Event().wait()

    raw_server.handle = handle
    with caplog.at_level(logging.WARNING, "apimart_async"):
        async with connect(raw_server) as client:
            editing = asyncio.create_task(edit(client))
            await arrived.wait()
            editing.cancel()
            with pytest.raises(asyncio.CancelledError) as caught:
                await editing
    assert "may have been billed" in "".join(caught.value.__notes__)
    assert "may have been billed" in caplog.text
    assert len(raw_server.seen) == 1


@pytest.mark.parametrize("limit", [1, 1000])
async def test_an_answer_without_its_end_names_the_request(raw_server: RawServer, limit: int) -> None:
    async def handle(exchange: Exchange) -> None:
        await exchange.read()
        await exchange.answer(MADE, headers=RATES, length=len(MADE) + 9)
        exchange.writer.close()

    raw_server.handle = handle
    async with connect(raw_server, limits=Limits(image_answer_bytes=limit)) as client:
        with pytest.raises(SubmissionIndeterminateError, match=r"request id req_7\)") as caught:
            await edit(client)
    assert caught.value.request_id == "req_7"


# --- time -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["client", "copy", "call"])
async def test_a_number_of_seconds_may_pass_without_a_byte(
    raw_server: RawServer, clock: Clock, place: str
) -> None:
    async def handle(exchange: Exchange) -> None:
        await exchange.read()
        for _ in range(8):
            await arrive()
            clock.advance(100)
        await arrive()
        await exchange.answer(MADE)

    raw_server.handle = handle
    async with connect(raw_server, timeout=900 if place == "client" else None) as client:
        caller = client.with_options(timeout=900) if place == "copy" else client
        timeout = 900 if place == "call" else None
        result = await caller.edits.create(GIF, "stars", model="another", timeout=timeout)
    assert result.images
