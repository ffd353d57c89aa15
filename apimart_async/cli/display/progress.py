"""Progress on stderr: drawn below the messages on a terminal, and messages alone elsewhere."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Final

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from apimart_async.cli.display.item import Item
from apimart_async.cli.display.messages import batch_facts
from apimart_async.cli.display.output import is_quiet, is_terminal, printable, say, seconds, shorten

if TYPE_CHECKING:
    from apimart_async.batch import Progress

_MOST_ROWS: Final = 8
_BAR: Final = 16
_OVERALL_BAR: Final = 40
_LONGEST_STATUS: Final = 16
# Spinner, bar, status and time, with the spaces between them; then a task id of the usual length.
_ROW: Final = 45
_ID: Final = 33
_EXPECTED: Final = 34
_REFRESH: Final = 10.0
_SPINNER: Final = Spinner("dots", style="cyan")


class Display:
    """Shows progress.

    Args:
        draw: Returns the picture of the progress for a console.
        is_plain: Whether to draw nothing, even on a terminal.

    Attributes:
        draws: Whether it draws on the terminal; other code must not write there then.
        shown: Draws while it is entered.
    """

    def __init__(self, draw: Callable[[Console], RenderableType], *, is_plain: bool = False) -> None:
        self._console = Console(stderr=True, highlight=False, markup=False, emoji=False)
        can_draw = self._console.is_interactive and not self._console.legacy_windows
        self.draws: bool = can_draw and is_terminal(sys.stderr) and not (is_plain or is_quiet())
        live = Live(
            console=self._console,
            get_renderable=partial(draw, self._console),
            refresh_per_second=_REFRESH,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=True,
        )
        self.shown: AbstractContextManager[object] = live if self.draws else nullcontext()

    def done(self, label: str, facts: str, width: int) -> None:
        """Print the line of an item that is done.

        Args:
            label: Its label.
            facts: Duration and cost.
            width: Width of the longest label.
        """
        if self.draws:
            self._print(("✓ ", "green"), label.ljust(width), (f"  {facts}", "dim"))
        else:
            say(f"{label}: done {facts}")

    def failed(self, label: str, reason: str) -> None:
        """Print the line of an item that has failed."""
        if self.draws:
            self._print(("✗ ", "bold red"), f"{label}: {reason}")
        else:
            say(f"{label}: {reason}", always=True)

    def _print(self, *parts: str | tuple[str, str]) -> None:
        # The terminal breaks long lines by itself, so that a command in them can be copied.
        self._console.print(Text.assemble(*parts), soft_wrap=True)


# --- the items of a command -------------------------------------------------------------------------------


def draw_items(items: Sequence[Item], console: Console) -> RenderableType:
    """Draw a row for each item in progress, as many as fit, and the progress of all."""
    active = [item for item in items if item.stage != "queued" and not item.has_ended]
    room = max(1, min(_MOST_ROWS, console.height - 4))
    width = max((len(item.label) for item in items), default=0)
    with_bar = console.width >= width + _ROW
    table = Table.grid(padding=(0, 1))
    for _ in range(5 if with_bar else 3):
        table.add_column(no_wrap=True, overflow="ellipsis")
    for item in active[:room]:
        label, status = Text(item.label.ljust(width)), _status(item)
        waited = Text(seconds(item.seconds or 0.0).rjust(7), style="dim")
        if with_bar:
            details = _details(item, console.width - width - _ROW)
            bar, status = _bar(item), status.ljust(_LONGEST_STATUS)
            table.add_row(_SPINNER, label, bar, Text(status), waited.append(details))
        else:
            table.add_row(_SPINNER, label, Text(status))
    parts: list[RenderableType] = [table]
    if len(active) > room:
        parts.append(Text(f"  … and {len(active) - room} more", style="dim"))
    if len(items) > 1:
        stages = Counter(item.stage for item in items)
        ended = stages["done"] + stages["failed"]
        failed = f", {stages['failed']} failed" if stages["failed"] else ""
        counts = Text.assemble(f"{ended} of {len(items)}", (failed, "red"))
        parts.append(_overall(console, ended, len(items), counts))
    return Group(*parts)


def _details(item: Item, room: int) -> str:
    """Return the expected duration and the id of the task, as far as they fit."""
    parts: list[str] = []
    if item.expected and item.stage == "waiting":
        parts.append(item.expected)
    if item.task is not None:
        parts.append(printable(item.task.id or ""))
    needed = (_EXPECTED if len(parts) > 1 else 0) + _ID
    if room < needed:
        del parts[1:]
    return "".join(f"  {part}" for part in parts) if room >= _ID else ""


def _bar(item: Item) -> ProgressBar:
    is_saving = item.stage == "saving"
    progress = item.task.progress if item.task is not None else None
    return ProgressBar(
        total=100,
        completed=100 if is_saving else progress or 0,
        width=_BAR,
        pulse=not is_saving and not progress,
        animation_time=item.seconds,
    )


def _status(item: Item) -> str:
    task = item.task
    if item.stage != "waiting" or task is None:
        return item.stage
    status = printable(task.status).replace("_", " ")
    return shorten(f"{status} {task.progress:.0f} %" if task.progress else status, _LONGEST_STATUS)


# --- batches ----------------------------------------------------------------------------------------------


def draw_batch(progress: Progress, console: Console) -> RenderableType:
    """Draw the progress of a batch, with its facts below."""
    total = progress.total or 0
    bar = _overall(console, progress.done, total, Text(f"{progress.done:,} of {total:,} done"))
    return Group(bar, Text("  " + " · ".join(batch_facts(progress)), style="dim"))


def _overall(console: Console, done: int, total: int, counts: Text) -> RenderableType:
    line = Table.grid(padding=(0, 1))
    width = max(4, min(_OVERALL_BAR, console.width - len(counts) - 4))
    line.add_row(Text(" "), ProgressBar(total=max(total, 1), completed=done, width=width), counts)
    return line
