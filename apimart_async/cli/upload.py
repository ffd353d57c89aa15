"""``apimart upload``: put pictures on the service's file host."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from apimart_async.cli import checks, connection, options, steps
from apimart_async.cli.display import results
from apimart_async.cli.display.summary import Wording
from apimart_async.cli.exits import Exit, UsageError
from apimart_async.cli.job import Job, jobs_for
from apimart_async.cli.resume_hint import ResumeHint
from apimart_async.cli.run import run_jobs

if TYPE_CHECKING:
    from apimart_async.cli.workers import Submits
    from apimart_async.client import AsyncApimart

USAGE = "Usage: apimart upload IMAGES... [OPTIONS]"


def upload(
    images: options.Images, /, *, base_url: options.BaseUrl = None, json: options.Json = False
) -> Exit:
    """Upload pictures, which is free, and print their addresses.

    The addresses come in the order of the arguments. They are public and work
    for 72 hours; any number of edits can use them.

    Try these:

      apimart upload portrait.png
      apimart upload photos/*.jpg --json

    With --json, each line has: image, status (done, failed, interrupted or
    not_started), url, filename, content_type, bytes, expires_at, seconds, and
    error (type, message, status, code, task_id, idempotency_key) or null.
    """
    service = connection.checked(base_url, otherwise=connection.RUN_EMULATOR)
    pictures = checks.once_each(images)
    remote = next((picture for picture in pictures if "://" in picture), None)
    if remote is not None:
        raise UsageError(f"{remote} is an address already: `apimart edit` takes it as it is.")
    checks.check_images(pictures)

    async def work(client: AsyncApimart, job: Job, _: Submits) -> None:
        await steps.upload(client, job)

    return run_jobs(
        jobs_for(pictures),
        work,
        connect=partial(connection.connected, service),
        wording=Wording("image", "uploaded"),
        resume_hint=ResumeHint(is_possible=False),
        render=results.lines(results.upload_record) if json else results.upload_url,
    )
