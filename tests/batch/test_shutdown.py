"""The ends of a batch: on request, by errors, by cancellation; and the state that each leaves."""

from __future__ import annotations

import threading
from collections import Counter
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from apimart_async import (
    APIConnectionError,
    AsyncApimart,
    AuthenticationError,
    BudgetExceededError,
    DownloadError,
    InsufficientBalanceError,
    Job,
    Outcome,
    Poll,
    Timeout,
    edit_many,
)
from apimart_async.batch import Shutdown, SqliteJournal, read_outcomes
from apimart_async.emulator import Emulator
from apimart_async.emulator.faults import Fault

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from apimart_async.batch import Progress, Record
    from tests.clock import Clock

POLL = Poll(first=0.02, shortest=0.02, longest=0.05)


def jobs(pictures: list[Path], count: int, prompt: str = "prompt") -> list[Job]:
    return [Job(pictures[number % 3], f"{prompt} {number}") for number in range(count)]


async def finish(client: AsyncApimart, todo: list[Job], output: Path, **options: Any) -> Counter[str]:
    async with edit_many(client, todo, output=output, **options) as outcomes:
        return Counter([outcome.status async for outcome in outcomes])


async def statuses(output: Path) -> Counter[str]:
    rows = await anyio.to_thread.run_sync(lambda: list(read_outcomes(output)))
    return Counter(row.status for row in rows)


async def until_stopped(
    client: AsyncApimart, todo: Any, output: Path, **options: Any
) -> tuple[list[Outcome], Exception | None]:
    seen: list[Outcome] = []
    async with edit_many(client, todo, output=output, **options) as outcomes:
        try:
            async for outcome in outcomes:
                seen.append(outcome)  # noqa: PERF401 what comes before an error counts
        except Exception as error:  # noqa: BLE001 it is looked at
            with pytest.raises(StopAsyncIteration):
                await anext(outcomes)
            return seen, error
    return seen, None


async def test_a_key_that_is_not_accepted_ends_the_batch_before_anything_is_begun(
    client: AsyncApimart, emulator: Emulator, pictures: list[Path], tmp_path: Path
) -> None:
    wrong = client.with_options(api_key="sk-wrong")
    seen, error = await until_stopped(wrong, jobs(pictures, 500), tmp_path / "out")
    assert seen == []
    assert isinstance(error, AuthenticationError)
    assert "check the API key, then run it again" in error.message
    assert error.__cause__ is not None
    assert emulator.counts["edits"] == 0
    assert await finish(client, jobs(pictures, 9), tmp_path / "out") == {"saved": 9}


async def test_a_revoked_key_leaves_paid_tasks_to_the_next_run(
    client: AsyncApimart, emulator: Emulator, pictures: list[Path], tmp_path: Path
) -> None:
    emulator.faults.add(Fault(kind="status", route="tasks/batch", status=401))
    emulator.faults.add(Fault(kind="status", route="tasks", status=401))
    todo = jobs(pictures, 100)
    seen, error = await until_stopped(client, todo, tmp_path / "out", max_in_flight=8)
    assert isinstance(error, AuthenticationError)
    assert {outcome.status for outcome in seen} == {"unfinished"}
    assert len(seen) == len(emulator.ledger.entries) < 100
    emulator.faults.clear()
    assert await finish(client, todo, tmp_path / "out") == {"saved": 100}
    assert emulator.ledger.executed_more_than_once == {}


async def test_paid_tasks_are_finished_when_the_balance_is_used_up(
    pictures: list[Path], tmp_path: Path
) -> None:
    poor = Emulator(task_seconds=0.02, images="tiny", balance=0.015 * 20)
    async with poor, AsyncApimart(poor.api_key, base_url=poor.base_url, poll=POLL) as client:
        seen, error = await until_stopped(client, jobs(pictures, 60), tmp_path / "out")
    assert isinstance(error, InsufficientBalanceError)
    assert "top up the account" in error.message
    assert Counter(outcome.status for outcome in seen) == {"saved": 20}
    assert await statuses(tmp_path / "out") == {"saved": 20}


