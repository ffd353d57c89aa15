"""The journal in a SQLite file.

WAL with ``synchronous=FULL``: a commit is on disk when it returns, and a crash at any moment leaves the rows
as they were after some commit. One thread owns the connection, and commits concurrent writes together.

Beside the file are ``…-lock``, locked while the journal is in use, and ``…-reserve``, which is deleted when
the disk is full: then there is room for the task ids of jobs in flight.
"""

from __future__ import annotations

import asyncio
import errno
import os
import queue
import sqlite3
import threading
from collections.abc import Callable
from contextlib import ExitStack, closing, suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

import attrs

from apimart_async.batch.journal.protocol import Tally
from apimart_async.batch.journal.record import Record, UnreadableRowError
from apimart_async.errors import APIResponseValidationError, JournalError, JournalInUseError
from apimart_async.models import Upload
from apimart_async.transport import json
from apimart_async.transport.files.private import LinkError, create_private_file, make_private_folder

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator
    from types import TracebackType

Result = TypeVar("Result")

MEMORY: Final = ":memory:"
FOLDER: Final = ".batch"
_SUFFIXES: Final = ("", "-wal", "-shm", "-journal", "-lock", "-lock-journal", "-reserve")

VERSION: Final = 1
_APPLICATION_ID: Final = 0x41504A4C
"""Marks a SQLite file as a journal: "APJL"."""

_TABLES: Final = (
    """CREATE TABLE jobs (
        id TEXT PRIMARY KEY,
        state TEXT NOT NULL,
        key TEXT,
        model TEXT NOT NULL,
        images INTEGER NOT NULL,
        cost REAL,
        body TEXT NOT NULL
    ) STRICT""",
    """CREATE TABLE uploads (
        key TEXT PRIMARY KEY,
        expires_at REAL NOT NULL,
        body TEXT NOT NULL
    ) STRICT""",
    """CREATE TABLE states (
        name TEXT PRIMARY KEY,
        data BLOB NOT NULL
    ) STRICT""",
    f"PRAGMA application_id = {_APPLICATION_ID}",
    f"PRAGMA user_version = {VERSION}",
)
# By their text: a trigger may have any name, and in a crafted file even one of those that SQLite reserves.
_SCHEMA: Final = "SELECT sql FROM sqlite_master WHERE sql IS NOT NULL LIMIT 9"
_KNOWN_SCHEMA: Final = {(table,) for table in _TABLES if table.startswith("CREATE")}
_STATISTICS: Final = {  # of ANALYZE
    ("CREATE TABLE sqlite_stat1(tbl,idx,stat)",),
    ("CREATE TABLE sqlite_stat4(tbl,idx,neq,nlt,ndlt,sample)",),
}
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
_TALLY: Final = "SELECT state, count(*), total(max(cost, 0)) FROM jobs GROUP BY state"
_OUTSTANDING: Final = (
    "SELECT model, sum(max(images, 0)) FROM jobs WHERE cost IS NULL AND state NOT IN ('saved', 'failed') "
    "GROUP BY model"
)

_BUSY_TIMEOUT: Final = 5.0
_MAX_TRANSACTION: Final = 1000
_RESERVE_BYTES: Final = 1024 * 1024
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


@attrs.define(eq=False)
class _Call:
    """A function to run with the connection, and the future of its result."""

    future: asyncio.Future[Any]
    function: Callable[[sqlite3.Connection], Any] = lambda _: None
    result: Any = None
    error: Exception | None = None


