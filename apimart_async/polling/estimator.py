"""Pure: duration statistics for each model, and the distribution of durations estimated from them.

For most tasks only the two polls between which they ended are known, and for running tasks only that they
have not ended yet. The estimate uses both as interval-censored and right-censored observations, by
expectation maximisation: it spreads each task over its interval in proportion to a first distribution,
and the sum over all tasks is the next one. That is smoothed by kernels of several widths, and the results are
averaged, each weighted by the likelihood of every task under the estimate from all the others. A broad prior
of the weight of half a task covers durations not seen yet.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from itertools import accumulate, pairwise
from operator import mul
from typing import TYPE_CHECKING, Final, NamedTuple

import attrs

if TYPE_CHECKING:
    from collections.abc import Sequence

# The first of the bins that a task may have ended in, the first one beyond, and its weight.
_Span = tuple[int, int, float]

# The grid: bins between the shortest and the longest duration; bins on either side, which widen outwards, and
# how far those reach.
_CORE: Final = 128
_FLANK: Final = 12
_REACH: Final = 24.0

_PRIOR_WEIGHT: Final = 0.5
TAIL_SHAPE: Final = 2.0
"""Exponent of the tail: the probability to last longer than an age beyond all data falls as age ** -2."""

# Half-widths of the kernels, in logarithms of the age: from 1 to 64 %. Wide ones are likelier beforehand, in
# proportion to the width.
_WIDTHS: Final = (0.01, 0.023, 0.053, 0.12, 0.28, 0.64)
# The bins of known durations reach beyond these by the width of the narrowest kernel, applied twice, and by
# this share divided by the number of tasks.
_MARGIN: Final = 0.4
# A task may lie beyond its interval by this share of it: where many tasks are polled at the same ages, an
# estimate between two of them would else stay as narrow as it began.
_SLACK: Final = 0.1
_LEAST_PART: Final = 0.01
# Number of tasks, evenly spaced in their order, that are enough to judge the kernels.
_JUDGED: Final = 64


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
    ended = [seen for seen, _ in observations if seen.by < math.inf]
    centres = sorted(map(_centre, ended))
    median = math.exp((math.log(prior_median) + sum(map(math.log, centres))) / (1 + len(centres)))
    margin = 1 + 2 * _WIDTHS[0] + _MARGIN / (1 + len(centres))
    low, high = median / 4, median * 4
    if ended:
        low = min(_begin(seen, centres[0] / 2) for seen in ended) / margin
        high = max(seen.by if seen.guess is None else seen.guess for seen in ended) * margin
    edges = _grid(low, high, centres)
    prior = [1 / (1 + (edge / median) ** TAIL_SHAPE) for edge in edges]
    survival = _fit(observations, edges, prior) if observations else prior
    return Distribution(edges, survival, edges[-_FLANK])


def _centre(seen: Observation) -> float:
    """Return the likely duration of an ended task."""
    if seen.guess is not None:
        return seen.guess
    return (seen.after + seen.by) / 2 if seen.after > 0 else 0.75 * seen.by


def _begin(seen: Observation, least: float) -> float:
    """Return the shortest likely duration of an ended task."""
    return max(seen.after, least) if seen.guess is None else seen.guess


def _grid(low: float, high: float, centres: Sequence[float]) -> list[float]:
    """Return bin edges in seconds, close together at low ages and where tasks end."""
    flank = [_REACH ** ((step / _FLANK) ** 2) for step in range(_FLANK + 1)]
    edges = [0.0]
    edges += [low / reach for reach in reversed(flank)]
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
    edges += [high * reach for reach in flank]
    return edges


def _fit(
    observations: Sequence[tuple[Observation, float]], edges: list[float], prior: list[float]
) -> list[float]:
    """Return the survival at each edge: one step of expectation maximisation between two smoothings.

    It begins with likely durations, where the running tasks count as at risk.
    """
    last = len(edges) - 1
    # The last bin, from the last edge on, has no end.
    belief = [_PRIOR_WEIGHT * (left - right) for left, right in pairwise([*prior, 0.0])]
    guessed: list[_Span] = []
    ended: list[_Span] = []
    running: list[_Span] = []
    for (after, by, guess), weight in observations:
        if by == math.inf:
            running.append((max(0, bisect_left(edges, after) - 1), last + 1, weight))
            continue
        slack = _SLACK * (by - after)
        first, beyond = bisect_left(edges, after - slack) - 1, bisect_left(edges, by + slack)
        ended.append((max(0, first), min(last, beyond), weight))
        place = 0 if guess is None else min(last, bisect_left(edges, guess))
        guessed.append((place - 1, place, weight) if place else ended[-1])
    logs = [math.log(edge) for edge in edges[1:]]
    logs.insert(0, 2 * logs[0] - logs[1])
    below = _spread(guessed, [*edges, 2 * edges[-1]], belief)
    (begun,) = _smoothed(_product_limit(below, running), logs, _WIDTHS[:1])
    candidates = _smoothed(_spread([*ended, *running], begun, belief), logs, _WIDTHS)
    scores = [
        _leave_one_out(below, logs, width, ended) for below, width in zip(candidates, _WIDTHS, strict=True)
    ]
    best = max(scores)
    shares = [width * math.exp(score - best) for width, score in zip(_WIDTHS, scores, strict=True)]
    mean = [sum(map(mul, shares, column)) for column in zip(*candidates, strict=True)]
    return [1.0 - part / mean[-1] for part in accumulate(mean[:-1], max)]


def _spread(spans: list[_Span], measure: list[float], belief: list[float]) -> list[float]:
    """Return the weight below each edge, each task spread over its span in proportion to a measure."""
    change = [0.0] * len(measure)
    for first, beyond, weight in spans:
        density = weight / (measure[beyond] - measure[first])
        change[first] += density
        change[beyond] -= density
    densities = accumulate(change)
    mass = [
        (right - left) * max(density, 0.0) + own
        for (left, right), density, own in zip(pairwise(measure), densities, belief, strict=False)
    ]
    return [0.0, *accumulate(mass)]


def _product_limit(below: list[float], running: list[_Span]) -> list[float]:
    """Return the weight below each edge with the running tasks, by the product limit of Kaplan and Meier.

    The hazard of each bin is the weight that ends in it by the weight at risk, so that ages which running
    tasks have passed without an end become less likely.
    """
    leaving = [0.0] * len(below)
    for first, _, weight in running:
        leaving[first + 1] += weight
    lasting = total = at_risk = below[-1] + sum(leaving)
    result = [0.0]
    for (left, right), gone in zip(pairwise(below), leaving, strict=False):
        mass = right - left
        at_risk -= gone
        if mass > 0:
            lasting *= 1.0 - mass / max(at_risk, mass)
        at_risk -= mass
        result.append(total - lasting)
    return result


def _smoothed(below: list[float], logs: list[float], widths: Sequence[float]) -> list[list[float]]:
    """Return the weight below each edge, averaged over ages whose logarithms differ by at most each width."""
    # The integral of the weight over the logarithm is linear between edges, and its differences ascend:
    # the results need no correction to be distributions.
    slopes = [0.0, *((left + right) / 2 for left, right in pairwise(below[:-1])), below[-2]]
    heights, area = [0.0], 0.0
    for (left, right), slope in zip(pairwise(logs), slopes[1:], strict=False):
        heights.append(area - left * slope)
        area += (right - left) * slope
    heights.append(area - logs[-1] * slopes[-1])

    def integral(ages: list[float]) -> list[float]:
        return [heights[i := bisect_left(logs, age)] + slopes[i] * age for age in ages]

    results: list[list[float]] = []
    for width in widths:
        to, since = integral([age + width for age in logs]), integral([age - width for age in logs])
        means = [(high - low) / (2 * width) for high, low in zip(to, since, strict=True)]
        results.append([0.0, *means[1:], below[-1]])
    return results


def _leave_one_out(below: list[float], logs: list[float], width: float, ended: list[_Span]) -> float:
    """Return the log-likelihood of ended tasks under the estimate from all the others, summed.

    Without that, the narrowest kernel would always look best, since it puts each task exactly where it ended.
    """
    some = ended[:: max(1, len(ended) // _JUDGED)]
    score = 0.0
    for first, beyond, weight in some:
        # A task that is spread evenly over its span keeps this part of itself when it is smoothed.
        length = logs[beyond] - logs[first]
        own = weight * (1 - width / (2 * length) if width < length else length / (2 * width))
        others = below[beyond] - below[first] - own
        score += weight * math.log(max(_LEAST_PART * own, others))
    return score * len(ended) / max(1, len(some))
