"""The progress of a batch on stderr: a display on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Final, Protocol, Self

from apimart_async.cli.display.status import pace
from apimart_async.cli.display.streams import is_terminal, say

if TYPE_CHECKING:
    from types import TracebackType

    from rich.console import Console, RenderableType

    from apimart_async.batch import Progress

_EVERY: Final = 10.0
"""Seconds between two plain lines."""

_BAR: Final = 40
_REFRESH: Final = 8.0


class BatchProgress(Protocol):
    """Shows how far a batch is, while it is entered.

    Attributes:
        progress: The last there was.
    """

    progress: Progress

    def __enter__(self) -> Self:
        """Begin to show it."""
        ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the terminal as it was."""
        ...

    def show(self, progress: Progress) -> None:
        """Show where the batch stands."""
        ...

    def tell(self, line: str) -> None:
        """Write a line beside it."""
        ...


def batch_progress_for(total: int, *, plain: bool) -> BatchProgress:
    """Return the display where stderr is a terminal that can be drawn on, and plain lines elsewhere.

    Args:
        total: How many jobs there are.
        plain: Draw nothing in any case.
    """
    from rich.console import Console

    console = Console(stderr=True, highlight=False, markup=False, emoji=False)
    if plain or not is_terminal(sys.stderr) or not console.is_interactive or console.legacy_windows:
        return Lines(total)
    return Display(total, console)


class Lines:
    """A line every ten seconds.

    Args:
        total: How many jobs there are.
    """

    def __init__(self, total: int) -> None:
        from apimart_async.batch import Progress

        self.progress: Progress = Progress(total=total)
        self._next = time.monotonic() + _EVERY

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def show(self, progress: Progress) -> None:
        """Print it if the last line is old."""
        self.progress = progress
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + _EVERY
            say(f"{progress.done:,} of {progress.total:,} done, {', '.join(filter(None, pace(progress)))}")

    def tell(self, line: str) -> None:
        """Print the line."""
        say(line)


class Display:
    """A bar and a line of numbers below what has been told.

    Args:
        total: How many jobs there are.
        console: Where to draw.
    """

    def __init__(self, total: int, console: Console) -> None:
        from rich.live import Live

        from apimart_async.batch import Progress

        self.progress: Progress = Progress(total=total)
        self._console = console
        self._live = Live(
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

    def show(self, progress: Progress) -> None:
        """Draw it from now on."""
        self.progress = progress

    def tell(self, line: str) -> None:
        """Print the line above."""
        from rich.text import Text

        self._console.print(Text.assemble(("✗ ", "bold red"), line), soft_wrap=True)

    def _draw(self) -> RenderableType:
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        progress = self.progress
        total = progress.total or 0
        bar = Table.grid(padding=(0, 1))
        bar.add_row(
            ProgressBar(total=max(total, 1), completed=progress.done, width=_BAR),
            Text(f"{progress.done:,} of {total:,} done"),
        )
        numbers = Text(" · ".join(filter(None, pace(progress))), style="dim")
        return Group(bar, numbers)
