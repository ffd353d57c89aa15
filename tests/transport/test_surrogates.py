"""Halves of surrogate pairs in answers: they can be neither sent, nor stored, nor printed."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from apimart_async import AsyncApimart, InvalidArgumentError, Job, Poll, Task, edit_many, webhooks
from apimart_async.transport import json

if TYPE_CHECKING:
    from pathlib import Path

    from .conftest import Exchange, RawServer


@pytest.mark.parametrize(
    ("literal", "text"),
    [
        (rb'"a\ud800b"', "a\\ud800b"),
        (rb'"\uDFFF"', "\\uDFFF"),
        (rb'"\ud800\ud800\udc00"', "\\ud800\U00010000"),
        (rb'"\ud83d\ude00"', "\U0001f600"),
        (rb'"\\ud800"', "\\ud800"),
        (rb'"\\\ud800"', "\\\\ud800"),
        (rb'{"\ud800":1}', {"\\ud800": 1}),
    ],
)
@pytest.mark.parametrize("has_orjson", [False, True])
def test_a_half_becomes_the_text_of_its_escape(
    monkeypatch: pytest.MonkeyPatch, literal: bytes, text: object, *, has_orjson: bool
) -> None:
    if not has_orjson:
        monkeypatch.setattr(json, "orjson", None)
    assert json.loads(literal) == text


@pytest.mark.long
async def test_a_paid_task_is_kept_whatever_its_id(raw_server: RawServer, tmp_path: Path) -> None:
    async def handle(exchange: Exchange) -> None:
        seen = await exchange.read()
        if seen.method == "POST":
            await exchange.answer(rb'{"code":200,"data":[{"status":"submitted","task_id":"task_\ud800"}]}')
        else:
            await exchange.answer(
                rb'{"data":{"id":"task_\ud800","status":"failed","error":{"message":"n\udfff"}}}'
            )

    raw_server.handle = handle
    async with AsyncApimart("sk-test", base_url=raw_server.base_url, max_retries=0) as client:
        task = await client.edits.create("https://p.example/a.png", "stars")
        assert task.id == "task_\\ud800"
        async with edit_many(
            client, [Job("https://p.example/a.png", "stars", id="a")], output=tmp_path
        ) as outcomes:
            (outcome,) = [outcome async for outcome in outcomes]
    assert outcome.task is not None
    assert outcome.task.id == "task_\\ud800"
    assert str(outcome.error).encode()
    assert seen_ids(raw_server) == ["task_%5Cud800"]


def seen_ids(server: RawServer) -> list[str]:
    return sorted(
        {seen.path.partition("?")[0].rpartition("/")[2] for seen in server.seen if "tasks" in seen.path}
    )


async def test_an_id_that_cannot_be_sent_fails_no_wait_beside_it(raw_server: RawServer) -> None:
    async def handle(exchange: Exchange) -> None:
        await exchange.read()
        await exchange.answer(
            b'{"data":{"id":"good","status":"completed","result":{"images":[{"url":"https://p.example/a"}]}}}'
        )

    raw_server.handle = handle
    poll = Poll(first=0.01, shortest=0.01, longest=0.02)
    async with AsyncApimart("sk-test", base_url=raw_server.base_url, max_retries=0, poll=poll) as client:
        results = await asyncio.gather(
            client.tasks.wait("good"), client.tasks.wait("bad \ud800"), return_exceptions=True
        )
        forged = webhooks.parse({"id": "forged \ud800", "status": "completed"})
        with pytest.raises(InvalidArgumentError, match="surrogate"):
            await webhooks.confirm(client, forged)
    assert isinstance(results[0], Task)
    assert isinstance(results[1], InvalidArgumentError)
    assert all("%20" not in seen.path for seen in raw_server.seen)
