"""The journal in a SQLite file.

One thread owns the connection, and commits concurrent writes together.
"""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar, cast

from anyio import CancelScope

from apimart_async.batch.journal.protocol import Tally
from apimart_async.batch.journal.record import Record, UnreadableRowError
from apimart_async.batch.journal.sqlite_file import (
    BUSY_TIMEOUT,
    Call,
    JournalFile,
    check,
    damaged,
    explained,
    refuse_linked_files,
)
from apimart_async.errors import APIResponseValidationError, JournalError
from apimart_async.models import Upload
from apimart_async.transport import json
from apimart_async.transport.files.private import LinkError

if TYPE_CHECKING:
    import os
    from collections.abc import AsyncGenerator, Callable, Iterator
    from types import TracebackType

Result = TypeVar("Result")

_SELECT: Final = "SELECT id, state, key, model, images, cost, body FROM jobs WHERE id = ?"
_INSERT: Final = (
    "INSERT INTO jobs (id, state, key, model, images, cost, body) VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT "
)
_REPLACE: Final = (
    "UPDATE jobs SET state = ?, key = ?, model = ?, images = ?, cost = ?, body = ? "
    "WHERE id = ? AND state = ? AND key IS ?"
)
_UPDATE: Final = (
    "(id) DO UPDATE SET state = excluded.state, key = excluded.key, model = excluded.model, "
    "images = excluded.images, cost = excluded.cost, body = excluded.body"
)
_PAGE: Final = (
    "SELECT rowid, id, state, key, model, images, cost, body FROM jobs WHERE rowid > ? "
    "ORDER BY rowid LIMIT 500"
)
_OUTSTANDING: Final = (
    "SELECT model, sum(max(images, 0)) FROM jobs WHERE cost IS NULL AND state <> 'failed' GROUP BY model"
)

_MAX_TRANSACTION: Final = 1000


