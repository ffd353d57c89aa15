"""The check of a manifest before anything is paid: its mistakes, and the amount of work in it."""

from __future__ import annotations

import hashlib
import sqlite3
from array import array
from collections import Counter
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import attrs
from anyio import CancelScope, to_thread

from apimart_async.batch.job import Status
from apimart_async.batch.journal.opening import is_url
from apimart_async.batch.manifest.earlier import Earlier, read_earlier
from apimart_async.batch.manifest.reader import next_rows
from apimart_async.batch.manifest.rows import (
    BadRow,
    EmbeddedImage,
    Row,
    Skipped,
    all_images,
    is_remote,
)
from apimart_async.batch.requests import model_of, payload_digest
from apimart_async.errors import ImageError, InvalidArgumentError
from apimart_async.resources import submission
from apimart_async.resources.submission import Operation
from apimart_async.transport.concurrency import for_each
from apimart_async.transport.media import forms, inputs
from apimart_async.transport.media.data_urls import is_data_url

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence

    from apimart_async.batch.job import Job
    from apimart_async.batch.manifest.reader import Manifest

Image: TypeAlias = str | EmbeddedImage

MAX_LISTED: Final = 20
"""Number of bad rows and left-out files that are kept; the others are counted."""

MAX_COLUMNS: Final = 100
"""Number of names of columns that are kept."""

_CACHE_KIB: Final = 8 * 1024

_TABLES: Final = f"""
PRAGMA cache_size = -{_CACHE_KIB};
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
CREATE TABLE ids (id TEXT PRIMARY KEY, location TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE works (digest TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE pictures (
    key TEXT PRIMARY KEY, bytes INTEGER NOT NULL, complaint TEXT, digest TEXT, used INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX sizes ON pictures (bytes, digest);
CREATE INDEX digests ON pictures (digest);
BEGIN;
"""


@attrs.define
class Preflight:
    """The content of a manifest.

    Attributes:
        jobs: Rows that are jobs; of equal ones only the first.
        repeated: Rows that are equal to an earlier one.
        started: Jobs that the journal has, by the state that the next run reports.
        left: Jobs that the next run submits.
        images: Billable images that the next run submits, by model.
        free: Other images that it submits.
        pictures: Different images to be uploaded for them.
        bytes: Total size of these pictures.
        options: Columns that are sent as options of the request.
        extra: Columns that are carried into ``results.jsonl``.
        skipped: Left-out files by the reason.
        skipped_names: The first of their names.
        bad: The first bad rows.
        bad_rows: The numbers of all bad rows, from 0.
        earlier: Sums over the journal; ``None`` when it was not read.
    """

    jobs: int = 0
    repeated: int = 0
    started: Counter[Status] = attrs.field(factory=Counter[Status])
    left: int = 0
    images: Counter[str] = attrs.field(factory=Counter[str])
    free: int = 0
    pictures: int = 0
    bytes: int = 0
    options: dict[str, None] = attrs.field(factory=dict[str, None])
    extra: dict[str, None] = attrs.field(factory=dict[str, None])
    skipped: Counter[str] = attrs.field(factory=Counter[str])
    skipped_names: tuple[str, ...] = ()
    bad: tuple[BadRow, ...] = ()
    bad_rows: array[int] = attrs.field(factory=lambda: array("Q"))
    earlier: Earlier | None = None

    @property
    def bad_count(self) -> int:
        """Return the number of bad rows in all."""
        return len(self.bad_rows)

    @property
    def rows(self) -> int:
        """Return the number of rows in all."""
        return self.jobs + self.repeated + self.bad_count


