"""Polling on virtual time: patterns of arrival, schedules to compare, and the exact optimum at the knob."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from heapq import heapify, heappop, heappush
from itertools import chain, repeat
from random import Random
from statistics import fmean
from typing import TYPE_CHECKING

import attrs

from apimart_async.config import Poll
from apimart_async.polling.cadence import Cadence, Schedule, best_schedule
from apimart_async.polling.duration_stats import DurationStats

if TYPE_CHECKING:
    from cadences.families import Family

Schedules = Callable[[Random], Iterator[float]]


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
    """Polls and delays of tasks, in the order of their numbers."""

    polls: list[int]
    delays: list[float]

    @property
    def mean_polls(self) -> float:
        """Return the mean number of polls of a task."""
        return fmean(self.polls)

    @property
    def mean_delay(self) -> float:
        """Return the mean seconds from the end of a task until a poll finds it."""
        return fmean(self.delays)

    def cost(self, knob: float) -> float:
        """Return the mean cost of a task, where a poll is worth ``knob`` seconds of delay."""
        return knob * self.mean_polls + self.mean_delay

    def part(self, tasks: Sequence[int]) -> Result:
        """Return the result of some of the tasks."""
        return Result([self.polls[number] for number in tasks], [self.delays[number] for number in tasks])


def follow(schedules: Schedules, lasting: Sequence[float], seed: int) -> Result:
    """Poll by a fixed schedule."""
    random = Random(seed)
    result = Result([], [])
    for duration in lasting:
        age, count = 0.0, 0
        for spacing in schedules(random):
            age += spacing
            count += 1
            if age >= duration:
                break
        result.polls.append(count)
        result.delays.append(age - duration)
    return result


def optimum(family: Family, lasting: Sequence[float], knob: float, first: int = 0) -> Result:
    """Poll by the schedule of least expected cost, which knows the distribution and every slowdown.

    Args:
        family: Family of the durations.
        lasting: The durations.
        knob: Seconds of delay that a poll is worth.
        first: Number of the first task.
    """
    truth = family.truth()
    schedules: dict[float, Schedule] = {}
    result = Result([], [])
    for number, duration in enumerate(lasting, first):
        slowdown = slowdown_of(family, number)
        schedule = schedules.get(slowdown)
        if schedule is None:
            schedule = schedules[slowdown] = best_schedule(truth, knob / slowdown, 0.0)
        age, count = 0.0, 0
        while age < duration:
            age = slowdown * schedule.next_age(age / slowdown)
            count += 1
        result.polls.append(count)
        result.delays.append(age - duration)
    return result


@attrs.frozen
class Arrivals:
    """A pattern of arrival.

    Attributes:
        waves: Number of tasks of each wave; a wave begins when the one before has ended.
        spacing: Seconds between two submits of a wave, 0 for all at once.
        is_random: Whether the spacing is drawn from the exponential distribution.
        restarts: Whether each wave is a new client that loads the statistics of the one before.
        judged: Number of the first task that counts.
    """

    waves: tuple[int, ...]
    spacing: float = 0.0
    is_random: bool = False
    restarts: bool = False
    judged: int = 100

    @property
    def tasks(self) -> int:
        """Return the number of all tasks."""
        return sum(self.waves)


PATTERNS: dict[str, Arrivals] = {
    "one by one": Arrivals((1,) * 400),
    "Poisson": Arrivals((400,), 2.5, is_random=True),
    "waves of 16": Arrivals((16,) * 25, judged=112),
    "waves of 100": Arrivals((100,) * 4),
    "waves of 1,000": Arrivals((100, 1000, 1000)),
    "waves behind 32 uploads": Arrivals((100, 300, 300), 2 / 32),
    "three runs of a batch": Arrivals((150,) * 3, restarts=True, judged=150),
}


@attrs.define
class Learner:
    """Polls as the client does.

    Args:
        poll: Settings.
        seed: Seed of the jitter and of the arrivals.
        reports_time: Whether the service reports ``actual_time``, in whole seconds.
        learns: Whether polls add to the statistics.
        stats: Duration statistics at first.
    """

    poll: Poll
    seed: int = 0
    reports_time: bool = False
    learns: bool = True
    stats: DurationStats = attrs.field(factory=DurationStats)
    _cadence: Cadence = attrs.field(init=False)

    def follow(self, lasting: Sequence[float], arrivals: Arrivals) -> Result:
        """Wait for tasks of these durations."""
        result = Result([0] * len(lasting), [0.0] * len(lasting))
        random = Random(self.seed)
        now, first = 0.0, 0
        for size in arrivals.waves:
            moments = [now]
            for _ in range(size - 1):
                gap = random.expovariate(1 / arrivals.spacing) if arrivals.is_random else arrivals.spacing
                moments.append(moments[-1] + gap)
            if arrivals.restarts and first:
                saved = json.loads(json.dumps(self.stats.to_dict()))
                self.stats = DurationStats()
                self.stats.load(saved)
            now = self._wave(lasting, first, moments, random, result)
            first += size
        return result

    def _wave(
        self, lasting: Sequence[float], first: int, moments: list[float], random: Random, result: Result
    ) -> float:
        """Wait for the tasks of a wave; return the moment of its end."""
        self._cadence = Cadence(self.poll, self.stats, random)
        # (moment of the poll, number of the task, age at the last poll); at first the moment of the submit.
        queue = [(moment, first + number, -1.0) for number, moment in enumerate(moments)]
        now = moments[0]

        def plan(number: int, polled_at: float) -> tuple[float, int, float]:
            age, polls = now - moments[number - first], result.polls[number]
            return now + self._delay(age, polls, polled_at if polls else 0.0), number, polled_at

        while queue:
            now, number, before = heappop(queue)
            age = max(0.0, now - moments[number - first])
            shifts, is_known = self._knowledge()
            if before >= 0:
                result.polls[number] += 1
                if self.learns:
                    self._learn(number, before, age, lasting[number])
            if age < lasting[number]:
                heappush(queue, plan(number, age))
            else:
                result.delays[number] = age - lasting[number]
            # After a shift all polls are planned anew, with the first duration the first polls.
            shifts_now, is_known_now = self._knowledge()
            if shifts_now > shifts or is_known_now > is_known:
                for place, (_, other, polled_at) in enumerate(queue):
                    if polled_at >= 0 and (shifts_now > shifts or not result.polls[other]):
                        queue[place] = plan(other, polled_at)
                heapify(queue)
        return now

    def _delay(self, age: float, polls: int, polled_at: float) -> float:
        """Return the seconds until the next poll of a task."""
        return self._cadence.next_poll("model", age, remaining=1e9, polls=polls, polled_at=polled_at).delay

    def _knowledge(self) -> tuple[int, bool]:
        """Return how many changes of speed were found so far, and whether a duration is known."""
        known = self.stats.of("model", self.poll.first)
        return known.shifts, bool(known.memory)

    def _learn(self, number: int, before: float, age: float, duration: float) -> None:
        """Record a poll of a task at an age, after one at an age before."""
        known = self.stats.of("model", self.poll.first)
        if age < duration:
            known.record_running(number, age)
        else:
            known.record_end(number, before, age, float(round(duration)) if self.reports_time else None)


def slowdown_of(family: Family, number: int) -> float:
    """Return the slowdown of a task in steps of a twentieth, so that there are few schedules."""
    return round(20 * family.slowdown(number)) / 20
