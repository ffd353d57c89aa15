"""``apimart generate``: a picture from a prompt, and from other pictures if there are any."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from apimart_async.cli import checks, connection, options, steps
from apimart_async.cli.display import results
from apimart_async.cli.display.summary import Wording
from apimart_async.cli.exits import Exit
from apimart_async.cli.job import Job
from apimart_async.cli.resume_hint import ResumeHint
from apimart_async.cli.run import run_jobs

if TYPE_CHECKING:
    from apimart_async.cli.workers import Submits
    from apimart_async.client import AsyncApimart

USAGE = "Usage: apimart generate PROMPT [OPTIONS]"


def generate(
    prompt: Annotated[str, Parameter(allow_leading_hyphen=True, help="What to make, in any language.")],
    /,
    *,
    image: Annotated[
        list[str] | None,
        Parameter(
            name=("--image", "-i"), negative=(), help="Picture to start from; may be given several times."
        ),
    ] = None,
    mask: Annotated[
        str | None, Parameter(name="--mask", help="Picture that says where to change the first one.")
    ] = None,
    n: Annotated[int | None, Parameter(name="-n", help="Variants; one by default.")] = None,
    model: Annotated[
        str, Parameter(name=("--model", "-m"), help="Any model of the service that makes pictures.")
    ] = "gemini-3-pro-image-preview",
    size: Annotated[
        str | None, Parameter(name="--size", help='Shape or pixels: "16:9", "1024x1024", "auto".')
    ] = None,
    resolution: Annotated[str | None, Parameter(name="--resolution", help='"1k", "2k" or "4k".')] = None,
    quality: Annotated[str | None, Parameter(name="--quality", help="In the model's own words.")] = None,
    output_format: Annotated[str | None, Parameter(name="--format", help='Such as "png" or "jpeg".')] = None,
    output: options.Output = Path("generated"),
    local: options.Local = False,
    inline: options.Inline = False,
    timeout: options.Timeout = None,
    base_url: options.BaseUrl = None,
    json: options.Json = False,
) -> Exit:
    """Make a picture as a prompt says, from other pictures if you like.

    Pictures are checked before anything is sent. A result gets the name of its
    task; no file is ever overwritten. The paths of the results go to stdout, all
    else to stderr.

    Try these:

      apimart generate "A lighthouse in a storm" --local
      apimart generate "The same place in autumn" -i photo.jpg --size 16:9
      apimart generate "Both of them, dancing" -i a.png -i b.png --json

    With --json, the line has: status (done, failed or interrupted), task_id,
    paths, cost (USD), seconds, and error (type, message, status, code, task_id,
    idempotency_key) or null.
    """
    from apimart_async.resources.generations import MOST_IMAGES
    from apimart_async.resources.submission import check_request

    check_request(prompt, model, n, MOST_IMAGES)
    options.check_timeout(timeout)
    service = connection.checked(
        base_url, local=local, otherwise="add --local to try it with an emulator on this machine"
    )
    references = tuple(image or ())
    checks.check_images([*references, *([] if mask is None else [mask])])
    checks.check_directory(output)
    order = steps.Generation(
        prompt=prompt,
        model=model,
        images=references,
        mask=mask,
        inline=inline,
        n=n,
        size=size,
        resolution=resolution,
        quality=quality,
        output_format=output_format,
    )

    async def work(client: AsyncApimart, job: Job, submits: Submits) -> None:
        await steps.generate(client, job, order, submits)
        task = await steps.wait(client, job, timeout)
        await steps.save(client, job, task, output)

    return run_jobs(
        [Job("", "the picture")],
        work,
        connect=partial(connection.connected, service),
        wording=Wording("picture", "made"),
        resume_hint=ResumeHint(output, base_url, is_possible=not local),
        render=results.lines(results.generation_record) if json else results.saved_paths,
    )
