"""The journal in a SQLite file: durable before anything happens that depends on it.

WAL with ``synchronous=FULL``: a commit is on disk when it returns, and a crash at any moment leaves the rows
as they were after some commit. One thread writes, and commits what comes together at once.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

from apimart_async.batch import schema
from apimart_async.batch.journal_file import JournalFile, damaged, explained
from apimart_async.batch.writer import Writer
from apimart_async.models import Upload
from apimart_async.transport import json

if TYPE_CHECKING:
    import os
    from collections.abc import AsyncGenerator, Callable
    from types import TracebackType

    from apimart_async.batch.journal import Tally
    from apimart_async.batch.record import Record

Result = TypeVar("Result")


class SqliteJournal:
    """A ``Journal`` in one file, for one process at a time.

    Args:
        path: Of the file; it and its folder are made when they are missing. It has to be on a disk of this
            machine: network file systems do not keep SQLite's promises.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._file = JournalFile(Path(path))
        self._writer = Writer(self._file.open, self._file.make_room, self._file.close)

    async def __aenter__(self) -> Self:
        """Open or make the file, lock it and check it from end to end.

        Raises:
            JournalInUseError: It is in use.
            JournalError: It is damaged, not a journal or of a newer version; it cannot be written, or the
                disk is full.
        """
        await self._writer.open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close and unlock it."""
        await self._writer.close()

    async def get(self, job_id: str) -> Record | None:
        """Return a job's row, if there is one."""

        def read(connection: sqlite3.Connection) -> Record | None:
            row = connection.execute(schema.SELECT, (job_id,)).fetchone()
            return None if row is None else schema.to_record(row)

        return await self._run(read)

    async def begin(self, intent: Record, previous: Record | None) -> bool:
        """Write the intent of a paid request, unless the job's row has changed or the disk is full."""
        if self._file.trouble is not None:
            raise self._file.trouble

        def write(connection: sqlite3.Connection) -> bool:
            row = schema.to_row(intent)
            if previous is None:
                return connection.execute(schema.INSERT, row).rowcount == 1
            expected = (previous.id, previous.state, previous.key)
            return connection.execute(schema.REPLACE, (*row[1:], *expected)).rowcount == 1

        return await self._run(write)

    async def put(self, record: Record) -> None:
        """Write a job's row, whatever it was before."""
        # A row may hold images, so it is made of its record in the thread.
        await self._run(lambda connection: connection.execute(schema.UPSERT, schema.to_row(record)).rowcount)

    async def drop(self, job_id: str) -> None:
        """Remove a job's row."""
        await self._execute("DELETE FROM jobs WHERE id = ?", (job_id,))

    async def tally(self) -> Tally:
        """Add the rows up."""
        return await self._run(schema.tally)

    async def records(self) -> AsyncGenerator[Record, None]:
        """Yield all rows in the order their jobs were begun."""
        last = 0
        while page := await self._page(last):
            for record in page.records:
                yield record
            last = page.last

    async def get_upload(self, key: str) -> Upload | None:
        """Return an upload that was kept, expired or not."""
        row = await self._fetch("SELECT body FROM uploads WHERE key = ?", (key,))
        if row is None:
            return None
        plain = json.loads(row[0].encode())
        return json.structure(plain, Upload, plain)

    async def put_upload(self, key: str, upload: Upload) -> None:
        """Keep an upload."""
        body = json.dumps(json.converter.unstructure(upload)).decode()
        row = (key, upload.expires_at.timestamp(), body)
        await self._execute("INSERT OR REPLACE INTO uploads (key, expires_at, body) VALUES (?, ?, ?)", row)

    async def get_state(self, name: str) -> bytes | None:
        """Return what was kept under a name."""
        row = await self._fetch("SELECT data FROM states WHERE name = ?", (name,))
        return None if row is None else bytes(row[0])

    async def put_state(self, name: str, data: bytes) -> None:
        """Keep something under a name."""
        await self._execute("INSERT OR REPLACE INTO states (name, data) VALUES (?, ?)", (name, data))

    async def _page(self, after: int) -> schema.Page | None:
        return await self._run(lambda connection: schema.page(connection, after))

    async def _fetch(self, sql: str, parameters: tuple[object, ...]) -> Any:  # noqa: ANN401 a row of any columns
        return await self._run(lambda connection: connection.execute(sql, parameters).fetchone())

    async def _execute(self, sql: str, parameters: tuple[object, ...]) -> int:
        return await self._run(lambda connection: connection.execute(sql, parameters).rowcount)

    async def _run(self, work: Callable[[sqlite3.Connection], Result]) -> Result:
        try:
            return await self._writer.run(work)
        except sqlite3.Error as error:
            raise explained(error, self._file.path) from error
        except schema.UnreadableRowError as error:
            raise damaged(self._file.path, str(error)) from error
