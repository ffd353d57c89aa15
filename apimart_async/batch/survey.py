"""A manifest as a whole, before anything is paid: what is wrong with it, and how much there is to do."""

from __future__ import annotations

import hashlib
import sqlite3
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Final

import attrs
from anyio import CancelScope, to_thread

from apimart_async.batch.job import Job, payload_digest
from apimart_async.batch.rows import BadRow, Row
from apimart_async.errors import ImageError
from apimart_async.resources.edits import DEFAULT_MODEL
from apimart_async.transport.concurrent import for_each
from apimart_async.transport.media import inputs
from apimart_async.transport.media.data_urls import is_data_url

if TYPE_CHECKING:
    from apimart_async.batch.manifest import Manifest

LISTED: Final = 20
"""How many bad rows are kept; the others are counted."""

_CHUNK: Final = 256
_CACHE_KIB: Final = 8 * 1024

_TABLES: Final = f"""
PRAGMA cache_size = -{_CACHE_KIB};
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
CREATE TABLE ids (id TEXT PRIMARY KEY, place TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE works (digest TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE pictures (path TEXT PRIMARY KEY, bytes INTEGER NOT NULL, complaint TEXT) WITHOUT ROWID;
BEGIN;
"""


@attrs.frozen
class Survey:
    """What there is in a manifest.

    Attributes:
        jobs: Rows that are done; of those that ask for the same only the first.
        repeated: Rows that ask for the same as an earlier one.
        images: Images that come of them, by model.
        pictures: Different pictures that have to be uploaded.
        bytes: Their size together.
        bad: The first rows that cannot be done.
        bad_count: How many there are in all.
    """

    jobs: int
    repeated: int
    images: Mapping[str, int]
    pictures: int
    bytes: int
    bad: Sequence[BadRow]
    bad_count: int


async def survey(manifest: Manifest) -> Survey:
    """Check every row and every picture of a manifest, without sending anything.

    What was seen is kept in a temporary file, so the memory it takes does not grow with the manifest.

    Raises:
        InvalidArgumentError: The manifest cannot be read.

    Cancelling it leaves nothing behind.
    """
    rows = manifest.rows()
    # One worker thread after another uses it, never two at once. Without a name, it is a temporary file.
    seen = await to_thread.run_sync(
        partial(sqlite3.connect, "", check_same_thread=False, isolation_level=None)
    )
    try:
        count = _Count(seen)
        await to_thread.run_sync(seen.executescript, _TABLES)
        while chunk := await to_thread.run_sync(lambda: list(islice(rows, _CHUNK))):
            new = await to_thread.run_sync(count.new_pictures, chunk)
            looks = await for_each(_look, new) if new else []
            await to_thread.run_sync(count.add, looks, chunk)
        return count.result()
    finally:
        with CancelScope(shield=True):
            await to_thread.run_sync(rows.close)
            await to_thread.run_sync(seen.close)


@attrs.frozen
class _Look:
    key: str
    size: int
    complaint: str | None = None


async def _look(image: str) -> _Look:
    try:
        return _Look(_key(image), (await inputs.open_media(image)).size)
    except ImageError as error:
        return _Look(_key(image), 0, error.message)


def _key(image: str) -> str:
    """Return what a picture is remembered by; a ``data:`` URL may be many megabytes long."""
    return f"data:{hashlib.sha256(image.encode()).hexdigest()}" if is_data_url(image) else image


def _picture(job: Job) -> str | None:
    """Return what has to be uploaded for a job of a manifest."""
    image = job.image
    return image if isinstance(image, str) and inputs.remote_url(image) is None else None


@attrs.define
class _Count:
    seen: sqlite3.Connection
    jobs: int = 0
    repeated: int = 0
    images: Counter[str] = attrs.field(factory=Counter[str])
    pictures: int = 0
    bytes: int = 0
    bad: list[BadRow] = attrs.field(factory=list[BadRow])
    bad_count: int = 0

    def new_pictures(self, rows: Sequence[Row | BadRow]) -> list[str]:
        """Return the pictures that were not looked at yet."""
        wanted = {
            _key(picture): picture for row in rows if isinstance(row, Row) and (picture := _picture(row.job))
        }
        return [picture for key, picture in wanted.items() if self._find("pictures", "path", key) is None]

    def add(self, looks: Sequence[_Look], rows: Sequence[Row | BadRow]) -> None:
        """Count rows, whose pictures have been looked at."""
        for look in looks:
            self.seen.execute("INSERT INTO pictures VALUES (?, ?, ?)", (look.key, look.size, look.complaint))
            if look.complaint is None:
                self.pictures += 1
                self.bytes += look.size
        for row in rows:
            complaint = row.complaint if isinstance(row, BadRow) else self._complaint(row)
            if complaint is not None:
                self.bad_count += 1
                if len(self.bad) < LISTED:
                    self.bad.append(BadRow(row.place, complaint))
            elif isinstance(row, Row):
                self._count(row.job)

    def _complaint(self, row: Row) -> str | None:
        picture, job_id = _picture(row.job), row.job.id
        if picture is not None:
            (_, _, complaint) = self._find("pictures", "path", _key(picture)) or (None, None, None)
            if complaint is not None:
                return str(complaint)
        if job_id is not None:
            earlier = self._find("ids", "id", job_id)
            if earlier is not None:
                return f"Its id {job_id} is that of {earlier[1]} already."
            self.seen.execute("INSERT INTO ids VALUES (?, ?)", (job_id, row.place))
        return None

    def _count(self, job: Job) -> None:
        model = job.model or DEFAULT_MODEL
        if job.id is None:
            digest = payload_digest([_key(str(job.image))], job.prompt, model, job.n, job.options)
            if not self.seen.execute("INSERT OR IGNORE INTO works VALUES (?)", (digest,)).rowcount:
                self.repeated += 1
                return
        self.jobs += 1
        self.images[model] += job.n

    def _find(self, table: str, column: str, value: str) -> tuple[object, ...] | None:
        found = self.seen.execute(f"SELECT * FROM {table} WHERE {column} = ?", (value,))  # noqa: S608 own names
        row: tuple[object, ...] | None = found.fetchone()
        return row

    def result(self) -> Survey:
        return Survey(
            self.jobs, self.repeated, self.images, self.pictures, self.bytes, tuple(self.bad), self.bad_count
        )