class SqliteJournal:
    """A ``Journal`` in one file, for one process at a time.

    Args:
        path: Path of the file; it and its folder are created when they are missing. It has to be on a disk of
            this machine: network file systems break SQLite's guarantees. ``":memory:"`` keeps the journal
            in memory, and nothing of it survives.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._file = JournalFile(Path(path))
        self._calls: queue.SimpleQueue[Call | None] = queue.SimpleQueue()
        self._loop: asyncio.AbstractEventLoop
        self._closed: Call

    async def __aenter__(self) -> Self:
        """Open or create the file, lock it and check it from end to end.

        Raises:
            JournalInUseError: The file is in use.
            JournalError: The file is damaged, is no journal, has a newer version or cannot be written, or the
                disk is full.

        Cancellation leaves it closed and unlocked.
        """
        self._loop = asyncio.get_running_loop()
        opened, self._closed = Call(self._loop.create_future()), Call(self._loop.create_future())
        threading.Thread(target=self._serve, args=(opened,), name="journal", daemon=True).start()
        try:
            await opened.future
        except asyncio.CancelledError:
            self._file.is_abandoned = True
            await self.__aexit__(None, None, None)
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Finish all writes, close and unlock it."""
        self._calls.put(None)
        with CancelScope(shield=True):  # a caller that runs on while it is locked could not open it again
            await asyncio.shield(self._closed.future)

    async def get(self, job_id: str) -> Record | None:
        """Return a job's row, if there is one."""
        # A row may hold images, so it is read and written in the thread.
        records = await self._run(
            lambda connection: [Record.from_row(row) for row in connection.execute(_SELECT, (job_id,))]
        )
        return records[0] if records else None

    async def claim(self, job_id: str) -> Record | None:
        """Return a job's row, if there is one; the whole file belongs to this process."""
        return await self.get(job_id)

    async def begin(self, intent: Record, previous: Record | None) -> bool:
        """Write the intent of a paid request, unless the job's row has changed or the disk is full."""
        if self._file.error is not None:
            raise self._file.error
        row = intent.to_row()
        sql, parameters = f"{_INSERT} DO NOTHING", cast("tuple[object, ...]", row)
        if previous is not None:
            sql, parameters = _REPLACE, (*row[1:], previous.id, previous.state, previous.key)
        count = await self._run(
            lambda connection: connection.execute(sql, parameters).rowcount, is_intent=True
        )
        return count == 1

    async def put(self, record: Record) -> None:
        """Write a job's row over any earlier one."""
        await self._run(
            lambda connection: connection.execute(_INSERT + _UPDATE, record.to_row()).rowcount, is_row=True
        )

    async def undo(self, intent: Record, previous: Record | None) -> None:
        """Put back the row that an intent replaced, unless it has changed since."""
        written = (intent.id, intent.state, intent.key)
        if previous is None:
            await self._execute("DELETE FROM jobs WHERE id = ? AND state = ? AND key IS ?", *written)
        else:
            await self._execute(_REPLACE, *previous.to_row()[1:], *written)

    async def drop(self, job_id: str) -> None:
        """Remove a job's row."""
        await self._execute("DELETE FROM jobs WHERE id = ?", job_id)

    async def tally(self) -> Tally:
        """Return the sums over all rows."""
        states, _ = await self._execute(
            "SELECT state, count(*), total(max(cost, 0)) FROM jobs GROUP BY state"
        )
        outstanding, _ = await self._execute(_OUTSTANDING)
        jobs = {state: count for state, count, _ in states}
        return Tally(jobs, sum((cost for _, _, cost in states), 0.0), dict(outstanding))

    async def records(self) -> AsyncGenerator[Record, None]:
        """Yield all rows in the order in which their jobs were started."""
        last = 0
        while True:
            records, last = await self._run(partial(_page, after=last))
            if not records:
                return
            for record in records:
                yield record

    async def get_upload(self, key: str) -> Upload | None:
        """Return an upload that was kept, expired or not."""
        rows, _ = await self._execute("SELECT body FROM uploads WHERE key = ?", key)
        if not rows:
            return None
        try:
            plain = json.loads(rows[0][0].encode())
            return json.structure(plain, Upload, plain)
        except APIResponseValidationError as error:
            raise damaged(self._file.path, "an upload in it cannot be read") from error

    async def put_upload(self, key: str, upload: Upload) -> None:
        """Keep an upload."""
        body = json.dumps(json.converter.unstructure(upload)).decode()
        expires_at = upload.expires_at.timestamp()
        await self._execute("INSERT OR REPLACE INTO uploads VALUES (?, ?, ?)", key, expires_at, body)

    async def get_state(self, name: str) -> bytes | None:
        """Return the data kept under a name."""
        rows, _ = await self._execute("SELECT data FROM states WHERE name = ?", name)
        return bytes(rows[0][0]) if rows else None

    async def put_state(self, name: str, data: bytes) -> None:
        """Keep data under a name."""
        await self._execute("INSERT OR REPLACE INTO states VALUES (?, ?)", name, data)

    async def _execute(self, sql: str, *parameters: object) -> tuple[list[Any], int]:
        """Execute a statement, and return its rows and the number of rows that it has changed."""
        return await self._run(
            lambda connection: ((done := connection.execute(sql, parameters)).fetchall(), done.rowcount)
        )

    async def _run(
        self,
        function: Callable[[sqlite3.Connection], Result],
        *,
        is_intent: bool = False,
        is_row: bool = False,
    ) -> Result:
        """Run a function in the thread, and return its result once its writes are on disk.

        Concurrent calls share one transaction, and so one sync to disk; when it fails, it fails for all of
        them. A function executes one statement that writes at most, as its last act. Cancellation leaves the
        function to be run.
        """
        call = Call(self._loop.create_future(), function, is_intent=is_intent, is_row=is_row)
        self._calls.put(call)
        try:
            result: Result = await call.future
        except sqlite3.Error as error:
            raise explained(error, self._file.path) from error
        except UnreadableRowError as error:
            raise damaged(self._file.path, str(error)) from error
        return result

    # --- in the thread ----------------------------------------------------------------------------------

    def _serve(self, opened: Call) -> None:
        try:
            connection = self._file.open()
        except Exception as error:  # noqa: BLE001 raised where it is awaited
            opened.error = error
            self._settle(opened, self._closed)
            return
        self._settle(opened)
        try:
            is_closing = False
            while not is_closing:
                calls: list[Call] = []
                while not is_closing and len(calls) < _MAX_TRANSACTION:
                    try:
                        call = self._calls.get(block=not calls)
                    except queue.Empty:
                        break
                    is_closing = call is None
                    if call is not None:
                        calls.append(call)
                if calls:
                    self._file.commit(connection, calls)
                    self._settle(*calls)
        finally:
            connection.close()
            self._file.locks.close()
            self._settle(self._closed)

    def _settle(self, *calls: Call) -> None:
        with suppress(RuntimeError):  # the loop is closed, so no caller waits any more
            self._loop.call_soon_threadsafe(_settle, calls)


def _settle(calls: tuple[Call, ...]) -> None:
    """Give calls their results, on the loop."""
    for call in calls:
        if call.future.done():
            continue
        if call.error is not None:
            call.future.set_exception(call.error)
        else:
            call.future.set_result(call.result)


def read_journal(path: Path) -> Iterator[Record]:
    """Yield the rows of a journal without changing it, whether it is in use or not; blocks.

    Raises:
        JournalError: There is none, it is damaged or of a newer version.
    """
    if not path.is_file():
        raise JournalError(
            f"There is no journal at {path}: no batch has run there, or its journal is elsewhere.",
            path=str(path),
        )
    address = f"{path.absolute().as_uri()}?mode=ro"
    try:
        refuse_linked_files(path, only_read=True)
        with closing(
            sqlite3.connect(address, uri=True, timeout=BUSY_TIMEOUT, isolation_level=None)
        ) as connection:
            last = 0
            while check(connection, path) and (page := _page(connection, last))[0]:
                yield from page[0]
                last = page[1]
    except sqlite3.Error as error:
        raise explained(error, path) from error
    except (LinkError, UnreadableRowError) as error:
        raise damaged(path, str(error)) from error


def _page(connection: sqlite3.Connection, after: int) -> tuple[list[Record], int]:
    """Return up to 500 records after a row, in the order in which they were started, and the last row."""
    rows = connection.execute(_PAGE, (after,)).fetchall()
    return [Record.from_row(row[1:]) for row in rows], rows[-1][0] if rows else after
