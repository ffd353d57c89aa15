"""Cost of polling beside the exact optimum at the knob, fixed intervals and the schedules of others.

Run it with ``python benchmarks/polling.py``; ``--help`` names the options. A poll is worth ``delay_per_poll``
seconds of delay (the knob); the cost of a task is the knob times its polls, plus its delay. The optimum knows
the distribution of the durations and comes from dynamic programming over all ages of polls; it meets the same
tasks as the client. The simulation takes some minutes and no network; the emulated part about one, over
loopback sockets and on a clock that jumps while nothing is sent.
"""

# ruff: noqa: T201 (a benchmark prints its results)

from __future__ import annotations

import argparse
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import product
from pathlib import Path
from statistics import median

import attrs
from cadences import closed, emulated, families, figure
from cadences import simulation as sim
from cadences.follower import Follower

from apimart_async.config import Poll
from apimart_async.polling.duration_stats import DurationStats

KNOBS = (0.05, 0.25, 2.0)
FAMILIES = {**families.FAMILIES, **families.SHIFTING}
SHOWN = ("normal 19 ± 0.95", "log-normal 20, spread 0.3", "two modes, 8 and 45", "log-normal 20, spread 0.9")
FIGURE = Path(__file__).parent.parent / "docs" / "polling.svg"


def ours(knob: float) -> Poll:
    """Return settings of the client whose least spacing does not hide the effect of a small knob."""
    default = Poll()
    return Poll(delay_per_poll=knob, shortest=min(default.shortest, 2 * knob))


def _ratio(pattern: str, name: str, knob: float, seeds: range, *, reports_time: bool) -> float:
    """Return the cost of the client divided by that of the optimum."""
    arrivals, family = sim.PATTERNS[pattern], FAMILIES[name]
    judged = range(arrivals.judged, arrivals.tasks)
    cost = least = 0.0
    for seed in seeds:
        lasting = family.durations(arrivals.tasks, seed)
        result = sim.Learner(ours(knob), seed, reports_time).follow(lasting, arrivals)
        cost += result.part(judged).cost(knob)
        least += sim.optimum(family, lasting, knob).part(judged).cost(knob)
    return cost / least


def arrive(knobs: list[float], seeds: range, *, reports_time: bool) -> None:
    """Print the cost over the optimum for each family and pattern of arrival, after 100 tasks."""
    for knob in knobs:
        print(
            f"cost / optimum, knob {knob} s:\n{'':31}" + "".join(f"{name[:15]:>16}" for name in sim.PATTERNS)
        )
        cells = list(product(FAMILIES, sim.PATTERNS))
        with ProcessPoolExecutor() as pool:
            one = partial(_ratio, knob=knob, seeds=seeds, reports_time=reports_time)
            ratios = pool.map(
                one, [pattern for _, pattern in cells], [name for name, _ in cells], chunksize=2
            )
            for name in FAMILIES:
                row = [next(ratios) for _ in sim.PATTERNS]
                print(f"{name:31}" + "".join(f"{ratio:16.2f}" for ratio in row), flush=True)
        print()


def follow(knobs: list[float], seeds: range) -> None:
    """Print the same for the client and for a yardstick that knows all but the changes of speed."""
    print("cost / optimum, client and yardstick:")
    for knob, name in product(knobs, families.SHIFTING):
        family = FAMILIES[name]
        for pattern, arrivals in sim.PATTERNS.items():
            judged = range(arrivals.judged, arrivals.tasks)
            spent, least = [0.0, 0.0], 0.0
            for seed in seeds:
                lasting = family.durations(arrivals.tasks, seed)
                client = sim.Learner(ours(knob), seed, reports_time=True)
                yardstick = Follower(ours(knob), seed, family=family)
                for place, learner in enumerate((client, yardstick)):
                    spent[place] += learner.follow(lasting, arrivals).part(judged).cost(knob)
                least += sim.optimum(family, lasting, knob).part(judged).cost(knob)
            ratios = "".join(f"{cost / least:7.2f}" for cost in spent)
            print(f"  knob {knob:<4} {name:30} {pattern:24}{ratios}", flush=True)
    print()


