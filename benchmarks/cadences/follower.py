"""The price of learning of a change of speed from ended tasks, as a yardstick for the client."""

from __future__ import annotations

import attrs
from cadences.families import Family
from cadences.simulation import Learner, slowdown_of

from apimart_async.polling.cadence import Schedule, best_schedule


@attrs.define
class Follower(Learner):
    """Polls by the best schedule for the speed of the newest task that was found to have ended.

    It estimates nothing: it knows the distribution and the speed of ended tasks exactly. Its cost above the
    optimum is the price of learning of a change of speed from ended tasks.

    Args:
        family: Family of the durations.
    """

    family: Family = attrs.field(kw_only=True)
    _newest: int = 0
    _shifts: int = 0
    _schedules: dict[float, Schedule] = attrs.field(factory=dict[float, Schedule])

    def _delay(self, age: float, polls: int, polled_at: float) -> float:
        slowdown = slowdown_of(self.family, self._newest)
        schedule = self._schedules.get(slowdown)
        if schedule is None:
            schedule = best_schedule(self.family.truth(), self.poll.delay_per_poll / slowdown, 0.0)
            self._schedules[slowdown] = schedule
        # Of a task older than its schedule expects, the best next poll would be at once, again and again.
        least = max(polled_at + self.poll.shortest - age, 0.0) if polls else 0.0
        return max(slowdown * schedule.next_age(polled_at / slowdown) - age, least)

    def _knowledge(self) -> tuple[int, bool]:
        return self._shifts, True

    def _learn(self, number: int, before: float, age: float, duration: float) -> None:
        del before
        if age >= duration and number > self._newest:
            self._shifts += slowdown_of(self.family, number) != slowdown_of(self.family, self._newest)
            self._newest = number
