"""A batch while it runs: jobs come in as there is room, outcomes go out as they are taken."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterable, Callable, Iterable, Sized
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import anyio
import attrs
from anyio import to_thread

from apimart_async import errors
from apimart_async.batch import stopping
from apimart_async.batch.budget import Budget
from apimart_async.batch.course import Course
from apimart_async.batch.drain import Drain
from apimart_async.batch.facilities import PRICES, Facilities
from apimart_async.batch.feed import feed
from apimart_async.batch.job import Job, Outcome
from apimart_async.batch.journal import Journal
from apimart_async.batch.meter import Meter
from apimart_async.batch.progress import Progress
from apimart_async.batch.results import check_directory, write_results
from apimart_async.batch.services import DirectService, TaskService
from apimart_async.batch.uploading import SharedUploads
from apimart_async.resources.tasks import AsyncTasks
from apimart_async.transport.rate_limit import Gate

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from types import TracebackType

    from anyio.abc import TaskGroup
    from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

    from apimart_async.batch.services import EditService

_DURATIONS: Final = "durations"
_BUFFERED: Final = 64
_TICK: Final = 0.2


@attrs.frozen(kw_only=True)
class Options:
    """What a batch is started with; ``edit_many`` documents it."""

    client: Any
    jobs: Iterable[Job] | AsyncIterable[Job]
    directory: Path
    journal: Journal
    max_in_flight: int
    max_uploads: int
    max_downloads: int
    max_cost: float | None
    resubmits: bool
    retries_failed: bool
    timeout: float | None
    on_progress: Callable[[Progress], object] | None
    drain: Drain


class Conductor:
    """Runs a batch in one task group; entered, it is a stream of outcomes.

    A job has a task of its own from when there is room for it until its outcome is taken, so that nothing
    piles up: neither jobs that wait, nor outcomes that nobody looks at.

    Args:
        options: Of the batch.
    """

    def __init__(self, options: Options) -> None:
        self._options = options
        self._room = Gate(options.max_in_flight + options.max_uploads + options.max_downloads)
        self._meter = Meter(len(options.jobs) if isinstance(options.jobs, Sized) else None)
        self._stop = stopping.Stop(self._stopped)
        self._feeding = anyio.CancelScope()
        self._group: TaskGroup = anyio.create_task_group()
        # Those of the client that learn how long they take, if it has any.
        tasks = getattr(options.client, "tasks", None)
        self._tasks = tasks if isinstance(tasks, AsyncTasks) else None
        self._shared: Facilities
        self._send: MemoryObjectSendStream[Outcome]
        self._receive: MemoryObjectReceiveStream[Outcome]
        self._requested: Callable[[], object]

    async def __aenter__(self) -> AsyncIterator[Outcome]:
        options = self._options
        await to_thread.run_sync(check_directory, options.directory)
        journal = await options.journal.__aenter__()
        try:
            self._shared = await self._set_up(journal)
            self._send, self._receive = anyio.create_memory_object_stream[Outcome](_BUFFERED)
            await self._group.__aenter__()
        except BaseException as error:
            with anyio.CancelScope(shield=True):
                await journal.__aexit__(type(error), error, error.__traceback__)
            raise
        loop = asyncio.get_running_loop()
        self._requested = lambda: loop.call_soon_threadsafe(self._stop.request)
        if options.drain.is_requested:
            self._stop.request()
        options.drain.add_listener(self._requested)
        self._group.start_soon(self._conduct, name="batch")
        self._group.start_soon(self._guard, name="batch: paid requests")
        if options.on_progress is not None:
            self._group.start_soon(self._tick, name="batch: progress")
        return _Outcomes(self._receive, self._stop)

    async def _set_up(self, journal: Journal) -> Facilities:
        options = self._options
        tally = await journal.tally()
        prices = json.loads(await journal.get_state(PRICES) or b"{}")
        if self._tasks is not None:
            self._tasks.load_duration_stats(json.loads(await journal.get_state(_DURATIONS) or b"{}"))
        service: EditService
        if hasattr(options.client, "tasks"):
            uploads = SharedUploads(options.client, journal, options.max_uploads)
            service = TaskService(options.client, uploads)
        else:
            service = DirectService(options.client)
        return Facilities(
            service=service,
            journal=journal,
            stop=self._stop,
            budget=Budget(options.max_cost, tally, prices),
            places=Gate(options.max_in_flight),
            downloads=Gate(options.max_downloads),
            directory=options.directory,
            resubmits=options.resubmits,
            retries_failed=options.retries_failed,
            timeout=options.timeout,
        )

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool | None:
        self._options.drain.remove_listener(self._requested)
        self._receive.close()
        self._group.cancel_scope.cancel()
        try:
            return await self._group.__aexit__(kind, error, trace)
        except BaseExceptionGroup as group:
            if error is not None and list(group.exceptions) == [error]:
                return False
            raise
        finally:
            with anyio.CancelScope(shield=True):
                await self._shared.journal.__aexit__(kind, error, trace)

    # --- in the group -------------------------------------------------------------------------------------

    async def _conduct(self) -> None:
        course = Course(self._shared)
        try:
            async with anyio.create_task_group() as group:
                with self._feeding:
                    await self._begin_all(course, group)
            await self._conclude()
        finally:
            self._send.close()

    async def _begin_all(self, course: Course, group: TaskGroup) -> None:
        try:
            async with aclosing(feed(self._options.jobs)) as jobs:
                async for job in jobs:
                    await self._room.enter()
                    self._meter.in_flight += 1
                    group.start_soon(self._run, course, job, name="job")
        except Exception as error:  # noqa: BLE001 whatever gives the jobs has failed: the iterator raises it
            self._stop.afterwards(error)

    async def _run(self, course: Course, job: Job) -> None:
        try:
            outcome = await course.run(job)
            if outcome is not None:
                self._meter.ended(outcome)
                await self._send.send(outcome)
        except anyio.BrokenResourceError:
            self._stop.request()
        except Exception as error:  # noqa: BLE001 not of the job, which would be its outcome
            self._stop.because(error)
        finally:
            self._meter.in_flight -= 1
            self._room.leave()

    async def _conclude(self) -> None:
        try:
            if self._tasks is not None:
                learnt = json.dumps(self._tasks.duration_stats()).encode()
                await self._shared.journal.put_state(_DURATIONS, learnt)
            await write_results(self._shared.journal, self._shared.directory)
        except errors.ApimartError as error:
            self._stop.because(error)
        self._report()

    async def _guard(self) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            self._stop.hurry()

    async def _tick(self) -> None:
        while True:
            self._report()
            await anyio.sleep(_TICK)

    def _report(self) -> None:
        if self._options.on_progress is None:
            return
        budget, stop = self._shared.budget, self._stop
        try:
            self._options.on_progress(self._meter.read(spent=budget.spent, is_draining=stop.is_requested))
        except Exception as error:  # noqa: BLE001 the caller's own, which the iterator raises
            stop.because(error)

    def _stopped(self) -> None:
        self._feeding.cancel()
        self._shared.budget.close()


class _Outcomes:
    """The consuming end of a batch."""

    def __init__(self, receive: MemoryObjectReceiveStream[Outcome], stop: stopping.Stop) -> None:
        self._receive = receive
        self._stop = stop
        self._is_over = False

    def __aiter__(self) -> _Outcomes:
        return self

    async def __anext__(self) -> Outcome:
        try:
            return await self._receive.receive()
        except anyio.EndOfStream:
            reason = None if self._is_over else self._stop.reason
            self._is_over = True
            if reason is not None:
                raise stopping.explained(reason) from reason
            raise StopAsyncIteration from None
