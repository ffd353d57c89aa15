"""A fixed number of tasks in flight on virtual time, as in a batch."""

from __future__ import annotations

import asyncio
import selectors
from datetime import UTC, datetime
from random import Random
from typing import TYPE_CHECKING

import attrs

from apimart_async.config import Poll
from apimart_async.models import Image, Task
from apimart_async.polling.cadence import Cadence
from apimart_async.polling.poller import PollQueue
from apimart_async.polling.watch import until_ended

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from cadences.families import Family

    from apimart_async.polling.duration_stats import DurationStats

# Seconds of a submit, and of a poll.
_REQUEST = 0.01
# A time ahead counts as this moment: the system's clock goes on while virtual time stands still.
_NOW = datetime.max.replace(tzinfo=UTC)


@attrs.frozen
class Closed:
    """A run with a fixed number of tasks in flight.

    Attributes:
        seconds: From the first submit to the end of the last wait.
        requests: Number of requests for polls, shared or not.
        polls: Number of polls.
        delay: Mean seconds from the end of a task to the end of its wait.
    """

    seconds: float
    requests: int
    polls: int
    delay: float


class _Selector(selectors.DefaultSelector):
    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(timeout if timeout is None else 0)
        if timeout is not None and not ready:
            self.now += max(timeout, 0.0)
        return ready


class _Loop(asyncio.SelectorEventLoop):
    """An event loop whose clock jumps to the next timer as soon as nothing else is ready."""

    def __init__(self) -> None:
        self._clock = _Selector()
        super().__init__(self._clock)

    def time(self) -> float:
        return self._clock.now


@attrs.define
class _Service:
    ends: dict[str, float] = attrs.field(factory=dict[str, float])
    requests: int = 0
    polls: int = 0

    async def poll_one(self, task_id: str) -> Task:
        return (await self._answer([task_id]))[task_id]

    async def poll_many(self, take_ids: Callable[[], list[str]]) -> dict[str, Task]:
        return await self._answer(take_ids())

    async def _answer(self, task_ids: Iterable[str]) -> dict[str, Task]:
        self.requests += 1
        await asyncio.sleep(_REQUEST / 2)
        now = asyncio.get_running_loop().time()
        images = (Image(url="https://images.example/1.png"),)
        answer: dict[str, Task] = {}
        for task_id in task_ids:
            self.polls += 1
            has_ended = self.ends[task_id] <= now
            status = "completed" if has_ended else "processing"
            answer[task_id] = Task(task_id, status, images=images if has_ended else (), model="model")
        await asyncio.sleep(_REQUEST / 2)
        return answer


def run(family: Family, tasks: int, at_once: int, seed: int, stats: DurationStats) -> Closed:
    """Submit and wait for tasks, so many at once; the service reports no durations."""
    with asyncio.Runner(loop_factory=_Loop) as runner:
        return runner.run(_run(family.durations(tasks, seed), at_once, Cadence(Poll(), stats, Random(seed))))


async def _run(durations: list[float], at_once: int, cadence: Cadence) -> Closed:
    loop = asyncio.get_running_loop()
    service = _Service()
    queue = PollQueue(service.poll_one, service.poll_many)
    delays: list[float] = []
    numbers = iter(range(len(durations)))

    async def work() -> None:
        for number in numbers:
            await asyncio.sleep(_REQUEST)
            end = service.ends[str(number)] = loop.time() + durations[number]
            task = Task(str(number), "submitted", model="model", submitted_at=_NOW)
            await until_ended(queue, cadence, task)
            delays.append(loop.time() - end)

    async with asyncio.TaskGroup() as group:
        for _ in range(at_once):
            group.create_task(work())
    return Closed(loop.time(), service.requests, service.polls, sum(delays) / len(delays))
