"""Duration statistics: observations, estimates, and data between runs."""

from __future__ import annotations

import json
import math
from itertools import pairwise
from random import Random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from apimart_async.models import DurationEstimate
from apimart_async.polling.duration_stats import DurationStats, ModelStats, kind_of, next_number
from apimart_async.polling.estimator import Distribution, Observation, estimate


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
        st.tuples(
            st.floats(0, 100),
            st.floats(0.001, 500) | st.just(math.inf),
            st.none() | st.floats(0.01, 0.99),
            st.floats(0.01, 1),
        ),
        max_size=30,
    ),
    prior_median=st.floats(0.1, 500),
)
def test_an_estimate_is_a_distribution(
    intervals: list[tuple[float, float, float | None, float]], prior_median: float
) -> None:
    weighted: list[tuple[Observation, float]] = []
    for after, width, part, weight in intervals:
        guess = None if part is None or width == math.inf else after + part * width
        weighted.append((Observation(after, after + width, guess), weight))
    distribution = estimate(weighted, prior_median)
    assert distribution.edges[0] == 0
    assert distribution.survival[0] == 1
    assert all(left < right for left, right in pairwise(distribution.edges))
    assert all(left >= right >= 0 for left, right in pairwise(distribution.survival))


def known_within(durations: list[float], part: float) -> Distribution:
    """Return the estimate from durations that are known up to a part of them on either side."""
    seen = [Observation((1 - part) * duration, (1 + part) * duration, duration) for duration in durations]
    return estimate([(task, 1.0) for task in seen], 20)


@pytest.mark.parametrize("sigma", [0.01, 0.05, 0.3, 0.9])
def test_the_width_of_the_kernels_follows_the_tasks(sigma: float) -> None:
    known = known_within(drawn(20, 100, sigma), 0.005)
    spread = math.log(known.age_at(0.16) / known.age_at(0.84)) / 2
    assert spread == pytest.approx(sigma, rel=0.25)
    # No narrow peak of one task or a few stands out, nor a gap: within the middle half of the tasks, the
    # density is that of the whole distribution.
    ages = [known.age_at(survival) for survival in (0.75, 0.625, 0.5, 0.375, 0.25)]
    steps = [math.log(later / earlier) / sigma for earlier, later in pairwise(ages)]
    assert max(steps) < 2 * min(steps)


def test_few_tasks_have_wider_kernels_than_many() -> None:
    few, many = (known_within(drawn(20, count, 0.05), 0.005) for count in (4, 100))
    assert few.age_at(0.1) / few.age_at(0.5) > 1.12 > many.age_at(0.1) / many.age_at(0.5)


def test_a_narrow_mode_survives_beside_a_broad_one() -> None:
    broad, narrow = drawn(8, 70, 0.3), drawn(45, 30, 0.02)
    known = known_within([*broad, *narrow], 0.01)
    assert known.survival_at(25) - known.survival_at(40) < 0.02
    assert known.survival_at(42) - known.survival_at(48) == pytest.approx(0.3, abs=0.04)
    assert known.survival_at(5) == pytest.approx(0.95, abs=0.04)


def test_durations_all_the_same_leave_nothing_beside_them() -> None:
    known = known_within([19.0] * 100, 0.005)
    assert known.survival_at(18.3) > 0.98
    assert known.survival_at(19.7) < 0.02
    assert known.tail_from < 20


def test_overlapping_intervals_share_what_they_have_in_common() -> None:
    seen = [Observation(10.0, 20.0, 12.0), Observation(5.0, 11.0, 8.0), Observation(9.0, 12.0, 10.5)]
    known = estimate([(task, 1.0) for task in seen * 10], 20)
    assert known.survival_at(9) - known.survival_at(13) > 0.6


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
        {"version": 1, "models": {"a": {"typical": 1, "spans": [[1, 2, None]]}}},
        {"version": 2, "models": [1]},
        {"version": 2, "models": {"a": {"spans": [[1, 2, None]]}, "b": {"typical": 1, "spans": [[1]]}}},
        {"version": 2, "models": {"a": {"typical": "x", "spans": 3}, "b": 5}},
        {"version": 2, "models": {"a": {"typical": 9, "spans": [[2, 1, None], [-1, 2, 1], [1, 2, 3]]}}},
        {"version": 2, "models": {"a": {"typical": 9, "spans": [["nan", "nan", None]]}}},
    ],
)
def test_malformed_data_and_other_versions_are_not_loaded(data: dict[str, object]) -> None:
    stats = DurationStats()
    stats.load(data)
    assert stats.to_dict()["models"] == {}


