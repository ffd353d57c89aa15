"""When to poll next: bounds, priors, schedules, and the effect of statistics."""

from __future__ import annotations

import math
from itertools import pairwise
from random import Random
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from apimart_async.config import Poll
from apimart_async.polling.cadence import Cadence, align, best_schedule
from apimart_async.polling.duration_stats import DurationStats, ModelStats, next_number
from apimart_async.polling.estimator import Distribution


def stats_of(cadence: Cadence, model: str = "a") -> ModelStats:
    return cadence.stats.of(model, cadence.settings.first)


def polled_ages(cadence: Cadence, duration: float, **hints: Any) -> list[float]:
    """The ages at which a task of this duration is polled."""
    age, ages = 0.0, list[float]()
    while age < duration:
        age += cadence.next_poll("a", age, remaining=1e9, polls=len(ages), **hints).delay
        ages.append(age)
    return ages


def trained(durations: list[float], *, reports_time: bool = False) -> Cadence:
    """A cadence that has waited for tasks of these durations."""
    cadence = Cadence(Poll(), DurationStats(), Random(1))
    for duration in durations:
        ages, number = polled_ages(cadence, duration), next_number()
        for age in ages[:-1]:
            stats_of(cadence).record_running(number, age)
        after = ages[-2] if len(ages) > 1 else 0.0
        stats_of(cadence).record_end(number, after, ages[-1], round(duration) if reports_time else None)
    return cadence


def drawn(median: float, count: int, sigma: float = 0.2, seed: int = 5) -> list[float]:
    random = Random(seed)
    return [random.lognormvariate(math.log(median), sigma) for _ in range(count)]


@example(age=1.0, remaining=31.0, estimated=None, polls=0, is_age_known=True, seed=0, durations=[1222.0])
@given(
    age=st.floats(0, 1e5),
    remaining=st.floats(0.001, 1e5),
    estimated=st.none() | st.floats(-10, 1e6),
    polls=st.integers(0, 3),
    is_age_known=st.booleans(),
    seed=st.integers(0, 99),
    durations=st.lists(st.floats(0.01, 1e4), max_size=5),
)
def test_a_poll_is_never_too_soon_too_late_or_past_the_deadline(
    *,
    age: float,
    remaining: float,
    estimated: float | None,
    polls: int,
    is_age_known: bool,
    seed: int,
    durations: list[float],
) -> None:
    poll = Poll()
    cadence = Cadence(poll, DurationStats(), Random(seed))
    for duration in durations:
        stats_of(cadence).record_end(1, 0.9 * duration, duration)
    delay, earliest, latest, least = cadence.next_poll(
        "a", age, remaining=remaining, polls=polls, is_age_known=is_age_known, estimated_time=estimated
    )
    assert 0 <= delay <= remaining
    assert earliest <= delay <= latest <= remaining
    if polls or not durations:
        assert delay <= poll.longest * 1.1 + poll.shortest
    if remaining > 2 * poll.longest and age and delay < remaining - 1:  # it is not the last poll
        assert delay >= least
        usual = stats_of(cadence).distribution().age_at(0.5)
        assert least == pytest.approx(poll.shortest) or least == pytest.approx(usual / 2)


def test_the_first_poll_of_an_unknown_model_follows_the_settings() -> None:
    assert polled_ages(Cadence(Poll(), random=Random(1)), 1)[0] == pytest.approx(5, abs=0.6)
    assert polled_ages(Cadence(Poll(first=2), random=Random(1)), 1)[0] == pytest.approx(2, abs=0.3)


def test_many_tasks_of_an_unknown_model_are_polled_early_too() -> None:
    cadence = Cadence(Poll(first=4), random=Random(1))
    assert cadence.next_poll("a", 0, remaining=600, others=3).delay == pytest.approx(4, abs=0.5)
    assert cadence.next_poll("a", 0, remaining=600, others=4).delay == pytest.approx(0.5, abs=0.1)
    assert cadence.next_poll("a", 0.5, remaining=600, polls=1, others=4).delay > 2


def test_tasks_shorter_than_the_least_spacing_are_polled_when_they_end() -> None:
    cadence = trained([0.3] * 60)
    ages = [polled_ages(cadence, 0.3) for _ in range(20)]
    assert sum(polls[-1] for polls in ages) / 20 < 0.45
    assert sum(map(len, ages)) <= 1.5 * 20
    # Half of the usual duration lies between two polls, instead of `shortest`.
    usual = stats_of(cadence).distribution().age_at(0.5)
    assert usual < 0.4
    second = cadence.next_poll("a", 0.3, remaining=600, polls=1)
    assert second.least == pytest.approx(usual / 2)
    assert second.delay < 0.5


