"""Good answers that gateways have damaged, or that are no JSON: the id or the image in them is not lost."""

from __future__ import annotations

import base64
import gzip
import json
from typing import TYPE_CHECKING, Any

import pytest

from apimart_async import (
    AsyncApimart,
    AsyncAppleRouter,
    AuthenticationError,
    DownloadError,
    Poll,
    Retry,
    SubmissionIndeterminateError,
)
from apimart_async.transport.parsing import read_submission

from .conftest import png_of

if TYPE_CHECKING:
    from .conftest import Exchange, RawServer

KEY = "sk-a-key-of-some-length"
PICTURE = "https://pictures.example/photo.jpg"
GIF = bytes.fromhex("47494638396101000100800000ffffff0000002c00000000010001000002024401003b")
PACKED = base64.b64encode(GIF).decode()
PNG = png_of(b"picture")
FAST = Poll(first=0.02, shortest=0.02, longest=0.05)
RETRY = Retry(initial_delay=0.01, max_delay=0.02)
SUBMITTED = json.dumps({"code": 200, "data": [{"status": "submitted", "task_id": "task_1"}]}).encode()
COMPLETED = {"id": "task_1", "status": "completed", "result": {"images": [{"url": "https://f.example/0"}]}}


def answering(raw_server: RawServer, *answers: tuple[bytes, int, dict[str, str]]) -> None:
    """Have a server give these answers, and the last one again and again."""

    async def handle(exchange: Exchange) -> None:
        await exchange.read()
        body, status, headers = answers[min(len(raw_server.seen), len(answers)) - 1]
        await exchange.answer(body, status, headers)

    raw_server.handle = handle


# --- the head of an answer --------------------------------------------------------------------------------

LARGE_HEADS = {
    "one of 100 kB": {"Content-Security-Policy": "x" * 100_000},
    "a thousand": {f"X-Header-{number}": "value" for number in range(1000)},
}


@pytest.mark.parametrize("head", LARGE_HEADS)
async def test_large_headers_lose_no_paid_answer(raw_server: RawServer, head: str) -> None:
    answering(raw_server, (SUBMITTED, 200, LARGE_HEADS[head]))
    async with AsyncApimart(KEY, base_url=raw_server.base_url) as client:
        assert (await client.edits.create(PICTURE, "stars")).id == "task_1"
    assert len(raw_server.seen) == 1


@pytest.mark.parametrize("head", LARGE_HEADS)
async def test_large_headers_lose_no_result(raw_server: RawServer, head: str) -> None:
    answering(raw_server, (PNG, 200, LARGE_HEADS[head]))
    async with AsyncApimart(KEY, base_url=raw_server.base_url, retry=RETRY) as client:
        assert await client.images.read(f"{raw_server.base_url}/0.png") == PNG


async def test_a_redirect_to_a_long_signed_url_is_followed(raw_server: RawServer) -> None:
    target = f"/0.png?signature={'x' * 20_000}"
    answering(raw_server, (b"", 302, {"Location": target}), (PNG, 200, {}))
    async with AsyncApimart(KEY, base_url=raw_server.base_url, retry=RETRY) as client:
        assert await client.images.read(f"{raw_server.base_url}/0.png") == PNG
    assert raw_server.seen[1].path == target


# --- bytes of a broken server behind an answer ------------------------------------------------------------

STRAY = {"a letter": b"x", "a zero": b"\0", "a line": b"\r\nx", "another answer": b"HTTP/1.1 200 OK\r\n\r\n"}
LARGE = json.dumps({"data": [{"task_id": "task_1"}], "message": "x" * 2_000_000}).encode()


@pytest.mark.parametrize("stray", STRAY)
@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
@pytest.mark.parametrize("body", [SUBMITTED, LARGE], ids=["small", "large"])
async def test_bytes_behind_a_paid_answer_in_its_segment_lose_no_task(
    raw_server: RawServer, stray: str, framing: str, body: bytes
) -> None:
    head = {
        "length": b"Content-Length: %d\r\n" % len(body),
        "chunked": b"Transfer-Encoding: chunked\r\n",
        "close": b"Connection: close\r\nContent-Length: %d\r\n" % len(body),
    }[framing]
    content = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body) if framing == "chunked" else body

    async def handle(exchange: Exchange) -> None:
        await exchange.read()
        exchange.writer.write(b"HTTP/1.1 200 OK\r\n%b\r\n%b%b" % (head, content, STRAY[stray]))
        await exchange.writer.drain()

    raw_server.handle = handle
    async with AsyncApimart(KEY, base_url=raw_server.base_url) as client:
        for _ in range(2):
            assert (await client.edits.create(PICTURE, "stars")).id == "task_1"
    assert len(raw_server.seen) == 2


