"""One argument of a command, such as a picture or the id of a task, and the state of the work on it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final, Literal, TypeAlias

import attrs

from apimart_async.cli.display.output import dollars, printable, seconds, shorten
from apimart_async.models import DurationEstimate, ImageSet, Task, Upload
from apimart_async.transport.media.filenames import clean_stem, url_filename

Stage: TypeAlias = Literal[
    "queued",
    "preparing",
    "uploading",
    "submitting",
    "waiting",
    "saving",
    "done",
    "failed",
    "interrupted",
    "not_started",
]
"""The last four are the statuses of ``--json``."""

_LAST: Final[frozenset[Stage]] = frozenset({"done", "failed", "interrupted", "not_started"})
_LONGEST_LABEL: Final = 40

STDIN: Final = "-"
"""The argument that stands for the picture on stdin."""


@attrs.define(eq=False)
class Item:
    """An argument and the state of the work on it.

    Attributes:
        source: The argument as it was typed: a path, a URL, ``-`` or a task id.
        label: Its name in messages.
        name: Name of the result's files without extension; by default that of the task.
        stage: Stage of the work.
        is_submitted: Whether a paid request was started for it.
        idempotency_key: Key of that request.
        task: The paid task as last seen, once it is known.
        images: The images in the answer of a service without tasks.
        upload: The picture on the service's file host.
        paths: Saved files.
        error: The reason why it failed.
        expected: Usual duration of such tasks as text; empty if it is unknown.
    """

    source: str
    label: str
    name: str | None = None
    stage: Stage = "queued"
    is_submitted: bool = False
    idempotency_key: str | None = None
    task: Task | None = None
    images: ImageSet | None = None
    upload: Upload | None = None
    paths: Sequence[Path] = ()
    error: Exception | None = None
    expected: str = ""
    _started_at: float | None = attrs.field(default=None, init=False)
    _ended_at: float | None = attrs.field(default=None, init=False)

    def enter(self, stage: Stage) -> None:
        """Continue with a stage."""
        self.stage = stage
        if self.has_ended:
            self._ended_at = time.monotonic()
        elif self._started_at is None:
            self._started_at = time.monotonic()

    def see(self, task: Task) -> None:
        """Keep the current state of the task."""
        self.task = task

    @property
    def has_ended(self) -> bool:
        """Tell whether no stage follows."""
        return self.stage in _LAST

    @property
    def is_answer_due(self) -> bool:
        """Tell whether the answer to its paid request would be lost if the command ended now."""
        return self.stage == "submitting" or (self.stage == "saving" and self.images is not None)

    @property
    def doubt(self) -> str | None:
        """Return the warning about a paid request that was cut off before its result was safe."""
        if self.images is not None:
            places = " ".join(image.url for image in self.images.images if not image.url.startswith("data:"))
            until = f" Until they expire they are at {printable(places)}" if places else ""
            return f"It is paid for, and its images are not saved.{until}"
        if self.is_submitted and self.task is None:
            key = f"; idempotency key {self.idempotency_key}" if self.idempotency_key else ""
            return f"A paid request was cut off and may have been billed{key}."
        return None

    @property
    def seconds(self) -> float | None:
        """Return the seconds since the start, or those from start to end; ``None`` before the start."""
        if self._started_at is None:
            return None
        return (time.monotonic() if self._ended_at is None else self._ended_at) - self._started_at

    @property
    def facts(self) -> str:
        """Return its duration and its cost as text."""
        return (f"in {seconds(self.seconds)}" if self.seconds is not None else "") + total_cost([self])


def total_cost(items: Iterable[Item]) -> str:
    """Return the sum of the known costs as text; empty when none is known."""
    costs = [item.task.cost for item in items if item.task is not None and item.task.cost is not None]
    return f" for {dollars(sum(costs))}" if costs else ""


def items_for(sources: Iterable[str]) -> list[Item]:
    """Make an item of each argument, with the shortest distinct label."""
    typed = list(sources)
    short = [_last_part(source) for source in typed]
    times = Counter(short)
    return [
        Item(source, shorten(printable(name if times[name] == 1 else source), _LONGEST_LABEL))
        for source, name in zip(typed, short, strict=True)
    ]


def stem_of(source: str) -> str:
    """Return the name of the results of a picture, without an extension."""
    return clean_stem(" ".join(Path(_last_part(source)).stem.split()))


def _last_part(source: str) -> str:
    if source == STDIN:
        return "stdin"
    name = url_filename(source) if source.startswith(("http://", "https://")) else Path(source).name
    return name or source


def expect(items: Iterable[Item], estimate: DurationEstimate | None) -> None:
    """Set the expected duration of the tasks of items."""
    for item in items:
        item.expected = "" if estimate is None else str(estimate)
