"""Jobs and outcomes of a batch, as plain frozen data."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeAlias

import attrs

from apimart_async.models import Task
from apimart_async.transport.media.inputs import ImageInput

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


@attrs.frozen
class Job:
    """One edit of a batch; its ``repr`` omits the prompt and the options, for logs and tracebacks.

    Attributes:
        image: As for ``edits.create``: a path, bytes, a binary file, a PIL image, an ``https://`` or
            ``data:`` URL, ``{"url": …}``, an ``Upload``, or a sequence of these.
        prompt: The change to make, in any language; not empty.
        model: Any model of the service that edits; that of ``edits.create`` by default.
        n: Number of variants, 1 to 10.
        id: Name of the job in the journal, in ``results.jsonl`` and in later runs of the batch. By default a
            digest of the images' content, the prompt, the model, ``n`` and the options: equal jobs are done
            once.
        name: Name of the files, without extension; ``-1``, ``-2``, … is added when ``n`` is more than 1. By
            default they are named after the task.
        options: Further fields of the request.
        extra: Data of the caller with a JSON form. It is never sent, has no part in the identity of the job,
            and is ``"extra"`` in the job's line of ``results.jsonl``.
    """

    image: ImageInput = attrs.field(repr=_shown)
    prompt: str = attrs.field(repr=_length)
    model: str | None = None
    n: int = 1
    id: str | None = None
    name: str | None = None
    options: Mapping[str, Any] = attrs.field(factory=dict[str, Any], repr=False)
    extra: Mapping[str, Any] = attrs.field(factory=dict[str, Any], repr=False)


@attrs.frozen
class Outcome:
    """How a job ended.

    Attributes:
        job: As it was given; read back from a journal, its image is a text that describes it.
        status: ``"saved"``, ``"failed"``, ``"in_doubt"`` or ``"unfinished"``.
        task: As last seen; ``None`` when there is none.
        paths: Its files, in the order of the images.
        error: The reason why it was not saved.
        cost: USD, when the service reported it.
        seconds: Time from start to end, summed over the runs that worked on it.
        resumed: Whether an earlier run, or an equal job of this run, had started it.
        id: The job's id, given or computed.
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

    @property
    def has_unknown_cost(self) -> bool:
        """Whether the images were made and nothing tells their cost, as with OpenAI-compatible services.

        .. versionadded:: 0.1
        """
        has_result = self.status == "unfinished" and (self.task is None or self.task.is_completed)
        return self.cost is None and (self.status == "saved" or has_result)
