"""The SQLite file of a journal: its tables, its lock, its reserve, and the checks before it is used.

WAL with ``synchronous=FULL``: a commit is on disk when it returns, and a crash at any moment leaves the rows
as they were after some commit.

Beside the file are ``…-lock``, locked while the journal is in use, and ``…-reserve``, which is deleted when
the disk is full: then there is room for the task ids of jobs in flight.
"""

from __future__ import annotations

import asyncio
import errno
import os
import sqlite3
from collections.abc import Callable
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

import attrs

from apimart_async.batch.journal.open_files import OpenFiles
from apimart_async.errors import JournalError, JournalInUseError
from apimart_async.transport.files.private import create_private_file, make_private_folder, refuse_link

MEMORY: Final = ":memory:"
FOLDER: Final = ".batch"
_RESERVE: Final = "-reserve"
_SUFFIXES: Final = ("", "-wal", "-shm", "-journal", "-lock", "-lock-journal", _RESERVE)

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

BUSY_TIMEOUT: Final = 5.0
_PROGRESS_STEPS: Final = 10_000
"""Steps of SQLite, less than a millisecond, after which it stops to open a file that is abandoned."""
_RESERVE_BYTES: Final = 1024 * 1024
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


@attrs.define(eq=False)
class Call:
    """A function to run with the connection, and the future of its result.

    Attributes:
        is_intent: Whether it writes the row of a paid request that is about to be sent.
        is_row: Whether it writes another row of a job.
    """

    future: asyncio.Future[Any]
    function: Callable[[sqlite3.Connection], Any] = lambda _: None
    result: Any = None
    error: Exception | None = None
    is_intent: bool = False
    is_row: bool = False


