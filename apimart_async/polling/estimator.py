"""Pure: duration statistics for each model, and the distribution of durations estimated from them.

For most tasks only the two polls between which they ended are known, and for running tasks only that they
have not ended yet. The estimate uses both as interval-censored and right-censored observations, by
expectation maximisation: it spreads each task over its interval in proportion to the current distribution,
and the sum over all tasks is the next distribution. That is smoothed over neighbouring bins, and mixed with a
broad prior of the weight of half a task, which covers durations not seen yet.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import deque
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

import attrs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# The grid: bins between the shortest and the longest duration, bins on either side, and how far those reach.
_CORE: Final = 128
_FLANK: Final = 12
_REACH: Final = 24.0

_PRIOR_WEIGHT: Final = 0.5
_PRIOR_PER_FIRST_POLL: Final = 4.0
TAIL_SHAPE: Final = 2.0
"""Exponent of the tail: the probability to last longer than an age beyond all data falls as age ** -2."""

_NEIGHBOURS: Final = 0.1
_WIDEST: Final = 0.4
_SMOOTH: Final = 8

# Bounds of the statistics: models, and tasks, running tasks and polls for each.
_MAX_MODELS: Final = 64
_MAX_TASKS: Final = 128
_MAX_RUNNING: Final = 32
_MAX_POLLS: Final = 600

_VERSION: Final = 1
_MIN_MEDIAN: Final = 0.01
_MAX_MEDIAN: Final = 1e6
_MIN_DURATION: Final = 1e-6

# Weight of a task relative to the next newer one, and by how much that falls while durations drift.
_DECAY: Final = 0.99
_DRIFT_DECAY: Final = 0.06

# Drift: a moving mean of 0.5 - (probability to outlive the task), which is 0 while the distribution fits.
# Above the threshold the service has changed speed, and all but the newest tasks are dropped.
_DRIFT_RATE: Final = 0.15
_DRIFT_SUSPECTED: Final = 0.2
_SUSPECTED_POLLS: Final = 40
_DRIFT_DETECTED: Final = 0.3
_KEPT: Final = 12
_MAX_CONCURRENT: Final = 16

_NARROW: Final = 0.06
_GOLDEN: Final = 0.6180339887
_ROUNDING: Final = 0.5


class Observation(NamedTuple):
    """One task, or several alike.

    Attributes:
        after: Age in seconds at which the task had not ended.
        by: Age in seconds by which it had ended; infinite while it has not.
        guess: Likely duration within the interval; ``None`` if any is as likely.
    """

    after: float
    by: float
    guess: float | None = None


@attrs.frozen(eq=False)
class Distribution:
    """A distribution of durations as its survival function, piecewise linear.

    Attributes:
        edges: Ages in seconds, ascending from 0.
        survival: Probability that a task lasts longer, at each edge.
        tail_from: Age in seconds from which on there is no data, only the prior.
    """

    edges: list[float]
    survival: list[float]
    tail_from: float = math.inf

    def survival_at(self, age: float) -> float:
        """Return the probability that a task lasts longer than an age in seconds."""
        edges, survival = self.edges, self.survival
        if age >= edges[-1]:
            return survival[-1] * math.pow(edges[-1] / age, TAIL_SHAPE)
        index = max(1, bisect_left(edges, age))
        left, right = edges[index - 1], edges[index]
        part = (age - left) / (right - left)
        return survival[index - 1] + part * (survival[index] - survival[index - 1])

    def age_at(self, survival: float) -> float:
        """Return the age in seconds that a task outlives with this probability."""
        edges, known = self.edges, self.survival
        index = bisect_left(known, 1.0 - survival, key=lambda probability: 1.0 - probability)
        if index == 0:
            return 0.0
        if index >= len(edges):
            return edges[-1]
        drop = known[index - 1] - known[index]
        part = (known[index - 1] - survival) / drop if drop > 0 else 1.0
        return edges[index - 1] + part * (edges[index] - edges[index - 1])


def estimate(observations: Sequence[tuple[Observation, float]], prior_median: float) -> Distribution:
    """Estimate the distribution of durations.

    Args:
        observations: The tasks, with weights.
        prior_median: Median of the prior in seconds.
    """
    ended: list[tuple[float, Observation, float]] = []
    for seen, weight in observations:
        if seen.by < math.inf:
            middle = (seen.after + seen.by) / 2 if seen.after > 0 else 0.75 * seen.by
            ended.append((middle if seen.guess is None else seen.guess, seen, weight))
    ended.sort(key=lambda entry: entry[0])
    centres = [centre for centre, _, _ in ended]
    count = len(centres)
    median = math.exp((math.log(prior_median) + sum(map(math.log, centres))) / (1 + count))
    near = max(1, round(_NEIGHBOURS * count))
    narrowest = _WIDEST / (1 + count)
    # Intervals widened for smoothing; `boxes` begin the iteration, `wide` are iterated over.
    boxes: list[tuple[float, float, float]] = []
    wide: list[tuple[float, float, float]] = []
    for index, (centre, seen, weight) in enumerate(ended):
        below = centre - centres[index - near] if index >= near else math.inf
        above = centres[index + near] - centre if index + near < count else math.inf
        width = max(min(below, above, _WIDEST * centre), narrowest * centre)
        first, last = centre - width, centre + width
        after, by = seen.after - width / 2, seen.by + width / 2
        after, by = min(first, after), max(last, by)
        wide.append((after, by, weight))
        boxes.append((after, by, weight) if seen.guess is None else (first, last, weight))
    low = min((max(box[0], 0.5 * centres[0]) for box in boxes), default=median / 4)
    high = max((box[1] for box in boxes), default=median * 4)
    edges = _grid(low, high, centres)
    prior = [1 / (1 + (edge / median) ** TAIL_SHAPE) for edge in edges]
    wide += [(seen.after, math.inf, weight) for seen, weight in observations if seen.by == math.inf]
    if not wide:
        return Distribution(edges, prior, high)
    return Distribution(edges, _fit(wide, boxes, edges, prior), high)


def _grid(low: float, high: float, centres: Sequence[float]) -> list[float]:
    """Return bin edges in seconds, close together at low ages and where tasks end."""
    below, above = (1 / _REACH) ** (1 / _FLANK), _REACH ** (1 / _FLANK)
    edges = [0.0]
    edges += [low * below**step for step in range(_FLANK, -1, -1)]
    # Half of the edges in even steps of the square root of the age, the others in even shares of the tasks.
    root, width = math.sqrt(low), math.sqrt(high) - math.sqrt(low)
    share = 1 / (1 + len(centres))
    step = (1 + len(centres) * share) / _CORE
    narrowest = (high - low) / (8 * _CORE)
    place, age, target = 0.0, low, step
    knots = [
        ((math.sqrt(centre) - root) / width + number * share, centre)
        for number, centre in enumerate(centres, 1)
        if low < centre < high
    ]
    for next_place, next_age in (*knots, (2.0, high)):
        slope = (next_age - age) / max(next_place - place, 1e-9)
        while target < next_place:
            edge = age + slope * (target - place)
            if edge > edges[-1] + narrowest:
                edges.append(edge)
            target += step
        place, age = next_place, next_age
    if high - edges[-1] < narrowest:
        edges.pop()
    edges += [high * above**number for number in range(_FLANK + 1)]
    return edges


def _fit(
    wide: Sequence[tuple[float, float, float]],
    boxes: Sequence[tuple[float, float, float]],
    edges: list[float],
    prior: list[float],
) -> list[float]:
    """Return the survival at each edge after one step of expectation maximisation, smoothed."""
    last = len(edges)
    widths = [right - left for left, right in zip(edges, [*edges[1:], 2 * edges[-1]], strict=True)]
    belief = [_PRIOR_WEIGHT * (left - right) for left, right in zip(prior, [*prior[1:], 0.0], strict=True)]
    total = sum(entry[2] for entry in wide) + _PRIOR_WEIGHT
    change = [0.0] * (last + 1)
    for after, by, weight in boxes:
        first, beyond = max(0, bisect_left(edges, after) - 1), min(last - 1, bisect_left(edges, by))
        density = weight / (edges[beyond] - edges[first])
        change[first] += density
        change[beyond] -= density
    # The last bin holds all durations above the last edge.
    mass = [
        (width * max(density, 0.0) + own) / total
        for width, density, own in zip(widths, accumulate(change), belief, strict=False)
    ]
    below = [0.0, *accumulate(mass)]
    change = [0.0] * (last + 1)
    for after, by, weight in wide:
        first = max(0, bisect_left(edges, after) - 1)
        beyond = last if by == math.inf else min(last, bisect_left(edges, by))
        share = weight / (below[beyond] - below[first])
        change[first] += share
        change[beyond] -= share
    mass = [
        (part * factor + own) / total
        for part, factor, own in zip(mass, accumulate(change), belief, strict=False)
    ]
    # Average the density over some bins on either side; the last bin has no end and stays as it is.
    last -= 1
    below = [0.0, *accumulate(mass)]
    firsts = [0] * _SMOOTH + list(range(last - _SMOOTH))
    beyonds = [*range(_SMOOTH + 1, last + 1), *[last] * _SMOOTH]
    even = [
        (below[beyond] - below[first]) / (edges[beyond] - edges[first]) * (right - left)
        for first, beyond, left, right in zip(firsts, beyonds, edges[:-1], edges[1:], strict=True)
    ]
    scale = below[last] / (sum(even) or 1.0)
    ended = accumulate([*(part * scale for part in even), mass[-1]])
    return [1.0, *(max(0.0, 1.0 - part) for part in ended)][:-1]


@attrs.define(eq=False)
class ModelStats:
    """Duration statistics of one model; bounded, the newest tasks weigh most.

    Attributes:
        prior_median: Median of the prior in seconds.
        is_estimated: Whether the prior comes from the service or from progress, not from settings.
        observations: Ended and abandoned tasks, oldest first.
        running: Age in seconds at which each running task had not ended, by wait id.
    """

    prior_median: float
    is_estimated: bool = False
    observations: deque[Observation] = attrs.field(factory=lambda: deque[Observation](maxlen=_MAX_TASKS))
    running: dict[int, float] = attrs.field(factory=dict[int, float])
    _distribution: Distribution | None = None
    _polls: int = 0
    _ended: int = 0
    _new: int = 0
    _drift: float = 0.0
    _phase: float = 0.0

    def expect(self, median: float, *, by_service: bool) -> None:
        """Set the median of the prior; the service's estimate overrides others.

        Args:
            median: Seconds; ignored below 0.01 s or above 1e6 s.
            by_service: Whether the service itself gave the estimate.
        """
        if not _MIN_MEDIAN <= median <= _MAX_MEDIAN:
            return
        if median != self.prior_median and (by_service or not self.is_estimated):
            self.prior_median, self.is_estimated = median, by_service
            if not self.observations:
                self.discard_estimate()

    def record_running(self, wait_id: int, age: float, progress: float | None = None) -> None:
        """Record that a task had not ended at an age in seconds.

        Args:
            wait_id: Identifies the wait.
            age: Seconds since the submit.
            progress: Percent, where the service reports changing values. The duration it implies is the prior
                as long as there are neither observations nor an estimate of the service.
        """
        self.running[wait_id] = age
        self._polls += 1
        if progress is not None and not self.observations:
            self.expect(age * 100.0 / progress, by_service=False)

    def record_end(self, wait_id: int, after: float, by: float, actual_time: float | None = None) -> None:
        """Record that a task ended between two ages in seconds.

        Args:
            wait_id: Identifies the wait.
            after: Age at which the task had not ended.
            by: Age by which it had ended.
            actual_time: Duration in seconds that the service reports; ignored where it contradicts the polls.
        """
        self.running.pop(wait_id, None)
        self._polls += 1
        if actual_time is not None and actual_time > 0:
            slack = _ROUNDING if actual_time == int(actual_time) else 0.01 * actual_time
            low, high = max(after, actual_time - slack), min(by, actual_time + slack)
            if low < high:
                after, by = low, high
        if not 0 <= after < by:
            return
        self._new += 1
        self._ended += 1
        known = self._distribution
        if known is None or not self.observations:
            self.observations.append(Observation(after, by))
            return
        # Draw a duration from the interval; the golden ratio covers it evenly.
        high, low = known.survival_at(after), known.survival_at(by)
        self._phase = (self._phase + _GOLDEN) % 1.0
        outlived = high - self._phase * (high - low)
        if by - after < _NARROW * by:
            guess: float | None = (after + by) / 2
        else:
            guess = known.age_at(outlived)
            guess = guess if after < guess < by else None
        self.observations.append(Observation(after, by, guess))
        if len(self.running) > _MAX_CONCURRENT:
            # The short tasks of a wave end first, which is no drift.
            self._drift = 0.0
            return
        self._drift += _DRIFT_RATE * (0.5 - outlived - self._drift)
        if abs(self._drift) > _DRIFT_DETECTED:
            self._drift = 0.0
            self._ended = _KEPT
            newest = [Observation(seen.after, seen.by) for seen in self.observations][-_KEPT:]
            self.observations.clear()
            self.observations.extend(newest)
            self.discard_estimate()

    def record_abandoned(self, wait_id: int) -> None:
        """Record that a wait ended before its task; the age counts where most tasks had ended before."""
        age = self.running.pop(wait_id, None)
        if age is not None and self.observations and self.distribution().survival_at(age) < 0.9:  # noqa: PLR2004 an age that most tasks reach tells nothing
            self.observations.append(Observation(age, math.inf))
            self._new += 1

    def discard_estimate(self) -> None:
        """Make the next call of ``distribution`` estimate anew."""
        self._distribution = None

    def distribution(self) -> Distribution:
        """Return the distribution; it is estimated anew only after many polls, to keep each poll cheap."""
        polls = _SUSPECTED_POLLS if abs(self._drift) > _DRIFT_SUSPECTED else _MAX_POLLS
        if self._distribution is None or (self._new and self._polls >= min(polls, 2 * self._ended)):
            self._polls = self._new = 0
            # The stronger the drift, the less older tasks weigh.
            decay = _DECAY - _DRIFT_DECAY * min(1.0, max(0.0, abs(self._drift) / _DRIFT_DETECTED - 0.3))
            weight = 1.0
            weighted: list[tuple[Observation, float]] = []
            for seen in reversed(self.observations):
                weighted.append((seen, weight))
                weight *= decay
            ages = list(self.running.values())
            sample = ages[:: max(1, len(ages) // _MAX_RUNNING)]
            weighted += [(Observation(age, math.inf), len(ages) / len(sample)) for age in sample]
            self._distribution = estimate(weighted, self.prior_median)
        return self._distribution


class DurationStats:
    """Duration statistics of up to 64 models; the oldest one without running tasks makes room for others."""

    def __init__(self) -> None:
        self._models: dict[str, ModelStats] = {}

    def of(self, model: str | None, first_poll: float) -> ModelStats:
        """Return the statistics of a model.

        Args:
            model: Its name; ``None`` stands for all unknown models together.
            first_poll: Seconds until the first poll of a model without statistics: a fourth of its prior
                median.
        """
        name = model or ""
        known = self._models.get(name)
        if known is None:
            known = self._models[name] = ModelStats(max(_PRIOR_PER_FIRST_POLL * first_poll, _MIN_MEDIAN))
            if len(self._models) > _MAX_MODELS:
                idle = (other for other, stats in self._models.items() if not stats.running)
                del self._models[next(idle, next(iter(self._models)))]
        return known

    def to_dict(self) -> dict[str, Any]:
        """Return plain data that JSON can hold, a few kilobytes for each model."""
        models = {
            name: {
                "typical": known.prior_median,
                "spans": [
                    [seen.after, None if seen.by == math.inf else seen.by, seen.guess]
                    for seen in known.observations
                ],
            }
            for name, known in self._models.items()
            if known.observations
        }
        return {"version": _VERSION, "models": models}

    def load(self, data: Mapping[str, Any]) -> None:
        """Add the models of ``to_dict``; skip other versions, malformed entries and known models."""
        models: Any = data.get("models")
        if data.get("version") != _VERSION or not isinstance(models, dict):
            return
        saved_models = cast("dict[str, Any]", models)
        for name in list(saved_models)[-_MAX_MODELS:]:
            saved: Any = saved_models[name]
            try:
                median = float(saved["typical"])
                observations = [_observation(*entry) for entry in saved["spans"]]
            except (KeyError, TypeError, ValueError, OverflowError):
                continue
            if not _MIN_MEDIAN <= median <= _MAX_MEDIAN:
                continue
            known = self.of(str(name), median)
            if not known.observations:
                known.prior_median = median
                known.observations.extend(filter(_is_valid, observations))
                known.discard_estimate()


def _observation(after: Any, by: Any, guess: Any) -> Observation:  # noqa: ANN401 values of JSON
    return Observation(
        float(after), math.inf if by is None else float(by), None if guess is None else float(guess)
    )


def _is_valid(seen: Observation) -> bool:
    is_possible = _MIN_DURATION <= seen.by <= _MAX_MEDIAN or (
        seen.by == math.inf and seen.after <= _MAX_MEDIAN
    )
    in_order = 0 <= seen.after < seen.by and (seen.guess is None or seen.after <= seen.guess <= seen.by)
    return is_possible and in_order