def test_a_user_s_least_spacing_below_half_of_the_usual_duration_holds() -> None:
    cadence = Cadence(Poll(shortest=0.05), trained([0.3] * 60).stats, Random(1))
    assert cadence.next_poll("a", 0.3, remaining=600, polls=1).least == 0.05


def test_a_poll_moves_to_meet_others_less_where_the_end_is_known() -> None:
    def window(durations: list[float]) -> float:
        cadence = Cadence(Poll(), DurationStats(), Random(1))
        for duration in durations:
            stats_of(cadence).record_end(next_number(), duration - 0.01, duration)
        _, earliest, latest, _ = cadence.next_poll("a", 0, remaining=600, sharing=4)
        return latest - earliest

    assert window([0.3] * 60) < 0.2
    assert window(drawn(0.3, 60)) < window(drawn(3, 60)) < window(drawn(30, 60))


def test_a_task_of_unknown_age_is_polled_at_once() -> None:
    assert Cadence(Poll()).next_poll(None, 0, remaining=600, is_age_known=False).delay == 0


def test_an_old_task_without_polls_is_polled_at_once() -> None:
    cadence = Cadence(Poll(), random=Random(1))
    assert cadence.next_poll("a", 60, remaining=600, polled_at=0).delay == 0
    for _ in range(50):
        stats_of(cadence).record_end(1, 19, 20)
    assert cadence.next_poll("a", 60, remaining=600, polled_at=0).delay == 0
    assert cadence.next_poll("a", 60, remaining=600, polled_at=60, polls=1).delay >= 1


def test_progress_sets_the_prior_unless_the_service_estimates() -> None:
    def spacing(progress: float | None, **hints: Any) -> float:
        cadence = Cadence(Poll(longest=60), random=Random(1))
        cadence.next_poll("a", 0, remaining=600, **hints)
        stats_of(cadence).record_running(1, 10, progress)
        return cadence.next_poll("a", 10, remaining=600, polls=1, **hints).delay

    assert spacing(5) > 2 * spacing(None)
    assert spacing(90) < spacing(None)
    assert spacing(5, estimated_time=20) == spacing(None, estimated_time=20)


@pytest.mark.parametrize(("estimate", "median"), [(12, 12), (60, 20), (90, 30)])
def test_of_a_long_estimate_of_the_service_twenty_seconds_or_a_third_count(
    estimate: float, median: float
) -> None:
    cadence = Cadence(Poll(), random=Random(1))
    cadence.next_poll("a", 0, remaining=600, estimated_time=estimate)
    assert stats_of(cadence).distribution().age_at(0.5) == pytest.approx(median, rel=0.1)