class SqliteJournal:
    """A ``Journal`` in one file, for one process at a time.

    Args:
        path: Path of the file; it and its folder are created when they are missing. It has to be on a disk of
            this machine: network file systems break SQLite's guarantees. ``":memory:"`` keeps the journal
            in memory, and nothing of it survives.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._file = _JournalFile(Path(path))
        self._calls: queue.SimpleQueue[_Call | None] = queue.SimpleQueue()
        self._loop: asyncio.AbstractEventLoop
        self._closed: _Call

    async def __aenter__(self) -> Self:
        """Open or create the file, lock it and check it from end to end.

        Raises:
            JournalInUseError: It is in use.
            JournalError: It is damaged, not a journal or of a newer version; it cannot be written, or the
                disk is full.

        Cancellation leaves it closed, once it has been opened.
        """
        self._loop = asyncio.get_running_loop()
        opened, self._closed = _Call(self._loop.create_future()), _Call(self._loop.create_future())
        threading.Thread(target=self._serve, args=(opened,), name="journal", daemon=True).start()
        try:
            await opened.future
        except asyncio.CancelledError:
            self._calls.put(None)
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
        if previous is None:
            _, count = await self._execute(f"{_INSERT} DO NOTHING", *row)
        else:
            _, count = await self._execute(_REPLACE, *row[1:], previous.id, previous.state, previous.key)
        return count == 1

    async def put(self, record: Record) -> None:
        """Write a job's row over any earlier one."""
        await self._run(lambda connection: connection.execute(_INSERT + _UPDATE, record.to_row()).rowcount)

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
            raise _damaged(self._file.path, "an upload in it cannot be read") from error

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
        """Execute a statement, and return its rows and how many it has changed."""
        return await self._run(
            lambda connection: ((done := connection.execute(sql, parameters)).fetchall(), done.rowcount)
        )

    async def _run(self, function: Callable[[sqlite3.Connection], Result]) -> Result:
        """Run a function in the thread, and return its result once its writes are on disk.

        Concurrent calls share one transaction, and so one sync to disk; when it fails, it fails for all of
        them. A function executes one statement that writes at most, as its last act. Cancellation leaves the
        function to be run.
        """
        call = _Call(self._loop.create_future(), function)
        self._calls.put(call)
        try:
            result: Result = await call.future
        except sqlite3.Error as error:
            raise _explained(error, self._file.path) from error
        except UnreadableRowError as error:
            raise _damaged(self._file.path, str(error)) from error
        return result

    # --- in the thread ----------------------------------------------------------------------------------

    def _serve(self, opened: _Call) -> None:
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
                calls: list[_Call] = []
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

    def _settle(self, *calls: _Call) -> None:
        with suppress(RuntimeError):  # the loop is closed, so no caller waits any more
            self._loop.call_soon_threadsafe(_settle, calls)


def _settle(calls: tuple[_Call, ...]) -> None:
    """Give calls their results, on the loop."""
    for call in calls:
        if call.future.done():
            continue
        if call.error is not None:
            call.future.set_exception(call.error)
        else:
            call.future.set_result(call.result)


