"""Write results as tables in Markdown."""

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

    from benchmarks.figures import Range, Row

_PACKAGES: Final = (
    "aiohttp", "anyio", "attrs", "cattrs", "orjson", "requests", "httpx", "openai", "httpx2", "replicate",
)  # fmt: skip
_PYTHON: Final = platform.python_version()
_EXPLANATION: Final = (
    "Written by `nox -s bench`. Processor time (user and system) of the client's process for one operation, "
    "as its ratio to plain aiohttp, both alternating in one process: the median over the rounds with the "
    "least and the most; extra memory at the peak; the 99th percentile of the lag of the event loop (empty "
    "for blocking clients). `docs/performance.md` describes the clients."
)
_QUIET: Final = (0.97, 1.03)

STARTING: Final = "Starting"


def heading() -> str:
    """Return the heading: the machine and the versions of the packages."""
    versions = ", ".join(f"{name} {found}" for name in _PACKAGES if (found := _version(name)))
    where = f"{_machine()}; CPython {_PYTHON}, {versions}."
    return f"# Measurements\n\n{_EXPLANATION}\n\n{where}\n"


def section(title: str, found: Sequence[Row], clients: Iterable[str], rounds: int) -> str:
    """Return the table of one workload; its first row is the baseline against itself."""
    left_out = [client for client in clients if all(client != row.client for row in found)]
    null = found[0].ratio
    is_quiet = _QUIET[0] <= null.median <= _QUIET[1]
    warning = "" if is_quiet else "; **outside 0.97 to 1.03: the machine was not quiet**"
    busiest = max(row.busy for row in found)
    when = f"{_today()}, {rounds} round{'s' if rounds > 1 else ''}."
    lines = [
        f"## {title}",
        "",
        f"{when} aiohttp against itself {_spread(null)}{warning}. Busiest server: {busiest:.0%} of the time.",
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
    """Replace sections of RESULTS.md, keep all others, and return the path of the file.

    Args:
        found: New sections by title.
        order: Titles in order; sections with other titles follow.
    """
    path = Path(__file__).with_name("RESULTS.md")
    _, *old = path.read_text(encoding="utf-8").split("\n## ") if path.exists() else [""]
    sections = {text.partition("\n")[0]: f"## {text.rstrip()}\n" for text in old} | found
    ordered = [title for title in order if title in sections]
    written = [sections[title] for title in dict.fromkeys([*ordered, *sections])]
    path.write_text("\n".join([heading(), *written]), encoding="utf-8")
    return path


def _line(row: Row) -> str:
    lag = "" if row.lag is None else f"{row.lag * 1e3:.1f}"
    spread = f"{row.ratio.least:.2f} to {row.ratio.most:.2f}"
    memory = f"{row.extra_rss / 1e6:.1f}"
    return f"| {row.client} | {row.ratio.median:.2f} | {spread} | {row.cpu * 1e3:.3f} | {memory} | {lag} |"


def _spread(found: Range) -> str:
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
