"""The status and the headers of answers, of every method of both clients and of their twins."""

from __future__ import annotations

import asyncio
import pickle
from typing import TYPE_CHECKING, Any, cast

import anyio.to_thread
import pytest

from apimart_async import (
    Apimart,
    AsyncApimart,
    AsyncAppleRouter,
    AuthenticationError,
    InvalidArgumentError,
    Poll,
    Response,
    Retry,
    record_responses,
)
from apimart_async.emulator import Emulator, Fault

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

PICTURE = "https://pictures.example/a.png"
POLL = Poll(first=0.01, shortest=0.01)


@pytest.fixture
async def emulator() -> AsyncIterator[Emulator]:
    async with Emulator(task_seconds=0, images="tiny") as running:
        yield running


@pytest.fixture
async def client(emulator: Emulator) -> AsyncIterator[AsyncApimart]:
    async with AsyncApimart(emulator.api_key, base_url=emulator.base_url, poll=POLL, check="off") as made:
        yield made


def lines(responses: Sequence[Response]) -> list[tuple[str, str, int]]:
    return [(each.method, each.url.partition("/v1")[2].split("/task_")[0], each.status) for each in responses]


async def test_status_and_headers_of_a_call(client: AsyncApimart, emulator: Emulator) -> None:
    with record_responses() as responses:
        await client.edits.create(PICTURE, "stars")
    (response,) = responses
    assert (response.method, response.status) == ("POST", 200)
    assert response.url == f"{emulator.base_url}/v1/images/edits"
    assert (
        response.headers["content-type"]
        == response.headers["Content-Type"]
        == "application/json; charset=utf-8"
    )
    assert response.request_id
    assert response.request_id == response.headers["x-oneapi-request-id"]
    assert "headers" not in repr(response)
    assert pickle.loads(pickle.dumps(response)) == response  # noqa: S301 our own pickle
    await client.account.balance()
    assert len(responses) == 1


async def test_retries_polls_and_errors_are_recorded(emulator: Emulator, client: AsyncApimart) -> None:
    emulator.faults.add(Fault(kind="status", status=503, route="account", times=1))
    quick = client.with_options(retry=Retry(initial_delay=0.001))
    with record_responses() as responses:
        await quick.account.balance()
        await client.edits.run(PICTURE, "stars")
        with pytest.raises(AuthenticationError):
            await client.with_options(api_key="wrong-key").account.models()
    assert lines(responses)[:3] == [
        ("GET", "/balance", 503),
        ("GET", "/balance", 200),
        ("POST", "/images/edits", 200),
    ]
    assert {path for _, path, _ in lines(responses)[3:-1]} <= {"/tasks", "/tasks/batch"}
    assert lines(responses)[-1] == ("GET", "/models", 401)


async def test_concurrent_recordings_are_apart_and_nested_ones_share(client: AsyncApimart) -> None:
    async def one(count: int) -> int:
        with record_responses() as responses:
            for _ in range(count):
                await client.account.balance()
        return len(responses)

    with record_responses() as outer:
        assert list(await asyncio.gather(one(1), one(3), one(2))) == [1, 3, 2]
    assert len(outer) == 6


async def test_last_answers_are_kept(client: AsyncApimart) -> None:
    for wrong in (0, "5", True):
        with pytest.raises(InvalidArgumentError, match="limit"), record_responses(cast("Any", wrong)):
            pass
    with record_responses(limit=2) as responses:
        await client.account.balance()
        await client.account.models()
        await client.account.balance()
    assert lines(responses) == [("GET", "/models", 200), ("GET", "/balance", 200)]


@pytest.mark.long
async def test_blocking_twin_is_recorded_per_thread(emulator: Emulator) -> None:
    def work() -> tuple[list[tuple[str, str, int]], int]:
        with Apimart(emulator.api_key, base_url=emulator.base_url, check="off") as client:
            with record_responses() as responses:
                task = client.edits.create(PICTURE, "stars")
                with client.tasks.watch([task]) as finished:
                    assert [each.id for each in finished] == [task.id]
            count = len(responses)
            client.account.balance()
            return lines(responses), len(responses) - count

    recorded, later = await anyio.to_thread.run_sync(work)
    assert recorded[0] == ("POST", "/images/edits", 200)
    assert len(recorded) >= 2
    assert later == 0


async def test_applerouter_is_recorded_without_the_key(emulator: Emulator) -> None:
    async with AsyncAppleRouter(emulator.api_key, base_url=emulator.base_url) as router:
        with record_responses() as responses:
            await router.generations.create("A lighthouse", model="gpt-image-2")
    assert lines(responses) == [("POST", "/images/generations/", 200)]
    assert emulator.api_key not in str(dict(responses[0].headers))
