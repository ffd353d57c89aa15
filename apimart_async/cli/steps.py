"""The steps of one job: upload, submit, wait, save."""

from __future__ import annotations

import uuid
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel
import attrs

from apimart_async.cli.job import Stage
from apimart_async.transport.concurrent import for_each
from apimart_async.transport.files.names import DEFAULT_TEMPLATE
from apimart_async.transport.media import inputs

if TYPE_CHECKING:
    from apimart_async.cli.job import Job
    from apimart_async.cli.workers import Submits
    from apimart_async.client import AsyncApimart
    from apimart_async.models import Task, Upload


@attrs.frozen
class Edit:
    """The edit of every picture.

    Attributes:
        prompt: The change.
        model: Name of the model.
        n: Number of variants.
        inline: Whether the request contains the picture itself, instead of the address of an upload.
    """

    prompt: str = attrs.field(repr=False)
    model: str
    n: int
    inline: bool


@attrs.frozen(kw_only=True)
class Generation:
    """The request for a new picture; ``None`` leaves an option to the model.

    Attributes:
        prompt: Description of the picture.
        model: Name of the model.
        images: Pictures to start from.
        mask: Picture of the area to change in the first of them.
        inline: Whether the request contains the pictures themselves, instead of addresses of uploads.
        n: Number of variants.
        size: Aspect ratio or pixels.
        resolution: For example ``2k``.
        quality: One of the levels of the model.
        output_format: File format.
    """

    prompt: str = attrs.field(repr=False)
    model: str
    images: Sequence[str]
    mask: str | None
    inline: bool
    n: int | None
    size: str | None
    resolution: str | None
    quality: str | None
    output_format: str | None


async def upload(client: AsyncApimart, job: Job) -> None:
    """Put the job's picture on the service's file host."""
    job.enter(Stage.UPLOADING)
    job.upload = await client.uploads.create(job.source)


async def submit(client: AsyncApimart, job: Job, edit: Edit, submits: Submits) -> None:
    """Upload the picture if necessary, and submit the paid edit."""
    if not edit.inline and inputs.remote_url(job.source) is None:
        await upload(client, job)
    job.idempotency_key = uuid.uuid4().hex
    job.enter(Stage.SUBMITTING)
    async with paying(job, submits):
        job.task = await client.edits.create(
            job.upload or job.source,
            edit.prompt,
            model=edit.model,
            n=edit.n,
            inline=edit.inline,
            idempotency_key=job.idempotency_key,
        )


async def generate(client: AsyncApimart, job: Job, order: Generation, submits: Submits) -> None:
    """Upload the pictures if necessary, and submit the paid generation."""

    async def place(picture: str) -> str | Upload:
        is_here = not order.inline and inputs.remote_url(picture) is None
        return await client.uploads.create(picture) if is_here else picture

    pictures = [*order.images, *([] if order.mask is None else [order.mask])]
    if pictures:
        job.enter(Stage.UPLOADING)
    placed = await for_each(place, pictures)
    mask = None if order.mask is None else placed.pop()
    job.idempotency_key = uuid.uuid4().hex
    job.enter(Stage.SUBMITTING)
    async with paying(job, submits):
        job.task = await client.generations.create(
            order.prompt,
            model=order.model,
            images=placed,
            mask=mask,
            inline=order.inline,
            n=order.n,
            size=order.size,
            resolution=order.resolution,
            quality=order.quality,
            output_format=order.output_format,
            idempotency_key=job.idempotency_key,
        )


@asynccontextmanager
async def paying(job: Job, submits: Submits) -> AsyncGenerator[None]:
    """Shield a paid request from cancellation for the grace period, or note that it was cut off.

    Raises the cancellation of the job before the request if there is one already, and otherwise after it.
    """
    await anyio.lowlevel.checkpoint_if_cancelled()
    with submits.shielded():
        try:
            yield
        except anyio.get_cancelled_exc_class() as cancelled:
            job.doubt = " ".join(getattr(cancelled, "__notes__", ())) or job.doubt
            raise
    await anyio.lowlevel.checkpoint_if_cancelled()


async def look(client: AsyncApimart, job: Job) -> None:
    """Fetch the current state of the job's task."""
    job.enter(Stage.LOOKING)
    job.see(await client.tasks.get(job.source))


async def wait(client: AsyncApimart, job: Job, timeout: float | None) -> Task:
    """Wait until the job's task has its images, and return it."""
    job.enter(Stage.PROCESSING)
    task = await client.tasks.wait(job.task or job.source, timeout=timeout, on_update=job.see)
    job.see(task)
    return task


async def save(
    client: AsyncApimart, job: Job, task: Task, directory: Path, name: str = DEFAULT_TEMPLATE
) -> None:
    """Save every image of a completed task."""
    job.enter(Stage.SAVING)
    job.paths = await client.images.save(task, directory, name=name)
