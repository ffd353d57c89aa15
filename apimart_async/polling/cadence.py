"""The time of the next poll of a task. Pure, given a source of random numbers.

The schedule has the least cost for the known distribution of durations, where a poll costs as much as some
seconds of delay. The polls of many waits are aligned to a shared grid, so that they can share requests.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from functools import lru_cache
from itertools import accumulate
from random import Random
from typing import Final, NamedTuple

import attrs

from apimart_async.config import Poll
from apimart_async.polling.duration_stats import DurationStats
from apimart_async.polling.estimator import TAIL_SHAPE, Distribution

_JITTER: Final = 0.1
_BEFORE_DEADLINE: Final = 1.0
# With so many other waits, a request for tasks of unknown duration costs each of them little: one comes
# after so small a part of the time until the first poll.
_MANY: Final = 4
_EARLY: Final = 1 / 8
# A poll that shares a request costs its share, but no less than a fourth.
_MAX_SHARING: Final = 4.0
# A poll moves to meet others if that costs at most an eighth of a poll; where several share a request, about
# a whole poll.
_MOVE_COST: Final = 1 / 8
_MAX_MOVE_COST: Final = 9 / 8
# Tasks are polled again after half of their usual duration, if that is less than the setting.
_SHORTEST_PART: Final = 1 / 2
# Seconds: a narrower window moves no poll, and a moment after a hundred thousand years meets no other.
_LEAST_WINDOW: Final = 1e-3
_FARTHEST: Final = 3e12


class NextPoll(NamedTuple):
    """The next poll.

    Attributes:
        delay: Seconds until the best moment.
        earliest: Seconds from which on another moment is nearly as good.
        latest: Seconds until which it is nearly as good.
        least: Seconds before which the poll must not come.
    """

    delay: float
    earliest: float
    latest: float
    least: float


@attrs.frozen
class Schedule:
    """The best next poll from any age.

    Attributes:
        ages: Seconds, ascending from 0.
        next_ages: Best age for the next poll of a task that has just been seen unfinished, at each age.
        survival: Probability that a task lasts longer, at each age.
        rest: Expected cost after a poll at each age, times that probability, less the area below it so far.
        cost: Seconds of delay that one poll is worth.
        shortest: Least seconds between two polls.
        tail_from: Age from which on the hazard rate of the tail spaces the polls.
    """

    ages: list[float]
    next_ages: list[float]
    survival: list[float]
    rest: list[float]
    cost: float
    shortest: float
    tail_from: float

    def next_age(self, age: float) -> float:
        """Return the best age for the next poll, both in seconds."""
        ages = self.ages
        index = bisect_right(ages, age)
        if age >= self.tail_from or index >= len(ages):
            # sqrt(2 c / h), with the hazard rate h of the tail.
            return age + math.sqrt(2 * self.cost * age / TAIL_SHAPE)
        left, right = ages[index - 1], ages[index]
        first, second = self.next_ages[index - 1], self.next_ages[index]
        target = first + (second - first) * (age - left) / (right - left)
        if target > self.tail_from:
            in_tail = self.tail_from + math.sqrt(2 * self.cost * self.tail_from / TAIL_SHAPE)
            target = min(target, in_tail)
        return target

    def window(self, age: float, target: float, loss: float) -> tuple[float, float]:
        """Return the ages around a target between which a poll costs little more than at the target.

        Args:
            age: Age in seconds at which the task was seen unfinished.
            target: Best age for the next poll.
            loss: Additional cost in seconds.
        """
        ages, rest = self.ages, self.rest
        index, place = bisect_right(ages, age), bisect_left(ages, target)
        if target >= self.tail_from or index >= place:
            return age, math.inf
        survived = _between(ages, self.survival, index, age)
        least = survived * target + _between(ages, rest, place, target)
        most = least + survived * loss
        earliest, value = target, least
        for first in range(place - 1, index - 1, -1):
            before, value = value, survived * ages[first] + rest[first]
            if value > most:
                earliest -= (earliest - ages[first]) * (most - before) / (value - before)
                break
            earliest = ages[first]
        else:
            earliest = age
        latest, value = target, least
        for last in range(place, len(ages)):
            before, value = value, survived * ages[last] + rest[last]
            if value > most:
                latest += (ages[last] - latest) * (most - before) / (value - before)
                break
            latest = ages[last]
        return earliest, latest


def _between(ages: list[float], values: list[float], index: int, age: float) -> float:
    """Return the value at an age that lies before the one of an index, by linear interpolation."""
    left, right = ages[index - 1], ages[index]
    return values[index - 1] + (values[index] - values[index - 1]) * (age - left) / (right - left)


def best_schedule(durations: Distribution, cost: float, shortest: float) -> Schedule:
    """Find the schedule of least cost by dynamic programming.

    From a poll at age a to the next at b, with the survival function S and its integral A, a task costs
    S(a)·(cost + b - a) - (A(b) - A(a)): the poll if it is still needed, and the delay of an end in between.
    For a given a, that is linear in b with the slope S(a), so the best b is where a line of that slope
    touches the convex hull of the costs of later ages. Both move in one direction only: the whole takes
    linear time.

    Args:
        durations: Distribution of the durations of the tasks.
        cost: Seconds of delay that one poll is worth.
        shortest: Least seconds between two polls; the first poll may come earlier.
    """
    ages, survival = durations.edges, durations.survival
    count = len(ages)
    areas = [0.0]
    areas += accumulate(
        (ages[i + 1] - ages[i]) * (survival[i] + survival[i + 1]) / 2 for i in range(count - 1)
    )
    # Expected cost after a poll at each age, times its probability, less the area so far.
    rest = [survived * (cost + ages[-1]) - area for survived, area in zip(survival, areas, strict=True)]
    next_ages = [age + shortest for age in ages]
    # Lines of slope `ages[i]` and height `rest[i]`; from `touch` on, each is the lowest for some slope.
    hull: list[int] = []
    touch = 0
    candidate = count - 1
    for here in range(count - 2, -1, -1):
        age, survived = ages[here], survival[here]
        earliest = age + shortest if here else 0.0
        while candidate > here and ages[candidate] >= earliest:
            # Add a line, less steep than all before, and drop those that are nowhere lowest any more.
            flat, height = ages[candidate], rest[candidate]
            while len(hull) - touch > 1:
                first, second = hull[-2], hull[-1]
                steep = ages[first]
                gain = (rest[second] - rest[first]) * (steep - flat)
                if (height - rest[first]) * (steep - ages[second]) > gain:
                    break
                hull.pop()
            hull.append(candidate)
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
    return Schedule(ages, next_ages, survival, rest, cost, shortest, durations.tail_from)


# A distribution hashes by identity: a new estimate never meets the schedule of an older one.
@lru_cache(maxsize=64)
def _schedule(durations: Distribution, cost: float, shortest: float) -> Schedule:
    """Return the best schedule; polls are at least ``shortest``, or half of a shorter median, apart."""
    return best_schedule(durations, cost, min(shortest, _SHORTEST_PART * durations.age_at(0.5)))


def align(due: float, *, earliest: float, latest: float, not_before: float) -> float:
    """Move a poll to the nearest moment of a grid that all waits share.

    The step of the grid is a power of two of seconds, at most the width of the window: polls with wide
    windows meet on a coarse grid, polls with narrow ones on a fine one, and each coarse grid is part of the
    finer ones.

    Args:
        due: Best moment for the poll, in seconds of a clock that all waits share.
        earliest: Beginning of the window.
        latest: End of the window; if it is not after the beginning, the poll stays at ``due``.
        not_before: If the nearest moment of the grid is earlier, the poll comes at the first one after this.
    """
    width = min(latest - earliest, _FARTHEST)
    if not width > _LEAST_WINDOW or max(due, not_before) > _FARTHEST:
        return due
    step = 2.0 ** math.floor(math.log2(width))
    moment = round(due / step) * step
    if moment < earliest:
        moment += step
    elif moment > latest:
        moment -= step
    return max(moment, math.ceil(not_before / step) * step)


@attrs.frozen
class Cadence:
    """The best next poll, given the duration statistics.

    Args:
        settings: Bounds, and the seconds of delay that one poll is worth.
        stats: Duration statistics; several cadences may share them.
        random: Source of the jitter, which keeps many waits from polling at the same moments.
    """

    settings: Poll
    stats: DurationStats = attrs.field(factory=DurationStats)
    random: Random = attrs.field(factory=Random)

    def next_poll(
        self,
        kind: str | None,
        age: float,
        *,
        remaining: float,
        polls: int = 0,
        polled_at: float | None = None,
        is_age_known: bool = True,
        estimated_time: float | None = None,
        sharing: float = 1.0,
        others: int = 0,
    ) -> NextPoll:
        """Decide when to poll a task that has not ended.

        Args:
            kind: Kind of the task, where that is known.
            age: Seconds since the submit.
            remaining: Seconds until the deadline; the last poll falls shortly before that.
            polls: Number of polls so far.
            polled_at: Age at the last poll, 0 if there was none; ``age`` by default. A poll that is planned
                anew has another.
            is_age_known: Whether ``age`` is more than a guess.
            estimated_time: Duration in seconds that the service expects, where it gives one.
            sharing: Number of polls that share a request, of which each costs its share.
            others: Number of other waits whose polls can share its request.
        """
        settings = self.settings
        shortest = settings.shortest
        known = self.stats.of(kind, settings.first)
        if estimated_time is not None:
            known.expect(estimated_time, by_service=True)
        if polled_at is None:
            polled_at = age
        passed = age - polled_at if polled_at else 0.0
        # In powers of two: few schedules are computed.
        cost = settings.delay_per_poll / 2 ** math.floor(math.log2(min(sharing, _MAX_SHARING)))
        move_cost = min(_MOVE_COST * sharing * sharing, _MAX_MOVE_COST)
        early, late = -math.inf, math.inf
        # A task that was never polled may have ended long ago: its first poll may come at once.
        least = max(shortest - passed, 0.0) if polled_at else 0.0
        if polls == 0 and not is_age_known:
            delay, spacing = least, min(settings.first, shortest)
        elif polls == 0 and not known.is_known and not known.is_estimated:
            first = settings.first * (_EARLY if others >= _MANY else 1.0)
            delay = spacing = max(first - age, least)
        elif not is_age_known:
            # It may end at any moment: sqrt(2 c / h), with the hazard rate h of the median.
            median = known.distribution().age_at(0.5)
            best = math.sqrt(2 * settings.delay_per_poll * median / math.log(2))
            delay = spacing = max(min(best, settings.longest) - passed, least)
        else:
            schedule = _schedule(known.distribution(), cost, shortest)
            shortest = schedule.shortest
            least = max(shortest - passed, 0.0) if polled_at else 0.0
            target = max(schedule.next_age(polled_at), age)
            delay = max(target - age, least)
            next_spacing = max(schedule.next_age(target) - target, shortest)
            spacing = min(delay, next_spacing, settings.longest)
            earliest, latest = schedule.window(polled_at, target, move_cost * cost)
            early, late = earliest - target, latest - target
        if polls or not known.is_known:
            delay = max(min(delay, settings.longest - passed), least)
        if delay:
            delay = max(delay + spacing * _JITTER * (2 * self.random.random() - 1), least)
        last = remaining - min(_BEFORE_DEADLINE, remaining * _JITTER)
        if last < delay + shortest / 2:
            return NextPoll(last, last, last, last)
        # With the spacing sqrt(2 c / h), a move by x costs h·x².
        move = spacing * math.sqrt(move_cost / 2)
        return NextPoll(delay, delay + max(early, -move), min(delay + min(late, move), last), least)