def test_polls_of_a_task_that_outlives_all_others_become_rarer() -> None:
    ages = polled_ages(trained(drawn(20, 60)), 580)
    late = [after - before for before, after in pairwise(ages) if before > 60]
    assert 1.2 * late[0] < late[len(late) // 2] < 0.9 * late[-1]
    assert max(late) <= 15 * 1.1
    assert late[-1] > 8


def test_nearly_constant_durations_take_few_polls() -> None:
    random = Random(2)
    cadence = trained([random.gauss(30, 0.25) for _ in range(100)])
    tests = [random.gauss(30, 0.25) for _ in range(50)]
    ages = [polled_ages(cadence, duration) for duration in tests]
    delays = [polls[-1] - duration for polls, duration in zip(ages, tests, strict=True)]
    # Polling every second costs 8, of which half a second is delay.
    assert 0.25 * sum(map(len, ages)) / len(ages) + sum(delays) / len(ages) < 1.25


@pytest.mark.parametrize("reports_time", [False, True])
@pytest.mark.parametrize(("before", "after"), [(20, 40), (40, 20), (60, 6)])
def test_a_change_of_speed_is_followed_within_fifty_tasks(
    before: float, after: float, *, reports_time: bool
) -> None:
    changed = trained([*drawn(before, 150), *drawn(after, 50, seed=6)], reports_time=reports_time)
    settled = trained(drawn(after, 150), reports_time=reports_time)
    test = drawn(after, 100, seed=7)

    def cost(cadence: Cadence) -> float:
        ages = [polled_ages(cadence, duration) for duration in test]
        delay = sum(polls[-1] - duration for polls, duration in zip(ages, test, strict=True))
        return 0.25 * sum(map(len, ages)) + delay

    assert cost(changed) < 1.3 * cost(settled)


def test_each_model_has_its_own_statistics() -> None:
    cadence = Cadence(Poll(), DurationStats(), Random(1))
    for duration in drawn(60, 30):
        stats_of(cadence, "slow").record_end(1, 0.99 * duration, duration)
    assert cadence.next_poll("slow", 0, remaining=600).delay > 20
    assert cadence.next_poll("other", 0, remaining=600).delay < 6


numbers = st.none() | st.integers() | st.floats() | st.just(10**400) | st.text(max_size=3)


@given(numbers, st.lists(st.lists(numbers, min_size=3, max_size=3), max_size=6))
def test_any_loaded_data_gives_a_valid_next_poll(typical: object, spans: list[list[object]]) -> None:
    stats = DurationStats()
    stats.load({"version": 2, "models": {"a": {"typical": typical, "spans": spans}}})
    for age in (0.0, 1.0, 30.0):
        assert 0 <= Cadence(Poll(), stats, Random(1)).next_poll("a", age, remaining=600).delay <= 600


@given(
    steps=st.lists(st.floats(0.05, 5), min_size=3, max_size=40),
    drops=st.lists(st.floats(0.0, 1), min_size=40, max_size=40),
    cost=st.floats(0.01, 5),
    shortest=st.sampled_from([0.0, 0.5, 2.0]),
)
def test_the_schedule_has_the_least_cost_of_all(
    steps: list[float], drops: list[float], cost: float, shortest: float
) -> None:
    ages, survival = [0.0], [1.0]
    for step, drop in zip(steps, drops, strict=False):
        ages.append(ages[-1] + step)
        survival.append(survival[-1] * (1 - 0.5 * drop))
    schedule = best_schedule(Distribution(ages, survival), cost, shortest)
    last = len(ages) - 1
    tail = survival[-1] * (cost + ages[-1])

    def between(here: int, there: int) -> float:
        area = sum((ages[i + 1] - ages[i]) * (survival[i] + survival[i + 1]) / 2 for i in range(here, there))
        return survival[here] * (cost + ages[there] - ages[here]) - area

    best = [0.0] * last + [tail]
    chosen = [0.0] * last + [tail]
    for here in range(last - 1, -1, -1):
        # The first poll may come sooner.
        earliest = ages[here] + (shortest if here else 0.0)
        others = [there for there in range(here + 1, last + 1) if ages[there] >= earliest]
        if not others:
            best[here] = chosen[here] = survival[here] * (cost + ages[-1])
            continue
        best[here] = min(between(here, there) + best[there] for there in others)
        there = ages.index(schedule.next_ages[here])
        assert ages[there] >= earliest
        chosen[here] = between(here, there) + chosen[there]
    assert chosen[0] == pytest.approx(best[0], rel=1e-6, abs=1e-9)


@given(
    due=st.floats(0, allow_infinity=True),
    earlier=st.floats(0, 1e9),
    later=st.floats(0, allow_infinity=True),
    not_before=st.floats(0, allow_infinity=True),
)
def test_a_poll_of_any_time_can_be_aligned(
    *, due: float, earlier: float, later: float, not_before: float
) -> None:
    moment = align(due, earliest=due - earlier, latest=due + later, not_before=not_before)
    assert moment >= 0


@pytest.mark.parametrize("is_age_known", [True, False])
def test_a_poll_planned_anew_keeps_its_distance_from_the_last_one(*, is_age_known: bool) -> None:
    cadence = Cadence(Poll(shortest=2, longest=8), DurationStats(), Random(1))
    for duration in drawn(20.0, 40):
        stats_of(cadence).record_end(next_number(), 0.99 * duration, duration)

    def delay(age: float, polled_at: float) -> float:
        poll = cadence.next_poll(
            "a", age, remaining=1e9, polls=3, polled_at=polled_at, is_age_known=is_age_known
        )
        assert poll.least == pytest.approx(max(0.0, polled_at + 2 - age))
        return poll.delay

    assert 1 <= delay(20.0, 19.0) < delay(19.0, 19.0)
    assert delay(27.0, 19.0) == 0
    assert delay(7.0, 1.0) <= 2.8
