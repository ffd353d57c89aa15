"""One picture or task the command works on, and how far it is."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from enum import Enum
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import attrs

from apimart_async.cli.display.text import printable, shorten
from apimart_async.models import Task, Upload
from apimart_async.transport.media.filenames import clean_stem

_LONGEST_LABEL: Final = 40


class Stage(Enum):
    """How far a job is; the values are what ``--json`` calls the last four."""

    WAITING = "waiting"
    PREPARING = "preparing"
    UPLOADING = "uploading"
    SUBMITTING = "submitting"
    LOOKING = "looking"
    PROCESSING = "processing"
    SAVING = "saving"
    DONE = "done"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    NOT_STARTED = "not_started"

    @property
    def is_last(self) -> bool:
        """Tell whether nothing follows."""
        return self in _LAST


_LAST: Final = frozenset({Stage.DONE, Stage.FAILED, Stage.INTERRUPTED, Stage.NOT_STARTED})


def _nobody(_: Job) -> None:
    """Take note of nothing."""


@attrs.define(eq=False)
class Job:
    """What is known of one item; it changes while the item is worked on.

    Attributes:
        source: The argument as it was typed: a path, a URL or a task id.
        label: What lines about it call it.
        stage: How far it is.
        task: The paid task, once there is one, as last seen.
        idempotency_key: The key it is submitted under.
        upload: The picture on the service's file host.
        paths: Files that were saved.
        error: Why it failed.
        doubt: Says that a paid request was cut off, when that happened.
        on_stage: Called when a stage is entered.
    """

    source: str
    label: str
    stage: Stage = Stage.WAITING
    task: Task | None = None
    idempotency_key: str | None = None
    upload: Upload | None = None
    paths: Sequence[Path] = ()
    error: Exception | None = None
    doubt: str | None = None
    on_stage: Callable[[Job], None] = _nobody
    _started_at: float | None = attrs.field(default=None, init=False)
    _ended_at: float | None = attrs.field(default=None, init=False)

    def enter(self, stage: Stage) -> None:
        """Go on to a stage."""
        now = time.monotonic()
        if self._started_at is None and not stage.is_last:
            self._started_at = now
        if stage.is_last:
            self._ended_at = now
        self.stage = stage
        self.on_stage(self)

    def see(self, task: Task) -> None:
        """Take note of the task as it is now."""
        self.task = task

    @property
    def seconds(self) -> float | None:
        """Return how long it took or has taken so far; ``None`` before it starts."""
        if self._started_at is None:
            return None
        return (time.monotonic() if self._ended_at is None else self._ended_at) - self._started_at

    @property
    def has_ended(self) -> bool:
        """Tell whether it is done, failed or given up."""
        return self.stage.is_last


def jobs_for(sources: Iterable[str]) -> list[Job]:
    """Make a job of each argument, labelled as shortly as they can be told apart."""
    typed = list(sources)
    short = [_last_part(source) for source in typed]
    times = Counter(short)
    return [
        Job(source, shorten(printable(name if times[name] == 1 else source), _LONGEST_LABEL))
        for source, name in zip(typed, short, strict=True)
    ]


def _last_part(source: str) -> str:
    path = urlsplit(source).path if source.startswith(("http://", "https://")) else source
    return Path(path).name or source


def stem_of(source: str) -> str:
    """Return the template that names the results of a picture after it."""
    stem = " ".join(Path(_last_part(source)).stem.split())
    return clean_stem(stem).replace("{", "{{").replace("}", "}}")