# --- JSON among other bytes -------------------------------------------------------------------------------

DAMAGED = {
    "blank lines before it": b"\n" * 50 + SUBMITTED,
    "comments before it": b": keep-alive\n\n: keep-alive\n\n" + SUBMITTED,
    "zero bytes behind it": SUBMITTED + bytes(3),
    "HTML behind it": SUBMITTED + b"\n<script>1</script>",
    "the answer twice": SUBMITTED + SUBMITTED,
    "JSON as a JSON text": json.dumps(SUBMITTED.decode()).encode(),
    "UTF-16": SUBMITTED.decode().encode("utf-16"),
    "a message in GBK": b'{"message":"' + "成功".encode("gbk") + b'",' + SUBMITTED[1:],
    "a message in Latin-1": b'{"message":"caf\xe9",' + SUBMITTED[1:],
    "control characters in a text": b'{"message":"a\nb\x01",' + SUBMITTED[1:],
    "an event": b"data: " + SUBMITTED + b"\n\ndata: [DONE]\n\n",
    "an event behind comments": b": ping\n\nevent: message\ndata: " + SUBMITTED + b"\n\n",
    "an event in two lines": b'data: {"code": 200,\ndata: "data": [{"task_id": "task_1"}]}\n\n',
}


@pytest.mark.parametrize("damage", DAMAGED)
async def test_a_task_id_in_a_damaged_answer_is_read(raw_server: RawServer, damage: str) -> None:
    answering(raw_server, (DAMAGED[damage], 200, {}))
    async with AsyncApimart(KEY, base_url=raw_server.base_url) as client:
        assert (await client.edits.create(PICTURE, "stars")).id == "task_1"
    assert len(raw_server.seen) == 1


UNREADABLE = {
    "HTML with JSON in it": b'<html><script>x = {"data": [{"task_id": "task_1"}]}</script></html>',
    "an answer that is cut": SUBMITTED[:-2],
    "an error with another answer behind it": b'{"code": 400, "message": "no channel"}' + SUBMITTED,
    "a text as a JSON text": b'"ok"',
    "comments alone": b": keep-alive\n\n",
    "an endless nesting": b"[" * 100_000 + b"x",
    "partial images alone": b'data: {"type": "image_edit.partial_image", "b64_json": "QUJD"}\n\n',
}


@pytest.mark.parametrize("damage", UNREADABLE)
async def test_other_answers_to_a_paid_request_leave_it_in_doubt(raw_server: RawServer, damage: str) -> None:
    answering(raw_server, (UNREADABLE[damage], 200, {}))
    async with AsyncApimart(KEY, base_url=raw_server.base_url) as client:
        with pytest.raises(SubmissionIndeterminateError):
            await client.edits.create(PICTURE, "stars")
    assert len(raw_server.seen) == 1


# --- images in other places -------------------------------------------------------------------------------

EVENTS = "".join(
    f"event: {kind}\ndata: {json.dumps({'type': kind, 'b64_json': PACKED, 'created_at': 1})}\n\n"
    for kind in ("image_edit.partial_image", "image_edit.completed", "image_edit.completed")
)
IMAGES: dict[str, tuple[bytes, int]] = {
    "the image itself": (GIF, 1),
    "its base64": (PACKED.encode(), 1),
    "its base64 as a JSON text": (json.dumps(PACKED).encode(), 1),
    "its data: URL": (f"data:image/gif;base64,{PACKED}\n".encode(), 1),
    "events with images": (EVENTS.encode() + b"data: [DONE]\n\n", 2),
    "artifacts": (json.dumps({"artifacts": [{"base64": PACKED, "finishReason": "SUCCESS"}]}).encode(), 1),
    "a single image": (json.dumps({"image": PACKED, "finish_reason": "SUCCESS"}).encode(), 1),
    "a URL in an image": (json.dumps({"image": {"url": "https://f.example/0"}}).encode(), 1),
    "images with URLs": (json.dumps({"images": [{"url": "https://f.example/0"}], "seed": 1}).encode(), 1),
    "an error among images": (
        json.dumps({"data": [{"error": {"message": "moderated"}}, {"b64_json": PACKED}]}).encode(),
        1,
    ),
    "a URL among blanks": (json.dumps({"data": [{"url": " https://f.example/0\n"}]}).encode(), 1),
}