async def preflight(
    manifest: Manifest,
    *,
    journal: Path | str | None = None,
    retry_failed: bool = False,
    retry_missing: bool = False,
    resubmit_in_doubt: bool = False,
    check: Callable[[Job], Awaitable[None]] | None = None,
) -> Preflight:
    """Check every row and every image of a manifest, without sending anything itself.

    Seen ids and images are kept in a temporary file, so memory does not grow with the manifest, but by eight
    bytes for each bad row.

    Args:
        manifest: Read once.
        journal: Path or URL of the journal that the batch will use. With it, its jobs are distinguished from
            those that are left, and images of equal content count as one: images are read, not only
            examined, if there is such a file or another image has the same size.
        retry_failed: As the batch will be run.
        retry_missing: As the batch will be run.
        resubmit_in_doubt: As the batch will be run.
        check: Checks each job too, and raises ``InvalidArgumentError``.

    Raises:
        InvalidArgumentError: The manifest cannot be read.
        JournalError: The journal is damaged or of a newer version.

    Cancellation leaves nothing behind.
    """
    rows = manifest.rows()
    # Used by one worker thread at a time. Without a name it is a temporary file.
    seen = await to_thread.run_sync(
        partial(sqlite3.connect, "", check_same_thread=False, isolation_level=None)
    )
    try:
        await to_thread.run_sync(seen.executescript, _TABLES)
        count = _Count(seen, manifest.options.models)
        if journal is not None and (is_url(journal) or await to_thread.run_sync(Path(journal).is_file)):
            again = {
                "retry_failed": retry_failed,
                "retry_missing": retry_missing,
                "resubmit_in_doubt": resubmit_in_doubt,
            }
            count.found.earlier = await to_thread.run_sync(partial(read_earlier, journal, seen, **again))
        convert = manifest.options.convert
        read = partial(_read, convert=convert)
        examine = partial(_examine, convert=convert) if count.found.earlier is None else read
        while chunk := await to_thread.run_sync(next_rows, rows):
            if check is not None:
                chunk = [await _checked(row, check) for row in chunk]
            new = await to_thread.run_sync(count.new_pictures, chunk)
            await to_thread.run_sync(count.add_pictures, await for_each(examine, new))
            if journal is not None:
                twins = await to_thread.run_sync(count.same_size, new)
                await to_thread.run_sync(count.add_pictures, await for_each(read, twins))
            await to_thread.run_sync(count.add, chunk)
        return count.found
    finally:
        with CancelScope(shield=True):
            await to_thread.run_sync(rows.close)
            await to_thread.run_sync(seen.close)


async def _checked(
    row: Row | BadRow | Skipped, check: Callable[[Job], Awaitable[None]]
) -> Row | BadRow | Skipped:
    """Return a row, as a bad one if its job does not pass a check."""
    if isinstance(row, Row):
        try:
            await check(row.job)
        except InvalidArgumentError as error:
            return BadRow(row.location, error.message)
    return row


_Picture: TypeAlias = tuple[str, int, str | None, str | None]
"""Key, size, mistake and digest of an image."""


async def _examine(image: Image, *, convert: bool) -> _Picture:
    """Return the size of an image, and the mistake in it."""
    if isinstance(image, EmbeddedImage) or is_data_url(image):
        return await _read(image, convert=convert)
    try:
        return image, (await inputs.open_media(image, convert=convert)).size, None, None
    except ImageError as error:
        return image, 0, error.message, None


async def _read(image: Image, *, convert: bool) -> _Picture:
    """Return the size of an image and its digest, and the mistake in it."""
    try:
        media = await inputs.open_and_digest(image, convert=convert)
    except ImageError as error:
        return _key(image), 0, error.message, None
    return _key(image), media.size, None, media.digest


def _digest(job: Job, model: str, images: Sequence[str]) -> str:
    """Return the digest of a job whose images and mask have these digests."""
    options = job.options
    if "mask" in options:
        *images, mask = images
        options = {**options, "mask": mask}
    return payload_digest(job, model, images, options)


def _key(image: Image) -> str:
    """Return the key of an image in the tables; one inside the manifest may be many megabytes long."""
    if isinstance(image, EmbeddedImage):
        return f"bytes:{hashlib.sha256(image.getbuffer()).hexdigest()}"
    return f"data:{hashlib.sha256(image.encode()).hexdigest()}" if is_data_url(image) else image


