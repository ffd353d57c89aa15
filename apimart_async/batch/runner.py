"""The run of a batch: starts jobs within its limits, and yields outcomes on demand."""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import time
from collections.abc import AsyncIterable, Iterable, Sequence, Sized
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Final, Self, cast

import anyio
from anyio import to_thread

from apimart_async import errors
from apimart_async.arguments import wrong_type
from apimart_async.batch.budget import PRICES, Budget, read_prices
from apimart_async.batch.context import Context
from apimart_async.batch.cooldown import Cooldown
from apimart_async.batch.job import Job, Outcome
from apimart_async.batch.job_flow import JobFlow
from apimart_async.batch.journal.postgres import PostgresJournal
from apimart_async.batch.progress import ProgressCounter
from apimart_async.batch.results import check_output, write_results
from apimart_async.batch.shutdown import ShutdownState, explained
from apimart_async.resources.uploads import BatchUploads

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator
    from types import TracebackType

    from anyio.abc import TaskGroup
    from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

    from apimart_async.batch.backends import Backend
    from apimart_async.batch.context import BatchOptions
    from apimart_async.batch.journal.protocol import Journal

_log: Final = logging.getLogger("apimart_async.batch")

_STATS: Final = "stats"
_BUFFERED_OUTCOMES: Final = 64
_PROGRESS_INTERVAL: Final = 0.2
_JOBS_AT_ONCE: Final = 32
_LONGEST_TAKE: Final = 0.005


class Runner:
    """Runs a batch in one task group; an asynchronous context manager, and inside it an iterator of outcomes.

    Each job runs in an asyncio task of its own. It starts once the limits allow it, and ends when its outcome
    is read or one of at most 64 in a buffer: neither waiting jobs nor unread outcomes accumulate.

    Args:
        backend: The service.
        jobs: Jobs, taken lazily.
        journal: The journal, not entered yet.
        options: Options of the batch.

    Raises:
        InvalidArgumentError: There is a budget, but the service does not report costs.
    """

    def __init__(
        self,
        backend: Backend,
        jobs: Iterable[Job] | AsyncIterable[Job],
        journal: Journal,
        options: BatchOptions,
    ) -> None:
        if options.max_cost is not None and not backend.reports_costs:
            raise errors.InvalidArgumentError(
                "max_cost cannot be kept: this service does not report the cost of edits."
            )
        self._backend = backend
        self._jobs = jobs
        self._journal = journal
        self._options = options
        self._group: TaskGroup = anyio.create_task_group()
        self._counter: ProgressCounter | None = None
        if options.on_progress is not None:
            total = len(jobs) if isinstance(jobs, Sized) else None
            self._counter = ProgressCounter(total, options.on_progress)
        self._is_over = False
        self._context: Context
        self._shutdown: ShutdownState
        self._loop: asyncio.AbstractEventLoop
        self._send: MemoryObjectSendStream[Outcome]
        self._receive: MemoryObjectReceiveStream[Outcome]

    async def __aenter__(self) -> Self:
        options, journal, backend = self._options, self._journal, self._backend
        await check_output(options.output)
        await journal.__aenter__()
        try:
            prices, stats = await _read_states(journal)
            try:
                backend.load_stats(stats)
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                raise errors.JournalError(f"The journal is damaged: its {_STATS} cannot be read.") from error
            shared = journal if isinstance(journal, PostgresJournal) else None
            budget = Budget(
                options.max_cost,
                await journal.tally(),
                prices,
                shared.budget if shared else None,
                backend.price,
            )
            self._shutdown = ShutdownState(budget=budget)
            self._context = Context(
                options=options,
                backend=backend,
                journal=journal,
                shutdown=self._shutdown,
                budget=budget,
                uploads=BatchUploads(journal, anyio.Semaphore(options.max_uploads)),
                upload_cooldown=Cooldown(self._shutdown, options.max_retry_after),
                submit_cooldown=Cooldown(self._shutdown, options.max_retry_after),
                in_flight=anyio.Semaphore(options.max_in_flight),
                downloads=anyio.Semaphore(options.max_downloads),
                rate=shared.rate if shared else None,
            )
            self._send, self._receive = anyio.create_memory_object_stream[Outcome](_BUFFERED_OUTCOMES)
            await self._group.__aenter__()
        except BaseException as error:
            with anyio.CancelScope(shield=True):
                await journal.__aexit__(type(error), error, error.__traceback__)
            raise
        self._loop = asyncio.get_running_loop()
        options.shutdown.add_listener(self._shutdown_requested)
        self._group.start_soon(self._run, name="batch")
        if self._counter is not None:
            self._group.start_soon(self._report_regularly, self._counter, name="batch: progress")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool | None:
        self._options.shutdown.remove_listener(self._shutdown_requested)
        self._receive.close()
        self._shutdown.begin_grace(self._options.grace)
        self._group.cancel_scope.cancel()
        try:
            return await self._group.__aexit__(kind, error, trace)
        except BaseExceptionGroup as group:
            if error is not None and list(group.exceptions) == [error]:
                return False
            raise
        finally:
            with anyio.CancelScope(shield=True):
                await self._journal.__aexit__(kind, error, trace)

    def end_grace(self) -> None:
        """Cut off the paid requests in flight of a cancelled batch at once; their jobs are in doubt."""
        self._shutdown.begin_grace(0.0)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Outcome:
        try:
            return await self._receive.receive()
        except anyio.EndOfStream:
            reason = None if self._is_over else self._shutdown.reason
            self._is_over = True
            if reason is not None:
                raise explained(reason) from reason
            raise StopAsyncIteration from None

    # --- in the group -----------------------------------------------------------------------------------

    async def _run(self) -> None:
        """Start a task for each job, await them all and write the results."""
        options = self._options
        job_limit = anyio.Semaphore(options.max_in_flight + options.max_uploads + options.max_downloads)
        with self._send:
            async with anyio.create_task_group() as group:
                with self._shutdown.taking:
                    try:
                        positions = itertools.count()
                        async with aclosing(lazily(self._jobs)) as jobs:
                            async for job in jobs:
                                if not isinstance(cast("object", job), Job):
                                    raise wrong_type("Each of jobs", "a Job", job)  # noqa: TRY301 as of the iterable
                                await job_limit.acquire()
                                group.start_soon(self._run_job, job, next(positions), job_limit, name="job")
                    except Exception as error:  # noqa: BLE001 the iterable of jobs has failed
                        # Raised at the end, when all jobs before the error are done.
                        self._shutdown.reason = self._shutdown.reason or error
            try:
                stats = self._backend.stats()
                if stats:
                    await self._journal.put_state(_STATS, json.dumps(stats).encode())
                if options.write_results:
                    await write_results(self._journal, options.output)
            except errors.ApimartError as error:
                self._shutdown.fail(error)
            if self._counter is not None:
                self._report(self._counter)

    async def _run_job(self, job: Job, position: int, job_limit: anyio.Semaphore) -> None:
        try:
            flow = JobFlow(self._context, job, position)
            outcome = await flow.run()
            if outcome is not None:
                _log_outcome(outcome, was_saved=flow.was_saved)
                if self._counter is not None:
                    self._counter.add(outcome)
                await self._send.send(outcome)
        except anyio.BrokenResourceError:
            self._shutdown.request()
        except Exception as error:  # noqa: BLE001 not of the job, which would be its outcome
            self._shutdown.fail(error)
        finally:
            job_limit.release()

    async def _report_regularly(self, counter: ProgressCounter) -> None:
        while True:
            self._report(counter)
            await anyio.sleep(_PROGRESS_INTERVAL)

    def _report(self, counter: ProgressCounter) -> None:
        context = self._context
        try:
            counter.report(
                in_flight=self._options.max_in_flight - context.in_flight.value - context.budget.waiting,
                spent=context.budget.spent,
                is_rate_limited=context.upload_cooldown.is_limited or context.submit_cooldown.is_limited,
                rate_limit=self._backend.rate_limit(),
                is_shutting_down=self._shutdown.is_requested,
            )
        except Exception as error:  # noqa: BLE001 the caller's own: the iterator raises it
            self._shutdown.fail(error)

    def _shutdown_requested(self) -> None:
        self._loop.call_soon_threadsafe(self._shutdown.request)


