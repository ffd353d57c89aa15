"""Answers that are meant to exhaust memory and time: the work on each is bounded before it begins."""

from __future__ import annotations

import asyncio
import json
import tracemalloc
from typing import TYPE_CHECKING, Any

import pytest

from apimart_async import APIResponseValidationError, AsyncApimart, AsyncAppleRouter
from apimart_async.transport.json import loads

from .conftest import RawServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.clock import Clock

    from .conftest import Exchange

GIF = bytes.fromhex("47494638396101000100800000ffffff0000002c00000000010001000002024401003b")
_COUNT = 700_000

FLOODS = {
    "objects": b"[" + b"{}," * _COUNT + b"{}]",
    "arrays": b"[" + b"[]," * _COUNT + b"[]]",
    "numbers": b"[" + b"1," * _COUNT + b"1]",
    "empty texts": b"[" + b'"",' * _COUNT + b'""]',
    "members": b"{" + b",".join(b'"%d":1' % number for number in range(_COUNT)) + b"}",
    "unfinished objects": b"[" + b"{}," * _COUNT,
    "objects before other text": b"[" + b"{}," * _COUNT + b"{}]!",
    "JSON in JSON": json.dumps("[" + "{}," * _COUNT + "{}]").encode(),
    "halves of surrogate pairs": b'["' + rb"\ud800" * _COUNT + b'"]',
    "events": b'data: {"a":1}\n\n' + b"data: [{},{},{},{},{}]\n\n" * (_COUNT // 5),
    "blanks": b" " * 17 * 1024 * 1024 + b"{}",
    "another encoding": b"\xff\xfe" + ("[" + "{}," * _COUNT).encode("utf-16-le"),
}


@pytest.mark.parametrize("flood", FLOODS.values(), ids=FLOODS)
async def test_an_answer_of_very_many_values_is_not_decoded(raw_server: RawServer, flood: bytes) -> None:
    async def handle(exchange: Exchange) -> None:
        await exchange.read()
        await exchange.answer(flood)

    raw_server.handle = handle
    async with AsyncApimart("sk-test", base_url=raw_server.base_url, max_retries=0) as client:
        with pytest.raises(APIResponseValidationError, match="more than"):
            await client.account.balance()


def test_a_flood_of_values_takes_no_memory() -> None:
    tracemalloc.start()
    try:
        with pytest.raises(APIResponseValidationError, match="more than 250000 values"):
            loads(FLOODS["objects"])
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 4 * len(FLOODS["objects"])


async def test_a_task_in_an_answer_as_large_as_any_is_read(raw_server: RawServer) -> None:
    task = {
        "id": "task_1",
        "status": "processing",
        "prompt": "a, {b}, [c] " * 100_000,
        "tags": list(range(200_000)),
    }

    async def handle(exchange: Exchange) -> None:
        await exchange.read()
        await exchange.answer(json.dumps({"code": 200, "data": task}).encode())

    raw_server.handle = handle
    async with AsyncApimart("sk-test", base_url=raw_server.base_url) as client:
        assert (await client.tasks.get("task_1")).id == "task_1"


async def test_base64_with_the_escapes_of_dot_net_is_read(raw_server: RawServer) -> None:
    text = json.dumps(
        {"created": 1, "data": [{"b64_json": "R0lGODlhAQABAIAAAP+/AAAALAAAAAABAAEAAAICRAEAOw=="}]}
    )
    long = (
        text.replace("AOw==", "AOw" + "+/" * 400_000 + "AA==").replace("+", "\\u002B").replace("/", "\\u002F")
    )

    async def handle(exchange: Exchange) -> None:
        await exchange.read()
        await exchange.answer(long.replace("=", "\\u003D").encode())

    raw_server.handle = handle
    async with AsyncAppleRouter("sk-test", base_url=raw_server.base_url) as router:
        result = await router.edits.create(GIF, "stars", model="another")
    assert "+/+/" in result.images[0].url


async def test_a_negative_cost_is_unknown(raw_server: RawServer) -> None:
    """It would make room in the budget of a batch."""

    async def handle(exchange: Exchange) -> None:
        is_task = "tasks" in (await exchange.read()).path
        task = {"id": "task_1", "status": "completed", "cost": -1000, "credits_cost": "-5"}
        images = {"created": 1, "cost": -1000, "data": [{"url": "https://files.example/a.png"}]}
        await exchange.answer(json.dumps(task if is_task else images).encode())

    raw_server.handle = handle
    async with AsyncApimart("sk-test", base_url=raw_server.base_url) as client:
        found = await client.tasks.get("task_1")
    assert (found.cost, found.credits_cost) == (None, None)
    async with AsyncAppleRouter("sk-test", base_url=raw_server.base_url) as router:
        assert (await router.edits.create(GIF, "stars", model="another")).cost is None


@pytest.fixture
async def schema_server() -> AsyncIterator[RawServer]:
    """A raw server whose test answers requests for schemas too."""
    server = RawServer()
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    server.base_url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    yield server
    listener.close()
    await listener.wait_closed()


_DOUBLED = {f"a{level}": {"anyOf": [{"$ref": f"#/parts/a{level + 1}"}] * 2} for level in range(40)}

SCHEMAS: dict[str, dict[str, Any]] = {
    "an alternative that is itself": {"properties": {"prompt": {"anyOf": [{"$ref": "#/properties/prompt"}]}}},
    "two alternatives that are itself": {
        "properties": {"prompt": {"anyOf": [{"$ref": "#/properties/prompt"}] * 2}}
    },
    "a whole that is itself": {"allOf": [{"$ref": "#"}], "properties": {"prompt": {}}},
    "parts doubled forty times": {"properties": {"prompt": {"$ref": "#/parts/a0"}}, "parts": _DOUBLED},
    "parts repeated in parts": {
        "allOf": [{"$ref": "#/parts"}] * 5000,
        "parts": {"properties": {f"p{number}": {} for number in range(5000)}},
        "properties": {"prompt": {}},
    },
    "many alternatives with many values": {
        "properties": {
            "prompt": {
                "anyOf": [{"enum": list(range(start, start + 900))} for start in range(0, 90_000, 900)]
            }
        }
    },
    "many parameters": {"properties": {f"p{number}": {} for number in range(50_000)}},
    "a long reference": {"properties": {"prompt": {"$ref": "#" + "/a" * 3_000_000}}},
    "many types": {"properties": {"prompt": {"type": ["string"] * 100_000}}},
}


@pytest.mark.parametrize("schema", SCHEMAS.values(), ids=SCHEMAS)
async def test_a_hostile_schema_does_not_hold_up_a_paid_request(
    schema_server: RawServer, schema: dict[str, Any]
) -> None:
    async def handle(exchange: Exchange) -> None:
        if "model-schema" in (await exchange.read()).path:
            described = {"model": "painter", "operation": "image_generation", "input_schema": schema}
            await exchange.answer(json.dumps(described).encode())
        else:
            await exchange.answer(b'{"data": [{"task_id": "task_1", "status": "submitted"}]}')

    schema_server.handle = handle
    async with AsyncApimart("sk-test", base_url=schema_server.base_url) as client:
        assert (await client.generations.create("A lighthouse", model="painter")).id == "task_1"


@pytest.mark.parametrize(
    "etag",
    [b"\xff\xfe", b"\x01", b"a" * 100_000, b"sk-secret", b"a b"],
    ids=["bytes", "control", "long", "key", "two"],
)
async def test_a_version_that_cannot_be_sent_back_is_not_kept(
    schema_server: RawServer, clock: Clock, etag: bytes
) -> None:
    properties: dict[str, Any] = {"properties": {"prompt": {}}}
    schema = {"model": "painter", "operation": "image_generation", "input_schema": properties}
    body = json.dumps(schema).encode()

    async def handle(exchange: Exchange) -> None:
        await exchange.read()
        head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nETag: %s\r\n\r\n" % (len(body), etag)
        exchange.writer.write(head + body)
        await exchange.writer.drain()

    schema_server.handle = handle
    async with AsyncApimart("sk-secret", base_url=schema_server.base_url) as client:
        for _ in range(2):
            assert await client.models.schema("painter") is not None
            clock.advance(3700)
    assert not any("if-none-match" in request.headers for request in schema_server.seen)
