"""How a batch stands, in words, purely."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from apimart_async.cli.display.text import dollars, seconds

if TYPE_CHECKING:
    from apimart_async.batch import Progress


def counts(progress: Progress) -> list[str]:
    """Return how many jobs ended in other ways than well."""
    numbers = {
        "failed": progress.failed,
        "in doubt": progress.in_doubt,
        "unfinished": progress.unfinished,
    }
    return [f"{number:,} {word}" for word, number in numbers.items() if number]


def pace(progress: Progress) -> list[str]:
    """Return what is happening: in flight, rate, spend, time left."""
    eta = progress.eta
    return [
        f"{progress.in_flight:,} in flight",
        *counts(progress),
        f"{progress.rate:.1f}/s" if progress.rate < 10 else f"{progress.rate:,.0f}/s",  # noqa: PLR2004 digits enough
        dollars(progress.spent),
        "finishing" if progress.is_shutting_down else f"{seconds(eta)} left" if eta is not None else "",
    ]


def sum_up(progress: Progress, total: int, output: Path, *, interrupted: bool) -> str:
    """Return the one sentence about a batch that has ended.

    Args:
        progress: Its last.
        total: How many jobs there are.
        output: Where the results are.
        interrupted: Whether the user ended it.
    """
    rest = total - progress.done
    jobs = "job" if total == 1 else "jobs"
    said = [f"{progress.saved:,} of {total:,} {jobs} saved in {output}", *counts(progress)]
    if rest > 0:
        said.append(f"{rest:,} not done yet")
    beginning = "Interrupted: " if interrupted else ""
    spent = f", {dollars(progress.spent)} in all" if progress.spent else ""
    return f"{beginning}{', '.join(said)}; {seconds(progress.elapsed)}{spent}."


def hints(progress: Progress, output: Path, *, retried: bool, is_local: bool) -> Sequence[str]:
    """Return how to go on with what was not saved, a line each.

    Args:
        progress: Of a batch that has ended.
        output: Where the results are.
        retried: Whether failed jobs were begun anew.
        is_local: Whether its service is gone.
    """
    lines: list[str] = []
    if progress.in_doubt:
        lines.append(
            f"{progress.in_doubt:,} may have been paid for or not: look at the account. They are submitted "
            "again only with --resubmit-in-doubt."
        )
    if progress.unfinished and not is_local:
        lines.append(f"{progress.unfinished:,} are paid for and not lost: run the same command again.")
    if progress.failed and not retried:
        lines.append(f"{progress.failed:,} failed: run it again with --retry-failed to try them once more.")
    if lines and (progress.failed or progress.in_doubt):
        lines.append(f"Which and why is in {shlex.quote(str(output / 'results.jsonl'))}.")
    return lines
