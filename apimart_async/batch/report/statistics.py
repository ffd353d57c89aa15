"""The statistics of a report, purely: totals, a histogram of durations, the most frequent reasons."""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Sequence
from operator import itemgetter
from typing import TYPE_CHECKING, Final

import attrs

from apimart_async.batch.job import Status
from apimart_async.batch.report.rows import message_of
from apimart_async.errors import ApimartError

if TYPE_CHECKING:
    from apimart_async.batch.job import Outcome

_MOST_REASONS: Final = 1000
_PAUSE: Final = 1.0
_LONGEST_REASON: Final = 240
_BARS: Final = 24
_FEWEST_BARS: Final = 8
_WIDTH_OF_BAR: Final = 25
_WIDTH_OF_TICK: Final = 72
WIDTH: Final = 640
NARROW_WIDTH: Final = 330
_HEIGHT, _LEFT, _BOTTOM, _TOP = 210, 44, 26, 8
_WIDEST_BAR: Final = 90
_ROUND: Final = (1, 2, 5, 10)
_ROUND_SECONDS: Final = (1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10)


def _durations() -> array[float]:
    return array("d")


@attrs.define
class Totals:
    """Sums over the jobs of a batch; it grows by 8 bytes a job.

    Attributes:
        statuses: Number of jobs by status.
        files: Saved images.
        spent: USD, of the costs that are known.
        costs_known: Whether any cost is known.
        unknown_costs: Number of jobs whose images were made at an unknown cost.
        durations: Seconds of each saved job.
        periods: Begin and end, in Unix seconds, of each time in which jobs were worked on, in order; a pause
            of a second or less is part of it.
        reasons: Number of jobs by status and reason.
        other_reasons: Number of jobs whose reason is not among ``reasons``, which is full.
    """

    statuses: Counter[Status] = attrs.field(factory=Counter[Status])
    files: int = 0
    spent: float = 0.0
    costs_known: bool = False
    unknown_costs: int = 0
    durations: array[float] = attrs.field(factory=_durations)
    periods: list[tuple[float, float]] = attrs.field(factory=list[tuple[float, float]])
    reasons: Counter[tuple[Status, str]] = attrs.field(factory=Counter[tuple[Status, str]])
    other_reasons: int = 0

    @property
    def jobs(self) -> int:
        """Return the number of jobs."""
        return self.statuses.total()

    @property
    def wall_time(self) -> float:
        """Return the seconds in which jobs were worked on, over all runs, without the pauses between."""
        return sum(end - begin for begin, end in self.periods)

    def add(self, outcome: Outcome, ended_at: float | None = None) -> None:
        """Count a job, which ended or changed last at ``ended_at``, in Unix seconds."""
        if outcome.seconds is not None and ended_at is not None:
            self._add_period(ended_at - outcome.seconds, ended_at)
        self.statuses[outcome.status] += 1
        self.files += len(outcome.paths)
        self.unknown_costs += outcome.has_unknown_cost
        if outcome.cost is not None:
            self.spent += outcome.cost
            self.costs_known = True
        if outcome.status == "saved" and outcome.seconds is not None:
            self.durations.append(outcome.seconds)
        if outcome.error is not None and outcome.status != "saved":
            reason = outcome.status, reason_of(outcome)
            if reason in self.reasons or len(self.reasons) < _MOST_REASONS:
                self.reasons[reason] += 1
            else:
                self.other_reasons += 1

    def _add_period(self, begin: float, end: float) -> None:
        first = bisect_left(self.periods, begin - _PAUSE, key=itemgetter(1))
        after = bisect_right(self.periods, end + _PAUSE, key=itemgetter(0))
        if first < after:
            begin, end = min(begin, self.periods[first][0]), max(end, self.periods[after - 1][1])
        self.periods[first:after] = [(begin, end)]


def reason_of(outcome: Outcome) -> str:
    """Return why a job was not saved, without its own names, so that equal reasons are equal."""
    error = outcome.error
    message = message_of(error) if error else ""
    own = (
        outcome.task.id if outcome.task else "",
        error.idempotency_key or "" if isinstance(error, ApimartError) else "",
        outcome.job.image if isinstance(outcome.job.image, str) else "",
        outcome.id,
    )
    for text in own:
        if text:
            message = message.replace(text, "…")
    message = " ".join(message.split()) or type(error).__name__
    return message if len(message) <= _LONGEST_REASON else f"{message[: _LONGEST_REASON - 1]}…"


