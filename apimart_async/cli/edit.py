"""``apimart edit``: upload, submit, wait and save, for many pictures at once, with either service."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated, Final

from cyclopts import Parameter

from apimart_async.cli import connection, duration_cache, options
from apimart_async.cli.display import results
from apimart_async.cli.display.item import expect, items_for, stem_of
from apimart_async.cli.display.messages import ResumeHint, Wording
from apimart_async.cli.display.output import printable, say
from apimart_async.cli.run import Run
from apimart_async.cli.signals import Exit, UsageError
from apimart_async.transport.media import forms, png

if TYPE_CHECKING:
    from apimart_async.transport.media.forms import NamedFile

USAGE: Final = "Usage: apimart edit IMAGES... -p PROMPT [OPTIONS]"


def edit(
    images: options.Images,
    /,
    *,
    prompt: Annotated[
        str,
        Parameter(name=("--prompt", "-p"), allow_leading_hyphen=True, help="The change, in any language."),
    ],
    n: Annotated[int, Parameter(name="-n", help="Variants of each picture, 1 to 10.")] = 1,
    model: Annotated[
        str | None,
        Parameter(
            name=("--model", "-m"),
            help="Any model of the service that edits; with applerouter, none is named by default. "
            "[default: grok-imagine-1.0-edit-apimart]",
        ),
    ] = None,
    service: options.Service = "apimart",
    mask: Annotated[
        options.PathOrUrl | None,
        Parameter(name="--mask", help="PNG, transparent where to edit; for applerouter."),
    ] = None,
    size: Annotated[
        str | None, Parameter(name="--size", help="Of the results, such as 512x512; for applerouter.")
    ] = None,
    output: options.Output = options.DEFAULT_DIRECTORY,
    local: options.Local = False,
    inline: options.Inline = False,
    convert: options.Convert = "auto",
    keep_metadata: options.KeepMetadata = False,
    timeout: options.Timeout = None,
    base_url: options.BaseUrl = None,
    json: options.Json = False,
) -> Exit:
    """Edit pictures as a prompt says, all of them at once.

    All pictures are checked before anything is sent. A result gets the name of
    its picture (lighthouse.jpg becomes edited/lighthouse.png, several variants
    edited/lighthouse-1.png and so on); no file is ever overwritten. The paths of
    the results go to stdout, all else to stderr.

    Try these:

      apimart edit photos/*.jpg -p "A starry sky behind it" --local
      apimart edit portrait.png -p "Watercolour painting" -n 3 -o variants
      apimart edit *.jpg -p "Pencil sketch" --json > results.jsonl
      apimart edit - -p "Deep snow" < photo.jpg
      apimart edit room.jpg -p "A red sofa" --service applerouter --mask m.png

    AppleRouter's key is APPLEROUTER_API_KEY. It has no tasks: each request brings
    its images, and task_id is null. For dall-e-2, pictures that are no square PNG
    under 4 MB are made to fit.

    With --json, each line has: image, status (done, failed, interrupted or
    not_started), task_id, paths, cost (USD), seconds, and error (type, message,
    status, code, task_id, idempotency_key) or null.
    """
    from apimart_async.resources.edits import DEFAULT_MODEL
    from apimart_async.resources.published_limits import are_published, check_words
    from apimart_async.resources.submission import check_request

    mask = None if mask is None else str(mask)
    is_apimart = service == "apimart"
    provider: connection.Provider = "APIMART" if is_apimart else "APPLEROUTER"
    has_published_limits = not is_apimart and are_published(model)
    named = DEFAULT_MODEL if model is None else model
    check_request(prompt, named, n, options.most_variants(service, named))
    options.check_timeout(timeout)
    _check_service(service, mask=mask, size=size, inline=inline)
    reached = connection.checked(
        base_url, provider=provider, local=local, convert=convert, keep_metadata=keep_metadata
    )
    sources = options.distinct(images)
    if len(sources) < len(images):
        say("A picture that is given twice is edited once.")
    pictures = options.opened(sources)
    unfit: Collection[str | NamedFile] = ()
    if is_apimart:
        options.check_images(pictures, convert=convert)
    elif has_published_limits:
        check_words(prompt, size)
        _check_are_local(sources, mask)
        unfit = _find_unfit(pictures, mask, _side(size), convert)
    else:
        _check_are_local(sources, mask)
        given = [*pictures, *([] if mask is None else [mask])]
        options.check_images(given, convert=convert, limit=png.SENT_LIMIT)
    options.check_directory(output)

    async def work() -> None:
        from apimart_async.batch import Job
        from apimart_async.batch.backends import ApimartBackend
        from apimart_async.cli.paid import run_paid
        from apimart_async.cli.png_preparation import PngBackend

        # Images inside the answer cannot expire; other models do not know the field.
        response_format = "b64_json" if has_published_limits else None
        fields = {"size": size, "mask": mask, "response_format": response_format}
        given = {name: value for name, value in fields.items() if value is not None}
        jobs = [Job(picture, prompt, model, n, str(i), options=given) for i, picture in enumerate(pictures)]
        pay = partial(run_paid, run, jobs=jobs, output=output)
        if is_apimart:
            async with connection.connected(reached) as client:
                with duration_cache.used(client.tasks, learnt):
                    expect(items, client.tasks.estimate(model or DEFAULT_MODEL, n=n))
                    await pay(ApimartBackend(client, inline=inline), timeout=timeout)
        else:
            async with connection.connected_router(reached) as router:
                await pay(PngBackend(router, timeout=timeout, unfit=unfit, side=_side(size)))

    items = items_for(sources)
    for item in items:
        item.name = stem_of(item.source)
    run = Run(
        items,
        Wording("image", "edited"),
        results.lines(results.edit_record) if json else results.saved_paths,
        ResumeHint(output, base_url, is_possible=not local, key=f"{provider}_API_KEY"),
    )
    with duration_cache.kept(reached.resolved_url) as learnt:
        return run.execute(work)


def _check_service(service: str, *, mask: str | None, size: str | None, inline: bool) -> None:
    given = {"apimart": (("--mask", mask), ("--size", size)), "applerouter": (("--inline", inline or None),)}
    for name, value in given[service]:
        if value is not None:
            other = "applerouter" if service == "apimart" else "apimart"
            raise UsageError(f"{name} is for --service {other}.")


def _check_are_local(images: Sequence[str], mask: str | None) -> None:
    sources = [*images, *([] if mask is None else [mask])]
    remote = next((source for source in sources if forms.remote_url(source) is not None), None)
    if remote is not None:
        raise UsageError(f"{printable(remote)} is an address: download it first, AppleRouter takes files.")


def _find_unfit(
    pictures: Sequence[str | NamedFile], mask: str | None, side: int, convert: options.Conversion
) -> Collection[str | NamedFile]:
    """Check the pictures for dall-e-2, and return those to convert."""
    from apimart_async.cli.png_preparation import unfit

    converted = unfit(pictures, mask, convert)
    if len(converted) == 1:
        (picture,) = converted
        name = picture if isinstance(picture, str) else "stdin"
        subject = f"{printable(name)} is made to fit dall-e-2, as a square PNG"
    else:
        subject = f"{len(converted)} of {len(pictures)} pictures are made to fit dall-e-2, as square PNGs"
    if converted:
        say(f"{subject} of {side} pixels, transparent at the sides.")
    return converted


def _side(size: str | None) -> int:
    from apimart_async.cli.png_preparation import DEFAULT_SIDE

    side = (size or "").partition("x")[0]
    return int(side) if side.isdecimal() else DEFAULT_SIDE
