"""The check of a manifest before anything is paid: its mistakes, and the amount of work in it."""

from __future__ import annotations

import hashlib
import sqlite3
from collections import Counter
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Final

import attrs
from anyio import CancelScope, to_thread

from apimart_async.batch.backends import payload_digest
from apimart_async.batch.manifest.reader import ROWS_AT_ONCE
from apimart_async.batch.manifest.rows import BadRow, Row
from apimart_async.errors import ImageError
from apimart_async.resources.edits import DEFAULT_MODEL
from apimart_async.transport.concurrency import for_each
from apimart_async.transport.media import inputs
from apimart_async.transport.media.data_urls import is_data_url

if TYPE_CHECKING:
    from collections.abc import Sequence

    from apimart_async.batch.job import Job
    from apimart_async.batch.manifest.reader import Manifest

MAX_LISTED: Final = 20
"""Number of bad rows that are kept; the others are counted."""

_CACHE_KIB: Final = 8 * 1024

_TABLES: Final = f"""
PRAGMA cache_size = -{_CACHE_KIB};
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
CREATE TABLE ids (id TEXT PRIMARY KEY, location TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE works (digest TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE pictures (path TEXT PRIMARY KEY, bytes INTEGER NOT NULL, complaint TEXT) WITHOUT ROWID;
BEGIN;
"""


@attrs.define
class Preflight:
    """The content of a manifest.

    Attributes:
        jobs: Rows that are jobs; of equal ones only the first.
        repeated: Rows that are equal to an earlier one.
        images: Images to be made, by model.
        pictures: Different images to be uploaded.
        bytes: Their size together.
        bad: The first bad rows.
        bad_count: Number of bad rows in all.
    """

    jobs: int = 0
    repeated: int = 0
    images: Counter[str] = attrs.field(factory=Counter[str])
    pictures: int = 0
    bytes: int = 0
    bad: tuple[BadRow, ...] = ()
    bad_count: int = 0


async def preflight(manifest: Manifest) -> Preflight:
    """Check every row and every image of a manifest, without sending anything.

    Seen ids and images are kept in a temporary file, so memory does not grow with the manifest.

    Raises:
        InvalidArgumentError: The manifest cannot be read.

    Cancellation leaves nothing behind.
    """
    rows = manifest.rows()
    # Used by one worker thread at a time. Without a name it is a temporary file.
    seen = await to_thread.run_sync(
        partial(sqlite3.connect, "", check_same_thread=False, isolation_level=None)
    )
    try:
        count = _Count(seen)
        await to_thread.run_sync(seen.executescript, _TABLES)
        while chunk := await to_thread.run_sync(lambda: list(islice(rows, ROWS_AT_ONCE))):
            new = await to_thread.run_sync(count.new_pictures, chunk)
            checked = await for_each(_check, new) if new else []
            await to_thread.run_sync(count.add, checked, chunk)
        return count.found
    finally:
        with CancelScope(shield=True):
            await to_thread.run_sync(rows.close)
            await to_thread.run_sync(seen.close)


async def _check(image: str) -> tuple[str, int, str | None]:
    """Return the key of an image, its size, and the mistake in it."""
    try:
        return _key(image), (await inputs.open_media(image)).size, None
    except ImageError as error:
        return _key(image), 0, error.message


def _key(image: str) -> str:
    """Return the key of an image in the tables; a ``data:`` URL may be many megabytes long."""
    return f"data:{hashlib.sha256(image.encode()).hexdigest()}" if is_data_url(image) else image


def _picture(job: Job) -> str | None:
    """Return the image that has to be uploaded for a job of a manifest."""
    image = job.image
    return image if isinstance(image, str) and inputs.remote_url(image) is None else None


@attrs.frozen
class _Count:
    seen: sqlite3.Connection
    found: Preflight = attrs.field(factory=Preflight)

    def new_pictures(self, rows: Sequence[Row | BadRow]) -> list[str]:
        """Return the images that were not checked yet."""
        wanted = {
            _key(picture): picture for row in rows if isinstance(row, Row) and (picture := _picture(row.job))
        }
        return [picture for key, picture in wanted.items() if self._find("pictures", "path", key) is None]

    def add(self, checked: Sequence[tuple[str, int, str | None]], rows: Sequence[Row | BadRow]) -> None:
        """Count rows whose images were checked."""
        self.seen.executemany("INSERT INTO pictures VALUES (?, ?, ?)", checked)
        sizes = [size for _, size, complaint in checked if complaint is None]
        self.found.pictures += len(sizes)
        self.found.bytes += sum(sizes)
        for row in rows:
            complaint = row.complaint if isinstance(row, BadRow) else self._complaint(row)
            if complaint is not None:
                self.found.bad_count += 1
                if len(self.found.bad) < MAX_LISTED:
                    self.found.bad += (BadRow(row.location, complaint),)
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
            self.seen.execute("INSERT INTO ids VALUES (?, ?)", (job_id, row.location))
        return None

    def _count(self, job: Job) -> None:
        model = job.model or DEFAULT_MODEL
        if job.id is None:
            digest = payload_digest([_key(str(job.image))], job.prompt, model, job.n, job.options)
            if not self.seen.execute("INSERT OR IGNORE INTO works VALUES (?)", (digest,)).rowcount:
                self.found.repeated += 1
                return
        self.found.jobs += 1
        self.found.images[model] += job.n

    def _find(self, table: str, column: str, value: str) -> tuple[object, ...] | None:
        found = self.seen.execute(f"SELECT * FROM {table} WHERE {column} = ?", (value,))  # noqa: S608 own names
        row: tuple[object, ...] | None = found.fetchone()
        return row
