"""Pure: duration statistics for each kind of task, remembered in the order of submission.

Tasks that are submitted together end in the order of their durations. A memory in the order of the ends would
hold the short ones at first and the long ones at last; it would take the end of a wave for a slow service.
In the order of submission, with the running tasks among them, no duration is preferred.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from itertools import compress
from itertools import count as counter
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

import attrs

from apimart_async.models import DurationEstimate
from apimart_async.polling.estimator import Distribution, Observation, estimate

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_PRIOR_PER_FIRST_POLL: Final = 4.0

# Bounds of the statistics: kinds of tasks, and ended and running tasks for each.
_MAX_MODELS: Final = 64
_MAX_TASKS: Final = 128
_MAX_RUNNING: Final = 32
_FEW: Final = 32

_VERSION: Final = 2
_MIN_MEDIAN: Final = 0.01
_MAX_MEDIAN: Final = 1e6
_MIN_DURATION: Final = 1e-6

# Weight of a task relative to the next newer one.
_DECAY: Final = 0.99

# The estimate is renewed when an eighth of all tasks so far is new, or after so many polls; and when four new
# ones, an eighth of a few, ended much sooner or later than expected. The sum of their log-odds to outlast an
# expected task has a standard deviation of 1.8 times the root of their number.
_NEW_PART: Final = 8
_MAX_NEW: Final = 400
_MAX_POLLS: Final = 600
_SURPRISING: Final = 6.0
# Slow tasks do not end: it is renewed too when five ends fewer came than would be expected if all tasks took
# a fifth longer than known. Without that allowance, a narrow estimate that is a little wrong would suffice. A
# task that hangs counts for two at most.
_OVERDUE: Final = 5.0
_LONGER: Final = 1.2
_MOST_EXPECTED: Final = 2.0

# A shift of speed: the log-likelihood ratio that proves it, and the least numbers of newer and older tasks.
_SHIFT: Final = 8.0
_MIN_NEWER: Final = 4.0
_MIN_OLDER: Final = 12
_LEAST_SURVIVAL: Final = 1e-4

_NARROW: Final = 0.06
_GOLDEN: Final = 0.6180339887
_ROUNDING: Final = 0.5
_COMMON: Final = 0.9
_MIN_SUMMARY: Final = 3

# The service's estimate is above most durations: 60 s for tasks that take 19.
_ESTIMATE_PART: Final = 1 / 3
_ESTIMATE_TRUSTED: Final = 20.0

next_number: Callable[[], int] = counter(1).__next__
"""Return the number of the next task in the order of submission, over all models."""


def kind_of(model: str | None, resolution: str | None, n: int | None) -> str | None:
    """Return the name of all tasks of the same model, resolution and number of images."""
    if model is None:
        return None
    parts = (model, resolution, f"n={n}" if n is not None and n > 1 else None)
    return " ".join(part for part in parts if part)


class Remembered(NamedTuple):
    """An ended or abandoned task.

    Attributes:
        number: Place in the order of submission.
        seen: Ages between which it ended.
    """

    number: int
    seen: Observation


@attrs.define(eq=False)
class ModelStats:
    """Duration statistics of one kind of task; bounded, the last submitted tasks weigh most.

    Attributes:
        prior_median: Median of the prior in seconds.
        is_estimated: Whether the prior comes from the service or from progress, not from settings.
        memory: Ended and abandoned tasks, in the order of submission.
        running: Age in seconds at which each running task had not ended, by number.
        shifts: Number of times that the service was found to have changed its speed.
    """

    prior_median: float
    is_estimated: bool = False
    memory: list[Remembered] = attrs.field(factory=list[Remembered])
    running: dict[int, float] = attrs.field(factory=dict[int, float])
    shifts: int = 0
    _distribution: Distribution | None = None
    _polls: int = 0
    _new: int = 0
    _ended: int = 0
    _surprise: float = 0.0
    _overdue: float = 0.0
    _since: int = -_MAX_TASKS
    _first_running: float = math.inf
    _oldest_running: int = -_MAX_TASKS
    _phase: float = 0.0
    _unknown_to: float = 0.0

    @property
    def is_known(self) -> bool:
        """Tell whether a task has ended, even if a shift of speed has made the client forget all ends."""
        return bool(self.memory) or self._since > -_MAX_TASKS

    @property
    def observations(self) -> list[Observation]:
        """Return the ended and abandoned tasks, in the order of submission."""
        return [entry.seen for entry in self.memory]

    def expect(self, median: float, *, by_service: bool) -> None:
        """Set the median of the prior; the service's estimate overrides others.

        Args:
            median: Seconds; ignored below 0.01 s or above 1e6 s. An estimate of the service counts only as
                far as 20 s, or to a third.
            by_service: Whether the service itself gave the estimate.
        """
        if not _MIN_MEDIAN <= median <= _MAX_MEDIAN:
            return
        if by_service:
            median = min(median, max(_ESTIMATE_TRUSTED, median * _ESTIMATE_PART))
        if median != self.prior_median and (by_service or not self.is_estimated):
            self.prior_median, self.is_estimated = median, by_service
            if not self.memory:
                self.discard_estimate()

    def record_running(self, number: int, age: float, progress: float | None = None) -> None:
        """Record that a task had not ended at an age in seconds.

        Args:
            number: Place of the task in the order of submission.
            age: Seconds since the submit.
            progress: Percent, where the service reports changing values. The duration it implies is the prior
                as long as there are neither observations nor an estimate of the service.
        """
        self._overdue += self._expected(self.running.get(number, 0.0), age)
        self.running[number] = age
        self._polls += 1
        if progress is not None and not self.memory:
            self.expect(age * 100.0 / progress, by_service=False)

    def record_end(self, number: int, after: float, by: float, actual_time: float | None = None) -> None:
        """Record that a task ended between two ages in seconds.

        Args:
            number: Place of the task in the order of submission.
            after: Age at which the task had not ended.
            by: Age by which it had ended.
            actual_time: Duration in seconds that the service reports; ignored where it contradicts the polls.
        """
        since = self.running.pop(number, 0.0)
        if actual_time is not None and actual_time > 0:
            slack = _ROUNDING if actual_time == int(actual_time) else 0.01 * actual_time
            low, high = max(after, actual_time - slack), min(by, actual_time + slack)
            if low < high:
                after, by = low, high
        if not 0 <= after < by:
            return
        known = self._distribution
        if known is None or not self.memory:
            self._remember(Remembered(number, Observation(after, by)))
            return
        # Draw a duration from the interval; the golden ratio covers it evenly.
        high, low = known.survival_at(after), known.survival_at(by)
        self._phase = (self._phase + _GOLDEN) % 1.0
        outlived = high - self._phase * (high - low)
        guess = (after + by) / 2 if by - after < _NARROW * by else known.age_at(outlived)
        # The ends below the age of the earliest poll have an unknown distribution: an even one is assumed.
        unknown = min(by, self._unknown_to)
        if after == 0 and guess < unknown:
            guess = unknown * (1.0 - outlived) / (1.0 - known.survival_at(unknown))
        self._overdue += self._expected(since, guess) - 1.0
        outlived = min(max(outlived, _LEAST_SURVIVAL), 1.0 - _LEAST_SURVIVAL)
        self._surprise += math.log(outlived / (1.0 - outlived))
        likely = guess if after < guess < by else None
        self._remember(Remembered(number, Observation(after, by, likely)))

    def _expected(self, after: float, by: float) -> float:
        """Return the number of ends to expect between two ages if tasks take a fifth longer than known."""
        known = self._distribution
        if known is None or by <= after:
            return 0.0
        first, last = (_cumulative_hazard(known, age / _LONGER) for age in (after, by))
        return min(last, _MOST_EXPECTED) - min(first, _MOST_EXPECTED)

    def record_abandoned(self, number: int) -> None:
        """Record that a wait ended before its task; the age counts where most tasks had ended before."""
        age = self.running.pop(number, None)
        if age is not None and self.memory and self.distribution().survival_at(age) < _COMMON:
            self._remember(Remembered(number, Observation(age, math.inf)))

    def load(self, prior_median: float, observations: Sequence[Observation]) -> None:
        """Load the observations of an earlier process, oldest first, unless a task has ended already."""
        if not self.memory:
            self.prior_median = prior_median
            for number, seen in enumerate(observations[-_MAX_TASKS:], -_MAX_TASKS):
                self._remember(Remembered(number, seen))
            self.discard_estimate()

    def _remember(self, entry: Remembered) -> None:
        memory = self.memory
        if entry.number < self._since:
            return
        insort(memory, entry, key=lambda known: known.number)
        if len(memory) >= 3 * _MAX_TASKS:
            self._trim()
        self._new += 1
        self._ended += 1

    def _trim(self) -> None:
        """Keep the last 128 tasks submitted before all that run, and the last 128 among those that run.

        Ended tasks of a wave say nothing about ages that no task of the wave has reached yet: for these, the
        older tasks stay.
        """
        oldest = self._first_running = min(self.running, default=math.inf)
        place = bisect_left(self.memory, oldest, key=lambda known: known.number)
        before, among = self.memory[:place], self.memory[place:]
        self.memory = before[-_MAX_TASKS:] + among[-_MAX_TASKS:]
        self._oldest_running = among[-_MAX_TASKS].number if len(among) >= _MAX_TASKS else self._since

    def discard_estimate(self) -> None:
        """Make the next call of ``distribution`` estimate anew."""
        self._distribution = None

    def distribution(self) -> Distribution:
        """Return the distribution; it is estimated anew once enough tasks are new, or surprising."""
        known = self._distribution
        if known is None or self._is_outdated():
            self._polls = self._new = 0
            self._surprise = self._overdue = 0.0
            sample = self._sample()
            if known is not None:
                sample = self._without_older_speed(known, sample)
            polled = (seen.after or seen.by for (_, seen), _ in sample)
            self._unknown_to = min(polled, default=0.0)
            weight = 1.0
            weighted: list[tuple[Observation, float]] = []
            for entry, repeated in sample:
                weighted.append((entry.seen, weight * repeated))
                if entry.seen.by < math.inf:
                    weight *= _DECAY
            known = self._distribution = estimate(weighted, self.prior_median)
        return known

    def _is_outdated(self) -> bool:
        new, known = self._new, len(self.memory)
        if self._overdue > _OVERDUE and known >= _MIN_OLDER:
            return True
        if known < _FEW:
            return new > 0 or self._polls >= _MAX_POLLS
        is_surprising = abs(self._surprise) > _SURPRISING * math.sqrt(new)
        part = _FEW if is_surprising else min(self._ended, _NEW_PART * _MAX_NEW)
        return new * _NEW_PART >= part or self._polls >= _MAX_POLLS

    def _sample(self) -> list[tuple[Remembered, float]]:
        """Return the memory and up to 32 of the running tasks as new as that, newest first, with weights."""
        self._trim()
        running = sorted(entry for entry in self.running.items() if entry[0] >= self._oldest_running)
        some = running[:: max(1, -(-len(running) // _MAX_RUNNING))]
        weight = len(running) / max(1, len(some))
        sample = [(entry, 1.0) for entry in self.memory]
        sample += [(Remembered(number, Observation(age, math.inf)), weight) for number, age in some]
        sample.sort(key=lambda part: part[0].number, reverse=True)
        return sample

    def _without_older_speed(
        self, known: Distribution, sample: list[tuple[Remembered, float]]
    ) -> list[tuple[Remembered, float]]:
        """Return the newest part of a sample, where the service has changed its speed; forget the rest.

        A task at age t has the cumulative hazard H(t) = -log S(t): the number of ends to expect by then, if
        such a task were started again after each end. Over tasks chosen by their order of submission,
        ended and running, the number of ends less the sum of H is 0 on average while the distribution fits.
        This martingale residual stays so while a wave drains; the durations of the ended tasks do not. Where
        the newer tasks have N ends instead of E expected ones, their speed is N / E. For each place in the
        sample, the likelihood of two speeds is compared with that of one speed for all tasks, so that an
        estimate that is wrong for all of them is no shift.
        """
        # A large wave would prove that each estimate is a little wrong: at most 32 running tasks count.
        share = 1 / max((weight for _, weight in sample), default=1.0)
        counts = [share if entry.number >= self._first_running else 1.0 for entry, _ in sample]
        hazards = [
            count * weight * self._hazard(known, entry.seen)
            for count, (entry, weight) in zip(counts, sample, strict=True)
        ]
        is_end = [entry.seen.by < math.inf for entry, _ in sample]
        all_ends = sum(compress(counts, is_end))
        all_expected = sum(hazards)
        one_speed = _log_likelihood(all_ends, all_expected)
        ends = expected = 0.0
        best, kept = _SHIFT, len(sample)
        for place, (has_ended, count, hazard) in enumerate(zip(is_end, counts, hazards, strict=True), 1):
            expected += hazard
            ends += count * has_ended
            if all_ends - ends < _MIN_OLDER:
                break
            if max(ends, expected) >= _MIN_NEWER:
                newer = _log_likelihood(ends, expected)
                ratio = newer + _log_likelihood(all_ends - ends, all_expected - expected) - one_speed
                if ratio > best:
                    best, kept = ratio, place
        if kept < len(sample):
            self.shifts += 1
            self._since = sample[kept - 1][0].number
            self.memory = [entry for entry in self.memory if entry.number >= self._since]
            if not self.memory:
                # No newer task has ended: the known durations are a better guess than the settings.
                self.prior_median = known.age_at(0.5)
        return sample[:kept]

    def _hazard(self, known: Distribution, seen: Observation) -> float:
        """Return the cumulative hazard of a task up to its end, or up to the age when it was last seen."""
        after, by, guess = seen
        if by < math.inf:
            after = (after + by) / 2 if guess is None else guess
        elif after <= self._unknown_to:
            return 0.0
        return _cumulative_hazard(known, after)


def _cumulative_hazard(known: Distribution, age: float) -> float:
    return -math.log(max(known.survival_at(age), _LEAST_SURVIVAL))


def _log_likelihood(ends: float, expected: float) -> float:
    """Return the log-likelihood of the best speed for so many ends, less a part that all speeds share."""
    return ends * math.log(ends / max(expected, _LEAST_SURVIVAL)) if ends else 0.0


class DurationStats:
    """Duration statistics of up to 64 models; the oldest one without running tasks makes room for others."""

    def __init__(self) -> None:
        self._models: dict[str, ModelStats] = {}

    def of(self, kind: str | None, first_poll: float) -> ModelStats:
        """Return the statistics of a kind of tasks.

        Args:
            kind: Name of the kind; ``None`` for all unknown models together.
            first_poll: Seconds until the first poll of a kind without statistics: a fourth of its prior
                median.
        """
        name = kind or ""
        known = self._models.get(name)
        if known is None:
            known = self._models[name] = ModelStats(max(_PRIOR_PER_FIRST_POLL * first_poll, _MIN_MEDIAN))
            if len(self._models) > _MAX_MODELS:
                idle = (other for other, stats in self._models.items() if not stats.running)
                del self._models[next(idle, next(iter(self._models)))]
        return known

    def summary(self, kind: str | None) -> DurationEstimate | None:
        """Return the usual duration of a kind of tasks; ``None`` until three of them have ended."""
        known = self._models.get(kind or "")
        ended = 0 if known is None else sum(entry.seen.by < math.inf for entry in known.memory)
        if known is None or ended < _MIN_SUMMARY:
            return None
        durations = known.distribution()
        return DurationEstimate(durations.age_at(0.5), durations.age_at(0.2), ended)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data that JSON can hold, a few kilobytes for each model."""
        models = {
            name: {
                "typical": known.prior_median,
                "spans": [
                    [seen.after, None if seen.by == math.inf else seen.by, seen.guess]
                    for _, seen in known.memory[-_MAX_TASKS:]
                ],
            }
            for name, known in self._models.items()
            if known.memory
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
            self.of(str(name), median).load(median, list(filter(_is_valid, observations)))


def _observation(after: Any, by: Any, guess: Any) -> Observation:  # noqa: ANN401 values of JSON
    return Observation(
        float(after), math.inf if by is None else float(by), None if guess is None else float(guess)
    )


def _is_valid(seen: Observation) -> bool:
    is_possible = _MIN_DURATION <= seen.by <= _MAX_MEDIAN or (
        seen.by == math.inf and seen.after <= _MAX_MEDIAN
    )
    in_order = 0 <= seen.after < seen.by and (seen.guess is None or seen.after < seen.guess < seen.by)
    return is_possible and in_order
