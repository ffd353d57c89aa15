"""Pure: measurements to ratios with their spread."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from benchmarks.running import Sample


@attrs.frozen
class Spread:
    """A median, and the least and the most beside it."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Sum up some numbers, at least one."""
        return cls(median(values), min(values), max(values))


@attrs.frozen
class Row:
    """What one client cost at one kind of work.

    Attributes:
        client: By name.
        ratio: Processor time against the baseline, in turns; of the baseline, what is noise everywhere.
        cpu: Seconds of processor time per piece of work.
        extra_rss: Bytes of memory at the peak.
        lag: Seconds the event loop was late, the most of 99 in 100 times; ``None`` of blocking clients.
        busy: Part of the time that the server was busy, at most 1.
    """

    client: str
    ratio: Spread
    cpu: float
    extra_rss: float
    lag: float | None
    busy: float


def rows(samples: Sequence[Sample]) -> list[Row]:
    """Sum up the rounds, client by client in the order of the first round."""
    return [
        _row([sample for sample in samples if sample.client == client])
        for client in dict.fromkeys(sample.client for sample in samples)
    ]


def _row(samples: Sequence[Sample]) -> Row:
    def middle(value: Callable[[Sample], float]) -> float:
        return median(map(value, samples))

    lags = [sample.measured.lag for sample in samples if sample.measured.lag is not None]
    return Row(
        samples[0].client,
        Spread.of([sample.measured.ratio for sample in samples]),
        middle(lambda sample: sample.measured.cpu),
        middle(lambda sample: sample.measured.extra_rss),
        median(lags) if lags else None,
        middle(lambda sample: sample.server_cpu * sample.measured.times / sample.measured.wall),
    )
