"""Many tasks as a stream, each as it ends."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING

import anyio

from apimart_async.models import Task

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from types import TracebackType

    from anyio.abc import TaskGroup
    from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

    from apimart_async.polling.lookout import Party
    from apimart_async.polling.poller import Poller
    from apimart_async.polling.vigil import Vigil


class Watch:
    """Many waits in one task group; entered, it is a stream of tasks in the order they end.

    Besides one task that starts the fetches, it runs a task for each request under way, not for each wait.

    Args:
        poller: Does the waiting.
        tasks: To wait for.
        timeout: Seconds for all of them together.
    """

    def __init__(self, poller: Poller, tasks: list[Task], timeout: float | None) -> None:
        self._poller = poller
        self._tasks = tasks
        self._timeout = timeout
        self._group: TaskGroup = anyio.create_task_group()
        self._vigils: list[Vigil] = []
        self._unfinished = 0
        self._parties: list[Party] = []
        self._under_way: set[Party] = set()
        self._bell: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._send: MemoryObjectSendStream[Task | Exception]
        self._receive: MemoryObjectReceiveStream[Task | Exception]

    async def __aenter__(self) -> AsyncIterator[Task]:
        # The streams hold what has ended and was not taken yet, at most every task once.
        self._send, self._receive = anyio.create_memory_object_stream[Task | Exception](len(self._tasks))
        await self._group.__aenter__()
        loop = asyncio.get_running_loop()
        now = loop.time()
        deadline = now + self._poller.limit(self._timeout)
        for task in self._tasks:
            if task.is_finished:
                self._send.send_nowait(task)
            else:
                self._vigils.append(self._poller.vigil(task, self, now, deadline))
        self._unfinished = len(self._vigils)
        for vigil in self._vigils:
            self._poller.lookout.add(vigil)
        if self._vigils:
            if not math.isinf(deadline):
                self._timer = loop.call_at(deadline, self._give_up)
            self._group.start_soon(self._lead_parties, name="watch tasks")
        else:
            self._send.close()
        return _Finished(self._receive)

    def lead(self, party: Party) -> None:
        """Fetch for a party soon."""
        self._parties.append(party)
        self._ring()

    def seen(self, vigil: Vigil) -> None:
        """Do nothing: a watch tells only of ends."""

    def ended(self, vigil: Vigil) -> None:
        """Hand a task out."""
        self._send.send_nowait(vigil.error or vigil.task)
        self._unfinished -= 1
        if not self._unfinished:
            self._send.close()
            self._ring()

    def _give_up(self) -> None:
        for vigil in self._vigils:
            vigil.end()

    def _ring(self) -> None:
        if self._bell is not None and not self._bell.done():
            self._bell.set_result(None)

    async def _lead_parties(self) -> None:
        while self._unfinished:
            for party in self._parties:
                self._under_way.add(party)
                self._group.start_soon(self._fetch, party, name="look at tasks")
            self._parties.clear()
            self._bell = asyncio.get_running_loop().create_future()
            await self._bell

    async def _fetch(self, party: Party) -> None:
        try:
            await self._poller.lookout.fetch(party)
        finally:
            self._under_way.discard(party)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool | None:
        self._leave()
        self._receive.close()
        if error is None:
            self._group.cancel_scope.cancel()
        try:
            return await self._group.__aexit__(kind, error, trace)
        except BaseExceptionGroup as group:
            if error is not None and list(group.exceptions) == [error]:
                return False
            raise

    def _leave(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        for vigil in self._vigils:
            self._poller.lookout.leave(vigil)
        # Their requests end with this watch; what others have in them is looked at by one of those.
        for party in (*self._parties, *self._under_way):
            self._poller.lookout.put_back(party)
        self._parties.clear()


class _Finished:
    """The consuming end of a watch, an iterator of its own: leaving it early holds nothing open."""

    def __init__(self, receive: MemoryObjectReceiveStream[Task | Exception]) -> None:
        self._receive = receive

    def __aiter__(self) -> _Finished:
        return self

    async def __anext__(self) -> Task:
        try:
            ended = await self._receive.receive()
        except anyio.EndOfStream:
            raise StopAsyncIteration from None
        if isinstance(ended, Exception):
            raise ended
        return ended
