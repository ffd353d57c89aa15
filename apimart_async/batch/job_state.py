"""The state of one job in this run: its row in the journal is written, and its progress is reported, here."""

from __future__ import annotations

import logging
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import attrs

from apimart_async import errors
from apimart_async.batch.backends import PreparedJob
from apimart_async.batch.context import Context
from apimart_async.batch.job import Job, Outcome
from apimart_async.batch.progress import JobProgress, Stage

if TYPE_CHECKING:
    from apimart_async.batch.journal.record import Record

_log: Final = logging.getLogger("apimart_async.batch")


@attrs.define
class JobState:
    """One job in this run.

    Attributes:
        context: Shared state of the batch.
        job: The job as the caller gave it.
        prepared: The job as it is sent; set before any row is written.
        error: The last error of this run; the journal keeps only its message and class.
        earlier_seconds: Seconds that earlier runs spent on it.
    """

    context: Context
    job: Job
    prepared: PreparedJob = attrs.field(init=False)
    error: Exception | None = attrs.field(init=False, default=None)
    earlier_seconds: float = attrs.field(init=False, default=0.0)
    _started: float = attrs.field(init=False, factory=time.monotonic)

    async def put(self, record: Record) -> Record:
        """Write a row about a past event; if that fails, shut down and log its ids."""
        try:
            await self.context.journal.put(record)
        except errors.JournalError as error:
            self.context.shutdown.fail(error)
            _log_ids(record, "does not know")
        return record

    async def put_answer(self, record: Record) -> Record:
        """Write the row of the answer to a paid request.

        Cancellation leaves it to be written, and logs its ids.
        """
        try:
            return await self.put(record)
        except BaseException:
            # Another Ctrl-C may end the program before it is written.
            _log_ids(record, "may not know")
            raise

    def report_stop(self, error: Exception) -> None:
        """Report the error that stops the batch once, although other jobs in flight fail with it too."""
        if self.context.shutdown.reason is error:
            self.report("failed", error=error)

    def report(
        self,
        stage: Stage,
        record: Record | None = None,
        error: Exception | None = None,
        outcome: Outcome | None = None,
    ) -> None:
        """Report that the job enters a stage; an error of the callback ends the batch."""
        on_job = self.context.options.on_job
        if on_job is not None:
            try:
                on_job(JobProgress(self.job, stage, record, error, outcome))
            except Exception as raised:  # noqa: BLE001 the caller's own: the iterator raises it
                self.context.shutdown.fail(raised)

    def seconds(self) -> float:
        """Return the seconds spent on the job, those of earlier runs included."""
        return self.earlier_seconds + time.monotonic() - self._started


def _log_ids(record: Record, knows: str) -> None:
    """Log the ids of paid work that may be missing from the journal."""
    if record.key is not None:
        task = f"task {record.task.id}, " if record.task else ""
        text = f"Job {record.id} is {record.state}, which its journal {knows}: {task}"
        _write_error(errors.visible(f"{text}idempotency key {record.key}."))


def _write_error(text: str) -> None:
    """Log a message, and write it to stderr: a log is often on the disk that is full."""
    if _log.hasHandlers():
        _log.error("%s", text)
    with suppress(OSError, ValueError, AttributeError):  # closed, on that disk, or missing (pythonw.exe)
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()
