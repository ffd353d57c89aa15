"""The paid requests of ``edit`` and ``generate``: on the runner of a batch, with a journal in memory."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from apimart_async.batch import BatchOptions, Job, JobProgress, Runner, SqliteJournal
from apimart_async.batch.backends import ApimartBackend, Backend
from apimart_async.cli.run import GRACE, IN_FLIGHT, Run
from apimart_async.errors import ApimartError, DownloadError
from apimart_async.transport.files.names import DEFAULT_TEMPLATE, template_of


async def run_paid(
    run: Run,
    backend: Backend,
    jobs: Sequence[Job],
    output: Path,
    *,
    timeout: float | None = None,
    max_cost: float | None = None,
) -> None:
    """Run one paid job for each item.

    Args:
        run: Its items change with the jobs, and name the files.
        backend: The service.
        jobs: One for each item, in the same order; the id is the index.
        output: Directory for the images.
        timeout: Seconds to wait for each task.
        max_cost: USD that all jobs may cost.

    Cancellation leaves paid requests in flight 3 seconds for their answer.
    """

    def note(event: JobProgress) -> None:
        item, record = run.items[int(event.job.id or 0)], event.record
        if event.stage == "done" or event.stage == "failed":  # noqa: PLR1714 mypy narrows this one alone
            error = event.error
            if event.outcome is not None:
                item.task, item.paths = event.outcome.task or item.task, event.outcome.paths
            if item.images is not None and isinstance(error, DownloadError):
                error.message = f"{error.message.rstrip('.')}. {item.doubt}"
            run.end(item, event.stage, error)
            return
        is_new = record is not None and record.task is not None and item.task is None
        if event.stage == "submitting" or record is not None:
            # Without a record, the request is not sent yet, or was refused.
            item.is_submitted = record is not None
            item.task = record.task if record else None
            item.images = record.images if record else None
            item.idempotency_key = record.key if record and has_keys else None
        item.enter(event.stage)
        if is_new:
            run.submitted(item)

    has_keys = isinstance(backend, ApimartBackend)
    options = BatchOptions(
        output=output,
        max_in_flight=IN_FLIGHT,
        grace=GRACE,
        template=partial(_template, run),
        timeout=timeout,
        max_cost=max_cost,
        write_results=False,
        on_job=note,
    )
    try:
        async with Runner(backend, jobs, SqliteJournal(":memory:"), options) as outcomes:
            run.runner = outcomes
            async for _ in outcomes:
                pass
    except ApimartError:
        # An error that ends the run early is nearly always reported on the item that met it.
        if not any(item.stage == "failed" for item in run.items):
            raise


def _template(run: Run, job: Job) -> str:
    name = run.items[int(job.id or 0)].name
    return DEFAULT_TEMPLATE if name is None else template_of(name, job.n)
