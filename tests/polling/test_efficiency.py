"""Polls and delays beside other schedules and the optimum, in virtual time with a fixed seed."""

from __future__ import annotations

import importlib.util
import sys
from typing import TYPE_CHECKING, Any

import pytest

from apimart_async import Poll

if TYPE_CHECKING:
    from pathlib import Path

WARM, TASKS, SEED = 100, 300, 1
# One family for each difficulty, with the accepted ratio of polls to those of a fixed interval. The benchmark
# runs all families, with more tasks and seeds.
FAMILIES = {
    "constant 19": 0.15,
    "normal 19 ± 0.95": 0.2,
    "log-normal 20, spread 0.3": 0.65,
    "log-normal 20, spread 0.9": 1.1,
    "bimodal 8 and 45": 0.55,
    "fast: log-normal 3, spread 0.5": 0.9,
    "heavy tail: Pareto 10, shape 2.5": 0.6,
    "drifting 20 to 40, spread 0.2": 0.5,
    "log-normal 20, spread 0.3, 15 % fail at 3": 0.85,
}


@pytest.fixture(scope="module")
def simulation(repository: Path) -> Any:
    path = repository / "benchmarks" / "cadences" / "simulation.py"
    spec = importlib.util.spec_from_file_location("polling_simulation", path)
    assert spec
    assert spec.loader
    module = sys.modules["polling_simulation"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.long
@pytest.mark.parametrize("name", FAMILIES)
def test_polls_are_near_the_optimum_at_the_delay_of_a_fixed_interval(simulation: Any, name: str) -> None:
    family = simulation.FAMILIES[name]
    lasting = simulation.durations(family, WARM + TASKS, SEED)
    fixed = simulation.follow(simulation.PEERS["every 2 s"], lasting[WARM:], SEED)
    best = simulation.optimum(family, lasting[WARM:], fixed.delay, WARM, bins=1000)
    ours = simulation.at_delay(lasting, WARM, fixed.delay, SEED, reports_time=True)
    assert ours.delay <= fixed.delay
    assert ours.polls <= 1.2 * best
    assert ours.polls <= FAMILIES[name] * fixed.polls


@pytest.mark.long
def test_no_other_schedule_has_fewer_polls_and_less_delay(simulation: Any) -> None:
    for name, family in simulation.FAMILIES.items():
        lasting = simulation.durations(family, WARM + TASKS, SEED)
        ours = simulation.learn(Poll(), lasting, WARM, SEED, reports_time=True)
        for label, peer in simulation.PEERS.items():
            if name == "exponential 20" and label.startswith("every"):
                continue  # Durations without memory: a fixed interval is optimal.
            theirs = simulation.follow(peer, lasting[WARM:], SEED)
            assert theirs.polls > ours.polls or theirs.delay > ours.delay, f"{name}: {label}"