@attrs.define(eq=False)
class JournalFile:
    """The file of a journal while it is in use. Everything here blocks.

    Attributes:
        path: Path of the file, or ``":memory:"``.
        locks: Holds the lock of the file.
        error: The reason why no further intents may be written, after a write that failed at the first try.
        files: The files that are open, to notice when they are deleted or replaced.
        is_abandoned: Whether the opening is no longer awaited; set by another thread.
    """

    path: Path
    locks: ExitStack = attrs.field(factory=ExitStack)
    error: JournalError | None = None
    files: OpenFiles = attrs.field(factory=partial(OpenFiles, ()))
    is_abandoned: bool = False

    def open(self) -> sqlite3.Connection:
        """Lock the file, check it and return a connection in autocommit mode."""
        try:
            if str(self.path) != MEMORY:
                self._make_files()
            connection = sqlite3.connect(self.path, timeout=BUSY_TIMEOUT, isolation_level=None)
            connection.set_progress_handler(lambda: self.is_abandoned, _PROGRESS_STEPS)
            try:
                self._prepare(connection)
                connection.set_progress_handler(None, 0)
            except BaseException:
                connection.close()
                raise
        except BaseException as error:
            self.locks.close()
            if isinstance(error, OSError):
                why = error.strerror or str(error)
                raise _unwritable(self.path, why, is_full=error.errno in _FULL) from error
            if isinstance(error, sqlite3.Error):
                raise explained(error, self.path) from error
            raise
        return connection

    def _make_files(self) -> None:
        """Lock the journal, and create missing files. SQLite follows links, so links are refused."""
        if self.path.parent.name == FOLDER:
            make_private_folder(self.path.parent)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        refuse_linked_files(self.path)
        for suffix in ("", "-lock"):  # SQLite gives its other files the permissions of the first
            with suppress(FileExistsError):
                os.close(create_private_file(Path(f"{self.path}{suffix}")))
        self._lock()
        reserve = Path(f"{self.path}-reserve")
        if not reserve.exists() or reserve.stat().st_size < _RESERVE_BYTES:
            reserve.unlink(missing_ok=True)
            try:
                with os.fdopen(create_private_file(reserve), "wb") as file:
                    file.write(bytes(_RESERVE_BYTES))
                    file.flush()
                    os.fsync(file.fileno())
            except OSError:
                # A part of it would only take the last room on the disk.
                reserve.unlink(missing_ok=True)
                raise

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
        has_tables = check(connection, self.path)
        (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
        if mode not in {"wal", "memory"}:
            raise _unwritable(self.path, f"SQLite cannot use WAL there, only {mode}", is_full=False)
        connection.execute("PRAGMA synchronous = FULL")
        (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if found != "ok":
            raise damaged(self.path, found)
        connection.execute("BEGIN IMMEDIATE")
        for statement in () if has_tables else _TABLES:
            connection.execute(statement)
        connection.execute("DELETE FROM jobs WHERE state = 'failed' AND key IS NULL")
        connection.execute("DELETE FROM uploads WHERE expires_at < ?", (datetime.now(UTC).timestamp(),))
        # Always write something, to know before anything is paid that the file can be written.
        connection.execute("INSERT OR REPLACE INTO states VALUES ('opened', ?)", (os.urandom(8),))
        connection.execute("COMMIT")
        self.files = OpenFiles(Path(f"{self.path}{suffix}") for suffix in ("", "-wal"))

    def commit(self, connection: sqlite3.Connection, calls: list[Call]) -> None:
        """Run calls in one transaction; try once more if that fails for lack of space that can be freed."""
        self._check_files()
        try:
            connection.execute("BEGIN IMMEDIATE")
            for call in calls:
                self._execute(connection, call)
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            self.error = self.error or explained(error, self.path)
            if error.sqlite_errorcode == sqlite3.SQLITE_FULL and self._free_reserve():
                self.commit(connection, calls)
                return
            for call in calls:
                call.error = error
            return
        if not self._check_files():
            for call in calls:
                # The next run does not find this row, so an intent must not be followed by its request.
                call.error = call.error or (self.error if call.is_intent or call.is_row else None)

    def _check_files(self) -> bool:
        """Tell whether the next run finds this file, and allow no further intents if it does not."""
        if self.files.are_unchanged():
            return True
        self.error = self.error or JournalError(
            f"The journal {self.path} was deleted, moved or replaced while the batch was running. Nothing "
            "more is submitted, as the next run would not find it there, and would pay for its jobs again: "
            "bring it back, and run the batch again.",
            path=str(self.path),
        )
        return False

    def _free_reserve(self) -> bool:
        try:
            Path(f"{self.path}-reserve").unlink()
        except OSError:
            return False
        return True

    def _execute(self, connection: sqlite3.Connection, call: Call) -> None:
        call.error = self.error if call.is_intent else None
        if call.error is not None:
            return
        try:
            call.result = call.function(connection)
        except sqlite3.Error:
            raise
        except Exception as error:  # noqa: BLE001 it failed before it wrote anything
            call.error = error


def refuse_linked_files(path: Path, *, only_read: bool = False) -> None:
    """Raise ``LinkError`` if a file of the journal is a link; a file that is only read may be a hard link."""
    for suffix in _SUFFIXES:
        # Readers write into the shared memory beside the file.
        is_written = suffix != _RESERVE and not (only_read and not suffix)
        refuse_link(Path(f"{path}{suffix}"), hard=is_written)


def check(connection: sqlite3.Connection, path: Path) -> bool:
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
    # A view, a trigger or another column could make a query endless, or change its result.
    if set(tables) - _STATISTICS != _KNOWN_SCHEMA:
        raise _foreign(path)
    return True


def _foreign(path: Path) -> JournalError:
    return JournalError(f"{path} is not the journal of a batch; it was left as it is.", path=str(path))


def explained(error: sqlite3.Error, path: Path) -> JournalError:
    """Return the error for a failure of SQLite."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}:
        return damaged(path, str(error))
    return _unwritable(path, str(error), is_full=code == sqlite3.SQLITE_FULL)


def damaged(path: Path, why: str) -> JournalError:
    """Return the error for a journal that cannot be read."""
    return JournalError(
        f"The journal {path} is damaged: {why}. It was left as it is. Restore a copy of it, or move it away: "
        "but a batch without its journal starts every job anew, and pays for it again.",
        path=str(path),
    )


def _unwritable(path: Path, why: str, *, is_full: bool) -> JournalError:
    remedy = "make room on the disk" if is_full else "make its folder writable"
    return JournalError(
        f"The journal {path} cannot be written: {why}. Without it nothing more is submitted: {remedy}, and "
        "run the batch again.",
        path=str(path),
    )
