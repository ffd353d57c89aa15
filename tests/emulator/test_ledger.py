from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .conftest import MakeImage, Raw


async def test_every_execution_is_recorded(raw: Raw) -> None:
    task_id = await raw.submitted(n=2, headers={"Idempotency-Key": "k"})
    (entry,) = raw.emulator.ledger.entries
    assert entry.task_id == task_id
    assert entry.endpoint == "edits"
    assert entry.idempotency_key == "k"
    assert entry.model == "grok-imagine-1.0-edit-apimart"
    assert entry.images == 2
    assert entry.cost == pytest.approx(0.03)
    assert raw.emulator.ledger.total == pytest.approx(0.03)
    assert raw.emulator.ledger.times_billed == {entry.payload: 1}
    assert raw.emulator.ledger.billed_more_than_once == {}


async def test_the_same_request_twice_is_the_same_payload(raw: Raw) -> None:
    for prompt in ("a", "b", "a", "a"):
        await raw.submitted(prompt=prompt)
    ledger = raw.emulator.ledger
    first, second, *_ = (entry.payload for entry in ledger.entries)
    assert ledger.times_billed == {first: 3, second: 1}
    assert ledger.billed_more_than_once == ledger.executed_more_than_once == {first: 3}


async def test_a_picture_counts_by_its_content(raw: Raw, make_image: MakeImage) -> None:
    content = make_image("PNG")
    first, second = (await raw.upload(content)).json["url"], (await raw.upload(content)).json["url"]
    inline = "data:image/png;base64," + base64.b64encode(content).decode()
    for url in (first, second, inline):
        await raw.submitted(image_urls=[url])
    assert len({entry.payload for entry in raw.emulator.ledger.entries}) == 1


async def test_failed_tasks_are_executed_but_not_billed(raw: Raw) -> None:
    for _ in range(2):
        await raw.submitted(prompt="moderated")
    ledger = raw.emulator.ledger
    assert (len(ledger.entries), ledger.billed, ledger.total) == (2, [], 0)
    assert ledger.billed_more_than_once == {}
    assert list(ledger.executed_more_than_once.values()) == [2]


async def test_the_ledger_can_be_read_over_http_without_a_key(raw: Raw) -> None:
    task_id = await raw.submitted()
    async with raw.session.get(f"{raw.emulator.base_url}/emulator/ledger", headers=raw.headers) as response:
        shown = json.loads(await response.read())
    assert shown["total"] == pytest.approx(0.015)
    assert shown["billed"] == 1
    assert shown["billed_more_than_once"] == {}
    assert [entry["task_id"] for entry in shown["entries"]] == [task_id]


async def test_the_balance_goes_down_by_the_billed_amount(raw: Raw) -> None:
    await raw.submitted(n=10)
    await raw.submitted(prompt="moderated")
    for path in ("/v1/balance", "/v1/user/balance"):
        answer = await raw.send("GET", path)
        assert answer.json["success"] is True
        assert answer.json["used_balance"] == pytest.approx(0.15)
        assert answer.json["remain_balance"] == pytest.approx(9999.85)
        assert answer.json["unlimited_quota"] is False


async def test_models_are_listed(raw: Raw) -> None:
    answer = await raw.send("GET", "/v1/models")
    assert "grok-imagine-1.0-edit-apimart" in {model["id"] for model in answer.json["data"]}


async def test_requests_are_remembered_and_counted(raw: Raw) -> None:
    await raw.submitted(headers={"Idempotency-Key": "k"})
    await raw.send("GET", "/v1/tasks/task_x?language=de")
    edit, task = raw.emulator.requests
    assert (edit.route, edit.method, edit.path, edit.status) == ("edits", "POST", "/v1/images/edits", 200)
    assert (edit.authorization, edit.idempotency_key) == (True, "k")
    assert (task.route, task.path, task.status) == ("tasks", "/v1/tasks/task_x", 404)
    assert raw.emulator.counts == {"edits": 1, "tasks": 1}
