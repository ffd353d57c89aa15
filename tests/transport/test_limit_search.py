"""The search of limits against services in virtual time: every caller always has a request to send."""

from __future__ import annotations

import heapq
import json
import math
from itertools import pairwise
from random import Random
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apimart_async.transport.limit_search import LimitSearch

if TYPE_CHECKING:
    from collections.abc import Callable

    # Whether the service refuses a request that is sent at a moment while it works on so many others.
    Service = Callable[[float, int], bool]

LATENCY = 0.2


def search(most: int = 64, rate: float | None = None) -> LimitSearch:
    return LimitSearch(most, rate, Random(1))


def allowed(limits: LimitSearch) -> float:
    """Return the requests per second that are allowed."""
    return min(limits.rate or math.inf, int(limits.concurrency) / LATENCY)


class World:
    """Sends requests as fast as a search allows, and tells it the answers."""

    def __init__(
        self, limits: LimitSearch, retry_after: float = 0.0, *, refuses_at_once: bool = False
    ) -> None:
        self._refuses_at_once = refuses_at_once
        self.limits = limits
        self.now = self.last_refused_at = 0.0
        self.accepted = self.refused = self.working = 0
        self._retry_after = retry_after
        self._random = Random(7)
        self._answers: list[tuple[float, float, bool]] = []

    def run(self, seconds: float, service: Service) -> tuple[float, float]:
        """Run for some seconds; return the accepted requests a second and the share of refusals."""
        end, accepted, refused = self.now + seconds, self.accepted, self.refused
        while self.now < end:
            ready = self.limits.ready_at(self.now)
            answer_at = self._answers[0][0] if self._answers else math.inf
            if ready <= self.now:
                self.send(service)
            else:
                self.now = min(ready, answer_at, end)
                if self.now == answer_at < end:
                    self.answer()
        accepted, refused = self.accepted - accepted, self.refused - refused
        return accepted / seconds, refused / max(1, accepted + refused)

    def send(self, service: Service) -> None:
        self.limits.sent(self.now)
        is_refused = service(self.now, self.working)
        self.working += not is_refused
        at = self.now + LATENCY * self._random.uniform(0.8, 1.2)
        if is_refused and self._refuses_at_once:
            at = self.now + 0.003
        heapq.heappush(self._answers, (at, self.now, is_refused))

    def answer(self) -> None:
        now, sent_at, is_refused = heapq.heappop(self._answers)
        if is_refused:
            self.last_refused_at = now
        self.working -= not is_refused
        self.refused += is_refused
        self.accepted += not is_refused
        self.limits.answered(now, sent_at, is_refused, self._retry_after if is_refused else 0.0)


def unlimited(_: float, __: int) -> bool:
    return False


def down(_: float, __: int) -> bool:
    return True


def bucket(rate: float, burst: float = 10.0) -> Service:
    tokens, last = burst, 0.0

    def refuse(now: float, _: int) -> bool:
        nonlocal tokens, last
        tokens, last = min(burst, tokens + (now - last) * rate), now
        if tokens < 1:
            return True
        tokens -= 1
        return False

    return refuse


def chance(share: float, seed: int = 3) -> Service:
    random = Random(seed)
    return lambda _, __: random.random() < share


def at_once(number: int) -> Service:
    return lambda _, working: working >= number


def test_concurrency_grows_to_the_maximum_while_nothing_is_refused() -> None:
    limits = search()
    assert limits.concurrency == 8
    rate, _ = World(limits).run(5, unlimited)
    assert (limits.state, limits.concurrency, limits.rate) == ("free", 64, None)
    assert rate > 0.8 * 64 / LATENCY


def test_concurrency_does_not_grow_while_nothing_waits() -> None:
    limits = search()
    for number in range(100):
        limits.sent(number)
        limits.answered(number + LATENCY, number, refused=False)
    assert limits.concurrency == 8


def test_an_isolated_refusal_changes_nothing() -> None:
    limits = search()
    world = World(limits, retry_after=60.0)
    world.run(5, unlimited)
    refusals = iter([True])
    world.run(5, lambda _, __: next(refusals, False))
    assert world.refused == 1
    assert (limits.state, limits.concurrency, limits.paused_until) == ("free", 64, 0.0)


def test_a_failed_connection_says_nothing() -> None:
    limits = search()
    for _ in range(100):
        limits.sent(1.0)
        limits.answered(2.0, 1.0, refused=None)
    assert (limits.state, limits.in_flight, limits.concurrency) == ("free", 0, 8)


def test_a_flood_of_refusals_begins_a_check_below_the_accepted_rate() -> None:
    limits = search()
    world = World(limits)
    service = bucket(50)
    while limits.state == "free":
        world.run(0.01, service)
    assert world.now < 2
    # 10 tokens of a full bucket, and those of 0.2 s.
    assert allowed(limits) < 0.8 * (10 / LATENCY + 50)


