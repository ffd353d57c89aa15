"""What a batch is asked for and what it answers: jobs and outcomes, as plain frozen data."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

import attrs

from apimart_async.models import Task
from apimart_async.transport.media.inputs import ImageInput

Status: TypeAlias = Literal["saved", "failed", "in_doubt", "unfinished"]
"""How a job ended.

- ``"saved"``: its images are on disk.
- ``"failed"``: it has no images and none are coming; failed jobs are free.
- ``"in_doubt"``: its paid request was sent and it is not known whether it was executed. It is never sent
  again unless the batch is told so.
- ``"unfinished"``: it is paid for, and its task goes on or its images are still to be fetched. The next run
  of the same batch takes it up there.
"""


def _no_options() -> dict[str, Any]:
    return {}


_SHOWN = 96


def _shown(image: object) -> str:
    text = repr(image)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…({len(text)} characters)"


def _length(text: object) -> str:
    return f"({len(str(text))} characters)"


@attrs.frozen
class Job:
    """One edit of a batch; its ``repr`` keeps the prompt and the options to itself, for logs and tracebacks.

    Attributes:
        image: What ``edits.create`` takes: a path, bytes, a binary file, a PIL image, an ``https://`` or
            ``data:`` URL, an ``Upload``, or a sequence of these.
        prompt: What to change, in any language; not empty.
        model: Any model of the service that edits; that of ``edits.create`` by default.
        n: How many variants, 1 to 10.
        id: What the job is called in the journal, in ``results.jsonl`` and when the batch is run again. By
            default a digest of the images' content, the prompt, the model, ``n`` and the options: the same
            work is done once, however often it is asked for.
        name: Of the files, without extension; ``-1``, ``-2``, … is added when ``n`` is more than 1. By
            default they are named after the task.
        options: Further fields of the request.
    """

    image: ImageInput = attrs.field(repr=_shown)
    prompt: str = attrs.field(repr=_length)
    model: str | None = None
    n: int = 1
    id: str | None = None
    name: str | None = None
    options: Mapping[str, Any] = attrs.field(factory=_no_options, repr=False)


@attrs.frozen
class Outcome:
    """How a job ended.

    Attributes:
        job: As it was given; read back from a journal, its image is a text that tells what it was.
        status: ``"saved"``, ``"failed"``, ``"in_doubt"`` or ``"unfinished"``.
        task: As last seen; ``None`` when it never became one, or the service has no tasks.
        paths: Its files, in the order of the images.
        error: Why it was not saved.
        cost: USD, when the service told.
        seconds: From its beginning to its end, summed over the runs that worked on it.
        resumed: Whether an earlier run had begun it already.
        id: The job's id, given or made.
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


def payload_digest(images: Sequence[str], prompt: str, model: str, n: int, options: Mapping[str, Any]) -> str:
    """Return the digest of what a job asks for.

    Args:
        images: Digests of local images, addresses of the others.
        prompt: As it is sent.
        model: As it is sent.
        n: How many variants.
        options: Further fields; values have a JSON form.
    """
    asked = json.dumps([images, prompt, model, n, options], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(asked.encode()).hexdigest()
