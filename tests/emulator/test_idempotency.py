from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import pytest

from apimart_async.emulator.idempotency import IdempotencyKeys
from apimart_async.emulator.responses import ServiceError

if TYPE_CHECKING:
    from .conftest import Answer, MakeImage, Open, Raw

KEY = {"Idempotency-Key": "a-key"}


async def test_a_replay_repeats_the_first_response(raw: Raw) -> None:
    first = await raw.edit(headers=KEY)
    again = await raw.edit(headers=KEY)
    assert "Idempotency-Replayed" not in first.headers
    assert again.headers["Idempotency-Replayed"] == "true"
    assert (again.status, again.json) == (first.status, first.json)
    assert len(raw.emulator.ledger.entries) == 1
    assert raw.emulator.ledger.entries[0].idempotency_key == "a-key"


async def test_a_key_belongs_to_one_request(raw: Raw) -> None:
    await raw.edit(headers=KEY)
    answer = await raw.edit(headers=KEY, prompt="another")
    assert answer.status == 409
    assert answer.json["error"]["code"] == "idempotency_key_reused"
    assert len(raw.emulator.ledger.entries) == 1


async def test_a_key_belongs_to_one_endpoint(raw: Raw) -> None:
    await raw.edit(headers=KEY)
    answer = await raw.post("/v1/images/generations", {"model": "m"}, KEY)
    assert answer.status == 200
    assert len(raw.emulator.ledger.entries) == 2


def test_a_key_in_use_is_refused_with_retry_after() -> None:
    keys = IdempotencyKeys()
    assert keys.begin(("edits", "k"), "digest", now=0) is None
    with pytest.raises(ServiceError) as caught:
        keys.begin(("edits", "k"), "digest", now=1)
    assert (caught.value.status, caught.value.code) == (409, "idempotency_in_progress")
    assert caught.value.headers == {"Retry-After": "1"}
    keys.finish(("edits", "k"), 200, b"{}")
    assert keys.begin(("edits", "k"), "digest", now=2) == (200, b"{}")


async def test_concurrent_requests_execute_once(raw: Raw, make_image: MakeImage) -> None:
    upload = (await raw.upload(make_image(size=(600, 600)))).json["url"]
    answers: list[Answer] = []

    async def submit() -> None:
        answers.append(await raw.edit(headers=KEY, image_urls=[upload]))

    async with anyio.create_task_group() as group:
        for _ in range(8):
            group.start_soon(submit)
    assert len(raw.emulator.ledger.entries) == 1
    waiting = [answer for answer in answers if answer.status == 409]
    done = [answer for answer in answers if answer.status == 200]
    assert len(waiting) + len(done) == 8
    assert {answer.json["error"]["code"] for answer in waiting} <= {"idempotency_in_progress"}
    assert len({answer.content for answer in done}) == 1


async def test_refused_requests_are_not_remembered(open_emulator: Open) -> None:
    async with open_emulator(balance=0.02) as raw:
        assert (await raw.edit(headers=KEY, n="1")).status == 400
        assert (await raw.edit(headers=KEY, n=2)).status == 402
        assert (await raw.edit(headers=KEY)).status == 200


async def test_a_key_is_forgotten_after_a_day(raw: Raw) -> None:
    await raw.edit(headers=KEY)
    raw.emulator.advance(24 * 3600 - 600)
    assert (await raw.edit(headers=KEY)).headers["Idempotency-Replayed"] == "true"
    raw.emulator.advance(1200)
    assert "Idempotency-Replayed" not in (await raw.edit(headers=KEY)).headers
    assert len(raw.emulator.ledger.entries) == 2


@pytest.mark.parametrize("key", ["", " ", "with space", "a" * 192, "schlüssel", "tab\tin"])
async def test_a_malformed_key_is_refused(raw: Raw, key: str) -> None:
    answer = await raw.edit(headers={"Idempotency-Key": key})
    assert answer.status == 400
    assert answer.json["error"]["code"] == "invalid_idempotency_key"
    assert raw.emulator.ledger.entries == []


async def test_the_longest_key_is_accepted(raw: Raw) -> None:
    assert (await raw.edit(headers={"Idempotency-Key": "~" * 191})).status == 200


async def test_keys_can_be_ignored(open_emulator: Open) -> None:
    async with open_emulator(idempotent_replay=False) as raw:
        first, again = await raw.edit(headers=KEY), await raw.edit(headers=KEY)
        assert first.json != again.json
        assert "Idempotency-Replayed" not in again.headers
        assert [entry.idempotency_key for entry in raw.emulator.ledger.entries] == ["a-key", "a-key"]
        assert list(raw.emulator.ledger.billed_more_than_once.values()) == [2]
