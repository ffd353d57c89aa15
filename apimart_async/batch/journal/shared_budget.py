"""The budget of all processes that share a journal in PostgreSQL.

A process reserves USD in slices before it admits submits. The sum of the costs in the rows of all jobs, of
those that may still be billed, and of the reservations of living processes never exceeds the limit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final, Literal

import attrs

from apimart_async.batch.journal import sql
from apimart_async.batch.journal.database import Database
from apimart_async.batch.journal.lease import Lease

if TYPE_CHECKING:
    from collections.abc import Sequence

    from apimart_async.batch.journal.record import Record
    from apimart_async.batch.journal.sql import Connection

# For the reservations: "APJB".
_LOCK: Final = 0x41504A42

_OTHERS: Final = """
    SELECT coalesce(sum(r.usd), 0)::double precision, count(*) FROM apimart_workers w
    LEFT JOIN apimart_reservations r ON r.worker = w.id
    WHERE w.lease_until > clock_timestamp() AND w.id <> $1"""
_RESERVE: Final = """
    INSERT INTO apimart_reservations VALUES ($1, $2)
    ON CONFLICT (worker) DO UPDATE SET usd = excluded.usd"""
_MOVE: Final = "UPDATE apimart_reservations SET usd = greatest(0, usd + $2) WHERE worker = $1"
_PRICES: Final = "prices"
_MOST_SUBMITS: Final = 64
"""Submits of one reservation: the rest stays free for other processes."""


@attrs.frozen
class Reservation:
    """An answer of the database.

    Attributes:
        usd: USD that this process may admit; 0 when its next submit does not fit.
        spent: USD of the costs that are known, of all processes.
        outstanding: Images of each model that may have been billed at an unknown cost.
        prices: The state of this name in the journal, if there is one.
    """

    usd: float
    spent: float
    outstanding: Mapping[str, int]
    prices: bytes | None


@attrs.define(eq=False)
class SharedBudget:
    """Reserves USD for this process.

    Attributes:
        price: Returns the USD of an image of a model; ``None`` while there is no budget.
    """

    _database: Database
    _lease: Lease
    price: Callable[[str], float] | None = attrs.field(init=False, default=None)

    async def move(self, connection: Connection, written: Sequence[Record], sign: Literal[-1, 1]) -> None:
        """Take the cost of rows out of the reservation, or put it back, in the transaction of the rows."""
        if self.price is not None and written:
            usd = sum(row.billable * self.price(row.model) for row in written)
            await connection.execute(_MOVE, self._lease.worker, sign * usd)

    @property
    def worker(self) -> object:
        """Return the id of this process; a new id has no reservation."""
        return self._lease.worker

    async def reserve(
        self,
        limit: float,
        need: float,
        unwritten: Callable[[], float],
        price: Callable[[str], float],
    ) -> Reservation:
        """Replace the reservation of this process.

        Args:
            limit: USD, of all processes.
            need: USD of the next submit.
            unwritten: Returns the USD of the submits that are admitted and have no row yet.
            price: Returns the USD of an image of a model.

        Raises:
            JournalError: The database has been unavailable for long.
        """
        self.price = price

        async def execute(connection: Connection) -> Reservation:
            worker = self._lease.worker
            async with connection.transaction():
                await connection.execute(sql.LOCK_TABLES, _LOCK)
                # Before the rows are read: a row that is written meanwhile counts twice, not never.
                admitted = unwritten()
                spent = sum((row[2] for row in await connection.fetch(sql.TALLY)), 0.0)
                outstanding = {row[0]: row[1] for row in await connection.fetch(sql.OUTSTANDING)}
                ((others, count),) = await connection.fetch(_OTHERS, worker)
                owed = sum(images * price(model) for model, images in outstanding.items())
                free = limit - spent - owed - others - admitted
                share = min(free / (2 * (count + 1)), _MOST_SUBMITS * need)
                usd = max(need, share) if free + 1e-9 >= need else 0.0
                await connection.execute(_RESERVE, worker, admitted + usd)
                prices = await connection.fetchval(sql.GET_STATE, _PRICES)
            return Reservation(usd, spent, outstanding, prices and bytes(prices))

        reservation: Reservation = await self._database.retried(execute)
        return reservation