class Interrupted(SqliteJournal):
    """A journal in which the batch is asked to end while the intent of its second job is written."""

    def __init__(self, path: Path, shutdown: Shutdown) -> None:
        super().__init__(path)
        self._shutdown = shutdown
        self._begun = 0

    async def begin(self, intent: Record, previous: Record | None) -> bool:
        began = await super().begin(intent, previous)
        self._begun += began
        if self._begun == 2:
            self._shutdown.request()
            await anyio.lowlevel.checkpoint()  # the loop informs the batch
        return began


async def test_a_shutdown_while_the_intent_is_written_sends_nothing(
    client: AsyncApimart, emulator: Emulator, pictures: list[Path], tmp_path: Path
) -> None:
    """The connection of the first job is still open: aiohttp sends the second request at once."""
    shutdown = Shutdown()
    journal = Interrupted(tmp_path / "out" / ".batch" / "journal.sqlite3", shutdown)
    todo = jobs(pictures, 2)
    seen = await finish(client, todo, tmp_path / "out", max_in_flight=1, journal=journal, shutdown=shutdown)
    assert seen["saved"] == 1
    assert len(emulator.ledger.entries) == 1
    assert await statuses(tmp_path / "out") == {"saved": 1}


async def test_a_dead_network_ends_the_batch_without_waiting_for_tasks(
    pictures: list[Path], tmp_path: Path
) -> None:
    gone = Emulator(task_seconds=36_000.0, images="tiny")

    async def cut_off_after_twenty() -> AsyncIterator[Job]:
        for number, job in enumerate(jobs(pictures, 200)):
            if number == 20:
                while len(gone.ledger.entries) < 20:  # noqa: ASYNC110 the ledger has no event for it
                    await anyio.sleep(0.01)
                await gone._close()
            yield job

    async with (
        gone,
        AsyncApimart(gone.api_key, base_url=gone.base_url, poll=POLL, max_retries=0) as client,
    ):
        todo = cut_off_after_twenty()
        seen, error = await until_stopped(client, todo, tmp_path / "out", max_in_flight=40)
    assert isinstance(error, APIConnectionError)
    assert "see to the connection" in error.message
    found = Counter(outcome.status for outcome in seen)
    assert found["unfinished"] > 0
    assert found["saved"] == 0
    assert sum(found.values()) < 200
    kept = await statuses(tmp_path / "out")
    # A submit that was cut off by the end of the service may have been executed.
    assert kept["unfinished"] + kept["in_doubt"] >= len(gone.ledger.entries)


@pytest.mark.parametrize("in_flight", [1, 16])
async def test_jobs_in_flight_do_not_pass_a_budget(
    client: AsyncApimart, emulator: Emulator, pictures: list[Path], tmp_path: Path, in_flight: int
) -> None:
    todo = jobs(pictures, 40)
    options: dict[str, Any] = {"max_cost": 0.2, "max_in_flight": in_flight}
    seen, error = await until_stopped(client, todo, tmp_path / "out", **options)
    assert isinstance(error, BudgetExceededError)
    assert error.limit == 0.2
    assert error.spent == pytest.approx(0.195)
    assert "raise max_cost" in error.message
    assert Counter(outcome.status for outcome in seen) == {"saved": 13}
    assert emulator.ledger.total == pytest.approx(0.195)
    # It counts over all runs, and prices that were learnt are kept.
    seen, error = await until_stopped(client, todo, tmp_path / "out", **options)
    assert isinstance(error, BudgetExceededError)
    assert all(outcome.resumed for outcome in seen)
    assert await finish(client, todo, tmp_path / "out", max_cost=0.61) == {"saved": 40}
    assert emulator.ledger.total == pytest.approx(0.6)


async def test_jobs_that_wait_for_the_budget_are_not_in_flight(pictures: list[Path], tmp_path: Path) -> None:
    shutdown = Shutdown()
    reports = 0

    def note(progress: Progress) -> None:
        nonlocal reports
        # The first task runs alone, as the price is not known yet.
        reports = reports + 1 if slow.ledger.entries and progress.in_flight == 1 else 0
        if reports == 3:
            shutdown.request()
            slow.advance(10_000)

    async with (
        Emulator(task_seconds=100, images="tiny") as slow,
        AsyncApimart(slow.api_key, base_url=slow.base_url, poll=POLL) as client,
    ):
        with anyio.fail_after(120):
            found = await finish(
                client,
                jobs(pictures, 20),
                tmp_path / "out",
                max_in_flight=8,
                max_cost=1.0,
                on_progress=note,
                shutdown=shutdown,
            )
    assert found == {"saved": 1}


