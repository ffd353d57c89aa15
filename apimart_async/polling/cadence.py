"""Pure, given a source of random numbers: when to look at a task next."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Final, NamedTuple

import attrs

from apimart_async.config import Poll
from apimart_async.polling.experience import Experience

if TYPE_CHECKING:
    from apimart_async.polling.experience import ModelExperience

_TYPICAL: Final = 4.0
_LEAST_TYPICAL: Final = 0.01
_JITTER: Final = 0.1
_LAST_LOOK: Final = 1.0
_WHOLE: Final = 100.0


class Look(NamedTuple):
    """The next look.

    Attributes:
        delay: Seconds until it.
        leeway: Seconds between looks about that time: a small part of it sooner or later costs nothing.
    """

    delay: float
    leeway: float


@attrs.frozen
class Cadence:
    """The best next moment, given what is known of how long tasks take.

    Args:
        poll: Bounds, and how many seconds of delay one look is worth.
        experience: What is known; others may share it.
        random: Source of the jitter, which keeps many waits from looking at the same moments.
    """

    poll: Poll
    experience: Experience = attrs.field(factory=Experience)
    random: Random = attrs.field(factory=Random)

    def next_look(
        self,
        model: str | None,
        age: float,
        *,
        remaining: float,
        looks: int = 0,
        looked_at: float | None = None,
        is_age_known: bool = True,
        estimated_time: float | None = None,
    ) -> Look:
        """Decide on the next look at a task that has not ended.

        Args:
            model: What runs it, where that is known.
            age: Seconds since it was submitted.
            remaining: Seconds until the wait gives up; the last look falls shortly before that.
            looks: How many there have been.
            looked_at: Age at the look before, 0 when there was none; ``age`` by default.
            is_age_known: Whether the age is more than a guess.
            estimated_time: Seconds the service expects the task to take in all, where it said so.
        """
        poll = self.poll
        known = self._of(model)
        if estimated_time is not None:
            known.expect(estimated_time, by_service=True)
        if looked_at is None:
            looked_at = age
        # A task that nobody has looked at may be looked at at once: it may have ended long ago.
        least = poll.shortest if looked_at else 0.0
        if looks == 0 and not is_age_known:
            delay, leeway = least, min(poll.first, poll.shortest)
        elif looks == 0 and not known.spans and not known.has_estimate:
            delay = leeway = max(poll.first - age, least)
        else:
            schedule = known.schedule(poll.delay_per_poll, poll.shortest)
            target = max(schedule.next_age(looked_at), age)
            delay = max(target - age, least)
            leeway = min(delay, max(schedule.next_age(target) - target, poll.shortest), poll.longest)
        if looks or not known.spans:
            delay = min(delay, poll.longest)
        if delay:
            delay = max(delay + leeway * _JITTER * (2 * self.random.random() - 1), least)
        last = remaining - min(_LAST_LOOK, remaining * _JITTER)
        return Look(last if last < delay + poll.shortest / 2 else delay, leeway)

    def runs(self, who: int, model: str | None, age: float, progress: float | None = None) -> None:
        """Note that a task had not ended at an age.

        Args:
            who: Stands for the wait.
            model: What runs the task, where that is known.
            age: Seconds since it was submitted.
            progress: Percent, where the service reports one that moves. What it promises counts as long as
                nothing better is known: neither durations nor the service's estimate.
        """
        known = self._of(model)
        known.goes_on(who, age)
        if progress is not None and not known.spans:
            known.expect(age * _WHOLE / progress, by_service=False)

    def ended(
        self, who: int, model: str | None, after: float, by: float, actual_time: float | None = None
    ) -> None:
        """Note that a task ended between two ages, and how many seconds it took by its own account."""
        self._of(model).ends(who, after, by, actual_time)

    def left(self, who: int, model: str | None) -> None:
        """Note that a task is not waited for any more."""
        self._of(model).leaves(who)

    def _of(self, model: str | None) -> ModelExperience:
        return self.experience.of(model, max(_TYPICAL * self.poll.first, _LEAST_TYPICAL))
