"""``apimart edit``: upload, submit, wait and save, for many pictures at once, with either service."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated, Final

import attrs
from cyclopts import Parameter

from apimart_async.cli import connection, duration_cache, options, prices
from apimart_async.cli.display import results
from apimart_async.cli.display.item import expect, items_for, stem_of
from apimart_async.cli.display.messages import ResumeHint, Wording
from apimart_async.cli.display.output import printable, say
from apimart_async.cli.dry_run import DryRun
from apimart_async.cli.run import Run
from apimart_async.cli.signals import Exit, UsageError
from apimart_async.cli.target import target_of
from apimart_async.resources import edits, published_limits, submission
from apimart_async.transport.media import forms, inputs, png

if TYPE_CHECKING:
    from apimart_async.batch import Job
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
    output: options.OutputOrFile = options.DEFAULT_DIRECTORY,
    dry_run: options.DryRun = False,
    max_cost: Annotated[
        float | None, Parameter(name="--max-cost", help="USD for all pictures; no edit may pass it.")
    ] = None,
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
    its picture (lighthouse.jpg becomes edited/lighthouse.jpg, several variants
    edited/lighthouse-1.jpg and so on; the extension follows the format of the
    result), or the name that -o gives the only one; no file is ever overwritten.
    The paths of the results go to stdout, all else to stderr. A quoted pattern is
    expanded where the shell does not do it.

    Try these:

      apimart edit docs/examples/photos/*.jpg -p "A starry sky" --local
      apimart edit docs/examples/photos/mug.jpg -p "Snow" --local -o snow.jpg
      apimart edit - -p "Deep snow" --local < docs/examples/photos/mug.jpg
      apimart edit 'docs/examples/photos/*.jpg' -p "Pencil sketch" --dry-run
      apimart edit *.jpg -p "Pencil sketch" --json --max-cost 1 > results.jsonl
      apimart edit room.jpg -p "A red sofa" --service applerouter --mask m.png

    AppleRouter's key is APPLEROUTER_API_KEY. It has no tasks: each request brings
    its images, and task_id is null. For dall-e-2, pictures that are no square PNG
    under 4 MB are made to fit.

    With --json, each line has: image, status (done, failed, interrupted or
    not_started), task_id, paths, cost (USD), seconds, and error (type, message,
    status, code, request_id, task_id, idempotency_key) or null.

    With --dry-run and --json, one object has: service, model (or null), pictures,
    bytes, images, estimated_cost (USD or null), max_cost, fits (whether that is
    enough, or null) and output.
    """
    request = _Request(
        service, prompt, model, n, None if mask is None else str(mask), size, inline=inline, convert=convert
    )
    request.check()
    options.check_timeout(timeout)
    options.check_max_cost(max_cost, service)
    reached = None
    if not dry_run:
        reached = connection.checked(
            base_url, provider=request.provider, local=local, convert=convert, keep_metadata=keep_metadata
        )
    sources = options.distinct(images)
    target = target_of(output, len(sources) * n)
    pictures = options.opened(sources)
    unfit = request.check_pictures(sources, pictures)
    if reached is None:
        options.check_directory_name(target.directory)
        plan = DryRun(
            request.provider, request.sent_model, len(sources) * n, output, base_url, max_cost, local=local
        )
        return plan.show([*pictures, *request.masks], json=json)
    options.check_directory(target.directory)

    async def work() -> None:
        from apimart_async.cli.paid import run_paid

        pay = partial(run_paid, run, jobs=request.jobs(pictures), output=target.directory, max_cost=max_cost)
        if request.is_apimart:
            from apimart_async.batch.backends import ApimartBackend

            async with connection.connected(reached) as client:
                with duration_cache.used(client.tasks, learnt):
                    await prices.check_budget(client, request.name, n, max_cost)
                    expect(items, client.tasks.estimate(request.name, n=n))
                    await pay(ApimartBackend(client, inline=inline), timeout=timeout)
        else:
            from apimart_async.cli.png_preparation import PngBackend

            async with connection.connected_router(reached) as router:
                await pay(PngBackend(router, timeout=timeout, unfit=unfit, side=_side(size)))
        await target.place(items[0])

    items = items_for(sources)
    for item in items:
        item.name = stem_of(item.source)
    target.name(items)
    run = Run(
        items,
        Wording("image", "edited"),
        results.lines(results.edit_record) if json else results.saved_paths,
        ResumeHint(target.directory, base_url, is_possible=not local, key=f"{request.provider}_API_KEY"),
        hold=target.file is not None,
    )
    with duration_cache.kept(reached.resolved_url) as learnt:
        return run.execute(work)


