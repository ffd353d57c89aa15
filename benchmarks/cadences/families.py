"""Families of durations: some that the estimator was tuned with, some that it was not."""

from __future__ import annotations

import math
from collections.abc import Callable
from random import Random
from statistics import NormalDist

import attrs

from apimart_async.polling.estimator import Distribution

Draw = Callable[[Random], float]
Survival = Callable[[float], float]

_NORMAL = NormalDist()
_EDGES = 1500


@attrs.frozen
class Family:
    """A distribution of durations.

    Attributes:
        draw: Returns a duration in seconds.
        survives: Returns the probability that a task lasts longer than so many seconds.
        end: Seconds within which practically all tasks end.
        slowdown: Factor on the duration of a task, by its number.
    """

    draw: Draw
    survives: Survival
    end: float
    slowdown: Callable[[int], float] = lambda _: 1.0

    def durations(self, count: int, seed: int) -> list[float]:
        """Draw the durations of so many tasks."""
        random = Random(seed)
        return [self.draw(random) * self.slowdown(number) for number in range(count)]

    def truth(self) -> Distribution:
        """Return the distribution without a slowdown, with close edges in time and in probability."""
        edges = {self.end * number / _EDGES for number in range(_EDGES + 1)}
        for number in range(1, _EDGES):
            low, high = 0.0, self.end
            while high - low > 1e-7 * self.end:
                middle = (low + high) / 2
                low, high = (low, middle) if self.survives(middle) <= number / _EDGES else (middle, high)
            edges |= {low, high}
        ages = sorted(edges)
        return Distribution(ages, [self.survives(age) for age in ages], self.end)


def _log_normal(median: float, spread: float) -> tuple[Draw, Survival]:
    return (
        lambda random: random.lognormvariate(math.log(median), spread),
        lambda age: _NORMAL.cdf(math.log(median / age) / spread) if age > 0 else 1.0,
    )


def _mixed(*parts: tuple[float, tuple[Draw, Survival]]) -> tuple[Draw, Survival]:
    """Return a mixture of distributions, each with its share."""
    shares = [share for share, _ in parts]
    draws = [draw for _, (draw, _) in parts]
    return (
        lambda random: random.choices(draws, shares)[0](random),
        lambda age: sum(share * survives(age) for share, (_, survives) in parts),
    )


def _pareto(least: float, shape: float) -> tuple[Draw, Survival]:
    return (
        lambda random: least * random.paretovariate(shape),
        lambda age: (least / max(age, least)) ** shape,
    )


def _gamma(shape: int, mean: float) -> tuple[Draw, Survival]:
    def survives(age: float) -> float:
        rate = shape * age / mean
        return math.exp(-rate) * sum(rate**number / math.factorial(number) for number in range(shape))

    return lambda random: random.gammavariate(shape, mean / shape), survives


def _uniform(low: float, high: float) -> tuple[Draw, Survival]:
    return (
        lambda random: random.uniform(low, high),
        lambda age: min(1.0, max(0.0, (high - age) / (high - low))),
    )


def _triangular(low: float, high: float, mode: float) -> tuple[Draw, Survival]:
    def survives(age: float) -> float:
        if age <= mode:
            return 1 - max(0.0, age - low) ** 2 / ((high - low) * (mode - low))
        return max(0.0, high - age) ** 2 / ((high - low) * (high - mode))

    return lambda random: random.triangular(low, high, mode), survives


def _steps(step: float, smooth: tuple[Draw, Survival]) -> tuple[Draw, Survival]:
    draw, survives = smooth
    return (
        lambda random: step * math.ceil(draw(random) / step),
        lambda age: survives(step * math.floor(age / step + 1e-9)),
    )


def _drifting(number: int) -> float:
    """Return a slowdown from 1 to 2 and back within 1,000 tasks."""
    return 1.5 - 0.5 * math.cos(2 * math.pi * number / 1000)


def _busy(number: int) -> float:
    """Return a slowdown of 3 for the tasks of a busy hour."""
    return 3.0 if 200 <= number < 350 else 1.0  # noqa: PLR2004 the hour


FAMILIES: dict[str, Family] = {
    "constant 19": Family(lambda _: 19.0, lambda age: float(age < 19), 40),  # noqa: PLR2004 the duration
    "normal 19 ± 0.95": Family(
        lambda random: max(0.1, random.gauss(19, 0.95)), lambda age: _NORMAL.cdf((19 - age) / 0.95), 40
    ),
    "log-normal 20, spread 0.3": Family(*_log_normal(20, 0.3), 120),
    "log-normal 20, spread 0.9": Family(*_log_normal(20, 0.9), 1200),
    "log-normal 3, spread 0.5": Family(*_log_normal(3, 0.5), 40),
    "two modes, 8 and 45": Family(*_mixed((0.7, _log_normal(8, 0.15)), (0.3, _log_normal(45, 0.15))), 120),
    "Weibull 20, shape 2": Family(
        lambda random: random.weibullvariate(20, 2), lambda age: math.exp(-((age / 20) ** 2)), 120
    ),
    "Pareto 10, shape 2.5": Family(*_pareto(10, 2.5), 1200),
    "exponential 20": Family(lambda random: random.expovariate(1 / 20), lambda age: math.exp(-age / 20), 300),
    "gamma 20, shape 4": Family(*_gamma(4, 20), 150),
    "uniform 5 to 35": Family(*_uniform(5, 35), 40),
    "triangular 8 to 40": Family(*_triangular(8, 40, 14), 45),
    "three modes, 6, 18 and 50": Family(
        *_mixed((0.4, _log_normal(6, 0.08)), (0.35, _log_normal(18, 0.08)), (0.25, _log_normal(50, 0.08))),
        120,
    ),
    "steps of 5 s": Family(*_steps(5, _log_normal(20, 0.3)), 120),
    "20 % fail at 2": Family(*_mixed((0.2, _log_normal(2, 0.3)), (0.8, _log_normal(20, 0.3))), 120),
    "Pareto 8, shape 1.5": Family(*_pareto(8, 1.5), 3000),
}

SHORT: dict[str, Family] = {
    "constant 0.3": Family(lambda _: 0.3, lambda age: float(age < 0.3), 1),  # noqa: PLR2004 the duration
    "log-normal 0.3, spread 0.3": Family(*_log_normal(0.3, 0.3), 3),
    "log-normal 0.3, spread 0.9": Family(*_log_normal(0.3, 0.9), 20),
    "uniform 0.1 to 0.9": Family(*_uniform(0.1, 0.9), 1),
    "log-normal 1, spread 0.3": Family(*_log_normal(1, 0.3), 10),
    "log-normal 3, spread 0.5": Family(*_log_normal(3, 0.5), 40),
}

SHIFTING: dict[str, Family] = {
    "drifting 20 to 40, spread 0.2": Family(*_log_normal(20, 0.2), 60, _drifting),
    "a busy hour, thrice as slow": Family(*_log_normal(20, 0.3), 120, _busy),
}