def test_a_limit_is_kept_because_refusals_stop_below_it() -> None:
    limits = search()
    world = World(limits)
    service = bucket(50)
    world.run(10, service)
    assert 40 < allowed(limits) < 60
    rate, refused = world.run(50, service)
    assert rate > 47
    assert refused < 0.03


@pytest.mark.parametrize("refuses_at_once", [False, True])
def test_a_limit_of_requests_at_once_is_found(refuses_at_once: bool) -> None:  # noqa: FBT001
    limits = search()
    world = World(limits, refuses_at_once=refuses_at_once)
    world.run(20, at_once(20))
    rate, refused = world.run(40, at_once(20))
    assert rate > 0.95 * 20 / LATENCY
    assert refused < 0.01
    assert 18 <= int(limits.concurrency) <= 22


@pytest.mark.parametrize(("share", "seed"), [(0.05, 3), (0.2, 3), (0.2, 12), (0.2, 28)])
@pytest.mark.parametrize("refuses_at_once", [False, True])
def test_refusals_at_random_are_no_limit(share: float, seed: int, refuses_at_once: bool) -> None:  # noqa: FBT001
    limits = search()
    world = World(limits, refuses_at_once=refuses_at_once)
    service = chance(share, seed)
    world.run(20, service)
    rate, refused = world.run(40, service)
    assert limits.concurrency == 64
    assert rate > 0.95 * (1 - share) * 64 / LATENCY
    assert refused == pytest.approx(share, abs=0.02)


@pytest.mark.parametrize("begins", [0.6, 0.7, 0.8])
def test_refusals_in_runs_are_not_taken_for_noise_at_once(begins: float) -> None:
    limits = search()
    World(limits).run(5, lambda now, _: now % 1 >= begins)
    assert limits.to_dict()["noise"] == 0


@pytest.mark.parametrize("refuses_at_once", [False, True])
def test_outages_that_come_back_are_no_limit(refuses_at_once: bool) -> None:  # noqa: FBT001
    limits = search()
    world = World(limits, refuses_at_once=refuses_at_once)
    world.run(30, lambda now, _: now % 10 < 2)
    rate, _ = world.run(30, lambda now, _: now % 10 < 2)
    assert rate > 0.8 * 0.8 * 64 / LATENCY


def test_a_limit_is_found_among_refusals_at_random() -> None:
    limits = search()
    world = World(limits)
    limit, noise = bucket(50), chance(0.05)
    rate, refused = world.run(60, lambda now, working: noise(now, working) or limit(now, working))
    assert rate > 0.85 * 50
    assert refused < 0.15


def test_after_an_outage_the_limits_before_it_return() -> None:
    limits = search()
    world = World(limits)
    world.run(5, unlimited)
    world.run(20, down)
    assert limits.concurrency <= 2
    world.run(3, unlimited)
    assert (limits.state, limits.rate, limits.concurrency) == ("free", None, 64)


def test_during_an_outage_few_requests_are_sent() -> None:
    world = World(search())
    world.run(5, unlimited)
    world.run(5, down)
    refused = world.refused
    world.run(20, down)
    assert world.refused - refused <= 20 / LATENCY * 1.2


def test_a_search_starts_near_the_limits_of_an_earlier_search() -> None:
    first = search()
    World(first).run(30, bucket(50))
    kept = json.loads(json.dumps(first.to_dict()))
    limits = search()
    limits.load(kept, 0.0)
    rate, refused = World(limits).run(10, bucket(50))
    assert limits.to_dict()["rate"] == pytest.approx(50, rel=0.2)
    assert rate > 47
    assert refused < 0.03


def test_noise_is_kept() -> None:
    first = search()
    World(first).run(60, chance(0.2))
    limits = search()
    limits.load(first.to_dict(), 0.0)
    assert (limits.state, limits.rate) == ("free", None)
    assert limits.to_dict()["noise"] == pytest.approx(0.2, abs=0.1)
    rate, _ = World(limits).run(20, chance(0.2))
    assert rate > 0.8 * 0.8 * 64 / LATENCY


@pytest.mark.parametrize(
    "change",
    [
        {"version": 9},
        {"rate": "fast"},
        {"rate": -1},
        {"rate": math.nan},
        {"concurrency": math.inf},
        {"noise": 2},
        {"noise": [1]},
    ],
)
def test_malformed_limits_are_ignored(change: dict[str, object]) -> None:
    limits = search()
    limits.load({"version": 1, "rate": 10, "concurrency": 5, "noise": 0} | change, 0.0)
    assert (limits.state, limits.rate, limits.concurrency) == ("free", None, 8)


