"""How a client finds the limits of a service: the table of docs/rate-limits.md, simulated in virtual time.

``python -m benchmarks.pacing`` prints each situation with its target, and exits with 1 when one is missed;
``--seeds`` chooses the random numbers, ``--figure`` draws the figure of the page. 256 callers send one
request after another, 64 of them at once. An answer takes 0.2 s ± 20 %, a refusal as well, or ("at once") an
answer takes 0.2 s ± 5 % and a refusal 3 ms. The windows of the service begin at a moment of chance.
"""

# ruff: noqa: T201 (a benchmark prints its results)

from __future__ import annotations

import argparse
import heapq
import sys
from collections import Counter, deque
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from random import Random
from statistics import fmean
from typing import TYPE_CHECKING, Final

import attrs

from apimart_async.emulator.rate_limit import RateLimit, RateLimits
from apimart_async.emulator.responses import ServiceError
from apimart_async.transport.limit_search import LimitSearch

if TYPE_CHECKING:
    from collections.abc import Iterator

FIGURE: Final = Path(__file__).parent.parent / "docs" / "rate-limits.svg"
CALLERS: Final = 256
AT_ONCE: Final = 64
LATENCY: Final = 0.2
AT_ONCE_LATENCY: Final = 0.003
Rules = Sequence[RateLimit]
FREE: Final = AT_ONCE / LATENCY
"""Requests per second of a service without limits."""


@attrs.frozen
class Arrival:
    """Callers that begin at a moment, one request each or one after another."""

    at: float
    callers: int = CALLERS
    repeats: bool = True
    client: int = 0


@attrs.define(eq=False)
class Call:
    """A call that waits, is sent, and is sent again while it is refused."""

    client: int
    caller: int
    repeats: bool
    began: float
    refusals: int = 0


@attrs.frozen
class Answer:
    """An answer of the service: when, to whom, whether accepted, and how long the call waited for it."""

    at: float
    client: int
    caller: int
    accepted: bool
    waited: float


@attrs.frozen
class State:
    """Limits of the first client at a moment."""

    at: float
    state: str
    allowed: float


class Simulation:
    """Clients with a queue each against one service.

    The queue serves first come first served; a place is given when it is due, and a refused call goes to the
    front of the queue after its own backoff or ``Retry-After``.
    """

    def __init__(
        self,
        rules: Rules,
        arrivals: list[Arrival],
        seconds: float,
        seed: int,
        *,
        refuses_at_once: bool = False,
    ) -> None:
        self.answers: list[Answer] = []
        self.states: list[State] = []
        self._service = RateLimits(rules, seed)
        self._random = Random(seed)
        self._phase = self._random.random()
        self.refuses_at_once: bool = refuses_at_once
        clients = 1 + max(arrival.client for arrival in arrivals)
        self._limits = [LimitSearch(AT_ONCE, None, Random(seed * 7 + client)) for client in range(clients)]
        self._queues: list[deque[Call]] = [deque() for _ in range(clients)]
        self._due: list[float | None] = [None] * clients
        self._events: list[tuple[float, int, Callable[[float], None]]] = []
        self._number = 0
        for arrival in arrivals:
            self._at(arrival.at, partial(self._arrive, arrival))
        while self._events and self._events[0][0] < seconds:
            now, _, happen = heapq.heappop(self._events)
            happen(now)

    def _at(self, moment: float, happen: Callable[[float], None]) -> None:
        self._number += 1
        heapq.heappush(self._events, (moment, self._number, happen))

    def _arrive(self, arrival: Arrival, now: float) -> None:
        for caller in range(arrival.callers):
            self._queues[arrival.client].append(Call(arrival.client, caller, arrival.repeats, now))
        self._admit(now, arrival.client)

    def _admit(self, now: float, client: int) -> None:
        limits, queue = self._limits[client], self._queues[client]
        self._due[client] = None
        while queue:
            ready = limits.ready_at(now)
            if ready > now:
                if ready < float("inf"):
                    self._due[client] = ready
                    self._at(ready, lambda now: self._wake(now, client))
                return
            self._send(now, queue.popleft())

    def _wake(self, now: float, client: int) -> None:
        if self._due[client] == now:
            self._admit(now, client)

    def _send(self, now: float, call: Call) -> None:
        self._limits[call.client].sent(now)
        retry_after = None
        try:
            self._service.check(now + self._phase, "account")
        except ServiceError as refusal:
            retry_after = float((refusal.headers or {}).get("Retry-After", 0))
        if not self.refuses_at_once:
            latency = LATENCY * self._random.uniform(0.8, 1.2)
        elif retry_after is None:
            latency = LATENCY * self._random.uniform(0.95, 1.05)
        else:
            latency = AT_ONCE_LATENCY
        self._at(now + latency, lambda at: self._answered(at, now, call, retry_after))

    def _answered(self, now: float, sent_at: float, call: Call, retry_after: float | None) -> None:
        is_refused = retry_after is not None
        limits = self._limits[call.client]
        limits.answered(now, sent_at, is_refused, retry_after or 0.0)
        self.answers.append(Answer(now, call.client, call.caller, not is_refused, now - call.began))
        if call.client == 0:
            allowed = min(limits.concurrency / LATENCY, limits.rate or float("inf"))
            self.states.append(State(now, limits.state, allowed))
        if is_refused:
            call.refusals += 1
            delay = retry_after or self._random.uniform(0.0, min(8.0, 0.5 * 2 ** (call.refusals - 1)))
            self._at(now + delay, lambda now: self._again(now, call))
        else:
            self._service.finished("account")
            if call.repeats:
                self._queues[call.client].append(Call(call.client, call.caller, repeats=True, began=now))
        self._admit(now, call.client)

    def _again(self, now: float, call: Call) -> None:
        self._queues[call.client].appendleft(call)
        self._admit(now, call.client)

    def accepted(self, begins: float = 0.0, ends: float = float("inf")) -> list[Answer]:
        """Return the accepted answers between two moments."""
        return [answer for answer in self.answers if answer.accepted and begins <= answer.at < ends]

    def rate(self, begins: float, ends: float) -> float:
        """Return the accepted answers per second between two moments."""
        return len(self.accepted(begins, ends)) / (ends - begins)

    @property
    def refused(self) -> float:
        """Share of the answers that are refusals."""
        return sum(not answer.accepted for answer in self.answers) / len(self.answers)


