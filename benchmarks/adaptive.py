"""What the search for limits costs a client that no limit stops: ``python -m benchmarks.adaptive``.

Polls of an adaptive client take turns with polls of a client of fixed limits, in one process; the server has
a process of its own. Each round gives a median of ten ratios of processor time. The mean over the rounds is
printed with its standard error, beside that of the client of fixed limits against itself.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from math import sqrt
from statistics import fmean, stdev

from benchmarks.clients import FIXED, SDK
from benchmarks.running import alternate
from benchmarks.serving import running
from benchmarks.work import NAMED


def main() -> None:
    """Measure and print a line for each client."""
    parser = argparse.ArgumentParser(prog="benchmarks.adaptive", description=__doc__)
    parser.add_argument("--rounds", type=int, default=40, help="how often each is measured, at least 2 (40)")
    parser.add_argument("--at-once", type=int, default=64, help="polls at once (64)")
    given = parser.parse_args()
    ratios: dict[str, list[float]] = defaultdict(list)
    with running() as server:
        for sample in alternate(
            server, NAMED["poll"], given.at_once, (FIXED, SDK), rounds=given.rounds, effort=1.0
        ):
            ratios[sample.client].append(sample.measured.ratio)
    for client, found in ratios.items():
        error = stdev(found) / sqrt(len(found))
        print(f"{client}: {fmean(found):.4f} ± {error:.4f}")  # noqa: T201 a command's output


if __name__ == "__main__":
    main()
