"""When to look next: the bounds, what is learnt, and what becomes of it between runs."""

from __future__ import annotations

import json
import math
from itertools import pairwise
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apimart_async.config import Poll
from apimart_async.polling.cadence import Cadence
from apimart_async.polling.durations import Durations, Span, estimate
from apimart_async.polling.experience import Experience
from apimart_async.polling.schedule import best_schedule


def moments(cadence: Cadence, duration: float, **hints: float) -> list[float]:
    """The ages at which a task of that duration is looked at."""
    age, ages = 0.0, list[float]()
    while age < duration:
        look = cadence.next_look("a", age, remaining=1e9, looks=len(ages), **hints)  # type: ignore[arg-type]
        age += look.delay
        ages.append(age)
    return ages


def taught(durations: list[float], poll: Poll | None = None, *, tells: bool = False) -> Cadence:
    """A cadence that has waited for tasks of these durations."""
    cadence = Cadence(poll or Poll(), Experience(), Random(1))
    for duration in durations:
        ages = moments(cadence, duration)
        for age in ages[:-1]:
            cadence.runs(1, "a", age)
        cadence.ended(
            1, "a", ages[-2] if len(ages) > 1 else 0.0, ages[-1], round(duration) if tells else None
        )
    return cadence


def anew(cadence: Cadence) -> Durations:
    """The distribution with all that is known; otherwise it is estimated anew only now and then."""
    known = cadence.experience.of("a", 20)
    known.forget_estimate()
    return known.durations()


def drawn(median: float, count: int, sigma: float = 0.2, seed: int = 5) -> list[float]:
    random = Random(seed)
    return [random.lognormvariate(math.log(median), sigma) for _ in range(count)]


@given(
    age=st.floats(0, 1e5),
    remaining=st.floats(0.001, 1e5),
    estimated=st.none() | st.floats(-10, 1e6),
    looks=st.integers(0, 3),
    known=st.booleans(),
    seed=st.integers(0, 99),
    learnt=st.lists(st.floats(0.01, 1e4), max_size=5),
)
def test_a_look_is_never_too_soon_too_far_or_past_the_deadline(
    *,
    age: float,
    remaining: float,
    estimated: float | None,
    looks: int,
    known: bool,
    seed: int,
    learnt: list[float],
) -> None:
    poll = Poll()
    cadence = Cadence(poll, Experience(), Random(seed))
    for duration in learnt:
        cadence.ended(1, "a", 0.9 * duration, duration, None)
    look = cadence.next_look(
        "a", age, remaining=remaining, looks=looks, is_age_known=known, estimated_time=estimated
    )
    assert 0 <= look.delay <= remaining
    if looks or not learnt:
        assert look.delay <= poll.longest * 1.1 + poll.shortest
    if remaining > 2 * poll.longest and age:
        assert look.delay >= poll.shortest


def test_the_first_look_at_an_unknown_model_is_not_in_the_first_seconds() -> None:
    assert moments(Cadence(Poll(), random=Random(1)), 1)[0] == pytest.approx(5, abs=0.6)
    assert moments(Cadence(Poll(first=2), random=Random(1)), 1)[0] == pytest.approx(2, abs=0.3)


def test_a_task_of_any_age_is_looked_at_at_once() -> None:
    assert Cadence(Poll()).next_look(None, 0, remaining=600, is_age_known=False).delay == 0


def test_a_task_that_may_have_ended_long_ago_is_looked_at_at_once() -> None:
    cadence = Cadence(Poll(), random=Random(1))
    assert cadence.next_look("a", 60, remaining=600, looked_at=0).delay == 0
    for _ in range(50):
        cadence.ended(1, "a", 19, 20)
    assert cadence.next_look("a", 60, remaining=600, looked_at=0).delay == 0
    assert cadence.next_look("a", 60, remaining=600, looked_at=60, looks=1).delay >= 1


def test_progress_counts_while_nothing_better_is_known() -> None:
    def spacing(progress: float | None, **hints: Any) -> float:
        cadence = Cadence(Poll(longest=60), random=Random(1))
        cadence.next_look("a", 0, remaining=600, **hints)
        cadence.runs(1, "a", 10, progress)
        return cadence.next_look("a", 10, remaining=600, looks=1, **hints).delay

    assert spacing(5) > 2 * spacing(None)
    assert spacing(90) < spacing(None)
    assert spacing(5, estimated_time=20) == spacing(None, estimated_time=20)