@attrs.frozen
class Measure:
    """A figure with its target, as a share or in seconds."""

    name: str
    value: float
    at_least: float | None = None
    at_most: float | None = None
    unit: str = "%"

    def written(self, value: float) -> str:
        """Write a value in the unit."""
        return f"{100 * value:.1f} %" if self.unit == "%" else f"{value:.1f} s"


@attrs.frozen
class Situation:
    """A service, who calls it, and how the result is measured."""

    name: str
    rules: Rules
    measure: Callable[[Simulation], list[Measure]]
    seconds: float = 60.0
    arrivals: tuple[Arrival, ...] = (Arrival(0.0),)

    def run(self, seed: int, *, refuses_at_once: bool = False) -> Simulation:
        """Simulate."""
        return Simulation(
            self.rules, list(self.arrivals), self.seconds, seed, refuses_at_once=refuses_at_once
        )


@attrs.frozen
class Steady:
    """Measures the throughput of a minute as a share of the best, and the refusals."""

    best: float
    at_least: float
    refused: float | None
    best_at_once: float | None = None

    def __call__(self, run: Simulation) -> list[Measure]:
        """Measure."""
        best = (run.refuses_at_once and self.best_at_once) or self.best
        return [
            Measure("of the best", run.rate(0, 60) / best, self.at_least),
            Measure("refused", run.refused, at_most=self.refused),
        ]


def by_share(share: float) -> RateLimit:
    """Return the rule that refuses a share at random."""
    return RateLimit(kind="random", limit=share)


BUCKET: Final = partial(RateLimit, burst=10)
PLACES: Final = partial(RateLimit, kind="concurrency")


def by_chance(share: float, at_least: float) -> Situation:
    """Return the situation of a service that refuses a share at random."""
    target = Steady(FREE * (1 - share), at_least, share + 0.005, FREE)
    return Situation(f"{100 * share:g} % at random", [by_share(share)], target)


def phases(run: Simulation) -> list[Measure]:
    """Measure each phase."""
    targets = ((0, 100, 0.95), (60, 10, 0.9), (120, 100, 0.75))
    shares = [
        Measure(f"at {best} a second", run.rate(at, at + 60) / best, least) for at, best, least in targets
    ]
    return [*shares, Measure("refused", run.refused, at_most=0.12)]


