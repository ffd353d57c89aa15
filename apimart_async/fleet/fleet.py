"""``Fleet``: the plain data that every worker of a batch needs; it runs shards of jobs."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs
from anyio import to_thread

from apimart_async import errors
from apimart_async.batch.backends import ApimartBackend
from apimart_async.batch.context import BatchOptions
from apimart_async.batch.job import Job, Outcome
from apimart_async.batch.journal.postgres import DAY, PostgresJournal
from apimart_async.batch.journal.postgres_reading import read_tally, read_workers
from apimart_async.batch.manifest.rows import (
    ALIASES,
    IMAGE_COLUMNS,
    Folder,
    ManifestOptions,
    Row,
    column_name,
    read_row,
)
from apimart_async.batch.manifest.tables import plain
from apimart_async.batch.results import as_plain
from apimart_async.batch.runner import Runner
from apimart_async.batch.shutdown import Shutdown
from apimart_async.client import AsyncApimart
from apimart_async.fleet.ray import D, run_with_ray
from apimart_async.sync.portal import Portal
from apimart_async.transport.object_storage import any_path

if TYPE_CHECKING:
    import os
    from collections.abc import AsyncIterable, Callable, Iterable, Mapping

    from apimart_async.batch.journal.postgres_reading import Worker
    from apimart_async.batch.journal.protocol import Tally

_LEASES: Final = 1.5
"""Leases after which the owner of a job is certainly alive."""


def _path(path: str | os.PathLike[str]) -> str:
    return str(any_path(path)) if path else ""


@attrs.frozen(kw_only=True)
class Fleet:
    """A batch that any number of processes and machines share; plain data that can be pickled.

    The key and the address of the service come from the environment of each worker, ``APIMART_API_KEY`` and
    ``APIMART_BASE_URL``. The only secret inside is the password of the journal's URL, if it has one.

    Attributes:
        journal: ``postgresql://user:password@host/database``; the extra ``postgres`` is needed.
        output: Folder for the images: one that all workers reach, such as ``s3://bucket/folder``, or one on
            each.
        requests_per_second: Limit on the paid requests of all workers together, more than 0; none by default.
        max_cost: USD that all workers together may spend, more than 0; no limit by default.
        max_in_flight: Maximum number of jobs of one worker between their submit and the end of their task, 1
            or more; default 256.
        lease: Seconds after which other workers take the jobs of a dead worker, 2 to 86,400; default 30.

    .. versionadded:: 0.1
    """

    journal: str = attrs.field(repr=False)
    output: str = attrs.field(converter=_path)
    requests_per_second: float | None = None
    max_cost: float | None = None
    max_in_flight: int = 256
    lease: float = 30.0

    def run_shard(self, jobs: Iterable[Job | Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Run some jobs of the batch, and return the outcome of each. Billable.

        Repeating a shard is harmless, here or elsewhere: jobs that are saved are skipped, and those of a
        worker that has died are finished once its lease is over. It can be called from any thread, also from
        one that runs an event loop, and blocks.

        Args:
            jobs: Jobs, or rows with the columns of a manifest (``image``, ``prompt``, ``id``, …; further
                columns are carried along). Relative paths start from the working directory.

        Returns:
            A dict for each job, in their order, as in ``results.jsonl``. Its ``status`` is that of an
            ``Outcome``, or ``"not_started"`` for a job that the end of the batch has prevented: an empty
            balance, ``max_cost``, a key that is not accepted. No job raises an error; ``error`` has it.

        Raises:
            JournalError: The journal cannot be reached; nothing was sent.
            DownloadError: The output folder cannot be written; nothing was sent.
            InvalidArgumentError: There is no key, or an argument is out of range; nothing was sent.

        Cancellation (Ctrl-C) leaves paid tasks to the next run.
        """
        portal = Portal(_nothing)
        try:
            return portal.call(self._run_shard, list(jobs))
        finally:
            portal.close()

    async def _run_shard(self, given: list[Job | Mapping[str, Any]]) -> list[dict[str, Any]]:
        results: list[dict[str, Any] | None] = [None] * len(given)
        places: dict[int, list[int]] = {}
        jobs: list[Job] = []
        for number, item in enumerate(given):
            job = item if isinstance(item, Job) else _job(item)
            if isinstance(job, Job):
                places.setdefault(id(job), []).append(number)
                jobs.append(job)
            else:
                results[number] = job

        def keep(outcome: Outcome) -> None:
            results[places[id(outcome.job)].pop()] = as_plain(outcome, any_path(self.output))

        error = await self.work(jobs, keep)
        for job in jobs:
            for number in places[id(job)]:
                outcome = Outcome(job, "unfinished", error=error, id=job.id or "")
                results[number] = as_plain(outcome, any_path(self.output)) | {"status": "not_started"}
        return [result for result in results if result is not None]

    async def work(
        self,
        jobs: Iterable[Job] | AsyncIterable[Job],
        on_outcome: Callable[[Outcome], object],
        *,
        shutdown: Shutdown | None = None,
    ) -> errors.ApimartError | None:
        """Run jobs in this process. Billable.

        Jobs that another worker has are tried again until its lease would be over, if it were dead, and those
        that get copies of its images until it has them.

        Args:
            jobs: Taken lazily.
            on_outcome: Called with the outcome of each job, once.
            shutdown: Ends it early: once it is requested, no further jobs are started.

        Returns:
            The error that ended the batch before all jobs were started, if there was one.

        Raises:
            JournalError: On entering, the journal cannot be reached. Nothing was sent.
            DownloadError: On entering, the output folder cannot be written. Nothing was sent.
            InvalidArgumentError: There is no key, or an argument is out of range. Nothing was sent.

        Cancellation leaves paid tasks to the next run.
        """
        loop, elsewhere, shutdown = asyncio.get_running_loop(), list[Outcome](), shutdown or Shutdown()
        error = await self._run(jobs, lambda outcome: _sort(outcome, on_outcome, elsewhere), shutdown)
        until = loop.time() + (_LEASES * await self._longest_lease() if elsewhere else 0.0)
        while elsewhere and error is None and not shutdown.is_requested:
            if loop.time() >= until:
                # The other worker has their images, but may not have these jobs: it may have another shard.
                copies = [outcome for outcome in elsewhere if outcome.resumed]
                if not copies:
                    break
                for outcome in elsewhere:
                    if not outcome.resumed:
                        on_outcome(outcome)
                elsewhere = copies
            await asyncio.sleep(self.lease / 6)
            again, left = [outcome.job for outcome in elsewhere], list[Outcome]()
            try:
                error = await self._run(again, lambda outcome: _sort(outcome, on_outcome, left), shutdown)  # noqa: B023
            except errors.ApimartError as failure:
                # Jobs have ended before, so that this is no refusal to begin.
                error = failure
            elsewhere = left
        for outcome in elsewhere:
            on_outcome(outcome)
        return error

    async def _longest_lease(self) -> float:
        """Return the lease of this worker, or the rest of the lease of another worker if that is longer."""
        try:
            workers = await to_thread.run_sync(self.workers)
        except errors.JournalError:
            return self.lease
        return max(self.lease, *(min(worker.lease, DAY) for worker in workers if worker.jobs), 0.0)

    async def _run(
        self,
        jobs: Iterable[Job] | AsyncIterable[Job],
        on_outcome: Callable[[Outcome], object],
        shutdown: Shutdown,
    ) -> errors.ApimartError | None:
        journal = PostgresJournal(
            self.journal, lease=self.lease, requests_per_second=self.requests_per_second
        )
        options = BatchOptions(
            output=any_path(self.output),
            max_in_flight=self.max_in_flight,
            max_cost=self.max_cost,
            write_results=False,
            shutdown=shutdown,
        )
        async with (
            AsyncApimart() as client,
            Runner(ApimartBackend(client), jobs, journal, options) as outcomes,
        ):
            try:
                async for outcome in outcomes:
                    on_outcome(outcome)
            except errors.ApimartError as error:
                return error
        return None

    def ray(self, dataset: D, *, actors: int, shard: int = 256) -> D:
        """Return a Ray dataset of the results of a Ray dataset of jobs. Billable once it is consumed.

        Ray runs ``run_shard`` in actors of a quarter of a CPU, and repeats the shards of actors, nodes and
        drivers that die; the journal makes that harmless. ``actors / 4`` must be less than the CPUs of the
        cluster: otherwise Ray waits forever for a CPU to read the jobs with. Consume the result once: a
        second time runs all shards again, which finds the jobs saved.

        Args:
            dataset: A ``ray.data.Dataset`` with the columns of a manifest.
            actors: Number of actors, at least 1.
            shard: Maximum number of jobs of one call of an actor, at least 1, default 256.

        Returns:
            A lazy dataset with a row for each job: ``id``, ``status``, ``task_id``, ``paths``, ``cost``,
            ``error`` (the message), and ``result``, a JSON text as in ``results.jsonl``.

        Raises:
            InvalidArgumentError: Ray is not installed, or an argument is out of range.
        """
        return run_with_ray(self, dataset, actors, shard)

    def tally(self) -> Tally:
        """Return the number of jobs in each state, and the USD of all workers; changes nothing, and blocks.

        Raises:
            JournalError: There is no journal, or it cannot be reached.
            InvalidArgumentError: The URL is malformed, or the extra ``postgres`` is not installed.
        """
        return read_tally(self.journal)

    def workers(self) -> list[Worker]:
        """Return the workers whose lease is live, the oldest first; changes nothing, and blocks.

        Raises:
            JournalError: There is no journal, or it cannot be reached.
            InvalidArgumentError: The URL is malformed, or the extra ``postgres`` is not installed.
        """
        return read_workers(self.journal)