def test_what_the_service_estimates_counts_until_durations_are_known() -> None:
    cadence = Cadence(Poll(), random=Random(1))
    informed = moments(cadence, 60, estimated_time=60)
    assert informed[0] > 8
    assert len(informed) < len(moments(Cadence(Poll(), random=Random(1)), 60))


def test_a_task_that_outlives_all_others_is_looked_at_ever_more_rarely() -> None:
    ages = moments(taught(drawn(20, 60)), 580)
    late = [after - before for before, after in pairwise(ages) if before > 60]
    assert 1.2 * late[0] < late[len(late) // 2] < 0.9 * late[-1]
    assert max(late) <= 15 * 1.1
    assert late[-1] > 8


def test_nearly_constant_durations_take_few_looks() -> None:
    random = Random(2)
    cadence = taught([random.gauss(30, 0.25) for _ in range(100)])
    tests = [random.gauss(30, 0.25) for _ in range(50)]
    ages = [moments(cadence, duration) for duration in tests]
    assert sum(map(len, ages)) / len(ages) < 3
    assert sum(looks[-1] - duration for looks, duration in zip(ages, tests, strict=True)) / len(ages) < 1


@pytest.mark.parametrize("tells", [False, True])
@pytest.mark.parametrize(("before", "after"), [(20, 40), (40, 20), (60, 6)])
def test_a_shift_is_followed_within_some_tens_of_tasks(before: float, after: float, *, tells: bool) -> None:
    cadence = taught([*drawn(before, 150), *drawn(after, 50, seed=6)], tells=tells)
    settled = taught(drawn(after, 150), tells=tells)
    test = drawn(after, 100, seed=7)

    def cost(cadence: Cadence) -> float:
        ages = [moments(cadence, duration) for duration in test]
        delay = sum(looks[-1] - duration for looks, duration in zip(ages, test, strict=True))
        return 0.25 * sum(map(len, ages)) + delay

    assert cost(cadence) < 1.3 * cost(settled)


def test_models_are_learnt_apart() -> None:
    cadence = Cadence(Poll(), Experience(), Random(1))
    for duration in drawn(60, 30):
        cadence.ended(1, "slow", 0.99 * duration, duration)
    assert cadence.next_look("slow", 0, remaining=600).delay > 20
    assert cadence.next_look("other", 0, remaining=600).delay < 6


def test_tasks_that_still_run_are_not_forgotten_for_those_that_ended_first() -> None:
    alone, among = (Cadence(Poll(), Experience(), Random(1)) for _ in range(2))
    for number in range(200):
        among.runs(number, "a", 11.6)
    for cadence in (alone, among):
        for number, duration in enumerate(drawn(10, 30, 0.05)):
            cadence.ended(1000 + number, "a", duration - 0.1, duration)
    shares = [anew(cadence).survives(11.5) for cadence in (alone, among)]
    assert shares[0] < 0.15
    assert shares[1] > 0.6


def test_a_long_wait_that_was_given_up_is_learnt_from() -> None:
    cadence = taught(drawn(20, 20))
    for number in range(20):
        cadence.runs(number, "a", 100.0)
        cadence.left(number, "a")
    assert anew(cadence).survives(90) > 0.2


def test_actual_time_counts_only_where_it_agrees_with_what_was_seen() -> None:
    experience = Experience().of("a", 20)
    experience.ends(1, 10.0, 16.0, 14.0)
    experience.ends(2, 10.0, 16.0, 3.0)
    experience.ends(3, 10.0, 16.0, 12.34)
    spans = [(span.after, span.by) for span in experience.spans]
    assert spans[:2] == [(13.5, 14.5), (10.0, 16.0)]
    assert spans[2] == pytest.approx((12.34, 12.34), rel=0.011)


def test_experience_survives_as_json() -> None:
    cadence = taught(drawn(30, 80))
    cadence.runs(1, "a", 200.0)
    cadence.left(1, "a")
    saved = json.dumps(cadence.experience.to_dict())
    assert len(saved) < 10_000
    other = Experience()
    other.restore(json.loads(saved))
    assert other.to_dict() == cadence.experience.to_dict()
    anew(cadence)
    fresh = moments(Cadence(Poll(), other, Random(1)), 30)
    known = moments(Cadence(Poll(), cadence.experience, Random(1)), 30)
    assert fresh[0] == pytest.approx(known[0], rel=0.15)


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"version": 2, "models": {"a": {"typical": 1, "spans": [[1, 2, None]]}}},
        {"version": 1, "models": [1]},
        {"version": 1, "models": {"a": {"spans": [[1, 2, None]]}, "b": {"typical": 1, "spans": [[1]]}}},
        {"version": 1, "models": {"a": {"typical": "x", "spans": 3}, "b": 5}},
        {"version": 1, "models": {"a": {"typical": 9, "spans": [[2, 1, None], [-1, 2, 1], [1, 2, 3]]}}},
        {"version": 1, "models": {"a": {"typical": 9, "spans": [["nan", "nan", None]]}}},
    ],
)
def test_what_is_not_understood_is_not_restored(data: dict[str, object]) -> None:
    experience = Experience()
    experience.restore(data)
    assert experience.to_dict()["models"] == {}


