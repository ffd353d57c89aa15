"""A thousand waits in real time against the emulator, over real sockets: requests and delays."""

from __future__ import annotations

import asyncio
import time
from statistics import fmean
from typing import TYPE_CHECKING, Literal

import attrs

from apimart_async import AsyncApimart
from apimart_async.emulator import Emulator

if TYPE_CHECKING:
    from apimart_async import Task

Way = Literal["single polls", "separate waits", "one watch"]
WAYS: tuple[Way, ...] = ("single polls", "separate waits", "one watch")
_SOURCE = "https://pictures.example/photo.jpg"


@attrs.frozen
class Counted:
    """Requests and delays of one way of waiting.

    Attributes:
        requests: Number for all tasks.
        delay: Mean seconds from the end of a task until its caller has it.
        late: 95th percentile of the same.
    """

    requests: int
    delay: float
    late: float


async def count(way: Way, waits: int, seconds: float, seed: int) -> Counted:
    """Submit so many tasks of about so many seconds each, and wait for them in one way."""
    delays: list[float] = []
    async with (
        Emulator(
            task_seconds=seconds, seed=seed, images="tiny", batch=None if way == "single polls" else "list"
        ) as emulator,
        AsyncApimart(emulator.api_key, base_url=emulator.base_url) as client,
    ):
        service = emulator._service  # noqa: SLF001 only the service knows the moment a task ended
        assert service is not None  # noqa: S101 for the type checker: it is running

        def seen(task: Task) -> None:
            known = service.tasks.get(task.id)
            assert known is not None  # noqa: S101 a wrong benchmark must not print numbers
            delays.append(time.time() - known.finished_at)

        async def one(task: Task) -> None:
            seen(await client.tasks.wait(task))

        tasks = [await client.edits.create(_SOURCE, f"number {number}") for number in range(waits)]
        if way == "one watch":
            async with client.tasks.watch(tasks) as finished:
                async for task in finished:
                    seen(task)
        else:
            async with asyncio.TaskGroup() as group:
                for task in tasks:
                    group.create_task(one(task))
        requests = emulator.counts["tasks"] + emulator.counts["tasks/batch"]
    assert len(delays) == waits  # noqa: S101 as above
    return Counted(requests, fmean(delays), sorted(delays)[int(0.95 * waits)])


async def count_all(waits: int, seconds: float, seed: int = 1) -> dict[Way, Counted]:
    """Wait in every way at the same time, each with a client and an emulator of its own."""
    async with asyncio.TaskGroup() as group:
        counts = {way: group.create_task(count(way, waits, seconds, seed)) for way in WAYS}
    return {way: counted.result() for way, counted in counts.items()}
