"""One job of a batch: prepared, uploaded, submitted, awaited and saved, from where an earlier run left it."""

from __future__ import annotations

import json
import logging
import sys
import time
import uuid
from contextlib import nullcontext, suppress
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Final, cast

import anyio
import attrs
from anyio import to_thread

from apimart_async import errors
from apimart_async.batch import equal_jobs
from apimart_async.batch.backends import PreparedJob
from apimart_async.batch.budget import PRICES
from apimart_async.batch.context import Context
from apimart_async.batch.intent import Intent, NotSentError
from apimart_async.batch.job import Job, Outcome
from apimart_async.batch.journal.protocol import ClaimedError
from apimart_async.batch.journal.record import Record
from apimart_async.batch.progress import JobProgress, Stage
from apimart_async.batch.refetch import is_unreached, refetch
from apimart_async.batch.requests import model_of
from apimart_async.models import Task

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from apimart_async.models import ImageSet
    from apimart_async.transport.media.forms import SingleImage

_log: Final = logging.getLogger("apimart_async")


@attrs.define
class JobFlow:
    """Takes one job as far as it goes."""

    _context: Context
    _job: Job
    _prepared: PreparedJob = attrs.field(init=False)
    _obstacle: Exception | None = attrs.field(init=False, default=None)
    """The reason why it cannot be submitted; a task that is already paid for can be finished all the same."""
    _error: Exception | None = attrs.field(init=False, default=None)
    """The last error of this run; the journal keeps only its message and class."""
    _earlier_seconds: float = attrs.field(init=False, default=0.0)
    _started: float = attrs.field(init=False, factory=time.monotonic)

    async def run(self) -> Outcome | None:
        """Take the job as far as it goes.

        Returns:
            Its outcome; ``None`` when the batch shuts down before it is started.

        Cancellation lets a paid request in flight get its answer within the grace period; the journal then
        holds the job's state.
        """
        context, job = self._context, self._job
        self._report("preparing")
        try:
            self._prepared = await context.backend.prepare(job)
        except Exception as error:  # noqa: BLE001 it is the job's outcome
            self._obstacle = error
            model = model_of(job, context.backend.models)
            self._prepared = PreparedJob(job=job, record=Record.describe(job, model, job_id=job.id))
        job_id = self._prepared.record.id
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
            if self._error is not None and outcome.status != "saved":
                outcome = attrs.evolve(outcome, error=self._error)
            stage: Stage = "done" if outcome.status == "saved" else "failed"
            self._report(stage, error=outcome.error, outcome=outcome)
        return outcome

    async def _continue(self) -> Outcome | None:
        """Continue the job where an earlier run, or an equal job of this one, left it."""
        context, described = self._context, self._prepared.record
        try:
            record = await context.journal.claim(described.id)
        except ClaimedError as claimed:
            elsewhere = claimed.record.outcome(context.options.output, job=self._job)
            return attrs.evolve(elsewhere, status="unfinished", is_elsewhere=True)
        except errors.JournalError as error:
            context.shutdown.fail(error)
            return None
        if record is None:
            return await self._start(None)
        self._earlier_seconds = record.seconds
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
            record = attrs.evolve(record, image=described.image, name=described.name, extra=described.extra)
        return await (self._start(record) if is_left else self._finish(record))

    async def _finish(self, record: Record) -> Outcome | None:
        """Finish a job that is not submitted again."""
        match record.state:
            case "intent":
                record = await self._put(record.cut_off())
            case "submitted":
                return await self._resume(record)
            case "saved" if not await self._has_files(record):
                record = record.lost()
            case _:
                pass
        return (await self._collect(record)).outcome(self._context.options.output, job=self._job)

    async def _copy(self, original: Record) -> Outcome | None:
        """End as an equal job has, with files and a row of its own; ``None`` if that job has not ended."""
        context, described, job = self._context, self._prepared.record, self._job
        output, is_saved = context.options.output, original.state == "saved"
        if not (await self._has_files(original) if is_saved else original.state == "failed"):
            return None
        own = await context.journal.get(equal_jobs.copy_id(described))
        if own is not None and own.state == "saved" and await self._has_files(own):
            return own.outcome(output, job=job)
        names: tuple[str, ...] = ()
        if is_saved:
            self._report("saving", original)
            paths = [output / path for path in original.paths]
            task_id = (original.task.id if original.task else None) or original.id
            try:
                copies = await equal_jobs.copy_images(paths, output, self._template(), task_id)
            except (errors.DownloadError, OSError) as error:
                context.shutdown.check(error)
                return Outcome(job, "unfinished", task=original.task, error=error, id=described.id)
            names = tuple(str(path.relative_to(output)) for path in copies)
        row = await self._put(equal_jobs.copied(original, described, names, self._seconds()))
        return row.outcome(output, job=job)

    async def _resume(self, record: Record) -> Outcome | None:
        """Wait for the task of an earlier run, and finish the job."""
        context = self._context
        context.budget.resume()
        async with context.in_flight:
            self._report("waiting", record)
            record = await self._wait(record)
        if record.is_missing and context.options.retry_missing:
            return await self._start(record)
        return (await self._collect(record)).outcome(context.options.output, job=self._job)

    async def _start(self, previous: Record | None) -> Outcome | None:
        """Submit the job and finish it."""
        context = self._context
        try:
            if self._obstacle is not None:
                raise self._obstacle  # noqa: TRY301 every obstacle to a submit is handled in one place
            self._report("uploading")
            with context.uploads.used():
                images = await context.upload_cooldown.run(lambda: context.backend.upload(self._prepared))
                if images is None:
                    return None
                async with context.in_flight:
                    record = await context.submit_cooldown.run(lambda: self._submit(images, previous))
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
            self._report_stop(error)
            return None
        if isinstance(error, errors.APIConnectionError):
            shutdown.not_reached(error)
        is_resumed = previous is not None and previous.key is not None
        if previous is None or not is_resumed:
            previous = await self._put(self._prepared.record.failed(error, self._seconds()))
        self._error = error
        return previous.outcome(self._context.options.output, job=self._job, resumed=is_resumed)

    # --- submit -----------------------------------------------------------------------------------------

    async def _submit(self, images: Sequence[SingleImage], previous: Record | None) -> Record | None:
        """Send the paid request, once, within the budget.

        Returns:
            The row after it, which is durable; ``None`` when the batch shuts down, or another process has
            started the job.

        Raises:
            BudgetExceededError: It does not fit the budget.
            JournalError: The intent cannot be written; nothing was sent.
            RateLimitError: The service asks to wait; the row is as it was.

        Cancellation waits for the answer for the grace period; after that the job is in doubt.
        """
        context, model, n = self._context, self._prepared.record.model, self._prepared.record.billable
        if context.shutdown.is_requested or not await context.budget.admit(model, n):
            return None
        record: Record | None = None
        try:
            with context.shutdown.grace(), context.shutdown.until_requested() as scope:
                record = await self._send(images, previous, scope)
        finally:
            if record is None or record.state == "failed":
                context.budget.settle(model, n, 0.0)
            elif record.state == "completed":
                result = record.images or record.task
                context.budget.settle(model, n, record.cost, len(result.images) if result else 0)
            elif record.state == "in_doubt":
                context.budget.leave_open()
        return record

    async def _send(
        self, images: Sequence[SingleImage], previous: Record | None, scope: anyio.CancelScope
    ) -> Record | None:
        """Send the paid request in its place, with its intent on disk."""
        context = self._context
        doubt = previous if previous is not None and previous.state in {"intent", "in_doubt"} else None
        key = (doubt.key if doubt else None) or uuid.uuid4().hex
        intent = self._intent(key, previous)
        budget, cost = context.budget, (intent.model, intent.billable)

        def written() -> None:
            budget.written(*cost)
            self._report("submitting", intent)

        hooks = Intent(
            context.journal,
            context.shutdown,
            intent,
            previous,
            scope,
            written,
            partial(budget.unwritten, *cost),
            context.rate,
            home=doubt.base_url if doubt else None,
            first_sent_at=doubt.first_sent_at if doubt else None,
            needs_promise=doubt is not None and context.options.in_doubt == "collect",
        )
        try:
            if context.rate is not None:
                await context.rate.wait()
            return await self._send_with(hooks, images, previous, doubt)
        finally:
            if not hooks.is_written:
                budget.written(*cost)

    async def _send_with(
        self, hooks: Intent, images: Sequence[SingleImage], previous: Record | None, doubt: Record | None
    ) -> Record | None:
        """Send the paid request, and write its result."""
        context, intent = self._context, hooks.record
        key = cast("str", intent.key)
        try:
            result = await context.backend.submit(self._prepared, images, key, hooks)
        except NotSentError:
            return None
        except errors.SubmissionIndeterminateError as error:
            self._error = error
            intent = hooks.record
            task = Task(
                error.task_id or "",
                "submitted",
                idempotency_key=key,
                model=intent.model,
                n=intent.n,
                base_url=intent.base_url,
            )
            record = intent.submitted(task) if error.task_id else intent.in_doubt(error)
        except errors.ApimartError as error:
            # The row of a missing task is back, and is kept.
            await self._pause_all(error)
            is_resubmit = previous is not None and previous.state == "submitted"
            is_limited = isinstance(error, errors.RateLimitError) and error.is_transient
            if is_resubmit or is_limited or isinstance(error, errors.JournalError):
                self._report("submitting")
                raise
            self._error = error
            return await self._refused(intent, error, doubt)
        except Exception as error:
            if not hooks.is_written:
                raise
            self._error = error
            record = hooks.record.in_doubt(error)
        else:
            is_ready = not isinstance(result, Task) or (result.is_completed and bool(result.images))
            intent = hooks.record
            record = intent.completed(result) if is_ready else intent.submitted(cast("Task", result))
        if record.state != "in_doubt":
            context.shutdown.reached()
        await self._put(record)
        if record.state == "submitted":
            self._report("waiting", record)
        return record

    async def _pause_all(self, error: errors.ApimartError) -> None:
        """Pause all processes that share a limit when the service asks for that."""
        context, seconds = self._context, getattr(error, "retry_after", None)
        is_limited = isinstance(error, errors.RateLimitError) and error.is_transient
        if context.rate is None or seconds is None or not is_limited:
            return
        if seconds <= context.options.max_retry_after:
            with suppress(errors.JournalError):  # the next intent meets it too
                await context.rate.pause(seconds)

    def _intent(self, key: str, previous: Record | None) -> Record:
        """Return the row of a paid request; a missing task stays in it, because it may be found again."""
        intent = self._prepared.record.intent(key, self._seconds())
        if previous is not None and previous.key == key:
            intent = attrs.evolve(intent, sent_at=previous.sent_at)
        if previous is None or previous.state != "submitted":
            return intent
        return attrs.evolve(intent, task=previous.task)

    async def _refused(
        self, record: Record, error: errors.ApimartError, doubt: Record | None
    ) -> Record | None:
        """Write the reason why the paid request was certainly not executed; the row before it is back."""
        shutdown = self._context.shutdown
        if doubt is not None:
            # The request before this one remains in doubt.
            shutdown.check(error)
            return await self._put(doubt.in_doubt(error))
        if isinstance(error, errors.APIConnectionError):
            shutdown.not_reached(error)
        if shutdown.check(error):
            self._report_stop(error)
            return None
        record = record.failed(error, record.seconds)
        is_started_anew = error.is_transient or isinstance(error, errors.InvalidArgumentError)
        return await self._put(attrs.evolve(record, key=None) if is_started_anew else record)

    # --- wait -------------------------------------------------------------------------------------------

    async def _wait(self, record: Record) -> Record:
        """Wait for the task of a submitted job, and count its cost.

        Cancellation leaves the task running; the next run waits for it.
        """
        if record.state != "submitted" or record.task is None:
            return record
        context, task, ended = self._context, record.task, record

        def report_poll(seen: Task) -> None:
            self._report("waiting", attrs.evolve(record, task=seen))

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
            self._error = error
            ended = record.with_error(error, self._seconds())
        except errors.TaskError as error:
            self._error = error
            ended = record.task_ended(error, self._seconds())
        except Exception as error:  # noqa: BLE001 the task goes on
            self._error = error
            context.shutdown.check(error)
            ended = record.with_error(error, self._seconds())
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
        return await self._put(ended)

    # --- collect ----------------------------------------------------------------------------------------

    async def _collect(self, record: Record) -> Record:
        """Download the images of a completed job.

        Cancellation leaves the images that are whole. Images that no task remembers get the grace period.
        """
        if record.state != "completed" or isinstance(self._error, errors.TaskResultError):
            return record
        context = self._context
        is_fetchable = record.task is not None and record.task.id is not None
        with nullcontext() if is_fetchable else context.shutdown.grace():
            async with context.downloads:
                self._report("saving", record)
                try:
                    paths = await self._download(record)
                except errors.TaskError as error:
                    self._error = error
                    return await self._put(record.task_ended(error, self._seconds()))
                except Exception as error:  # noqa: BLE001 the result stays paid for
                    self._error = error
                    context.shutdown.check(error)
                    return await self._put(record.with_error(error, self._seconds()))
            names = tuple(str(path.relative_to(context.options.output)) for path in paths)
            return await self._put(record.saved(names, self._seconds()))

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
            if is_fresh or not isinstance(result, Task):
                raise
            # URLs may be those of a mirror that is out of reach now; another has its own.
            if not (error.is_gone or (result.id is not None and is_unreached(error))):
                raise
        return await backend.save(await refetch(backend, result), options.output, self._template())

    def _template(self) -> str:
        choose = self._context.options.template
        return self._prepared.template if choose is None else choose(self._job)

    async def _has_files(self, record: Record) -> bool:
        paths = [self._context.options.output / path for path in record.paths]
        return await to_thread.run_sync(lambda: all(path.is_file() and path.stat().st_size for path in paths))

    # --- results ----------------------------------------------------------------------------------------

    async def _put(self, record: Record) -> Record:
        """Write a row about a past event; if that fails, shut down and log its ids."""
        try:
            await self._context.journal.put(record)
        except errors.JournalError as error:
            self._context.shutdown.fail(error)
            if record.key is not None:
                task = f"task {record.task.id}, " if record.task else ""
                text = f"Job {record.id} is {record.state}, which its journal does not know: {task}"
                _tell(errors.visible(f"{text}idempotency key {record.key}."))
        return record

    def _report_stop(self, error: Exception) -> None:
        """Report the error that stops the batch, once: others in flight meet the same one."""
        if self._context.shutdown.reason is error:
            self._report("failed", error=error)

    def _report(
        self,
        stage: Stage,
        record: Record | None = None,
        error: Exception | None = None,
        outcome: Outcome | None = None,
    ) -> None:
        on_job = self._context.options.on_job
        if on_job is not None:
            try:
                on_job(JobProgress(self._job, stage, record, error, outcome))
            except Exception as raised:  # noqa: BLE001 the caller's own: the iterator raises it
                self._context.shutdown.fail(raised)

    def _seconds(self) -> float:
        return self._earlier_seconds + time.monotonic() - self._started


def _tell(text: str) -> None:
    """Log a message, and write it to stderr: a log is often on the disk that is full."""
    if _log.hasHandlers():
        _log.error("%s", text)
    with suppress(OSError, ValueError, AttributeError):  # closed, or on that disk too; pythonw.exe has none
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()
