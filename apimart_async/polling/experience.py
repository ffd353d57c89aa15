"""What a client has seen of how long the tasks of each model take; bounded, and the recent counts most."""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING, Any, Final, cast

import attrs

from apimart_async.polling.durations import Durations, Span, estimate
from apimart_async.polling.schedule import Schedule, best_schedule

if TYPE_CHECKING:
    from collections.abc import Mapping

_MODELS: Final = 64
_TASKS: Final = 128
_FADING: Final = 0.99
_FADING_FASTER: Final = 0.06
_SUSPECT: Final = 0.2
_SUSPECT_LOOKS: Final = 40
_RUNNING: Final = 32
_LOOKS: Final = 600
_SCHEDULES: Final = 4
_VERSION: Final = 1
_LEAST_TYPICAL: Final = 0.01
_MOST_TYPICAL: Final = 1e6
_SHORTEST_SPAN: Final = 1e-6

# A shift of the service's speed: the recent tasks' places in the distribution, which should be even between 0
# and 1, are on average this far from the middle; the older tasks are then forgotten.
_RECENT: Final = 0.15
_SHIFTED: Final = 0.3
_KEPT: Final = 12
_IN_ORDER: Final = 16

_NARROW: Final = 0.06
_GOLDEN: Final = 0.6180339887
_SHARE_OF_A_SECOND: Final = 0.5