@attrs.define(eq=False)
class _JournalFile:
    """The file of a journal while it is in use. Everything here blocks."""

    path: Path
    locks: ExitStack = attrs.field(factory=ExitStack)
    error: JournalError | None = None
    """The reason why no further intents may be written, after a write that failed at the first try."""

    def open(self) -> sqlite3.Connection:
        """Lock the file, check it and return a connection in autocommit mode."""
        try:
            if str(self.path) != MEMORY:
                self._make_files()
            connection = sqlite3.connect(self.path, timeout=_BUSY_TIMEOUT, isolation_level=None)
            try:
                self._prepare(connection)
            except BaseException:
                connection.close()
                raise
        except BaseException as error:
            self.locks.close()
            if isinstance(error, OSError):
                why = error.strerror or str(error)
                raise _unwritable(self.path, why, is_full=error.errno in _FULL) from error
            if isinstance(error, sqlite3.Error):
                raise _explained(error, self.path) from error
            raise
        return connection

    def _make_files(self) -> None:
        """Lock the journal, and create what is missing. SQLite follows links, so there may be none."""
        if self.path.parent.name == FOLDER:
            make_private_folder(self.path.parent)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        _refuse_linked_files(self.path)
        for suffix in ("", "-lock"):  # the others get the permissions of the first
            with suppress(FileExistsError):
                os.close(create_private_file(Path(f"{self.path}{suffix}")))
        self._lock()
        reserve = Path(f"{self.path}-reserve")
        if not reserve.exists() or reserve.stat().st_size < _RESERVE_BYTES:
            reserve.unlink(missing_ok=True)
            with os.fdopen(create_private_file(reserve), "wb") as file:
                file.write(bytes(_RESERVE_BYTES))
                file.flush()
                os.fsync(file.fileno())

    def _lock(self) -> None:
        """Take a lock that ends with the process, however it ends."""
        lock = sqlite3.connect(f"{self.path}-lock", timeout=0, isolation_level=None)
        try:
            lock.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError as error:
            lock.close()
            if error.sqlite_errorcode == sqlite3.SQLITE_BUSY:
                raise JournalInUseError(
                    f"The journal {self.path} is in use: another batch is running in its folder. Wait for "
                    "that to end, or give this one another output folder.",
                    path=str(self.path),
                ) from error
            raise
        self.locks.callback(lock.close)

    def _prepare(self, connection: sqlite3.Connection) -> None:
        has_tables = _check(connection, self.path)
        (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
        if mode not in {"wal", "memory"}:
            raise _unwritable(self.path, f"SQLite cannot use WAL there, only {mode}", is_full=False)
        connection.execute("PRAGMA synchronous = FULL")
        (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if found != "ok":
            raise _damaged(self.path, found)
        connection.execute("BEGIN IMMEDIATE")
        for statement in () if has_tables else _TABLES:
            connection.execute(statement)
        connection.execute("DELETE FROM jobs WHERE state = 'failed' AND key IS NULL")
        connection.execute("DELETE FROM uploads WHERE expires_at < ?", (datetime.now(UTC).timestamp(),))
        # Always write something, to know before anything is paid that the file can be written.
        connection.execute("INSERT OR REPLACE INTO states VALUES ('opened', ?)", (os.urandom(8),))
        connection.execute("COMMIT")

    def commit(self, connection: sqlite3.Connection, calls: list[_Call]) -> None:
        """Run calls in one transaction; try once more if that fails for lack of space that can be freed."""
        try:
            connection.execute("BEGIN IMMEDIATE")
            for call in calls:
                try:
                    call.result = call.function(connection)
                except sqlite3.Error:
                    raise
                except Exception as error:  # noqa: BLE001 it failed before it wrote anything
                    call.error = error
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            self.error = self.error or _explained(error, self.path)
            reserve = Path(f"{self.path}-reserve")
            if error.sqlite_errorcode == sqlite3.SQLITE_FULL and reserve.exists():
                reserve.unlink()
                self.commit(connection, calls)
                return
            for call in calls:
                call.error = error


def read_journal(path: Path) -> Iterator[Record]:
    """Yield the rows of a journal without changing it, whether it is in use or not; blocks.

    Raises:
        JournalError: There is none, it is damaged or of a newer version.
    """
    if not path.is_file():
        raise JournalError(f"There is no journal at {path}: no batch has run there.", path=str(path))
    address = f"{path.absolute().as_uri()}?mode=ro"
    try:
        _refuse_linked_files(path)
        with closing(
            sqlite3.connect(address, uri=True, timeout=_BUSY_TIMEOUT, isolation_level=None)
        ) as connection:
            last = 0
            while _check(connection, path) and (page := _page(connection, last))[0]:
                yield from page[0]
                last = page[1]
    except sqlite3.Error as error:
        raise _explained(error, path) from error
    except (LinkError, UnreadableRowError) as error:
        raise _damaged(path, str(error)) from error


def _refuse_linked_files(path: Path) -> None:
    for suffix in _SUFFIXES:
        if (file := Path(f"{path}{suffix}")).is_symlink():
            raise LinkError(f"{file} is a symbolic link, which could lead anywhere; remove it")


def _page(connection: sqlite3.Connection, after: int) -> tuple[list[Record], int]:
    """Return up to 500 records after a row, in the order in which they were started, and the last row."""
    rows = connection.execute(_PAGE, (after,)).fetchall()
    return [Record.from_row(row[1:]) for row in rows], rows[-1][0] if rows else after


def _check(connection: sqlite3.Connection, path: Path) -> bool:
    """Tell whether a file has a journal's tables already; raise ``JournalError`` if it is something else."""
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    tables = connection.execute(_SCHEMA).fetchall()
    if not tables and not version:
        return False
    if application != _APPLICATION_ID:
        raise _foreign(path)
    if version > VERSION:
        raise JournalError(
            f"The journal {path} was written by a newer version of this package (format {version}; this one "
            f"knows {VERSION}): upgrade it.",
            path=str(path),
        )
    # A view, a trigger or another column could answer a query without end, or change what it says.
    if set(tables) - _STATISTICS != _KNOWN_SCHEMA:
        raise _foreign(path)
    return True


def _foreign(path: Path) -> JournalError:
    return JournalError(f"{path} is not the journal of a batch; it was left as it is.", path=str(path))


def _explained(error: sqlite3.Error, path: Path) -> JournalError:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}:
        return _damaged(path, str(error))
    return _unwritable(path, str(error), is_full=code == sqlite3.SQLITE_FULL)


def _damaged(path: Path, why: str) -> JournalError:
    return JournalError(
        f"The journal {path} is damaged: {why}. It was left as it is. Restore a copy of it, or move it away: "
        "but a batch without its journal starts every job anew, and pays for it again.",
        path=str(path),
    )


def _unwritable(path: Path, why: str, *, is_full: bool) -> JournalError:
    remedy = "make room on the disk" if is_full else "see to it that its folder can be written"
    return JournalError(
        f"The journal {path} cannot be written: {why}. Without it nothing more is submitted: {remedy}, and "
        "run the batch again.",
        path=str(path),
    )
