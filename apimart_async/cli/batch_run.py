"""The run of a batch: its signals, its progress, its results and its messages."""

from __future__ import annotations

import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import anyio
from anyio import to_thread

from apimart_async import errors
from apimart_async.cli import connection, local_batch
from apimart_async.cli.display import messages
from apimart_async.cli.display.output import (
    complain,
    is_terminal,
    may_reach_terminal,
    printable,
    same_command,
    say,
    sentence,
    shorten,
    write_line,
)
from apimart_async.cli.display.results import json_line
from apimart_async.cli.signals import SIGNALS, Exit, UsageError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from apimart_async.batch import BatchOptions, Job, Journal, Outcome, Progress
    from apimart_async.batch.backends import Backend
    from apimart_async.batch.manifest.preflight import Preflight
    from apimart_async.batch.manifest.reader import Manifest

_MOST_FAILURES: Final = 20
"""Failures that are reported one by one; results.jsonl has all of them."""

_LONGEST_LABEL: Final = 60

_LINE_INTERVAL: Final = 10.0
"""Seconds between two lines of progress where nothing is drawn."""


class BatchRun:
    """The run of a batch: its jobs, its display and its messages.

    Args:
        manifest: Its rows are the jobs.
        found: Its check.
        output: Directory for the results; it exists.
        journal: Not entered yet.
        json: The option.
    """

    def __init__(
        self, manifest: Manifest, found: Preflight, output: Path, journal: Journal, *, json: bool
    ) -> None:
        from apimart_async.batch import Progress
        from apimart_async.cli.display.progress import Display, draw_batch

        self._manifest = manifest
        self._bad_rows = found.bad_rows
        self._total = total = found.jobs + found.repeated
        self._output = output
        self._journal = journal
        self._json = json
        # Paths on a terminal would only disturb the display.
        self._writes = json or not is_terminal(sys.stdout)
        self._are_results_whole = True
        self._progress: Progress = Progress(total=total)
        self._has_started = False
        self._spent_before = 0.0
        self._next_line = time.monotonic() + _LINE_INTERVAL
        self._failures = 0
        self._missing = 0
        self._elsewhere = 0
        self._invalid = 0
        self._doubtful_edits = 0
        is_plain = self._writes and may_reach_terminal(sys.stdout)
        self._display = Display(lambda console: draw_batch(self._progress, console), is_plain=is_plain)

    def __len__(self) -> int:
        return self._total

    def __aiter__(self) -> AsyncIterator[Job]:
        return self._manifest.jobs(self._bad_rows)

    def execute(self, service: connection.Connection, batch_options: BatchOptions) -> Exit:
        """Process the jobs that are not saved yet.

        Returns:
            The exit code. The first SIGINT or SIGTERM starts no further jobs and finishes those in flight;
            the second cancels the batch.

        Raises:
            UsageError: The batch cannot start, for example because its journal is in use.
        """
        is_cancelled, error = False, None
        try:
            is_cancelled = anyio.run(self._run, service, batch_options)
        except errors.ApimartError as ending:
            messages.trace(ending)
            if not self._has_started:
                # The journal was not read, so that nothing is known about the jobs of earlier runs.
                raise UsageError(sentence(ending.message)) from ending
            error = ending
        last, total = self._progress, self._total
        if error is not None:
            complain(messages.ending(error))
        # Jobs whose upload did not get through are started again without --retry-failed.
        retried = batch_options.retry_failed or isinstance(error, errors.APIConnectionError)
        is_local = service.local
        for hint in messages.batch_hints(
            last,
            self._output,
            missing=self._missing,
            elsewhere=self._elsewhere,
            invalid=self._invalid,
            doubtful_edits=self._doubtful_edits,
            retried=retried,
            is_local=is_local,
        ):
            say(hint, always=True)
        is_interrupted = is_cancelled or (batch_options.shutdown.is_requested and last.done < total)
        # An earlier run may have saved jobs that this one has not reached, and those in flight are paid for.
        is_partial = is_cancelled or self._spent_before > 0 or last.resumed > 0
        for line in messages.batch_summary(
            last, total, self._output, is_interrupted=is_interrupted, is_partial=is_partial
        ):
            say(line)
        needs_more_budget = isinstance(error, errors.BudgetExceededError)
        is_stopped = is_interrupted or error is not None or (last.unfinished > 0 and not is_local)
        if is_stopped and not needs_more_budget:
            command = same_command()
            advice = "Continue with the same command and input." if command is None else "Continue with:"
            for line in [advice] if command is None else [advice, f"  {command}"]:
                say(line, always=True)
        if is_interrupted:
            return Exit.INTERRUPTED
        all_saved = error is None and last.saved == total and not self._bad_rows and self._are_results_whole
        return Exit.ALL_DONE if all_saved else Exit.SOME_FAILED

    async def _run(self, service: connection.Connection, batch_options: BatchOptions) -> bool:
        """Return whether the second signal cancelled it."""
        from apimart_async.batch import Runner

        def finish() -> None:
            say("Finishing the jobs in flight; Ctrl-C again stops at once, and loses nothing either.")
            batch_options.shutdown.request()

        scope = anyio.CancelScope()
        with SIGNALS.calling(finish, scope.cancel), self._display.shown, scope:
            if service.local:
                await to_thread.run_sync(local_batch.mark, self._output)
                await local_batch.drop_lost(self._output)
            async with (
                _backend(service, batch_options) as backend,
                Runner(backend, self, self._journal, batch_options) as outcomes,
            ):
                self._has_started = True
                async for outcome in outcomes:
                    self._report(outcome)
        return scope.cancelled_caught

    def show(self, progress: Progress) -> None:
        """Show the progress: in the display, or as a line every ten seconds."""
        if not self._progress.elapsed:
            self._spent_before = progress.spent
        self._progress = progress
        if not self._display.draws and time.monotonic() >= self._next_line:
            self._next_line = time.monotonic() + _LINE_INTERVAL
            facts = ", ".join(messages.batch_facts(progress))
            say(f"{progress.done:,} of {progress.total:,} done, {facts}")

    def _report(self, outcome: Outcome) -> None:
        """Write the results of a job, or the reason why it has none."""
        from apimart_async.batch.requests import model_of
        from apimart_async.batch.results import as_plain

        if self._writes:
            paths = [str(path) for path in outcome.paths] if outcome.status == "saved" else []
            plain = as_plain(outcome, self._output) | {
                "model": model_of(outcome.job, self._manifest.options.models)
            }
            for line in [json_line(plain)] if self._json else paths:
                self._are_results_whole = write_line(line) and self._are_results_whole
        self._elsewhere += outcome.is_elsewhere
        if outcome.error is None or outcome.status == "saved":
            return
        messages.trace(outcome.error)
        is_missing = isinstance(outcome.error, errors.TaskExpiredError) and outcome.status == "unfinished"
        self._missing += is_missing
        self._invalid += outcome.status == "failed" and isinstance(outcome.error, errors.InvalidArgumentError)
        self._doubtful_edits += outcome.status == "in_doubt" and outcome.job.operation == "edit"
        self._failures += 1
        if self._failures <= _MOST_FAILURES:
            label = _label(outcome, is_prompt_shared=self._manifest.is_folder)
            self._display.failed(label, messages.explain(outcome.error))
        elif self._failures == _MOST_FAILURES + 1:
            say("Further failures are only in results.jsonl.")


@asynccontextmanager
async def _backend(service: connection.Connection, batch_options: BatchOptions) -> AsyncGenerator[Backend]:
    """Open a client of the service."""
    from apimart_async.batch.backends import ApimartBackend

    if service.provider == "APIMART":
        async with connection.connected(service) as client:
            yield ApimartBackend(client)
    else:
        from apimart_async.cli.png_preparation import PngPreparingBackend

        async with connection.connected_router(service) as router:
            yield PngPreparingBackend(router, timeout=batch_options.timeout)


def _label(outcome: Outcome, *, is_prompt_shared: bool) -> str:
    job = outcome.job
    name = (Path(job.image).name if isinstance(job.image, str) else "") or job.name
    if name and not is_prompt_shared:
        # Many rows may have the same picture.
        name = f"{name}, {job.prompt}"
    return shorten(printable(job.id or name or outcome.id), _LONGEST_LABEL)
