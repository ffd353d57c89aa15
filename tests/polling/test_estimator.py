"""Duration statistics: observations, estimates, and data between runs."""

from __future__ import annotations

import json
import math
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apimart_async.polling.estimator import (
    Distribution,
    DurationStats,
    ModelStats,
    Observation,
    estimate,
)


def drawn(median: float, count: int, sigma: float) -> list[float]:
    random = Random(5)
    return [random.lognormvariate(math.log(median), sigma) for _ in range(count)]


def new_estimate(stats: ModelStats) -> Distribution:
    stats.discard_estimate()
    return stats.distribution()


@pytest.fixture
def stats() -> ModelStats:
    return DurationStats().of("a", 5)


def test_running_tasks_count_beside_those_that_ended_first(stats: ModelStats) -> None:
    alone = DurationStats().of("a", 5)
    for number in range(200):
        stats.record_running(number, 11.6)
    for known in (alone, stats):
        for number, duration in enumerate(drawn(10, 30, 0.05)):
            known.record_end(1000 + number, duration - 0.1, duration)
    assert new_estimate(alone).survival_at(11.5) < 0.15
    assert new_estimate(stats).survival_at(11.5) > 0.6


def test_a_long_wait_that_was_abandoned_counts(stats: ModelStats) -> None:
    for duration in drawn(20, 20, 0.2):
        stats.record_end(0, duration - 1, duration)
    for number in range(20):
        stats.record_running(number, 100.0)
        stats.record_abandoned(number)
    assert new_estimate(stats).survival_at(90) > 0.2


def test_a_reported_duration_counts_only_where_it_agrees_with_the_polls(stats: ModelStats) -> None:
    stats.record_end(1, 10.0, 16.0, 14.0)
    stats.record_end(2, 10.0, 16.0, 3.0)
    stats.record_end(3, 10.0, 16.0, 12.34)
    intervals = [(seen.after, seen.by) for seen in stats.observations]
    assert intervals[:2] == [(13.5, 14.5), (10.0, 16.0)]
    assert intervals[2] == pytest.approx((12.34, 12.34), rel=0.011)


def test_an_age_is_the_inverse_of_its_survival() -> None:
    distribution = Distribution([0.0, 10.0, 20.0, 40.0], [1.0, 0.8, 0.4, 0.1])
    for age in (0.0, 5.0, 10.0, 13.0, 37.0, 40.0):
        assert distribution.age_at(distribution.survival_at(age)) == pytest.approx(age)
    assert distribution.age_at(0.01) == 40.0
    assert distribution.survival_at(80.0) == pytest.approx(0.025)


@given(
    intervals=st.lists(
        st.tuples(st.floats(0, 100), st.floats(0.001, 500) | st.just(math.inf), st.floats(0.01, 1)),
        max_size=30,
    ),
    prior_median=st.floats(0.1, 500),
)
def test_an_estimate_is_a_distribution(
    intervals: list[tuple[float, float, float]], prior_median: float
) -> None:
    weighted = [(Observation(after, after + width), weight) for after, width, weight in intervals]
    distribution = estimate(weighted, prior_median)
    assert distribution.edges[0] == 0
    assert distribution.survival[0] == 1
    assert all(left < right for left, right in pairwise(distribution.edges))
    assert all(left >= right >= 0 for left, right in pairwise(distribution.survival))


def test_statistics_are_bounded() -> None:
    stats = DurationStats()
    for number in range(500):
        for duration in range(1, 4):
            stats.of(f"model {number}", 5).record_end(1, duration, duration + 1)
    for number in range(1000):
        stats.of("model 499", 5).record_end(1, 1 + number % 7, 2 + number % 7)
    models = stats.to_dict()["models"]
    assert len(models) <= 64
    assert len(models["model 499"]["spans"]) <= 128


def test_saved_statistics_load_unchanged() -> None:
    stats = DurationStats()
    known = stats.of("a", 5)
    for duration in drawn(30, 200, 0.2):
        known.record_end(1, 0.9 * duration, duration)
        known.distribution()
    known.record_running(1, 200.0)
    known.record_abandoned(1)
    saved = json.dumps(stats.to_dict(), allow_nan=False)
    assert len(saved) < 10_000
    other = DurationStats()
    other.load(json.loads(saved))
    assert other.to_dict() == stats.to_dict()
    assert other.of("a", 5).distribution().age_at(0.5) == pytest.approx(30, rel=0.1)


def test_saved_statistics_replace_no_newer_ones() -> None:
    saved, stats = DurationStats(), DurationStats()
    saved.of("a", 5).record_end(1, 9.0, 10.0)
    stats.of("a", 5).record_end(1, 19.0, 20.0)
    before = stats.to_dict()
    stats.load(saved.to_dict())
    assert stats.to_dict() == before


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
def test_malformed_data_and_other_versions_are_not_loaded(data: dict[str, object]) -> None:
    stats = DurationStats()
    stats.load(data)
    assert stats.to_dict()["models"] == {}


numbers = st.none() | st.integers() | st.floats() | st.just(10**400) | st.text(max_size=3)


@given(numbers, st.lists(st.lists(numbers, min_size=3, max_size=3), max_size=6))
def test_any_loaded_data_can_be_saved_as_json(typical: object, spans: list[list[object]]) -> None:
    stats = DurationStats()
    stats.load({"version": 1, "models": {"a": {"typical": typical, "spans": spans}}})
    json.dumps(stats.to_dict(), allow_nan=False)
