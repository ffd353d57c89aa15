"""The live display: the jobs at work, a line each and only as many as fit, and how far all of them are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live as RichLive
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from apimart_async.cli.display.summary import facts
from apimart_async.cli.display.text import printable, seconds, shorten
from apimart_async.cli.job import Job, Stage
from apimart_async.models import Task

if TYPE_CHECKING:
    from types import TracebackType

    from apimart_async.cli.display.job_progress import Explain

_MOST_LINES: Final = 8
_BAR: Final = 16
_OVERALL_BAR: Final = 40
_LONGEST_STATUS: Final = 16
# Spinner, bar, status, time and a task id of the usual length, with the spaces between them.
_REST_OF_LINE: Final = 78
_REFRESH: Final = 10.0


class Live:
    """Draw on a terminal; what has ended scrolls up, what is at work stays below.

    Args:
        jobs: All there are.
        explain: Says why a job failed.
        console: Where to draw.
    """

    draws = True

    def __init__(self, jobs: Sequence[Job], explain: Explain, console: Console) -> None:
        self._jobs = jobs
        self._explain = explain
        self._console = console
        self._spinner = Spinner("dots", style="cyan")
        self._label_width = max((len(job.label) for job in jobs), default=0)
        self._live = RichLive(
            console=console,
            get_renderable=self._draw,
            refresh_per_second=_REFRESH,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=True,
        )

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def tell(self, job: Job) -> None:
        """Print the line of a job that has ended."""
        if job.stage is Stage.DONE:
            self._print(("✓ ", "green"), (job.label.ljust(self._label_width), ""), (f"  {facts(job)}", "dim"))
        elif job.stage is Stage.FAILED:
            self._print(("✗ ", "bold red"), (job.label, ""), (f": {self._explain(job)}", ""))

    def _print(self, *parts: tuple[str, str]) -> None:
        # The terminal breaks long lines by itself, so that a command in them can be copied.
        self._console.print(Text.assemble(*parts), soft_wrap=True)

    def _draw(self) -> RenderableType:
        jobs = list(self._jobs)
        at_work = [job for job in jobs if job.stage is not Stage.WAITING and not job.has_ended]
        room = max(1, min(_MOST_LINES, self._console.height - 4))
        wide = self._console.width >= self._label_width + _REST_OF_LINE
        table = Table.grid(padding=(0, 1))
        for _ in range(4):
            table.add_column(no_wrap=True)
        table.add_column(no_wrap=True, overflow="ellipsis")
        for job in at_work[:room]:
            table.add_row(
                self._spinner,
                Text(job.label.ljust(self._label_width)),
                _bar(job),
                Text(_status(job).ljust(_LONGEST_STATUS)),
                Text(_aside(job, with_id=wide), style="dim"),
            )
        parts: list[RenderableType] = [table]
        if len(at_work) > room:
            parts.append(Text(f"  … and {len(at_work) - room} more", style="dim"))
        if len(jobs) > 1:
            parts.append(_overall(jobs))
        return Group(*parts)


def _bar(job: Job) -> ProgressBar:
    progress = job.task.progress if job.task is not None else None
    return ProgressBar(
        total=100,
        completed=100 if job.stage is Stage.SAVING else progress or 0,
        width=_BAR,
        pulse=job.stage is not Stage.SAVING and not progress,
        animation_time=job.seconds,
    )


def _status(job: Job) -> str:
    if job.stage is not Stage.PROCESSING or job.task is None:
        return job.stage.value
    return shorten(_task_status(job.task), _LONGEST_STATUS)


def _task_status(task: Task) -> str:
    status = printable(task.status).replace("_", " ")
    return f"{status} {task.progress:.0f} %" if task.progress else status


def _aside(job: Job, *, with_id: bool) -> str:
    waited = seconds(job.seconds or 0.0).rjust(7)
    return f"{waited}  {printable(job.task.id)}" if with_id and job.task is not None else waited


def _overall(jobs: Sequence[Job]) -> RenderableType:
    stages = Counter(job.stage for job in jobs)
    ended = stages[Stage.DONE] + stages[Stage.FAILED]
    counted = Table.grid(padding=(0, 1))
    failed = f", {stages[Stage.FAILED]} failed" if stages[Stage.FAILED] else ""
    counted.add_row(
        Text(" "),
        ProgressBar(total=len(jobs), completed=ended, width=_OVERALL_BAR),
        Text.assemble(f"{ended} of {len(jobs)}", (failed, "red")),
    )
    return counted
