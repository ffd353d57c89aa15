"""Pure, given a source of random numbers: when to poll a task next.

The schedule has the least cost for the known distribution of durations, where a poll costs as much as some
seconds of delay. The polls of many waits are aligned to a shared grid, so that they can share requests.
"""

from __future__ import annotations

import math
from bisect import bisect_right
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
# Spacings in a step of the grid: half of one for each poll that shares a request, and the most.
_STEP_PER_SHARING: Final = 0.5
_MAX_STEP: Final = 1.5


class NextPoll(NamedTuple):
    """The next poll.

    Attributes:
        delay: Seconds until it.
        spacing: Seconds between polls about that time: moving the poll by a small part of it costs nothing.
    """

    delay: float
    spacing: float


@attrs.frozen
class Schedule:
    """The best next poll from any age.

    Attributes:
        ages: Seconds, ascending from 0.
        next_ages: Best age for the next poll of a task that has just been seen unfinished, at each age.
        cost: Seconds of delay that one poll is worth.
        tail_from: Age from which on the hazard rate of the tail spaces the polls.
    """

    ages: list[float]
    next_ages: list[float]
    cost: float
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
        shortest: Least seconds between two polls.
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
        while candidate > here and ages[candidate] >= age + shortest:
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
    return Schedule(ages, next_ages, cost, durations.tail_from)


# A distribution hashes by identity: a new estimate never meets the schedule of an older one.
_cached_schedule = lru_cache(maxsize=64)(best_schedule)


def align(due: float, *, spacing: float, earliest: float, latest: float, sharing: float = 1.0) -> float:
    """Move a poll to the nearest moment of a grid that all waits share.

    The step of the grid is a power of two of seconds, at most half the spacing: polls far apart meet on a
    coarse grid, polls close together on a fine one, and each coarse grid is part of the finer ones. Where
    polls share requests, a coarser grid brings more of them together: a step is up to 1.5 times the spacing.
    The move is at most half a step, and none on average.

    Args:
        due: Best moment for the poll, in seconds of a clock that all waits share.
        spacing: Seconds between polls about that time.
        earliest: Not before this moment.
        latest: Before this moment; if no moment of the grid is left, the poll stays at ``due``.
        sharing: Number of polls that share a request.
    """
    if not spacing > 0 or due >= latest or math.isinf(due):
        return due
    step = 2.0 ** math.floor(math.log2(spacing * min(_STEP_PER_SHARING * sharing, _MAX_STEP)))
    moment = round(due / step) * step
    if moment < earliest:
        moment = math.ceil(earliest / step) * step
    return moment if moment < latest else due


@attrs.frozen
class Cadence:
    """The best next poll, given the duration statistics.

    Args:
        settings: Bounds, and how many seconds of delay one poll is worth.
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
    ) -> NextPoll:
        """Decide when to poll a task that has not ended.

        Args:
            kind: Kind of the task, where that is known.
            age: Seconds since the submit.
            remaining: Seconds until the deadline; the last poll falls shortly before that.
            polls: Number of polls so far.
            polled_at: Age at the last poll, 0 if there was none; ``age`` by default.
            is_age_known: Whether ``age`` is more than a guess.
            estimated_time: Duration in seconds that the service expects, where it gives one.
            sharing: Number of polls that share a request, of which each costs its share.
        """
        settings = self.settings
        known = self.stats.of(kind, settings.first)
        if estimated_time is not None:
            known.expect(estimated_time, by_service=True)
        if polled_at is None:
            polled_at = age
        # A task that was never polled may have ended long ago: its first poll may come at once.
        least = settings.shortest if polled_at else 0.0
        if polls == 0 and not is_age_known:
            delay, spacing = least, min(settings.first, settings.shortest)
        elif polls == 0 and not known.memory and not known.is_estimated:
            delay = spacing = max(settings.first - age, least)
        elif not is_age_known:
            # It may end at any moment: sqrt(2 c / h), with the hazard rate h of the median.
            median = known.distribution().age_at(0.5)
            best = math.sqrt(2 * settings.delay_per_poll * median / math.log(2))
            delay = spacing = max(min(best, settings.longest), least)
        else:
            # In powers of two: few schedules are computed.
            cost = settings.delay_per_poll / 2 ** math.floor(math.log2(sharing))
            schedule = _cached_schedule(known.distribution(), cost, settings.shortest)
            target = max(schedule.next_age(polled_at), age)
            delay = max(target - age, least)
            next_spacing = max(schedule.next_age(target) - target, settings.shortest)
            spacing = min(delay, next_spacing, settings.longest)
        if polls or not known.memory:
            delay = min(delay, settings.longest)
        if delay:
            delay = max(delay + spacing * _JITTER * (2 * self.random.random() - 1), least)
        last = remaining - min(_BEFORE_DEADLINE, remaining * _JITTER)
        return NextPoll(last if last < delay + settings.shortest / 2 else delay, spacing)