def recovery(run: Simulation) -> list[Measure]:
    """Measure the seconds after an outage until a second with 80 % of the best begins."""
    moments = (30 + step / 4 for step in range(120))
    back = next((at for at in moments if run.rate(at, at + 1) >= 0.8 * FREE), 60.0)
    return [Measure("until 80 % again", back - 30, at_most=10, unit="s")]


def two_clients(run: Simulation) -> list[Measure]:
    """Measure both clients from the moment the second joins, and their shares a minute later."""
    second = sum(answer.client for answer in run.accepted(90)) / len(run.accepted(90))
    return [
        Measure("together", run.rate(30, 150) / 50, 0.95),
        Measure("smaller share", min(second, 1 - second), 0.3),
        Measure("refused", run.refused, at_most=0.05),
    ]


def fairness(run: Simulation) -> list[Measure]:
    """Measure Jain's index of the calls of the callers, and the 99th percentile of their wait."""
    calls = Counter(answer.caller for answer in run.accepted(10)).values()
    jain = sum(calls) ** 2 / (CALLERS * sum(number**2 for number in calls))
    waits = sorted(answer.waited for answer in run.accepted(10))
    ideal = CALLERS / 50
    return [
        Measure("Jain's index", jain, 0.95),
        Measure("p99 of the wait", waits[int(0.99 * len(waits))], at_most=2.5 * ideal, unit="s"),
    ]


