"""Waits over real sockets against the emulator, on a clock that jumps: requests, polls and delays."""

from __future__ import annotations

import asyncio
from random import Random
from typing import TYPE_CHECKING

import attrs
from cadences import simulation as sim
from cadences.clock import JumpingLoop

from apimart_async import AsyncApimart
from apimart_async.emulator import Emulator

if TYPE_CHECKING:
    from cadences.families import Family

    from apimart_async import Task

PATTERNS: dict[str, sim.Arrivals] = {
    "steady, one each 2.5 s": sim.Arrivals((100, 300), 2.5, is_random=True),
    "waves of 16": sim.Arrivals((16,) * 19, judged=112),
    "waves of 100": sim.Arrivals((100,) * 4),
    "waves of 300": sim.Arrivals((100, 300, 300)),
    "waves of 1,000": sim.Arrivals((100, 1000, 1000)),
    "a fresh client, 1,000": sim.Arrivals((1000,), judged=0),
}
_SOURCE = "https://pictures.example/photo.jpg"


@attrs.frozen
class Counted:
    """Counts and delays of the judged tasks.

    Attributes:
        result: Polls and delays.
        lasting: Durations in seconds, in the same order.
        requests: Number for all of them.
    """

    result: sim.Result
    lasting: list[float]
    requests: int


def count(arrivals: sim.Arrivals, family: Family, seed: int, *, shares_requests: bool) -> Counted:
    """Submit and wait for the tasks of a pattern; each is one call of ``wait``."""
    with asyncio.Runner(loop_factory=JumpingLoop) as runner:
        return runner.run(_count(arrivals, family, seed, batch="list" if shares_requests else None))


async def _count(arrivals: sim.Arrivals, family: Family, seed: int, batch: str | None) -> Counted:
    polls = [0] * arrivals.tasks
    delays, lasting = [0.0] * arrivals.tasks, [0.0] * arrivals.tasks
    random = Random(seed)
    async with (
        Emulator(task_seconds=family.draw, seed=seed, images="tiny", batch=batch) as emulator,
        AsyncApimart(emulator.api_key, base_url=emulator.base_url) as client,
    ):
        service = emulator._service  # noqa: SLF001 only the service knows the moment a task ended
        assert service is not None  # noqa: S101 for the type checker: it is running

        async def wait(number: int, seconds: float) -> None:
            def polled(_: Task) -> None:
                polls[number] += 1

            await asyncio.sleep(seconds)
            task = await client.edits.create(_SOURCE, f"number {number}")
            await client.tasks.wait(task, on_update=polled)
            known = service.tasks.get(task.id)
            assert known is not None  # noqa: S101 a wrong benchmark must not print numbers
            delays[number] = service.clock.now() - known.finished_at
            lasting[number] = known.seconds

        first = before = 0
        for size in arrivals.waves:
            if first <= arrivals.judged:
                before = emulator.counts["tasks"] + emulator.counts["tasks/batch"]
                judged = range(first, arrivals.tasks)
            submit_after = 0.0
            async with asyncio.TaskGroup() as group:
                for number in range(first, first + size):
                    group.create_task(wait(number, submit_after))
                    if arrivals.spacing:
                        submit_after += random.expovariate(1 / arrivals.spacing)
            first += size
        requests = emulator.counts["tasks"] + emulator.counts["tasks/batch"] - before
    result = sim.Result(polls, delays).part(judged)
    return Counted(result, [lasting[number] for number in judged], requests)