async def _nothing() -> None:
    pass


def _sort(outcome: Outcome, on_outcome: Callable[[Outcome], object], elsewhere: list[Outcome]) -> None:
    """Report an outcome, or keep it if another worker has the job."""
    if outcome.is_elsewhere:
        elsewhere.append(outcome)
    else:
        on_outcome(outcome)


def _job(row: Mapping[str, Any]) -> Job | dict[str, Any]:
    """Return the job of a row, or the result of a row that is none."""
    cells = {str(name): _cell(str(name), value) for name, value in row.items()}
    found = read_row("the row", cells, Folder.at("."), ManifestOptions(allow_outside=True))
    if isinstance(found, Row):
        return found.job
    error = errors.InvalidArgumentError(found.complaint)
    job = Job(
        prompt=str(cells.get("prompt") or ""), extra={name: plain(cell) for name, cell in cells.items()}
    )
    return as_plain(Outcome(job, "failed", error=error, id=str(cells.get("id") or "")), Path())


def _cell(name: str, value: Any) -> Any:  # noqa: ANN401 as engines have it
    """Return a value with a JSON form; an image stays as it is."""
    if hasattr(value, "tolist"):  # numpy's, as in the frames of pandas
        value = value.tolist()
    column = column_name(name)
    is_image = ALIASES.get(column, column) in IMAGE_COLUMNS
    # A frame of pandas has NaN for a missing text.
    return value if is_image and not isinstance(value, float) else plain(value)
