"""Pure: the medians of samples, and the range of their ratios."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from benchmarks.running import Sample


@attrs.frozen
class Range:
    """A median with its range."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Range:
        """Return the median and the range of one or more numbers."""
        return cls(median(values), min(values), max(values))


@attrs.frozen
class Row:
    """The results of one client and one workload, as medians over the rounds.

    Attributes:
        client: Name of the client.
        ratio: Processor time divided by that of the baseline; that of the baseline itself shows the noise.
        cpu: Seconds of processor time per operation.
        extra_rss: Resident memory at the peak, less that before the first request, in bytes.
        lag: 99th percentile of the lag of the event loop in seconds; ``None`` for blocking clients.
        busy: Share of the time that the server was busy, at most 1.
    """

    client: str
    ratio: Range
    cpu: float
    extra_rss: float
    lag: float | None
    busy: float


def rows(samples: Sequence[Sample]) -> list[Row]:
    """Return the results of each client, in the order of the first round."""
    return [
        _row([sample for sample in samples if sample.client == client])
        for client in dict.fromkeys(sample.client for sample in samples)
    ]


def _row(samples: Sequence[Sample]) -> Row:
    def median_of(value: Callable[[Sample], float]) -> float:
        return median(map(value, samples))

    lags = [sample.measured.lag for sample in samples if sample.measured.lag is not None]
    return Row(
        samples[0].client,
        Range.of([sample.measured.ratio for sample in samples]),
        median_of(lambda sample: sample.measured.cpu),
        median_of(lambda sample: sample.measured.extra_rss),
        median(lags) if lags else None,
        median_of(lambda sample: sample.server_cpu * sample.measured.count / sample.measured.wall),
    )
