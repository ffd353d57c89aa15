"""The limit on the rate of paid requests of all processes that share a journal in PostgreSQL.

One row of the database holds the time of the next free slot (generic cell rate algorithm, GCRA). A process
leases several slots with one statement, as many as it uses in about a second: each statement moves the time
forward by so many intervals. A pause after a 429 moves it forward too.
"""

from __future__ import annotations

import math
import uuid
from collections import deque
from time import monotonic
from typing import TYPE_CHECKING, Final

import anyio
import attrs

from apimart_async.errors import InvalidArgumentError

if TYPE_CHECKING:
    from apimart_async.batch.journal.database import Database
    from apimart_async.batch.journal.lease import Lease

# Requests a second: one a day. PostgreSQL adds no interval of any length to a time.
_LOWEST: Final = 1 / 86_400
# Seconds that a slot may be used late; the database gives slots in the past for half of that.
_TOLERANCE: Final = 0.1
# Seconds before its last slot at which a process leases more.
_LEAD: Final = 0.25
# Most seconds before its slot at which a request is prepared: a crash meanwhile leaves its job in doubt.
_MOST_PREPARATION: Final = 1.0
# Seconds after its slot at which a prepared request is no longer sent: its process stood still.
_STOPPED: Final = 1.5
# Share of the longest preparation that is kept with each shorter one.
_DECAY: Final = 0.99
# A process leases more slots at once after less than the first number of seconds, fewer after the second.
_SHORT: Final = 1.0
_LONG: Final = 3.0

# Slots begin at the time that the statement returns.
_LEASE: Final = """
    WITH leased AS (
        INSERT INTO apimart_rate AS r (name, next_at) VALUES ('submits', clock_timestamp() + $1 * $2)
        ON CONFLICT (name) DO UPDATE
            SET next_at = greatest(r.next_at, clock_timestamp() - make_interval(secs => $3)) + $1 * $2
        RETURNING next_at - $1 * $2 AS first_at, paused_until
    )
    SELECT extract(epoch FROM first_at - clock_timestamp())::double precision,
        extract(epoch FROM paused_until - clock_timestamp())::double precision
    FROM leased""".replace("$1 * $2", "$1::integer * make_interval(secs => $2::double precision)")
_PAUSE: Final = """
    INSERT INTO apimart_rate AS r (name, next_at, paused_until)
    VALUES ('submits', clock_timestamp() + make_interval(secs => $1),
        clock_timestamp() + make_interval(secs => $1))
    ON CONFLICT (name) DO UPDATE SET next_at = greatest(r.next_at, excluded.next_at),
        paused_until = greatest(r.paused_until, excluded.paused_until)"""


@attrs.frozen
class Slot:
    """A moment at which a paid request may be sent.

    Attributes:
        at: The moment.
        given_at: Moment at which the preparation of the request could begin.
        worker: Id of the worker that this process was then.
    """

    at: float
    given_at: float
    worker: uuid.UUID


class SharedRate:
    """Gives the paid requests of this process their slots.

    Args:
        database: Of the journal.
        lease: Of this process.
        per_second: Requests a second of all processes together, more than 0.

    Raises:
        InvalidArgumentError: ``per_second`` is out of range.
    """

    def __init__(self, database: Database, lease: Lease, per_second: float) -> None:
        if not _LOWEST <= per_second < math.inf:
            raise InvalidArgumentError(
                f"requests_per_second must be more than 0, at least one a day, not {per_second!r}."
            )
        self._database = database
        self._lease = lease
        self._interval = 1 / per_second
        self._most = max(1, int(per_second))
        self._lock = anyio.Lock()
        self._slots: deque[float] = deque()
        self._last = -1.0
        self._leased_at = -1.0
        self._count = 1
        self._unused = 0
        self._waiting = 0
        self._demand = 0.0
        self._preparation = 0.0
        self._paused_until = -1.0

    async def wait(self) -> Slot:
        """Wait for a slot, until as long before it as the preparation of a request takes; see ``reach``.

        Raises:
            JournalError: The database has been unavailable for long.

        Cancellation leaves the slot unused.
        """
        self._demand += 1
        while True:
            self._waiting += 1
            try:
                async with self._lock:
                    while (slot := self._next()) is None:
                        await self._lease_slots()
            finally:
                self._waiting -= 1
            await anyio.sleep(max(0.0, slot - self._preparation - monotonic()))
            # A pause that began meanwhile has taken all slots before its end.
            if self._paused_until <= slot:
                return Slot(slot, monotonic(), self._lease.worker)

    async def reach(self, slot: Slot) -> bool:
        """Wait for the moment of a slot once the request is prepared, and learn how long that took.

        The write of an intent takes a millisecond or half a second. Without this, requests with slow writes
        would arrive together with those after them. One that is late all the same waits for another slot.

        Returns:
            Whether the request may be sent: not if a pause began meanwhile, if the process stood still
            beyond the slot, or if its lease ended, so that other processes may have taken the job.

        Raises:
            JournalError: The database has been unavailable for long.

        Cancellation leaves the slot unused.
        """
        now, worker = monotonic(), slot.worker
        longest = max(now - slot.given_at, _DECAY * self._preparation)
        self._preparation = min(longest, _MOST_PREPARATION)
        if now > slot.at + _TOLERANCE:
            slot = await self.wait()
        await anyio.sleep(max(0.0, slot.at - monotonic()))
        is_owner = self._lease.is_live and self._lease.worker == worker
        return is_owner and slot.at > max(monotonic() - _STOPPED, self._paused_until)

    async def pause(self, seconds: float) -> None:
        """Let no process send before the end of a pause; others notice when they lease slots.

        Raises:
            JournalError: The database has been unavailable for long.
        """
        self._paused_until = max(self._paused_until, monotonic() + seconds)
        self._slots.clear()
        self._last = -1.0
        await self._database.read(_PAUSE, seconds)

    def _next(self) -> float | None:
        while self._slots:
            slot = self._slots.popleft()
            if slot > max(monotonic() - _TOLERANCE, self._paused_until):
                return slot
            self._unused += 1
        return None

    async def _lease_slots(self) -> None:
        # Not earlier, so that the slots of a process do not lie far ahead.
        await anyio.sleep(max(0.0, self._last - _LEAD - self._preparation - monotonic()))
        elapsed = monotonic() - self._leased_at
        if elapsed > _LONG or 2 * self._unused > self._count:
            self._count = max(1, self._count // 2)
        elif elapsed < _SHORT and not self._unused:
            self._count = min(self._most, 2 * self._count)
        self._leased_at, self._unused = monotonic(), 0
        # Requests of about the last second. A process whose last jobs wait leases slots for these alone: a
        # slot that it does not use is lost to all.
        self._demand *= math.exp(-elapsed)
        count = min(self._count, max(self._waiting, round(self._demand)))
        ((first, pause),) = await self._database.read(_LEASE, count, self._interval, _TOLERANCE / 2)
        now = monotonic()
        if pause is not None and pause > 0:
            self._paused_until = max(self._paused_until, now + pause)
        self._slots.extend(now + first + number * self._interval for number in range(count))
        self._last = self._slots[-1]
