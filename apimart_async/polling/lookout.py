"""One queue of looks for all waits: those that meet share a request, whoever they belong to.

There is no task behind it. A timer says which tasks are due; of those that share a request, the one that was
due first has its owner fetch for all. An owner that goes away meanwhile puts the others back into the queue,
where the next of them leads.
"""

from __future__ import annotations

import asyncio
import copy
import logging
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Final

import attrs

from apimart_async import errors
from apimart_async.polling.meeting import meet
from apimart_async.polling.vigil import Vigil, passes

if TYPE_CHECKING:
    from apimart_async.models import Task

log: logging.Logger = logging.getLogger("apimart_async")

MOST_TOGETHER: Final = 100
"""How many tasks one request may name."""

# What the answer to a poll of many tasks says about the tasks, not about the endpoint.
_NOT_ABOUT_THE_ENDPOINT: Final = frozenset({401, 402, 408, 409, 425, 429})
_SERVER: Final = 500
# Answers that left every task out, while each was found by itself, until the endpoint is given up.
_EMPTY_ANSWERS: Final = 3

LookAtOne = Callable[[str], Awaitable["Task"]]
LookAtMany = Callable[[list[str]], Awaitable[dict[str, "Task"]]]


@attrs.define(eq=False)
class Party:
    """The waits that share one request.

    Attributes:
        vigils: In the order they were due; several may be for the same task.
        ids: Of their tasks, each once.
        is_settled: Whether the answer has been dealt out, or the waits are back in the queue.
    """

    vigils: list[Vigil] = attrs.field(factory=list[Vigil])
    ids: dict[str, None] = attrs.field(factory=dict[str, None])
    is_settled: bool = False

    def add(self, vigil: Vigil) -> None:
        """Take a wait in."""
        self.vigils.append(vigil)
        self.ids[vigil.task.id] = None


