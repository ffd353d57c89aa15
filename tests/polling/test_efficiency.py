"""Polls and delays beside the exact optimum and other schedules, in virtual time with a fixed seed."""

from __future__ import annotations

import importlib.util
import sys
from statistics import median
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import attrs
import pytest

from apimart_async import Poll
from apimart_async.polling.duration_stats import DurationStats

if TYPE_CHECKING:
    from pathlib import Path

SEED, KNOB = 1, 0.25
# A family for each difficulty; the benchmark runs all of them, with more seeds and knobs.
FAMILIES = {
    "normal 19 ± 0.95": 1.15,
    "log-normal 20, spread 0.3": 1.15,
    "log-normal 20, spread 0.9": 1.15,
    "exponential 20": 1.15,
    "two modes, 8 and 45": 1.15,
    "20 % fail at 2": 1.25,
    "Pareto 8, shape 1.5": 1.25,
}


@pytest.fixture(scope="module")
def cadences(repository: Path) -> SimpleNamespace:
    modules = SimpleNamespace()
    for name in ("families", "simulation", "closed"):
        path = repository / "benchmarks" / "cadences" / f"{name}.py"
        spec = importlib.util.spec_from_file_location(f"polling_{name}", path)
        assert spec
        assert spec.loader
        module = sys.modules[f"polling_{name}"] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        setattr(modules, name, module)
    return modules


@pytest.mark.long
@pytest.mark.parametrize(
    "pattern", ["one by one", "Poisson", "waves of 16", "waves of 100", "three runs of a batch"]
)
@pytest.mark.parametrize("name", FAMILIES)
def test_the_cost_is_near_the_exact_optimum(cadences: Any, pattern: str, name: str) -> None:
    sim = cadences.simulation
    arrivals, family = sim.PATTERNS[pattern], cadences.families.FAMILIES[name]
    lasting = family.durations(arrivals.tasks, SEED)
    judged = range(arrivals.judged, arrivals.tasks)
    learner = sim.Learner(Poll(delay_per_poll=KNOB), SEED, reports_time=True)
    ours = learner.follow(lasting, arrivals).part(judged)
    best = sim.optimum(family, lasting, KNOB).part(judged)
    assert ours.cost(KNOB) <= FAMILIES[name] * best.cost(KNOB)


@pytest.mark.long
@pytest.mark.parametrize("factor", [3.0, 0.5])
@pytest.mark.parametrize(("size", "followed"), [(1, 40), (16, 48), (100, 100)])
@pytest.mark.parametrize("name", ["log-normal 20, spread 0.3", "log-normal 20, spread 0.9", "exponential 20"])
def test_a_change_of_speed_is_followed(
    cadences: Any, name: str, size: int, followed: int, factor: float
) -> None:
    sim = cadences.simulation
    arrivals = sim.Arrivals((size,) * (400 // size + 1))
    changed = -(-150 // size) * size
    family = attrs.evolve(
        cadences.families.FAMILIES[name], slowdown=lambda number: factor if number >= changed else 1.0
    )
    lasting = family.durations(arrivals.tasks, SEED)
    judged = range(changed + followed, changed + followed + 100)
    learner = sim.Learner(Poll(delay_per_poll=KNOB), SEED, reports_time=True)
    ours = learner.follow(lasting, arrivals).part(judged)
    best = sim.optimum(family, lasting, KNOB).part(judged)
    assert ours.cost(KNOB) <= 1.2 * best.cost(KNOB)


@pytest.mark.long
def test_no_other_schedule_has_fewer_polls_and_less_delay(cadences: Any) -> None:
    sim = cadences.simulation
    arrivals = sim.PATTERNS["one by one"]
    judged = range(arrivals.judged, arrivals.tasks)
    for name, family in cadences.families.FAMILIES.items():
        if name in {"exponential 20", "steps of 5 s"}:
            continue  # Durations without memory, and steps that are a multiple of an interval.
        lasting = family.durations(arrivals.tasks, SEED)
        ours = sim.Learner(Poll(), SEED, reports_time=True).follow(lasting, arrivals).part(judged)
        for label, peer in sim.PEERS.items():
            theirs = sim.follow(peer, lasting, SEED).part(judged)
            assert theirs.mean_polls > ours.mean_polls or theirs.mean_delay > ours.mean_delay, (name, label)


@pytest.mark.parametrize("name", ["constant 0.3", "log-normal 0.3, spread 0.3"])
def test_a_batch_of_tasks_of_a_third_of_a_second_takes_little_longer_than_the_tasks(
    cadences: Any, name: str
) -> None:
    family, stats = cadences.families.SHORT[name], DurationStats()
    fresh = cadences.closed.run(family, 500, 64, SEED, stats)
    learnt = cadences.closed.run(family, 500, 64, SEED, stats)
    least = sum(family.durations(500, SEED)) / 64
    assert fresh.seconds < 6
    assert learnt.seconds < 1.75 * least
    assert fresh.requests + learnt.requests < 0.15 * 1000


@pytest.mark.parametrize("name", ["constant 0.3", "log-normal 0.3, spread 0.3"])
def test_short_tasks_are_learnt_from_polls_one_by_one(cadences: Any, name: str) -> None:
    family, stats = cadences.families.SHORT[name], DurationStats()
    cadences.closed.run(family, 50, 1, SEED, stats)
    learnt = cadences.closed.run(family, 100, 1, SEED + 1, stats)
    assert learnt.delay < 0.2
    assert learnt.requests < 1.4 * 100


@pytest.mark.parametrize("name", ["log-normal 20, spread 0.3", "log-normal 20, spread 0.9", "exponential 20"])
def test_three_runs_of_a_batch_keep_128_durations_that_are_not_biased(cadences: Any, name: str) -> None:
    sim = cadences.simulation
    arrivals = sim.PATTERNS["three runs of a batch"]
    lasting = cadences.families.FAMILIES[name].durations(arrivals.tasks, SEED)
    learner = sim.Learner(Poll(), SEED, reports_time=True)
    learner.follow(lasting, arrivals)
    (saved,) = learner.stats.to_dict()["models"].values()
    kept = [guess or (after + by) / 2 for after, by, guess in saved["spans"]]
    assert len(kept) == 128
    assert median(kept) == pytest.approx(median(lasting[-128:]), rel=0.1)
    if name == "log-normal 20, spread 0.3":
        # The medians of 128 durations of the others vary by more than a tenth.
        assert median(kept) == pytest.approx(20, rel=0.1)
