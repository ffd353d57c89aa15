"""All faults at once: nothing is paid twice, nothing that was paid for is lost, nothing leaks.

`nox -s tests` makes one small run. `nox -s tests_long` makes a run for each seed, with idempotent replay on
the server and without in turn. `nox -s stress` makes both for each, and many more edits: `STRESS_EDITS` says
how many.
"""

from __future__ import annotations

import asyncio
import os
import random
import re
from collections import Counter
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import anyio
import attrs
import pytest

from apimart_async import (
    ApimartError,
    AsyncApimart,
    Limits,
    Poll,
    Retry,
    SubmissionIndeterminateError,
    TaskError,
    Timeout,
)
from apimart_async.emulator import Emulator, Fault

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

EDITS: Final = int(os.environ.get("STRESS_EDITS", "2000"))
# Seed, and whether the service knows an idempotency key again.
RUNS: Final = [(1, False), (2, True), (3, False)]
OTHERS: Final = [(seed, not replay) for seed, replay in RUNS] if "STRESS_EDITS" in os.environ else []
IN_FLIGHT: Final = 200
# Only catches a hang: 2,000 edits take some 10 seconds of an idle machine.
BOUND: Final = 600 + 0.2 * EDITS
SHARE: Final = 0.05
RETRY: Final = Retry(initial_delay=0.01, max_delay=0.05)

Family: TypeAlias = tuple[partial[Fault], ...]

PICTURE: Final = bytes.fromhex("47494638396101000100800000ffffff0000002c00000000010001000002024401003b")

TOO_MANY: Final = (
    partial(Fault, kind="status", status=429),
    partial(Fault, kind="status", status=429, retry_after=0.01),
    partial(Fault, kind="status", status=429, retry_after=0, retry_after_date=True),
)
# Each costs as much as the client is patient, so that there are fewer of them.
SILENT: Final = (
    partial(Fault, kind="hang", seconds=2),
    partial(Fault, kind="hang", seconds=2, executed=True),
    partial(Fault, kind="stalled", seconds=2),
)
ANYWHERE: Final = (
    partial(Fault, kind="status", status=500),
    partial(Fault, kind="status", status=500, executed=True),
    partial(Fault, kind="status", status=503),
    partial(Fault, kind="html", status=502, executed=True),
    partial(Fault, kind="error-in-200"),
    partial(Fault, kind="disconnect"),
    partial(Fault, kind="disconnect", executed=True),
    *SILENT,
    partial(Fault, kind="truncated"),
    partial(Fault, kind="slow", seconds=0.05),
    partial(Fault, kind="close-after"),
    partial(Fault, kind="empty"),
    partial(Fault, kind="html", status=200, executed=True),
    partial(Fault, kind="broken-json"),
    partial(Fault, kind="gigantic", size=100_000),
    partial(Fault, kind="gzip"),
    partial(Fault, kind="deflate"),
    partial(Fault, kind="empty-error"),
    partial(Fault, kind="redirect"),
    partial(Fault, kind="redirect-elsewhere"),
)
SUBMITS: Final = (
    partial(Fault, kind="idempotency-in-progress", retry_after=0.01),
    partial(Fault, kind="idempotency-unavailable"),
    partial(Fault, kind="idempotency-result-indeterminate", executed=True),
    partial(Fault, kind="no-id"),
    partial(Fault, kind="task-stuck"),
    partial(Fault, kind="task-failed"),
    partial(Fault, kind="task-cancelled"),
    partial(Fault, kind="task-expired"),
    partial(Fault, kind="task-partial"),
)
LATER: Final = (
    partial(Fault, kind="unknown-status"),
    partial(Fault, kind="status", status=410, route="files"),
    partial(Fault, kind="wrong-bytes"),
    partial(Fault, kind="cut-image"),
)


@attrs.define
class Results:
    """The results, errors and notes that the callers of many edits have received."""

    completed: int = 0
    returned: set[str] = attrs.field(factory=set)
    named: set[str] = attrs.field(factory=set)
    errors: Counter[str] = attrs.field(factory=Counter)

    def add_error(self, error: ApimartError) -> None:
        self.errors[type(error).__name__] += 1
        if error.task_id is not None:
            self.named.add(error.task_id)
        if isinstance(error, TaskError) and error.task is not None:
            self.named.update(error.task.sibling_ids)
        has_no_task = isinstance(error, SubmissionIndeterminateError) or error.task_id is None
        if has_no_task and error.idempotency_key is not None:
            self.named.add(error.idempotency_key)
        self.named.update(re.findall(r"\w+", " ".join(getattr(error, "__notes__", ()))))

    def add_cancellation(self, cancelled: BaseException) -> None:
        self.errors["cancelled"] += 1
        self.named.update(re.findall(r"\w+", " ".join(getattr(cancelled, "__notes__", ()))))


