"""Server-sent events, in any chunks, and the streams of services that speak them badly, over raw sockets."""

from __future__ import annotations

import asyncio
import base64
import json
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apimart_async import (
    AsyncAppleRouter,
    BadRequestError,
    CompletedImageEvent,
    Limits,
    SubmissionIndeterminateError,
    Timeout,
)
from apimart_async.transport.event_stream import Event, EventParser
from tests.transport.conftest import png_of

if TYPE_CHECKING:
    from apimart_async import ImageEvent
    from tests.clock import Clock

    from .conftest import Exchange, RawServer

PACKED = base64.b64encode(png_of(b"one")).decode()
PARTIAL = json.dumps({"type": "image_generation.partial_image", "b64_json": PACKED, "partial_image_index": 0})
COMPLETED = json.dumps({"type": "image_generation.completed", "b64_json": PACKED, "created_at": 1713833628})


def parse(*chunks: bytes) -> list[Event]:
    parser = EventParser()
    return [*(event for chunk in chunks for event in parser.feed(chunk)), *parser.finish()]


@pytest.mark.parametrize(
    ("body", "events"),
    [
        (b"data: a\n\n", [("", b"a")]),
        (b"event: x\ndata: a\n\ndata:b\n\n", [("x", b"a"), ("", b"b")]),
        (b"data: a\r\n\r\ndata: b\r\rdata: c\n\n", [("", b"a"), ("", b"b"), ("", b"c")]),
        (b"data: a\ndata: b\n\n", [("", b"a\nb")]),
        (b"\xef\xbb\xbfdata: a\n\n", [("", b"a")]),
        (b": a comment\nid: 7\nretry: 3\ndata:  a\n\n", [("", b" a")]),
        (b"event: x\n\ndata: a\n\n", [("", b"a")]),
        (b"data: a", [("", b"a")]),
        (b"data\n\n", [("", b"")]),
        (b"", []),
        (b"\n\n\n", []),
    ],
)
def test_events_are_split_as_the_standard_says(body: bytes, events: list[tuple[str, bytes]]) -> None:
    assert parse(body) == [Event(*each) for each in events]


@given(
    st.lists(st.sampled_from([b"data: a", b"event: x", b"\n", b"\r\n", b"\r", b":", b"data", b" b"])),
    st.data(),
)
def test_chunks_do_not_change_the_events(parts: list[bytes], data: st.DataObject) -> None:
    body = b"".join(parts)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(body)))))
    edges = [0, *cuts, len(body)]
    chunks = [body[start:end] for start, end in pairwise(edges)]
    assert parse(*chunks) == parse(body)


def connect(raw_server: RawServer, **options: Any) -> AsyncAppleRouter:
    settings: dict[str, Any] = {"timeout": Timeout(read=100, total=1000), "base_url": raw_server.base_url}
    return AsyncAppleRouter("sk-secret", **(settings | options))


async def collect(client: AsyncAppleRouter, n: int = 1) -> list[ImageEvent]:
    async with client.generations.stream("stars", model="another", n=n) as events:
        return [event async for event in events]


def answering(
    raw_server: RawServer, *chunks: str, kind: str = "text/event-stream", status: int = 200
) -> None:
    async def handle(exchange: Exchange) -> None:
        await exchange.read()
        body = "".join(chunks).encode()
        await exchange.answer(body, status, {"Content-Type": kind, "X-Request-Id": "req_7"})

    raw_server.handle = handle


@pytest.mark.parametrize(
    "chunks",
    [
        [f"data: {PARTIAL}\n\ndata: {COMPLETED}\n\n"],
        [f"data: {PARTIAL}\n\ndata: {COMPLETED}\n\ndata: [DONE]\n\n"],
        [f"data: {PARTIAL}\r\n\r\ndata: {COMPLETED}"],
        [f": ping\n\ndata: {PARTIAL}\n\nevent: image_generation.queued\ndata: {{}}\n\ndata: {COMPLETED}\n\n"],
        [
            f'event: image_generation.{kind}\ndata: {{"b64_json": "{PACKED}"}}\n\n'
            for kind in ("partial_image", "completed")
        ],
    ],
    ids=["plain", "done", "no empty line at the end", "other events", "types beside the data"],
)
async def test_every_spelling_of_a_stream_is_read(raw_server: RawServer, chunks: list[str]) -> None:
    answering(raw_server, *chunks)
    async with connect(raw_server) as client:
        found = await collect(client)
    assert [event.type for event in found] == ["image_generation.partial_image", "image_generation.completed"]
    assert {event.image.url for event in found} == {f"data:image/png;base64,{PACKED}"}


@pytest.mark.parametrize("kind", ["application/json", "text/event-stream"])
async def test_a_service_that_does_not_stream_answers_with_all_images(
    raw_server: RawServer, kind: str
) -> None:
    data = [{"url": "/files/0.png"}, {"b64_json": PACKED}]
    answering(raw_server, json.dumps({"created": 1713833628, "data": data}), kind=kind)
    async with connect(raw_server) as client:
        found = await collect(client, n=2)
    assert all(isinstance(event, CompletedImageEvent) for event in found)
    urls = [event.image.url for event in found]
    assert urls == [f"{raw_server.base_url}/files/0.png", f"data:image/png;base64,{PACKED}"]


