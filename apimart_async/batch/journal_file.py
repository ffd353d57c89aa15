"""The file a SQLite journal lives in: locked, checked from end to end, with room kept for a full disk.

Beside it lie ``…-lock``, locked as long as the journal is in use, and ``…-reserve``, which is given up when
the disk is full: what is in flight then still finds room for its task ids. All of it blocks.
"""

from __future__ import annotations

import errno
import os
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from apimart_async.batch import schema
from apimart_async.errors import JournalError, JournalInUseError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from apimart_async.batch.record import Record

PATIENCE: Final = 5.0
"""Seconds to wait for a reader that is in the way."""

_RESERVE_BYTES: Final = 1024 * 1024
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class JournalFile:
    """A journal's file while it is in use, by one process at a time.

    Args:
        path: Of the file; it and its folder are made when they are missing.
    """

    def __init__(self, path: Path) -> None:
        self.path: Path = path
        self._reserve = path.with_name(f"{path.name}-reserve")
        self._lock: sqlite3.Connection | None = None
        self.trouble: JournalError | None = None
        """Why nothing more may be begun, once something could not be written at the first try."""

    def open(self) -> sqlite3.Connection:
        """Lock the file, check it and make it ready.

        Raises:
            JournalInUseError: It is in use.
            JournalError: It is damaged, not a journal or of a newer version; it cannot be written, or the
                disk is full.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._take_lock()
            self._write_reserve()
            return self._connect()
        except OSError as error:
            self.close()
            why = error.strerror or str(error)
            raise unwritable(self.path, why, is_full=error.errno in _FULL) from error
        except sqlite3.Error as error:
            self.close()
            raise explained(error, self.path) from error
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Unlock it."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def make_room(self, error: sqlite3.Error) -> bool:
        """Give up the reserve when the disk is full; whatever the error, let nothing new begin.

        Returns:
            Whether there is more room than before.
        """
        self.trouble = self.trouble or explained(error, self.path)
        if error.sqlite_errorcode != sqlite3.SQLITE_FULL or not self._reserve.exists():
            return False
        self._reserve.unlink()
        return True

    def _take_lock(self) -> None:
        """Hold a lock that ends with the process, however it ends."""
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
        self._lock = lock

    def _write_reserve(self) -> None:
        if self._reserve.exists() and self._reserve.stat().st_size >= _RESERVE_BYTES:
            return
        with self._reserve.open("wb") as file:
            file.write(bytes(_RESERVE_BYTES))
            file.flush()
            os.fsync(file.fileno())

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, timeout=PATIENCE, isolation_level=None)
        try:
            self._prepare(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        has_tables = check(connection, self.path)
        (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
        if mode != "wal":
            raise unwritable(self.path, f"SQLite cannot use WAL there, only {mode}", is_full=False)
        connection.execute("PRAGMA synchronous = FULL")
        (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if found != "ok":
            raise damaged(self.path, found)
        connection.execute("BEGIN IMMEDIATE")
        for statement in () if has_tables else schema.TABLES:
            connection.execute(statement)
        connection.execute("DELETE FROM jobs WHERE state = 'failed' AND key IS NULL")
        connection.execute("DELETE FROM uploads WHERE expires_at < ?", (datetime.now(UTC).timestamp(),))
        # Something to write, whatever there is: that it can be written is known before anything is paid.
        connection.execute("INSERT OR REPLACE INTO states VALUES ('opened', ?)", (os.urandom(8),))
        connection.execute("COMMIT")


def read_journal(path: Path) -> Iterator[Record]:
    """Yield the rows of a journal without changing it, whether it is in use or not.

    Raises:
        JournalError: There is none, it is damaged or of a newer version.
    """
    if not path.is_file():
        raise JournalError(f"There is no journal at {path}: no batch has run there.", path=str(path))
    address = f"{path.absolute().as_uri()}?mode=ro"
    try:
        with closing(
            sqlite3.connect(address, uri=True, timeout=PATIENCE, isolation_level=None)
        ) as connection:
            last = 0
            while check(connection, path) and (page := schema.page(connection, last)):
                yield from page.records
                last = page.last
    except sqlite3.Error as error:
        raise explained(error, path) from error
    except schema.UnreadableRowError as error:
        raise damaged(path, str(error)) from error


def check(connection: sqlite3.Connection, path: Path) -> bool:
    """Tell whether a file has a journal's tables already.

    Raises:
        JournalError: It is something else, or of a newer version.
    """
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if not tables and not version:
        return False
    if application != schema.APPLICATION_ID:
        raise JournalError(f"{path} is not the journal of a batch; it was left as it is.", path=str(path))
    if version > schema.VERSION:
        raise JournalError(
            f"The journal {path} was written by a newer version of this package (format {version}; this one "
            f"knows {schema.VERSION}): upgrade, with pip install -U apimart-async.",
            path=str(path),
        )
    return True


def explained(error: sqlite3.Error, path: Path) -> JournalError:
    """Return the error that says what SQLite's means for the batch."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}:
        return damaged(path, str(error))
    return unwritable(path, str(error), is_full=code == sqlite3.SQLITE_FULL)


def damaged(path: Path, why: str) -> JournalError:
    """Return the error of a journal that cannot be trusted."""
    return JournalError(
        f"The journal {path} is damaged: {why}. It was left as it is. Restore a copy of it, or move it away: "
        "but a batch without its journal begins every job anew, and pays for it again.",
        path=str(path),
    )


def unwritable(path: Path, why: str, *, is_full: bool) -> JournalError:
    """Return the error of a journal that takes no more."""
    remedy = "make room on the disk" if is_full else "see to it that its folder can be written"
    return JournalError(
        f"The journal {path} cannot be written: {why}. Without it nothing more is submitted: {remedy}, and "
        "run the batch again.",
        path=str(path),
    )
