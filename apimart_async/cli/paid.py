"""The paid requests of ``edit`` and ``generate``: on the runner of a batch, with a journal in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import attrs

from apimart_async.batch import BatchOptions, Job, JobProgress, Record, Runner, SqliteJournal
from apimart_async.batch.backends import ApimartBackend, Backend, PreparedJob, following
from apimart_async.cli.run import GRACE, IN_FLIGHT, Run
from apimart_async.errors import ApimartError, DownloadError
from apimart_async.transport.concurrency import for_each
from apimart_async.transport.files.names import DEFAULT_TEMPLATE, template_of
from apimart_async.transport.media import inputs

if TYPE_CHECKING:
    from apimart_async.models import Task, Upload
    from apimart_async.transport.api import SendHooks
    from apimart_async.transport.media.inputs import ImageInput, SingleImage


async def run_paid(
    run: Run,
    backend: Backend,
    jobs: Sequence[Job],
    output: Path,
    *,
    timeout: float | None = None,
) -> None:
    """Run one paid job for each item.

    Args:
        run: Its items change with the jobs, and name the files.
        backend: The service.
        jobs: One for each item, in the same order; the id is the index.
        output: Directory for the images.
        timeout: Seconds to wait for each task.

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
            # Without a record it is not sent yet, or was refused.
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


@attrs.define(eq=False)
class GenerationBackend(ApimartBackend):
    """APIMart with generations instead of edits.

    Args:
        client: Client of the service.
        inline: Send local images inside the paid request instead of uploading them.
        mask: Image of the area to change.
        arguments: Further arguments of ``generations.create``.
    """

    _mask: str | None = attrs.field(kw_only=True, alias="mask")
    _arguments: Mapping[str, Any] = attrs.field(kw_only=True, alias="arguments")

    async def prepare(self, job: Job) -> PreparedJob:
        """Describe the job; the command has checked its images."""
        return PreparedJob(job=job, record=Record.describe(job, job.model or "", job_id=job.id))

    async def upload(self, prepared: PreparedJob) -> ImageInput:
        """Upload local images, and the mask as the last of them."""

        async def upload(image: SingleImage) -> str | Upload:
            if self._inline or inputs.remote_url(image) is not None:
                return cast("str", image)
            return await self._client.uploads.get_or_create(image)

        images = cast("list[SingleImage]", prepared.job.image)
        return await for_each(upload, images if self._mask is None else [*images, self._mask])

    async def submit(self, prepared: PreparedJob, images: ImageInput, key: str, hooks: SendHooks) -> Task:
        """Submit the generation."""
        references = list(cast("list[SingleImage]", images))
        mask = None if self._mask is None else references.pop()
        with following(hooks):
            return await self._client.generations.create(
                prepared.job.prompt,
                model=prepared.record.model,
                images=references,
                mask=mask,
                inline=self._inline,
                idempotency_key=key,
                **self._arguments,
            )
