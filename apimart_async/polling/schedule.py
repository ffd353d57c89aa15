"""Pure: the best moments to look at a task whose duration is known in distribution."""

from __future__ import annotations

import math
from bisect import bisect_right
from itertools import accumulate
from typing import TYPE_CHECKING

import attrs

from apimart_async.polling.durations import TAIL_SHAPE

if TYPE_CHECKING:
    from apimart_async.polling.durations import Durations


@attrs.frozen
class Schedule:
    """When to look next, from any age.

    Attributes:
        ages: Seconds, ascending from 0.
        next_ages: Best age for the next look of a task that has just been seen unfinished at each age.
        cost: Seconds of delay that one look is worth.
        tail_from: Age from which on looks are spaced by the hazard of the tail.
    """

    ages: list[float]
    next_ages: list[float]
    cost: float
    tail_from: float

    def next_age(self, age: float) -> float:
        """Return the best age for the next look."""
        ages = self.ages
        index = bisect_right(ages, age)
        if age >= self.tail_from or index >= len(ages):
            return age + self._tail_spacing(age)
        left, right = ages[index - 1], ages[index]
        first, second = self.next_ages[index - 1], self.next_ages[index]
        target = first + (second - first) * (age - left) / (right - left)
        if target > self.tail_from:
            target = min(target, self.tail_from + self._tail_spacing(self.tail_from))
        return target

    def _tail_spacing(self, age: float) -> float:
        """Return sqrt(2 c / h), with the hazard rate h of the tail."""
        return math.sqrt(2 * self.cost * age / TAIL_SHAPE)


def best_schedule(durations: Durations, cost: float, shortest: float) -> Schedule:
    """Find the schedule of least cost by dynamic programming.

    From a look at age a to the next at b, with S the survival function and A its integral, a task costs
    S(a)·(cost + b - a) - (A(b) - A(a)): the look if it is still needed, and the delay of an end in between.
    Given a, that is linear in b with the slope S(a), so the best b is where a line of that slope touches the
    convex hull of what comes after; both move in one direction only, and the whole takes linear time.

    Args:
        durations: Of the tasks.
        cost: Seconds of delay that one look is worth.
        shortest: Least seconds between two looks.
    """
    ages, survival = durations.edges, durations.survival
    count = len(ages)
    areas = [0.0]
    areas += accumulate(
        (ages[i + 1] - ages[i]) * (survival[i] + survival[i + 1]) / 2 for i in range(count - 1)
    )
    # What is still to come after a look at each age, times its probability, less the area so far.
    rest = [survived * (cost + ages[-1]) - area for survived, area in zip(survival, areas, strict=True)]
    next_ages = [age + shortest for age in ages]
    # Lines of slope `ages[i]` and height `rest[i]`; from `touch` on, each is the lowest for some slope.
    hull: list[int] = []
    touch = 0
    candidate = count - 1
    for here in range(count - 2, -1, -1):
        age, survived = ages[here], survival[here]
        while candidate > here and ages[candidate] >= age + shortest:
            _insert(hull, touch, candidate, ages, rest)
            candidate -= 1
        if not hull:
            continue
        best = hull[touch]
        least = survived * ages[best] + rest[best]
        while touch + 1 < len(hull):
            other = hull[touch + 1]
            value = survived * ages[other] + rest[other]
            if value > least:
                break
            touch, best, least = touch + 1, other, value
        rest[here] = survived * (cost - age) + least
        next_ages[here] = ages[best]
    return Schedule(ages, next_ages, cost, durations.tail_from)


def _insert(hull: list[int], touch: int, new: int, ages: list[float], rest: list[float]) -> None:
    """Add a line, less steep than all before, and drop those that are nowhere lowest any more."""
    age, height = ages[new], rest[new]
    while len(hull) - touch > 1:
        first, second = hull[-2], hull[-1]
        steep = ages[first]
        if (height - rest[first]) * (steep - ages[second]) > (rest[second] - rest[first]) * (steep - age):
            break
        hull.pop()
    hull.append(new)