class Lookout:
    """Looks at tasks when they are due.

    Args:
        look: Fetches a task by id.
        look_at_many: Fetches up to 100 tasks at once, those that are known, by id; ``None`` where the service
            cannot. The first time it is not understood is the last.
        requests_per_second: Budget; beyond it, the waits that are overdue longest go first.
    """

    def __init__(
        self,
        look: LookAtOne,
        look_at_many: LookAtMany | None = None,
        requests_per_second: float | None = None,
    ) -> None:
        self._look = look
        self._look_at_many = look_at_many
        self._interval = 1.0 / requests_per_second if requests_per_second else 0.0
        self._next_request = 0.0
        self._queue: list[tuple[float, int, Vigil]] = []
        self._entries = 0
        self._vigils = 0
        self._empty_answers = 0
        self._timer: asyncio.TimerHandle | None = None
        self._woken_for = 0.0

    @property
    def looks_at_many(self) -> bool:
        """Tell whether tasks may share a request."""
        return self._look_at_many is not None

    def add(self, vigil: Vigil) -> None:
        """Begin to look at a task; ``leave`` must follow."""
        self._vigils += 1
        self._schedule(vigil, asyncio.get_running_loop().time())

    def leave(self, vigil: Vigil) -> None:
        """Look at a task no more."""
        vigil.end()
        vigil.entry = 0
        self._vigils -= 1
        if not self._vigils:
            self._queue.clear()
            self._set_timer()

    def put_back(self, party: Party) -> None:
        """Have another owner lead a party whose answer never came; a settled party is left alone."""
        if party.is_settled:
            return
        party.is_settled = True
        now = asyncio.get_running_loop().time()
        for vigil in party.vigils:
            self._push(vigil, now)
        self._set_timer()

    async def fetch(self, party: Party) -> None:
        """Fetch the tasks of a party and deal the answer out; troubles go to the waits, none is raised.

        Cancelling it puts the party back.
        """
        clock = asyncio.get_running_loop().time
        asked = clock()
        ids = list(party.ids)
        error: Exception | None = None
        found: dict[str, Task] = {}
        many = self._look_at_many
        is_single = len(ids) == 1 or many is None
        try:
            if many is None or is_single:
                found[ids[0]] = await self._look(ids[0])
            else:
                found = await many(ids)
        except Exception as trouble:  # noqa: BLE001 it is raised where its task is waited for
            error = trouble
        except BaseException:
            self.put_back(party)
            raise
        party.is_settled = True
        now = clock()
        if error is None:
            self._deal(party, found, asked, now, is_single=is_single)
        elif is_single or _is_about_the_tasks(error):
            self._share(party, error, now)
        else:
            log.info("Polling many tasks at once is not understood; they are polled singly: %s", error)
            self._look_at_many = None
            for vigil in party.vigils:
                self._push(vigil, now)
        self._set_timer()

    def _deal(
        self, party: Party, found: dict[str, Task], asked: float, now: float, *, is_single: bool
    ) -> None:
        if is_single and party.vigils[0].left_out and self._empty_answers >= _EMPTY_ANSWERS:
            self._look_at_many = None
        elif not is_single:
            self._empty_answers = 0 if found else self._empty_answers + 1
        wall = datetime.now(UTC)
        for vigil in party.vigils:
            if vigil.is_over:
                continue
            task = found.get(vigil.task.id)
            if task is None:
                vigil.left_out += 1
                vigil.is_single = True
                self._push(vigil, now)
                continue
            # One that is left out again and again is asked for by itself for good.
            vigil.is_single = vigil.left_out > 1
            created = task.created_at
            vigil.found(task, asked, now, (wall - created).total_seconds() if created else None)
            self._schedule(vigil, now)

    def _share(self, party: Party, error: Exception, now: float) -> None:
        if isinstance(error, errors.APIError) and passes(error):
            what = f"{type(error).__name__} {error.status or ''}".strip()
            log.info("Looking at %s failed and is tried again: %s", _named(party), what)
        for vigil in party.vigils:
            if not vigil.is_over:
                vigil.troubled(error if len(party.vigils) == 1 else copy.copy(error), now)
                self._schedule(vigil, now)

    def _schedule(self, vigil: Vigil, now: float) -> None:
        """Queue the next look."""
        if vigil.is_over:
            return
        look = vigil.next_look(now)
        due = max(now + look.delay, vigil.not_before)
        if self._look_at_many is not None and not vigil.is_single:
            earliest = max(now + min(look.delay, vigil.cadence.poll.shortest), vigil.not_before)
            due = meet(due, leeway=look.leeway, earliest=earliest, latest=vigil.deadline)
        self._push(vigil, due)
        self._set_timer()

    def _push(self, vigil: Vigil, due: float) -> None:
        if vigil.is_over or due >= vigil.deadline:
            vigil.entry = 0
            return
        self._entries += 1
        vigil.due, vigil.entry = due, self._entries
        heappush(self._queue, (due, self._entries, vigil))

    def _set_timer(self) -> None:
        """Wake up for the first that is due, and not at all when nobody waits."""
        queue, timer = self._queue, self._timer
        while queue and queue[0][2].entry != queue[0][1]:
            heappop(queue)
        when = max(queue[0][0], self._next_request) if queue else None
        if timer is not None:
            if timer.when() == when:
                return
            timer.cancel()
        self._timer = None
        if when is not None:
            self._woken_for = when
            self._timer = asyncio.get_running_loop().call_at(when, self._dispatch)

    def _dispatch(self) -> None:
        """Have those that are due fetched, as far as the budget goes."""
        self._timer = None
        # Timers may run early by the resolution of the clock.
        now = max(asyncio.get_running_loop().time(), self._woken_for)
        queue = self._queue
        parties: dict[str, Party] = {}
        together: Party | None = None
        while queue and queue[0][0] <= now:
            due, entry, vigil = queue[0]
            if vigil.entry != entry:
                heappop(queue)
                continue
            task_id = vigil.task.id
            is_single = vigil.is_single or self._look_at_many is None
            party = parties.get(task_id) if is_single else together
            if party is not None and not is_single and len(party.ids) >= MOST_TOGETHER:
                party = None
            if party is None:
                if self._interval and self._next_request > now:
                    break
                self._next_request = max(self._next_request, now) + self._interval
                party = Party()
                parties[task_id if is_single else f"{due} {entry}"] = party
                if not is_single:
                    together = party
            heappop(queue)
            vigil.entry = 0
            party.add(vigil)
        for party in parties.values():
            party.vigils[0].owner.lead(party)
        self._set_timer()


def _is_about_the_tasks(error: Exception) -> bool:
    """Tell a trouble that could meet any request from one that says the endpoint is not as expected."""
    if isinstance(error, errors.APIResponseValidationError):
        return False
    if isinstance(error, errors.APIStatusError) and error.status is not None:
        return error.status in _NOT_ABOUT_THE_ENDPOINT or error.status >= _SERVER
    return True


def _named(party: Party) -> str:
    first = next(iter(party.ids))
    return f"task {first}" if len(party.ids) == 1 else f"{len(party.ids)} tasks, such as {first},"
