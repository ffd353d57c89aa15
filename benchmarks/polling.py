"""Polls against delay: this client, fixed intervals and the schedules of others, simulated and emulated.

Run it with ``python benchmarks/polling.py``; ``--help`` names the options. The simulation takes about two
minutes and no network; the emulated part about one more, on loopback.
"""

# ruff: noqa: T201 (what it measures is what it prints)

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
    """Return the client's settings, with a least spacing that does not hide what the knob does."""
    return Poll(delay_per_poll=cost, shortest=0.25)


def simulate(tasks: int, seeds: range) -> None:
    """Print how the client compares at the mean delay of a fixed interval of 2 s."""
    print(
        f"{'at the mean delay of every 2 s':38}  delay  every 2 s  best possible  ½(∫√(fS))²/D  "
        "this client   / best  / 2 s   if durations are not told"
    )
    ratios: list[float] = []
    for name, family in sim.FAMILIES.items():
        rows: list[list[float]] = []
        for seed in seeds:
            lasting = sim.durations(family, WARM + tasks, seed)
            fixed = sim.follow(sim.PEERS["every 2 s"], lasting[WARM:], seed)
            best = sim.optimum(family, lasting[WARM:], fixed.delay, WARM)
            told, _ = sim.at_delay(lasting, WARM, fixed.delay, seed, tells=True)
            mute, _ = sim.at_delay(lasting, WARM, fixed.delay, seed)
            rows.append([fixed.delay, fixed.polls, best, told.polls, mute.polls])
        delay, fixed_polls, best, told_polls, mute_polls = (
            fmean(column) for column in zip(*rows, strict=True)
        )
        ratios.append(told_polls / fixed_polls)
        print(
            f"{name:38} {delay:6.2f} {fixed_polls:10.2f} {best:14.2f} {sim.bound(family) / delay:14.2f} "
            f"{told_polls:12.2f} {told_polls / best:8.2f} {told_polls / fixed_polls:6.2f} "
            f"{mute_polls:12.2f} {mute_polls / best:6.2f} {mute_polls / fixed_polls:6.2f}",
            flush=True,
        )
    print(f"mean of the last but three column: {fmean(ratios):.2f}\n")


def compare(tasks: int, seed: int) -> None:
    """Print every schedule in every family, and draw some of it."""
    panels: dict[str, tuple[list[sim.Result], dict[str, sim.Result]]] = {}
    for name, family in sim.FAMILIES.items():
        lasting = sim.durations(family, WARM + tasks, seed)
        peers = {label: sim.follow(peer, lasting[WARM:], seed) for label, peer in sim.PEERS.items()}
        curve = [sim.learn(ours(cost), lasting, WARM, seed, tells=True) for cost in KNOB]
        print(f"{name:38}  polls   delay   95 %")
        default = sim.learn(Poll(), lasting, WARM, seed, tells=True)
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
    """Print what learning costs for each poll: the same polls with and without it, the best of three runs."""
    print("CPU of learning, µs for each poll:")
    for name, family in sim.FAMILIES.items():
        lasting = sim.durations(family, tasks, seed)
        learners = [sim.Learner(Poll(), seed, tells=True) for _ in range(3)]
        learning = min(_seconds_a_poll(learner, lasting) for learner in learners)
        taught = sim.Learner(Poll(), seed, experience=learners[0].experience, learns=False)
        deciding = min(_seconds_a_poll(taught, lasting) for _ in range(3))
        print(f"  {name:38} {1e6 * (learning - deciding):5.1f}   and {1e6 * deciding:.1f} to decide")


def emulate(waits: int) -> None:
    """Print what a thousand waits cost in requests."""
    print(f"\n{waits} tasks of 20 s ± 30 % on the emulator:")
    for way, counted in asyncio.run(emulated.count_all(waits, 20.0)).items():
        print(
            f"  {way:16} {counted.requests:6} requests, delay {counted.delay:.2f} s, "
            f"95 %: {counted.late:.2f} s"
        )


def main() -> None:
    """Run what the options ask for."""
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