async def test_a_budget_counts_possible_costs_and_gives_back_free_ones(
    client: AsyncApimart, emulator: Emulator, pictures: list[Path], tmp_path: Path
) -> None:
    emulator.faults.add(Fault(kind="task-failed", first=4))
    assert await finish(client, jobs(pictures, 14), tmp_path / "a", max_cost=0.15) == {
        "saved": 10,
        "failed": 4,
    }
    emulator.faults.clear()
    emulator.faults.add(Fault(kind="disconnect", route="edits", executed=True, first=2))
    seen, error = await until_stopped(client, jobs(pictures, 14, "b"), tmp_path / "b", max_cost=0.15)
    assert isinstance(error, BudgetExceededError)
    assert "may still be billed" in error.message
    assert Counter(outcome.status for outcome in seen) == {"saved": 8, "in_doubt": 2}


@pytest.mark.parametrize("how", ["before", "from the loop", "from a thread"])
async def test_a_shutdown_finishes_jobs_in_flight_and_ends_without_an_error(
    client: AsyncApimart, emulator: Emulator, pictures: list[Path], tmp_path: Path, how: str
) -> None:
    shutdown = Shutdown()
    todo = jobs(pictures, 100)
    if how == "before":
        shutdown.request()
    seen: list[Outcome] = []
    async with edit_many(
        client, todo, output=tmp_path / "out", max_in_flight=8, shutdown=shutdown
    ) as outcomes:
        async for outcome in outcomes:
            seen.append(outcome)
            if len(seen) == 5 and how == "from the loop":
                shutdown.request()
            if len(seen) == 5 and how == "from a thread":
                thread = threading.Thread(target=shutdown.request)
                thread.start()
                thread.join()  # holds the batch up, so that it cannot end before
    assert shutdown.is_requested
    assert {outcome.status for outcome in seen} <= {"saved"}
    assert len(seen) == len(emulator.ledger.entries) == (await statuses(tmp_path / "out"))["saved"]
    assert len(seen) == 0 if how == "before" else 5 <= len(seen) < 100
    assert await finish(client, todo, tmp_path / "out") == {"saved": 100}
    assert emulator.ledger.executed_more_than_once == {}


async def test_a_shutdown_does_not_wait_for_jobs_that_never_come(
    client: AsyncApimart, pictures: list[Path], tmp_path: Path
) -> None:
    shutdown = Shutdown()

    async def slowly() -> AsyncIterator[Job]:
        yield Job(pictures[0], "prompt")
        await anyio.sleep_forever()

    with anyio.fail_after(120):
        async with edit_many(client, slowly(), output=tmp_path / "out", shutdown=shutdown) as outcomes:
            async for outcome in outcomes:
                assert outcome.status == "saved"
                shutdown.request()


@pytest.mark.parametrize("how", ["leave", "raise", "cancel"])
async def test_leaving_early_keeps_every_task_that_was_paid_for(
    client: AsyncApimart, emulator: Emulator, pictures: list[Path], tmp_path: Path, how: str
) -> None:
    # Answers to submits take a moment, so that some are under way when the batch is left.
    emulator.faults.add(Fault(kind="slow", route="edits", seconds=0.1))
    todo = jobs(pictures, 60)
    with anyio.CancelScope() as scope:
        try:
            async with edit_many(client, todo, output=tmp_path / "out", max_in_flight=20) as outcomes:
                async for _ in outcomes:
                    if how == "leave":
                        break
                    if how == "raise":
                        raise ZeroDivisionError  # noqa: TRY301 from inside the batch
                    scope.cancel()
        except ZeroDivisionError:
            assert how == "raise"
    assert scope.cancelled_caught == (how == "cancel")
    assert len(emulator.ledger.entries) < 60
    kept = await statuses(tmp_path / "out")
    assert kept["in_doubt"] == 0
    assert kept["saved"] + kept["unfinished"] == len(emulator.ledger.entries)
    emulator.faults.clear()
    assert await finish(client, todo, tmp_path / "out") == {"saved": 60}
    assert emulator.ledger.executed_more_than_once == {}


