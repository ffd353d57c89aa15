"""The journal's tables, what is asked of them, and a job's record as one of their rows."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import attrs

from apimart_async.batch.journal import Tally
from apimart_async.batch.record import Failure, Record
from apimart_async.errors import APIResponseValidationError
from apimart_async.models import ImageSet, Task
from apimart_async.transport.json import converter, structure

if TYPE_CHECKING:
    import sqlite3

APPLICATION_ID: Final = 0x41504A4C
"""What marks a SQLite file as a journal: "APJL"."""

VERSION: Final = 1

TABLES: Final = (
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
    f"PRAGMA application_id = {APPLICATION_ID}",
    f"PRAGMA user_version = {VERSION}",
)

SELECT: Final = "SELECT id, state, key, model, images, cost, body FROM jobs WHERE id = ?"

INSERT: Final = (
    "INSERT INTO jobs (id, state, key, model, images, cost, body) VALUES (?, ?, ?, ?, ?, ?, ?) "
    "ON CONFLICT DO NOTHING"
)
UPSERT: Final = (
    "INSERT INTO jobs (id, state, key, model, images, cost, body) VALUES (?, ?, ?, ?, ?, ?, ?) "
    "ON CONFLICT (id) DO UPDATE SET state = excluded.state, key = excluded.key, model = excluded.model, "
    "images = excluded.images, cost = excluded.cost, body = excluded.body"
)
REPLACE: Final = (
    "UPDATE jobs SET state = ?, key = ?, model = ?, images = ?, cost = ?, body = ? "
    "WHERE id = ? AND state = ? AND key IS ?"
)
"""Write a row of which the id comes last, if it still has a state and a key."""

_PAGE: Final = (
    "SELECT rowid, id, state, key, model, images, cost, body FROM jobs WHERE rowid > ? "
    "ORDER BY rowid LIMIT 500"
)

# Billed, or perhaps, at a cost that nobody has told yet.
_OUTSTANDING: Final = (
    "SELECT model, sum(images) FROM jobs WHERE cost IS NULL AND state NOT IN ('saved', 'failed') "
    "GROUP BY model"
)

Row: TypeAlias = tuple[str, str, str | None, str, int, float | None, str]


class UnreadableRowError(Exception):
    """A row does not hold what it should."""


def to_row(record: Record) -> Row:
    """Write a record as a row.

    The columns are what is searched and added up; the rest is JSON, so that a reader of this version can skip
    what a later one adds.
    """
    body = {
        "payload": record.payload,
        "image": record.image,
        "prompt": record.prompt,
        "name": record.name,
        "options": dict(record.options),
        "task": converter.unstructure(record.task) if record.task else None,
        "images": converter.unstructure(record.images) if record.images else None,
        "paths": list(record.paths),
        "error": attrs.asdict(record.error) if record.error else None,
        "seconds": record.seconds,
        "changed_at": record.changed_at.timestamp(),
    }
    text = json.dumps({name: value for name, value in body.items() if value}, default=repr)
    return record.id, record.state, record.key, record.model, record.n, record.cost, text


def to_record(row: Row) -> Record:
    """Read a row.

    Raises:
        UnreadableRowError: It was not written by this package, or has been damaged since.
    """
    job_id, state, key, model, images, cost, text = row
    try:
        body: dict[str, Any] = json.loads(text)
        task, image_set, error = body.get("task"), body.get("images"), body.get("error")
        return Record(
            id=job_id,
            state=state,  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
            payload=body.get("payload", ""),
            image=body.get("image", ""),
            prompt=body.get("prompt", ""),
            model=model,
            n=images,
            name=body.get("name"),
            options=body.get("options", {}),
            key=key,
            task=structure(task, Task, task) if task else None,
            images=structure(image_set, ImageSet, image_set) if image_set else None,
            paths=tuple(body.get("paths", ())),
            error=Failure(**error) if error else None,
            cost=cost,
            seconds=body.get("seconds", 0.0),
            changed_at=datetime.fromtimestamp(body["changed_at"], UTC),
        )
    except (ValueError, TypeError, KeyError, AttributeError, APIResponseValidationError) as reason:
        raise UnreadableRowError(f"the row of job {job_id!r} cannot be read") from reason


@attrs.frozen
class Page:
    """Some records in the order their rows were first written, and the number of the last row."""

    records: list[Record]
    last: int


def page(connection: sqlite3.Connection, after: int) -> Page | None:
    """Return the records that follow a row, 500 at most; ``None`` when there are none.

    Raises:
        UnreadableRowError: One of them cannot be read.
    """
    rows: list[tuple[int, Row]] = [(row[0], row[1:]) for row in connection.execute(_PAGE, (after,))]
    return Page([to_record(row) for _, row in rows], rows[-1][0]) if rows else None


def tally(connection: sqlite3.Connection) -> Tally:
    """Add the rows up."""
    jobs = connection.execute("SELECT state, count(*) FROM jobs GROUP BY state").fetchall()
    (spent,) = connection.execute("SELECT total(cost) FROM jobs").fetchone()
    return Tally(dict(jobs), spent, dict(connection.execute(_OUTSTANDING).fetchall()))
