"""Polls against delay: this client, fixed intervals and the schedules of others, simulated and emulated.

Run it with ``python benchmarks/polling.py``; ``--help`` names the options. The simulation takes about two
minutes and no network; the emulated part about one more, on loopback.
"""

# ruff: noqa: T201 (a benchmark prints its results)

from __future__ import annotations

import argparse
import asyncio
import time
from pathlib import Path
from statistics import fmean

from cadences import emulated, figure
from cadences import simulation as sim

from apimart_async.config import Poll

WARM = 100
SHOWN = ("normal 19 ± 0.95", "log-normal 20, spread 0.3", "bimodal 8 and 45", "log-normal 20, spread 0.9")
KNOB = [0.01 * 2**step for step in range(12)]
FIGURE = Path(__file__).parent.parent / "docs" / "polling.svg"


def ours(cost: float) -> Poll:
    """Return settings of the client whose least spacing does not hide the effect of ``delay_per_poll``."""
    return Poll(delay_per_poll=cost, shortest=0.25)


def simulate(tasks: int, seeds: range) -> None:
    """Print how the client compares at the mean delay of a fixed interval of 2 s."""
    print(
        f"{'at the mean delay of every 2 s':38}  delay  every 2 s        optimum  ½(∫√(fS))²/D  "
        "this client   / best  / 2 s   without reported durations"
    )
    ratios: list[float] = []
    for name, family in sim.FAMILIES.items():
        rows: list[list[float]] = []
        for seed in seeds:
            lasting = sim.durations(family, WARM + tasks, seed)
            fixed = sim.follow(sim.PEERS["every 2 s"], lasting[WARM:], seed)
            best = sim.optimum(family, lasting[WARM:], fixed.delay, WARM)
            reported = sim.at_delay(lasting, WARM, fixed.delay, seed, reports_time=True)
            unreported = sim.at_delay(lasting, WARM, fixed.delay, seed)
            rows.append([fixed.delay, fixed.polls, best, reported.polls, unreported.polls])
        delay, fixed_polls, best, reported_polls, unreported_polls = (
            fmean(column) for column in zip(*rows, strict=True)
        )
        ratios.append(reported_polls / fixed_polls)
        print(
            f"{name:38} {delay:6.2f} {fixed_polls:10.2f} {best:14.2f} {sim.bound(family) / delay:14.2f} "
            f"{reported_polls:12.2f} {reported_polls / best:8.2f} {reported_polls / fixed_polls:6.2f} "
            f"{unreported_polls:12.2f} {unreported_polls / best:6.2f} {unreported_polls / fixed_polls:6.2f}",
            flush=True,
        )
    print(f"mean of the last but three column: {fmean(ratios):.2f}\n")


def compare(tasks: int, seed: int) -> None:
    """Print every schedule in every family, and draw four families."""
    panels: dict[str, tuple[list[sim.Result], dict[str, sim.Result]]] = {}
    for name, family in sim.FAMILIES.items():
        lasting = sim.durations(family, WARM + tasks, seed)
        peers = {label: sim.follow(peer, lasting[WARM:], seed) for label, peer in sim.PEERS.items()}
        curve = [sim.learn(ours(cost), lasting, WARM, seed, reports_time=True) for cost in KNOB]
        print(f"{name:38}  polls   delay   95 %")
        default = sim.learn(Poll(), lasting, WARM, seed, reports_time=True)
        for label, result in {"this client, as it comes": default, **peers}.items():
            better = result.delay <= default.delay and result.polls <= default.polls and result is not default
            remark = "  better on both axes" if better else ""
            print(f"  {label:36} {result.polls:6.2f} {result.delay:7.2f} {result.late:6.2f}{remark}")
        if name in SHOWN:
            panels[name] = curve, peers
    FIGURE.write_text(figure.draw(panels), encoding="utf-8")
    print(f"\nDrawn: {FIGURE}\n")


def _seconds_a_poll(learner: sim.Learner, lasting: list[float]) -> float:
    start = time.process_time()
    polls, _ = learner.follow(lasting)
    return (time.process_time() - start) / sum(polls)


def cost(tasks: int, seed: int) -> None:
    """Print the CPU time of learning for each poll: the same polls with and without it, best of three."""
    print("CPU of learning, µs for each poll:")
    for name, family in sim.FAMILIES.items():
        lasting = sim.durations(family, tasks, seed)
        learners = [sim.Learner(Poll(), seed, reports_time=True) for _ in range(3)]
        learning = min(_seconds_a_poll(learner, lasting) for learner in learners)
        taught = sim.Learner(Poll(), seed, stats=learners[0].stats, learns=False)
        deciding = min(_seconds_a_poll(taught, lasting) for _ in range(3))
        print(f"  {name:38} {1e6 * (learning - deciding):5.1f}   and {1e6 * deciding:.1f} to decide")


def emulate(waits: int) -> None:
    """Print the requests and delays of many waits on the emulator."""
    print(f"\n{waits} tasks of 20 s ± 30 % on the emulator:")
    for way, counted in asyncio.run(emulated.count_all(waits, 20.0)).items():
        print(
            f"  {way:16} {counted.requests:6} requests, delay {counted.delay:.2f} s, "
            f"95 %: {counted.late:.2f} s"
        )


def main() -> None:
    """Run the parts that the options name."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tasks", type=int, default=1000, help="simulated tasks after learning")
    parser.add_argument("--seeds", type=int, default=3, help="repetitions of the first table")
    parser.add_argument("--waits", type=int, default=1000, help="concurrent waits on the emulator")
    parser.add_argument("--only", choices=["simulate", "compare", "cost", "emulate"], help="one part")
    options = parser.parse_args()
    parts = {
        "simulate": lambda: simulate(options.tasks, range(1, 1 + options.seeds)),
        "compare": lambda: compare(options.tasks, 1),
        "cost": lambda: cost(3 * options.tasks, 1),
        "emulate": lambda: emulate(options.waits),
    }
    for name, part in parts.items():
        if options.only in {None, name}:
            part()


if __name__ == "__main__":
    main()
