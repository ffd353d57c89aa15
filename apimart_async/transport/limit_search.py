"""Pure: how many requests a second, and at once, a service accepts, found by experiments.

A refusal (429 or 503) on its own concerns the call that received it. More refusals than usual have two
explanations, a limit or chance (noise), and an experiment tells them apart:

- *Check*: slow down to a little under the accepted rate. A limit stops refusing; noise keeps its share.
- *Raise*: once limited, go a step faster. A limit refuses the added requests; else the step is kept.

An experiment adds up the logarithm of the odds of each answer under both explanations, and ends when the
sum is decisive. Only answers to requests sent since its beginning count.
"""

from __future__ import annotations

import math
from collections import deque
from itertools import takewhile
from typing import TYPE_CHECKING, Any, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping
    from random import Random

_VERSION: Final = 1

# While no limit is known: requests at once, added for an accepted and removed for a refused answer.
_FIRST_CONCURRENCY: Final = 8.0
_GROWTH: Final = 0.7
_SHRINK: Final = 0.8
_BURST_SECONDS: Final = 0.05

# Experiments: seconds of requests (many services count by the second), and the decisive logarithm of odds.
_ROUND: Final = 1.1
_LONGEST_ROUND: Final = 3.8
_SETTLE: Final = 0.1
_DECIDED: Final = 4.0

# Refusals beyond the noise and a quarter of the answers that begin a check at once.
_FLOOD: Final = 6.0
_FLOOD_SHARE: Final = 0.25
# Answers over which the share of refusals is averaged, and the share beyond the noise that begins a check.
_MEMORY: Final = 250
_NEGLIGIBLE: Final = 1e-5
_ACCEPTED_KEPT: Final = 4096
_FEW: Final = 12
_SLACK: Final = 0.02
_LIMITED_SLACK: Final = 0.01
_SURE: Final = 3.5

# Noise: the share is at most so much, and more than likely takes more checks. It is doubted after so many
# seconds, divided by the share: the more it costs to be wrong, the sooner.
_LEAST_NOISE: Final = 0.003
_LIKELY_NOISE: Final = 0.3
_MOST_NOISE: Final = 0.7
_DOUBT: Final = 20.0

# A check: the share of the accepted rate it allows, after a flood or else, and which shares of the refusals
# before it stand for "as before" and for "gone".
_CUT: Final = 0.8
_GENTLE_CUT: Final = 0.95
_SAME: Final = 0.75
_GONE: Final = 0.25

# A limit: the share of it that is used, the step of a raise, how many of the added requests a limit refuses
# at least (a bucket may have tokens left), and the seconds without raises after a refused one.
_MARGIN: Final = 0.97
_STEP: Final = 0.1
_MAX_STEP: Final = 1.0
_EFFECT: Final = 0.7
_HOLD: Final = 3.0
_MAX_HOLD: Final = 10.0
_CHANGED: Final = 1.25
_UNUSED: Final = 4.0


