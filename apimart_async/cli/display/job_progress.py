"""Progress on stderr: plain lines, or a live display where there is a terminal to draw it on."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol, Self, TypeAlias

from apimart_async.cli.display.streams import is_terminal, say
from apimart_async.cli.display.summary import facts
from apimart_async.cli.display.text import printable
from apimart_async.cli.job import Job, Stage

if TYPE_CHECKING:
    from types import TracebackType

Explain: TypeAlias = Callable[[Job], str]
"""The sentence about a job that failed."""


class Progress(Protocol):
    """Shows how far jobs are, while it is entered."""

    @property
    def draws(self) -> bool:
        """Tell whether it draws on the terminal, so that nothing else may write there."""
        ...

    def __enter__(self) -> Self:
        """Begin to show it."""
        ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the terminal as it was."""
        ...

    def tell(self, job: Job) -> None:
        """Show that a job has entered a stage."""
        ...


class Lines:
    """Plain lines for logs and pipes: when a task is paid for, so that its id is on record, and at the end.

    Args:
        explain: Says why a job failed.
    """

    draws = False

    def __init__(self, explain: Explain) -> None:
        self._explain = explain

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def tell(self, job: Job) -> None:
        """Print what the stage brought, where that is news."""
        if job.stage is Stage.PROCESSING and job.task is not None:
            say(f"{job.label}: submitted as {printable(job.task.id)}")
        elif job.stage is Stage.DONE:
            say(f"{job.label}: done {facts(job)}")
        elif job.stage is Stage.FAILED:
            say(f"{job.label}: {self._explain(job)}")


def progress_for(jobs: Sequence[Job], explain: Explain) -> Progress:
    """Return the live display where stderr is a terminal that can be drawn on, and plain lines elsewhere."""
    from rich.console import Console

    console = Console(stderr=True, highlight=False, markup=False, emoji=False)
    if not is_terminal(sys.stderr) or not console.is_interactive or console.legacy_windows:
        return Lines(explain)
    from apimart_async.cli.display.live import Live

    return Live(jobs, explain, console)
