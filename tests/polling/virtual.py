"""An event loop on virtual time, and a service of tasks for it."""

from __future__ import annotations

import asyncio
import selectors
from collections import Counter
from datetime import UTC, datetime
from random import Random
from typing import TYPE_CHECKING, Any

import attrs

from apimart_async import BadRequestError, Image, NotFoundError, Poll, Task
from apimart_async.polling.cadence import Cadence
from apimart_async.polling.duration_stats import DurationStats
from apimart_async.polling.poller import PollQueue

if TYPE_CHECKING:
    from collections.abc import Callable


_START = 1000.0
NOW = datetime.max.replace(tzinfo=UTC)
"""The time of a submit at this moment: the system's clock goes on while virtual time stands still."""


class _Selector(selectors.DefaultSelector):
    now = _START

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(timeout if timeout is None else 0)
        if timeout is not None and not ready:
            self.now += max(timeout, 0.0)
        return ready


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock jumps to the next timer as soon as nothing else is ready."""

    def __init__(self) -> None:
        self._clock = _Selector()
        super().__init__(self._clock)

    def time(self) -> float:
        return self._clock.now


BACKEND = "asyncio", {"loop_factory": VirtualTimeLoop}
"""Value of the fixture `anyio_backend` for virtual time."""


def now() -> float:
    """Return the seconds since the loop began."""
    return asyncio.get_running_loop().time() - _START


async def until(condition: Callable[[], object]) -> None:
    while not condition():  # noqa: ASYNC110 the condition is no event
        await asyncio.sleep(0.001)


class Service:
    """Answers polls when `gate` is open, and records them; a task ends at its moment in `ends`.

    Batches are sent while `admission` is open.
    """

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.gate.set()
        self.admission = asyncio.Event()
        self.admission.set()
        self.ends: dict[str, float] = {}
        self.seconds = 0.01
        self.requesters: list[asyncio.Task[Any] | None] = []
        self.batches: list[list[str]] = []
        self.singles: Counter[str] = Counter()
        self.error: Exception | None = None
        self.batch_error: Exception | None = None
        self.batches_are_empty = False
        self.batches_lack_images = False
        self.bad_ids = set[str]()
        self.max_ids = 100

    @property
    def requests(self) -> int:
        return len(self.batches) + self.singles.total()

    async def poll_one(self, task_id: str) -> Task:
        self.singles[task_id] += 1
        found = await self._answer([task_id])
        if not found:
            raise NotFoundError("no such task", status=404, type="invalid_request_error")
        return found[task_id]

    async def poll_many(self, take_ids: Callable[[], list[str]]) -> dict[str, Task]:
        await self.admission.wait()
        task_ids = take_ids()
        self.batches.append(task_ids)
        found = await self._answer(task_ids)
        if self.batch_error is not None:
            raise self.batch_error
        if len(task_ids) > self.max_ids or not self.bad_ids.isdisjoint(task_ids):
            raise BadRequestError("bad ids", status=400)
        if self.batches_lack_images:
            found = {task_id: attrs.evolve(task, images=()) for task_id, task in found.items()}
        return {} if self.batches_are_empty else found

    async def _answer(self, task_ids: list[str]) -> dict[str, Task]:
        self.requesters.append(asyncio.current_task())
        await asyncio.sleep(self.seconds)
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        known = [task_id for task_id in task_ids if task_id in self.ends]
        images = (Image(url="https://images.example/1.png"),)
        return {
            task_id: Task(task_id, "completed", images=images)
            if self.ends[task_id] <= now()
            else Task(task_id, "processing")
            for task_id in known
        }

    def queue(self, requests_per_second: float | None = None) -> PollQueue:
        return PollQueue(self.poll_one, self.poll_many, requests_per_second)


def cadence(poll: Poll, seed: int = 1) -> Cadence:
    return Cadence(poll, DurationStats(), Random(seed))


def ended(task_id: str) -> Task:
    """Return a task that has completed with an image."""
    return Task(task_id, "completed", images=(Image(f"https://f.example/{task_id}.png"),))


def queued(task_id: str) -> Task:
    return Task(task_id, "queued")
