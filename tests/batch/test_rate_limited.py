"""Batches whose submits are refused with 429."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from apimart_async import AsyncApimart, Job, Outcome, Poll, RateLimitError, edit_many
from apimart_async.batch import Progress, Shutdown
from apimart_async.emulator import Emulator, Fault, RateLimit

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

POLL = Poll(first=0.02, shortest=0.02, longest=0.05)


async def run(emulator: Emulator, jobs: list[Job], output: Path, **options: Any) -> list[Outcome]:
    async with (
        AsyncApimart(emulator.api_key, base_url=emulator.base_url, poll=POLL) as client,
        edit_many(client, jobs, output=output, **options) as outcomes,
    ):
        return [outcome async for outcome in outcomes]


def until_limited(seen: list[Progress], act: Callable[[], object]) -> Callable[[Progress], None]:
    def listen(progress: Progress) -> None:
        seen.append(progress)
        if progress.is_rate_limited:
            act()

    return listen


@pytest.mark.long
async def test_twelve_jobs_are_saved_on_an_account_that_allows_two_tasks(
    pictures: list[Path], tmp_path: Path
) -> None:
    jobs = [Job(pictures[0], f"prompt {number}") for number in range(12)]
    seen: list[Progress] = []
    async with Emulator(task_seconds=lambda _: 4.0, task_limit=2, images="tiny") as emulator:
        # The tasks of 4 s end whenever the batch says that it waits.
        listen = until_limited(seen, lambda: emulator.advance(4.0))
        outcomes = await run(emulator, jobs, tmp_path / "out", on_progress=listen)
        assert [outcome.status for outcome in outcomes] == ["saved"] * 12
        assert len(emulator.ledger.entries) == 12
    assert any(progress.is_rate_limited for progress in seen)
    assert not seen[-1].is_rate_limited


@pytest.mark.long
async def test_a_retry_after_is_waited_out(emulator: Emulator, pictures: list[Path], tmp_path: Path) -> None:
    emulator.faults.add(Fault(kind="status", route="edits", status=429, retry_after=1, first=12))
    jobs = [Job(pictures[0], f"prompt {number}") for number in range(10)]
    outcomes = await run(emulator, jobs, tmp_path / "out")
    assert [outcome.status for outcome in outcomes] == ["saved"] * 10
    assert len(emulator.ledger.entries) == 10


async def test_a_long_retry_after_is_waited_for_until_the_batch_is_asked_to_end(
    emulator: Emulator, pictures: list[Path], tmp_path: Path
) -> None:
    emulator.faults.add(Fault(kind="status", route="edits", status=429, retry_after=90))
    shutdown = Shutdown()
    seen: list[Progress] = []
    listen = until_limited(seen, shutdown.request)
    outcomes = await run(
        emulator, [Job(pictures[0], "prompt")], tmp_path / "out", on_progress=listen, shutdown=shutdown
    )
    assert outcomes == []
    assert seen[-1].done == 0
    emulator.faults.clear()
    (outcome,) = await run(emulator, [Job(pictures[0], "prompt")], tmp_path / "out")
    assert (outcome.status, outcome.resumed) == ("saved", False)


async def test_a_retry_after_above_the_bound_ends_the_batch(
    emulator: Emulator, pictures: list[Path], tmp_path: Path
) -> None:
    emulator.faults.add(Fault(kind="status", route="edits", status=429, retry_after=90))
    with pytest.raises(RateLimitError, match="wait 90 s, then run it again"):
        await run(emulator, [Job(pictures[0], "prompt")], tmp_path / "out", max_retry_after=60.0)
    assert emulator.counts["edits"] == 1


async def test_isolated_refusals_do_not_pause_the_other_jobs(
    emulator: Emulator, pictures: list[Path], tmp_path: Path
) -> None:
    # One job is asked to wait for longer than the test may take; the others must not.
    emulator.faults.add(Fault(kind="status", route="edits", status=429, retry_after=3000, first=1))
    jobs = [Job(pictures[0], f"prompt {number}") for number in range(20)]
    shutdown = Shutdown()
    saved = 0
    async with (
        AsyncApimart(emulator.api_key, base_url=emulator.base_url, poll=POLL) as client,
        edit_many(client, jobs, output=tmp_path / "out", shutdown=shutdown) as outcomes,
    ):
        async for outcome in outcomes:
            assert outcome.status == "saved"
            saved += 1
            if saved == 19:
                shutdown.request()
    assert saved == 19


@pytest.mark.long
async def test_the_progress_has_the_rate_that_the_client_has_learnt(
    pictures: list[Path], tmp_path: Path
) -> None:
    limit = RateLimit(kind="concurrency", limit=3, route="account")
    slow = Fault(kind="slow", route="account", seconds=0.05)
    seen: list[Progress] = []
    async with (
        Emulator(rate_limit=limit, faults=[slow], images="tiny") as emulator,
        AsyncApimart(emulator.api_key, base_url=emulator.base_url, poll=POLL) as client,
    ):

        async def learn() -> None:
            while client.rate_limit_stats()["rate"] is None:
                await client.account.models()

        await asyncio.gather(*(learn() for _ in range(32)))
        async with edit_many(
            client, [Job(pictures[0], "prompt")], output=tmp_path / "out", on_progress=seen.append
        ) as outcomes:
            assert [outcome.status async for outcome in outcomes] == ["saved"]
    rates = [progress.rate_limit for progress in seen]
    assert rates
    assert all(rate is not None and rate > 0 for rate in rates)


async def test_a_quota_that_is_used_up_ends_the_batch(
    emulator: Emulator, pictures: list[Path], tmp_path: Path
) -> None:
    fault = Fault(kind="status", route="edits", status=429, code="insufficient_quota")
    emulator.faults.add(fault)
    with pytest.raises(RateLimitError, match="top up"):
        await asyncio.wait_for(run(emulator, [Job(pictures[0], "prompt")], tmp_path / "out"), 60)
    assert emulator.counts["edits"] == 1
