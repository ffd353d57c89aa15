"""Workers for the jobs of one command, with a bounded number of jobs in flight."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Final, TypeAlias

import anyio
import attrs

from apimart_async.cli.display.explanation import ends_all
from apimart_async.cli.display.streams import say
from apimart_async.cli.job import Job, Stage

_IN_FLIGHT: Final = 32
_GRACE: Final = 3.0
"""Seconds that a paid request in flight has for its answer after the first signal."""

_FREE: Final = frozenset({Stage.PREPARING, Stage.UPLOADING})

Work: TypeAlias = Callable[[Job], Awaitable[None]]
"""Processes one job."""


class Submits:
    """The paid requests in flight, shielded from the cancellation of their jobs.

    A paid request whose answer nobody reads is a task whose id nobody knows.
    """

    def __init__(self) -> None:
        self._scopes: set[anyio.CancelScope] = set()

    @contextmanager
    def shielded(self) -> Generator[None]:
        """Shield the body from cancellation, until ``cancel`` or the end of the grace period."""
        with anyio.CancelScope(shield=True) as scope:
            self._scopes.add(scope)
            try:
                yield
            finally:
                self._scopes.discard(scope)

    def begin_grace(self) -> None:
        """Cancel the requests in flight after 3 seconds."""
        if self._scopes:
            say(f"Waiting up to {_GRACE:g} s for the answers to paid requests; Ctrl-C again stops at once.")
        for scope in self._scopes:
            scope.deadline = anyio.current_time() + _GRACE

    def cancel(self) -> None:
        """Cancel the requests in flight."""
        for scope in self._scopes:
            scope.cancel()


async def work_through(jobs: Sequence[Job], work: Work) -> None:
    """Process every job, at most 32 concurrently.

    An error of one job becomes its ``error``. After an error that every other job would meet too (the key is
    not accepted, the balance is used up), no further job is started.

    Args:
        jobs: In the order in which they are started.
        work: Processes one job.

    Cancellation leaves jobs that have not ended in their current stage, once their shielded parts have ended.
    """
    workers = _Workers(work, deque(jobs))
    async with anyio.create_task_group() as group:
        for _ in range(min(_IN_FLIGHT, len(jobs))):
            group.start_soon(workers.take_turns)


@attrs.define
class _Workers:
    work: Work
    waiting: deque[Job]
    under_way: dict[Job, anyio.CancelScope] = attrs.field(factory=dict[Job, anyio.CancelScope], init=False)

    async def take_turns(self) -> None:
        while self.waiting:
            job = self.waiting.popleft()
            with anyio.CancelScope() as self.under_way[job]:
                await self._do(job)
            if self.under_way.pop(job).cancelled_caught:
                job.enter(Stage.NOT_STARTED)

    async def _do(self, job: Job) -> None:
        try:
            await self.work(job)
        except Exception as error:  # noqa: BLE001 it is reported, and the other jobs continue
            job.error = error
            job.enter(Stage.FAILED)
            if ends_all(error):
                self._start_no_more()
        else:
            job.enter(Stage.DONE)

    def _start_no_more(self) -> None:
        self.waiting.clear()
        for job, scope in self.under_way.items():
            if job.stage in _FREE:
                scope.cancel()


def settle(jobs: Sequence[Job]) -> None:
    """Mark jobs that were cut off as interrupted, and waiting jobs as not started."""
    for job in jobs:
        if not job.has_ended:
            job.enter(Stage.NOT_STARTED if job.stage is Stage.WAITING else Stage.INTERRUPTED)
