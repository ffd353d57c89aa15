"""What the jobs of a batch share."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs

from apimart_async.batch.budget import Budget
from apimart_async.batch.journal import Journal
from apimart_async.batch.services import EditService
from apimart_async.batch.stopping import Stop
from apimart_async.errors import JournalError
from apimart_async.transport.rate_limit import Gate

if TYPE_CHECKING:
    from apimart_async.batch.record import Record

PRICES: Final = "prices"
"""What the journal keeps prices under."""

log: logging.Logger = logging.getLogger("apimart_async")


@attrs.frozen(kw_only=True)
class Facilities:
    """What the jobs of a batch share.

    Attributes:
        service: Does the edits.
        journal: Entered.
        stop: Whether anything more is begun.
        budget: What may be spent.
        places: For jobs from their submit until their task has ended.
        downloads: For jobs whose images are fetched.
        directory: Where images go.
        resubmits: Whether jobs in doubt are submitted again.
        retries_failed: Whether failed jobs are.
        timeout: Seconds to wait for a task; the client's by default.
    """

    service: EditService
    journal: Journal
    stop: Stop
    budget: Budget
    places: Gate
    downloads: Gate
    directory: Path
    resubmits: bool = False
    retries_failed: bool = False
    timeout: float | None = None

    async def keep_prices(self) -> None:
        """Keep what has been learnt about prices: a run after a crash needs it to keep within the budget."""
        if self.budget.has_news:
            self.budget.has_news = False
            try:
                await self.journal.put_state(PRICES, json.dumps(self.budget.prices).encode())
            except JournalError as error:
                self.stop.because(error)

    async def put(self, record: Record) -> Record:
        """Write a row about what has happened already; failing to do so must not lose it from sight."""
        try:
            await self.journal.put(record)
        except JournalError as error:
            self.stop.because(error)
            log.error(  # noqa: TRY400 the error itself is what the batch ends with
                "Job %s is %s and the journal does not know it: task %s, idempotency key %s.",
                record.id,
                record.state,
                record.task.id if record.task else None,
                record.key,
            )
        return record
