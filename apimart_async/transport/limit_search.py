"""Pure: how many requests a second, and at once, a service accepts, found by experiments.

A refusal (429 or 503) on its own concerns the call that received it. More refusals than usual have two
explanations, a limit or chance (noise), and an experiment tells them apart:

- *Check*: allow a little less than was accepted, first at once and then a second. A limit stops refusing;
  noise keeps its share.
- *Raise*: once limited, allow a step more. A limit refuses the added requests; else the step is kept.

An experiment adds up the logarithm of the odds of each answer under both explanations, and ends when the
sum is decisive. Only answers to requests sent since its beginning count.
"""

from __future__ import annotations

import math
from collections import deque
from heapq import heappop, heappush
from itertools import takewhile
from typing import TYPE_CHECKING, Any, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping
    from random import Random

_VERSION: Final = 1

# While no limit is known: requests at once, added for an accepted and removed for a refused answer.
_FIRST_CONCURRENCY: Final = 8.0
_GROWTH: Final = 0.7
_BURST_SECONDS: Final = 0.05

# A limit of requests at once is a limit of their rate as well, so that they do not come in waves: they are
# spread over this share of the latency.
_SPREAD: Final = 0.8

# An experiment lasts at least a round (many services count by the second) and at most three, unless the
# odds are decisive before.
_ROUND: Final = 1.1
_LONGEST_ROUND: Final = 3.8
_DECIDED: Final = 4.0

# Answers count in the order of sending, after so many times the latency of accepted ones (at most so many
# seconds): a service that refuses at once would else show refusals only. A refusal keeps its place so long.
_ORDER: Final = 1.2
_MAX_ORDER: Final = 1.0
_FIRST_LATENCY: Final = 0.25

# A check begins after a flood (so many refusals beyond the noise and a quarter of the answers), or when the
# share over the last answers is above the noise by a margin and 3.5 standard deviations.
_FLOOD: Final = 6.0
_FLOOD_SHARE: Final = 0.25
_MEMORY: Final = 250
_FEW: Final = 12
_SLACK: Final = 0.02
_SURE: Final = 3.5

# The share of what was accepted that a check allows, after a flood or else; afterwards, what a limit keeps
# free.
_CUT: Final = 0.8
_GENTLE_CUT: Final = 0.95
_MARGIN: Final = 0.97

# Noise: its least and most share, the share above which four checks in a row confirm it, and the seconds
# until it is doubted, divided by the share: the more it costs to be wrong, the sooner.
_LEAST_NOISE: Final = 0.003
_LIKELY_NOISE: Final = 0.3
_MOST_NOISE: Final = 0.7
_DOUBT: Final = 20.0

# The step of a raise, and the seconds without raises after a refused one.
_STEP: Final = 0.06
_HOLD: Final = 3.0
_MAX_HOLD: Final = 10.0

Weights = tuple[float, float]
State = Literal["free", "check", "limited"]


def _odds(share: float, other: float) -> Weights:
    """Return what an accepted and what a refused answer add to the logarithm of the odds of two shares."""
    return math.log((1 - share) / (1 - other)), math.log(share / other)


