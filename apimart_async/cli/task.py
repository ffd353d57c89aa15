"""``apimart task``: show tasks, wait for them, save their images."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from apimart_async.cli import connection, options
from apimart_async.cli.display import results
from apimart_async.cli.display.item import Item, items_for
from apimart_async.cli.display.messages import ResumeHint, Wording
from apimart_async.cli.run import Run
from apimart_async.cli.signals import Exit, UsageError
from apimart_async.transport.files.names import DEFAULT_TEMPLATE, template_of
from apimart_async.transport.media.filenames import clean_stem

if TYPE_CHECKING:
    from apimart_async.client import AsyncApimart
    from apimart_async.models import Task

HELP = """Show tasks, wait for them, save their images.

A task goes on without the command. Its id is enough to find it again, for some
days and from any machine."""

Work: TypeAlias = "Callable[[AsyncApimart, Item], Awaitable[object]]"


def get(ids: options.TaskIds, /, *, base_url: options.BaseUrl = None, json: options.Json = False) -> Exit:
    """Show tasks as they are now: status, cost, addresses of the images.

    Try this:

      apimart task get task_01KA0000000000000000000000

    With --json, each line has: task_id, status (of the request: done, failed,
    interrupted or not_started), task_status (the task's own), progress, images
    (url, expires_at), paths, cost (USD), created_at, completed_at, seconds, and
    error (type, message, status, code, request_id, task_id, idempotency_key) or
    null.
    """

    async def work(client: AsyncApimart, item: Item) -> None:
        item.enter("waiting")
        item.see(await client.tasks.get(item.source))

    return _run(ids, work, Wording("task", "found"), None, base_url, json=json)


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
    work = partial(_wait, timeout=timeout)
    return _run(ids, work, Wording("task", "completed"), None, base_url, json=json)


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

    The paths go to stdout, all else to stderr. Files that were saved before are
    kept. ID=NAME names the files of a task, as in the command that `apimart edit`
    prints when it is interrupted.

    Try these:

      apimart task save task_01KA0000000000000000000000 -o edited
      apimart task save task_01KA0000000000000000000000=lighthouse

    With --json, the lines are those of `apimart task get`.
    """
    options.check_timeout(timeout)

    async def work(client: AsyncApimart, item: Item) -> None:
        task = await _wait(client, item, timeout=timeout)
        item.enter("saving")
        name = DEFAULT_TEMPLATE if item.name is None else template_of(item.name, len(task.images))
        item.paths = await client.images.save(task, output, name=name)

    return _run(ids, work, Wording("task", "saved"), output, base_url, json=json)


async def _wait(client: AsyncApimart, item: Item, *, timeout: float | None) -> Task:
    item.enter("waiting")
    task = await client.tasks.wait(item.source, timeout=timeout, on_update=item.see)
    item.see(task)
    return task


def _run(
    ids: list[str],
    work: Work,
    wording: Wording,
    directory: Path | None,
    base_url: list[str] | None,
    *,
    json: bool,
) -> Exit:
    names = {task_id.strip(): name for task_id, _, name in (argument.partition("=") for argument in ids)}
    if not all(names):
        raise UsageError("One of the task ids is empty.")
    service = connection.checked(base_url, task_is_old=True)
    if directory is not None:
        options.check_directory(directory)

    async def work_on_all() -> None:
        async with connection.connected(service) as client:
            await run.each(partial(work, client))

    text = results.task_lines if directory is None else results.saved_paths
    items = items_for(names)
    for item in items:
        item.name = clean_stem(names[item.source]) if names[item.source] else None
    run = Run(
        items,
        wording,
        results.lines(results.task_record) if json else text,
        ResumeHint(directory, base_url),
    )
    return run.execute(work_on_all)
