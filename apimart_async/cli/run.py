"""Run the jobs of one command: process them, show progress, write the results and a summary."""

from __future__ import annotations

import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import TypeAlias, TypeVar

import anyio

from apimart_async.cli.display.explanation import explain, trace
from apimart_async.cli.display.job_progress import Progress, progress_for
from apimart_async.cli.display.results import Render, Results
from apimart_async.cli.display.streams import is_terminal, say
from apimart_async.cli.display.summary import Wording, interruption, sum_up
from apimart_async.cli.exits import Exit
from apimart_async.cli.job import Job, Stage
from apimart_async.cli.resume_hint import ResumeHint
from apimart_async.cli.signals import SIGNALS
from apimart_async.cli.workers import Submits, settle, work_through

Client = TypeVar("Client")

Work: TypeAlias = Callable[[Client, Job, Submits], Awaitable[None]]
"""Processes one job."""

Connect: TypeAlias = Callable[[], AbstractAsyncContextManager[Client]]
"""Opens a client."""


def run_jobs(
    jobs: Sequence[Job],
    work: Work[Client],
    *,
    connect: Connect[Client],
    wording: Wording,
    resume_hint: ResumeHint,
    render: Render,
) -> Exit:
    """Process all jobs concurrently, show their progress and write their results.

    Args:
        jobs: In the order of the arguments.
        work: Processes one job.
        connect: Opens the client.
        wording: The noun and the verb of the summary.
        resume_hint: The command that continues with tasks that are paid for.
        render: Returns the lines for stdout of a job that has ended.

    Returns:
        The exit code. The first SIGINT or SIGTERM cancels the jobs and leaves paid requests in flight 3
        seconds for their answer; the second cancels those too. The command lists the tasks that are paid for
        and the requests without an answer.
    """
    progress = progress_for(jobs, partial(_why, resume_hint=resume_hint))
    results = Results(jobs, render, hold=progress.draws and is_terminal(sys.stdout))

    def tell(job: Job) -> None:
        if job.stage is Stage.FAILED and job.error is not None:
            trace(job.error)
        progress.tell(job)
        if job.has_ended:
            results.advance()

    for job in jobs:
        job.on_stage = tell
    started = time.monotonic()
    interrupted = anyio.run(_work_on, jobs, work, connect, progress)
    if interrupted:
        for line in interruption(jobs, wording, resume_hint):
            say(line)
    elif len(jobs) > 1:
        say(sum_up(jobs, wording, time.monotonic() - started))
    results.finish()
    if interrupted:
        return Exit.INTERRUPTED
    all_done = all(job.stage is Stage.DONE for job in jobs)
    return Exit.ALL_DONE if all_done and results.are_whole else Exit.SOME_FAILED


async def _work_on(
    jobs: Sequence[Job], work: Work[Client], connect: Connect[Client], progress: Progress
) -> bool:
    """Return whether a signal left a job unfinished."""
    submits, scope = Submits(), anyio.CancelScope()

    def stop() -> None:
        scope.cancel()
        submits.begin_grace()

    with SIGNALS.calling(stop, submits.cancel), progress:
        with scope:
            async with connect() as client:

                async def one(job: Job) -> None:
                    await work(client, job, submits)

                await work_through(jobs, one)
        interrupted = scope.cancel_called and not all(job.has_ended for job in jobs)
        settle(jobs)
    return interrupted


def _why(job: Job, *, resume_hint: ResumeHint) -> str:
    return explain(job.error, job, resume_hint) if job.error is not None else ""
