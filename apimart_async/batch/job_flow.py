"""One job of a batch: prepared, uploaded, submitted, awaited and saved, from where an earlier run left it."""

from __future__ import annotations

import copy
import json
from contextlib import nullcontext
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import anyio
import attrs

from apimart_async import errors
from apimart_async.batch import equal_jobs
from apimart_async.batch.backends import PreparedJob
from apimart_async.batch.budget import PRICES
from apimart_async.batch.context import Context
from apimart_async.batch.job import Job, Outcome
from apimart_async.batch.job_state import JobState
from apimart_async.batch.journal.protocol import ClaimedError
from apimart_async.batch.journal.record import Record
from apimart_async.batch.refetch import is_unreached, refetch
from apimart_async.batch.requests import model_of
from apimart_async.batch.submit import submit
from apimart_async.models import Task
from apimart_async.transport.files.atomic import have_content

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from apimart_async.batch.progress import Stage
    from apimart_async.models import ImageSet


@attrs.define
class JobFlow:
    """Runs one job until it ends, or until the batch shuts down."""

    _context: Context
    _job: Job
    _position: int
    _state: JobState = attrs.field(init=False)
    _obstacle: Exception | None = attrs.field(init=False, default=None)
    """The reason why the job cannot be submitted; a task that is already paid for is still finished."""

    _is_retried: bool = attrs.field(init=False, default=False)
    """Whether its task was polled once more because of `retry_missing`."""

    was_saved: bool = attrs.field(init=False, default=False)
    """Whether it was saved before, and nothing was to be done."""

    def __attrs_post_init__(self) -> None:
        self._state = JobState(self._context, self._job)

    async def run(self) -> Outcome | None:
        """Run the job until it ends, or until the batch shuts down.

        Returns:
            Its outcome; ``None`` when the batch shuts down before it is started.

        Cancellation lets a paid request in flight get its answer within the grace period; the journal then
        holds the job's state.
        """
        context, job = self._context, self._job
        self._state.report("preparing")
        try:
            self._state.prepared = await context.backend.prepare(job)
        except Exception as error:  # noqa: BLE001 it is the job's outcome
            self._obstacle = error
            model = model_of(job, context.backend.models)
            self._state.prepared = PreparedJob(job=job, record=Record.describe(job, model, job_id=job.id))
        record = attrs.evolve(self._state.prepared.record, position=self._position)
        self._state.prepared, job_id = attrs.evolve(self._state.prepared, record=record), record.id
        # Of equal jobs one runs at a time: the next finds the row of the one before.
        while (other := context.running.get(job_id)) is not None:
            await other.wait()
        ended = context.running[job_id] = anyio.Event()
        try:
            outcome = await self._continue()
        finally:
            del context.running[job_id]
            ended.set()
        if outcome is not None:
            if self._state.error is not None and outcome.status != "saved":
                outcome = attrs.evolve(outcome, error=self._state.error)
            stage: Stage = "done" if outcome.status == "saved" else "failed"
            self._state.report(stage, error=outcome.error, outcome=outcome)
        return outcome

    async def _continue(self) -> Outcome | None:
        """Continue the job where an earlier run, or an equal job of this one, left it."""
        context, described = self._context, self._state.prepared.record
        try:
            record = await context.journal.claim(described.id)
        except ClaimedError as claimed:
            elsewhere = claimed.record.outcome(context.options.output, job=self._job)
            is_copy = self._job.id is None and not await equal_jobs.is_same(claimed.record, described)
            return attrs.evolve(elsewhere, status="unfinished", is_elsewhere=True, resumed=is_copy)
        except errors.JournalError as error:
            context.shutdown.fail(error)
            return None
        if record is None:
            return await self._start(None)
        self._state.earlier_seconds = record.seconds
        if described.payload and record.payload and described.payload != record.payload:
            taken = errors.InvalidArgumentError(
                f"The id {described.id!r} belongs to another image, prompt, model or options: give this job "
                "another id."
            )
            return Outcome(self._job, "failed", error=taken, id=described.id)
        if record.state == "failed":
            is_left = record.key is None or context.options.retry_failed
        else:
            is_left = record.state in {"intent", "in_doubt"} and context.options.in_doubt != "report"
        if self._job.id is None and not await equal_jobs.is_same(record, described):
            copy = None if is_left else await self._copy(record)
            if copy is not None:
                return copy
            # Of equal jobs the one that ends first has the row.
            await context.journal.drop(equal_jobs.copy_id(described))
            record = attrs.evolve(
                record,
                image=described.image,
                name=described.name,
                extra=described.extra,
                position=described.position,
            )
        return await (self._start(record) if is_left else self._finish(await self._followed(record)))

    async def _followed(self, record: Record) -> Record:
        """Have a row name the place of a picture that was moved, and the caller's data of this run."""
        described = self._state.prepared.record
        if not described.payload or (record.image, record.extra) == (described.image, described.extra):
            return record
        return await self._state.put(attrs.evolve(record, image=described.image, extra=described.extra))

    async def _finish(self, record: Record) -> Outcome | None:
        """Finish a job that is not submitted again."""
        match record.state:
            case "intent":
                record = await self._state.put(record.cut_off())
            case "submitted":
                return await self._resume(record)
            case "saved" | "completed" if record.paths:
                self.was_saved = await self._has_files(record)
                if not self.was_saved:
                    record = record.lost()
                elif record.state != "saved":
                    record = await self._state.put(record.saved(record.paths, record.seconds))
            case _:
                pass
        record = await self._collect(record)
        if record.is_missing and self._context.options.retry_missing and not self._is_retried:
            self._is_retried = True
            return await self._resume(record)
        return record.outcome(self._context.options.output, job=self._job)

    async def _copy(self, original: Record) -> Outcome | None:
        """End as an equal job has, with files and a row of its own; ``None`` if that job has not ended."""
        context, described, job = self._context, self._state.prepared.record, self._job
        output, is_saved = context.options.output, original.state == "saved"
        if not (await self._has_files(original) if is_saved else original.state == "failed"):
            return None
        own = await context.journal.get(equal_jobs.copy_id(described))
        if own is not None and own.state == "saved" and await self._has_files(own):
            self.was_saved = True
            return (await self._followed(own)).outcome(output, job=job)
        names: tuple[str, ...] = ()
        if is_saved:
            self._state.report("saving", original)
            paths = [output / path for path in original.paths]
            task_id = (original.task.id if original.task else None) or original.id
            try:
                copies = await equal_jobs.copy_images(paths, output, self._template(), task_id)
            except (errors.DownloadError, OSError) as error:
                context.shutdown.check(error)
                return Outcome(job, "unfinished", task=original.task, error=error, id=described.id)
            names = tuple(str(path.relative_to(output)) for path in copies)
        row = await self._state.put(equal_jobs.copied(original, described, names, self._state.seconds()))
        return row.outcome(output, job=job)

    async def _resume(self, record: Record) -> Outcome | None:
        """Wait for the task of an earlier run, and finish the job."""
        context = self._context
        async with context.in_flight:
            # Not before: a submit that waits for the budget may hold the last place.
            context.budget.resume()
            self._state.report("waiting", record)
            record = await self._wait(record)
        if record.is_missing and context.options.retry_missing:
            return await self._start(record)
        return (await self._collect(record)).outcome(context.options.output, job=self._job)

    async def _start(self, previous: Record | None) -> Outcome | None:
        """Submit the job and finish it."""
        backend = self._context.backend
        async with backend.observed(self._state.prepared):
            outcome = await self._run_from_start(previous)
            error = self._state.error or (outcome.error if outcome else None)
            if error is not None and outcome is not None and outcome.status != "saved":
                backend.failed(error)
        return outcome

    async def _run_from_start(self, previous: Record | None) -> Outcome | None:
        context = self._context
        try:
            if self._obstacle is not None:
                raise self._obstacle  # noqa: TRY301 every obstacle to a submit is handled in one place
            self._state.report("uploading")
            with context.uploads.used():
                images = await context.upload_cooldown.run(
                    lambda: context.backend.upload(self._state.prepared)
                )
                if images is None:
                    return None
                async with context.in_flight:
                    record = await context.submit_cooldown.run(lambda: submit(self._state, images, previous))
                    if record is not None:
                        record = await self._wait(record)
        except Exception as error:  # noqa: BLE001 it is the job's outcome
            return await self._not_submitted(error, previous)
        if record is None:
            # Either the batch has stopped, or another process has started the job.
            return None if context.shutdown.is_requested else await self._continue()
        record = await self._collect(record)
        return record.outcome(context.options.output, job=self._job, resumed=previous is not None)

    async def _not_submitted(self, error: Exception, previous: Record | None) -> Outcome | None:
        """Handle an error before the submit; the next run tries the job anew."""
        shutdown = self._context.shutdown
        if shutdown.check(error):
            self._state.report_stop(error)
            return None
        if isinstance(error, errors.APIConnectionError):
            shutdown.not_reached(error)
        is_resumed = previous is not None and previous.key is not None
        if previous is None or not is_resumed:
            previous = await self._state.put(self._state.prepared.record.failed(error, self._state.seconds()))
        self._state.error = error
        return previous.outcome(self._context.options.output, job=self._job, resumed=is_resumed)

    # --- wait -------------------------------------------------------------------------------------------

    async def _wait(self, record: Record) -> Record:
        """Wait for the task of a submitted job, and count its cost.

        Cancellation leaves the task running; the next run waits for it.
        """
        if record.state != "submitted" or record.task is None:
            return record
        context, task, ended = self._context, record.task, record

        def report_poll(seen: Task) -> None:
            self._state.report("waiting", attrs.evolve(record, task=seen))

        on_update = None if context.options.on_job is None else report_poll
        try:
            done = await context.shutdown.while_reachable(
                context.backend.wait(task, context.options.timeout, on_update)
            )
            if done is None:
                message = f"The service is out of reach; task {task.id} goes on and can be waited for again."
                raise errors.APIConnectionError(message, task_id=task.id)  # noqa: TRY301 handled like any other
            context.shutdown.reached()
            ended = record.completed(done)
        except errors.TaskTimeoutError as error:
            self._state.error = error
            ended = record.with_error(error, self._state.seconds())
        except errors.TaskError as error:
            self._state.error = error
            ended = record.task_ended(error, self._state.seconds())
        except Exception as error:  # noqa: BLE001 the task goes on
            self._state.error = error
            context.shutdown.check(error)
            ended = record.with_error(error, self._state.seconds())
        finally:
            if ended.state == "submitted":
                context.budget.leave_open()
            else:
                context.submit_cooldown.task_ended()
                images = ended.task.images if ended.task else ()
                context.budget.settle(record.model, record.billable, ended.cost, len(images))
        if context.budget.has_new_price:
            # A run after a crash needs the prices to keep within the budget.
            context.budget.has_new_price = False
            try:
                await context.journal.put_state(PRICES, json.dumps(context.budget.prices).encode())
            except errors.JournalError as error:
                context.shutdown.fail(error)
        return await self._state.put(ended)

    # --- collect ----------------------------------------------------------------------------------------

    async def _collect(self, record: Record) -> Record:
        """Download the images of a completed job.

        Cancellation leaves the images that are whole. Images that no task remembers get the grace period.
        """
        if record.state != "completed" or isinstance(self._state.error, errors.TaskResultError):
            return record
        context = self._context
        is_fetchable = record.task is not None and record.task.id is not None
        with nullcontext() if is_fetchable else context.shutdown.grace():
            async with context.downloads:
                self._state.report("saving", record)
                try:
                    paths = await self._download(record)
                except errors.TaskError as error:
                    self._state.error = error
                    ended = record.task_ended(error, self._state.seconds())
                    if record.paths and not context.options.retry_missing:
                        # The saved images may still exist: in another folder, or in one that is not
                        # mounted now. The job must not be submitted again for that.
                        self._state.error = missing = self._missing_files(record, error)
                        ended = record.with_error(missing, self._state.seconds())
                    return await self._state.put(ended)
                except Exception as error:  # noqa: BLE001 the result stays paid for
                    self._state.error = error
                    context.shutdown.check(error)
                    context.shutdown.not_saved(error, context.options.max_downloads)
                    return await self._state.put(record.with_error(error, self._state.seconds()))
            context.shutdown.saved()
            names = tuple(str(path.relative_to(context.options.output)) for path in paths)
            return await self._state.put(record.saved(names, self._state.seconds()))

    async def _download(self, record: Record) -> Sequence[Path]:
        options, backend = self._context.options, self._context.backend
        result: Task | ImageSet | None = record.images or record.task
        if result is None:
            raise errors.TaskExpiredError("Its files are gone, and the service keeps no results.")
        is_fresh, now = False, datetime.now(UTC)
        expiries = [image.expires_at for image in result.images]
        if isinstance(result, Task) and (not expiries or any(end and end <= now for end in expiries)):
            result, is_fresh = await refetch(backend, result), True
        try:
            return await backend.save(result, options.output, self._template())
        except errors.DownloadError as error:
            # A result that cannot be fetched again is asked for in the next run too, while it may come back.
            if is_fresh or not isinstance(result, Task) or result.id is None:
                raise
            # URLs may be those of a mirror that is out of reach now; another has its own.
            if not (error.is_gone or is_unreached(error)):
                raise
        return await backend.save(await refetch(backend, result), options.output, self._template())

    def _template(self) -> str:
        choose = self._context.options.template
        return self._state.prepared.template if choose is None else choose(self._job)

    def _missing_files(self, record: Record, error: errors.TaskError) -> errors.TaskError:
        """Return the error of images that were saved, with the folder in which they are missing."""
        missing = copy.copy(error)
        missing.message = (
            f"{record.paths[0]} was saved and is not in {self._context.options.output}: run the batch with "
            f"the folder that has it. It cannot be downloaded again: {error.message}"
        )
        return missing

    async def _has_files(self, record: Record) -> bool:
        return await have_content([self._context.options.output / path for path in record.paths])