def _log_outcome(outcome: Outcome, *, was_saved: bool) -> None:
    """Log how a job has ended, without its prompt and the words of the service."""
    if not _log.isEnabledFor(logging.INFO):
        return
    task = f", task {outcome.task.id}" if outcome.task and outcome.task.id else ""
    cost = f", {outcome.cost:g} USD" if outcome.cost is not None else ""
    error = f", {type(outcome.error).__name__}" if outcome.error else ""
    ending = f"already {outcome.status}" if was_saved else outcome.status
    _log.info("%s.", errors.visible(f"Job {outcome.id} {ending}{task}{cost}{error}"))


async def lazily(jobs: Iterable[Job] | AsyncIterable[Job]) -> AsyncGenerator[Job, None]:
    """Yield jobs one by one.

    A generator may read files or compute between its items, so it runs in worker threads: up to 32 items, or
    as many as it yields in 5 ms, for each change of threads.

    Cancellation leaves a blocking generator running.
    """
    if isinstance(jobs, AsyncIterable):
        async for job in jobs:
            yield job
        return
    if isinstance(jobs, Sequence):
        for job in jobs:
            yield job
        return
    iterator = await to_thread.run_sync(iter, jobs, abandon_on_cancel=True)
    is_over = False
    while not is_over:
        taken, is_over, error = await to_thread.run_sync(_take, iterator, abandon_on_cancel=True)
        for job in taken:
            yield job
        if error is not None:
            raise error


def _take(iterator: Iterator[Job]) -> tuple[list[Job], bool, Exception | None]:
    """Return some items, whether there are no more, and the error that ended them."""
    taken: list[Job] = []
    deadline = time.monotonic() + _LONGEST_TAKE
    try:
        while len(taken) < _JOBS_AT_ONCE and (not taken or time.monotonic() < deadline):
            taken.append(next(iterator))
    except StopIteration:
        return taken, True, None
    except Exception as error:  # noqa: BLE001 raised once the items before it are taken
        return taken, True, error
    return taken, False, None


async def _read_states(journal: Journal) -> tuple[dict[str, float], dict[str, Any]]:
    """Return the prices and the statistics of earlier runs.

    Raises:
        JournalError: The prices or the statistics cannot be read.
    """
    prices = read_prices(await journal.get_state(PRICES))
    try:
        stats = json.loads(await journal.get_state(_STATS) or b"{}")
    except (ValueError, RecursionError):
        stats = None
    if not isinstance(stats, dict):
        raise errors.JournalError(f"The journal is damaged: its {_STATS} cannot be read.")
    return prices, cast("dict[str, Any]", stats)
