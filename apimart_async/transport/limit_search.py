"""Pure: how many requests a second, and at once, a service accepts, found by experiments.

A refusal (429 or 503) on its own concerns the call that received it. More refusals than usual have two
explanations, a limit or chance (noise), and an experiment tells them apart:

- *Check*: allow less than the accepted requests. A limit stops refusing; noise keeps its share.
- *Raise*: once limited, allow more. A limit refuses the added requests; else the raise is kept.

An experiment adds up the logarithm of the odds of each answer under both explanations, and ends when the
sum is decisive. Chance refuses here and there, an exhausted limit one request after another: refusals in
runs call for a lower check. Only answers to requests sent since the beginning count. Between experiments
the same sum, never below 0, watches for refusals that call for a check.
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
# Requests at once while no limit is known, and how many an accepted answer adds.
_FIRST_CONCURRENCY: Final = 8.0
_GROWTH: Final = 0.4
# Without a limit and with one: the share of refusals above the noise that is usual, the share above both
# that is a flood, and the sum of odds that begins a check. A wrong check costs more without a limit.
_WATCH: Final = {False: (0.1, 0.5, 12.0), True: (0.02, 0.15, 6.0)}
# The sum that ends an experiment, and its seconds, as many services count by the second; and the sum that
# ends a check before these, unless nearly all is refused, as in an outage.
_DECIDED: Final = 4.0
_CERTAIN: Final = 12.0
_ROUND: Final = 1.1
_LONGEST_ROUND: Final = 3.0
# The fewest refusals that tell a run from chance.
_FEW_REFUSALS: Final = 3
# Checks in a row after which a limit must be below the accepted rate, however the refusals come.
_MOST_CHECKS: Final = 4
# A check allows this share of the accepted requests, the first raise after it a little more than all.
_CUT: Final = 0.9
_FIRST_STEP: Final = 0.12
# Shares of refusals: the least that an experiment expects, of a flood, and the most that can be noise.
_LEAST: Final = 0.003
_FLOOD: Final = 0.33
_MOST_NOISE: Final = 0.7
# The fewest requests at once that measure a limit, and the answers of a check that measure noise.
_FEW: Final = 2.0
_FEW_ANSWERS: Final = 32
# The answers over which the share of refusals is averaged.
_MEMORY: Final = 250
# Seconds until noise is doubted, divided by its share: the more it costs to be wrong, the sooner.
_DOUBT: Final = 20.0
# Seconds without raises, at the limits of an earlier search and at most; and the raise that makes a search
# wait so long when it is refused, as a share, or the least that can be noticed if that is smaller.
_FIRST_HOLD: Final = 3.0
_MOST_HOLD: Final = 12.0
_CLOSE: Final = 0.1
# Requests between a refused raise and the next.
_LEAST_HELD: Final = 40.0


class LimitSearch:
    """Finds the limits of a service from its answers; moments are seconds of one steady clock.

    Args:
        max_concurrency: Requests at once that are never exceeded.
        max_rate: Requests per second that are never exceeded; ``None`` for no such bound.
        random: Source of the spread after a pause.

    Attributes:
        concurrency: Requests at once that are allowed now.
        rate: Requests per second that are allowed now; ``None`` without a bound.
        paused_until: Moment before which no request is sent.
        in_flight: Places taken: by requests without an answer, and by refusals that do not count yet.
    """

    def __init__(self, max_concurrency: int, max_rate: float | None, random: Random) -> None:
        self.concurrency: float = min(_FIRST_CONCURRENCY, max_concurrency)
        self.rate: float | None = max_rate
        self.paused_until: float = 0.0
        self.in_flight: int = 0
        self._max_concurrency = float(max_concurrency)
        self._max_rate = max_rate
        self._random = random
        self._is_limited = False
        # Free at the maximum, with no refusal lately: no answer changes anything until one is refused.
        self._is_settled = False
        self._next_at = 0.0
        self._held_by: Literal["rate", "concurrency"] | None = None
        self._latency = 0.25
        self._accepted: deque[float] = deque(maxlen=4096)
        # Answers that do not count yet: when they will, when sent, refused, retry at, holds a place.
        self._pending: list[tuple[float, float, bool, float, bool]] = []
        self._share = self._noise = 0.0
        self._doubt_at = math.inf
        self._before = (False, self.concurrency, max_rate)
        self._found = 0.0
        self._checks = self._answers = self._refused = self._runs = 0
        self._score = self._retry_at = 0.0
        self._was_refused = False
        # Shares of the limits: the next raise, the least that can be noticed, how far above is a refused one.
        self._step, self._least_step, self._room, self._hold_until = 0.0, 0.0, math.inf, 0.0
        self._watch(0.0)

    @property
    def state(self) -> Literal["free", "check", "limited"]:
        """``free`` (no limit is known), ``check`` (a limit is being tested) or ``limited``."""
        return "check" if self._experiment == "check" else "limited" if self._is_limited else "free"

    def to_dict(self) -> dict[str, Any]:
        """Return the limits as plain data that JSON can hold."""
        now = (self._is_limited, self.concurrency, self.rate)
        is_limited, concurrency, rate = now if self._experiment == "watch" else self._before
        rate = min(rate or math.inf, concurrency / self._latency) if is_limited else None
        kept = {"rate": rate, "concurrency": concurrency if is_limited else None}
        return {"version": _VERSION, **kept, "noise": self._noise}

    def load(self, data: Mapping[str, Any], now: float) -> None:
        """Start at the limits of ``to_dict``, unless they are malformed or the search has begun."""
        try:
            is_known = data["version"] == _VERSION
            rate, concurrency, noise = (float(data[key] or 0.0) for key in ("rate", "concurrency", "noise"))
        except (KeyError, TypeError, ValueError, OverflowError):
            return
        is_valid = 0 <= rate < math.inf and 0 <= concurrency < math.inf and 0 <= noise <= _MOST_NOISE
        if not (is_known and is_valid) or self._accepted or self.in_flight:
            return
        self._set_noise(noise, now)
        if rate or concurrency:
            self._is_limited = True
            self._set_limits(concurrency, max(rate, 0.01) if rate else None, now)
        self._watch(now)
        self._hold_until = now + _FIRST_HOLD

    def ready_at(self, now: float) -> float:
        """Return the moment from which a request may be sent; infinity until an answer comes."""
        if self._pending:
            self._count_pending(now)
        if self.in_flight + 1 > self.concurrency:
            self._held_by = "concurrency"
            return self._pending[0][0] if self._pending else math.inf
        if now >= self._next_at:
            return max(now, self.paused_until)
        self._held_by = "rate"
        return max(self._next_at, self.paused_until)

    def sent(self, now: float) -> None:
        """Count a request that is sent now."""
        self.in_flight += 1
        if self.rate is not None:
            self._next_at = max(self._next_at, now - 0.05) + 1 / self.rate

    def answered(self, now: float, sent_at: float, refused: bool | None, retry_after: float = 0.0) -> None:  # noqa: FBT001
        """Learn from an answer.

        Args:
            now: The moment.
            sent_at: The moment at which the request was sent.
            refused: Whether the service refused the request for its limits; ``None`` without an answer.
            retry_after: Seconds that the service asked to wait; 0 for none.
        """
        if refused:
            # The place of a refusal is used again only when the refusal counts, unless refusals are expected.
            is_held = self._is_limited or self._is_flood()
            self.in_flight -= not is_held
        else:
            is_held = False
            self.in_flight -= 1
            if refused is None:
                return
            self._latency += (0.05 if self._accepted else 1.0) * ((now - sent_at or 0.001) - self._latency)
            self._accepted.append(now)
            if self._is_settled:
                return
            if not self._is_limited and self._experiment == "watch":
                # No growth while refusals are suspect: the accepted requests are to measure the limit.
                if self._held_by and self._score < _WATCH[False][2] / 6:
                    self.concurrency = min(self._max_concurrency, self.concurrency + _GROWTH)
                if not self._share:
                    self._is_settled = self.concurrency >= self._max_concurrency
                    return
        # In the order of sending: a service that refuses at once would else show refusals only.
        due = max(now, sent_at + min(1.2 * self._latency, 1.0))
        heappush(self._pending, (due, sent_at, refused, retry_after and now + retry_after, is_held))
        self._count_pending(now)

    def _is_flood(self) -> bool:
        """Whether refusals that do not count yet are more than chance explains, as far as chance is known."""
        refusals = sum(refused for _, _, refused, _, _ in self._pending)
        return not self._noise and self._experiment == "watch" and refusals >= self.concurrency / 4

    def _count_pending(self, now: float) -> None:
        while self._pending and self._pending[0][0] <= now:
            due, sent_at, refused, retry_at, is_held = heappop(self._pending)
            self.in_flight -= is_held
            if sent_at >= self._since:
                self._count(due, sent_at - self._since, retry_at, refused=refused)

    def _count(self, now: float, lasted: float, retry_at: float, *, refused: bool) -> None:
        self._is_settled = False
        self._share += (refused - self._share) / min(_MEMORY, 1 + len(self._accepted))
        self._answers += 1
        self._refused += refused
        self._runs += refused and not self._was_refused
        self._was_refused = refused
        self._retry_at = max(self._retry_at, retry_at)
        self._score = max(self._least_score, self._score + self._weights[refused])
        # A few answers with some refusals prove nothing: a slower check would have fewer still.
        is_measured = self._answers >= _FEW_ANSWERS or not 0 < 2 * self._refused < self._answers
        is_due = (lasted > _ROUND and is_measured) or not self._found
        is_late = lasted > _LONGEST_ROUND and is_measured
        if self._experiment == "watch":
            self._on_watch(now)
        elif self._score >= _DECIDED or (is_late and self._score > 0):
            if self._experiment == "raise":
                self._put_back(now)
            elif is_due or (self._score >= _CERTAIN and self._refused <= _MOST_NOISE * self._answers):
                self._check_again(now)
        elif is_due and (self._score <= -_DECIDED or is_late):
            if self._experiment == "check" and self._is_exhausted():
                self._check_again(now)
            else:
                self._keep(now)

    def _is_exhausted(self) -> bool:
        """Whether the refusals of a check come in less than half as many runs as those of chance."""
        by_chance = self._refused * (1 - self._refused / self._answers)
        is_early = self._checks < _MOST_CHECKS
        return is_early and self._refused >= _FEW_REFUSALS and 2 * self._runs < by_chance

    def _begin(
        self, experiment: Literal["watch", "check", "raise"], now: float, few: float, many: float
    ) -> None:
        """Begin to count, and to weigh two shares of refusals."""
        self._experiment = experiment
        self._since = max(now, self.paused_until)
        self._weights = math.log((1 - many) / (1 - few)), math.log(many / few)
        # A window or a bucket refuses late: the requests accepted before do not outweigh that.
        self._least_score = 0.0 if experiment == "watch" else -_DECIDED
        self._score = self._retry_at = 0.0
        self._answers = self._refused = self._runs = 0
        self._was_refused = False

    def _watch(self, now: float) -> None:
        self._held_by = None
        self._checks = 0
        # The closer the last refused raise, the less a raise can win; and each costs some refusals.
        hold = _MOST_HOLD * min(_CLOSE, self._least_step) / self._room
        least = 0.0 if self._room == math.inf else _LEAST_HELD / max(1.0, self._found)
        self._hold_until = now + min(_MOST_HOLD, max(hold, least))
        self._share = self._noise
        usual, flood, _ = _WATCH[self._is_limited]
        few = self._noise + usual
        self._begin("watch", now, few, few + flood * (1 - few))

    def _on_watch(self, now: float) -> None:
        usual, _, decisive = _WATCH[self._is_limited]
        if now > self._doubt_at:
            self._noise, self._doubt_at = 0.0, math.inf
        if self._score >= decisive:
            self._check(now, self._share if self._is_limited else max(self._share, _FLOOD))
        elif self._share > 1.3 * self._noise + usual and len(self._accepted) >= _MEMORY:
            self._check(now, self._share)
        elif self._is_limited and self._held_by and now >= self._hold_until:
            self._raise(now)
        elif not self._score:
            self._answers = self._refused = self._runs = 0
            self._retry_at = 0.0
            self._share *= self._share > _LEAST / 10

    def _check(self, now: float, share: float) -> None:
        """Allow less than the accepted requests, and expect the share of refusals or nearly none."""
        used = self._accepted_in(now, self._latency)
        self._found = self._accepted_rate(now)
        if not self._checks:
            self._before = (self._is_limited, self.concurrency, self.rate)
        self._checks += 1
        if self._retry_at > now and 2 * self._refused > self._answers:
            self.paused_until = self._retry_at + 0.1 * (self._retry_at - now) * self._random.random()
        at_once = max(_FEW, _CUT * max(used, self._found * self._latency))
        if not self._found:
            self._set_limits(min(_FIRST_CONCURRENCY, self.concurrency) / 2, None, now)
        elif self._checks == 1 and not self._is_limited:
            # While it grows, the rate is no measure; it is only bounded, so that requests come in no waves.
            self._set_limits(at_once, at_once / (0.8 * self._latency), now)
        else:
            self._set_limits(at_once, _CUT * self._found, now)
        gone = max(_LEAST, self._noise, min(share / 8, 0.05))
        self._begin("check", now, gone, min(0.99, max(0.75 * share, self._noise + 0.03)))

    def _check_again(self, now: float) -> None:
        """Check again at the rate of this moment, or take the refusals for noise and undo the cut."""
        share = self._refused / self._answers
        is_unsure = self._checks == 1 or self._answers < _FEW_ANSWERS or not self._found
        if is_unsure or share > _MOST_NOISE or self._is_exhausted():
            self._check(now, share)
        else:
            self._set_noise(share, now)
            self._undo_check(now)

    def _undo_check(self, now: float) -> None:
        self._is_limited, concurrency, rate = self._before
        self._set_limits(concurrency, rate, now)
        self._watch(now)

    def _keep(self, now: float) -> None:
        """Keep the limits of an experiment, and take the refusals in it for noise."""
        if self._experiment == "check" and not self._found:  # an outage, which says nothing about limits
            return self._undo_check(now)
        # No more noise than so few answers prove; after a check, no less. A raise may cause its own refusals.
        spread = math.sqrt(self._refused)
        least = (self._refused - spread) / self._answers if self._experiment == "check" else 0.0
        self._set_noise(min(max(self._noise, least), (self._refused + 1 + spread) / self._answers), now)
        if self._experiment == "check":
            self._is_limited, self._step, self._room = True, _FIRST_STEP, math.inf
        else:
            room = (1 + self._room) / (1 + self._step) - 1
            # Accepted (nearly) where it was refused: the limit has risen.
            self._room = room if room > self._least_step / 4 else math.inf
            self._step = min(2 * self._step, self._room / 2, 1.0)
        return self._watch(now)

    def _raise(self, now: float) -> None:
        """Allow a step more, and expect the added requests to be refused or none."""
        self._found = self._accepted_rate(now)
        if self.rate is not None and self.rate > 4 * max(self._found, 1.0):
            self._set_limits(self.concurrency, None, now)
        if self.rate == self._max_rate and self.concurrency >= self._max_concurrency:
            self._is_limited = False
            return self._watch(now)
        # Compared with the time before, not with the noise, which few answers measured.
        usual = max(_LEAST, self._share)
        # As many requests more as their number varies by chance, and enough to stand out from the noise.
        self._least_step = math.sqrt((0.25 + 6 * usual) / max(1.0, self._found))
        self._step = step = max(self._step, self._least_step)
        self._before = (True, self.concurrency, self.rate)
        self._set_limits(self.concurrency * (1 + step), self.rate and self.rate * (1 + step), now)
        return self._begin("raise", now, usual, 1 - (1 - usual) / (1 + 0.7 * step))

    def _put_back(self, now: float) -> None:
        _, concurrency, rate = self._before
        found = max(0.5, self._accepted_rate(now))
        if rate is not None and rate < 1.1 * found:
            rate = min(rate, 0.97 * found)
        self._set_limits(concurrency, rate, now)
        self._room, self._step = self._step, self._step / 2
        self._watch(now)

    def _accepted_rate(self, now: float) -> float:
        """Return the requests a second that may be sent according to those accepted lately, noise added."""
        began = max(self._accepted[0] if self._accepted else now, self.paused_until)
        window = min(1.0, max(now - began, 0.5))
        return self._accepted_in(now, window) / window / (1 - self._noise)

    def _accepted_in(self, now: float, window: float) -> int:
        return sum(1 for _ in takewhile((now - window).__lt__, reversed(self._accepted)))

    def _set_limits(self, concurrency: float, rate: float | None, now: float) -> None:
        self.concurrency = min(self._max_concurrency, max(1.0, concurrency))
        if self._max_rate is not None:
            rate = min(rate or self._max_rate, self._max_rate)
        self.rate = rate
        self._next_at = min(self._next_at, now + (1 / rate if rate else 0.0))

    def _set_noise(self, noise: float, now: float) -> None:
        self._noise, self._doubt_at = noise, now + _DOUBT / max(_LEAST, noise)
