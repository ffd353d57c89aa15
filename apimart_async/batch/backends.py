"""The services that a batch works with: how each checks, uploads, submits, awaits and saves a job."""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar, Final, Protocol, cast

import attrs

from apimart_async.applerouter import AsyncAppleRouter
from apimart_async.batch.job import Job
from apimart_async.batch.journal.record import Record
from apimart_async.client import AsyncApimart
from apimart_async.errors import InvalidArgumentError
from apimart_async.resources.edits import DEFAULT_MODEL
from apimart_async.resources.submission import check_request
from apimart_async.transport.api import SEND_HOOKS, SendHooks
from apimart_async.transport.files.names import DEFAULT_TEMPLATE, NameTemplate, template_of
from apimart_async.transport.media import inputs
from apimart_async.transport.media.filenames import clean_stem
from apimart_async.transport.media.inputs import Media, SingleImage
from apimart_async.transport.media.sniffing import EXTENSIONS
from apimart_async.transport.media.sources import LocalFile

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

    from apimart_async.models import ImageSet, Task
    from apimart_async.transport.media.inputs import ImageInput

_RESERVED: Final = frozenset({"image", "images", "image_urls", "model", "n", "prompt"})
_DIGESTS_KEPT: Final = 4096


@attrs.frozen(kw_only=True)
class PreparedJob:
    """A job that was checked before any money is spent.

    Attributes:
        job: As it is submitted.
        record: Its description, with its id, the digest of the request and the model.
        images: URLs, and local images with their digests.
        options: Further fields of the request, with images among them checked.
        template: Name template of its files.
    """

    job: Job
    record: Record
    images: tuple[str | Media, ...] = ()
    options: Mapping[str, Any] = attrs.field(factory=dict[str, Any])
    template: str = DEFAULT_TEMPLATE


class Backend(Protocol):
    """A service's part in a job; the methods with a body suit services whose answer is the result.

    Attributes:
        default_model: For jobs that name none.
        reports_costs: Whether a budget can be kept.
    """

    default_model: ClassVar[str]
    reports_costs: ClassVar[bool]

    async def prepare(self, job: Job) -> PreparedJob:
        """Check a job and determine its id.

        Raises:
            InvalidArgumentError: It cannot be submitted as it is; an ``ImageError`` when its image cannot.
        """
        ...

    async def upload(self, prepared: PreparedJob) -> ImageInput:
        """Upload the images that the paid request has to name by URL; free."""
        return cast("list[SingleImage]", list(prepared.images))

    async def submit(
        self, prepared: PreparedJob, images: ImageInput, key: str, hooks: SendHooks
    ) -> Task | ImageSet:
        """Send the paid request; the hooks follow each attempt.

        Raises:
            RateLimitError: The service asks to wait; it is not sent again.
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

    def stats(self) -> Mapping[str, Any]:
        """Return the client's statistics of task durations and rate limits, in a JSON form."""
        return {}

    def load_stats(self, stats: Mapping[str, Any]) -> None:
        """Load the statistics of an earlier run."""
        ...


@attrs.define(eq=False)
class _JobPreparer(Backend):
    """The check of jobs, which is the same for both services but for these constants."""

    max_bytes: ClassVar[int]
    image_options: ClassVar[frozenset[str]] = frozenset()
    has_tasks: ClassVar[bool]

    _digests: OrderedDict[LocalFile, str] = attrs.field(factory=OrderedDict[LocalFile, str], init=False)

    async def prepare(self, job: Job) -> PreparedJob:
        """Check a job and determine its id."""
        model = self.default_model if job.model is None else job.model
        check_request(job.prompt, model, job.n)
        reserved = _RESERVED & job.options.keys()
        if reserved:
            raise InvalidArgumentError(
                f"options cannot hold {', '.join(sorted(reserved))}: a job has its own."
            )
        images = [await self._open(image) for image in inputs.flatten(job.image)]
        sent, digested = dict(job.options), dict(job.options)
        for name in self.image_options & job.options.keys():
            image = await self._open(job.options[name])
            sent[name], digested[name] = image, image if isinstance(image, str) else image.digest
        try:
            json.dumps(digested)
        except (TypeError, ValueError, RecursionError) as error:
            raise InvalidArgumentError(f"The options cannot be written as JSON: {error}.") from error
        contents = [image if isinstance(image, str) else str(image.digest) for image in images]
        payload = payload_digest(contents, job.prompt, model, job.n, digested)
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
            options=sent,
            template=template,
        )

    async def _open(self, image: SingleImage) -> str | Media:
        url = inputs.remote_url(image)
        if url is not None:
            return url
        media = await inputs.open_and_digest(image, self._digests, limit=self.max_bytes)
        if isinstance(media.source, LocalFile) and media.digest:
            # A file used with many prompts is read once.
            self._digests[media.source] = media.digest
            self._digests.move_to_end(media.source)
            if len(self._digests) > _DIGESTS_KEPT:
                self._digests.popitem(last=False)
        return media