@pytest.mark.parametrize("place", IMAGES)
async def test_an_image_in_an_unusual_place_of_a_paid_answer_is_read(
    raw_server: RawServer, place: str
) -> None:
    body, count = IMAGES[place]
    answering(raw_server, (body, 200, {}))
    async with (
        AsyncApimart(KEY, base_url=raw_server.base_url) as client,
        AsyncAppleRouter(KEY, base_url=raw_server.base_url) as router,
    ):
        task = await client.generations.create("stars")
        images = (await router.edits.create(GIF, "stars", model="another")).images
        assert task.is_completed
        assert len(task.images) == len(images) == count
        for image in (*task.images, *images):
            if image.url != "https://f.example/0":
                assert await client.images.read(image) == GIF
    assert len(raw_server.seen) == 2


@pytest.mark.parametrize("image", ["https://f.example/given", {"url": "https://f.example/given"}, PACKED])
def test_the_image_that_a_task_was_given_is_no_result(image: Any) -> None:
    answer = {"data": {"task_id": "task_1", "status": "submitted", "image": image}}
    assert read_submission(answer, idempotency_key=None).images == ()


# --- pages of a gateway -----------------------------------------------------------------------------------

PAGES = {
    "a challenge": (b"<html>Just a moment...</html>", 403),
    "a login": (b"<html>Log in</html>", 401),
    "a refusal": (b"<html>400 Bad Request</html>", 400),
    "a method refused": (b"<html>405 Not Allowed</html>", 405),
    "a block": (b"error code: 1020", 451),
}


@pytest.mark.parametrize("page", PAGES)
async def test_a_wait_survives_pages_of_a_gateway(raw_server: RawServer, page: str) -> None:
    body, status = PAGES[page]
    pages = [(body, status, {"Content-Type": "text/html"})] * 3
    answering(raw_server, *pages, (json.dumps({"code": 200, "data": COMPLETED}).encode(), 200, {}))
    async with AsyncApimart(KEY, base_url=raw_server.base_url, poll=FAST, max_retries=0) as client:
        assert (await client.tasks.wait("task_1", timeout=60)).is_completed


async def test_a_refusal_by_the_service_itself_ends_a_wait(raw_server: RawServer) -> None:
    answering(raw_server, (b'{"error": {"message": "invalid API key"}}', 401, {}))
    async with AsyncApimart(KEY, base_url=raw_server.base_url, poll=FAST, max_retries=0) as client:
        with pytest.raises(AuthenticationError, match="invalid API key") as caught:
            await client.tasks.wait("task_1", timeout=60)
    assert not caught.value.is_page


# --- file hosts -------------------------------------------------------------------------------------------

NOT_YET = {
    "404": (b"<Error><Code>NoSuchKey</Code></Error>", 404),
    "403": (b"<Error><Code>AccessDenied</Code></Error>", 403),
    "202": (b"", 202),
    "an empty file": (b"", 200),
}


@pytest.mark.parametrize("answer", NOT_YET)
async def test_a_result_that_is_not_there_yet_is_asked_for_again(raw_server: RawServer, answer: str) -> None:
    answering(raw_server, (*NOT_YET[answer], {}), (*NOT_YET[answer], {}), (PNG, 200, {}))
    async with AsyncApimart(KEY, base_url=raw_server.base_url, retry=RETRY) as client:
        assert await client.images.read(f"{raw_server.base_url}/0.png") == PNG
    assert len(raw_server.seen) == 3


async def test_a_result_that_is_never_there_is_given_up(raw_server: RawServer) -> None:
    answering(raw_server, (*NOT_YET["404"], {}))
    async with AsyncApimart(KEY, base_url=raw_server.base_url, retry=RETRY, max_retries=2) as client:
        with pytest.raises(DownloadError, match="may have expired"):
            await client.images.read(f"{raw_server.base_url}/0.png")
    assert len(raw_server.seen) == 3


CODINGS = {
    "aws-chunked": PNG,
    "aws-chunked,gzip": gzip.compress(PNG),
    "utf-8": PNG,
    "br": PNG,
    "gzip": PNG,
    "none": PNG,
}


@pytest.mark.parametrize("coding", CODINGS)
async def test_a_coding_that_does_not_fit_the_file_is_ignored(raw_server: RawServer, coding: str) -> None:
    answering(raw_server, (CODINGS[coding], 200, {"Content-Encoding": coding}))
    async with AsyncApimart(KEY, base_url=raw_server.base_url, retry=RETRY) as client:
        assert await client.images.read(f"{raw_server.base_url}/0.png") == PNG
