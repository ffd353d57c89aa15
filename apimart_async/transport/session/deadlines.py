"""Exchanges that take too long are ended, with one timer for all of them.

aiohttp sets two timers for each request, which is a fifth of what a poll costs. A deadline is hardly ever
reached, so here an exchange only notes when it must have ended, and one timer for all looks who has not.
"""

from __future__ import annotations

import asyncio
import os
from threading import get_ident
from time import monotonic
from typing import TYPE_CHECKING, Final, Protocol
from weakref import WeakSet

if TYPE_CHECKING:
    from apimart_async.config import Timeout

_NEVER: Final = float("inf")


class Body(Protocol):
    """What comes.

    Attributes:
        total_bytes: How much has.
    """

    total_bytes: int


class Deadline:
    """The time an exchange has; it runs from its making until ``end``, in the task that made it.

    Args:
        deadlines: All of them.
        task: The one that runs.
        timeout: ``total`` and ``read`` count.
        is_sent: Whether the request has no body, so that the answer is waited for from the beginning.

    Attributes:
        body: What is being read; a sign of life is that more of it has come.
        is_paused: Whether nothing is waited for.
        late: What the exchange was cancelled for; empty as long as it was not.
    """

    __slots__ = (
        "_before",
        "_deadlines",
        "_has_cancelled",
        "_heard",
        "_received",
        "_task",
        "_timeout",
        "_until",
        "body",
        "is_paused",
        "late",
    )

    def __init__(
        self, deadlines: Deadlines, task: asyncio.Task[object], timeout: Timeout, *, is_sent: bool
    ) -> None:
        now = monotonic()
        self._deadlines = deadlines
        self._timeout = timeout
        self._task = task
        self._before = task.cancelling()
        due = self._until = now + timeout.total
        self._heard = _NEVER
        if is_sent:
            self._heard = now
            due = min(due, now + timeout.read)
        self._received = -1
        self._has_cancelled = False
        self.is_paused: bool = False
        self.body: Body | None = None
        self.late: str = ""
        deadlines.running.add(self)
        if due < deadlines.next:
            deadlines.expect(due)

    def sent(self) -> None:
        """Note that the whole body has left: from now on an answer is waited for."""
        self._heard = monotonic()
        due = self._due()
        if due < self._deadlines.next:
            self._deadlines.expect(due)

    def pause(self) -> None:
        """Note that nothing is waited for: until ``resume``, silence is the caller's own."""
        self.is_paused = True
        self._heard = _NEVER

    def resume(self) -> None:
        """Note that the task in which this is called waits for more from now on.

        Raises:
            TimeoutError: The whole time is over.
            RuntimeError: It runs in another event loop.
        """
        if self.late:
            raise TimeoutError(self.late)
        self._task = self._deadlines.current_task()
        self._before = self._task.cancelling()
        self.is_paused = False
        self.sent()

    def _due(self) -> float:
        return min(self._until, self._heard + self._timeout.read)

    def look(self, now: float) -> float:
        """Cancel the exchange if it is over; return when to look again."""
        if self.late:
            return _NEVER
        body = self.body
        if body is not None and not self.is_paused and body.total_bytes != self._received:
            self._received = body.total_bytes
            self._heard = now
        due = self._due()
        if now < due:
            return due
        is_total = self._until <= now
        self.late = (
            f"no whole answer within {self._timeout.total:g} s (Timeout.total)"
            if is_total
            else f"nothing came for {self._timeout.read:g} s (Timeout.read)"
        )
        if not self.is_paused:
            self._has_cancelled = True
            self._task.cancel()
        return _NEVER

    def was_missed(self) -> bool:
        """Tell whether it was the deadline alone that cancelled the task, and take that back."""
        return self._has_cancelled and self._take_back() <= self._before

    def end(self) -> None:
        """Note that the exchange is over."""
        self._deadlines.running.discard(self)
        if self._has_cancelled:
            self._take_back()

    def _take_back(self) -> int:
        self._has_cancelled = False
        return self._task.uncancel()


class Deadlines:
    """The deadlines of all exchanges of a client, in one event loop.

    Attributes:
        running: Those of exchanges that have not ended.
        next: When they are looked at.
    """

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: int | None = None
        self.running: set[Deadline] = set()
        self._timer: asyncio.TimerHandle | None = None
        self.next: float = _NEVER
        _all.add(self)

    def current_task(self) -> asyncio.Task[object]:
        """Return the task that runs.

        Raises:
            RuntimeError: It runs in another event loop than the first.
        """
        # Asked without a loop, asyncio up to Python 3.11 asks the system whether this process is a fork, 1 %
        # of a poll. In this thread, a loop that has a current task is the one that runs.
        task = asyncio.current_task(self._loop) if get_ident() == self._thread else None
        if task is None:
            task = self._first_task()
        return task

    def _first_task(self) -> asyncio.Task[object]:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 for the type checker: aiohttp needs one
        loop = task.get_loop()
        if self._loop is None:
            self._loop = loop
        elif loop is not self._loop:
            raise RuntimeError("This client was first used in another event loop; make one client per loop.")
        self._thread = get_ident()
        return task

    def expect(self, due: float) -> None:
        """Look at this moment, which is sooner than planned."""
        if self._timer is not None:
            self._timer.cancel()
        self.next = due
        assert self._loop is not None  # noqa: S101 for the type checker: a deadline has a task
        self._timer = self._loop.call_later(due - monotonic(), self._look)

    def _look(self) -> None:
        self._timer = None
        self.next = _NEVER
        now = monotonic()
        following = min((deadline.look(now) for deadline in self.running), default=_NEVER)
        if following < _NEVER:
            self.expect(following)

    def forget_thread(self) -> None:
        """Ask anew which loop runs."""
        self._thread = None

    def close(self) -> None:
        """Stop looking, as soon as nothing runs any more."""
        if self._timer is not None and not self.running:
            self._timer.cancel()
            self._timer = None
            self.next = _NEVER


_all: Final[WeakSet[Deadlines]] = WeakSet()


def _know_no_thread() -> None:
    for deadlines in _all:
        deadlines.forget_thread()


if hasattr(os, "register_at_fork"):  # not on Windows, where nothing forks
    # The parent's loop, with the task that it ran, is in the child too, and does not run there.
    os.register_at_fork(after_in_child=_know_no_thread)
