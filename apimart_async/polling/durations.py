"""Pure: a distribution of durations, estimated from what is known of some tasks.

Of most tasks it is only known between which two looks they ended, and of those still running that they have
not. Both are used as what they are, by expectation maximisation: each task is spread over its span as the
distribution has it, and all tasks together make the next distribution. It is smoothed over its neighbourhood,
and a broad prior, as heavy as one task, stands for whatever has not been seen yet.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from itertools import accumulate
from typing import TYPE_CHECKING, Final, NamedTuple

import attrs

if TYPE_CHECKING:
    from collections.abc import Sequence

_CORE: Final = 128
_FLANK: Final = 12
_REACH: Final = 24.0
_PRIOR_WEIGHT: Final = 0.5
TAIL_SHAPE: Final = 2.0
"""Of tasks older than any seen, a share in proportion to age to the power of minus this lasts longer."""

_NEIGHBOURS: Final = 0.1
_WIDEST: Final = 0.4
_SMOOTH: Final = 8
_PASSES: Final = 1


class Span(NamedTuple):
    """What is known of one task, or of several alike.

    Attributes:
        after: Seconds after which it ended.
        by: Seconds by which it had ended; infinite where it has not.
        guess: Where within the span it may have ended; ``None`` where that is anywhere.
    """

    after: float
    by: float
    guess: float | None = None


@attrs.frozen
class Durations:
    """A distribution as its survival function, piecewise linear.

    Attributes:
        edges: Seconds, ascending from 0.
        survival: Probability that a task lasts longer, at each edge.
        tail_from: Seconds from which on nothing has been seen and the prior is all there is.
    """

    edges: list[float]
    survival: list[float]
    tail_from: float = math.inf
    _gone: list[float] = attrs.field(init=False, repr=False, eq=False)

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "_gone", [1.0 - survival for survival in self.survival])

    def survives(self, age: float) -> float:
        """Return the probability that a task lasts longer than an age in seconds."""
        edges, survival = self.edges, self.survival
        if age >= edges[-1]:
            return survival[-1] * math.pow(edges[-1] / age, TAIL_SHAPE)
        index = max(1, bisect_left(edges, age))
        left, right = edges[index - 1], edges[index]
        part = (age - left) / (right - left)
        return survival[index - 1] + part * (survival[index] - survival[index - 1])

    def outlives(self, survival: float) -> float:
        """Return the age that a task outlives with a probability."""
        edges, known = self.edges, self.survival
        index = bisect_left(self._gone, 1.0 - survival)
        if index == 0:
            return 0.0
        if index >= len(edges):
            return edges[-1]
        drop = known[index - 1] - known[index]
        part = (known[index - 1] - survival) / drop if drop > 0 else 1.0
        return edges[index - 1] + part * (edges[index] - edges[index - 1])


def estimate(spans: Sequence[tuple[Span, float]], typical: float) -> Durations:
    """Estimate the distribution.

    Args:
        spans: What is known, with weights.
        typical: Median of the prior in seconds.
    """
    ended = sorted(
        [
            (span.guess if span.guess is not None else _middle(span), span, weight)
            for span, weight in spans
            if span.by < math.inf
        ],
        key=lambda entry: entry[0],
    )
    centres = [centre for centre, _, _ in ended]
    count = len(centres)
    typical = math.exp((math.log(typical) + sum(map(math.log, centres))) / (1 + count))
    near = max(1, round(_NEIGHBOURS * count))
    least = _WIDEST / (1 + count)
    boxes: list[tuple[float, float, float]] = []
    wide: list[tuple[float, float, float]] = []
    for index, (centre, span, weight) in enumerate(ended):
        below = centre - centres[index - near] if index >= near else math.inf
        above = centres[index + near] - centre if index + near < count else math.inf
        width = max(min(below, above, _WIDEST * centre), least * centre)
        first, last = centre - width, centre + width
        after, by = span.after - width / 2, span.by + width / 2
        after, by = min(first, after), max(last, by)
        wide.append((after, by, weight))
        boxes.append((after, by, weight) if span.guess is None else (first, last, weight))
    low = min((max(box[0], 0.5 * centres[0]) for box in boxes), default=typical / 4)
    high = max((box[1] for box in boxes), default=typical * 4)
    edges = _grid(low, high, centres)
    prior = [1 / (1 + (edge / typical) ** TAIL_SHAPE) for edge in edges]
    wide += [(span.after, math.inf, weight) for span, weight in spans if span.by == math.inf]
    if not wide:
        return Durations(edges, prior, high)
    return Durations(edges, _maximise(wide, boxes, edges, prior), high)


def _middle(span: Span) -> float:
    return (span.after + span.by) / 2 if span.after > 0 else 0.75 * span.by


def _grid(low: float, high: float, centres: Sequence[float]) -> list[float]:
    """Return edges, close together where tasks end and where little time has passed."""
    below, above = (1 / _REACH) ** (1 / _FLANK), _REACH ** (1 / _FLANK)
    edges = [0.0]
    edges += [low * below**step for step in range(_FLANK, -1, -1)]
    # Half of the edges in even steps of the square root, the other half in even shares of the tasks.
    root, width = math.sqrt(low), math.sqrt(high) - math.sqrt(low)
    share = 1 / (1 + len(centres))
    step = (1 + len(centres) * share) / _CORE
    least = (high - low) / (8 * _CORE)
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
            if edge > edges[-1] + least:
                edges.append(edge)
            target += step
        place, age = next_place, next_age
    if high - edges[-1] < least:
        edges.pop()
    edges += [high * above**number for number in range(_FLANK + 1)]
    return edges


def _maximise(
    wide: Sequence[tuple[float, float, float]],
    boxes: Sequence[tuple[float, float, float]],
    edges: list[float],
    prior: list[float],
) -> list[float]:
    last = len(edges)
    widths = [right - left for left, right in zip(edges, [*edges[1:], 2 * edges[-1]], strict=True)]
    belief = [_PRIOR_WEIGHT * (left - right) for left, right in zip(prior, [*prior[1:], 0.0], strict=True)]
    whole = sum(entry[2] for entry in wide) + _PRIOR_WEIGHT
    change = [0.0] * (last + 1)
    for after, by, weight in boxes:
        first, beyond = max(0, bisect_left(edges, after) - 1), min(last - 1, bisect_left(edges, by))
        density = weight / (edges[beyond] - edges[first])
        change[first] += density
        change[beyond] -= density
    # The last bin holds all that lasts longer than the last edge.
    mass = [
        (width * max(density, 0.0) + own) / whole
        for width, density, own in zip(widths, accumulate(change), belief, strict=False)
    ]
    places = [
        (
            max(0, bisect_left(edges, after) - 1),
            last if by == math.inf else min(last, bisect_left(edges, by)),
            weight,
        )
        for after, by, weight in wide
    ]
    for _ in range(_PASSES):
        below = [0.0, *accumulate(mass)]
        change = [0.0] * (last + 1)
        for first, beyond, weight in places:
            share = weight / (below[beyond] - below[first])
            change[first] += share
            change[beyond] -= share
        mass = [
            (part * factor + own) / whole
            for part, factor, own in zip(mass, accumulate(change), belief, strict=False)
        ]
    mass = _smoothed(mass, edges)
    gone = accumulate(mass)
    return [1.0, *(max(0.0, 1.0 - part) for part in gone)][:-1]


def _smoothed(mass: list[float], edges: list[float]) -> list[float]:
    """Even the density out over some bins to either side; the last bin has no end and stays as it is."""
    last = len(edges) - 1
    below = [0.0, *accumulate(mass)]
    firsts = [0] * _SMOOTH + list(range(last - _SMOOTH))
    beyonds = [*range(_SMOOTH + 1, last + 1), *[last] * _SMOOTH]
    even = [
        (below[beyond] - below[first]) / (edges[beyond] - edges[first]) * (right - left)
        for first, beyond, left, right in zip(firsts, beyonds, edges[:-1], edges[1:], strict=True)
    ]
    scale = below[last] / (sum(even) or 1.0)
    return [*(part * scale for part in even), mass[-1]]
