"""`python -m benchmarks`: measure the clients with the workloads, and write the tables into RESULTS.md."""

from __future__ import annotations

import argparse
from typing import Final

from benchmarks import report
from benchmarks.clients import BASELINE, NAMES, load
from benchmarks.figures import rows
from benchmarks.running import alternate
from benchmarks.serving import running
from benchmarks.starting import import_times
from benchmarks.work import ALL, NAMED

_FULL: Final = tuple((work.name, at_once) for work in ALL for at_once in (1, 8, 64))
_QUICK: Final = (
    ("poll", 64),
    ("upload 200 KB", 8),
    ("upload 5 MB", 64),
    ("download 200 KB", 8),
    ("download 3 MB", 8),
    ("job", 8),
)


def main() -> None:
    """Read the command line, measure, and print and write each table."""
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument(
        "--quick",
        action="store_true",
        help="one concurrency for each workload, a quarter of the operations",
    )
    parser.add_argument("--rounds", type=int, default=3, help="number of rounds (3)")
    parser.add_argument("--effort", type=float, help="factor of the number of operations (1)")
    parser.add_argument("--only", action="append", choices=NAMED, help="only this workload; may be repeated")
    parser.add_argument("--at-once", type=int, action="append", help="only this concurrency; may be repeated")
    parser.add_argument(
        "--client", action="append", choices=NAMES, help="only this client beside aiohttp; may be repeated"
    )
    given = parser.parse_args()
    rounds: int = given.rounds
    effort: float = given.effort or (0.25 if given.quick else 1.0)
    clients = (BASELINE, *(n for n in given.client or NAMES if n != BASELINE and _is_installed(n)))
    with running() as server:
        for name, at_once in _QUICK if given.quick else _FULL:
            if (given.only and name not in given.only) or (given.at_once and at_once not in given.at_once):
                continue
            samples = list(alternate(server, NAMED[name], at_once, clients, rounds=rounds, effort=effort))
            title = _title(name, at_once)
            _write(title, report.section(title, rows(samples), clients, rounds))
    if not given.only:
        _write(report.STARTING, report.starting(import_times(rounds), rounds))


def _title(name: str, at_once: int) -> str:
    return f"{name}, {at_once} at once"


def _write(title: str, table: str) -> None:
    """Print a table and write it at once, so that an interruption loses no table that was measured."""
    order = [
        _title(work.name, at_once) for work in ALL for at_once in sorted({n for _, n in (*_FULL, *_QUICK)})
    ]
    path = report.write({title: table}, [*order, report.STARTING])
    print(f"{table}\nwritten to {path.name}\n", flush=True)  # noqa: T201 a command's output


def _is_installed(name: str) -> bool:
    try:
        load(name)
    except ImportError as error:
        print(f"{name} is left out: {error}")  # noqa: T201 a command's output
        return False
    return True


if __name__ == "__main__":
    main()