class LimitSearch:
    """Finds the limits of a service from its answers; moments are seconds of one steady clock.

    Args:
        max_concurrency: Requests at once that are never exceeded.
        max_rate: Requests per second that are never exceeded; ``None`` for no such bound.
        random: Source of the spread after a pause.

    Attributes:
        state: ``free`` (no limit is known), ``check`` (a limit is being tested) or ``limited``.
        concurrency: Requests at once that are allowed now.
        rate: Requests per second that are allowed now; ``None`` without a bound.
        paused_until: Moment before which no request is sent.
        in_flight: Places taken: by requests without an answer, and by refusals that do not count yet.
    """

    def __init__(self, max_concurrency: int, max_rate: float | None, random: Random) -> None:
        self.state: State = "free"
        self.concurrency: float = min(_FIRST_CONCURRENCY, max_concurrency)
        self.rate: float | None = max_rate
        self.paused_until: float = 0.0
        self.in_flight: int = 0
        self._max_concurrency = float(max_concurrency)
        self._max_rate = max_rate
        self._random = random
        self._next_at = 0.0
        self._began = math.inf
        self._latency = _FIRST_LATENCY
        self._accepted: deque[float] = deque(maxlen=4096)
        # Answers that do not count yet: when they will, when sent, refused, Retry-After, holds a place.
        self._pending: list[tuple[float, float, bool, float, bool]] = []
        # Refusals that count: their share over the last answers, and the share that is noise.
        self._share = 0.0
        self._seen = 0
        self._noise = 0.0
        self._doubt_at = math.inf
        self._answers: int = 0
        self._refused: int = 0
        self._retry_after: float = 0.0
        self._score: float = 0.0
        # The experiment under way or the watch for a flood, and the limits before it.
        self._knob: Literal["rate", "concurrency"] | None = None
        self._before: tuple[State, float, float | None] = ("free", 0.0, None)
        self._cut_by = 1.0
        self._checks = 0
        self._all_answers = self._all_refused = 0.0
        # Raises: the step of the next, kept ones in a row, and the pause after a refused one.
        self._step = _STEP
        self._kept = 0
        self._hold = _HOLD
        self._hold_until = 0.0
        self._found = 0.0
        self._begin(0.0)

    # Keeping

    def to_dict(self) -> dict[str, Any]:
        """Return the limits as plain data that JSON can hold."""
        state, concurrency, rate = self.state, self.concurrency, self.rate
        if state == "check" or self._knob is not None:
            state, concurrency, rate = self._before
        is_limited = state == "limited"
        return {
            "version": _VERSION,
            "rate": min(rate or math.inf, concurrency / self._latency) if is_limited else None,
            "concurrency": concurrency if is_limited else None,
            "noise": self._noise,
        }

    def load(self, data: Mapping[str, Any], now: float) -> None:
        """Start at the limits of ``to_dict``, unless they are malformed or the search has begun."""
        try:
            is_known = data["version"] == _VERSION
            rate, concurrency, noise = (float(data[key] or 0.0) for key in ("rate", "concurrency", "noise"))
        except (KeyError, TypeError, ValueError, OverflowError):
            return
        is_valid = 0 <= rate < math.inf and 0 <= concurrency < math.inf and 0 <= noise <= _MOST_NOISE
        if not (is_known and is_valid) or self._began < math.inf:
            return
        self._set_noise(noise, now)
        if rate or concurrency:
            self.state = "limited"
            self._set_limits(concurrency, max(rate, 0.01) if rate else None, now)
            self._hold_until = now + _HOLD
        self._begin(now)

    # Sending

    def ready_at(self, now: float) -> float:
        """Return the moment from which a request may be sent; infinity until an answer comes."""
        if self._pending:
            self._count_pending(now)
        if self.in_flight + 1 > self.concurrency:
            self._held_by_concurrency += 1
            return self._pending[0][0] if self._pending else math.inf
        ready = max(now, self.paused_until)
        if self._next_at > ready:
            self._held_by_rate += 1
            ready = self._next_at
        return ready

    def sent(self, now: float) -> None:
        """Count a request that is sent now."""
        self.in_flight += 1
        self._began = min(self._began, now)
        if self.rate is not None:
            self._next_at = max(self._next_at, now - _BURST_SECONDS) + 1 / self.rate

    # Learning

    def answered(self, now: float, sent_at: float, refused: bool | None, retry_after: float = 0.0) -> None:  # noqa: FBT001
        """Learn from an answer.

        Args:
            now: The moment.
            sent_at: The moment at which the request was sent.
            refused: Whether the service refused the request for its limits; ``None`` without an answer.
            retry_after: Seconds that the service asked to wait; 0 for none.
        """
        is_held = bool(refused) and not (self.state == "free" and self._noise > _LEAST_NOISE)
        self.in_flight -= not is_held
        if refused is None:
            return
        if not refused:
            latency = max(0.001, now - sent_at)
            self._latency += (0.05 if self._accepted else 1.0) * (latency - self._latency)
            if not self._share and not self._noise and self.state == "free":
                self._accepted.append(now)
                self._seen += self._seen < _MEMORY
                self._grow()
                return
        due = max(now, sent_at + min(_ORDER * self._latency, _MAX_ORDER))
        heappush(self._pending, (due, sent_at, refused, retry_after, is_held))
        self._count_pending(now)

    def _count_pending(self, now: float) -> None:
        while self._pending and self._pending[0][0] <= now:
            due, sent_at, refused, retry_after, is_held = heappop(self._pending)
            self.in_flight -= is_held
            if not refused:
                self._accepted.append(due)
            self._count(due, sent_at, retry_after, refused=refused)

    def _count(self, now: float, sent_at: float, retry_after: float, *, refused: bool) -> None:
        if sent_at < self._since:
            return
        self._answers += 1
        self._refused += refused
        self._retry_after = max(self._retry_after, retry_after)
        self._score += self._weights[refused]
        lasted = sent_at - self._since
        if self.state == "check":
            self._on_check(now, lasted)
        elif self._knob is not None:
            self._on_raise(now, lasted)
        else:
            self._on_watch(now, refused)

    def _begin(self, now: float, weights: Weights | None = None) -> None:
        """Begin an experiment, or the watch for a flood."""
        self._since = max(now, self.paused_until)
        self._held_by_rate = self._held_by_concurrency = 0
        self._knob = None
        flood = self._flood
        self._weights = weights or (-flood, 1 - flood)
        self._clear()

    def _clear(self) -> None:
        self._answers = self._refused = 0
        self._retry_after = self._score = 0.0

    @property
    def _flood(self) -> float:
        return self._noise + _FLOOD_SHARE * (1 - self._noise)

    @property
    def _usual(self) -> float:
        """The share of refusals that needs no explanation."""
        return max(_LEAST_NOISE, min(self._share, self._noise + _SLACK))

    def _accepted_rate(self, now: float) -> float:
        """Return the requests a second that may be sent according to those accepted lately, noise added."""
        window = min(1.0, max(now - self._began, 0.5))
        return self._accepted_in(now, window) / window / (1 - self._usual)

    def _accepted_in(self, now: float, window: float) -> int:
        return sum(1 for _ in takewhile((now - window).__lt__, reversed(self._accepted)))

    def _set_limits(self, concurrency: float, rate: float | None, now: float) -> None:
        self.concurrency = min(self._max_concurrency, max(1.0, concurrency))
        if self._max_rate is not None:
            rate = min(rate or self._max_rate, self._max_rate)
        self.rate = rate
        self._next_at = min(self._next_at, now + (1 / rate if rate else 0.0))

    def _set_noise(self, noise: float, now: float) -> None:
        self._noise = self._share = noise
        self._doubt_at = now + _DOUBT / max(_LEAST_NOISE, noise)

    def _grow(self) -> None:
        if self._held_by_concurrency and self.concurrency < self._max_concurrency:
            self.concurrency = min(self._max_concurrency, self.concurrency + _GROWTH)

    def _on_watch(self, now: float, refused: bool) -> None:  # noqa: FBT001
        if self._score <= 0:
            self._clear()
        self._seen = min(_MEMORY, self._seen + 1)
        self._share += (refused - self._share) / self._seen
        if now > self._doubt_at:
            self._noise, self._doubt_at = 0.0, math.inf
        is_free = self.state == "free"
        spread = math.sqrt(self._usual * (1 - self._usual) / (2 * self._seen))
        unusual = self._noise + (_SLACK if is_free else _SLACK / 2) + _SURE * spread
        if self._score > _FLOOD:
            self._check(now, max(self._share, self._flood / 0.75), _CUT)
        elif self._share > unusual and self._seen >= (_MEMORY if is_free else _FEW):
            self._check(now, self._share, _GENTLE_CUT)
        elif not is_free:
            if now >= self._hold_until:
                self._raise(now)
        elif refused:
            self.concurrency = max(min(_FIRST_CONCURRENCY, self.concurrency), self.concurrency - _GROWTH)
        else:
            self._grow()

    # Checks

    def _check(self, now: float, share: float, cut_by: float) -> None:
        """Begin a check: allow a little less than was accepted, and expect the share of refusals or none."""
        used, found = self._accepted_in(now, 1.1 * self._latency), self._accepted_rate(now)
        if self.state != "check":
            self._before = (self.state, self.concurrency, self.rate)
            self._checks = 0
            # A flood tells nothing of the share of noise: it was picked for its refusals.
            self._all_answers = 0 if cut_by == _CUT else self._seen
            self._all_refused = self._all_answers * self._share
        elif cut_by == _GENTLE_CUT and self._before[0] == "free":
            found = self._found
        self.state = "check"
        self._checks += 1
        self._cut_by = cut_by
        self._found = found
        if cut_by == _CUT and 2 * self._refused > self._answers and self._retry_after:
            self.paused_until = now + self._retry_after * (1 + 0.1 * self._random.random())
            self._began = self.paused_until
        at_once = cut_by * max(used, found * self._latency) + (1.0 if cut_by == _CUT else 0.5)
        if not found:
            self._set_limits(min(_FIRST_CONCURRENCY, self.concurrency) / 2, None, now)
        elif self._checks == 1 and (cut_by == _CUT or self._before[0] == "free"):
            self._set_limits(at_once, at_once / (_SPREAD * self._latency), now)
        else:
            self._set_limits(at_once, cut_by * found, now)
        gone = max(_LEAST_NOISE, self._noise, 0.25 * share)
        same = min(0.99, max(0.75 * share, self._noise + 0.03))
        self._begin(now, _odds(gone, same))

    def _on_check(self, now: float, lasted: float) -> None:
        share = self._refused / self._answers
        is_late = lasted > _LONGEST_ROUND and self._answers > 2 * _FEW
        if self._cut_by == _CUT and self._checks == 1 and self._found and self._score <= -_DECIDED:
            self._add_up()
            self._check(now, share, _CUT)
        elif (abs(self._score) >= _DECIDED or is_late) and (lasted > _ROUND or not self._found):
            self._add_up()
            self._end_check(now, share, is_gone=self._score > 0)

    def _add_up(self) -> None:
        self._all_answers += self._answers
        self._all_refused += self._refused

    def _end_check(self, now: float, share: float, *, is_gone: bool) -> None:
        pooled = self._all_refused / self._all_answers
        if is_gone and self._found:
            self.state = "limited"
            self._noise = min(self._noise, share)
            self._share = share
            self._seen = min(_MEMORY, self._answers)
            self._hold = _HOLD
            self._kept = 1
            self._step = _STEP / 2
            if self._cut_by == _CUT:
                self._begin_raise(now, "concurrency", _MARGIN / _CUT - 1, both=True)
            else:
                self._hold_until = now + _HOLD
                self._begin(now)
        elif not is_gone and (
            self._checks < (2 if pooled < _LIKELY_NOISE else 4) or share > _MOST_NOISE or not self._found
        ):
            self._check(now, share if self._cut_by == _CUT else pooled, self._cut_by)
        else:
            self.state, concurrency, rate = self._before
            if self._found:
                if pooled > 2 * self._noise + _SLACK:
                    # A limit found without knowing of this noise may have been noise itself.
                    self.state, rate = "free", None
                self._set_noise(pooled, now)
            else:
                self._share = self._noise
                if self.state == "free":
                    concurrency = min(concurrency, _FIRST_CONCURRENCY)
            self._set_limits(concurrency, rate, now)
            self._begin(now)

    # Raises

    def _raise(self, now: float) -> None:
        used = self._accepted_rate(now)
        if self.rate is not None and self.rate > 4 * max(used, 1.0):
            self._set_limits(self.concurrency, None, now)
        if self.rate == self._max_rate and self.concurrency >= self._max_concurrency:
            self.state = "free"
            self._begin(now)
            return
        # As many requests more as their number varies by chance, and enough to stand out from the noise.
        step = max(self._step, math.sqrt((0.25 + 6 * self._usual) / max(1.0, used)))
        self._step = step
        if self._held_by_rate > self._held_by_concurrency:
            self._begin_raise(now, "rate", step, both=self._kept > 1)
        elif self._held_by_concurrency and self.concurrency < self._max_concurrency:
            self._begin_raise(now, "concurrency", max(step, 1 / self.concurrency), both=self._kept > 1)

    def _begin_raise(
        self, now: float, knob: Literal["rate", "concurrency"], step: float, *, both: bool
    ) -> None:
        self._before = ("limited", self.concurrency, self.rate)
        concurrency, rate = self.concurrency, self.rate
        if rate is not None and (knob == "rate" or both):
            rate *= 1 + step
        if knob == "concurrency" or both:
            concurrency = math.floor(concurrency * (1 + step) + 0.001)
        self._set_limits(concurrency, rate, now)
        self._found = self._accepted_rate(now)
        self._begin(now, _odds(1 - (1 - self._usual) / (1 + 0.7 * step), self._usual))
        self._knob = knob

    def _on_raise(self, now: float, lasted: float) -> None:
        # A window or a bucket refuses late: the requests accepted before do not outweigh that.
        self._score = max(self._score, -_DECIDED)
        is_late = lasted > _LONGEST_ROUND
        if self._score >= _DECIDED or (is_late and self._score > 0):
            self._put_back(now)
        elif lasted > _ROUND and (self._score <= -_DECIDED or is_late):
            self._kept += 1
            self._hold = _HOLD if self._kept > 1 else self._hold
            self._step = min(2 * self._step, 1.0)
            self._begin(now)

    def _put_back(self, now: float) -> None:
        _, concurrency, rate = self._before
        found = max(0.5, self._accepted_rate(now))
        if rate is not None and (self._knob == "rate" or rate < 1.1 * found):
            rate = min(rate, _MARGIN * found)
        self._set_limits(concurrency, rate, now)
        self._step /= 2
        self._kept = 0
        self._hold_until = now + self._hold
        self._hold = min(2 * self._hold, _MAX_HOLD)
        self._begin(now)