def begin(seeds: range) -> None:
    """Print the cost over the optimum of the first 20 tasks of a fresh client, one after the other."""
    print("cost / optimum of the first 20 tasks, knob 0.25 s:")
    for name, family in FAMILIES.items():
        cost = least = 0.0
        for seed in seeds:
            lasting = family.durations(20, seed)
            learner = sim.Learner(Poll(), seed, reports_time=True)
            cost += learner.follow(lasting, sim.Arrivals((1,) * 20)).cost(0.25)
            least += sim.optimum(family, lasting, 0.25).cost(0.25)
        print(f"  {name:31} {cost / least:.2f}")
    print()


def shift(seeds: range) -> None:
    """Print the cost over the optimum in the first 40 tasks after a change of speed, and in the next 100."""
    print("cost / optimum after a change of speed, first 40 tasks and next 100, knob 0.25 s:")
    patterns = {"one by one": (1, 40), "waves of 16": (16, 48), "waves of 100": (100, 100)}
    for factor, (label, (size, followed)), name in product((3.0, 0.5), patterns.items(), SHOWN):
        arrivals = sim.Arrivals((size,) * (-(-400 // size)))
        changed = -(-150 // size) * size
        family = attrs.evolve(FAMILIES[name], slowdown=partial(_changed, changed=changed, factor=factor))
        parts = (range(changed, changed + followed), range(changed + followed, changed + followed + 100))
        costs, least = [0.0, 0.0], [0.0, 0.0]
        for seed in seeds:
            lasting = family.durations(arrivals.tasks, seed)
            result = sim.Learner(Poll(), seed, reports_time=True).follow(lasting, arrivals)
            optimal = sim.optimum(family, lasting, 0.25)
            for place, part in enumerate(parts):
                costs[place] += result.part(part).cost(0.25)
                least[place] += optimal.part(part).cost(0.25)
        ratios = "".join(f"{spent / best:7.2f}" for spent, best in zip(costs, least, strict=True))
        print(f"  factor {factor:<3} {label:13} {name:27}{ratios}", flush=True)
    print()


def _changed(number: int, *, changed: int, factor: float) -> float:
    return factor if number >= changed else 1.0


def compare(tasks: int, seed: int) -> None:
    """Print every schedule in every family, and draw four families."""
    panels: dict[str, tuple[list[sim.Result], dict[str, sim.Result]]] = {}
    arrivals = sim.Arrivals((1,) * (100 + tasks))
    judged = range(100, 100 + tasks)
    for name, family in families.FAMILIES.items():
        lasting = family.durations(arrivals.tasks, seed)
        peers = {label: sim.follow(peer, lasting, seed).part(judged) for label, peer in sim.PEERS.items()}
        default = sim.Learner(Poll(), seed, reports_time=True).follow(lasting, arrivals).part(judged)
        print(f"{name:38}  polls   delay    cost")
        for label, result in {"this client, as it comes": default, **peers}.items():
            better = result.mean_delay <= default.mean_delay and result.mean_polls <= default.mean_polls
            remark = "  better on both axes" if better and result is not default else ""
            numbers = f"{result.mean_polls:6.2f} {result.mean_delay:7.2f} {result.cost(0.25):7.2f}"
            print(f"  {label:36} {numbers}{remark}")
        if name in SHOWN:
            curve = [
                sim.Learner(ours(0.01 * 2**step), seed, reports_time=True)
                .follow(lasting, arrivals)
                .part(judged)
                for step in range(12)
            ]
            panels[name] = curve, peers
    FIGURE.write_text(figure.draw(panels), encoding="utf-8")
    print(f"\nDrawn: {FIGURE}\n")


def _seconds_a_poll(learner: sim.Learner, lasting: list[float], arrivals: sim.Arrivals) -> float:
    start = time.process_time()
    result = learner.follow(lasting, arrivals)
    return (time.process_time() - start) / sum(result.polls)


def cost(tasks: int, seed: int) -> None:
    """Print the CPU time of learning, estimates included, for each poll, and of an estimate."""
    print("CPU of learning, µs for each poll:")
    arrivals = sim.Arrivals((1,) * tasks)
    for name, family in families.FAMILIES.items():
        lasting = family.durations(tasks, seed)
        learners = [sim.Learner(Poll(), seed, reports_time=True) for _ in range(3)]
        learning = min(_seconds_a_poll(learner, lasting, arrivals) for learner in learners)
        taught = sim.Learner(Poll(), seed, stats=learners[0].stats, learns=False)
        deciding = min(_seconds_a_poll(taught, lasting, arrivals) for _ in range(3))
        known = learners[0].stats.of("model", 5.0)
        spent: list[float] = []
        for _ in range(20):
            known.discard_estimate()
            start = time.process_time()
            known.distribution()
            spent.append(time.process_time() - start)
        print(
            f"  {name:31} {1e6 * (learning - deciding):6.1f}   and {1e6 * deciding:.1f} to decide; "
            f"{1e3 * median(spent):.2f} ms an estimate",
            flush=True,
        )


def short(seed: int) -> None:
    """Print seconds, requests and delays of many short tasks with a fixed number of them in flight."""
    print("tasks with a fixed number in flight; a fresh client, and again with its statistics:")
    for name, family in families.SHORT.items():
        for at_once, tasks in ((64, 1000), (8, 200), (1, 200)):
            stats = DurationStats()
            least = sum(family.durations(tasks, seed)) / at_once
            runs = [closed.run(family, tasks, at_once, seed, stats) for _ in range(2)]
            numbers = " | ".join(
                f"{run.seconds:6.1f} s, {run.requests / tasks:5.3f} requests a task, delay {run.delay:.2f} s"
                for run in runs
            )
            print(
                f"  {name:28}{tasks:5} tasks, {at_once:2} at once, least {least:5.1f} s: {numbers}",
                flush=True,
            )
    print()


def emulate(seed: int) -> None:
    """Print requests, polls, delays and the cost over the optimum on the emulator, over real sockets."""
    name, knob = "log-normal 20, spread 0.3", Poll().delay_per_poll
    print(f"\n{name}, over sockets; the cost counts requests:")
    for pattern, shares in product(emulated.PATTERNS, (True, False)):
        family = FAMILIES[name]
        counted = emulated.count(emulated.PATTERNS[pattern], family, seed, shares_requests=shares)
        tasks, delays = len(counted.lasting), sorted(counted.result.delays)
        spent = knob * counted.requests / tasks + counted.result.mean_delay
        least = sim.optimum(family, counted.lasting, knob).cost(knob)
        print(
            f"  {pattern:24}{'shared' if shares else 'single'}: {counted.requests / tasks:5.2f} requests and "
            f"{counted.result.mean_polls:5.2f} polls a task, delay {counted.result.mean_delay:.2f} s, "
            f"95 %: {delays[int(0.95 * tasks)]:.2f} s, cost / optimum {spent / least:.2f}",
            flush=True,
        )


def main() -> None:
    """Run the parts that the options name."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tasks", type=int, default=600, help="tasks of each schedule to compare")
    parser.add_argument("--seeds", type=int, default=3, help="repetitions of the first tables")
    parser.add_argument("--knob", type=float, action="append", help="of the first table; 0.05, 0.25 and 2")
    parser.add_argument("--unreported", action="store_true", help="durations are known from polls alone")
    parts = ("arrive", "follow", "begin", "shift", "compare", "cost", "short", "emulate")
    parser.add_argument("--only", choices=parts, help="one part")
    options = parser.parse_args()
    seeds = range(1, 1 + options.seeds)
    runs = {
        "arrive": lambda: arrive(options.knob or list(KNOBS), seeds, reports_time=not options.unreported),
        "follow": lambda: follow(options.knob or list(KNOBS), seeds),
        "begin": lambda: begin(range(1, 1 + 10 * options.seeds)),
        "shift": lambda: shift(seeds),
        "compare": lambda: compare(options.tasks, 1),
        "cost": lambda: cost(5 * options.tasks, 1),
        "short": lambda: short(1),
        "emulate": lambda: emulate(1),
    }
    for name in parts:
        if options.only in {None, name}:
            runs[name]()


if __name__ == "__main__":
    main()
