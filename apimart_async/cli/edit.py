"""``apimart edit``: upload, submit, wait and save, for many pictures at once."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from apimart_async.cli import applerouter_edit, checks, connection, options, steps
from apimart_async.cli.display import results
from apimart_async.cli.display.streams import say
from apimart_async.cli.display.summary import Wording
from apimart_async.cli.exits import Exit, UsageError
from apimart_async.cli.job import Job, jobs_for, stem_of
from apimart_async.cli.resume_hint import ResumeHint
from apimart_async.cli.run import run_jobs

if TYPE_CHECKING:
    from apimart_async.cli.workers import Submits
    from apimart_async.client import AsyncApimart

USAGE = "Usage: apimart edit IMAGES... -p PROMPT [OPTIONS]"


def edit(
    images: options.Images,
    /,
    *,
    prompt: Annotated[
        str,
        Parameter(
            name=("--prompt", "-p"), allow_leading_hyphen=True, help="What to change, in any language."
        ),
    ],
    n: Annotated[int, Parameter(name="-n", help="Variants of each picture, 1 to 10.")] = 1,
    model: Annotated[
        str | None,
        Parameter(
            name=("--model", "-m"),
            help="Any model of the service that edits; dall-e-2 with applerouter. "
            "[default: grok-imagine-1.0-edit-apimart]",
        ),
    ] = None,
    service: Annotated[
        Literal["apimart", "applerouter"], Parameter(name="--service", help="Which of the two services.")
    ] = "apimart",
    mask: Annotated[
        str | None,
        Parameter(name="--mask", help="PNG, transparent where to edit; for applerouter."),
    ] = None,
    size: Annotated[
        str | None, Parameter(name="--size", help="Of the results, such as 512x512; for applerouter.")
    ] = None,
    output: options.Output = options.DEFAULT_DIRECTORY,
    local: options.Local = False,
    inline: options.Inline = False,
    timeout: options.Timeout = None,
    base_url: options.BaseUrl = None,
    json: options.Json = False,
) -> Exit:
    """Edit pictures as a prompt says, all of them at once.

    All pictures are checked before anything is sent. A result gets the name of
    its picture (lighthouse.jpg becomes edited/lighthouse.png, a second variant
    edited/lighthouse-2.png); no file is ever overwritten. The paths of the
    results go to stdout, all else to stderr.

    Try these:

      apimart edit photos/*.jpg -p "A starry sky behind it" --local
      apimart edit portrait.png -p "Watercolour painting" -n 3 -o variants
      apimart edit *.jpg -p "Pencil sketch" --json > results.jsonl
      apimart edit room.jpg -p "A red sofa" --service applerouter --mask m.png

    AppleRouter's key is APPLEROUTER_API_KEY. It has no tasks: each request brings
    its images, and task_id is null. For dall-e-2, pictures that are no square PNG
    under 4 MB are made to fit.

    With --json, each line has: image, status (done, failed, interrupted or
    not_started), task_id, paths, cost (USD), seconds, and error (type, message,
    status, code, task_id, idempotency_key) or null.
    """
    from apimart_async.resources.applerouter import DALL_E_2
    from apimart_async.resources.edits import DEFAULT_MODEL
    from apimart_async.resources.submission import check_request

    provider = connection.APIMART if service == "apimart" else connection.APPLEROUTER
    model = (DEFAULT_MODEL if service == "apimart" else DALL_E_2) if model is None else model
    check_request(prompt, model, n)
    options.check_timeout(timeout)
    _check_belonging(service, mask=mask, size=size, inline=inline)
    reached = connection.checked(
        base_url,
        provider=provider,
        local=local,
        otherwise="add --local to try it with an emulator on this machine",
    )
    pictures = checks.once_each(images)
    if len(pictures) < len(images):
        say("A picture that is given twice is edited once.")
    if service == "applerouter":
        wish = applerouter_edit.Order(prompt=prompt, model=model, n=n, size=size, mask=mask, timeout=timeout)
        return applerouter_edit.edit(pictures, wish, reached, output, json=json)
    checks.check_images(pictures)
    checks.check_directory(output)
    order = steps.Edit(prompt, model, n, inline)

    async def work(client: AsyncApimart, job: Job, submits: Submits) -> None:
        await steps.submit(client, job, order, submits)
        task = await steps.wait(client, job, timeout)
        await steps.save(client, job, task, output, stem_of(job.source))

    return run_jobs(
        jobs_for(pictures),
        work,
        connect=partial(connection.connected, reached),
        wording=Wording("image", "edited"),
        resume_hint=ResumeHint(output, base_url, is_possible=not local),
        render=results.lines(results.edit_record) if json else results.saved_paths,
    )


def _check_belonging(service: str, *, mask: str | None, size: str | None, inline: bool) -> None:
    given = {"apimart": (("--mask", mask), ("--size", size)), "applerouter": (("--inline", inline or None),)}
    for name, value in given[service]:
        if value is not None:
            other = "applerouter" if service == "apimart" else "apimart"
            raise UsageError(f"{name} is for --service {other}.")
