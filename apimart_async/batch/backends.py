"""The services of a batch: each checks, uploads, submits, awaits and saves jobs."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, ClassVar, Final, Generic, Protocol, TypeVar, cast

import attrs

from apimart_async.applerouter import AsyncAppleRouter
from apimart_async.batch.job import Job
from apimart_async.batch.journal.record import Record
from apimart_async.batch.requests import (
    APIMART_MODELS,
    APPLEROUTER_MODELS,
    check_job,
    fields_of,
    images_of,
    is_plain_edit,
    model_of,
    payload_digest,
)
from apimart_async.client import AsyncApimart
from apimart_async.errors import InvalidArgumentError
from apimart_async.hooks import Operation as PaidCall
from apimart_async.resources import submission
from apimart_async.resources.submission import Operation, sent_operation
from apimart_async.transport import observation
from apimart_async.transport.concurrency import for_each
from apimart_async.transport.files.names import DEFAULT_TEMPLATE, NameTemplate, template_of
from apimart_async.transport.media import forms, inputs
from apimart_async.transport.media.filenames import clean_stem
from apimart_async.transport.media.inputs import Media
from apimart_async.transport.media.sniffing import EXTENSIONS
from apimart_async.transport.media.sources import Stored
from apimart_async.transport.paid_requests import PAID_RECORD, PaidRecord

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from apimart_async.models import ImageSet, Task
    from apimart_async.transport.media.forms import SingleImage

_Client = TypeVar("_Client", AsyncApimart, AsyncAppleRouter)

DOCUMENTED_PRICES: Final[Mapping[str, float]] = {"grok-imagine-1.0-edit-apimart": 0.015}
"""USD for an image in the documentation of the service, for services whose catalogue has no prices."""

_DIGESTS_KEPT: Final = 4096


@attrs.frozen(kw_only=True)
class PreparedJob:
    """A job that was checked before any money is spent.

    Attributes:
        job: The job as it is submitted.
        record: Its description, with its id, the digest of the request and the model.
        images: URLs, and local images with their digests.
        mask: URL or local image of the mask, if there is one.
        options: Further fields of the request.
        template: Name template of its files.
    """

    job: Job
    record: Record
    images: tuple[str | Media, ...] = ()
    mask: str | Media | None = None
    options: Mapping[str, Any] = attrs.field(factory=dict[str, Any])
    template: str = DEFAULT_TEMPLATE

    @property
    def sent_images(self) -> tuple[str | Media, ...]:
        """Return its images, and its mask after them."""
        return self.images if self.mask is None else (*self.images, self.mask)


class Backend(Protocol):
    """The methods of a service; those with a body suit services whose answer is the result.

    Attributes:
        models: The operations of the service, and the model of jobs that name none.
        reports_costs: Whether a budget can be kept.
        has_tasks: Whether a task can be waited for.
    """

    models: ClassVar[Mapping[Operation, str]]
    reports_costs: ClassVar[bool]
    has_tasks: ClassVar[bool]

    def observed(self, prepared: PreparedJob) -> AbstractAsyncContextManager[None]:  # noqa: ARG002 of others
        """Have the event hooks of the client follow the job in the body."""
        return nullcontext()

    def failed(self, error: BaseException) -> None:
        """Tell the event hooks that the job of the body has failed."""

    async def prepare(self, job: Job) -> PreparedJob:
        """Check a job and determine its id.

        Raises:
            InvalidArgumentError: The job cannot be submitted; an ``ImageError`` if its image is the reason.
        """
        ...

    async def upload(self, prepared: PreparedJob) -> Sequence[SingleImage]:
        """Upload the images that the paid request has to name by URL, and the mask after them; free."""
        return cast("list[SingleImage]", list(prepared.sent_images))

    async def submit(
        self, prepared: PreparedJob, images: Sequence[SingleImage], key: str, paid_record: PaidRecord
    ) -> Task | ImageSet:
        """Send the paid request; the record follows each attempt.

        Raises:
            RateLimitError: The service asks to wait; the request is not sent again.
        """
        ...

    async def wait(
        self,
        task: Task,
        timeout: float | None,  # noqa: ARG002 of others
        on_update: Callable[[Task], object] | None,  # noqa: ARG002 of others
    ) -> Task:
        """Return the completed task."""
        return task

    async def refetch(self, task: Task) -> Task:
        """Return the task with fresh URLs."""
        return task

    async def save(self, result: Task | ImageSet, directory: Path, template: str) -> Sequence[Path]:
        """Save every image durably: the journal records it as saved next."""
        ...

    async def price(self, model: str) -> float | None:  # noqa: ARG002 of others
        """Return the USD of an image that the service quotes, if it does; free."""
        return None

    def stats(self) -> Mapping[str, Any]:
        """Return the client's statistics of task durations and rate limits, in a JSON form."""
        return {}

    def rate_limit(self) -> float | None:
        """Return the requests per second that the service was found to accept, if they are known."""
        return None

    def load_stats(self, stats: Mapping[str, Any]) -> None:
        """Load the statistics of an earlier run."""
        ...