def test_loaded_statistics_are_estimated_once() -> None:
    saved, stats = DurationStats(), DurationStats()
    for number, duration in enumerate(drawn(20, 100, 0.2)):
        saved.of("a", 5).record_end(number, duration - 0.5, duration)
    stats.load(saved.to_dict())
    known = stats.of("a", 5)
    first = known.distribution()
    for age in range(1, 20):
        known.record_running(next_number(), age)
        assert known.distribution() is first


@pytest.mark.parametrize("factor", [0.5, 3])
def test_a_change_of_speed_is_noticed_after_a_few_tasks(stats: ModelStats, factor: float) -> None:
    for number, duration in enumerate(drawn(40, 200, 0.2)):
        stats.record_end(number, 0.9 * duration, duration)
        stats.distribution()
    for number, duration in enumerate(drawn(40 * factor, 8, 0.2), 200):
        stats.record_end(number, 0.9 * duration, duration)
        stats.distribution()
    assert stats.distribution().age_at(0.5) == pytest.approx(40 * factor, rel=0.25)


numbers = (
    st.none() | st.integers() | st.floats() | st.sampled_from([0, 1, 10**400, 5e-324]) | st.text(max_size=3)
)


@given(numbers, st.lists(st.lists(numbers, min_size=3, max_size=3), max_size=6))
@example(9, [[0, 1, 0]])
@example(9, [[1, 2, 1], [1, 2, 2]])
def test_any_loaded_data_can_be_saved_as_json_and_estimated(
    typical: object, spans: list[list[object]]
) -> None:
    stats = DurationStats()
    stats.load({"version": 2, "models": {"a": {"typical": typical, "spans": spans}}})
    json.dumps(stats.to_dict(), allow_nan=False)
    assert stats.of("a", 5).distribution().survival_at(0) == 1


def median_after_wave(size: int, *, drained: float) -> float:
    """The median by the estimate when a part of a wave has ended, as polls every second see it."""
    stats = DurationStats().of("a", 5)
    durations = drawn(20, size, 0.3)
    running = {next_number(): duration for duration in durations}
    age = 0.0
    while len(running) > size * (1 - drained):
        age += 1
        for number, duration in list(running.items()):
            if duration > age:
                stats.record_running(number, age)
            else:
                stats.record_end(number, age - 1, age)
                del running[number]
        stats.distribution()
    return new_estimate(stats).age_at(0.5)


@pytest.mark.parametrize("size", [16, 100, 1000])
@pytest.mark.parametrize("drained", [0.7, 0.95, 1])
def test_the_median_of_a_wave_is_known_while_it_drains_and_after(size: int, drained: float) -> None:
    tolerance = 0.1 if size > 16 else 0.25
    assert median_after_wave(size, drained=drained) == pytest.approx(20, rel=tolerance)


def test_three_runs_of_a_batch_keep_durations_of_the_true_median() -> None:
    stats, random = DurationStats(), Random(3)
    for _ in range(3):
        known = stats.of("a", 5)
        ends = sorted((random.lognormvariate(math.log(20), 0.3), next_number()) for _ in range(150))
        for duration, number in ends:
            known.record_end(number, duration - 0.5, duration + 0.5)
            known.distribution()
        saved = json.loads(json.dumps(stats.to_dict()))
        stats = DurationStats()
        stats.load(saved)
        kept = stats.of("a", 5).observations
        assert len(kept) == 128
        assert sorted(seen.by for seen in kept)[64] == pytest.approx(20.5, rel=0.1)


