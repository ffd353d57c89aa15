"""The jobs of earlier runs, as the check of a manifest needs them; blocks."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs

from apimart_async.batch.journal.opening import read_records

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator

    from apimart_async.batch.job import Status
    from apimart_async.batch.journal.record import Record

_TABLE: Final = "CREATE TABLE journal (id TEXT PRIMARY KEY, payload TEXT NOT NULL, status TEXT) WITHOUT ROWID"


@attrs.define
class Earlier:
    """Sums over a journal.

    Attributes:
        spent: USD of the costs that are known.
        outstanding: Images that may be billed at a cost that is not known yet, by model.
        doubtful: Those of them that are of jobs in doubt.
        jobs_in_doubt: Number of these jobs.
        prices: The highest cost of an image in USD, by model.
    """

    spent: float = 0.0
    outstanding: Counter[str] = attrs.field(factory=Counter[str])
    doubtful: Counter[str] = attrs.field(factory=Counter[str])
    jobs_in_doubt: int = 0
    prices: dict[str, float] = attrs.field(factory=dict[str, float])

    def add(self, record: Record) -> None:
        """Count a job."""
        self.spent += record.cost or 0.0
        if record.cost and record.paths:
            price = record.cost / len(record.paths)
            self.prices[record.model] = max(price, self.prices.get(record.model, 0.0))
        if record.cost is None and record.state not in {"saved", "failed"}:
            self.outstanding[record.model] += record.n
            if record.outcome(Path()).status == "in_doubt":
                self.doubtful[record.model] += record.n
                self.jobs_in_doubt += 1


def read_earlier(
    journal: Path | str,
    tables: sqlite3.Connection,
    *,
    retry_failed: bool,
    retry_missing: bool,
    resubmit_in_doubt: bool,
) -> Earlier:
    """Write the jobs of a journal to a table ``journal`` of ids, payloads and statuses, and return the sums.

    Jobs that the next run submits have no status.

    Raises:
        JournalError: The journal is damaged or of a newer version.
    """
    sums = Earlier()

    def rows() -> Iterator[tuple[str, str, Status | None]]:
        for record in read_records(journal, "", may_be_missing=True):
            sums.add(record)
            status = record.outcome(Path()).status
            is_left = (
                (status == "failed" and (retry_failed or record.key is None))
                or (status == "in_doubt" and resubmit_in_doubt)
                or (record.is_missing and retry_missing)
            )
            yield record.id, record.payload, None if is_left else status

    tables.execute(_TABLE)
    tables.executemany("INSERT INTO journal VALUES (?, ?, ?)", rows())
    return sums
