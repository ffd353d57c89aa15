"""The course of a job: prepared, placed, submitted, waited for and saved, from where it was left before."""

from __future__ import annotations

import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio
import attrs
from anyio import to_thread

from apimart_async import errors
from apimart_async.batch import finishing, paying
from apimart_async.batch.facilities import Facilities
from apimart_async.batch.job import Outcome
from apimart_async.batch.preparing import Work, describe
from apimart_async.batch.stopping import ends_all
from apimart_async.transport.files.names import DEFAULT_TEMPLATE

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from apimart_async.batch.job import Job
    from apimart_async.batch.record import Record


@attrs.frozen
class Course:
    """Takes jobs as far as they go."""

    shared: Facilities
    _under_way: dict[str, anyio.Event] = attrs.field(factory=dict[str, anyio.Event], init=False)

    async def run(self, job: Job) -> Outcome | None:
        """Take a job as far as it goes.

        Returns:
            How it ended; ``None`` when the batch has stopped before it was begun.

        Cancelling it lets a paid request that is under way get its answer for some seconds; the journal then
        says how far the job came.
        """
        began = time.monotonic()
        preparer = self.shared.service.preparer
        obstacle: Exception | None = None
        try:
            work = await preparer.prepare(job)
        except Exception as error:  # noqa: BLE001 it is the job's outcome
            obstacle = error
            row = describe(job, job.id, preparer.model if job.model is None else job.model)
            work = Work(job=job, id=row.id, model=row.model, template=DEFAULT_TEMPLATE)
        async with self._alone(work.id):
            return await _Run(self.shared, work, began, obstacle).go()

    @asynccontextmanager
    async def _alone(self, job_id: str) -> AsyncGenerator[None, None]:
        """Let the same job, asked for twice, be done once: the second finds what the first has left."""
        while (other := self._under_way.get(job_id)) is not None:
            await other.wait()
        mine = self._under_way[job_id] = anyio.Event()
        try:
            yield
        finally:
            del self._under_way[job_id]
            mine.set()


@attrs.define
class _Run:
    """One job on its course.

    Attributes:
        shared: With the other jobs.
        work: The job.
        began: When, on the monotonic clock.
        obstacle: Why it cannot be submitted; what is paid for already can be finished all the same.
        earlier: Seconds that earlier runs spent on it.
    """

    shared: Facilities
    work: Work
    began: float
    obstacle: Exception | None
    earlier: float = 0.0

    async def go(self) -> Outcome | None:
        try:
            previous = await self.shared.journal.get(self.work.id)
        except errors.JournalError as error:
            self.shared.stop.because(error)
            return None
        if previous is None:
            return await self._begin(None)
        self.earlier = previous.seconds
        payload = self.work.payload
        if payload and previous.payload and payload != previous.payload:
            taken = errors.InvalidArgumentError(
                f"The id {self.work.id!r} belongs to another image, prompt, model or options: give this job "
                "another id."
            )
            return Outcome(self.work.job, "failed", error=taken, id=self.work.id)
        return await self._resume(previous)

    async def _resume(self, previous: Record) -> Outcome | None:
        """Take a job up where an earlier run, or an equal job of this one, left it."""
        shared, record = self.shared, previous
        match previous.state:
            case "failed" if previous.key is None or shared.retries_failed:
                return await self._begin(previous)
            case "intent" | "in_doubt" if shared.resubmits:
                return await self._begin(previous)
            case "intent":
                record = await shared.put(previous.in_doubt(_cut_off(previous)))
            case "submitted":
                shared.budget.resume()
                await shared.places.enter()
                try:
                    record = await finishing.wait(shared, previous, self._seconds)
                finally:
                    shared.places.leave()
            case "saved" if not await self._is_there(previous):
                record = previous.lost()
            case _:
                pass
        record = await finishing.save(shared, record, self.work.template, self._seconds)
        return self._outcome(record, is_resumed=True)

    async def _begin(self, previous: Record | None) -> Outcome | None:
        """Submit a job and see to the rest."""
        shared = self.shared
        try:
            if self.obstacle is not None:
                raise self.obstacle  # noqa: TRY301 all that keeps it from being submitted is met in one place
            images = await shared.service.place(self.work)
            await shared.places.enter()
            try:
                record = await paying.submit(shared, self.work, images, previous, self._seconds())
                if record is not None:
                    record = await finishing.wait(shared, record, self._seconds)
            finally:
                shared.places.leave()
        except Exception as error:  # noqa: BLE001 it is the job's outcome
            return await self._not_begun(error, previous)
        if record is None:
            # Not begun: the batch has stopped, or another process has been quicker.
            return None if shared.stop.is_requested else await self.go()
        record = await finishing.save(shared, record, self.work.template, self._seconds)
        return self._outcome(record, is_resumed=previous is not None)

    async def _not_begun(self, error: Exception, previous: Record | None) -> Outcome | None:
        """Say what kept a job from being submitted; the next run tries it anew."""
        if ends_all(error):
            self.shared.stop.because(error)
            return None
        if isinstance(error, errors.APIConnectionError):
            self.shared.stop.not_reached(error)
        if previous is not None and previous.key is not None:
            return attrs.evolve(self._outcome(previous, is_resumed=True), error=error)
        row = attrs.evolve(
            describe(self.work.job, self.work.id, self.work.model), payload=self.work.payload
        ).failed(error, self._seconds())
        await self.shared.put(row)
        return attrs.evolve(self._outcome(row, is_resumed=False), error=error)

    async def _is_there(self, record: Record) -> bool:
        paths = [self.shared.directory / path for path in record.paths]
        return await to_thread.run_sync(lambda: all(path.is_file() and path.stat().st_size for path in paths))

    def _seconds(self) -> float:
        return self.earlier + time.monotonic() - self.began

    def _outcome(self, record: Record, *, is_resumed: bool) -> Outcome:
        return record.outcome(self.shared.directory, job=self.work.job, resumed=is_resumed)


def _cut_off(record: Record) -> errors.SubmissionIndeterminateError:
    return errors.SubmissionIndeterminateError(
        "An earlier run was cut off between its paid request and the answer: it is not known whether it was "
        f"executed. Look at the account before submitting it again; idempotency key {record.key}.",
        idempotency_key=record.key,
    )
