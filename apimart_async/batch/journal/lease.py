"""The lease of one process on the jobs that it owns in a PostgreSQL journal.

A worker is a random id with an end of its lease in the table of workers. Renewals move the end; a lease that
has expired is never revived, because other workers may have taken the jobs: the process becomes another
worker. The process trusts its lease only until some time before the end, measured from before the renewal was
sent, on a clock that runs on while the machine sleeps.
"""

from __future__ import annotations

import socket
import time
import uuid
from typing import TYPE_CHECKING, Final

import attrs

if TYPE_CHECKING:
    from apimart_async.batch.journal.sql import Connection

_CLOCK: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)

# Part of a lease after which it is renewed, and part that the process does not rely on.
_RENEWAL: Final = 1 / 3
_MARGIN: Final = 1 / 6

_REGISTER: Final = """
    INSERT INTO apimart_workers (id, lease_until, host)
    VALUES ($1, clock_timestamp() + make_interval(secs => $2), $3)"""
_RENEW: Final = """
    UPDATE apimart_workers SET lease_until = clock_timestamp() + make_interval(secs => $2)
    WHERE id = $1 AND lease_until > clock_timestamp()"""
_END: Final = "UPDATE apimart_workers SET lease_until = clock_timestamp() WHERE id = $1"


@attrs.define(eq=False)
class Lease:
    """The lease of this process.

    Args:
        seconds: Duration of the lease.

    Attributes:
        worker: Id of the worker that this process is now.
    """

    seconds: float
    worker: uuid.UUID = attrs.field(init=False, factory=uuid.uuid4)
    _trusted_until: float = attrs.field(init=False, default=-1.0)

    @property
    def is_live(self) -> bool:
        """Whether this process may still rely on the lease."""
        return time.clock_gettime(_CLOCK) < self._trusted_until

    @property
    def renewal_interval(self) -> float:
        """Seconds between renewals."""
        return self.seconds * _RENEWAL

    async def register(self, connection: Connection) -> None:
        """Become a new worker."""
        worker, asked_at = uuid.uuid4(), time.clock_gettime(_CLOCK)
        await connection.execute(_REGISTER, worker, self.seconds, socket.gethostname())
        self.worker = worker
        self._granted(asked_at)

    async def renew(self, connection: Connection) -> None:
        """Move the end of the lease; become a new worker if it has expired."""
        asked_at = time.clock_gettime(_CLOCK)
        if await connection.execute(_RENEW, self.worker, self.seconds) == "UPDATE 1":
            self._granted(asked_at)
        else:
            await self.register(connection)

    async def end(self, connection: Connection) -> None:
        """Leave the jobs to other workers at once."""
        self._trusted_until = -1.0
        await connection.execute(_END, self.worker)

    def _granted(self, asked_at: float) -> None:
        self._trusted_until = asked_at + self.seconds * (1 - _MARGIN)
