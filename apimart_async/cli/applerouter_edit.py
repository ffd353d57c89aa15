"""``apimart edit --service applerouter``: made to fit where needed, edited and saved in one request each."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import anyio
import attrs
from anyio import to_thread

from apimart_async import errors
from apimart_async.cli import checks, connection, png_preparation, steps
from apimart_async.cli.display import results
from apimart_async.cli.display.streams import say
from apimart_async.cli.display.summary import Wording
from apimart_async.cli.display.text import printable
from apimart_async.cli.exits import Exit, UsageError
from apimart_async.cli.job import Job, Stage, jobs_for, stem_of
from apimart_async.cli.resume_hint import ResumeHint
from apimart_async.cli.run import run_jobs
from apimart_async.transport.media import inputs, png

if TYPE_CHECKING:
    from apimart_async.applerouter import AsyncAppleRouter
    from apimart_async.cli.connection import Connection
    from apimart_async.cli.run import Connect
    from apimart_async.cli.workers import Submits
    from apimart_async.models import ImageSet

_AT_ONCE: Final = max(1, min(4, os.cpu_count() or 1))
"""Pictures that are made to fit at once: each takes a processor, and memory for its pixels."""


@attrs.frozen(kw_only=True)
class Order:
    """What is asked for every picture.

    Attributes:
        prompt: What to change.
        model: Which model does it.
        n: How many variants.
        size: Pixels of the result, such as ``512x512``.
        mask: Picture that is transparent where to edit.
        timeout: Seconds for one edit.
    """

    prompt: str = attrs.field(repr=False)
    model: str
    n: int
    size: str | None
    mask: str | None
    timeout: float | None


def edit(images: Sequence[str], order: Order, service: Connection, output: Path, *, json: bool) -> Exit:
    """Edit pictures, all of them at once.

    Args:
        images: Paths, each once.
        order: What is asked for each.
        service: Where.
        output: Directory for the results.
        json: The option.
    """
    from apimart_async.resources.applerouter import DALL_E_2, check_words

    is_dall_e_2 = order.model == DALL_E_2
    if is_dall_e_2:
        check_words(order.prompt, order.size)
    pictures = [*images, *([] if order.mask is None else [order.mask])]
    remote = next((picture for picture in pictures if inputs.remote_url(picture) is not None), None)
    if remote is not None:
        raise UsageError(f"{printable(remote)} is an address: download it first, AppleRouter takes files.")
    unfit: frozenset[str] = frozenset()
    side = png_preparation.DEFAULT_SIDE if order.size is None else int(order.size.partition("x")[0])
    if is_dall_e_2:
        unfit = png_preparation.unfit(images, order.mask)
        _announce(images, unfit, side)
    else:
        checks.check_images(pictures, limit=png.SENT_LIMIT)
    checks.check_directory(output)

    async def work(client: AsyncAppleRouter, job: Job, submits: Submits) -> None:
        image: str | bytes = job.source
        mask: str | bytes | None = order.mask
        if job.source in unfit:
            job.enter(Stage.PREPARING)
            image, mask = await to_thread.run_sync(
                png_preparation.fitted, job.source, order.mask, side, limiter=limiter
            )
        job.enter(Stage.PROCESSING)
        async with steps.paying(job, submits):
            result = await client.edits.create(
                image,
                order.prompt,
                mask=mask,
                model=order.model,
                n=order.n,
                size=order.size,
                # Inside the answer they cannot expire; other models do not know the field.
                response_format="b64_json" if is_dall_e_2 else None,
                timeout=order.timeout,
            )
            await _save(client, job, result, output)

    limiter = anyio.CapacityLimiter(_AT_ONCE)
    connect: Connect[AsyncAppleRouter] = partial(connection.connected_router, service)
    return run_jobs(
        jobs_for(images),
        work,
        connect=connect,
        wording=Wording("image", "edited"),
        resume_hint=ResumeHint(is_possible=not service.local, key=connection.APPLEROUTER.key),
        render=results.lines(results.edit_record) if json else results.saved_paths,
    )


async def _save(client: AsyncAppleRouter, job: Job, result: ImageSet, output: Path) -> None:
    """Save what is paid for, or say where it is: no task remembers it."""
    places = " ".join(image.url for image in result.images if not image.url.startswith("data:"))
    job.doubt = "It is paid for, and its images are not saved."
    if places:
        job.doubt += f" Until they expire they are at {printable(places)}"
    job.enter(Stage.SAVING)
    try:
        job.paths = await client.images.save(result, output, name=stem_of(job.source))
    except errors.DownloadError as error:
        error.message = f"{error.message.rstrip('.')}. {job.doubt}"
        raise
    job.doubt = None


def _announce(images: Sequence[str], unfit: frozenset[str], side: int) -> None:
    if len(unfit) == 1:
        subject = f"{printable(next(iter(unfit)))} is made to fit dall-e-2, as a square PNG"
    else:
        subject = f"{len(unfit)} of {len(images)} pictures are made to fit dall-e-2, as square PNGs"
    if unfit:
        say(f"{subject} of {side} pixels, transparent at the sides.")