async def test_a_paid_request_that_dawdles_is_in_doubt_after_some_seconds(
    client: AsyncApimart, emulator: Emulator, pictures: list[Path], tmp_path: Path, clock: Clock
) -> None:
    emulator.faults.add(Fault(kind="hang", route="edits", executed=True, seconds=3600))
    patient = client.with_options(timeout=Timeout(read=3600, total=3600))

    ended = anyio.Event()

    async def run() -> None:
        try:
            async with edit_many(patient, jobs(pictures, 3), output=tmp_path / "out") as outcomes:
                async for _ in outcomes:
                    pytest.fail("an outcome")
        finally:
            ended.set()

    async with anyio.create_task_group() as group:
        group.start_soon(run)
        while len(emulator.ledger.entries) < 3:  # noqa: ASYNC110 the ledger has no event for it
            await anyio.sleep(0.01)
        group.cancel_scope.cancel()
        with anyio.CancelScope(shield=True):
            async with clock.rushing(1):
                await ended.wait()
    assert await statuses(tmp_path / "out") == {"in_doubt": 3}


@pytest.mark.parametrize("kind", ["generator", "asynchronous"])
async def test_the_iterable_of_jobs_may_fail(
    client: AsyncApimart, pictures: list[Path], tmp_path: Path, kind: str
) -> None:
    def generate() -> Iterator[Job]:
        yield from jobs(pictures, 5)
        raise ZeroDivisionError

    async def generate_later() -> AsyncIterator[Job]:
        for job in generate():
            yield job

    source = generate() if kind == "generator" else generate_later()
    seen, error = await until_stopped(client, source, tmp_path / "out")
    assert isinstance(error, ZeroDivisionError)
    assert [outcome.status for outcome in seen] == ["saved"] * 5


async def test_progress_that_raises_ends_the_batch(
    client: AsyncApimart, emulator: Emulator, pictures: list[Path], tmp_path: Path
) -> None:
    def fail(_: object) -> None:
        raise ZeroDivisionError

    seen, error = await until_stopped(client, jobs(pictures, 300), tmp_path / "out", on_progress=fail)
    assert isinstance(error, ZeroDivisionError)
    assert len(seen) == len(emulator.ledger.entries) < 300


async def test_an_output_path_that_cannot_be_a_folder_is_refused(
    client: AsyncApimart, emulator: Emulator, pictures: list[Path], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DownloadError, match="Nothing was submitted"):
        async with edit_many(client, jobs(pictures, 3), output=tmp_path / "file"):
            pytest.fail("entered")
    assert not emulator.counts


@pytest.mark.parametrize("kind", ["disconnect", "status"])
async def test_no_more_is_paid_for_while_no_image_can_be_saved(
    client: AsyncApimart, emulator: Emulator, pictures: list[Path], tmp_path: Path, kind: Any
) -> None:
    """The service keeps the images for a day, and an outage of their host or bucket may last longer."""
    fault = Fault(kind=kind, route="files", status=503 if kind == "status" else None)
    emulator.faults.add(fault)
    todo, narrow = jobs(pictures, 60), {"max_in_flight": 2, "max_uploads": 2, "max_downloads": 2}
    options = client.with_options(max_retries=0)
    seen, error = await until_stopped(options, todo, tmp_path / "out", **narrow)
    assert isinstance(error, DownloadError)
    assert "see to the connection to the host of the images, then run it again" in str(error)
    assert {outcome.status for outcome in seen} == {"unfinished"}
    assert 12 <= len(emulator.ledger.entries) < 30
    emulator.faults.clear()
    assert await finish(options, todo, tmp_path / "out") == {"saved": 60}
    assert len(emulator.ledger.entries) == 60


async def test_images_that_fail_now_and_then_end_no_batch(
    client: AsyncApimart, emulator: Emulator, pictures: list[Path], tmp_path: Path
) -> None:
    emulator.faults.add(Fault(kind="status", route="files", status=503, every=2))
    found = await finish(client.with_options(max_retries=0), jobs(pictures, 40), tmp_path / "out")
    assert found == {"saved": 20, "unfinished": 20}