@attrs.frozen
class _Count:
    """Counts rows; ``seen`` has the tables of ids, images and earlier jobs."""

    seen: sqlite3.Connection
    models: Mapping[Operation, str]
    found: Preflight = attrs.field(factory=Preflight)

    def new_pictures(self, rows: Sequence[Row | BadRow | Skipped]) -> list[Image]:
        """Return the images that were not checked yet."""
        wanted = {
            _key(picture): picture
            for row in rows
            if isinstance(row, Row)
            for picture in all_images(row.job)
            if not is_remote(picture)
        }
        query = "SELECT 1 FROM pictures WHERE key = ?"
        return [picture for key, picture in wanted.items() if self._find(query, key) is None]

    def add_pictures(self, checked: Iterable[_Picture]) -> None:
        """Keep the facts about images."""
        self.seen.executemany(
            "INSERT INTO pictures (key, bytes, complaint, digest) VALUES (?, ?, ?, ?) "
            "ON CONFLICT (key) DO UPDATE SET complaint = excluded.complaint, digest = excluded.digest",
            checked,
        )

    def same_size(self, new: Iterable[Image]) -> list[Image]:
        """Return the files without a digest that have the size of a new image, if there are several."""
        query = "SELECT bytes FROM pictures WHERE key = ? AND complaint IS NULL"
        sizes = {size for image in new for (size,) in self.seen.execute(query, (_key(image),))}
        twins: list[Image] = []
        for size in sizes:
            same = self.seen.execute("SELECT key, digest FROM pictures WHERE bytes = ? LIMIT 2", (size,))
            if len(same.fetchall()) > 1:
                query = "SELECT key FROM pictures WHERE bytes = ? AND digest IS NULL AND complaint IS NULL"
                twins += [key for (key,) in self.seen.execute(query, (size,))]
        return twins

    def add(self, rows: Iterable[Row | BadRow | Skipped]) -> None:
        """Count rows whose images were checked."""
        found = self.found
        for row in rows:
            if isinstance(row, Skipped):
                found.skipped[row.reason] += 1
                if len(found.skipped_names) < MAX_LISTED:
                    found.skipped_names += (row.location,)
                continue
            complaint = row.complaint if isinstance(row, BadRow) else self._count(row)
            if complaint is not None:
                found.bad_rows.append(found.rows)
                if len(found.bad) < MAX_LISTED:
                    found.bad += (BadRow(row.location, complaint),)

    def _count(self, row: Row) -> str | None:
        """Count a job, or return the reason why it cannot be done."""
        job, found = row.job, self.found
        model = model_of(job, self.models)
        facts = [self._facts(row, image) for image in all_images(job)]
        if complaints := [each for each in facts if isinstance(each, str)]:
            return complaints[0]
        keys, contents = [each[0] for each in facts], [each[1] for each in facts]
        payload = _digest(job, model, contents)
        known, status = self._known(job.id or payload[:32])
        if known and known != payload:
            return (
                f"Its id {job.id} is that of another image, prompt, model or options in the journal: give "
                "this row another id."
            )
        if job.id is not None:
            earlier = self._find("SELECT location FROM ids WHERE id = ?", job.id)
            if earlier is not None:
                return f"Its id {job.id} is that of {earlier[0]} already."
            self.seen.execute("INSERT INTO ids VALUES (?, ?)", (job.id, row.location))
        self._note_columns(job)
        work = job.id or (payload if keys == contents else _digest(job, model, keys))
        if not self.seen.execute("INSERT OR IGNORE INTO works VALUES (?)", (work,)).rowcount:
            found.repeated += 1
            return None
        found.jobs += 1
        if status is not None:
            found.started[status] += 1
            return None
        found.left += 1
        if submission.is_free(job.operation):
            found.free += job.n
        else:
            found.images[model] += job.n
        query = "UPDATE pictures SET used = 1 WHERE key = ? AND NOT used RETURNING bytes"
        for key in keys:
            if (used := self._find(query, key)) is not None:
                found.pictures += 1
                found.bytes += used[0]
        return None

    def _facts(self, row: Row, image: Image) -> str | tuple[str, str]:
        """Return the key and the digest of an image, the URL of a remote one twice, or the mistake in it."""
        if is_remote(image):
            return image, image
        key = _key(image)
        complaint, digest = self._get("SELECT complaint, digest FROM pictures WHERE key = ?", key)
        if complaint is not None:
            # A row of a folder is called as its image is.
            name = forms.shown(str(image))
            is_named = str(image).endswith(row.location) and complaint.startswith(name)
            return row.location + complaint.removeprefix(name) if is_named else str(complaint)
        if digest is None:
            return key, key
        # The first image of equal content stands for all of them.
        (key,) = self._get("SELECT key FROM pictures WHERE digest = ? ORDER BY rowid", digest)
        return key, digest

    def _known(self, job_id: str) -> tuple[str, Status | None]:
        """Return the payload and the status of a job of an earlier run that the next run does not submit."""
        if self.found.earlier is None:
            return "", None
        return self._find("SELECT payload, status FROM journal WHERE id = ?", job_id) or ("", None)

    def _note_columns(self, job: Job) -> None:
        for columns, names in ((self.found.options, job.options), (self.found.extra, job.extra)):
            if len(columns) < MAX_COLUMNS:
                columns.update(dict.fromkeys(names))

    def _get(self, query: str, value: str) -> tuple[Any, ...]:
        row = self._find(query, value)
        if row is None:
            raise LookupError(value)
        return row

    def _find(self, query: str, value: str) -> tuple[Any, ...] | None:
        row: tuple[Any, ...] | None = self.seen.execute(query, (value,)).fetchone()
        return row