BURST: Final = (
    *(Arrival(5.0 * number, 1, repeats=False) for number in range(12)),
    Arrival(61, 200, repeats=False),
)
TWO: Final = (Arrival(0.0, CALLERS // 2), Arrival(30.0, CALLERS // 2, client=1))

ONCE: Final = RateLimit(kind="random", limit=1, times=1, begins=30)
AT_20: Final = Steady(20 / LATENCY, 0.97, 0.01)

SITUATIONS: Final = (
    Situation("50/s bucket", [BUCKET(limit=50)], Steady(50, 0.95, 0.03)),
    Situation("50/s bucket, Retry-After 1", [BUCKET(limit=50, retry_after=1)], Steady(50, 0.87, 0.03)),
    Situation("50 in each second", [RateLimit(kind="fixed-window", limit=50)], Steady(50, 0.92, 0.03)),
    Situation("5/s bucket", [BUCKET(limit=5, burst=2)], Steady(5, 0.9, 0.12)),
    Situation("20 at once", [PLACES(limit=20)], AT_20),
    Situation("20 at once, Retry-After 1", [PLACES(limit=20, retry_after=1)], AT_20),
    by_chance(0.001, 0.97),
    by_chance(0.01, 0.97),
    by_chance(0.05, 0.97),
    by_chance(0.1, 0.95),
    by_chance(0.2, 0.95),
    Situation("50/s and 5 % at random", [by_share(0.05), BUCKET(limit=50)], Steady(50, 0.85, None)),
    Situation("50/s and 20 % at random", [by_share(0.2), BUCKET(limit=50)], Steady(50, 0.85, None)),
    Situation(
        "100/s, 10/s, 100/s",
        [
            BUCKET(limit=100, ends=60),
            BUCKET(limit=10, burst=3, begins=60, ends=120),
            BUCKET(limit=100, begins=120),
        ],
        phases,
        180.0,
    ),
    Situation(
        "one Retry-After: 60",
        [attrs.evolve(ONCE, begins=10, retry_after=60)],
        lambda run: [Measure("of the best", run.rate(10, 70) / FREE, 0.97)],
        70.0,
    ),
    Situation("outage of 20 s", [attrs.evolve(by_share(1), begins=10, ends=30)], recovery, 60.0),
    Situation("two clients at 50/s", [BUCKET(limit=50)], two_clients, 150.0, TWO),
    Situation(
        "one call in 5 s, a 429, then 200",
        [ONCE],
        lambda run: [Measure("burst", run.accepted()[-1].at - 61, at_most=3, unit="s")],
        120.0,
        BURST,
    ),
    Situation("callers at 50/s", [BUCKET(limit=50)], fairness),
)


def rows(situation: Situation, seeds: range, *, refuses_at_once: bool) -> Iterator[tuple[str, bool]]:
    """Write for each measure of a situation: the mean over the seeds, and whether it meets its target."""
    runs = [situation.measure(situation.run(seed, refuses_at_once=refuses_at_once)) for seed in seeds]
    model = "at once" if refuses_at_once else ""
    for same in zip(*runs, strict=True):
        first = same[0]
        mean = fmean(measure.value for measure in same)
        low, high = (first.written(pick(measure.value for measure in same)) for pick in (min, max))
        bound = first.at_least if first.at_most is None else first.at_most
        target = "" if bound is None else f"{'≤' if first.at_least is None else '≥'} {first.written(bound)}"
        is_met = (first.at_least or 0.0) <= mean and (first.at_most is None or mean <= first.at_most)
        verdict = "" if bound is None else "met" if is_met else "MISSED"
        figures = f"{first.written(mean):>9}  {low:>8} … {high:>8}"
        yield f"{situation.name:34}{model:9}{first.name:18}{figures}   {target:10} {verdict}", is_met


SERIES: Final = {"allowed by the client": "#999", "accepted": "#1a7f37", "refused": "#cf222e"}
POINTS: Final = 120


def series(run: Simulation, seconds: float) -> dict[str, list[float]]:
    """Return requests per second over time for each line of the figure."""
    step = seconds / POINTS
    lines = {name: [0.0] * POINTS for name in SERIES}
    for answer in run.answers:
        lines["accepted" if answer.accepted else "refused"][int(answer.at / step)] += 1 / step
    allowed = {int(state.at / step): min(state.allowed, FREE) for state in run.states}
    last = 8 / LATENCY
    for index in range(POINTS):
        last = lines["allowed by the client"][index] = allowed.get(index, last)
    return lines


def panel(situation: Situation, left: int, top: int, width: int, height: int) -> str:
    """Draw one situation."""
    lines = series(situation.run(0), situation.seconds)
    most = 1.25 * max(1.0, *lines["accepted"])
    parts = [
        f'<text x="{left}" y="{top - 8}" font-weight="bold">{situation.name}</text>',
        f'<path d="M{left} {top}v{height}h{width}" fill="none" stroke="#bbb"/>',
        f'<g text-anchor="end"><text x="{left - 4}" y="{top + 8}">{most:.0f}</text>',
        f'<text x="{left - 4}" y="{top + height}">0</text>',
        f'<text x="{left + width}" y="{top + height + 11}">{situation.seconds:.0f} s</text></g>',
    ]
    for name, colour in SERIES.items():
        points = " ".join(
            f"{left + width * index / POINTS:.1f},{top + height - height * min(value, most) / most:.1f}"
            for index, value in enumerate(lines[name])
        )
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}"/>')
    return "\n".join(parts)


def draw(situations: tuple[Situation, ...]) -> str:
    """Draw requests per second over time in each situation."""
    width, height, columns = 300, 130, 3
    size = f"{width * columns} {-(-len(situations) // columns) * height + 26}"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size}"',
        ' font-family="sans-serif" font-size="10">',
        '<rect width="100%" height="100%" fill="#fff"/>',
    ]
    for number, (name, colour) in enumerate(SERIES.items()):
        parts += [
            f'<path d="M{12 + 160 * number} 12h18" stroke="{colour}" stroke-width="2"/>',
            f'<text x="{36 + 160 * number}" y="15">{name}</text>',
        ]
    for number, situation in enumerate(situations):
        left, top = number % columns * width + 34, number // columns * height + 44
        parts.append(panel(situation, left, top, width - 50, height - 48))
    return "\n".join([*parts, "</svg>", ""])


def main() -> None:
    """Read the command line, print the table, and draw the figure if asked."""
    parser = argparse.ArgumentParser(prog="benchmarks.pacing", description=__doc__)
    parser.add_argument("--seeds", type=int, default=5, help="number of seeds (5)")
    parser.add_argument("--first-seed", type=int, default=0, help="the first of them (0)")
    parser.add_argument("--only", default="", help="situations whose name contains this text")
    parser.add_argument(
        "--figure", action="store_true", help=f"draw {FIGURE.name}, without the last, and print no table"
    )
    arguments = parser.parse_args()
    chosen = tuple(situation for situation in SITUATIONS if arguments.only in situation.name)
    if arguments.figure:
        FIGURE.write_text(draw(chosen[:-1]), encoding="utf-8")
        return
    seeds = range(arguments.first_seed, arguments.first_seed + arguments.seeds)
    missed = 0
    for situation in chosen:
        for refuses_at_once in (False, True):
            for text, is_met in rows(situation, seeds, refuses_at_once=refuses_at_once):
                print(text, flush=True)
                missed += not is_met
    sys.exit(missed > 0)


if __name__ == "__main__":
    main()
