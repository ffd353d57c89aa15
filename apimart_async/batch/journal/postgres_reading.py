"""Read a journal in PostgreSQL without changing it: its rows, its workers and its sums; blocks."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeAlias

import attrs

from apimart_async.batch.journal import sql
from apimart_async.batch.journal.database import Database
from apimart_async.batch.journal.postgres import record_of, tally_of

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence

    from apimart_async.batch.journal.protocol import Tally
    from apimart_async.batch.journal.record import Record

_Fetch: TypeAlias = "Callable[..., Sequence[Any]]"


@attrs.frozen
class Worker:
    """A process of a fleet whose lease is live.

    Attributes:
        id: Its random id.
        host: Name of its machine.
        seconds: Seconds since its start.
        lease: Seconds until its lease ends, unless it renews it.
        jobs: Number of its jobs that have not ended, by state.
    """

    id: str
    host: str
    seconds: float
    lease: float
    jobs: dict[str, int]


def read_postgres_journal(url: str, *, may_be_missing: bool = False) -> Iterator[Record]:
    """Yield the rows of a journal in the order in which their jobs were started.

    Args:
        url: URL of the database.
        may_be_missing: Whether a database without a journal has no rows, instead of being an error.

    Raises:
        JournalError: There is no journal, it is damaged or of a newer version, or cannot be reached.
        InvalidArgumentError: The extra ``postgres`` is not installed, or the URL is malformed.
    """
    with _reading(url) as (database, fetch):
        if not _is_found(database, fetch, may_be_missing=may_be_missing):
            return
        last = 0
        while rows := fetch(sql.PAGE, last):
            for row in rows:
                yield record_of(database, row[1:])
            last = rows[-1][0]


def read_tally(url: str) -> Tally:
    """Return the sums over all rows.

    Raises:
        JournalError: As for ``read_postgres_journal``.
        InvalidArgumentError: Likewise.
    """
    with _reading(url) as (database, fetch):
        _is_found(database, fetch, may_be_missing=False)
        return tally_of(fetch(sql.TALLY), fetch(sql.OUTSTANDING))


def read_workers(url: str) -> list[Worker]:
    """Return the living processes of a journal, the oldest first.

    Raises:
        JournalError: As for ``read_postgres_journal``.
        InvalidArgumentError: Likewise.
    """
    with _reading(url) as (database, fetch):
        _is_found(database, fetch, may_be_missing=False)
        workers = {row[0]: Worker(str(row[0]), row[1], row[2], row[3], {}) for row in fetch(sql.WORKERS)}
        for owner, state, count in fetch(sql.OWNED):
            if owner in workers:
                workers[owner].jobs[state] = count
    return list(workers.values())


def _is_found(database: Database, fetch: _Fetch, *, may_be_missing: bool) -> bool:
    """Tell whether the tables are there, and check their version."""
    is_found = bool(fetch(sql.HAS_TABLES)[0][0])
    if is_found:
        found = fetch(sql.GET_VERSION)
        database.check_version(found[0][0] if found else None)
    elif not may_be_missing:
        raise database.not_found()
    return is_found


@contextmanager
def _reading(url: str) -> Generator[tuple[Database, _Fetch]]:
    """Connect; the event loop is in a thread of its own, because one may run in this thread."""
    database = Database(url)
    loop = asyncio.new_event_loop()
    with ThreadPoolExecutor(1) as thread:

        def wait_for(awaitable: Any) -> Any:  # noqa: ANN401 as the statement
            return thread.submit(loop.run_until_complete, awaitable).result()

        try:
            connection = wait_for(database.connect_to_read())

            def fetch(statement: str, *arguments: object) -> Sequence[Any]:
                try:
                    rows: Sequence[Any] = wait_for(connection.fetch(statement, *arguments))
                except Exception as error:  # noqa: BLE001 raised as another
                    raise database.explained(error) from None
                return rows

            try:
                yield database, fetch
            finally:
                wait_for(connection.close(timeout=1.0))
        finally:
            thread.submit(loop.close).result()