async def edit(client: AsyncApimart, number: int, timeout: float, directory: Path, results: Results) -> None:
    """Make one edit, perhaps with a short timeout, and save its images."""
    image = PICTURE if number % 9 == 0 else f"https://pictures.example/{number}.jpg"
    with anyio.move_on_after(timeout):
        try:
            task = await client.edits.run(image, f"edit {number}", n=2 if number % 5 == 0 else 1)
        except anyio.get_cancelled_exc_class() as cancelled:
            results.add_cancellation(cancelled)
            raise
        if task.id is not None:
            results.returned.update((task.id, *task.sibling_ids))
        elif task.idempotency_key is not None:
            results.named.add(task.idempotency_key)
        await client.images.save(task, directory)
        results.completed += 1


async def edit_all(
    clients: list[AsyncApimart], edits: int, source: random.Random, directory: Path
) -> Results:
    """Make edits, some at a time, each with one of the clients in turn; a few are cancelled early."""
    results = Results()
    numbers = iter(range(edits))

    async def work() -> None:
        for number in numbers:
            timeout = source.uniform(0, 0.3) if source.random() < SHARE else BOUND
            try:
                await edit(clients[number % len(clients)], number, timeout, directory, results)
            except ApimartError as error:
                results.add_error(error)

    async with anyio.create_task_group() as group:
        for _ in range(IN_FLIGHT):
            group.start_soon(work)
    return results


def random_faults(source: random.Random, *families: Family) -> list[Fault]:
    """Return each fault of the families, once for certain and repeatedly at random.

    In any order: of several that are due, only the first happens.
    """
    kinds = [make for family in families for make in family]
    source.shuffle(kinds)
    by_chance = [make(probability=SHARE / 5 if make in SILENT else SHARE) for make in kinds]
    return [make(times=1) for make in kinds] + by_chance


def open_files() -> int:
    """Return how many files and sockets this process has open, as far as the system tells."""
    return len([*Path("/dev/fd").iterdir()]) if Path("/dev/fd").is_dir() else 0


@asynccontextmanager
async def nothing_left() -> AsyncGenerator[None]:
    """Compare the numbers of tasks, sockets and files with those before, once the loop has released them."""
    tasks, files = asyncio.all_tasks(), open_files()
    yield
    with anyio.move_on_after(120):
        while asyncio.all_tasks() != tasks or open_files() > files:  # noqa: ASYNC110 nobody tells of a socket's end
            await anyio.sleep(0.01)
    assert asyncio.all_tasks() == tasks
    assert open_files() <= files


def check(emulator: Emulator, results: Results) -> None:
    """Compare the results of the callers with the ledger, and check that the key went to the API only."""
    ledger = emulator.ledger
    assert not ledger.billed_more_than_once
    assert not ledger.executed_more_than_once
    known = results.returned | results.named
    assert [entry for entry in ledger.entries if not known & {entry.task_id, entry.idempotency_key}] == []
    assert results.returned <= {entry.task_id for entry in ledger.entries}
    assert not emulator.key_leaks
    assert emulator.counts["files"] > 0
    assert emulator.counts["elsewhere"] == 0, "a redirect of the API to another origin was followed"
    assert results.completed > 0
    assert [fault for fault, happened in emulator.faults.happened if fault.times and not happened] == []


def service(seed: int, source: random.Random, *families: Family, **options: Any) -> Emulator:
    """Return an emulator with all faults."""
    return Emulator(
        seed=seed,
        task_seconds=0.03,
        images="tiny",
        variants=True,
        faults=random_faults(source, ANYWHERE, SUBMITS, LATER, *families),
        balance=EDITS,
        **options,
    )


def connect(emulator: Emulator, limits: Limits) -> AsyncApimart:
    """Return a client that still waits 40 times as long as an answer takes, with its few requests at once."""
    return AsyncApimart(
        emulator.api_key,
        base_url=emulator.base_url,
        timeout=Timeout(read=1, total=8),
        retry=RETRY,
        poll=Poll(timeout=5, first=0.06, shortest=0.05, longest=0.5),
        limits=attrs.evolve(limits, answer_bytes=50_000, image_answer_bytes=50_000),
    )


@pytest.mark.long
@pytest.mark.timeout(BOUND + 300)
@pytest.mark.parametrize(("seed", "replay"), RUNS + OTHERS)
async def test_many_edits_through_every_fault_at_once(seed: int, replay: bool, tmp_path: Path) -> None:  # noqa: FBT001 a parameter of the test
    source = random.Random(seed)
    emulator = service(seed, source, TOO_MANY, idempotent_replay=replay)
    limits = Limits(adaptive=False, requests=50, connections=50)
    with anyio.fail_after(BOUND):
        async with nothing_left(), emulator, connect(emulator, limits) as client:
            trusting = client.with_options(retry=attrs.evolve(RETRY, indeterminate="same-key"))
            clients = [client, trusting] if replay else [client]
            results = await edit_all(clients, EDITS, source, tmp_path)
    check(emulator, results)


@pytest.mark.timeout(BOUND + 300)
@pytest.mark.long
async def test_a_client_that_learns_the_limits_gets_through_them_too(tmp_path: Path) -> None:
    source = random.Random(4)
    emulator = service(4, source, rate_limit=200)
    with anyio.fail_after(BOUND):
        async with nothing_left(), emulator, connect(emulator, Limits()) as client:
            results = await edit_all([client], 200, source, tmp_path)
    check(emulator, results)