numbers = st.none() | st.integers() | st.floats() | st.just(10**400) | st.text(max_size=3)


@given(numbers, st.lists(st.lists(numbers, min_size=3, max_size=3), max_size=6))
def test_whatever_is_restored_the_next_look_is_a_moment(typical: object, spans: list[list[object]]) -> None:
    experience = Experience()
    experience.restore({"version": 1, "models": {"a": {"typical": typical, "spans": spans}}})
    for age in (0.0, 1.0, 30.0):
        assert 0 <= Cadence(Poll(), experience, Random(1)).next_look("a", age, remaining=600).delay <= 600
    json.dumps(experience.to_dict(), allow_nan=False)


def test_memory_is_bounded() -> None:
    experience = Experience()
    for number in range(500):
        known = experience.of(f"model {number}", 20)
        for duration in range(1, 4):
            known.ends(1, duration, duration + 1, None)
    for number in range(1000):
        experience.of("model 499", 20).ends(1, 1 + number % 7, 2 + number % 7, None)
    data = experience.to_dict()["models"]
    assert len(data) <= 64
    assert len(data["model 499"]["spans"]) <= 128


@given(
    steps=st.lists(st.floats(0.05, 5), min_size=3, max_size=40),
    drops=st.lists(st.floats(0.0, 1), min_size=40, max_size=40),
    cost=st.floats(0.01, 5),
    shortest=st.sampled_from([0.0, 0.5, 2.0]),
)
def test_the_schedule_is_the_best_there_is(
    steps: list[float], drops: list[float], cost: float, shortest: float
) -> None:
    ages, survival = [0.0], [1.0]
    for step, drop in zip(steps, drops, strict=False):
        ages.append(ages[-1] + step)
        survival.append(survival[-1] * (1 - 0.5 * drop))
    schedule = best_schedule(Durations(ages, survival), cost, shortest)
    last = len(ages) - 1
    tail = survival[-1] * (cost + ages[-1])

    def between(here: int, there: int) -> float:
        area = sum((ages[i + 1] - ages[i]) * (survival[i] + survival[i + 1]) / 2 for i in range(here, there))
        return survival[here] * (cost + ages[there] - ages[here]) - area

    best = [0.0] * last + [tail]
    chosen = [0.0] * last + [tail]
    for here in range(last - 1, -1, -1):
        others = [there for there in range(here + 1, last + 1) if ages[there] >= ages[here] + shortest]
        if not others:
            best[here] = chosen[here] = survival[here] * (cost + ages[-1])
            continue
        best[here] = min(between(here, there) + best[there] for there in others)
        there = ages.index(schedule.next_ages[here])
        assert ages[there] >= ages[here] + shortest
        chosen[here] = between(here, there) + chosen[there]
    assert chosen[0] == pytest.approx(best[0], rel=1e-6, abs=1e-9)


@given(
    spans=st.lists(
        st.tuples(st.floats(0, 100), st.floats(0.001, 500) | st.just(math.inf), st.floats(0.01, 1)),
        max_size=30,
    ),
    typical=st.floats(0.1, 500),
)
def test_an_estimate_is_a_distribution(spans: list[tuple[float, float, float]], typical: float) -> None:
    known = [(Span(after, after + width), weight) for after, width, weight in spans]
    durations = estimate(known, typical)
    assert durations.edges[0] == 0
    assert durations.survival[0] == 1
    assert all(left < right for left, right in pairwise(durations.edges))
    assert all(left >= right >= 0 for left, right in pairwise(durations.survival))