def test_kept_limits_never_exceed_those_of_the_caller() -> None:
    limits = search(4, 20.0)
    limits.load({"version": 1, "rate": 1000, "concurrency": 64, "noise": 0}, 0.0)
    assert (limits.rate, limits.concurrency) == (20.0, 4)


def test_limits_are_not_loaded_into_a_search_that_has_begun() -> None:
    limits = search()
    World(limits).run(1, unlimited)
    limits.load({"version": 1, "rate": 1, "concurrency": 1, "noise": 0}, 1.0)
    assert limits.state == "free"


def test_a_limit_that_rises_is_followed() -> None:
    limits = search()
    world = World(limits)
    world.run(20, bucket(10))
    assert limits.state != "free"
    service = bucket(100)
    world.run(40, service)
    rate, _ = world.run(20, service)
    assert rate > 85


def test_a_limit_that_falls_is_followed() -> None:
    limits = search()
    world = World(limits)
    world.run(20, bucket(100))
    service = bucket(10, burst=3)
    world.run(10, service)
    rate, refused = world.run(30, service)
    assert rate > 8.5
    assert refused < 0.12


def test_a_refused_raise_is_put_back() -> None:
    limits = search()
    world = World(limits)
    service = bucket(50)
    rates: list[float] = []
    for _ in range(600):
        world.run(0.1, service)
        if limits.state != "free" and allowed(limits) not in rates[-1:]:
            rates.append(allowed(limits))
    raised = [after for before, after in pairwise(rates) if after > before]
    put_back = [after for before, after in pairwise(rates) if after < before]
    assert raised
    assert put_back
    assert min(rates[-10:]) > 40
    assert max(rates[-10:]) < 80


@pytest.mark.parametrize("number", [20, 40])
def test_a_raise_goes_no_further_than_the_last_refused_raise(number: int) -> None:
    limits = search()
    world = World(limits)
    levels: list[float] = []
    for _ in range(1200):
        world.run(0.05, at_once(number))
        if limits.state == "limited" and limits.concurrency not in levels[-1:]:
            levels.append(limits.concurrency)
    refused = [
        top for low, top, after in zip(levels, levels[1:], levels[2:], strict=False) if low == after < top
    ]
    assert len(refused) > 3
    # The least step varies a little with the rate that was measured.
    assert all(after < 1.02 * before for before, after in pairwise(refused))
    assert refused[-1] < 1.15 * number


def test_retry_after_of_most_answers_pauses_everybody_with_a_spread() -> None:
    pauses = set()
    for seed in range(10):
        limits = LimitSearch(64, None, Random(seed))
        world = World(limits, retry_after=30.0)
        world.run(2, down)
        pauses.add(limits.paused_until - world.now)
        assert limits.ready_at(world.now) == math.inf or limits.ready_at(world.now) == limits.paused_until
        world.run(5, down)
        assert world.refused < 20
    assert len(pauses) == 10
    assert all(27 < pause < 33.5 for pause in pauses)


class NoSpread(Random):
    def random(self) -> float:
        return 0.0


def test_retry_after_is_counted_from_the_refusal() -> None:
    limits = LimitSearch(64, None, NoSpread())
    world = World(limits, retry_after=30.0, refuses_at_once=True)
    world.run(2, down)
    assert 29.5 < limits.paused_until - world.last_refused_at <= 30


def test_the_rate_of_the_caller_spaces_requests() -> None:
    limits = search(64, 20.0)
    rate, _ = World(limits).run(30, unlimited)
    assert rate == pytest.approx(20, rel=0.05)
    assert (limits.state, limits.rate) == ("free", 20.0)


@given(
    most=st.integers(1, 40),
    rate=st.none() | st.floats(0.5, 500),
    service=st.tuples(st.floats(0, 1), st.floats(0.5, 300), st.integers(1, 50)),
    retry_after=st.sampled_from([0.0, 1.0, 30.0]),
    seed=st.integers(0, 100),
)
def test_the_maximum_of_the_caller_is_never_exceeded(
    most: int, rate: float | None, service: tuple[float, float, int], retry_after: float, seed: int
) -> None:
    limits = LimitSearch(most, rate, Random(seed))
    world = World(limits, retry_after)
    noise, tokens, places = chance(service[0], seed), bucket(service[1]), at_once(service[2])
    for _ in range(40):
        world.run(
            0.5, lambda now, working: noise(now, working) or tokens(now, working) or places(now, working)
        )
        assert limits.concurrency <= most
        assert limits.in_flight <= most
        if rate is not None:
            assert limits.rate is not None
            assert 0 < limits.rate <= rate
