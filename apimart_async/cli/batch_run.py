"""Run a batch: show its progress, write its results, and end it on signals."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

import anyio
import attrs

from apimart_async import errors
from apimart_async.cli.connection import Connection, connected
from apimart_async.cli.display.batch_progress import BatchProgress, batch_progress_for
from apimart_async.cli.display.explanation import explain, trace
from apimart_async.cli.display.results import json_line
from apimart_async.cli.display.status import hints, sum_up
from apimart_async.cli.display.streams import complain, is_terminal, say, write_line
from apimart_async.cli.display.text import dollars, printable, sentence, shorten
from apimart_async.cli.exits import Exit
from apimart_async.cli.local_batch import drop_lost, mark
from apimart_async.cli.resume_hint import ResumeHint
from apimart_async.cli.signals import SIGNALS

if TYPE_CHECKING:
    from apimart_async.batch import Outcome, Shutdown
    from apimart_async.batch.job import Job
    from apimart_async.batch.manifest.reader import Manifest

_MOST_FAILURES: Final = 20
"""Failures that are reported one by one; results.jsonl has all of them."""


@attrs.frozen(kw_only=True)
class Plan:
    """The checked arguments of the command.

    Attributes:
        manifest: The rows.
        total: Number of rows.
        output: Directory for the results; it exists.
        connection: The service.
        in_flight: Maximum number of jobs in flight.
        max_cost: USD.
        retry_failed: Whether failed jobs are started again.
        resubmit_in_doubt: Whether jobs in doubt are submitted again.
        timeout: Seconds to wait for each task.
        json: Whether stdout gets JSON.
    """

    manifest: Manifest
    total: int
    output: Path
    connection: Connection
    in_flight: int
    max_cost: float | None
    retry_failed: bool
    resubmit_in_doubt: bool
    timeout: float | None
    json: bool


@attrs.frozen
class _Jobs:
    """The jobs of a manifest, with their number."""

    manifest: Manifest
    total: int

    def __len__(self) -> int:
        return self.total

    def __aiter__(self) -> AsyncIterator[Job]:
        return self.manifest.jobs()


def run_batch(plan: Plan) -> Exit:
    """Process the jobs that are not saved yet.

    Returns:
        The exit code. The first SIGINT or SIGTERM starts no further jobs and finishes those in flight; the
        second cancels the batch.
    """
    from apimart_async.batch import Shutdown

    # Results on a terminal would only be in the way of the display.
    writes = plan.json or not is_terminal(sys.stdout)
    display = batch_progress_for(plan.total, plain=plan.json and is_terminal(sys.stdout))
    teller = _Teller(plan, display, writes=writes)
    error: errors.ApimartError | None = None
    interrupted = False
    shutdown = Shutdown()
    try:
        interrupted = anyio.run(_run, plan, shutdown, display, teller)
    except errors.ApimartError as ending:
        trace(ending)
        error = ending
    last = display.progress
    if error is not None:
        complain(_why(error))
    for hint in hints(last, plan.output, retried=plan.retry_failed, is_local=plan.connection.local):
        say(hint)
    interrupted = interrupted or (shutdown.is_requested and last.done < plan.total)
    say(sum_up(last, plan.total, plan.output, interrupted=interrupted))
    if interrupted:
        return Exit.INTERRUPTED
    all_saved = error is None and last.saved == plan.total and teller.is_whole
    return Exit.ALL_DONE if all_saved else Exit.SOME_FAILED


async def _run(plan: Plan, shutdown: Shutdown, display: BatchProgress, teller: _Teller) -> bool:
    """Return whether the second signal cancelled it."""
    from apimart_async.batch import edit_many

    def finish() -> None:
        say("Finishing what is in flight; Ctrl-C again stops at once, and loses nothing either.")
        shutdown.request()

    scope = anyio.CancelScope()
    with SIGNALS.calling(finish, scope.cancel), display, scope:
        if plan.connection.local:
            await anyio.to_thread.run_sync(mark, plan.output)
            await drop_lost(plan.output)
        async with (
            connected(plan.connection) as client,
            edit_many(
                client,
                _Jobs(plan.manifest, plan.total),
                output=plan.output,
                max_in_flight=plan.in_flight,
                max_cost=plan.max_cost,
                in_doubt="resubmit" if plan.resubmit_in_doubt else "report",
                retry_failed=plan.retry_failed,
                timeout=plan.timeout,
                on_progress=display.show,
                shutdown=shutdown,
            ) as outcomes,
        ):
            async for outcome in outcomes:
                teller.tell(outcome)
    return scope.cancelled_caught


class _Teller:
    """Reports each job that has ended."""

    def __init__(self, plan: Plan, display: BatchProgress, *, writes: bool) -> None:
        self._plan = plan
        self._display = display
        self._writes = writes
        self._failures = 0
        self.is_whole: bool = True
        """Whether every line for stdout could be written."""

    def tell(self, outcome: Outcome) -> None:
        """Write the results of a job, or the reason why it has none."""
        if self._writes:
            for line in self._lines(outcome):
                self.is_whole = write_line(line) and self.is_whole
        if outcome.error is None or outcome.status == "saved":
            return
        trace(outcome.error)
        self._failures += 1
        if self._failures <= _MOST_FAILURES:
            self._display.tell(f"{_label(outcome)}: {explain(outcome.error, None, _HERE)}")
        elif self._failures == _MOST_FAILURES + 1:
            self._display.tell("Further failures are only in results.jsonl.")

    def _lines(self, outcome: Outcome) -> list[str]:
        if not self._plan.json:
            return [str(path) for path in outcome.paths] if outcome.status == "saved" else []
        from apimart_async.batch.runner import as_plain

        return [json_line(as_plain(outcome, self._plan.output))]


_HERE: Final = ResumeHint(is_possible=False)


def _label(outcome: Outcome) -> str:
    image = outcome.job.image
    name = Path(image).name if isinstance(image, str) else ""
    return shorten(printable(outcome.job.id or name or outcome.id), 40)


def _why(error: errors.ApimartError) -> str:
    """Return the reason why a batch has stopped, with the options of the command."""
    if isinstance(error, errors.BudgetExceededError) and error.limit is not None:
        spent = "" if error.spent is None else f"{dollars(error.spent)} is spent, and "
        return (
            f"The next job could pass the budget: {spent}--max-cost is {dollars(error.limit)}. "
            "Run it again with more to go on."
        )
    return sentence(error.message)