def test_a_wave_that_drains_forgets_no_older_durations(stats: ModelStats) -> None:
    for duration in drawn(45, 50, 0.05):
        stats.record_end(next_number(), 7.0, 8.0)
        stats.record_end(next_number(), duration - 0.5, duration)
    wave = [next_number() for _ in range(600)]
    for number in wave:
        stats.record_running(number, 7.0)
    for number in wave[::2]:
        stats.record_end(number, 7.0, 8.0)
    for number in wave[1::2]:
        stats.record_running(number, 10.0)
    known = new_estimate(stats)
    assert known.survival_at(44) / known.survival_at(10) > 0.3
    assert known.survival_at(55) / known.survival_at(10) < 0.1


def test_tasks_that_ended_before_their_first_poll_are_spread_evenly_before_it(stats: ModelStats) -> None:
    for number in range(100):
        stats.record_end(number, 0.0, 2.0)
        stats.distribution()
    assert new_estimate(stats).age_at(0.75) == pytest.approx(0.5, abs=0.15)
    assert new_estimate(stats).age_at(0.25) == pytest.approx(1.5, abs=0.15)


def test_running_tasks_younger_than_any_poll_so_far_are_no_sign_of_a_slow_service(stats: ModelStats) -> None:
    for number in range(60):
        stats.record_end(number, 0.0, 0.7)
    assert stats.distribution().age_at(0.5) < 0.7
    for number in range(100, 140):
        stats.record_running(number, 0.5)
    stats.record_end(141, 0.0, 0.7)
    assert new_estimate(stats).age_at(0.5) < 0.8
    assert len(stats.memory) == 61


def test_the_usual_duration_is_known_after_three_tasks() -> None:
    stats = DurationStats()
    for count, duration in enumerate((11.0, 12.0, 13.0), 1):
        assert stats.summary("a") is None
        stats.of("a", 5).record_end(count, duration - 0.2, duration)
    found = stats.summary("a")
    assert found is not None
    assert found.median == pytest.approx(12, rel=0.15)
    assert found.within > found.median
    assert str(DurationEstimate(12.3, 17.6, 9)) == "about 12 s, 80 % within 18 s"


def test_models_resolutions_and_numbers_of_images_are_distinguished() -> None:
    kinds = [kind_of("a", None, None), kind_of("a", "4k", 1), kind_of("a", None, 2), kind_of("a", "4k", 2)]
    assert len(set(kinds)) == 4
    assert kind_of("a", None, 1) == kind_of("a", None, None) == "a"
    assert kind_of(None, "4k", 1) is None


def test_a_slow_service_is_noticed_before_its_tasks_end(stats: ModelStats) -> None:
    for number, duration in enumerate(drawn(20, 60, 0.3), 1):
        stats.record_end(number, duration - 0.5, duration + 0.5)
    stats.distribution()
    for age in range(5, 41, 5):
        for number in range(100, 110):
            stats.record_running(number, float(age))
        stats.distribution()
    assert stats.shifts == 1
    assert stats.memory == []
    assert stats.is_known
    assert 15 < stats.prior_median < 25
    assert stats.distribution().age_at(0.5) > 40


def test_a_narrow_estimate_that_is_a_little_short_is_not_renewed(stats: ModelStats) -> None:
    for number in range(1, 61):
        stats.record_end(number, 18.8, 19.2)
    known = stats.distribution()
    for number in range(100, 300):
        stats.record_running(number, 20.0)
    assert stats.distribution() is known


def test_running_tasks_of_all_ages_are_at_risk() -> None:
    running = [(Observation(float(age), math.inf), 1.0) for age in range(1, 40)]
    durations = estimate(running, 20.0)
    # None of 20 tasks ended between 5 and 20 s; by the prior, half of all do.
    assert durations.survival_at(20) / durations.survival_at(5) > 0.9


def test_two_tasks_that_hang_are_no_sign_of_a_slow_service(stats: ModelStats) -> None:
    for number, duration in enumerate(drawn(20, 60, 0.3), 1):
        stats.record_end(number, duration - 0.5, duration + 0.5)
    known = stats.distribution()
    for age in range(15, 600, 15):
        for number in (100, 101):
            stats.record_running(number, float(age))
    assert stats.distribution() is known
