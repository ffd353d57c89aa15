"""The paid requests of ``edit`` and ``generate``: on the runner of a batch, with a journal in memory."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TypeAlias

from anyio import CancelScope, to_thread

from apimart_async.batch import BatchOptions, Job, JobProgress, Runner, SqliteJournal
from apimart_async.batch.backends import ApimartBackend, Backend
from apimart_async.cli.display.item import Item
from apimart_async.cli.run import GRACE, IMAGE_GRACE, IN_FLIGHT, Run
from apimart_async.errors import ApimartError, DownloadError
from apimart_async.models import ImageSet
from apimart_async.transport.files.names import DEFAULT_TEMPLATE, template_of

_Unsaved: TypeAlias = tuple[Item, ImageSet, DownloadError]


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

    Cancellation leaves paid requests in flight ``run.grace`` seconds for their answer, 600 without tasks.
    """

    def note(event: JobProgress) -> None:
        item, record = run.items[int(event.job.id or 0)], event.record
        if event.stage == "done" or event.stage == "failed":  # noqa: PLR1714 mypy narrows this one alone
            error = event.error
            if event.outcome is not None:
                item.task, item.paths = event.outcome.task or item.task, event.outcome.paths
            if item.images is not None and isinstance(error, DownloadError):
                if error.errno is not None:
                    unsaved.append((item, item.images, error))
                    return
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

    unsaved: list[_Unsaved] = []
    has_keys = isinstance(backend, ApimartBackend)
    run.grace = GRACE if backend.has_tasks else IMAGE_GRACE
    options = BatchOptions(
        output=output,
        max_in_flight=IN_FLIGHT,
        grace=run.grace,
        template=partial(_template, run),
        timeout=timeout,
        max_cost=max_cost,
        write_results=False,
        on_job=note,
    )
    try:
        try:
            async with Runner(backend, jobs, SqliteJournal(":memory:"), options) as outcomes:
                run.runner = outcomes
                async for _ in outcomes:
                    pass
        finally:
            with CancelScope(shield=True):
                await _save_elsewhere(run, backend, output, unsaved)
    except ApimartError as error:
        _report_stop(run, error)


async def _save_elsewhere(run: Run, backend: Backend, output: Path, unsaved: list[_Unsaved]) -> None:
    """Save images that no task remembers, and that their directory did not take, in a temporary one."""
    for item, images, error in unsaved:
        place = item.doubt
        with suppress(ApimartError, OSError):
            folder = Path(await to_thread.run_sync(partial(tempfile.mkdtemp, prefix="apimart-")))
            template = template_of(item.name or "image", len(images.images))
            item.paths = await backend.save(images, folder, template)
            place = f"It is paid for, and its images are in {folder} instead."
        error.message = f"Nothing can be saved in {output}: {os.strerror(error.errno or 0)}. {place}"
        run.end(item, "failed", error)


def _report_stop(run: Run, error: ApimartError) -> None:
    """Report the error that has ended the run early, unless that was done on the item that met it."""
    reason = error.__cause__ if isinstance(error.__cause__, ApimartError) else error
    if any(item.error is reason for item in run.items):
        return
    stopped = next((item for item in run.items if not item.has_ended and item.stage != "queued"), None)
    if stopped is None:
        raise error
    run.end(stopped, "failed", reason)


def _template(run: Run, job: Job) -> str:
    name = run.items[int(job.id or 0)].name
    return DEFAULT_TEMPLATE if name is None else template_of(name, job.n)