REFUSAL = '{"error": {"message": "no such size", "type": "invalid_request_error", "code": null}}'
LOST = '{"error": {"message": "lost sk-secret", "type": "server_error"}}'


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (f"event: error\ndata: {REFUSAL}\n\n", BadRequestError),
        (f"data: {REFUSAL}\n\n", BadRequestError),
        (REFUSAL, BadRequestError),
        (f"event: error\ndata: {LOST}\n\n", SubmissionIndeterminateError),
        ('event: error\ndata: {"message": "lost"}\n\n', SubmissionIndeterminateError),
        ('data: {"type": "error", "message": "lost"}\n\n', SubmissionIndeterminateError),
        (f"data: {PARTIAL}\n\nevent: error\ndata: {REFUSAL}\n\n", SubmissionIndeterminateError),
        (f"data: {PARTIAL}\n\n", SubmissionIndeterminateError),
        ("data: [DONE]\n\n", SubmissionIndeterminateError),
        ("data: {half\n\n", SubmissionIndeterminateError),
        ("", SubmissionIndeterminateError),
        ('{"created": 1}', SubmissionIndeterminateError),
    ],
)
async def test_an_error_before_any_image_counts_and_later_nothing_is_certain(
    raw_server: RawServer, body: str, kind: type[Exception]
) -> None:
    answering(raw_server, body)
    async with connect(raw_server) as client:
        with pytest.raises(kind) as caught:
            await collect(client)
    assert getattr(caught.value, "request_id", None) == "req_7"
    assert "sk-secret" not in repr(caught.value)
    assert len(raw_server.seen) == 1


@pytest.mark.parametrize("sign", ["data: ping", "data: {}", 'data: {"status": "processing"}', "data"])
async def test_signs_of_life_lose_no_image(raw_server: RawServer, sign: str) -> None:
    answering(raw_server, *[f"{sign}\n\n", f"data: {COMPLETED}\n\n"] * 2)
    async with connect(raw_server) as client:
        found = await collect(client, n=2)
        with pytest.raises(SubmissionIndeterminateError, match="executed: The service") as caught:
            await collect(client, n=3)
    assert [event.type for event in found] == ["image_generation.completed"] * 2
    assert len(caught.value.images) == 2


async def test_a_break_behind_the_last_image_is_the_end(raw_server: RawServer) -> None:
    async def handle(exchange: Exchange) -> None:
        await exchange.read()
        body = f"data: {COMPLETED}\n\n".encode()
        await exchange.answer(body, 200, {"Content-Type": "text/event-stream"}, length=len(body) + 9)
        exchange.writer.close()

    raw_server.handle = handle
    async with connect(raw_server) as client:
        assert [event.type for event in await collect(client)] == ["image_generation.completed"]
        with pytest.raises(SubmissionIndeterminateError) as caught:
            await collect(client, n=2)
    assert len(caught.value.images) == 1


async def test_a_stream_above_the_limit_is_indeterminate(raw_server: RawServer) -> None:
    answering(raw_server, f"data: {PARTIAL}\n\n" * 100)
    async with connect(raw_server, limits=Limits(image_answer_bytes=5 * len(PARTIAL))) as client:
        with pytest.raises(SubmissionIndeterminateError, match=r"Limits\.image_answer_bytes"):
            await collect(client)


async def test_silence_within_a_stream_ends_it(raw_server: RawServer, clock: Clock) -> None:
    async def handle(exchange: Exchange) -> None:
        await exchange.read()
        body = f"data: {PARTIAL}\n\n".encode()
        await exchange.answer(body, 200, {"Content-Type": "text/event-stream"}, length=10_000_000)
        await exchange.reader.read()

    raw_server.handle = handle
    async with connect(raw_server) as client, client.generations.stream("stars", model="another") as events:
        await anext(events)
        with pytest.raises(SubmissionIndeterminateError, match=r"100 s \(Timeout\.read") as caught:
            async with clock.rushing(101):
                await anext(events)
    assert len(caught.value.partial_images) == 1


async def test_an_unasked_stream_is_an_answer_to_create(raw_server: RawServer) -> None:
    """Some services always stream."""
    answering(raw_server, f"data: {PARTIAL}\n\ndata: {COMPLETED}\n\n")
    async with connect(raw_server) as client:
        result = await client.generations.create("stars", model="another")
    assert [image.url for image in result.images] == [f"data:image/png;base64,{PACKED}"]


@pytest.mark.parametrize("kind", [[], {}, ["error"], None, 1], ids=str)
async def test_a_type_of_any_kind_is_read(raw_server: RawServer, kind: object) -> None:
    answering(raw_server, f"event: image_generation.completed\ndata: {json.dumps({'type': kind})}\n\n")
    async with connect(raw_server) as client:
        with pytest.raises(SubmissionIndeterminateError):
            await collect(client)


async def test_a_key_in_the_name_of_an_event_is_taken_out(raw_server: RawServer) -> None:
    answering(raw_server, f'event: sk-secret.completed\ndata: {{"b64_json": "{PACKED}"}}\n\n')
    async with connect(raw_server) as client:
        (event,) = await collect(client)
    assert "sk-secret" not in repr((event, event.raw))


async def test_an_endless_stream_of_images_ends_soon_behind_those_that_were_asked_for(
    raw_server: RawServer,
) -> None:
    async def handle(exchange: Exchange) -> None:
        await exchange.read()
        exchange.writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
        while True:
            exchange.writer.write(f"data: {COMPLETED}\n\n".encode())
            await exchange.writer.drain()
            await asyncio.sleep(0)

    raw_server.handle = handle
    async with connect(raw_server) as client:
        assert len(await collect(client, n=2)) == 2 + 16


@pytest.mark.parametrize("line_end", ["\n", "\r", "\r\n"])
async def test_an_event_of_very_many_lines_is_not_read(raw_server: RawServer, line_end: str) -> None:
    answering(raw_server, f"data:{line_end}" * 100_001)
    async with connect(raw_server) as client:
        with pytest.raises(SubmissionIndeterminateError, match="more than 100000 lines"):
            await collect(client)
