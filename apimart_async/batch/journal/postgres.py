"""The journal in a PostgreSQL database, for any number of processes on any number of machines.

Three rules make every repetition of a job harmless:

- *Fence the spending*: an intent is written only by a worker whose lease is live, and only over the row that
  it has seen.
- *Never fence the knowledge*: the result of any worker is kept. A worker that has lost its job still
  writes the answer, matched by the idempotency key, and only forwards.
- *Keep every task id*: each is in the table of payments, even where a row can name only one.

Jobs are taken only from workers whose lease has expired. Concurrent writes share a transaction.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, Literal, Self, TypeAlias, cast

import attrs

from apimart_async.batch.journal import sql
from apimart_async.batch.journal.database import VERSION, Database, limited
from apimart_async.batch.journal.lease import Lease
from apimart_async.batch.journal.protocol import ClaimedError, Tally
from apimart_async.batch.journal.record import Record, UnreadableRowError
from apimart_async.batch.journal.shared_budget import SharedBudget
from apimart_async.batch.journal.shared_rate import SharedRate
from apimart_async.errors import APIResponseValidationError, InvalidArgumentError, JournalError
from apimart_async.models import Upload
from apimart_async.transport import json

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence
    from types import TracebackType

    from apimart_async.batch.journal.record import Row
    from apimart_async.batch.journal.sql import Connection

_LEASE: Final = 30.0
DAY: Final = 86_400
"""Seconds of the longest lease."""
_MOST_CALLS: Final = 1000
# For the creation of the tables: "APJL".
_LOCK: Final = 0x41504A4C

_Kind: TypeAlias = Literal["claim", "begin", "put", "undo", "drop"]


@attrs.define(eq=False)
class _Call:
    """A write about one job, and the future of its result.

    Attributes:
        is_begun: Whether the row was this intent already, as after a commit whose answer was lost.
        is_finished: Whether its future has a result or an exception.
    """

    kind: _Kind
    job_id: str
    future: asyncio.Future[Any]
    record: Any = None
    previous: Any = None
    result: Any = None
    is_begun: bool = False
    is_finished: bool = False


class PostgresJournal:
    """A ``Journal`` that many processes share.

    Args:
        url: ``postgresql://user:password@host/database``. Each database, or each schema with
            ``?search_path=``, is one journal.
        lease: Seconds after which other processes take the jobs of one that has died; 2 to 86,400, 30 by
            default.
        requests_per_second: Limit on the paid requests of all processes together, more than 0; give each
            process the same number. A 429 with ``Retry-After`` then pauses all of them. By default each
            process has only the limits of its client.

    Attributes:
        rate: Gives paid requests their slots, if there is a limit.
        budget: Reserves USD of the budget of all processes.

    Raises:
        InvalidArgumentError: The extra ``postgres`` is not installed, the lease or the limit is out of range,
            or the URL cannot be read.
    """

    def __init__(self, url: str, *, lease: float = _LEASE, requests_per_second: float | None = None) -> None:
        if not 2 <= lease <= DAY:  # noqa: PLR2004 a second for a transaction, and some for renewals
            raise InvalidArgumentError(f"lease must be 2 to {DAY} seconds, not {lease!r}.")
        self._database = Database(url)
        self._lease = Lease(lease)
        self.budget: SharedBudget = SharedBudget(self._database, self._lease)
        self.rate: SharedRate | None = None
        if requests_per_second is not None:
            self.rate = SharedRate(self._database, self._lease, requests_per_second)
        self._waiting: list[_Call] = []
        self._group = asyncio.TaskGroup()
        self._writer: asyncio.Task[None] | None = None
        self._renewal: asyncio.Task[None]

    async def __aenter__(self) -> Self:
        """Connect, create missing tables, and register this process.

        Raises:
            JournalError: The database cannot be reached, or was written by a newer version.
            InvalidArgumentError: asyncpg cannot read the URL.

        Cancellation leaves it closed.
        """
        try:
            connection = await self._database.connected()
            with limited(connection):
                found = await self._create_tables(connection)
            self._database.check_version(found)
            with limited(connection):
                await self._lease.register(connection)
        except BaseException as error:
            await self._database.disconnect()
            if self._database.is_outage(error) or isinstance(error, self._database.asyncpg.PostgresError):
                raise self._database.unreachable(error) from None
            raise
        await self._group.__aenter__()
        self._renewal = self._group.create_task(self._renew())
        return self

    async def _create_tables(self, connection: Connection) -> bytes | None:
        """Create missing tables, remove the rows of the past, and return the version of the tables."""
        async with connection.transaction():
            await connection.execute(sql.LOCK_TABLES, _LOCK)
            self._database.check_schema(await connection.fetchval(sql.OTHER_SCHEMA))
            await connection.execute(sql.TABLES)
            await connection.execute(sql.SET_VERSION, b"%d" % VERSION)
            found: bytes | None = await connection.fetchval(sql.GET_VERSION)
            await connection.execute(sql.CLEAN)
            await connection.execute(sql.CLEAN_UPLOADS)
            await connection.execute(sql.CLEAN_RESERVATIONS)
        return found

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Finish all writes, end the lease and disconnect."""
        try:
            await self._finish_writes()
        finally:
            if self._writer is not None:
                self._writer.cancel()
            self._renewal.cancel()
            await self._group.__aexit__(None, None, None)
        with suppress(Exception):  # the lease expires in any case
            connection = await self._database.connected()
            with limited(connection):
                await self._lease.end(connection)
        await self._database.disconnect()

    # --- the journal ------------------------------------------------------------------------------------

    async def get(self, job_id: str) -> Record | None:
        """Return a job's row, if there is one."""
        rows = await self._database.read(sql.GET, job_id)
        return record_of(self._database, rows[0]) if rows else None

    async def claim(self, job_id: str) -> Record | None:
        """Return a job's row, and own it from now on.

        Raises:
            ClaimedError: Another living process owns it.
            JournalError: The database has been unavailable for long, or the row cannot be read.
        """
        row = await self._call("claim", job_id)
        if row is None:
            return None
        record = record_of(self._database, row[:-1])
        if row[-1]:
            raise ClaimedError(record)
        return record

    async def begin(self, intent: Record, previous: Record | None) -> bool:
        """Write the intent of a paid request, unless the job's row has changed or the lease has expired."""
        written: bool = await self._call("begin", intent.id, intent, previous)
        return written

    async def put(self, record: Record) -> None:
        """Write a job's row; a row that another process owns is moved forwards only, by its key."""
        await self._call("put", record.id, record)

    async def undo(self, intent: Record, previous: Record | None) -> None:
        """Put back the row that an intent replaced, unless it has changed since."""
        await self._call("undo", intent.id, intent, previous)

    async def drop(self, job_id: str) -> None:
        """Remove a job's row, if this process owns it."""
        await self._call("drop", job_id)

    async def tally(self) -> Tally:
        """Return the sums over all rows, of all processes."""
        states = await self._database.read(sql.TALLY)
        outstanding = await self._database.read(sql.OUTSTANDING)
        return tally_of(states, outstanding)

    async def records(self) -> AsyncGenerator[Record, None]:
        """Yield all rows in the order in which their jobs were started."""
        last = 0
        while rows := await self._database.read(sql.PAGE, last):
            for row in rows:
                yield record_of(self._database, row[1:])
            last = rows[-1][0]

    async def get_upload(self, key: str) -> Upload | None:
        """Return an upload that any process has kept, expired or not."""
        rows = await self._database.read(sql.GET_UPLOAD, key)
        if not rows:
            return None
        try:
            plain = json.loads(rows[0][0].encode())
            return json.structure(plain, Upload, plain)
        except APIResponseValidationError:
            raise self._database.damaged("an upload in it cannot be read") from None

    async def put_upload(self, key: str, upload: Upload) -> None:
        """Keep an upload."""
        body = json.dumps(json.converter.unstructure(upload)).decode()
        await self._database.read(sql.PUT_UPLOAD, key, upload.expires_at, body)

    async def get_state(self, name: str) -> bytes | None:
        """Return the data kept under a name."""
        rows = await self._database.read(sql.GET_STATE, name)
        return bytes(rows[0][0]) if rows else None

    async def put_state(self, name: str, data: bytes) -> None:
        """Keep data under a name; of several processes the last one wins."""
        await self._database.read(sql.PUT_STATE, name, data)

    # --- writes about jobs ------------------------------------------------------------------------------

    async def _call(
        self, kind: _Kind, job_id: str, record: Record | None = None, previous: Record | None = None
    ) -> Any:  # noqa: ANN401 each kind has its own result
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Call(kind, job_id, future, record, previous))
        self._start_writer()
        # A write that is cancelled is carried out all the same.
        return await future

    def _start_writer(self) -> asyncio.Task[None]:
        if self._writer is None or self._writer.done():
            self._writer = self._group.create_task(self._write())
        return self._writer

    async def _write(self) -> None:
        """Carry out calls until none waits; concurrent calls share a transaction.

        Cancellation leaves the others, and those under way, which may be repeated, to the next writer.
        """
        while self._waiting:
            calls: dict[str, _Call] = {}
            later: list[_Call] = []
            for call in self._waiting:
                # Of two calls about a job the second waits for the first.
                is_next = len(calls) < _MOST_CALLS and call.job_id not in calls
                if is_next:
                    calls[call.job_id] = call
                else:
                    later.append(call)
            self._waiting = later
            try:
                await self._finish(list(calls.values()))
            finally:
                self._waiting[:0] = [call for call in calls.values() if not call.is_finished]

    async def _finish_writes(self) -> None:
        # ``asyncio.run`` cancels every task at its end, the writer too; another writer carries out its calls.
        while self._waiting or not (self._writer is None or self._writer.done()):
            await asyncio.wait([self._start_writer()])

    async def _finish(self, calls: list[_Call]) -> None:
        """Carry out calls, and give them their results, or the errors that prevented them."""
        try:
            await self._database.retried(lambda connection: self._transact(connection, calls))
        except Exception as error:  # noqa: BLE001 raised where it is awaited
            if len(calls) > 1 and not isinstance(error, JournalError):
                # One of them holds a value that no row can; the others shall not fail with it.
                for call in calls:
                    await self._finish([call])
                return
            found = error if isinstance(error, JournalError) else self._database.unwritable(error)
            for call in calls:
                call.is_finished = True
                if not call.future.done():
                    call.future.set_exception(found)
            return
        for call in calls:
            call.is_finished = True
            if not call.future.done():
                call.future.set_result(call.result)

    async def _transact(self, connection: Connection, calls: list[_Call]) -> None:
        if not self._lease.is_live:
            await self._lease.renew(connection)
        by_kind: dict[_Kind, list[_Call]] = {}
        for call in calls:
            by_kind.setdefault(call.kind, []).append(call)
        execute = {
            "claim": self._claim_rows,
            "begin": self._begin_rows,
            "put": self._put_rows,
            "undo": self._undo_rows,
            "drop": self._drop_rows,
        }
        async with connection.transaction():
            # In one order, so that no two processes wait for each other.
            rows = await connection.fetch(sql.LOCK_ROWS, [call.job_id for call in calls])
            intents = dict(cast("list[tuple[str, str]]", rows))
            for call in calls:
                call.is_begun = call.record is not None and intents.get(call.job_id) == call.record.key
            for kind, group in by_kind.items():
                await execute[kind](connection, group)

    async def _claim_rows(self, connection: Connection, calls: list[_Call]) -> None:
        worker, ids = self._lease.worker, [call.job_id for call in calls]
        await connection.execute(sql.STEAL, worker, ids)
        found = {row[0]: row for row in await connection.fetch(sql.CLAIM, worker, ids)}
        for call in calls:
            call.result = found.get(call.job_id)

    async def _begin_rows(self, connection: Connection, calls: list[_Call]) -> None:
        worker = self._lease.worker
        rows: list[Any] = []
        if first := [call.record for call in calls if call.previous is None]:
            rows += await connection.fetch(sql.BEGIN, worker, *_columns(first))
        if again := [call for call in calls if call.previous is not None]:
            previous = [call.previous for call in again]
            before = [row.state for row in previous], [row.key for row in previous]
            rows += await connection.fetch(
                sql.BEGIN_AGAIN, worker, *_columns([call.record for call in again]), *before
            )
        written = {row[0] for row in rows}
        for call in calls:
            call.result = call.job_id in written
        begun = [call.record for call in calls if call.result and not call.is_begun]
        await self.budget.move(connection, begun, -1)

    async def _put_rows(self, connection: Connection, calls: list[_Call]) -> None:
        worker, records = self._lease.worker, [call.record for call in calls]
        await connection.execute(sql.PUT, worker, *_columns(records))
        if payments := _payments(records):
            await connection.execute(sql.PAY, worker, *map(list, zip(*payments, strict=True)))

    async def _undo_rows(self, connection: Connection, calls: list[_Call]) -> None:
        await self.budget.move(connection, [call.record for call in calls if call.is_begun], 1)
        worker = self._lease.worker
        if first := [call.record for call in calls if call.previous is None]:
            ids, keys = [record.id for record in first], [record.key for record in first]
            await connection.execute(sql.UNDO_NEW, worker, ids, keys)
        if again := [call for call in calls if call.previous is not None]:
            keys = [call.record.key for call in again]
            await connection.execute(sql.UNDO, worker, *_columns([call.previous for call in again]), keys)

    async def _drop_rows(self, connection: Connection, calls: list[_Call]) -> None:
        await connection.execute(sql.DROP, self._lease.worker, [call.job_id for call in calls])

    async def _renew(self) -> None:
        """Renew the lease, with a connection of its own, so that no transaction delays it."""
        connection: Connection | None = None
        try:
            while True:
                await asyncio.sleep(self._lease.renewal_interval)
                try:
                    if connection is None or connection.is_closed():
                        connection = await self._database.connect()
                    with limited(connection):
                        await self._lease.renew(connection)
                except Exception as error:
                    if not self._database.is_outage(error) and not isinstance(
                        error, self._database.asyncpg.PostgresError
                    ):
                        raise
        finally:
            if connection is not None:
                connection.terminate()


def tally_of(states: Sequence[Any], outstanding: Sequence[Any]) -> Tally:
    """Return the rows of the two statements of sums as one tally."""
    jobs = {state: count for state, count, _ in states}
    return Tally(jobs, sum((cost for _, _, cost in states), 0.0), {row[0]: row[1] for row in outstanding})


def record_of(database: Database, row: Sequence[Any]) -> Record:
    """Return a row of the table of jobs.

    Raises:
        JournalError: The row was not written by this package.
    """
    try:
        return Record.from_row(cast("Row", tuple(row)))
    except UnreadableRowError as error:
        raise database.damaged(str(error)) from None


def _columns(records: Sequence[Record]) -> list[list[Any]]:
    """Return rows as columns, as `unnest` takes them."""
    return [list(column) for column in zip(*(record.to_row() for record in records), strict=True)]


def _payments(records: Sequence[Record]) -> list[tuple[str, str, str]]:
    """Return job, task and key of each task that rows name. A text of PostgreSQL holds no zero byte."""
    return [
        (record.id, task_id.replace("\0", "\\0"), record.key)
        for record in records
        if record.task is not None and record.key is not None
        for task_id in (record.task.id, *record.task.sibling_ids)
        if task_id
    ]
