"""``apimart task``: look at tasks, wait for them, save their images."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from apimart_async.cli import checks, connection, options, steps
from apimart_async.cli.display import results
from apimart_async.cli.display.summary import Wording
from apimart_async.cli.exits import Exit, UsageError
from apimart_async.cli.job import Job, jobs_for
from apimart_async.cli.resume_hint import ResumeHint
from apimart_async.cli.run import run_jobs

if TYPE_CHECKING:
    from apimart_async.cli.run import Work
    from apimart_async.cli.workers import Submits
    from apimart_async.client import AsyncApimart

HELP = """Look at tasks, wait for them, save their images.

A task goes on whether anybody looks or not. Its id is all that is needed to
find it again, for some days and from any machine."""


def get(ids: options.TaskIds, /, *, base_url: options.BaseUrl = None, json: options.Json = False) -> Exit:
    """Show tasks as they are now: status, cost, addresses of the images.

    Try this:

      apimart task get task_01KA0000000000000000000000

    With --json, each line has: task_id, status (how the look ended: done, failed,
    interrupted or not_started), task_status (the task's own), progress, images
    (url, expires_at), paths, cost (USD), created_at, completed_at, seconds, and
    error (type, message, status, code, task_id, idempotency_key) or null.
    """

    async def work(client: AsyncApimart, job: Job, _: Submits) -> None:
        await steps.look(client, job)

    return _run_tasks(ids, work, Wording("task", "found"), None, base_url, json=json)


def wait(
    ids: options.TaskIds,
    /,
    *,
    timeout: options.Timeout = None,
    base_url: options.BaseUrl = None,
    json: options.Json = False,
) -> Exit:
    """Wait until tasks have their images, and show them.

    Try this:

      apimart task wait task_01KA0000000000000000000000 --timeout 60

    With --json, the lines are those of `apimart task get`.
    """
    options.check_timeout(timeout)

    async def work(client: AsyncApimart, job: Job, _: Submits) -> None:
        await steps.wait(client, job, timeout)

    return _run_tasks(ids, work, Wording("task", "completed"), None, base_url, json=json)


def save(
    ids: options.TaskIds,
    /,
    *,
    output: options.Output = options.DEFAULT_DIRECTORY,
    timeout: options.Timeout = None,
    base_url: options.BaseUrl = None,
    json: options.Json = False,
) -> Exit:
    """Wait until tasks have their images, and save all of them.

    The paths go to stdout, all else to stderr. What was saved before is kept and
    not downloaded again.

    Try this:

      apimart task save task_01KA0000000000000000000000 -o edited

    With --json, the lines are those of `apimart task get`.
    """
    options.check_timeout(timeout)

    async def work(client: AsyncApimart, job: Job, _: Submits) -> None:
        task = await steps.wait(client, job, timeout)
        await steps.save(client, job, task, output)

    return _run_tasks(ids, work, Wording("task", "saved"), output, base_url, json=json)


def _run_tasks(
    ids: list[str],
    work: Work[AsyncApimart],
    wording: Wording,
    directory: Path | None,
    base_url: str | None,
    *,
    json: bool,
) -> Exit:
    if not all(task_id.strip() for task_id in ids):
        raise UsageError("One of the task ids is empty.")
    service = connection.checked(base_url, task_is_old=True, otherwise=connection.RUN_EMULATOR)
    if directory is not None:
        checks.check_directory(directory)
    text = results.task_lines if directory is None else results.saved_paths
    return run_jobs(
        jobs_for(dict.fromkeys(task_id.strip() for task_id in ids)),
        work,
        connect=partial(connection.connected, service),
        wording=wording,
        resume_hint=ResumeHint(directory, base_url),
        render=results.lines(results.task_record) if json else text,
    )
