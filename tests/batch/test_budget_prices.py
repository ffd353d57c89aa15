"""The budget of a batch, while no cost of a model has been reported."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import pytest

from apimart_async import AsyncApimart, BudgetExceededError, Job, Outcome, Poll, edit_many
from apimart_async.emulator import Emulator, Fault

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

MODEL = "gemini-3-pro-image-preview"
PRICE = 0.05
LOST = Fault(kind="disconnect", route="generations", executed=True)


def jobs(n: int = 1, count: int = 6) -> list[Job]:
    return [Job(None, f"prompt {number}", model=MODEL, n=n, operation="generate") for number in range(count)]


async def run(
    emulator: Emulator, given: list[Job] | AsyncIterator[Job], output: Path, **options: Any
) -> list[Outcome]:
    found: list[Outcome] = []

    async def take(client: AsyncApimart) -> None:
        async with edit_many(client, given, output=output, **options) as outcomes:
            async for outcome in outcomes:
                found.append(outcome)  # noqa: PERF401 the error would lose them

    async with AsyncApimart(emulator.api_key, base_url=emulator.base_url, poll=Poll(first=0.01)) as client:
        with pytest.raises(BudgetExceededError):
            await take(client)
    return found


async def test_first_job_of_a_model_is_held_against_the_quoted_price(tmp_path: Path) -> None:
    async with Emulator(task_seconds=0, images="tiny") as emulator:
        await run(emulator, jobs(n=4), tmp_path, max_cost=3.9 * PRICE)
        assert not emulator.ledger.entries


async def test_jobs_in_doubt_count_with_the_quoted_price(tmp_path: Path) -> None:
    async with Emulator(task_seconds=0, images="tiny", faults=[LOST]) as emulator:
        outcomes = await run(emulator, jobs(), tmp_path, max_cost=2.5 * PRICE)
        assert [outcome.status for outcome in outcomes] == ["in_doubt"] * 2
        assert emulator.ledger.total <= 2.5 * PRICE


async def test_a_job_in_doubt_of_an_unknown_price_ends_a_batch_with_a_budget(tmp_path: Path) -> None:
    async with Emulator(task_seconds=0, images="tiny", faults=[LOST], models=None) as emulator:
        # The next run knows as little.
        for expected in (["in_doubt"], []):
            outcomes = await run(emulator, jobs()[1 - len(expected) :], tmp_path, max_cost=2.5 * PRICE)
            assert [outcome.status for outcome in outcomes] == expected
            assert len(emulator.ledger.entries) == 1


async def test_saved_jobs_whose_cost_was_not_reported_count_in_every_run(tmp_path: Path) -> None:
    silent = Fault(kind="not-a-number", route="tasks")
    async with Emulator(task_seconds=0.01, images="tiny", faults=[silent], batch=None) as emulator:
        for _ in range(4):
            await run(emulator, jobs(), tmp_path, max_cost=2.5 * PRICE)
        assert emulator.ledger.total <= 2.5 * PRICE


async def test_a_submit_that_waits_for_the_budget_leaves_room_for_resumed_tasks(tmp_path: Path) -> None:
    first, second, earlier = jobs(count=3)
    async with Emulator(task_seconds=36_000, images="tiny") as emulator:
        client = AsyncApimart(emulator.api_key, base_url=emulator.base_url, poll=Poll(first=0.01))
        async with client, edit_many(client, [earlier], output=tmp_path, timeout=0.05) as outcomes:
            assert [outcome.status async for outcome in outcomes] == ["unfinished"]

        async def given() -> AsyncIterator[Job]:
            yield first
            yield second
            while len(emulator.ledger.entries) == 1:  # noqa: ASYNC110 the emulator tells nobody
                await anyio.sleep(0.005)
            yield earlier  # behind the second, which waits for the place of the first
            emulator.advance(50_000)

        found = await run(emulator, given(), tmp_path, max_cost=2.5 * PRICE, max_in_flight=1)
        assert {outcome.job.prompt: outcome.status for outcome in found} == {
            first.prompt: "saved",
            earlier.prompt: "saved",
        }
        assert len(emulator.ledger.entries) == 2