class Evidence:
    """Answers to requests sent since a moment, and a score that each of them raises or lowers."""

    __slots__ = ("_accepted_weight", "_refused_weight", "answers", "refused", "retry_after", "score")

    def __init__(self, accepted_weight: float, refused_weight: float) -> None:
        self._accepted_weight = accepted_weight
        self._refused_weight = refused_weight
        self.answers: int = 0
        self.refused: int = 0
        self.retry_after: float = 0.0
        self.score: float = 0.0

    @classmethod
    def odds(cls, share: float, other_share: float) -> Evidence:
        """Weigh one share of refusals against another: the score is the logarithm of the odds."""
        return cls(math.log((1 - share) / (1 - other_share)), math.log(share / other_share))

    @property
    def share(self) -> float:
        """Share of the answers that are refusals."""
        return self.refused / max(1, self.answers)

    def add(self, refused: bool, retry_after: float) -> None:  # noqa: FBT001
        """Count an answer."""
        self.answers += 1
        self.refused += refused
        self.retry_after = max(self.retry_after, retry_after)
        self.score += self._refused_weight if refused else self._accepted_weight


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
        in_flight: Requests sent and not yet answered.
    """

    def __init__(self, max_concurrency: int, max_rate: float | None, random: Random) -> None:
        self.state: Literal["free", "check", "limited"] = "free"
        self.concurrency: float = min(_FIRST_CONCURRENCY, max_concurrency)
        self.rate: float | None = max_rate
        self.paused_until: float = 0.0
        self.in_flight: int = 0
        self._max_concurrency = float(max_concurrency)
        self._max_rate = max_rate
        self._random = random
        self._next_at = 0.0
        self._began = math.inf
        self._accepted: deque[float] = deque(maxlen=_ACCEPTED_KEPT)
        self._latency = 0.0
        # Refusals: their share over the last answers, and the share that checks found to be noise.
        self._share = 0.0
        self._seen = 0
        self._noise = 0.0
        self._doubt_at = math.inf
        # The experiment under way, if any, and the limits before it.
        self._since = 0.0
        self._held_by_rate = self._held_by_concurrency = 0
        self._evidence = Evidence(0.0, 0.0)
        self._raised: Literal["rate", "concurrency"] | None = None
        self._before: tuple[Literal["free", "limited"], float, float | None] = ("free", 0.0, None)
        # A check: its number in a row, the accepted rate before it, and all answers of the checks in a row.
        self._checks = 0
        self._found = 0.0
        self._cut_by = _CUT
        self._all_answers = self._all_refused = 0.0
        # A raise: its step, raises kept in a row, and the rate to return to when one is refused.
        self._step = 0.0
        self._kept = 0
        self._base = 0.0
        self._hold = _HOLD
        self._hold_until = 0.0
        self._begin(0.0)

    # Keeping

    def to_dict(self) -> dict[str, Any]:
        """Return the limits as plain data that JSON can hold."""
        state, concurrency, rate = self.state, self.concurrency, self.rate
        if state == "check" or self._raised is not None:
            state, concurrency, rate = self._before
        is_limited = state == "limited"
        return {
            "version": _VERSION,
            "rate": rate if is_limited else None,
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
        self._noise = self._share = noise
        self._doubt_at = now + _DOUBT / max(_LEAST_NOISE, noise)
        if rate or concurrency:
            self.state = "limited"
            self._set_rate(max(rate, 0.01) if rate else None, now)
            self.concurrency = min(self._max_concurrency, max(1.0, concurrency))
            self._hold_until = now + _HOLD
        self._begin(now)

    # Sending

    def ready_at(self, now: float) -> float:
        """Return the moment from which a request may be sent; infinity while too many are in flight."""
        if self.in_flight + 1 > self.concurrency:
            self._held_by_concurrency += 1
            return math.inf
        ready = max(now, self.paused_until)
        if self.rate is not None and self._next_at > ready:
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
        self.in_flight -= 1
        if refused is None:
            return
        if not refused:
            self._accepted.append(now)
            latency = now - sent_at
            self._latency += 0.05 * (latency - self._latency) if self._latency else latency
            if not self._share and not self._noise and self.state == "free":
                self._seen += self._seen < _MEMORY
                self._grow()
                return
        if sent_at < self._since:
            return
        evidence = self._evidence
        evidence.add(refused, retry_after)
        lasted = sent_at - self._since
        if self.state == "check":
            self._on_check(now, lasted)
        elif self._raised is None:
            self._on_steady(now, lasted, refused)
        else:
            # A window or a bucket refuses late: the requests accepted before do not outweigh that.
            evidence.score = max(evidence.score, -_DECIDED)
            is_late = lasted > _LONGEST_ROUND
            if evidence.score >= _DECIDED or (is_late and evidence.score > 0):
                self._put_back(now)
            elif lasted > _ROUND and (evidence.score <= -_DECIDED or is_late):
                self._keep(now)

    def _begin(self, now: float, evidence: Evidence | None = None) -> None:
        self._since = max(now, self.paused_until)
        self._held_by_rate = self._held_by_concurrency = 0
        self._raised = None
        self._evidence = evidence or self._watch()

    def _watch(self) -> Evidence:
        flood = self._noise + _FLOOD_SHARE * (1 - self._noise)
        return Evidence(-flood, 1 - flood)

    @property
    def _usual(self) -> float:
        """The share of refusals that needs no explanation."""
        return max(_LEAST_NOISE, min(self._share, self._noise + _SLACK))

    def _accepted_rate(self, now: float, window: float = 1.0) -> float:
        """Return the requests a second that may be sent according to those accepted lately, noise added."""
        window = min(window, max(now - self._began, 0.5))
        return self._accepted_since(now - window) / window / (1 - self._usual)

    def _accepted_since(self, moment: float) -> int:
        return sum(1 for _ in takewhile(moment.__lt__, reversed(self._accepted)))

    def _set_rate(self, rate: float | None, now: float) -> None:
        if self._max_rate is not None:
            rate = min(rate or self._max_rate, self._max_rate)
        self.rate = rate
        if rate is not None:
            self._next_at = min(self._next_at, now + 1 / rate)

    def _on_steady(self, now: float, lasted: float, refused: bool) -> None:  # noqa: FBT001
        evidence = self._evidence
        if evidence.score <= 0:
            evidence = self._evidence = self._watch()
        self._seen = min(_MEMORY, self._seen + 1)
        self._share += (refused - self._share) / self._seen
        if now > self._doubt_at:
            self._noise, self._doubt_at = 0.0, math.inf
        is_free = self.state == "free"
        spread = math.sqrt(self._usual * (1 - self._usual) / (2 * self._seen))
        unusual = self._noise + (_SLACK if is_free else _LIMITED_SLACK) + _SURE * spread
        if evidence.score > _FLOOD:
            flood = self._noise + _FLOOD_SHARE * (1 - self._noise)
            self._cut(now, max(self._share, flood / _SAME), _CUT)
        elif self._share > unusual and self._seen >= (_MEMORY if is_free else _FEW):
            self._cut(now, self._share, _GENTLE_CUT)
        elif not is_free:
            if lasted > _SETTLE and now >= self._hold_until:
                self._raise(now)
        else:
            self._noise += (self._share - self._noise) / (5 * _MEMORY)
            if max(self._share, self._noise) < _NEGLIGIBLE:
                self._share = self._noise = 0.0
            if refused:
                self.concurrency = max(min(_FIRST_CONCURRENCY, self.concurrency), self.concurrency - _SHRINK)
            else:
                self._grow()

    def _grow(self) -> None:
        if self._held_by_concurrency and self.concurrency < self._max_concurrency:
            self.concurrency = min(self._max_concurrency, self.concurrency + _GROWTH)

    # Checks

    def _cut(self, now: float, share: float, cut_by: float) -> None:
        """Begin a check: slow down to a little under the accepted rate, and expect the same share or none."""
        evidence = self._evidence
        used = self._accepted_since(now - self._latency)
        # While the rate still grows, its last half second counts, unless a quota of a second is used up.
        is_growing = self.state == "free" and not (cut_by == _CUT and evidence.share > _MOST_NOISE)
        self._found = self._accepted_rate(now, 0.5 if is_growing else 1.0)
        if self.state != "check":
            self._before = (self.state, self.concurrency, self.rate)
            self._checks = 0
            # A flood tells nothing of the share of noise: it was picked for its refusals.
            seen = 0 if cut_by == _CUT else self._seen
            self._all_answers, self._all_refused = seen, seen * self._share
        self.state = "check"
        self._checks += 1
        self._cut_by = cut_by
        if cut_by == _CUT and 2 * evidence.refused > evidence.answers and evidence.retry_after:
            self.paused_until = now + evidence.retry_after * (1 + 0.1 * self._random.random())
            self._began = self.paused_until
        if self._found:
            self._set_rate(cut_by * self._found, now)
            self.concurrency = cut_by * max(used, self._found * self._latency) + (
                1.0 if cut_by == _CUT else 0.5
            )
        else:
            self._set_rate(None, now)
            self.concurrency = min(_FIRST_CONCURRENCY, self.concurrency) / 2
        self.concurrency = min(self._max_concurrency, max(1.0, self.concurrency))
        gone = max(_LEAST_NOISE, self._noise, _GONE * share)
        same = min(0.99, max(_SAME * share, self._noise + 0.03))
        self._begin(now, Evidence.odds(gone, same))

    def _on_check(self, now: float, lasted: float) -> None:
        evidence = self._evidence
        is_decided = abs(evidence.score) >= _DECIDED or (
            lasted > _LONGEST_ROUND and evidence.answers > 2 * _FEW
        )
        if is_decided and (lasted > _ROUND or not self._found):
            self._end_check(now, is_gone=evidence.score > 0)
        elif (
            self._found
            and evidence.refused > _FLOOD
            and evidence.share > _MOST_NOISE
            and self._accepted_rate(now) < _CUT * self._found
        ):
            self._cut(now, evidence.share, _CUT)

    def _end_check(self, now: float, *, is_gone: bool) -> None:
        evidence = self._evidence
        share = evidence.share
        self._all_answers += evidence.answers
        self._all_refused += evidence.refused
        pooled = self._all_refused / self._all_answers
        checks = 2 if pooled < _LIKELY_NOISE else 4
        if not is_gone and (self._checks < checks or share > _MOST_NOISE or not self._found):
            self._cut(now, share if self._cut_by == _CUT else pooled, self._cut_by)
        elif is_gone and self._found:
            self.state = "limited"
            self._noise = min(self._noise, share)
            self._share = share
            self._seen = min(_MEMORY, evidence.answers)
            self._hold = _HOLD
            self._kept = 0
            if self._cut_by == _CUT:
                self._base = 0.0
                self._kept = -1
                self._begin_raise(now, "rate", _MARGIN / _CUT - 1, both=True)
            else:
                self._base = self.rate or 0.0
                self._step = 0.0
                self._hold_until = now + _HOLD
                self._begin(now)
        else:
            self.state, self.concurrency, rate = self._before
            if self._found:
                noise, self._noise = self._noise, pooled
                if self._noise > 2 * noise + _SLACK:
                    # A limit found without knowing of this noise may have been noise itself.
                    self.state, rate = "free", None
                self._doubt_at = now + _DOUBT / max(_LEAST_NOISE, self._noise)
            elif self.state == "free":
                self.concurrency = min(self.concurrency, _FIRST_CONCURRENCY)
            self._set_rate(rate, now)
            self._share = self._noise
            self._begin(now)

    # Raises

    def _raise(self, now: float) -> None:
        used = self._accepted_rate(now)
        if self.rate is not None and self.rate > _UNUSED * max(used, 1.0):
            self._set_rate(None, now)
        if self.rate == self._max_rate and self.concurrency >= self._max_concurrency:
            self.state = "free"
            self._begin(now)
            return
        # As many requests more as their number varies by chance, and enough to stand out from the noise.
        self._step = max(self._step, math.sqrt((0.25 + 6 * self._usual) / max(1.0, used)))
        if self.rate is not None and self._held_by_rate >= self._held_by_concurrency:
            self._begin_raise(now, "rate", self._step, both=self._kept > 1)
        elif self._held_by_concurrency and self.concurrency < self._max_concurrency:
            self._begin_raise(now, "concurrency", max(1 / self.concurrency, self._step), both=self._kept > 1)

    def _begin_raise(
        self, now: float, knob: Literal["rate", "concurrency"], step: float, *, both: bool
    ) -> None:
        self._before = ("limited", self.concurrency, self.rate)
        if (knob == "rate" or both) and self.rate is not None:
            self._base = self._base or self.rate
            self._set_rate(self.rate * (1 + step), now)
        if knob == "concurrency" or both:
            self.concurrency = min(self._max_concurrency, math.floor(self.concurrency * (1 + step) + 0.001))
        noise = self._usual
        self._begin(now, Evidence.odds(1 - (1 - noise) / (1 + _EFFECT * step), noise))
        self._raised = knob

    def _keep(self, now: float) -> None:
        before = self._before[2]
        if self.rate is not None and before is not None and self.rate > before:
            if self.rate > _CHANGED * self._base:
                self._hold = _HOLD
            self._base = max(self._base, before, min(self.rate, _MARGIN * self._found), self.rate / _CHANGED)
        self._kept += 1
        self._step = min(2 * self._step, _MAX_STEP) if self._kept else _STEP
        self._begin(now)

    def _put_back(self, now: float) -> None:
        _, self.concurrency, rate = self._before
        if self._raised == "concurrency" or rate is None:
            self._set_rate(rate, now)
        else:
            self._found = max(0.5, self._accepted_rate(now))
            if self._held_by_concurrency:
                self.concurrency = max(1.0, min(self.concurrency, self._found * self._latency + 1))
            self._set_rate(min(rate, self._base, _MARGIN * self._found), now)
            self._base = 0.0
        self._step /= 2
        if self._kept < 0:
            self._step = _STEP
        else:
            self._hold_until = now + self._hold
            self._hold = min(2 * self._hold, _MAX_HOLD)
        self._kept = 0
        self._begin(now)
