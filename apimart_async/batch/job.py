"""Jobs and outcomes of a batch, as plain frozen data."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import NoneType
from typing import Any, Literal, TypeAlias

import attrs

from apimart_async import previews
from apimart_async.arguments import wrong_type
from apimart_async.models import Task
from apimart_async.resources.submission import Operation
from apimart_async.transport.media.forms import ImageInput

Status: TypeAlias = Literal["saved", "failed", "in_doubt", "unfinished"]
"""How a job ended.

- ``"saved"``: its images are on disk.
- ``"failed"``: it has no images and none are coming; failed jobs are free.
- ``"in_doubt"``: its paid request was sent and may or may not have been executed. It is never sent again
  unless the batch is told to.
- ``"unfinished"``: it is paid for, and its task still runs or its images are not downloaded yet. The next run
  of the same batch continues there.
"""

_SHOWN = 96


def _shown(image: object) -> str:
    text = repr(image)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…({len(text)} characters)"


def _length(text: object) -> str:
    return f"({len(str(text))} characters)"


def _is(words: str, *types: type) -> Callable[[object, attrs.Attribute[Any], object], None]:
    def check(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
        if not isinstance(value, types):
            raise wrong_type(f"Job.{attribute.name}", words, value)

    return check


_TEXT = _is("a text", str, NoneType)
_MAPPING = _is("a mapping such as a dict", Mapping)


@attrs.frozen
class Job:
    """One paid request of a batch; its ``repr`` omits the prompt and the options, for logs and tracebacks.

    ``Job("a.jpg", "Add snow")`` is an edit, ``Job(prompt="A lighthouse")`` makes an image from a text,
    ``Job(["a.jpg", "b.jpg"], "Combine them", operation="generate")`` from references, and
    ``Job("a.jpg", operation="segment")`` finds the regions of an image, which is free.

    Attributes:
        image: As for ``edits.create``: a path, bytes, a binary file, a PIL image, an ``https://`` or
            ``data:`` URL, ``{"url": …}``, an ``Upload``, or a sequence of these. Only a job that generates
            may have none.
        prompt: The change or the image to make, in any language; empty only for a segmentation.
        model: Any model of the service that takes the operation. By default, that of ``edits.create`` for an
            edit, that of ``generations.create`` for a generation, and ``"grok-imagine-2.0-ext"`` for regions.
        n: Number of variants, 1 or more; the maximum depends on the model and is 10 for edits by default.
        id: Name of the job in the journal, in ``results.jsonl`` and in later runs of the batch. By default a
            digest of the images' content, the prompt, the model, ``n``, the options, the operation and the
            roles: equal jobs are done once.
        name: Name of the files, without extension; ``-1``, ``-2``, … is added when ``n`` is more than 1. By
            default they are named after the task.
        options: Further fields of the request; ``"mask"`` is an image, in any form that ``image`` has.
        extra: Data of the caller with a JSON form. It is never sent, has no part in the identity of the job,
            and is ``"extra"`` in the job's line of ``results.jsonl``.
        operation: ``"edit"``, ``"generate"``, ``"segment"`` or ``"region_edit"``. By default an edit if there
            is an image, otherwise a generation. An edit goes to the endpoint that its model edits with.
        roles: The role of each image, for models that take ``image_with_roles``.

    Raises:
        InvalidArgumentError: ``id``, ``name``, ``options``, ``extra``, ``operation`` or ``roles`` has another
            type. Everything else that is wrong with a job is its outcome.
    """

    image: ImageInput | None = attrs.field(default=None, repr=_shown)
    prompt: str = attrs.field(default="", repr=_length)
    model: str | None = None
    n: int = 1
    # The journal keeps these as they are, so they are checked at once.
    id: str | None = attrs.field(default=None, validator=_TEXT)
    name: str | None = attrs.field(default=None, validator=_TEXT)
    options: Mapping[str, Any] = attrs.field(factory=dict[str, Any], repr=False, validator=_MAPPING)
    extra: Mapping[str, Any] = attrs.field(factory=dict[str, Any], repr=False, validator=_MAPPING)
    operation: Operation = attrs.field(
        default=attrs.Factory(lambda job: "generate" if job.image is None else "edit", takes_self=True),
        kw_only=True,
        validator=_is("the name of an operation", str),
    )
    roles: Sequence[str] = attrs.field(default=(), kw_only=True, validator=_is("a list of texts", Sequence))


@attrs.frozen
class Outcome:
    """How a job ended.

    Attributes:
        job: The job as it was given; read from a journal, its image is a description, or ``None``.
        status: ``"saved"``, ``"failed"``, ``"in_doubt"`` or ``"unfinished"``.
        task: The task as last seen, without images once they are saved: use ``paths``. ``None`` if there is
            none.
        paths: Paths of the saved files, in the order of the images.
        error: The reason why it was not saved.
        cost: USD, when the service reported it.
        seconds: Time from start to end, summed over the runs that worked on it.
        resumed: Whether an earlier run, or an equal job of this run, had started it.
        id: The job's id, given or computed.
        is_elsewhere: Whether another living process that shares the journal works on it.
    """

    job: Job
    status: Status
    task: Task | None = None
    paths: tuple[Path, ...] = ()
    error: Exception | None = None
    cost: float | None = None
    seconds: float | None = None
    resumed: bool = False
    id: str = ""
    is_elsewhere: bool = False

    def _repr_html_(self) -> str:
        cost = None if self.cost is None else f"${self.cost:.4f}"
        facts = ("Job", self.id), ("status", self.status), ("prompt", self.job.prompt), ("cost", cost)
        return previews.html_of_files((*facts, ("error", str(self.error or ""))), self.paths)

    @property
    def has_unknown_cost(self) -> bool:
        """Whether the images were made at an unknown cost, as with OpenAI-compatible services.

        .. versionadded:: 0.1
        """
        has_result = self.status == "unfinished" and (self.task is None or self.task.is_completed)
        return self.cost is None and not self.is_elsewhere and (self.status == "saved" or has_result)
