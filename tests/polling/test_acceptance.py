"""What polling promises, on the benchmark's virtual time with a fixed seed."""

from __future__ import annotations

import importlib.util
import sys
from statistics import fmean
from typing import TYPE_CHECKING, Any

import pytest

from apimart_async import Poll

if TYPE_CHECKING:
    from pathlib import Path

WARM, TASKS, SEED = 100, 300, 1
# A family for each kind of trouble; the benchmark runs all of them, longer.
FAMILIES = (
    "constant 19",
    "normal 19 ± 0.95",
    "log-normal 20, spread 0.3",
    "log-normal 20, spread 0.9",
    "bimodal 8 and 45",
    "fast: log-normal 3, spread 0.5",
    "heavy tail: Pareto 10, shape 2.5",
    "drifting 20 to 40, spread 0.2",
    "log-normal 20, spread 0.3, 15 % fail at 3",
)


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
def test_at_the_delay_of_a_fixed_interval_it_polls_much_less_and_nearly_as_little_as_can_be(
    simulation: Any, subtests: pytest.Subtests
) -> None:
    ratios: list[float] = []
    for name in FAMILIES:
        family = simulation.FAMILIES[name]
        lasting = simulation.durations(family, WARM + TASKS, SEED)
        fixed = simulation.follow(simulation.PEERS["every 2 s"], lasting[WARM:], SEED)
        best = simulation.optimum(family, lasting[WARM:], fixed.delay, WARM)
        ours, _ = simulation.at_delay(lasting, WARM, fixed.delay, SEED, tells=True)
        ratios.append(ours.polls / fixed.polls)
        with subtests.test(name):
            assert ours.delay <= fixed.delay
            assert ours.polls <= 1.2 * best
            assert ours.polls <= 1.1 * fixed.polls
    assert fmean(ratios) <= 0.7


@pytest.mark.long
def test_no_other_schedule_is_better_on_both_axes(simulation: Any, subtests: pytest.Subtests) -> None:
    for name, family in simulation.FAMILIES.items():
        lasting = simulation.durations(family, WARM + TASKS, SEED)
        ours = simulation.learn(Poll(), lasting, WARM, SEED, tells=True)
        for label, peer in simulation.PEERS.items():
            if name == "exponential 20" and label.startswith("every"):
                continue  # nothing can be learnt of what has no memory: a fixed interval is the best there is
            theirs = simulation.follow(peer, lasting[WARM:], SEED)
            with subtests.test(f"{name}: {label}"):
                assert theirs.polls > ours.polls or theirs.delay > ours.delay
