"""Waits for tasks: for one, or for many as they end."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import math
from collections import deque
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Protocol, Self

from apimart_async.errors import ApimartError, visible
from apimart_async.interruption import mark
from apimart_async.polling.wait import Wait

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator, Iterable
    from types import TracebackType

    from apimart_async.models import Task
    from apimart_async.polling.cadence import Cadence
    from apimart_async.polling.poller import PollQueue

log: logging.Logger = logging.getLogger("apimart_async.polling")

_NOTIFICATION_STEP: Final = 0.05


class Notification(Protocol):
    """An event that is set when there is a sign that a task has ended, of asyncio, anyio or threading."""

    def is_set(self) -> bool:
        """Tell whether the event is set."""
        ...


class Watch:
    """An async context manager, and in it an async iterator of tasks in the order in which they end.

    Each task comes once: ended, or, at the deadline, as last seen. Errors that end a wait are raised by the
    iterator. Leaving the watch ends the waits and leaves the tasks as they are.

    Args:
        queue: Polls the tasks.
        cadence: Decides when.
        tasks: Tasks in their last known state.
        timeout: Seconds for all of them; ``Poll.timeout`` by default.
        every_poll: Whether tasks come after each of their polls, not only when they end.
        on_end: Called with a wait whose task has ended, with the context variables of the watch's caller.
    """

    def __init__(
        self,
        queue: PollQueue,
        cadence: Cadence,
        tasks: Iterable[Task],
        timeout: float | None = None,
        *,
        every_poll: bool = False,
        on_end: Callable[[Wait], None] | None = None,
    ) -> None:
        self._queue = queue
        self._cadence = cadence
        self._tasks = tasks
        self._timeout = cadence.settings.timeout if timeout is None else timeout
        self._every_poll = every_poll
        self._on_end = on_end
        self._waits: list[Wait] = []
        self._unfinished = 0
        self._results: deque[Task | Exception] = deque()
        # An event would hold a deque, a tenth of the memory of a waiting edit.
        self._consumers: list[asyncio.Future[None]] = []
        self._timer: asyncio.TimerHandle | None = None
        # It runs a task for each request, not for each wait.
        self._group = asyncio.TaskGroup()
        self._requests: set[asyncio.Task[None]] = set()
        self._context: contextvars.Context

    async def __aenter__(self) -> Self:
        self._context = contextvars.copy_context()
        await self._group.__aenter__()
        loop = asyncio.get_running_loop()
        now, today = loop.time(), datetime.now(UTC)
        deadline = now + self._timeout
        for task in self._tasks:
            if task.is_finished:
                self._results.append(task)
            else:
                # A task without a time of submit may be of any age: `created_at` is of another clock.
                submitted = task.submitted_at
                age = 0.0 if submitted is None else max(0.0, (today - submitted).total_seconds())
                self._waits.append(
                    Wait(task, self, self._cadence, now - age, submitted is not None, deadline)
                )
        self._unfinished = len(self._waits)
        if self._waits and not math.isinf(deadline):
            self._timer = loop.call_at(deadline, self._end_waits)
        for wait in self._waits:
            self._queue.add(wait, now)
        return self

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Task:
        while not self._results:
            if not self._unfinished:
                raise StopAsyncIteration
            consumer = asyncio.get_running_loop().create_future()
            self._consumers.append(consumer)
            await consumer
        result = self._results.popleft()
        if isinstance(result, Exception):
            raise result
        return result

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._unfinished:
            self._end_waits()
        self._queue.set_timer()
        for request in self._requests:
            request.cancel()
        # Without the error of the body: a task group would wrap it.
        await self._group.__aexit__(None, None, None)

    def start(self, request: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run a request in the task group, with the context variables of the caller of the watch."""
        task = self._group.create_task(request, context=self._context)
        self._requests.add(task)
        task.add_done_callback(self._requests.discard)
        return task

    def changed(self, wait: Wait) -> None:
        """Make a task, or the error that ended its wait, available to the iterator."""
        if wait.is_over:
            self._unfinished -= 1
            self._queue.remove(wait)
            if self._on_end is not None and wait.task.is_finished and wait.error is None:
                # A copy, as a request of this watch runs in the context itself.
                self._context.copy().run(self._on_end, wait)
        if wait.is_over or self._every_poll:
            self._results.append(wait.error or wait.task)
            for consumer in self._consumers:
                if not consumer.done():
                    consumer.set_result(None)
            self._consumers.clear()

    def _end_waits(self) -> None:
        for wait in self._waits:
            wait.end()


async def until_ended(
    queue: PollQueue,
    cadence: Cadence,
    task: Task,
    timeout: float | None = None,
    on_update: Callable[[Task], object] | None = None,
    *,
    notified: Notification | None = None,
    on_end: Callable[[Wait], None] | None = None,
) -> Task:
    """Return a task once it has ended, or as last seen at the deadline.

    Args:
        queue: Polls the task.
        cadence: Decides when.
        task: Task in its last known state.
        timeout: Seconds; ``Poll.timeout`` by default.
        on_update: Called with the task after every poll.
        notified: Once it is set, the task is polled at once.
        on_end: Called with the wait when the task has ended.

    Raises:
        APIError: A poll failed with an error that is not transient, such as ``AuthenticationError``.

    Cancellation leaves the task as it is; the exception and the log name it.
    """
    if task.is_finished:
        return task
    with naming(task):
        every_poll = on_update is not None
        async with Watch(queue, cadence, [task], timeout, every_poll=every_poll, on_end=on_end) as watch:
            if notified is not None:
                watch.start(_hint(queue, task.id or "", notified))
            async for seen in watch:
                # At the deadline the task comes once more, unchanged.
                if on_update is not None and seen is not task:
                    on_update(seen)
                task = seen
    return task


async def _hint(queue: PollQueue, task_id: str, notified: Notification) -> None:
    # Some events wait with a coroutine and some block; looking costs a microsecond.
    while not notified.is_set():  # noqa: ASYNC110
        await asyncio.sleep(_NOTIFICATION_STEP)
    queue.hint(task_id)


@contextmanager
def naming(task: Task, level: int = logging.INFO) -> Generator[None]:
    """Name a paid task, and its siblings, in an exception of the body and in the log.

    The exception may be a cancellation, or an error of the caller's ``on_update``. Errors about the task
    name it already.

    Args:
        task: Submitted and paid.
        level: Level of the log record. A warning if the caller does not have the task yet: if the exception
            is discarded, as servers discard a cancellation, only the log has the id.
    """
    try:
        yield
    except BaseException as raised:
        if not (isinstance(raised, ApimartError) and raised.task_id):
            _note_cut_off(raised, task, level)
        raise


def _note_cut_off(raised: BaseException, task: Task, level: int) -> None:
    siblings = f", with its siblings {visible(', '.join(task.sibling_ids))}," if task.sibling_ids else ""
    if task.id is None:
        note = (
            "The call was cut off after its result had come, which is paid for and belongs to no task that "
            f"can be waited for; idempotency key {task.idempotency_key}."
        )
    else:
        note = f"The wait was cut off; task {visible(task.id)}{siblings} goes on and can be waited for again."
    named = vars(raised).get("task_id"), vars(raised).get("idempotency_key")
    if named != (task.id, task.idempotency_key):  # else the wait itself has named it
        raised.add_note(note)
        mark(raised, task_id=task.id, idempotency_key=task.idempotency_key, sibling_ids=task.sibling_ids)
    log.log(level, note)
