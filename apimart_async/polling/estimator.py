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
from itertools import accumulate
from typing import TYPE_CHECKING, Final, NamedTuple

import attrs

if TYPE_CHECKING:
    from collections.abc import Sequence

# The grid: bins between the shortest and the longest duration, bins on either side, and how far those reach.
_CORE: Final = 128
_FLANK: Final = 12
_REACH: Final = 24.0

_PRIOR_WEIGHT: Final = 0.5
TAIL_SHAPE: Final = 2.0
"""Exponent of the tail: the probability to last longer than an age beyond all data falls as age ** -2."""

_NEIGHBOURS: Final = 0.1
_WIDEST: Final = 0.4
# Bins on either side that smoothing averages over: the likelier of both is taken.
_SMOOTH: Final = (8, 3)
_LEAST_PART: Final = 0.01


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
    candidates = [_smoothed(mass, edges, bins) for bins in _SMOOTH]
    scores = [
        _left_out(smoothed, edges, boxes, bins, total)
        for smoothed, bins in zip(candidates, _SMOOTH, strict=True)
    ]
    ended = accumulate(candidates[scores.index(max(scores))])
    return [1.0, *(max(0.0, 1.0 - part) for part in ended)][:-1]


def _smoothed(mass: list[float], edges: list[float], bins: int) -> list[float]:
    """Return the probabilities of the bins, averaged over some bins on either side."""
    # The last bin has no end and stays as it is.
    last = len(edges) - 1
    below = [0.0, *accumulate(mass)]
    firsts = [0] * bins + list(range(last - bins))
    beyonds = [*range(bins + 1, last + 1), *[last] * bins]
    even = [
        (below[beyond] - below[first]) / (edges[beyond] - edges[first]) * (right - left)
        for first, beyond, left, right in zip(firsts, beyonds, edges[:-1], edges[1:], strict=True)
    ]
    scale = below[last] / (sum(even) or 1.0)
    return [*(part * scale for part in even), mass[-1]]


def _left_out(
    mass: list[float],
    edges: list[float],
    boxes: Sequence[tuple[float, float, float]],
    bins: int,
    total: float,
) -> float:
    """Return the log-likelihood of each task under the estimate from all the others, summed.

    A task's own part is its box, spread over the bins of the smoothing; without that, the narrowest smoothing
    would always look best, since it puts each task exactly where it ended.
    """
    last = len(edges) - 2
    score = 0.0
    for after, by, weight in boxes:
        place = min(last, max(0, bisect_left(edges, (after + by) / 2) - 1))
        density = mass[place] / (edges[place + 1] - edges[place])
        spread = edges[min(last + 1, place + bins + 1)] - edges[max(0, place - bins)]
        own = weight / total / max(by - after, spread)
        score += weight * math.log(max(density - own, _LEAST_PART * own))
    return score
