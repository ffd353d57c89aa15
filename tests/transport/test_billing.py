"""The table "Was a submit billed?", row by row, over real sockets."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import TYPE_CHECKING

import pytest

from apimart_async import (
    APIConnectionError,
    ApimartError,
    APIStatusError,
    APITimeoutError,
    AsyncApimart,
    Limits,
    RateLimitError,
    Retry,
    SubmissionIndeterminateError,
    Timeout,
    errors,
)

from .conftest import arrive

if TYPE_CHECKING:
    from tests.clock import Clock

    from .conftest import Exchange, RawServer

ACCEPTED = b'{"code":200,"data":[{"status":"submitted","task_id":"task_01J"}]}'
PICTURE = "https://pictures.example/photo.jpg"
KEY = "one-key"


def connect(raw_server: RawServer, **options: object) -> AsyncApimart:
    settings = {
        "retry": Retry(initial_delay=0.01, max_delay=0.02, max_retry_after=0.5),
        "timeout": Timeout(read=100, total=1000),
        "base_url": raw_server.base_url,
    }
    return AsyncApimart("sk-test", **(settings | options))  # type: ignore[arg-type]


async def submit(client: AsyncApimart) -> str:
    return str((await client.edits.create(PICTURE, "a starry sky", idempotency_key=KEY)).id)


def error_body(code: object = "", message: str = "no", kind: str = "apimart_error") -> bytes:
    return json.dumps({"error": {"code": code, "message": message, "type": kind}}).encode()


async def test_a_submit_that_is_accepted_is_sent_once_with_its_key(raw_server: RawServer) -> None:
    async def handle(exchange: Exchange) -> None:
        await exchange.read()
        await exchange.answer(ACCEPTED)

    raw_server.handle = handle
    async with connect(raw_server, default_headers={"X-Team": "a"}) as client:
        task = await client.edits.create(
            PICTURE, "stars", n=2, extra_body={"seed": 7}, extra_headers={"X-Call": "b"}
        )
    (seen,) = raw_server.seen
    assert (seen.method, seen.path) == ("POST", "/v1/images/edits")
    assert json.loads(seen.body) == {
        "model": "grok-imagine-1.0-edit-apimart",
        "prompt": "stars",
        "image_urls": [PICTURE],
        "n": 2,
        "seed": 7,
    }
    assert seen.headers["authorization"] == "Bearer sk-test"
    assert seen.headers["idempotency-key"] == task.idempotency_key
    assert seen.headers["content-type"] == "application/json"
    assert seen.headers["x-team"] == "a"
    assert seen.headers["x-call"] == "b"


async def test_a_refused_connection_is_tried_again_and_raised_as_itself() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    client = AsyncApimart("sk-test", base_url=f"http://127.0.0.1:{port}", retry=Retry(initial_delay=0.01))
    async with client:
        with pytest.raises(APIConnectionError) as caught:
            await submit(client)
    assert not isinstance(caught.value, SubmissionIndeterminateError)
    assert caught.value.idempotency_key == KEY


async def test_a_service_that_comes_up_between_two_tries_gets_the_submit() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    received: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(ACCEPTED), ACCEPTED))
        await writer.drain()
        writer.close()

    client = AsyncApimart(
        "sk-test",
        base_url=f"http://127.0.0.1:{port}",
        retry=Retry(initial_delay=0.4, max_delay=0.4),
        max_retries=20,
    )
    async with client, asyncio.TaskGroup() as group:
        submitted = group.create_task(submit(client))
        await asyncio.sleep(0.05)
        server = await asyncio.start_server(serve, "127.0.0.1", port)
        assert await submitted == "task_01J"
        server.close()
    assert len(received) == 1


async def test_a_name_that_cannot_be_looked_up_was_never_sent() -> None:
    async with AsyncApimart("sk-test", base_url="https://nowhere.invalid", max_retries=0) as client:
        with pytest.raises(APIConnectionError) as caught:
            await submit(client)
    assert not isinstance(caught.value, SubmissionIndeterminateError)


async def test_a_failed_tls_handshake_was_never_sent(raw_server: RawServer) -> None:
    async def handle(exchange: Exchange) -> None:
        await exchange.reader.read(1)
        exchange.drop()

    raw_server.handle = handle
    url = raw_server.base_url.replace("http://", "https://")
    async with connect(raw_server, base_url=url, max_retries=0) as client:
        with pytest.raises(APIConnectionError) as caught:
            await submit(client)
    assert not isinstance(caught.value, SubmissionIndeterminateError)


async def test_waiting_too_long_for_a_connection_was_never_sent(raw_server: RawServer, clock: Clock) -> None:
    arrived, go_on = asyncio.Event(), asyncio.Event()

    async def handle(exchange: Exchange) -> None:
        await exchange.read()
        arrived.set()
        await go_on.wait()
        await exchange.answer(ACCEPTED)

    raw_server.handle = handle
    timeout = Timeout(pool=10, read=1000, total=1000)
    async with connect(raw_server, limits=Limits(connections=1), timeout=timeout, max_retries=0) as client:
        first = asyncio.create_task(submit(client))
        await arrived.wait()
        second = asyncio.create_task(submit(client))
        await arrive()
        clock.advance(20)
        with pytest.raises(APITimeoutError, match=r"Timeout\.pool"):
            await second
        go_on.set()
        assert await first == "task_01J"
    assert len(raw_server.seen) == 1


@pytest.mark.parametrize("when", ["before reading", "after reading", "half an answer", "no answer", "drip"])
async def test_a_lost_answer_is_indeterminate_and_never_sent_again(
    raw_server: RawServer, clock: Clock, when: str
) -> None:
    async def handle(exchange: Exchange) -> None:
        if when == "before reading":
            await exchange.reader.read(1)
            exchange.drop()
            return
        await exchange.read()
        if when == "half an answer":
            await exchange.answer(ACCEPTED[:20], length=len(ACCEPTED))
        if when == "no answer":
            async with clock.rushing(200):
                await asyncio.Event().wait()
        if when == "drip":
            await exchange.answer(b"{", length=1000)
            for _ in range(50):
                exchange.writer.write(b" ")
                await arrive()
                clock.advance(50)
        exchange.drop()

    raw_server.handle = handle
    async with connect(raw_server) as client:
        with pytest.raises(SubmissionIndeterminateError, match=f"not sent again.*{KEY}") as caught:
            await submit(client)
    assert raw_server.connections == 1
    assert caught.value.idempotency_key == KEY
    assert isinstance(caught.value.__cause__, APIConnectionError)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, errors.BadRequestError),
        (401, errors.AuthenticationError),
        (402, errors.InsufficientBalanceError),
        (403, errors.PermissionDeniedError),
        (404, errors.NotFoundError),
        (413, errors.PayloadTooLargeError),
        (422, errors.UnprocessableEntityError),
        (302, errors.APIStatusError),
        (307, errors.APIStatusError),
    ],
)
@pytest.mark.parametrize("body", [error_body(), b"<html>no</html>", b""])
async def test_a_rejection_is_raised_at_once(
    raw_server: RawServer, status: int, kind: type[APIStatusError], body: bytes
) -> None:
    async def handle(exchange: Exchange) -> None:
        await exchange.read()
        await exchange.answer(
            body, status, {"X-Oneapi-Request-Id": "r-7", "Location": "https://evil.example/"}
        )

    raw_server.handle = handle
    async with connect(raw_server) as client:
        with pytest.raises(kind) as caught:
            await submit(client)
    assert len(raw_server.seen) == 1
    assert type(caught.value) is kind
    assert caught.value.status == status
    assert caught.value.request_id == "r-7"
    assert caught.value.method == "POST"
    assert caught.value.url == f"{raw_server.base_url}/v1/images/edits"
    assert caught.value.idempotency_key == KEY


async def test_an_error_in_the_body_wins_over_a_200(raw_server: RawServer) -> None:
    async def handle(exchange: Exchange) -> None:
        await exchange.read()
        await exchange.answer(
            b'{"code":402,"error":{"code":402,"message":"no balance","type":"payment_required"}}'
        )

    raw_server.handle = handle
    async with connect(raw_server) as client:
        with pytest.raises(errors.InsufficientBalanceError, match="no balance"):
            await submit(client)


def http_date(seconds: float) -> str:
    return format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True)


@pytest.mark.parametrize(
    ("status", "body", "headers"),
    [
        (429, error_body(), {}),
        (429, b"slow down", {"Retry-After": "0.05"}),
        (429, error_body(), {"Retry-After-Ms": "20"}),
        (429, error_body(), {"Retry-After": "Sat, 21 Nov 2015 12:15:32 GMT"}),
        (429, error_body(), {"Retry-After": "soon"}),
        (409, error_body("idempotency_in_progress"), {"Retry-After": "0"}),
        (409, error_body(409, kind="idempotency_in_progress"), {}),
        (503, error_body("idempotency_unavailable"), {}),
    ],
)
async def test_a_deferred_submit_is_sent_again_with_the_same_key(
    raw_server: RawServer, status: int, body: bytes, headers: dict[str, str]
) -> None:
    async def handle(exchange: Exchange) -> None:
        await exchange.read()
        if len(raw_server.seen) < 3:
            await exchange.answer(body, status, headers)
        else:
            await exchange.answer(ACCEPTED)

    raw_server.handle = handle
    async with connect(raw_server) as client:
        assert await submit(client) == "task_01J"
    assert [seen.headers["idempotency-key"] for seen in raw_server.seen] == [KEY] * 3


@pytest.mark.parametrize("after", ["86400", "1e300", "a date"])
async def test_an_absurd_retry_after_is_raised_and_not_slept(raw_server: RawServer, after: str) -> None:
    async def handle(exchange: Exchange) -> None:
        await exchange.read()
        wait = http_date(3600) if after == "a date" else after
        await exchange.answer(error_body(), 429, {"Retry-After": wait})

    raw_server.handle = handle
    async with connect(raw_server) as client:
        with pytest.raises(RateLimitError) as caught:
            await submit(client)
    assert caught.value.retry_after
    assert caught.value.retry_after > 3000
    assert len(raw_server.seen) == 1


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (409, error_body("idempotency_key_reused")),
        (429, error_body("insufficient_quota")),
        (500, error_body(message="build_request_failed: bad field")),
        (500, error_body(message="blocked by content moderation")),
    ],
)
async def test_a_permanent_answer_is_raised_and_not_repeated(
    raw_server: RawServer, status: int, body: bytes
) -> None:
    async def handle(exchange: Exchange) -> None:
        await exchange.read()
        await exchange.answer(body, status)

    raw_server.handle = handle
    async with connect(raw_server) as client:
        with pytest.raises(APIStatusError) as caught:
            await submit(client)
    assert caught.value.status == status
    assert len(raw_server.seen) == 1


@pytest.mark.parametrize("status", [500, 502, 503, 504, 599, 408])
async def test_a_server_error_after_a_submit_is_indeterminate(raw_server: RawServer, status: int) -> None:
    async def handle(exchange: Exchange) -> None:
        await exchange.read()
        await exchange.answer(error_body(message="get_channel_failed"), status)

    raw_server.handle = handle
    async with connect(raw_server) as client:
        with pytest.raises(SubmissionIndeterminateError, match="get_channel_failed") as caught:
            await submit(client)
    assert caught.value.status == status
    assert len(raw_server.seen) == 1


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (409, error_body("idempotency_result_indeterminate")),
        (409, error_body(kind="idempotency_result_indeterminate")),
        (409, error_body()),
        (409, b"<html>conflict"),
        (200, error_body(kind="hiccup")),
        (200, b'{"success":false,"message":"no"}'),
        (200, b'{"error":{"message":"no","type":"server_error"}}'),
    ],
)
async def test_an_unclear_answer_is_indeterminate(raw_server: RawServer, status: int, body: bytes) -> None:
    async def handle(exchange: Exchange) -> None:
        await exchange.read()
        await exchange.answer(body, status)

    raw_server.handle = handle
    async with connect(raw_server) as client:
        with pytest.raises(SubmissionIndeterminateError):
            await submit(client)
    assert len(raw_server.seen) == 1


@pytest.mark.parametrize(
    "body", [b"{}", b"", b"<html>", b'{"code":200,"data":[]}', b"[]", b"null", b'{"data":{"id":""}}']
)
async def test_an_accepted_submit_without_an_id_is_an_error_of_its_own(
    raw_server: RawServer, body: bytes
) -> None:
    async def handle(exchange: Exchange) -> None:
        await exchange.read()
        await exchange.answer(body, 200, {"X-Oneapi-Request-Id": "r-8"})

    raw_server.handle = handle
    async with connect(raw_server) as client:
        with pytest.raises(SubmissionIndeterminateError) as caught:
            await submit(client)
    assert caught.value.request_id == "r-8"
    assert caught.value.idempotency_key == KEY
    assert len(raw_server.seen) == 1


async def test_a_kept_connection_that_the_server_closed_does_not_resend_a_paid_post(
    raw_server: RawServer,
) -> None:
    async def handle(exchange: Exchange) -> None:
        await exchange.read()
        if len(raw_server.seen) == 1:
            await exchange.answer(ACCEPTED)
        else:
            exchange.drop()

    raw_server.handle = handle
    async with connect(raw_server) as client:
        assert await submit(client) == "task_01J"
        with pytest.raises(SubmissionIndeterminateError):
            await submit(client)
    assert len(raw_server.seen) == 2
    assert raw_server.connections == 1


async def test_a_cancelled_submit_leaves_its_key_in_the_notes_and_in_the_log(
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
            submitting = asyncio.create_task(submit(client))
            await arrived.wait()
            submitting.cancel()
            with pytest.raises(asyncio.CancelledError) as caught:
                await submitting
    assert KEY in "".join(caught.value.__notes__)
    assert KEY in caplog.text
    assert len(raw_server.seen) == 1


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504, 200])
async def test_an_upload_and_a_look_are_tried_again(raw_server: RawServer, status: int) -> None:
    uploaded = b'{"url":"https://u.example/a.gif","filename":"a.gif","content_type":"image/gif","bytes":35,"created_at":1}'

    async def handle(exchange: Exchange) -> None:
        seen = await exchange.read()
        if len(raw_server.seen) % 3:
            await exchange.answer(b"<html>oops" if status == 200 else error_body(), status)
        elif seen.method == "POST":
            await exchange.answer(uploaded)
        else:
            await exchange.answer(b'{"code":200,"data":{"id":"task_1","status":"queued"}}')

    raw_server.handle = handle
    gif = bytes.fromhex("47494638396101000100800000ffffff0000002c00000000010001000002024401003b")
    async with connect(raw_server) as client:
        assert (await client.uploads.create(gif)).filename == "a.gif"
        assert (await client.tasks.get("task_1")).status == "queued"
    assert len(raw_server.seen) == 6
    bodies = {seen.body.split(b"\r\n\r\n", 1)[1][: len(gif)] for seen in raw_server.seen[:3]}
    assert bodies == {gif}


@pytest.mark.parametrize("announced", [1, len(ACCEPTED), 10 * len(ACCEPTED)])
async def test_an_answer_of_two_lengths_is_not_read_and_its_submit_may_have_been_billed(
    raw_server: RawServer, announced: int
) -> None:
    async def handle(exchange: Exchange) -> None:
        await exchange.read()
        chunks = b"%x\r\n%s\r\n0\r\n\r\n" % (len(ACCEPTED), ACCEPTED)
        await exchange.answer(chunks, headers={"Transfer-Encoding": "chunked"}, length=announced)

    raw_server.handle = handle
    async with connect(raw_server) as client:
        with pytest.raises(SubmissionIndeterminateError) as caught:
            await submit(client)
    assert caught.value.idempotency_key == KEY
    assert len(raw_server.seen) == 1


async def test_an_answer_larger_than_the_limit_is_cut_off(raw_server: RawServer) -> None:
    async def handle(exchange: Exchange) -> None:
        await exchange.read()
        await exchange.answer(b'"' + b"x" * 100_000 + b'"')

    raw_server.handle = handle
    async with connect(
        raw_server, limits=Limits(answer_bytes=1000, image_answer_bytes=2000), max_retries=0
    ) as client:
        with pytest.raises(ApimartError, match=r"Limits\.answer_bytes"):
            await client.account.balance()
        with pytest.raises(ApimartError, match=r"Limits\.image_answer_bytes"):
            await client.tasks.get("task_1")
