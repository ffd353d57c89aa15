"""The cost of jobs before a batch is run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import anyio.to_thread

from apimart_async import Estimate, Job, Quote, estimate, run_many
from apimart_async.sync import Apimart
from apimart_async.sync import estimate as blocking_estimate

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable
    from pathlib import Path

    from apimart_async import AsyncApimart
    from apimart_async.emulator import Emulator

EDIT_MODEL = "grok-imagine-1.0-edit-apimart"


def jobs_of(pictures: list[Path]) -> list[Job]:
    red, green, _ = pictures
    return [
        Job(red, "Add snow"),
        Job(str(red), "Add snow"),
        Job(green, "Add snow", n=3),
        Job(green.with_name("missing.png"), "Add snow"),
        Job(red, "Add snow", model=""),
    ]


async def run(client: AsyncApimart, jobs: Iterable[Job], output: Path) -> float:
    async with run_many(client, jobs, output=output) as outcomes:
        return sum([outcome.cost or 0.0 async for outcome in outcomes])


async def test_jobs_are_priced_once_and_nothing_is_sent(
    client: AsyncApimart, emulator: Emulator, pictures: list[Path]
) -> None:
    async def lazily() -> AsyncIterator[Job]:
        for job in jobs_of(pictures):
            yield job

    found = await estimate(client, lazily())
    quote = Quote(EDIT_MODEL, 4, 0.015, 0.06)
    assert found == Estimate(2, 4, 0.06, (quote,), repeated=1, invalid=2)
    assert not emulator.ledger.entries
    assert not emulator.counts["uploads"]


async def test_estimate_is_the_cost_of_the_batch(
    client: AsyncApimart, pictures: list[Path], tmp_path: Path
) -> None:
    output = tmp_path / "out"
    assert (await estimate(client, jobs_of(pictures)[:3], output=output)).cost == 0.06
    assert not await anyio.Path(output).exists()
    assert round(await run(client, jobs_of(pictures)[:1], output), 9) == 0.015

    rest = await estimate(client, jobs_of(pictures), output=output)
    assert (rest.jobs, rest.cost, rest.repeated, rest.started, rest.invalid) == (1, 0.045, 1, 1, 2)


async def test_unknown_prices_and_free_jobs(client: AsyncApimart, pictures: list[Path]) -> None:
    jobs = [Job(pictures[0], operation="segment"), Job(prompt="A lighthouse", model="unheard-of")]
    found = await estimate(client, jobs)
    assert (found.jobs, found.images, found.cost, found.unpriced) == (2, 1, None, ("unheard-of",))
    assert await estimate(client, []) == Estimate(0, 0, 0.0)


async def test_blocking_twin_estimates_alike(emulator: Emulator, pictures: list[Path]) -> None:
    def estimated() -> Estimate:
        with Apimart(emulator.api_key, base_url=emulator.base_url) as client:
            return blocking_estimate(client, jobs_of(pictures))

    assert (await anyio.to_thread.run_sync(estimated)).cost == 0.06
