"""Polling on virtual time: families of durations, the schedules to compare, and lower bounds."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, pairwise, repeat
from random import Random
from statistics import NormalDist, fmean

import attrs

from apimart_async.config import Poll
from apimart_async.polling.cadence import Cadence, Schedule, best_schedule
from apimart_async.polling.estimator import Distribution, DurationStats

_NORMAL = NormalDist()
_LONGEST = 15.0
_CONSTANT = 19.0
_FIRST = 0.7
_FAILING = 0.15

Schedules = Callable[[Random], Iterator[float]]


def _log_normal(median: float, sigma: float) -> Callable[[float], float]:
    return lambda age: _NORMAL.cdf(math.log(median / age) / sigma) if age > 0 else 1.0


def _slowness(number: int) -> float:
    """Return the slowdown of the drifting family at its ``number``-th task: 1 to 2, and back in 1,000."""
    return 1.5 - 0.5 * math.cos(2 * math.pi * number / 1000)


@attrs.frozen
class Family:
    """A distribution of durations.

    Attributes:
        draw: Returns a duration in seconds, given the number of the task.
        survives: Returns the probability that a task lasts longer than so many seconds; of a drifting family,
            that of its first task.
        end: Seconds within which practically all tasks end.
        pace: Returns the slowdown of a task, by its number, relative to ``survives``.
    """

    draw: Callable[[Random, int], float]
    survives: Callable[[float], float]
    end: float
    pace: Callable[[int], float] = lambda _: 1.0


FAMILIES: dict[str, Family] = {
    "constant 19": Family(lambda _, __: _CONSTANT, lambda age: float(age < _CONSTANT), 40),
    "normal 19 ± 0.95": Family(
        lambda r, _: max(0.1, r.gauss(19, 0.95)), lambda age: _NORMAL.cdf((19 - age) / 0.95), 40
    ),
    "log-normal 20, spread 0.3": Family(
        lambda r, _: r.lognormvariate(math.log(20), 0.3), _log_normal(20, 0.3), 120
    ),
    "log-normal 20, spread 0.9": Family(
        lambda r, _: r.lognormvariate(math.log(20), 0.9), _log_normal(20, 0.9), 1200
    ),
    "bimodal 8 and 45": Family(
        lambda r, _: r.lognormvariate(math.log(8 if r.random() < _FIRST else 45), 0.15),
        lambda age: _FIRST * _log_normal(8, 0.15)(age) + (1 - _FIRST) * _log_normal(45, 0.15)(age),
        120,
    ),
    "fast: log-normal 3, spread 0.5": Family(
        lambda r, _: r.lognormvariate(math.log(3), 0.5), _log_normal(3, 0.5), 40
    ),
    "Weibull 20, shape 2": Family(
        lambda r, _: r.weibullvariate(20, 2), lambda age: math.exp(-((max(age, 0.0) / 20) ** 2)), 120
    ),
    "heavy tail: Pareto 10, shape 2.5": Family(
        lambda r, _: 10 * r.paretovariate(2.5),
        lambda age: (10 / max(age, 10.0)) ** 2.5,
        1200,
    ),
    "exponential 20": Family(lambda r, _: r.expovariate(1 / 20), lambda age: math.exp(-age / 20), 300),
    "drifting 20 to 40, spread 0.2": Family(
        lambda r, number: r.lognormvariate(math.log(20 * _slowness(number)), 0.2),
        _log_normal(20, 0.2),
        60,
        _slowness,
    ),
    "log-normal 20, spread 0.3, 15 % fail at 3": Family(
        lambda r, _: r.lognormvariate(
            *((math.log(3), 0.3) if r.random() < _FAILING else (math.log(20), 0.3))
        ),
        lambda age: _FAILING * _log_normal(3, 0.3)(age) + (1 - _FAILING) * _log_normal(20, 0.3)(age),
        120,
    ),
}


def _growing(first: float, factor: float, most: float) -> Iterator[float]:
    while True:
        yield first
        first = min(first * factor, most)


PEERS: dict[str, Schedules] = {
    "every 0.1 s": lambda _: repeat(0.1),
    "every 0.5 s": lambda _: repeat(0.5),
    "every 1 s": lambda _: repeat(1.0),
    "every 2 s": lambda _: repeat(2.0),
    "every 3 s": lambda _: repeat(3.0),
    "every 5 s": lambda _: repeat(5.0),
    "every 8 s": lambda _: repeat(8.0),
    "every 10 s": lambda _: repeat(10.0),
    "6 ± 1.5 s": lambda r: (r.uniform(4.5, 7.5) for _ in repeat(None)),
    "0.5 s growing to 5 s": lambda _: _growing(0.5, 1.5, 5.0),
    "1, 2, 3, 5, 8, 10 s": lambda _: chain((1.0, 2.0, 3.0, 5.0, 8.0), repeat(10.0)),
}


@attrs.frozen
class Result:
    """Polls and delays of a schedule.

    Attributes:
        polls: Mean number for each task.
        delay: Mean seconds from the end of a task until a poll finds it.
        late: 95th percentile of the same.
    """

    polls: float
    delay: float
    late: float

    @classmethod
    def of(cls, polls: Sequence[int], delays: Sequence[float]) -> Result:
        """Summarise the polls and delays of all tasks."""
        return cls(fmean(polls), fmean(delays), sorted(delays)[int(0.95 * len(delays))])


def durations(family: Family, count: int, seed: int) -> list[float]:
    """Draw the durations of so many tasks."""
    random = Random(seed)
    return [family.draw(random, number) for number in range(count)]


def follow(schedules: Schedules, lasting: Sequence[float], seed: int) -> Result:
    """Poll by a fixed schedule."""
    random = Random(seed)
    polls, delays = list[int](), list[float]()
    for duration in lasting:
        age, count = 0.0, 0
        for spacing in schedules(random):
            age += spacing
            count += 1
            if age >= duration:
                break
        polls.append(count)
        delays.append(age - duration)
    return Result.of(polls, delays)


@attrs.define
class Learner:
    """Polls as the client does, one task after the other, with the statistics so far.

    Args:
        poll: Settings.
        seed: Seed of the jitter.
        reports_time: Whether the service reports ``actual_time``, in whole seconds.
        stats: Duration statistics at first.
        learns: Whether polls add to the statistics.
    """

    poll: Poll
    seed: int = 0
    reports_time: bool = False
    learns: bool = True
    stats: DurationStats = attrs.field(factory=DurationStats)

    def follow(self, lasting: Sequence[float]) -> tuple[list[int], list[float]]:
        """Return the polls and the delay of each task."""
        cadence = Cadence(self.poll, self.stats, Random(self.seed))
        polls, delays = list[int](), list[float]()
        for duration in lasting:
            age = before = 0.0
            count = 0
            while True:
                age += cadence.next_poll("model", age, remaining=1e9, polls=count).delay
                count += 1
                if age >= duration:
                    break
                before = age
                if self.learns:
                    self.stats.of("model", self.poll.first).record_running(0, age)
            if self.learns:
                actual_time = float(round(duration)) if self.reports_time else None
                self.stats.of("model", self.poll.first).record_end(0, before, age, actual_time)
            polls.append(count)
            delays.append(age - duration)
        return polls, delays


def learn(
    poll: Poll, lasting: Sequence[float], warm: int, seed: int, *, reports_time: bool = False
) -> Result:
    """Poll as the client does, and leave the first ``warm`` tasks out of the result."""
    polls, delays = Learner(poll, seed, reports_time).follow(lasting)
    return Result.of(polls[warm:], delays[warm:])


def at_delay(
    lasting: Sequence[float], warm: int, delay: float, seed: int, *, reports_time: bool = False
) -> Result:
    """Return the result at the largest ``delay_per_poll`` whose mean delay is at most ``delay`` seconds."""
    tried: dict[float, Result] = {}
    costs = [0.005 * 2**step for step in range(13)]
    while True:
        for cost in costs:
            poll = Poll(delay_per_poll=cost, shortest=0.25, longest=_LONGEST)
            tried[cost] = learn(poll, lasting, warm, seed, reports_time=reports_time)
        good = [cost for cost, result in tried.items() if result.delay <= delay]
        assert good, "no knob is small enough"  # noqa: S101 a wrong benchmark must not print numbers
        if len(tried) > 13:  # noqa: PLR2004 the first row and one refinement of it
            cost = min(good, key=lambda cost: tried[cost].polls)
            return tried[cost]
        costs = [max(good) * 2 ** (step / 6) for step in range(1, 6)]


def truth(family: Family, bins: int = 4000) -> Distribution:
    """Return the true distribution of a family."""
    edges = [family.end * number / bins for number in range(bins + 1)]
    return Distribution(edges, [family.survives(edge) for edge in edges])


def optimum(
    family: Family, lasting: Sequence[float], delay: float, first: int = 0, bins: int = 4000
) -> float:
    """Return the polls for each task of the optimal schedule at a mean delay in seconds.

    The schedule knows the distribution, at every moment of its drift. A mixture of two schedules lies on the
    line between them, so values in between are interpolated.
    """
    known = truth(family, bins)
    points: list[tuple[float, float]] = []
    for step in range(40):
        cost = 0.005 * 1.35**step
        schedules: dict[float, Schedule] = {}
        polls, delays = list[int](), list[float]()
        for number, duration in enumerate(lasting, first):
            pace = round(20 * family.pace(number)) / 20  # finer steps change nothing but the time it takes
            schedule = schedules.get(pace)
            if schedule is None:
                schedule = schedules[pace] = best_schedule(known, cost / pace, 0.0)
            count, age = 0, 0.0
            while age < duration:
                age = pace * schedule.next_age(age / pace)
                count += 1
            polls.append(count)
            delays.append(age - duration)
        points.append((fmean(delays), fmean(polls)))
        if points[-1][0] > 2 * delay or points[-1][1] <= 1.0:
            break
    points.sort()
    if points[-1][0] <= delay:
        return points[-1][1]
    place = max(1, bisect_left(points, (delay, 0.0)))
    (less, more_polls), (more, less_polls) = points[place - 1], points[place]
    return more_polls + (less_polls - more_polls) * (delay - less) / (more - less)


def bound(family: Family, bins: int = 20000) -> float:
    """Return the lower bound of polls times mean delay where a task takes many polls: ½(∫√(f·S))²."""
    step = family.end / bins
    survival = [family.survives(step * number) for number in range(bins + 1)]
    total = sum(math.sqrt(max(0.0, a - b) / step * (a + b) / 2) * step for a, b in pairwise(survival))
    return total**2 / 2
