"""The rows of ``benchmarks.pacing`` that limit a steady load, over sockets against the emulator.

``python -m benchmarks.pacing_sockets`` runs each for a minute: 256 callers, 64 of them at once, answers
that take 0.2 s. The best is the rate of the limit, or that of the requests at once which it allows, by the
time that an accepted request takes in the same run: a busy machine lowers both.
"""

# ruff: noqa: T201 (a benchmark prints its results)

from __future__ import annotations

import argparse
import asyncio
from collections import Counter
from contextvars import ContextVar
from statistics import fmean
from time import perf_counter

import aiohttp
import attrs

from apimart_async import ApimartError, AsyncApimart, Limits
from apimart_async.emulator import Emulator, Fault, RateLimit
from benchmarks.pacing import AT_ONCE, CALLERS, LATENCY, SITUATIONS, Steady


@attrs.frozen
class Row:
    """A situation with the rate of the best, or the requests at once, and the targets."""

    name: str
    rules: list[RateLimit]
    rate: float | None
    at_once: float
    least: float
    refused: float


def rows() -> list[Row]:
    """Return the situations of one rule, those at once and at random for 503 as well."""
    chosen: list[Row] = []
    for situation in SITUATIONS:
        target, rule = situation.measure, situation.rules[0]
        if len(situation.rules) > 1 or not isinstance(target, Steady) or target.refused is None:
            continue
        least, refused = target.at_least, target.refused
        rate = None if rule.kind in {"random", "concurrency"} else rule.limit
        at_once = rule.limit if rule.kind == "concurrency" else AT_ONCE
        chosen.append(Row(situation.name, [rule], rate, at_once, least, refused))
        if rate is None:
            overload = attrs.evolve(rule, status=503)
            chosen.append(Row(f"{situation.name}, 503", [overload], rate, at_once, least, refused))
    return chosen


async def run(rules: list[RateLimit], seconds: float) -> tuple[Counter[str], float]:
    """Count the accepted and the refused requests, the calls that failed, and measure the accepted."""
    counts: Counter[str] = Counter()
    took: list[float] = []
    began: ContextVar[float] = ContextVar("began")

    async def begin(*_: object) -> None:
        began.set(perf_counter())

    async def count(_: object, __: object, ended: aiohttp.TraceRequestEndParams) -> None:
        counts["accepted" if ended.response.ok else "refused"] += 1

    trace = aiohttp.TraceConfig()
    trace.on_request_start.append(begin)
    trace.on_request_end.append(count)
    slow = Fault(kind="slow", seconds=LATENCY)
    limits = Limits(requests=AT_ONCE)
    async with (
        Emulator(rate_limit=rules, faults=[slow]) as emulator,
        aiohttp.ClientSession(trace_configs=[trace]) as session,
        AsyncApimart(emulator.api_key, base_url=emulator.base_url, limits=limits, session=session) as client,
    ):

        async def call() -> None:
            while True:
                try:
                    await client.account.models()
                    took.append(perf_counter() - began.get())
                except ApimartError:
                    counts["failed"] += 1

        callers = [asyncio.create_task(call()) for _ in range(CALLERS)]
        await asyncio.sleep(seconds)
        for caller in callers:
            caller.cancel()
        await asyncio.gather(*callers, return_exceptions=True)
    return counts, fmean(took)


async def measure(seconds: float, only: str) -> None:
    """Print each row."""
    for row in rows():
        if only not in row.name:
            continue
        counts, took = await run(row.rules, seconds)
        share = counts["accepted"] / seconds / (row.rate or row.at_once / took)
        refused = counts["refused"] / (counts["accepted"] + counts["refused"])
        is_met = share >= row.least and refused <= row.refused
        name = f"{row.name:32}{took:.3f} s   "
        figures = f"{100 * share:.1f} % of the best (≥ {100 * row.least:g})   {100 * refused:.1f} % refused"
        calls = f"(≤ {100 * row.refused:g})   {counts['failed']} calls failed"
        print(f"{name}{figures} {calls}   {'met' if is_met else 'MISSED'}", flush=True)


def main() -> None:
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(prog="benchmarks.pacing_sockets", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="seconds of each run (60)")
    parser.add_argument("--only", default="", help="situations whose name contains this text")
    arguments = parser.parse_args()
    asyncio.run(measure(arguments.seconds, arguments.only))


if __name__ == "__main__":
    main()
