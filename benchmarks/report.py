"""Figures to Markdown."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Final

from benchmarks.running import LONGEST

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from benchmarks.figures import Row, Spread

_PACKAGES: Final = (
    "aiohttp", "anyio", "attrs", "cattrs", "orjson", "requests", "httpx", "openai", "httpx2", "replicate",
)  # fmt: skip
_PYTHON: Final = platform.python_version()
_EXPLANATION: Final = (
    "Written by `nox -s bench`. Processor time (user and system) of the client's process for one piece of "
    "work, as its ratio to plain aiohttp in turns within one process, the median over the rounds with the "
    "least and the most; extra memory at the peak; how late the event loop was at most in 99 of 100 times "
    "(nothing for blocking clients). `docs/performance.md` describes the clients."
)
_STEADY: Final = (0.97, 1.03)

STARTING: Final = "Starting"


def heading() -> str:
    """Say where and with what it was measured."""
    versions = ", ".join(f"{name} {found}" for name in _PACKAGES if (found := _version(name)))
    where = f"{_machine()}; CPython {_PYTHON}, {versions}."
    return f"# Measurements\n\n{_EXPLANATION}\n\n{where}\n"


def section(title: str, found: Sequence[Row], clients: Iterable[str], rounds: int) -> str:
    """Return the table of one kind of work; its first row is the baseline against itself."""
    left_out = [client for client in clients if all(client != row.client for row in found)]
    null = found[0].ratio
    steady = _STEADY[0] <= null.median <= _STEADY[1]
    verdict = "" if steady else "; **outside 0.97 to 1.03: the machine was not quiet**"
    busiest = max(row.busy for row in found)
    when = f"{_today()}, {rounds} round{'s' if rounds > 1 else ''}."
    lines = [
        f"## {title}",
        "",
        f"{when} aiohttp against itself {_spread(null)}{verdict}. Busiest server: {busiest:.0%} of the time.",
        "",
        "| client | ratio | least to most | CPU, ms | extra memory, MB | loop late, ms |",
        "|---|--:|--:|--:|--:|--:|",
        *map(_line, found),
        *(f"| {client} | | | failed, or more than {LONGEST:.0f} s | | |" for client in left_out),
        "",
    ]
    return "\n".join(lines)


def starting(times: dict[str, float], rounds: int) -> str:
    """Return the table of imports."""
    lines = [f"| `{name}` | {seconds * 1e3:.0f} |" for name, seconds in times.items()]
    when = f"{_today()}, {rounds} rounds."
    table = ["| above a bare interpreter | CPU, ms |", "|---|--:|", *lines]
    return "\n".join([f"## {STARTING}", "", when, "", *table, ""])


def write(found: dict[str, str], order: Iterable[str]) -> Path:
    """Put sections in the place of those before, leave the others as they are, and return where that is.

    Args:
        found: Sections by their titles.
        order: Titles of the tables, as they follow each other; sections of other titles come after them.
    """
    path = Path(__file__).with_name("RESULTS.md")
    _, *before = path.read_text(encoding="utf-8").split("\n## ") if path.exists() else [""]
    sections = {text.partition("\n")[0]: f"## {text.rstrip()}\n" for text in before} | found
    ordered = [title for title in order if title in sections]
    written = [sections[title] for title in dict.fromkeys([*ordered, *sections])]
    path.write_text("\n".join([heading(), *written]), encoding="utf-8")
    return path


def _line(row: Row) -> str:
    lag = "" if row.lag is None else f"{row.lag * 1e3:.1f}"
    spread = f"{row.ratio.least:.2f} to {row.ratio.most:.2f}"
    memory = f"{row.extra_rss / 1e6:.1f}"
    return f"| {row.client} | {row.ratio.median:.2f} | {spread} | {row.cpu * 1e3:.3f} | {memory} | {lag} |"


def _spread(found: Spread) -> str:
    return f"{found.median:.2f} ({found.least:.2f} to {found.most:.2f})"


def _today() -> str:
    return f"{datetime.now(UTC):%Y-%m-%d}"


def _machine() -> str:
    return f"{platform.system()} on {platform.machine()} with {os.cpu_count()} processors"


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
