"""A short benchmark that fails when a ratio exceeds its bound: `nox -s bench_guard`.

A bound is about one and a half times the ratio on a quiet machine, so that the load of a shared machine does
not exceed it: it finds costs that have doubled, not those that have risen by a tenth.
"""

from __future__ import annotations

import sys
from typing import Final

import attrs

from benchmarks import batch
from benchmarks.clients import BASELINE, SDK, TWIN
from benchmarks.figures import rows
from benchmarks.running import alternate
from benchmarks.serving import running
from benchmarks.work import NAMED

_ROUNDS: Final = 3
_EFFORT: Final = 0.12
_TRIES: Final = 2
_BATCH_RATIO: Final = 3.0
_BATCH_JOBS: Final = 300


@attrs.frozen
class Bound:
    """The greatest ratio of a client to plain aiohttp."""

    work: str
    at_once: int
    client: str
    ratio: float


BOUNDS: Final = (
    Bound("poll", 64, SDK, 1.8),
    Bound("poll", 64, TWIN, 3.0),
    Bound("upload 5 MB", 64, SDK, 1.4),
    Bound("download 3 MB", 8, SDK, 1.6),
    Bound("job", 8, SDK, 1.8),
)


def main() -> int:
    """Measure, print, and return 1 when a bound is exceeded twice."""
    failed = False
    with running() as server:
        for work, at_once in dict.fromkeys((bound.work, bound.at_once) for bound in BOUNDS):
            bounds = [bound for bound in BOUNDS if (bound.work, bound.at_once) == (work, at_once)]
            for _ in range(_TRIES):
                clients = (BASELINE, *(bound.client for bound in bounds))
                samples = alternate(server, NAMED[work], at_once, clients, rounds=_ROUNDS, effort=_EFFORT)
                found = {row.client: row.ratio for row in rows(list(samples))}
                exceeded = [bound for bound in bounds if found[bound.client].median > bound.ratio]
                for bound in bounds:
                    ratio = found[bound.client]
                    print(  # noqa: T201 a command's output
                        f"{work}, {at_once} at once, {bound.client}: {ratio.median:.2f} "
                        f"({ratio.least:.2f} to {ratio.most:.2f}), at most {bound.ratio}"
                    )
                if not exceeded:
                    break
            else:
                failed = True
    return int(failed or not _batch_is_cheap())


def _batch_is_cheap() -> bool:
    """Measure a batch, print, and return whether its ratio is within the bound."""
    with running(0.0, 0.0) as server:
        for _ in range(_TRIES):
            *_, row = batch.measure(
                server,
                jobs=_BATCH_JOBS,
                size=200_000,
                at_once=64,
                rounds=_ROUNDS,
                clients=(BASELINE, batch.BATCH),
            )
            print(  # noqa: T201 a command's output
                f"batch, 64 at once, {row.client}: {row.ratio:.2f} "
                f"({row.least:.2f} to {row.most:.2f}), at most {_BATCH_RATIO}"
            )
            if row.ratio <= _BATCH_RATIO:
                return True
    return False


if __name__ == "__main__":
    sys.exit(main())
