"""Wait for tasks: looks that outlive every passing trouble, one task at a time or many as they finish."""

from __future__ import annotations

import asyncio
import logging
import math
from collections import deque
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import anyio
import attrs

from apimart_async.polling.cadence import Cadence
from apimart_async.polling.lookout import Lookout
from apimart_async.polling.vigil import Vigil
from apimart_async.polling.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from apimart_async.models import Task
    from apimart_async.polling.lookout import Party
    from apimart_async.polling.vigil import Owner

log: logging.Logger = logging.getLogger("apimart_async")


@attrs.frozen
class Poller:
    """Wait for tasks with one cadence.

    Args:
        lookout: Does the looking; others may share it.
        cadence: Says when.
    """

    lookout: Lookout
    cadence: Cadence

    async def wait(
        self,
        task: Task,
        timeout: float | None = None,
        on_update: Callable[[Task], object] | None = None,
    ) -> Task:
        """Return the task once it has ended, or as last seen at the deadline.

        Passing troubles — 429, 5xx, a dropped connection, an answer that is not understood — and statuses
        never heard of are waited through.

        Args:
            task: As far as it is known.
            timeout: Seconds; ``Poll.timeout`` by default.
            on_update: Called with the task after every look.

        Raises:
            APIError: One that time does not heal, such as ``AuthenticationError``; it names the task.

        Cancelling it leaves the task as it is; its id is in the exception's notes and in the log.
        """
        if task.is_finished:
            return task
        now = asyncio.get_running_loop().time()
        waiting = _Waiting(self.lookout, on_update)
        vigil = self.vigil(task, waiting, now, now + self.limit(timeout))
        try:
            return await waiting.run(vigil)
        except anyio.get_cancelled_exc_class() as cancelled:
            note = f"The wait was cut off; task {task.id} goes on and can be waited for again."
            cancelled.add_note(note)
            log.info(note)
            raise

    def watch(self, tasks: Iterable[Task], timeout: float | None = None) -> Watch:
        """Return the tasks as a stream, each once, as they end or as last seen at the deadline."""
        return Watch(self, list(tasks), timeout)

    def limit(self, timeout: float | None) -> float:
        """Return the seconds a wait may take."""
        return self.cadence.poll.timeout if timeout is None else timeout

    def vigil(self, task: Task, owner: Owner, now: float, deadline: float) -> Vigil:
        """Make the state of one wait; a task that does not say when it was submitted may be of any age."""
        created = task.created_at
        age = 0.0 if created is None else max(0.0, (datetime.now(UTC) - created).total_seconds())
        return Vigil(task, owner, self.cadence, now - age, created is not None, deadline)


class _Waiting:
    """A wait for one task, in the caller's own task.

    It sleeps from beginning to end, unless it has to tell of a look or to fetch for a party.
    """

    def __init__(self, lookout: Lookout, on_update: Callable[[Task], object] | None) -> None:
        self._lookout = lookout
        self._on_update = on_update
        self._updates: deque[Task] = deque()
        self._party: Party | None = None
        self._bell: asyncio.Future[None] | None = None

    async def run(self, vigil: Vigil) -> Task:
        loop = asyncio.get_running_loop()
        timer = None if math.isinf(vigil.deadline) else loop.call_at(vigil.deadline, vigil.end)
        self._lookout.add(vigil)
        try:
            while True:
                while self._updates and self._on_update is not None:
                    self._on_update(self._updates.popleft())
                if vigil.is_over:
                    break
                if self._party is not None:
                    with anyio.move_on_after(vigil.deadline - loop.time()):
                        await self._lookout.fetch(self._party)
                    self._party = None
                else:
                    self._bell = loop.create_future()
                    await self._bell
        finally:
            if timer is not None:
                timer.cancel()
            self._lookout.leave(vigil)
            if self._party is not None:
                self._lookout.put_back(self._party)
        if vigil.error is not None:
            raise vigil.error
        return vigil.task

    def lead(self, party: Party) -> None:
        self._party = party
        self._ring()

    def seen(self, vigil: Vigil) -> None:
        if self._on_update is not None:
            self._updates.append(vigil.task)
            self._ring()

    def ended(self, vigil: Vigil) -> None:
        if self._on_update is not None and vigil.task.is_finished and not vigil.missing:
            self._updates.append(vigil.task)
        self._ring()

    def _ring(self) -> None:
        if self._bell is not None and not self._bell.done():
            self._bell.set_result(None)
