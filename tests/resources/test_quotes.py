"""The expected cost of a paid request."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import pytest

from apimart_async import APIStatusError, AsyncApimart, InvalidArgumentError, Quote
from apimart_async.emulator import Emulator, Fault, ModelSpec

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.clock import Clock


@pytest.fixture
async def emulator() -> AsyncIterator[Emulator]:
    async with Emulator(task_seconds=0, images="tiny", models=[ModelSpec(model="painter")]) as running:
        yield running


async def test_quote_is_what_the_ledger_bills(client: AsyncApimart, emulator: Emulator) -> None:
    quote = await client.quote("gemini-3-pro-image-preview", n=3)
    assert quote == Quote("gemini-3-pro-image-preview", 3, price=0.05, cost=0.15)
    assert quote is not None
    await client.generations.run("stars", model="gemini-3-pro-image-preview", n=3)
    assert emulator.ledger.total == pytest.approx(quote.cost)


async def test_model_without_a_price_has_no_quote(client: AsyncApimart) -> None:
    assert await client.quote("unknown-model") is None


async def test_service_without_prices_has_no_quote() -> None:
    async with (
        Emulator(models=None) as emulator,
        AsyncApimart(emulator.api_key, base_url=emulator.base_url) as client,
    ):
        assert await client.quote() is None
        assert await client.quote("painter") is None
        assert emulator.counts["catalogue"] == 2


async def test_market_place_is_asked_where_there_is_no_list_of_prices(
    client: AsyncApimart, emulator: Emulator
) -> None:
    emulator.faults.add(Fault(kind="status", status=404, route="catalogue", first=1))
    quote = await client.quote("painter")
    assert quote is not None
    assert quote.cost == 0.015
    assert [seen.path for seen in emulator.requests] == ["/api/pricing/model", "/api/marketplace/models"]


async def test_prices_are_fetched_once_an_hour(
    client: AsyncApimart, emulator: Emulator, clock: Clock
) -> None:
    async with anyio.create_task_group() as group:
        for _ in range(10):
            group.start_soon(client.quote, "painter")
    assert emulator.counts["catalogue"] == 1
    clock.advance(3700)
    await client.with_options(max_retries=0).quote("painter")
    assert emulator.counts["catalogue"] == 2


async def test_prices_that_cannot_be_fetched_are_an_error(client: AsyncApimart, emulator: Emulator) -> None:
    emulator.faults.add(Fault(kind="status", status=500, route="catalogue"))
    with pytest.raises(APIStatusError):
        await client.with_options(max_retries=0).quote("painter")


@pytest.mark.parametrize(
    ("arguments", "words"), [({"model": " "}, "model"), ({"n": 0}, "n must be 1 or more")]
)
async def test_wrong_argument_is_refused_before_anything_is_sent(
    client: AsyncApimart, emulator: Emulator, arguments: dict[str, Any], words: str
) -> None:
    with pytest.raises(InvalidArgumentError, match=words):
        await client.quote(**arguments)
    assert not emulator.requests
