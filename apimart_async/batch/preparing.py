"""A job checked before any money is spent, and named after what it asks for."""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any, Final, cast

import attrs

from apimart_async.batch.job import Job, payload_digest
from apimart_async.batch.record import Record
from apimart_async.errors import InvalidArgumentError
from apimart_async.models import Upload
from apimart_async.resources.submission import check_request
from apimart_async.transport.files.names import DEFAULT_TEMPLATE, NameTemplate
from apimart_async.transport.media import inputs
from apimart_async.transport.media.filenames import clean_stem
from apimart_async.transport.media.inputs import Media, SingleImage
from apimart_async.transport.media.sniffing import EXTENSIONS
from apimart_async.transport.media.sources import OnDisk

_OURS: Final = frozenset({"image", "images", "image_urls", "model", "n", "prompt"})
_REMEMBERED: Final = 4096
_LONGEST: Final = 512


@attrs.frozen(kw_only=True)
class Work:
    """A job that can be submitted.

    Attributes:
        job: As it was given.
        id: Its own, or else the payload's digest.
        payload: Digest of what it asks for.
        model: As it is sent.
        pictures: Addresses, and local images with their digests.
        options: Further fields of the request, images among them checked.
        template: Of the names of its files.
    """

    job: Job
    id: str
    model: str
    template: str
    payload: str = ""
    pictures: tuple[str | tuple[Media, str], ...] = ()
    options: Mapping[str, Any] = attrs.field(factory=dict[str, Any])

    def intent(self, key: str, seconds: float) -> Record:
        """Return the row to write before the paid request."""
        return attrs.evolve(
            describe(self.job, self.id, self.model),
            state="intent",
            payload=self.payload,
            key=key,
            seconds=seconds,
        )


class Preparer:
    """Checks jobs for one service.

    Args:
        model: For jobs that name none.
        limit: Most bytes of a local image.
        has_tasks: Whether files can be named after tasks.
        image_options: Options that are images.
    """

    def __init__(
        self, *, model: str, limit: int, has_tasks: bool, image_options: frozenset[str] = frozenset()
    ) -> None:
        self.model: str = model
        self._limit = limit
        self._has_tasks = has_tasks
        self._image_options = image_options
        self._digests: OrderedDict[OnDisk, str] = OrderedDict()

    async def prepare(self, job: Job) -> Work:
        """Check a job and find out what it is called.

        Raises:
            InvalidArgumentError: It cannot be submitted as it is; an ``ImageError`` when its image cannot.
        """
        model = self.model if job.model is None else job.model
        check_request(job.prompt, model, job.n)
        reserved = _OURS & job.options.keys()
        if reserved:
            raise InvalidArgumentError(
                f"options cannot hold {', '.join(sorted(reserved))}: a job has its own."
            )
        pictures = [await self._open(image) for image in inputs.flatten(job.image)]
        options, digests = await self._check_options(job.options)
        images = [picture if isinstance(picture, str) else picture[1] for picture in pictures]
        payload = payload_digest(images, job.prompt, model, job.n, digests)
        job_id = job.id or payload[:32]
        return Work(
            job=job,
            id=job_id,
            payload=payload,
            model=model,
            pictures=tuple(pictures),
            options=options,
            template=self._template(job, job_id),
        )

    async def _check_options(self, options: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the options as they are sent, and as they are digested."""
        sent, digested = dict(options), dict(options)
        for name in self._image_options & options.keys():
            picture = await self._open(options[name])
            sent[name], digested[name] = (picture, picture) if isinstance(picture, str) else picture
        try:
            json.dumps(digested)
        except (TypeError, ValueError, RecursionError) as error:
            raise InvalidArgumentError(f"The options cannot be written as JSON: {error}.") from error
        return sent, digested

    async def _open(self, image: SingleImage) -> str | tuple[Media, str]:
        address = inputs.remote_url(image)
        if address is not None:
            return address
        opened, digest = await inputs.open_and_digest(image, self._digests, limit=self._limit)
        if isinstance(opened.source, OnDisk):
            # The same file for many prompts is read once.
            self._digests[opened.source] = digest
            self._digests.move_to_end(opened.source)
            if len(self._digests) > _REMEMBERED:
                self._digests.popitem(last=False)
        return opened, digest

    def _template(self, job: Job, job_id: str) -> str:
        if job.name is None:
            return DEFAULT_TEMPLATE if self._has_tasks else f"{_literal(clean_stem(job_id))}-{{index}}"
        stem = job.name
        for extension in (*EXTENSIONS, ".jpeg"):
            stem = stem.removesuffix(extension)
        template = _literal(stem) + ("-{index}" if job.n > 1 else "")
        NameTemplate.parse(template)
        return template


def _literal(stem: str) -> str:
    return stem.replace("{", "{{").replace("}", "}}")


def describe(job: Job, job_id: str | None, model: str) -> Record:
    """Return a row that says what a job was, in words; one without an id is named after them."""
    image = _in_words(job.image)
    if job_id is None:
        words = [image, str(job.prompt), str(job.model), repr(job.n), repr(job.options)]
        job_id = hashlib.sha256("\0".join(words).encode(errors="replace")).hexdigest()[:32]
    return Record(
        id=job_id,
        state="failed",
        payload="",
        image=image,
        prompt=str(job.prompt),
        model=str(model),
        n=job.n if type(job.n) is int else 1,
        name=job.name,
        options={
            name: _in_words(value) if _is_heavy(value) else value for name, value in job.options.items()
        },
    )


def _is_heavy(value: object) -> bool:
    return len(repr(value)) > _LONGEST


def _in_words(image: Any) -> str:  # noqa: ANN401 a caller without a type checker passes anything
    if isinstance(image, (list, tuple)):
        pictures = cast("Sequence[Any]", image)
        return ", ".join(map(_in_words, pictures))
    if isinstance(image, Upload):
        return image.url
    if isinstance(image, bytes):
        return f"{len(image)} bytes"
    # Of a file object, its path; a path's own name is not the whole of it.
    name: object = None if isinstance(image, PurePath) else getattr(image, "name", None)
    text = name if isinstance(name, str) else str(image)
    return text if len(text) <= _LONGEST else f"{text[:40]}… ({len(text)} characters)"