@attrs.define(eq=False)
class ModelExperience:
    """What has been seen of the tasks of one model.

    Attributes:
        typical: Median of the prior, in seconds.
        has_estimate: Whether that is the service's own word.
        spans: Of ended tasks, oldest first.
        running: Age at which each task that is waited for had certainly not ended.
    """

    typical: float
    has_estimate: bool = False
    spans: deque[Span] = attrs.field(factory=lambda: deque[Span](maxlen=_TASKS))
    running: dict[int, float] = attrs.field(factory=dict[int, float])
    _durations: Durations | None = None
    _schedules: dict[tuple[float, float], Schedule] = attrs.field(factory=dict[tuple[float, float], Schedule])
    _looks: int = 0
    _ended: int = 0
    _news: int = 0
    _lean: float = 0.0
    _turn: float = 0.0

    def expect(self, typical: float, *, by_service: bool) -> None:
        """Take a word on how long tasks take; the service's own counts more than the caller's.

        No task takes less than a hundredth of a second or more than days: such a word says nothing.
        """
        if not _LEAST_TYPICAL <= typical <= _MOST_TYPICAL:
            return
        if typical != self.typical and (by_service or not self.has_estimate):
            self.typical, self.has_estimate = typical, by_service
            if not self.spans:
                self.forget_estimate()

    def goes_on(self, who: int, age: float) -> None:
        """Note that a task has not ended at an age."""
        self.running[who] = age
        self._looks += 1

    def ends(self, who: int, after: float, by: float, actual_time: float | None) -> None:
        """Note that a task ended between two ages; what it says of itself counts when it agrees with that."""
        self.running.pop(who, None)
        self._looks += 1
        if actual_time is not None and actual_time > 0:
            slack = _SHARE_OF_A_SECOND if actual_time == int(actual_time) else 0.01 * actual_time
            low, high = max(after, actual_time - slack), min(by, actual_time + slack)
            if low < high:
                after, by = low, high
        if not 0 <= after < by:
            return
        self._note(after, by)

    def leaves(self, who: int) -> None:
        """Note that nobody waits for a task any more; a long life so far is remembered."""
        age = self.running.pop(who, None)
        if age is not None and self.spans and self.durations().survives(age) < 0.9:  # noqa: PLR2004 else it says little
            self.spans.append(Span(age, math.inf))
            self._news += 1

    def _note(self, after: float, by: float) -> None:
        self._news += 1
        self._ended += 1
        known = self._durations
        if known is None or not self.spans:
            self.spans.append(Span(after, by))
            return
        # Drawn from what is known, in turns that cover it evenly.
        high, low = known.survives(after), known.survives(by)
        self._turn = (self._turn + _GOLDEN) % 1.0
        outlived = high - self._turn * (high - low)
        if by - after < _NARROW * by:
            guess: float | None = (after + by) / 2
        else:
            guess = known.outlives(outlived)
            guess = guess if after < guess < by else None
        self.spans.append(Span(after, by, guess))
        if len(self.running) > _IN_ORDER:
            # Of many that began together the short ones end first, which is no shift.
            self._lean = 0.0
            return
        self._lean += _RECENT * (0.5 - outlived - self._lean)
        if abs(self._lean) > _SHIFTED:
            self._lean = 0.0
            self._ended = _KEPT
            recent = [Span(span.after, span.by) for span in self.spans][-_KEPT:]
            self.spans.clear()
            self.spans.extend(recent)
            self.forget_estimate()

    def forget_estimate(self) -> None:
        """Have the distribution estimated anew the next time it is needed."""
        self._durations = None

    def durations(self) -> Durations:
        """Return the distribution; it is estimated anew after so many looks that it costs little for each."""
        most = _SUSPECT_LOOKS if abs(self._lean) > _SUSPECT else _LOOKS
        if self._durations is None or (self._news and self._looks >= min(most, 2 * self._ended)):
            self._looks = self._news = 0
            self._schedules.clear()
            self._durations = estimate(self._weighted(), self.typical)
        return self._durations

    def schedule(self, cost: float, shortest: float) -> Schedule:
        """Return the best schedule for what is known.

        Args:
            cost: Seconds of delay that one look is worth.
            shortest: Least seconds between two looks.
        """
        durations = self.durations()
        known = self._schedules.get((cost, shortest))
        if known is None:
            if len(self._schedules) >= _SCHEDULES:
                self._schedules.clear()
            known = self._schedules[cost, shortest] = best_schedule(durations, cost, shortest)
        return known

    def _weighted(self) -> list[tuple[Span, float]]:
        # The less the recent tasks fit in, the sooner the older ones are forgotten.
        fading = _FADING - _FADING_FASTER * min(1.0, max(0.0, abs(self._lean) / _SHIFTED - 0.3))
        weight = 1.0
        weighted: list[tuple[Span, float]] = []
        for span in reversed(self.spans):
            weighted.append((span, weight))
            weight *= fading
        ages = list(self.running.values())
        sample = ages[:: max(1, len(ages) // _RUNNING)]
        weighted += [(Span(age, math.inf), len(ages) / len(sample)) for age in sample]
        return weighted


class Experience:
    """What has been seen of every model; the models not heard of for longest are forgotten."""

    def __init__(self) -> None:
        self._models: dict[str, ModelExperience] = {}

    def of(self, model: str | None, typical: float) -> ModelExperience:
        """Return what is known of a model.

        Args:
            model: Its name; all tasks whose model is not known count as of one.
            typical: What its tasks are believed to take as long as nothing is known, in seconds.
        """
        name = model or ""
        known = self._models.get(name)
        if known is None:
            known = self._models[name] = ModelExperience(typical)
            if len(self._models) > _MODELS:
                idle = (other for other, about in self._models.items() if not about.running)
                del self._models[next(idle, next(iter(self._models)))]
        return known

    def to_dict(self) -> dict[str, Any]:
        """Return what is known as plain data that JSON can hold, a few kilobytes for each model."""
        models = {
            name: {
                "typical": known.typical,
                "spans": [
                    [span.after, None if span.by == math.inf else span.by, span.guess] for span in known.spans
                ],
            }
            for name, known in self._models.items()
            if known.spans
        }
        return {"version": _VERSION, "models": models}

    def restore(self, data: Mapping[str, Any]) -> None:
        """Take up what ``to_dict`` returned; what is not understood, or known better by now, is left out."""
        models: Any = data.get("models")
        if data.get("version") != _VERSION or not isinstance(models, dict):
            return
        saved_models = cast("dict[str, Any]", models)
        for name in list(saved_models)[-_MODELS:]:
            saved: Any = saved_models[name]
            try:
                typical = float(saved["typical"])
                spans = [_span(*entry) for entry in saved["spans"]]
            except (KeyError, TypeError, ValueError, OverflowError):
                continue
            if not _LEAST_TYPICAL <= typical <= _MOST_TYPICAL:
                continue
            known = self.of(str(name), typical)
            if not known.spans:
                known.typical = typical
                known.spans.extend(filter(_is_sound, spans))
                known.forget_estimate()


def _span(after: Any, by: Any, guess: Any) -> Span:  # noqa: ANN401 what JSON holds
    return Span(float(after), math.inf if by is None else float(by), None if guess is None else float(guess))


def _is_sound(span: Span) -> bool:
    is_possible = _SHORTEST_SPAN <= span.by <= _MOST_TYPICAL or (
        span.by == math.inf and span.after <= _MOST_TYPICAL
    )
    in_order = 0 <= span.after < span.by and (span.guess is None or span.after <= span.guess <= span.by)
    return is_possible and in_order