@contextmanager
def following(hooks: SendHooks) -> Generator[None]:
    """Have hooks follow the paid request of the body."""
    token = SEND_HOOKS.set(hooks)
    try:
        yield
    finally:
        SEND_HOOKS.reset(token)


def payload_digest(images: Sequence[str], prompt: str, model: str, n: int, options: Mapping[str, Any]) -> str:
    """Return the digest of the request of a job.

    Args:
        images: Digests of local images, URLs of the others.
        prompt: As it is sent.
        model: As it is sent.
        n: Number of variants.
        options: Further fields; values have a JSON form.
    """
    asked = json.dumps([images, prompt, model, n, options], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(asked.encode()).hexdigest()


@attrs.define(eq=False)
class ApimartBackend(_JobPreparer):
    """APIMart: images are uploaded, requests start tasks, results are downloaded.

    Args:
        client: Client of the service.
        inline: Send local images inside the paid request instead of uploading them.
    """

    default_model: ClassVar[str] = DEFAULT_MODEL
    reports_costs: ClassVar[bool] = True
    max_bytes: ClassVar[int] = inputs.MAX_UPLOAD_BYTES
    has_tasks: ClassVar[bool] = True

    _client: AsyncApimart
    _inline: bool = attrs.field(default=False, kw_only=True, alias="inline")

    async def upload(self, prepared: PreparedJob) -> ImageInput:
        """Upload local images, each once."""
        if self._inline:
            return await super().upload(prepared)
        return [
            image
            if isinstance(image, str)
            else await self._client.uploads.get_or_create(cast("SingleImage", image))
            for image in prepared.images
        ]

    async def submit(self, prepared: PreparedJob, images: ImageInput, key: str, hooks: SendHooks) -> Task:
        """Submit the edit."""
        with following(hooks):
            return await self._client.edits.create(
                images,
                prepared.job.prompt,
                model=prepared.record.model,
                n=prepared.job.n,
                inline=self._inline,
                idempotency_key=key,
                extra_body=prepared.options,
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

    def stats(self) -> Mapping[str, Any]:
        """Return the client's statistics."""
        client = self._client
        return {"durations": client.tasks.duration_stats(), "rate_limit": client.rate_limit_stats()}

    def load_stats(self, stats: Mapping[str, Any]) -> None:
        """Load statistics into the client."""
        self._client.tasks.load_duration_stats(stats.get("durations", {}))
        self._client.load_rate_limit_stats(stats.get("rate_limit", {}))


@attrs.define(eq=False)
class AppleRouterBackend(_JobPreparer):
    """AppleRouter: the answer to the paid request is the result.

    Args:
        client: Client of the service.
        timeout: Seconds for the paid request; the client's by default.
    """

    # A request that names no model; the name is for reports and budgets only.
    default_model: ClassVar[str] = "default"
    reports_costs: ClassVar[bool] = False
    max_bytes: ClassVar[int] = 50 * 1024 * 1024
    image_options: ClassVar[frozenset[str]] = frozenset({"mask"})
    has_tasks: ClassVar[bool] = False

    # Fields of the form that the client has arguments for.
    _ARGUMENTS: ClassVar[frozenset[str]] = frozenset(
        {
            *("mask", "size", "response_format", "input_fidelity", "output_format", "output_compression"),
            *("background", "quality", "moderation", "user", "safety_identifier"),
        }
    )

    _client: AsyncAppleRouter
    _timeout: float | None = attrs.field(default=None, kw_only=True, alias="timeout")

    async def submit(
        self,
        prepared: PreparedJob,
        images: ImageInput,
        key: str,  # noqa: ARG002 the protocol's
        hooks: SendHooks,
    ) -> ImageSet:
        """Make the edit; the service has no idempotency keys."""
        options = prepared.options
        arguments: dict[str, Any] = {name: options[name] for name in self._ARGUMENTS & options.keys()}
        with following(hooks):
            return await self._client.edits.create(
                images,
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

    def load_stats(self, stats: Mapping[str, Any]) -> None:
        """Load statistics into the client."""
        self._client.load_rate_limit_stats(stats.get("rate_limit", {}))
