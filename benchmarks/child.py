"""One measurement in a process of its own: `python -m benchmarks.child` with its order as JSON on stdin.

Imports everything the run compares, whichever client it measures, because imports change what memory costs.
Warms up, measures memory, does the work once more beside a clock that says how long the event loop kept
others waiting, and then takes turns with the baseline.

Results lie in memory where there is a place for that. On ext4 a new file passes over all that were deleted in
the last minutes, and after some thousand of them that was half of what a download cost, with every client.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import resource
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

import attrs

from benchmarks.clients import load
from benchmarks.server import POLLS_PER_JOB, RESULT_BYTES, picture
from benchmarks.work import NAMED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.clients import AsyncClient, BlockingClient
    from benchmarks.work import Work

_TICK: Final = 0.002
_LONG_ENOUGH: Final = 0.6
"""Seconds on the clock. Who takes longer for what is ordered does less, or the slow would take hours."""

_MOST_TURNS: Final = 10
_FEWEST_TURNS: Final = 4
IN_MEMORY: Final = "/dev/shm"  # noqa: S108 what is made there has a name of its own

AnyClient: TypeAlias = "AsyncClient | BlockingClient"

Spread: TypeAlias = "Callable[[int, list[float] | None], float]"
"""Does the work so many times, notes how late the event loop was, and returns seconds of processor time."""


@attrs.frozen
class Order:
    """What to measure.

    Attributes:
        client: By name.
        work: By name.
        at_once: How many at once.
        times: How often the work is measured, at most.
        base_url: Of the server.
        beside: Every client of the run.
        baseline: What it takes turns with.
    """

    client: str
    work: str
    at_once: int
    times: int
    base_url: str
    beside: tuple[str, ...]
    baseline: str


@attrs.frozen
class Measured:
    """What came of it.

    Attributes:
        cpu: Seconds of processor time, user and system, per piece of work.
        ratio: Of processor time to that of the baseline, in turns within this process.
        times: How often the work was measured.
        wall: Seconds that took in all.
        extra_rss: Bytes of memory at the peak above what there was before the first request.
        lag: Seconds the loop was late, the most of 99 in 100 times; ``None`` of blocking clients.
        longest_lag: The most of all.
        done: How often the work was done, warming up and watching included.
    """

    cpu: float
    ratio: float
    times: int
    wall: float
    extra_rss: int
    lag: float | None
    longest_lag: float | None
    done: int


class Labour:
    """The work of one kind, numbered.

    Args:
        work: Which.
        base_url: Of the server.
        photos: Where the image to be sent lies.
        results: Where results are saved.
    """

    def __init__(self, work: Work, base_url: str, photos: Path, results: Path) -> None:
        self._kind = work.kind
        self._size = RESULT_BYTES if work.kind == "job" else work.size
        self._url = f"{base_url}/files/{work.size}.jpg"
        self._photo = photos / "photo.jpg"
        self._photo.write_bytes(picture(work.size or 1000))
        self._results = results
        self._to_download: Iterator[Any] = iter(())
        self.done = 0

    def prepare(self, client: AnyClient, times: int) -> None:
        """Make what ``download`` takes, which in a job comes with the poll."""
        if self._kind == "download":
            numbers = range(self.done, self.done + times)
            self._to_download = iter([client.result(self._url, number) for number in numbers])

    async def awaited(self, client: AsyncClient, worker: int) -> None:
        """Do it once."""
        self.done += 1
        if self._kind == "poll":
            await client.poll(f"task_01KA{worker:022}")
        elif self._kind == "upload":
            await client.upload(self._photo)
        elif self._kind == "download":
            await client.download(next(self._to_download), self._results)
        else:
            task_id = await client.submit(await client.upload(self._photo))
            result = None
            for _ in range(POLLS_PER_JOB):
                result = await client.poll(task_id)
            await client.download(result, self._results)

    def blocking(self, client: BlockingClient, worker: int) -> None:
        """Do it once."""
        self.done += 1
        if self._kind == "poll":
            client.poll(f"task_01KA{worker:022}")
        elif self._kind == "upload":
            client.upload(self._photo)
        elif self._kind == "download":
            client.download(next(self._to_download), self._results)
        else:
            task_id = client.submit(client.upload(self._photo))
            result = None
            for _ in range(POLLS_PER_JOB):
                result = client.poll(task_id)
            client.download(result, self._results)

    def check(self) -> None:
        """See that the last files are there and whole, and remove them all."""
        for path in self._results.iterdir():
            if path.stat().st_size != self._size:
                raise RuntimeError(f"{path} is not whole")
            path.unlink()


def _measure(client: AnyClient, baseline: AnyClient, job: Labour, order: Order) -> Measured:
    with asyncio.Runner() as runner, _ready(client, job, order, runner) as spread:
        before = memory("VmRSS")
        spread(order.at_once, None)
        times = _affordable(spread, order)
        spread(max(order.at_once, times // 4), None)
        job.check()
        gc.collect()
        began = time.perf_counter()
        cpu = spread(times, None)
        wall = time.perf_counter() - began
        extra = memory("VmHWM") - before
        job.check()
        lags: list[float] = []
        if hasattr(client, "__aenter__"):
            spread(times, lags)
            lags.sort()
            job.check()
        with _ready(baseline, job, order, runner) as rival:
            rival(order.at_once, None)
            ratio = _compare(spread, rival, job, times // order.at_once, order.at_once)
    late = lags[int(len(lags) * 0.99)] if lags else None
    return Measured(cpu / times, ratio, times, wall, extra, late, lags[-1] if lags else None, job.done)


def _affordable(spread: Spread, order: Order) -> int:
    """Return how often the work is done: whole rounds for all that work at once."""
    began = time.perf_counter()
    spread(order.at_once, None)
    round_ = time.perf_counter() - began
    return max(1, min(order.times // order.at_once, int(_LONG_ENOUGH / round_))) * order.at_once


def _compare(spread: Spread, rival: Spread, job: Labour, rounds: int, at_once: int) -> float:
    """Take turns with the baseline, a few milliseconds each: whatever slows the machine slows both."""
    ratios: list[float] = []
    turns = max(_FEWEST_TURNS, min(_MOST_TURNS, rounds))
    times = max(1, round(rounds / turns)) * at_once
    for number in range(turns):
        spent: dict[Spread, float] = {}
        for each in (spread, rival) if number % 2 == 0 else (rival, spread):
            spent[each] = each(times, None)
            job.check()
        ratios.append(spent[spread] / spent[rival])
    return median(ratios)


@contextmanager
def _ready(client: AnyClient, job: Labour, order: Order, runner: asyncio.Runner) -> Iterator[Spread]:
    """Open a client for as long as the block lasts."""
    if not hasattr(client, "__aenter__"):
        blocking = cast("BlockingClient", client)
        with blocking, ThreadPoolExecutor(order.at_once) as threads:

            def spread(times: int, _: list[float] | None) -> float:
                left = iter(range(times))
                job.prepare(blocking, times)
                used = time.process_time()

                def work(worker: int) -> None:
                    for _ in left:
                        job.blocking(blocking, worker)

                list(threads.map(work, range(order.at_once)))
                return time.process_time() - used

            yield spread
        return

    awaited = cast("AsyncClient", client)

    async def spread_async(times: int, lags: list[float] | None) -> float:
        left = iter(range(times))
        job.prepare(awaited, times)
        used = time.process_time()

        async def work(worker: int) -> None:
            for _ in left:
                await job.awaited(awaited, worker)

        clock = None if lags is None else asyncio.create_task(_watch(lags))
        await asyncio.gather(*(work(worker) for worker in range(order.at_once)))
        spent = time.process_time() - used
        if clock is not None:
            clock.cancel()
            with suppress(asyncio.CancelledError):
                await clock
        return spent

    runner.run(_entered(awaited))
    try:
        yield lambda times, lags: runner.run(spread_async(times, lags))
    finally:
        runner.run(_left(awaited))


async def _entered(client: AsyncClient) -> None:
    await client.__aenter__()


async def _left(client: AsyncClient) -> None:
    await client.__aexit__(None, None, None)


async def _watch(lags: list[float]) -> None:
    while True:
        due = time.perf_counter() + _TICK
        await asyncio.sleep(_TICK)
        lags.append(time.perf_counter() - due)


def memory(field: str) -> int:
    """Return resident bytes; the peak that getrusage tells outlives exec, and may be the parent's."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    (line,) = (line for line in status.splitlines() if line.startswith(field))
    return int(line.split()[1]) * 1024


def main() -> None:
    """Do what standard input orders and print what came of it."""
    given: dict[str, Any] = json.load(sys.stdin)
    order = Order(**given)
    makes = {name: load(name) for name in order.beside}
    gc.collect()
    gc.freeze()  # what was imported is the same for all: no collection goes over it again
    place = IN_MEMORY if os.access(IN_MEMORY, os.W_OK) else None
    with tempfile.TemporaryDirectory() as photos, tempfile.TemporaryDirectory(dir=place) as results:
        job = Labour(NAMED[order.work], order.base_url, Path(photos), Path(results))
        client, baseline = (
            makes[name](order.base_url, order.at_once) for name in (order.client, order.baseline)
        )
        measured = _measure(client, baseline, job, order)
    print(json.dumps(attrs.asdict(measured)))  # noqa: T201 whoever started it reads it


if __name__ == "__main__":
    main()