@attrs.frozen
class _Request:
    """The options of the request, which is the same for every picture."""

    service: options.ServiceName
    prompt: str
    model: str | None
    n: int
    mask: str | None
    size: str | None
    inline: bool = attrs.field(kw_only=True)
    convert: options.Conversion = attrs.field(kw_only=True)

    @property
    def is_apimart(self) -> bool:
        return self.service == "apimart"

    @property
    def provider(self) -> connection.Provider:
        return "APIMART" if self.is_apimart else "APPLEROUTER"

    @property
    def name(self) -> str:
        """Return the name of the model; by default the default of the SDK."""
        return edits.DEFAULT_MODEL if self.model is None else self.model

    @property
    def sent_model(self) -> str | None:
        """Return the model that is named in the request."""
        return self.name if self.is_apimart else self.model

    @property
    def masks(self) -> list[str]:
        """Return the mask, if there is one."""
        return [] if self.mask is None else [self.mask]

    @property
    def _has_published_limits(self) -> bool:
        return not self.is_apimart and published_limits.are_published(self.model)

    def check(self) -> None:
        """Check the options, or raise ``UsageError`` or ``InvalidArgumentError``."""
        most = options.most_variants(self.service, self.name)
        submission.check_request(self.prompt, self.name, self.n, most)
        of_others = (
            (("--mask", self.mask), ("--size", self.size))
            if self.is_apimart
            else (("--inline", self.inline or None),)
        )
        for name, value in of_others:
            if value is not None:
                raise UsageError(
                    f"{name} is for --service {'applerouter' if self.is_apimart else 'apimart'}."
                )

    def check_pictures(
        self, sources: Sequence[str], pictures: Sequence[str | NamedFile]
    ) -> Collection[str | NamedFile]:
        """Check the pictures, and return those to convert for dall-e-2.

        Raises:
            UsageError: Some pictures cannot be sent.
            InvalidArgumentError: The prompt or the size is beyond the limits of dall-e-2.
        """
        if not self.is_apimart:
            remote = next((each for each in (*sources, *self.masks) if forms.remote_url(each)), None)
            if remote is not None:
                raise UsageError(
                    f"{printable(remote)} is an address: download it first, AppleRouter takes files."
                )
        if self._has_published_limits:
            published_limits.check_words(self.prompt, self.size)
            return _find_unfit(pictures, self.mask, _side(self.size), self.convert)
        limit = inputs.MAX_UPLOAD_BYTES if self.is_apimart else png.SENT_LIMIT
        options.check_images([*pictures, *self.masks], convert=self.convert, limit=limit)
        return ()

    def jobs(self, pictures: Sequence[str | NamedFile]) -> list[Job]:
        """Return a job for each picture, with its index as the id."""
        from apimart_async.batch import Job

        # Images inside the answer cannot expire; other models do not know the field.
        response_format = "b64_json" if self._has_published_limits else None
        fields = {"size": self.size, "mask": self.mask, "response_format": response_format}
        given = {name: value for name, value in fields.items() if value is not None}
        return [
            Job(picture, self.prompt, self.model, self.n, str(index), options=given)
            for index, picture in enumerate(pictures)
        ]


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
