"""``apimart generate``: a picture from a prompt, and from reference pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from apimart_async.cli import connection, options
from apimart_async.cli.display import results
from apimart_async.cli.display.item import Item
from apimart_async.cli.display.messages import ResumeHint, Wording
from apimart_async.cli.dry_run import DryRun
from apimart_async.cli.run import Run
from apimart_async.cli.signals import Exit
from apimart_async.cli.target import target_of

USAGE = "Usage: apimart generate PROMPT [OPTIONS]"


def generate(
    prompt: Annotated[str, Parameter(allow_leading_hyphen=True, help="Description, in any language.")],
    /,
    *,
    image: Annotated[
        list[options.PathOrUrl] | None,
        Parameter(
            name=("--image", "-i"),
            allow_leading_hyphen=True,
            negative=(),
            help="Picture to start from, or - for stdin; may be given several times.",
        ),
    ] = None,
    mask: Annotated[
        options.PathOrUrl | None,
        Parameter(name="--mask", help="Picture of the area to change in the first one."),
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
    output: options.OutputOrFile = Path("generated"),
    dry_run: options.DryRun = False,
    local: options.Local = False,
    inline: options.Inline = False,
    convert: options.Convert = "auto",
    keep_metadata: options.KeepMetadata = False,
    timeout: options.Timeout = None,
    base_url: options.BaseUrl = None,
    json: options.Json = False,
) -> Exit:
    """Make a picture as a prompt says, from other pictures if you like.

    Pictures are checked before anything is sent. A result gets the name of its
    task, with the extension of its format, or the name that -o gives the only
    one; no file is ever overwritten. The paths of the results go to stdout, all
    else to stderr.

    Try these:

      apimart generate "A lighthouse in a storm" --local
      apimart generate "A lighthouse in a storm" --local -o storm.jpg
      apimart generate "A lighthouse in a storm" -n 2 --dry-run
      apimart generate "The same place in autumn" -i photo.jpg --size 16:9
      apimart generate "Both of them, dancing" -i a.png -i b.png --json

    With --json, the line has: status (done, failed or interrupted), task_id,
    paths, cost (USD), seconds, and error (type, message, status, code, request_id,
    task_id, idempotency_key) or null.
    """
    from apimart_async.resources.submission import check_request, max_n

    check_request(prompt, model, n, max_n(model), has_n=n is not None)
    options.check_timeout(timeout)
    target = target_of(output, n or 1)
    service = None
    if not dry_run:
        service = connection.checked(base_url, local=local, convert=convert, keep_metadata=keep_metadata)
    mask = None if mask is None else str(mask)
    references = options.opened(options.expanded(image or ()))
    pictures = [*references, *([] if mask is None else [mask])]
    options.check_images(pictures, convert=convert)
    if service is None:
        options.check_directory_name(target.directory)
        plan = DryRun("APIMART", model, n or 1, output, base_url, local=local)
        return plan.show(pictures, json=json)
    options.check_directory(target.directory)
    fields = {
        "mask": mask,
        "size": size,
        "resolution": resolution,
        "quality": quality,
        "output_format": output_format,
    }

    async def work() -> None:
        from apimart_async.batch import Job
        from apimart_async.batch.backends import ApimartBackend
        from apimart_async.cli.paid import run_paid

        given = {name: value for name, value in fields.items() if value is not None}
        job = Job(tuple(references) or None, prompt, model, n or 1, "0", options=given, operation="generate")
        async with connection.connected(service) as client:
            await run_paid(
                run, ApimartBackend(client, inline=inline), [job], target.directory, timeout=timeout
            )
        await target.place(items[0])

    items = [Item("", "the picture")]
    target.name(items)
    run = Run(
        items,
        Wording("picture", "made"),
        results.lines(results.generation_record) if json else results.saved_paths,
        ResumeHint(target.directory, base_url, is_possible=not local),
        hold=target.file is not None,
    )
    return run.execute(work)