def quantile(ordered: Sequence[float], share: float) -> float:
    """Return the smallest value that at least this share of the values does not exceed."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


@attrs.frozen
class Bar:
    """A bar of the histogram, with its tooltip as the title."""

    x: float
    y: float
    width: float
    height: float
    title: str


@attrs.frozen
class Tick:
    """A number beside an axis."""

    label: str
    x: float = 0.0
    y: float = 0.0


@attrs.frozen
class Histogram:
    """A drawing of the durations of jobs.

    Attributes:
        bars: From short to long; the last one includes all longer durations.
        ticks: Labels below the bars.
        lines: Horizontal lines, with their counts.
        description: The same as a sentence.
        left: Left end of the bars.
        width: Width of the drawing.
        height: Height of the drawing.
    """

    bars: Sequence[Bar]
    ticks: Sequence[Tick]
    lines: Sequence[Tick]
    description: str
    left: int = _LEFT
    width: int = WIDTH
    height: int = _HEIGHT


def histogram(durations: Sequence[float], width: int = WIDTH) -> Histogram | None:
    """Draw the durations of jobs; return ``None`` when there are none.

    Args:
        durations: Seconds, in any order.
        width: Width of the drawing in pixels of the page, so that its labels have the size of other texts.
    """
    if not durations:
        return None
    ordered = sorted(durations)
    # Rice's rule for the number of bars; the longest durations share the last one.
    most_bars = min(_BARS, (width - _LEFT) // _WIDTH_OF_BAR)
    bars = max(_FEWEST_BARS, min(most_bars, math.ceil(2 * len(ordered) ** (1 / 3))))
    step = _rounded_up(max(quantile(ordered, 0.99), 0.01) / bars, _ROUND_SECONDS)
    count = min(bars, math.floor(ordered[-1] / step) + 1)
    counts = Counter(min(math.floor(seconds / step), count - 1) for seconds in ordered)
    most, floor = max(counts.values()), _HEIGHT - _BOTTOM
    stride = min((width - _LEFT) / count, _WIDEST_BAR)
    unit = (floor - _TOP) / most

    def bar(number: int) -> Bar:
        jobs = counts[number]
        upper = f"to {_seconds((number + 1) * step)}" if number < count - 1 else "and more"
        height = max(jobs * unit, 2.0)
        return Bar(
            x=round(_LEFT + number * stride + 1, 2),
            y=round(floor - height, 2),
            width=round(stride - 2, 2),
            height=round(height, 2),
            title=f"{_seconds(number * step)} {upper}: {jobs:,} {'job' if jobs == 1 else 'jobs'}",
        )

    rung = round(max(1, _rounded_up(most / 3, _ROUND)))
    return Histogram(
        bars=[bar(number) for number in range(count) if counts[number]],
        ticks=[
            Tick(_seconds(number * step), x=round(_LEFT + number * stride, 2))
            for number in range(0, count, math.ceil(count * _WIDTH_OF_TICK / (width - _LEFT)))
        ],
        lines=[Tick(f"{jobs:,}", y=round(floor - jobs * unit, 2)) for jobs in range(0, most + 1, rung)],
        description=_describe(ordered),
        width=width,
    )


def _describe(ordered: Sequence[float]) -> str:
    if len(ordered) == 1:
        return f"One job was saved, in {_seconds(ordered[0])}."
    return (
        f"{len(ordered):,} jobs were saved: half of them within {_seconds(quantile(ordered, 0.5))}, "
        f"95 % within {_seconds(quantile(ordered, 0.95))}, all within {_seconds(ordered[-1])}."
    )


def _rounded_up(number: float, factors: Sequence[float]) -> float:
    """Round up to one of these numbers times a power of ten."""
    power = 10.0 ** math.floor(math.log10(number))
    return next(factor * power for factor in factors if factor * power >= number * 0.999999)


def _seconds(seconds: float) -> str:
    if seconds >= 600:  # noqa: PLR2004 ten minutes
        return f"{seconds / 60:.0f} min"
    return f"{seconds:.3g} s"


def time_span(seconds: float) -> str:
    """Format a duration of any length, such as ``"42 s"``, ``"12 min"`` or ``"3 h 20 min"``."""
    if seconds < 90:  # noqa: PLR2004 a minute and a half
        return f"{seconds:.1f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours:,} h {minutes} min" if hours else f"{minutes} min"


def dollars(amount: float) -> str:
    """Format an amount in USD: with cents, and a small one with hundredths of cents."""
    if amount >= 10:  # noqa: PLR2004 hundredths of cents do not matter then
        return f"${amount:,.2f}"
    whole, _, cents = f"{amount:.4f}".rstrip("0").partition(".")
    return f"${whole}.{cents:<02}"
