"""The poll queue: one queue for the polls of all waits of an account, and the requests that they share.

The queue has no asyncio task of its own. A timer takes the waits that are due and puts those that can share
a request into a batch; the request runs in a task of the watch whose wait was due first. If that watch is
left before the answer, the other waits return to the queue, and another watch sends the next request.
"""

from __future__ import annotations

import asyncio
import copy
import logging
from functools import partial
from heapq import heappop, heappush
from itertools import chain
from typing import TYPE_CHECKING, Final
from weakref import WeakValueDictionary

from apimart_async import errors
from apimart_async.models import Task
from apimart_async.polling.cadence import align
from apimart_async.polling.duration_stats import DurationStats, ModelStats
from apimart_async.polling.shared_requests import BatchAnswer, PollMany, PollRequests
from apimart_async.polling.wait import Wait, is_survived
from apimart_async.transport.observation import named

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from apimart_async.config import Settings

log: logging.Logger = logging.getLogger("apimart_async.polling")

# Weight of the last request in the mean number of polls that share a request.
_SHARING_RATE: Final = 0.1

PollBatch = dict[str, list[Wait]]
"""The waits that share one request, by task id, in the order in which they were due."""


class PollQueue:
    """Polls tasks when they are due.

    Args:
        poll_one: Fetches a task by id.
        poll_many: Fetches up to 100 tasks at once; ``None`` where the service cannot.
        requests_per_second: Budget; beyond it, the waits that have been due longest are polled first.
        requests_of: Returns the requests to the origin of a task, for tasks of several origins: only those of
            one origin share a request. By default all tasks are of one.
    """

    def __init__(
        self,
        poll_one: Callable[[str], Awaitable[Task]],
        poll_many: PollMany | None = None,
        requests_per_second: float | None = None,
        requests_of: Callable[[Task], PollRequests] | None = None,
    ) -> None:
        self._poll_one = poll_one
        batches = None if poll_many is None else PollRequests(poll_one, poll_many)
        self._requests_of: Callable[[Task], PollRequests | None] = requests_of or (lambda _: batches)
        self._interval = 1.0 / requests_per_second if requests_per_second else 0.0
        self._next_request = 0.0
        self._queue: list[tuple[float, int, Wait]] = []
        self._entries = 0
        self._sharing = 1.0
        # By task id, for hints.
        self._waits: dict[str, list[Wait]] = {}
        # The last batches whose requests wait for the rate limiter: waits that are due join them.
        self._joinable: dict[PollRequests, PollBatch] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._timer_due = 0.0

    @property
    def is_batching(self) -> bool:
        """Whether polls of tasks that this package has not submitted may share a request now."""
        requests = self._requests_of(Task(id="", status=""))
        return requests is not None and asyncio.get_running_loop().time() >= requests.paused_until

    def _batching(self, wait: Wait, now: float) -> PollRequests | None:
        """Return the requests that a poll may share now; ``None`` if it is a request of its own."""
        requests = None if wait.is_single else self._requests_of(wait.task)
        return requests if requests is not None and now >= requests.paused_until else None

    def hint(self, task_id: str) -> None:
        """Poll a task at once with a request of its own; without a wait for it, do nothing."""
        now = asyncio.get_running_loop().time()
        # Webhooks may be forged, so hints have to be cheap, and repeated hints must not use memory.
        for wait in self._waits.get(task_id, ()):
            due = max(now, wait.not_before)
            if not wait.entry:  # its request is under way
                wait.is_hinted = True
            elif not (wait.is_single and wait.due <= due):
                wait.is_single = True
                self._push(wait, due)
        self.set_timer()

    def add(self, wait: Wait, now: float) -> None:
        """Take a new wait, and queue its first poll."""
        self._waits.setdefault(wait.task_id, []).append(wait)
        self.schedule(wait, now)

    def remove(self, wait: Wait) -> None:
        """Forget a wait that has ended."""
        waits = self._waits[wait.task_id]
        waits.remove(wait)
        if not waits:
            del self._waits[wait.task_id]

    def schedule(self, wait: Wait, now: float) -> None:
        """Queue the next poll of a wait, unless it is over."""
        if wait.is_over:
            return
        if wait.is_hinted:
            wait.is_hinted, wait.is_single = False, True
            self._push(wait, max(now, wait.not_before))
            self.set_timer()
            return
        is_shared = self._batching(wait, now) is not None
        # A budget makes each request dearer than its share.
        sharing, others = (self._sharing, len(self._queue)) if is_shared and not self._interval else (1.0, 0)
        age = now - wait.submitted_at
        stats = wait.stats
        shifts = stats.shifts
        delay, earliest, latest, least = wait.cadence.next_poll(
            wait.kind,
            age,
            remaining=wait.deadline - now,
            polls=wait.polls,
            polled_at=wait.polled_at - wait.submitted_at if wait.polled_at else 0.0,
            is_age_known=wait.is_age_known,
            estimated_time=wait.task.estimated_time,
            sharing=sharing,
            others=others,
        )
        due = max(now + delay, wait.not_before)
        if is_shared:
            not_before = max(now + least, wait.not_before)
            moment = align(due, earliest=now + earliest, latest=now + latest, not_before=not_before)
            due = moment if moment < wait.deadline else due
        if stats.shifts > shifts:
            # The other tasks were planned for another speed of the service.
            self._plan_anew(stats, now, only_first=False)
        self._push(wait, due)
        self.set_timer()

    def set_timer(self) -> None:
        """Wake up for the first wait that is due; without waits, not at all. Drop entries of ended waits."""
        queue, timer = self._queue, self._timer
        while queue and queue[0][2].entry != queue[0][1]:
            heappop(queue)
        due = max(queue[0][0], self._next_request) if queue else None
        if timer is not None:
            if timer.when() == due:
                return
            timer.cancel()
        self._timer = None
        if due is not None:
            self._timer_due = due
            self._timer = asyncio.get_running_loop().call_at(due, self._dispatch)

    def _push(self, wait: Wait, due: float) -> None:
        if wait.is_over or due >= wait.deadline:
            wait.entry = 0
            return
        self._entries += 1
        wait.due, wait.entry = due, self._entries
        heappush(self._queue, (due, self._entries, wait))

    def _dispatch(self) -> None:
        """Start the requests for the waits that are due, within the budget."""
        self._timer = None
        # A timer may run early by the resolution of the clock.
        now = max(asyncio.get_running_loop().time(), self._timer_due)
        queue = self._queue
        batches: list[PollBatch] = []
        single: dict[str, PollBatch] = {}
        shared = dict(self._joinable)
        while queue and queue[0][0] <= now:
            _, entry, wait = queue[0]
            if wait.entry == entry:
                task_id = wait.task_id
                batching = self._batching(wait, now)
                if batching is None or task_id in batching.refused:
                    batching, batch = None, single.get(task_id, PollBatch())
                else:
                    batch = shared.get(batching, PollBatch())
                if not batch or (batching is not None and len(batch) >= batching.limit):
                    if self._interval and self._next_request > now:
                        break
                    self._next_request = max(self._next_request, now) + self._interval
                    batch = PollBatch()
                    batches.append(batch)
                    if batching is None:
                        single[task_id] = batch
                    else:
                        shared[batching] = batch
                wait.entry = 0
                batch.setdefault(task_id, []).append(wait)
            heappop(queue)
        self._joinable = {requests: batch for requests, batch in shared.items() if len(batch) > 1}
        for batch in batches:
            first = next(iter(batch.values()))[0]
            request = first.owner.start(self._poll(batch))
            request.add_done_callback(partial(self._requeue, batch))
        self.set_timer()

    def _requeue(self, batch: PollBatch, request: asyncio.Task[None]) -> None:
        """Poll again for a batch whose request was cancelled before the answer."""
        if request.cancelled():
            self._close(batch)
            now = asyncio.get_running_loop().time()
            for wait in chain(*batch.values()):
                self._push(wait, now)
            self.set_timer()

    def _close(self, batch: PollBatch) -> bool:
        """Let no further wait join a batch; tell whether it was open."""
        for requests, joinable in self._joinable.items():
            if joinable is batch:
                del self._joinable[requests]
                return True
        return False

    async def _poll(self, batch: PollBatch) -> None:
        """Send the request of a batch and pass the answer, or the error, to its waits; raise no error."""
        clock = asyncio.get_running_loop().time
        asked_at = clock()
        answer = BatchAnswer()
        requests = self._requests_of(next(iter(batch.values()))[0].task)
        poll_one = self._poll_one if requests is None else requests.poll_one

        def take_ids() -> list[str]:
            nonlocal asked_at
            if self._close(batch):
                asked_at = clock()
            return list(batch)

        try:
            if len(batch) > 1 and requests is not None:
                answer = await requests.poll(take_ids, clock)
            else:
                answer.found = {task_id: await poll_one(task_id) for task_id in batch}
        except Exception as error:  # noqa: BLE001 the waits raise it
            answer.errors = dict.fromkeys(take_ids(), error)
        self._sharing += _SHARING_RATE * (len(batch) - self._sharing)
        self._pass_answer(batch, answer, asked_at, clock())
        self.set_timer()

    def _pass_answer(self, batch: PollBatch, answer: BatchAnswer, asked_at: float, now: float) -> None:
        if answer.errors:
            self._log_errors(answer.errors)
        waits = list(chain(*batch.values()))
        unknown = {wait.stats for wait in waits if not wait.stats.memory}
        for wait in waits:
            if wait.is_over:
                continue
            task_id = wait.task_id
            task, error = answer.found.get(task_id), answer.errors.get(task_id)
            if error is not None:
                wait.failed(error if len(waits) == 1 else copy.copy(error), now)
                self.schedule(wait, now)
            elif task is None:
                wait.omissions += not answer.is_refused
                wait.is_single = True
                self._push(wait, now)
            elif task.is_completed and not task.images and not wait.is_confirmed:
                # Some services end a task a moment before its images are there, or leave them out of batches.
                wait.is_confirmed = wait.is_single = True
                self._push(wait, now)
            else:
                requests = self._requests_of(wait.task)
                if wait.omissions and len(batch) == 1 and requests is not None:
                    requests.found_singly(now)
                # A task omitted twice is polled singly from now on.
                wait.is_single = wait.omissions > 1
                wait.answered(task, asked_at, now)
                self.schedule(wait, now)
        # With the first duration of a model, the first polls of its other tasks may come sooner.
        for stats in unknown:
            if stats.memory:
                self._plan_anew(stats, now, only_first=True)

    def _plan_anew(self, stats: ModelStats, now: float, *, only_first: bool) -> None:
        """Plan the polls of waiting tasks of one kind anew, or only the first polls."""
        for due, entry, wait in list(self._queue):
            # A poll that is due keeps its place, and a hint that an error delays comes as soon as it may.
            is_later = wait.entry == entry and due > max(now, wait.not_before)
            if is_later and wait.stats is stats and not (only_first and wait.polls):
                self.schedule(wait, now)

    def _log_errors(self, failed: dict[str, Exception]) -> None:
        survived = {task_id: error for task_id, error in failed.items() if is_survived(error)}
        if survived:
            first, error = next(iter(survived.items()))
            first = errors.visible(first)
            tasks = f"task {first}" if len(survived) == 1 else f"{len(survived)} tasks, such as {first},"
            log.info("Polling %s failed and is tried again: %s", tasks, named(error))


class SharedPolling:
    """State that a client shares with its copies: duration statistics, and a poll queue for each account."""

    def __init__(self) -> None:
        self.stats: DurationStats = DurationStats()
        self._queues: WeakValueDictionary[tuple[object, ...], PollQueue] = WeakValueDictionary()

    def queue(self, settings: Settings, make: Callable[[], PollQueue]) -> PollQueue:
        """Return the queue of the copies with the same key, headers and budget; ``make`` the first."""
        headers = tuple(sorted(settings.default_headers.items()))
        account = (settings.api_key, headers, settings.poll.requests_per_second)
        queue = self._queues.get(account)
        if queue is None:
            queue = self._queues[account] = make()
        return queue