@attrs.define(eq=False)
class _JobPreparer(Backend, Generic[_Client]):
    """The check of jobs, which is the same for both services but for these constants."""

    provider: ClassVar[str]
    max_bytes: ClassVar[int]

    _client: _Client
    _digests: OrderedDict[Stored, str] = attrs.field(factory=OrderedDict[Stored, str], init=False)

    def observed(self, prepared: PreparedJob) -> AbstractAsyncContextManager[None]:
        """Have the event hooks of the client follow the job in the body."""
        client = self._client
        if not client.event_hooks:
            return nullcontext()
        paid = PaidCall(self.provider, prepared.job.operation, prepared.record.model, client.base_url)
        return observation.operation(client.event_hooks, paid)

    def failed(self, error: BaseException) -> None:
        """Tell the event hooks that the job of the body has failed."""
        observation.notify(self._client.event_hooks, "failed", lambda each: each.failed(type(error).__name__))

    async def prepare(self, job: Job) -> PreparedJob:
        """Check a job and determine its id."""
        check_job(job, self.models)
        model = model_of(job, self.models)
        images = [await self._open(image) for image in images_of(job)]
        options = dict(job.options)
        mask = await self._open(options.pop("mask")) if "mask" in options else None
        digested = options if mask is None else {**options, "mask": _digest(mask)}
        try:
            json.dumps(digested)
        except (TypeError, ValueError, RecursionError) as error:
            raise InvalidArgumentError(f"The options cannot be written as JSON: {error}.") from error
        payload = payload_digest(job, model, [_digest(image) for image in images], digested)
        job_id = job.id or payload[:32]
        template = DEFAULT_TEMPLATE if self.has_tasks else template_of(clean_stem(job_id), 2)
        if job.name is not None:
            stem = job.name
            for extension in (*EXTENSIONS, ".jpeg"):
                stem = stem.removesuffix(extension)
            template = template_of(stem, job.n)
            NameTemplate.parse(template)
        return PreparedJob(
            job=job,
            record=Record.describe(job, model, job_id=job_id, payload=payload),
            images=tuple(images),
            mask=mask,
            options=options,
            template=template,
        )

    async def _open(self, image: SingleImage) -> str | Media:
        url = forms.remote_url(image)
        if url is not None:
            return url
        media = await inputs.open_and_digest(image, self._digests, limit=self.max_bytes)
        if isinstance(media.source, Stored) and media.digest:
            # A file used with many prompts is read once.
            self._digests[media.source] = media.digest
            self._digests.move_to_end(media.source)
            if len(self._digests) > _DIGESTS_KEPT:
                self._digests.popitem(last=False)
        return media


@contextmanager
def following(paid_record: PaidRecord) -> Generator[None]:
    """Report the attempts of the paid request of the body to a record."""
    token = PAID_RECORD.set(paid_record)
    try:
        yield
    finally:
        PAID_RECORD.reset(token)


def _digest(image: str | Media) -> str:
    return image if isinstance(image, str) else str(image.digest)


async def check_against_schema(client: AsyncApimart, job: Job) -> None:
    """Check a job against the schema of its model, if the client checks requests and the service has one.

    Raises:
        InvalidArgumentError: The model does not take the job.
    """
    fields = fields_of(job, model_of(job, APIMART_MODELS))
    await client.models.check(fields, path=None if is_plain_edit(job) else submission.GENERATIONS)


