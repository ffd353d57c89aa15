"""Requests that ask for many tasks at once, to an endpoint that may refuse some of them or all.

No result depends on batches alone. A batch that fails is halved until the parts that work are separated from
the parts that do not: a bad id is then polled singly, a limit on the number of ids is
remembered, and where nothing but single polls work, batches pause.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Final

import attrs

from apimart_async import errors
from apimart_async.models import Task
from apimart_async.transport.observation import named

log: logging.Logger = logging.getLogger("apimart_async.polling")

TakeIds = Callable[[], list[str]]
"""Returns the ids of the tasks of a request, and closes it: from the first call on, they are the same."""

PollMany = Callable[[TakeIds], Awaitable[dict[str, Task]]]
"""Fetches some tasks by id, and omits unknown ones; takes the ids when the request is sent."""

MAX_BATCH: Final = 100
"""The largest number of tasks in one request."""

# Seconds of the first pause, and of the longest: each is twice the one before.
_FIRST_PAUSE: Final = 30.0
_LONGEST_PAUSE: Final = 3600.0
# Refused sizes in a row, with both halves accepted, that prove a limit on the size and no passing fault.
_MAX_TOO_LARGE: Final = 2
_MAX_REFUSED: Final = 1000
# Levels of halving without an answer to any batch, after which batches pause.
_MAX_LEVELS: Final = 2
# Failures in a row that a single poll does not share, after which batches pause; and the longest Retry-After
# for which the tasks of a batch wait instead of being polled singly.
_MAX_FAILURES: Final = 2
_MAX_RETRY_AFTER: Final = 1.0
# Empty answers in a row, to tasks that single polls find, after which batches pause.
_MAX_EMPTY: Final = 3

# Errors of the account, which a single poll would meet again; of the endpoint; and of the moment.
_ACCOUNT: Final = frozenset({401, 402})
_ENDPOINT: Final = frozenset({403, 404, 405, 501})
_MOMENT: Final = frozenset({408, 409, 425, 429})
_SERVER_ERROR: Final = 500


@attrs.define(eq=False)
class BatchAnswer:
    """An answer to a request for many tasks; a task may be in neither dictionary.

    Attributes:
        found: Tasks by id.
        errors: Errors of single tasks, by id.
        is_refused: Whether tasks are missing because the endpoint refuses batches.
    """

    found: dict[str, Task] = attrs.field(factory=dict[str, Task])
    errors: dict[str, Exception] = attrs.field(factory=dict[str, Exception])
    is_refused: bool = False


class PollRequests:
    """The requests for the tasks of one base URL: for one task, or for many at once.

    Args:
        poll_one: Fetches a task by id.
        poll_many: Fetches some tasks at once.

    Attributes:
        limit: The largest number of tasks in one request.
        poll_one: The argument.
        paused_until: Moment from which on requests for many tasks may be sent.
        refused: Ids of tasks with which batches fail, oldest first.
    """

    def __init__(self, poll_one: Callable[[str], Awaitable[Task]], poll_many: PollMany) -> None:
        self.limit: int = MAX_BATCH
        self.poll_one: Callable[[str], Awaitable[Task]] = poll_one
        self._poll_many = poll_many
        self.paused_until: float = 0.0
        self._next_pause = _FIRST_PAUSE
        self._too_large = 0
        self._failures = 0
        self._empty = 0
        self.refused: dict[str, None] = {}

    def _pause(self, now: float, reason: str) -> None:
        """Send no requests for many tasks for some minutes, longer each time."""
        log.info("The service refuses batches of polls; tasks are polled singly for a time: %s", reason)
        self.paused_until = now + self._next_pause
        self._next_pause = min(2 * self._next_pause, _LONGEST_PAUSE)

    def found_singly(self, now: float) -> None:
        """Record that a single poll found a task that a batch had omitted."""
        if self._empty >= _MAX_EMPTY:
            self._empty = 0
            self._pause(now, "its answers are empty")

    async def poll(self, take_ids: TakeIds, clock: Callable[[], float]) -> BatchAnswer:
        """Fetch tasks; where the batch fails, find out which part of it does.

        Args:
            take_ids: Returns two ids or more.
            clock: Returns the moment.

        Raises:
            APIError: A single poll fails as well, or batches may work again in a moment.
        """
        try:
            found = await self._poll_many(take_ids)
        except errors.APIError as error:
            return await self._examine(take_ids(), error, clock)
        self._failures = 0
        self._next_pause = _FIRST_PAUSE
        if len(take_ids()) == self.limit:
            self._too_large = 0
        self._empty = 0 if found else self._empty + 1
        return BatchAnswer(found)

    async def _examine(
        self, task_ids: list[str], error: errors.APIError, clock: Callable[[], float]
    ) -> BatchAnswer:
        """Find out whether an error is that of the account, the endpoint, some of the ids, or the moment."""
        status = error.status
        if status in _ACCOUNT:
            raise error
        if isinstance(error, errors.APIResponseValidationError) or status in _ENDPOINT:
            # An answer without a code or a type comes from a gateway, which may soon find the endpoint.
            if error.code is not None or error.type is not None:
                self._next_pause = _LONGEST_PAUSE
            self._pause(clock(), named(error))
            return BatchAnswer(is_refused=True)
        if isinstance(error, errors.APITimeoutError) and not self._failures:
            # Its tasks have waited for long: they are polled singly, and the next batch may work.
            self._failures += 1
            return BatchAnswer(is_refused=True)
        if status is None or status in _MOMENT or status >= _SERVER_ERROR:
            # The first of all would be the same one again and again.
            await self._check_single(task_ids[len(task_ids) // 2], error)
        if status is not None and status not in _MOMENT:
            return await self._halve(task_ids, error, clock)
        self._failures += 1
        retry_after: float = getattr(error, "retry_after", None) or 0.0
        if self._failures >= _MAX_FAILURES:
            self._pause(clock(), named(error))
        elif retry_after > _MAX_RETRY_AFTER:
            self.paused_until = clock() + min(retry_after, _LONGEST_PAUSE)
        else:
            raise error
        return BatchAnswer(is_refused=True)

    async def _check_single(self, task_id: str, error: errors.APIError) -> None:
        """Raise the error of a batch if a single poll fails as well, so that the endpoint is not to blame."""
        try:
            await self.poll_one(task_id)
        except errors.NotFoundError:
            return
        except errors.APIError as single:
            raise error from single

    async def _poll_part(self, task_ids: list[str], answer: BatchAnswer) -> bool:
        """Add a part of a batch to its answer; return false where it fails and can be halved."""
        if len(task_ids) > 1:
            try:
                answer.found |= await self._poll_many(lambda: task_ids)
            except errors.APIError:
                return False
            return True
        task_id = task_ids[0]
        try:
            answer.found[task_id] = await self.poll_one(task_id)
        except errors.APIError as error:
            answer.errors[task_id] = error
        return True

    async def _halve(
        self, task_ids: list[str], error: errors.APIError, clock: Callable[[], float]
    ) -> BatchAnswer:
        """Halve the parts that fail until single tasks are left, or nothing works at two levels."""
        answer = BatchAnswer()
        halves, failing = _halves(task_ids), [task_ids]
        is_shared, level = False, 0
        while failing and (level < _MAX_LEVELS or is_shared):
            level += 1
            halves = [half for part in failing for half in _halves(part)]
            failing = [half for half in halves if not await self._poll_part(half, answer)]
            is_shared = is_shared or any(len(half) > 1 and half not in failing for half in halves)
        suspects = [half[0] for half in halves if len(half) == 1]
        if not is_shared and not answer.errors:
            self._pause(clock(), named(error))
            answer.is_refused = True
        elif level == 1 and not suspects:
            self._too_large += 1
            if self._too_large >= _MAX_TOO_LARGE:
                log.info(
                    "Batches of polls have at most %d tasks from now on: %s", len(halves[0]), named(error)
                )
                self.limit = len(halves[0])
        else:
            for task_id in answer.errors or suspects:
                self.refused[task_id] = None
            while len(self.refused) > _MAX_REFUSED:
                del self.refused[next(iter(self.refused))]
        return answer


def _halves(task_ids: list[str]) -> list[list[str]]:
    middle = (len(task_ids) + 1) // 2
    return [task_ids[:middle], task_ids[middle:]]