@attrs.define(eq=False)
class ApimartBackend(_JobPreparer[AsyncApimart]):
    """APIMart: images are uploaded, requests start tasks, results are downloaded.

    Args:
        client: Client of the service.
        inline: Send local images inside the paid request instead of uploading them.
    """

    models: ClassVar[Mapping[Operation, str]] = APIMART_MODELS
    reports_costs: ClassVar[bool] = True
    provider: ClassVar[str] = "apimart"
    max_bytes: ClassVar[int] = inputs.MAX_UPLOAD_BYTES
    has_tasks: ClassVar[bool] = True

    _inline: bool = attrs.field(default=False, kw_only=True, alias="inline")

    async def upload(self, prepared: PreparedJob) -> Sequence[SingleImage]:
        """Upload local images, each once, if the model takes the request."""
        if self._inline:
            return await super().upload(prepared)
        await check_against_schema(self._client, prepared.job)

        async def send(image: str | Media) -> SingleImage:
            if isinstance(image, str):
                return image
            return await self._client.uploads.get_or_create(cast("SingleImage", image))

        return await for_each(send, prepared.sent_images)

    async def submit(
        self, prepared: PreparedJob, images: Sequence[SingleImage], key: str, paid_record: PaidRecord
    ) -> Task:
        """Submit the job to the endpoint of its model."""
        job, client = prepared.job, self._client
        sent: dict[str, Any] = {
            "model": prepared.record.model,
            "inline": self._inline,
            "idempotency_key": key,
            "extra_body": prepared.options,
        }
        with following(paid_record):
            if is_plain_edit(job):
                return await client.edits.create(images, job.prompt, n=job.n, **sent)
            return await client.generations.create(
                job.prompt or None,
                images=images[: len(prepared.images)],
                mask=None if prepared.mask is None else images[-1],
                roles=job.roles,
                operation=sent_operation(job.operation),
                # Not every model knows the field.
                n=None if job.n == 1 else job.n,
                **sent,
            )

    async def wait(
        self, task: Task, timeout: float | None, on_update: Callable[[Task], object] | None
    ) -> Task:
        """Wait for the task."""
        return await self._client.tasks.wait(task, timeout=timeout, on_update=on_update)

    async def refetch(self, task: Task) -> Task:
        """Fetch the task."""
        return await self._client.tasks.get(task)

    async def save(self, result: Task | ImageSet, directory: Path, template: str) -> Sequence[Path]:
        """Download every image."""
        return await self._client.images.save(result, directory, name=template, fsync=True)

    async def price(self, model: str) -> float | None:
        """Return the price of the catalogue, or else of the documentation."""
        quote = await self._client.quote(model)
        return DOCUMENTED_PRICES.get(model) if quote is None else quote.price

    def stats(self) -> Mapping[str, Any]:
        """Return the client's statistics."""
        client = self._client
        return {"durations": client.tasks.duration_stats(), "rate_limit": client.rate_limit_stats()}

    def rate_limit(self) -> float | None:
        """Return the rate that the client has learnt."""
        rate: float | None = self._client.rate_limit_stats()["rate"]
        return rate

    def load_stats(self, stats: Mapping[str, Any]) -> None:
        """Load statistics into the client."""
        self._client.tasks.load_duration_stats(stats.get("durations", {}))
        self._client.load_rate_limit_stats(stats.get("rate_limit", {}))


@attrs.define(eq=False)
class AppleRouterBackend(_JobPreparer[AsyncAppleRouter]):
    """AppleRouter: the answer to the paid request is the result.

    Args:
        client: Client of the service.
        timeout: Seconds for the paid request; the client's by default.
    """

    models: ClassVar[Mapping[Operation, str]] = APPLEROUTER_MODELS
    reports_costs: ClassVar[bool] = False
    provider: ClassVar[str] = "applerouter"
    max_bytes: ClassVar[int] = 50 * 1024 * 1024
    has_tasks: ClassVar[bool] = False

    # Fields of the form that the client has arguments for.
    _ARGUMENTS: ClassVar[frozenset[str]] = frozenset(
        {
            *("size", "response_format", "input_fidelity", "output_format", "output_compression"),
            *("background", "quality", "moderation", "user", "safety_identifier"),
        }
    )

    _timeout: float | None = attrs.field(default=None, kw_only=True, alias="timeout")

    async def submit(
        self,
        prepared: PreparedJob,
        images: Sequence[SingleImage],
        key: str,  # noqa: ARG002 the protocol's
        paid_record: PaidRecord,
    ) -> ImageSet:
        """Make the edit; the service has no idempotency keys."""
        options = prepared.options
        arguments: dict[str, Any] = {name: options[name] for name in self._ARGUMENTS & options.keys()}
        if prepared.mask is not None:
            arguments["mask"] = images[-1]
        with following(paid_record):
            return await self._client.edits.create(
                images[: len(prepared.images)],
                prepared.job.prompt,
                model=prepared.job.model,
                n=prepared.job.n,
                timeout=self._timeout,
                extra_body={name: value for name, value in options.items() if name not in arguments},
                **arguments,
            )

    async def save(self, result: Task | ImageSet, directory: Path, template: str) -> Sequence[Path]:
        """Save every image."""
        return await self._client.images.save(result, directory, name=template, fsync=True)

    def stats(self) -> Mapping[str, Any]:
        """Return the client's statistics; there are no tasks."""
        return {"rate_limit": self._client.rate_limit_stats()}

    def rate_limit(self) -> float | None:
        """Return the rate that the client has learnt."""
        rate: float | None = self._client.rate_limit_stats()["rate"]
        return rate

    def load_stats(self, stats: Mapping[str, Any]) -> None:
        """Load statistics into the client."""
        self._client.load_rate_limit_stats(stats.get("rate_limit", {}))
