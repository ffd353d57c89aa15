"""One measurement in a process of its own: `python -m benchmarks.child` with its order as JSON on stdin.

Imports everything the run compares, whichever client it measures, because imports change what memory costs.
Warms up, measures the processor time of the work, then does the work once more beside a clock that says how
long the event loop kept others waiting.
"""

from __future__ import annotations

import asyncio
import gc
import json
import resource
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import attrs

from benchmarks.clients import load
from benchmarks.server import POLLS_PER_JOB, RESULT_BYTES, picture
from benchmarks.work import NAMED

if TYPE_CHECKING:
    from benchmarks.clients import AsyncClient, BlockingClient
    from benchmarks.work import Work

_TICK: Final = 0.002


@attrs.frozen
class Order:
    """What to measure.

    Attributes:
        client: By name.
        work: By name.
        at_once: How many at once.
        times: How often the work is measured.
        base_url: Of the server.
        beside: Every client of the run.
    """

    client: str
    work: str
    at_once: int
    times: int
    base_url: str
    beside: tuple[str, ...]


@attrs.frozen
class Measured:
    """What came of it.

    Attributes:
        cpu: Seconds of processor time, user and system, per piece of work.
        wall: Seconds the measured work took in all.
        extra_rss: Bytes of memory at the peak above what there was before the first request.
        lag: Seconds the loop was late, the most of 99 in 100 times; ``None`` of blocking clients.
        longest_lag: The most of all.
        done: How often the work was done, warming up and watching included.
    """

    cpu: float
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
        directory: Where its files lie.
    """

    def __init__(self, work: Work, base_url: str, directory: Path) -> None:
        self._kind = work.kind
        self._url = f"{base_url}/files/{work.size}"
        self._photo = directory / "photo.jpg"
        self._photo.write_bytes(picture(work.size or 1000))
        self._results = directory / "results"
        self._results.mkdir()
        self.done = 0

    async def awaited(self, client: AsyncClient, worker: int) -> None:
        """Do it once."""
        self.done += 1
        if self._kind == "poll":
            await client.poll(f"task_01KA{worker:022}")
        elif self._kind == "upload":
            await client.upload(self._photo)
        elif self._kind == "download":
            await client.download(client.result(self._url, self.done), self._results)
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
            client.download(client.result(self._url, self.done), self._results)
        else:
            task_id = client.submit(client.upload(self._photo))
            result = None
            for _ in range(POLLS_PER_JOB):
                result = client.poll(task_id)
            client.download(result, self._results)

    def check(self) -> None:
        """See that the last files are there and whole, and remove them all."""
        expected = RESULT_BYTES if self._kind == "job" else int(self._url.rpartition("/")[2])
        for path in self._results.iterdir():
            if path.stat().st_size != expected:
                raise RuntimeError(f"{path} is not whole")
            path.unlink()


async def _measure_async(client: AsyncClient, job: Labour, order: Order) -> Measured:
    async def spread(times: int) -> None:
        left = iter(range(times))

        async def work(worker: int) -> None:
            for _ in left:
                await job.awaited(client, worker)

        await asyncio.gather(*(work(worker) for worker in range(order.at_once)))

    async with client:
        before = _memory("VmRSS")
        await spread(max(order.at_once, order.times // 4))
        job.check()
        gc.collect()
        began, used = time.perf_counter(), time.process_time()
        await spread(order.times)
        cpu, wall = time.process_time() - used, time.perf_counter() - began
        extra = _memory("VmHWM") - before
        job.check()
        lags: list[float] = []
        clock = asyncio.create_task(_watch(lags))
        await spread(order.times)
        clock.cancel()
        with suppress(asyncio.CancelledError):
            await clock
    lags.sort()
    late = lags[int(len(lags) * 0.99)]
    return Measured(cpu / order.times, wall, extra, late, lags[-1], job.done)


async def _watch(lags: list[float]) -> None:
    while True:
        due = time.perf_counter() + _TICK
        await asyncio.sleep(_TICK)
        lags.append(time.perf_counter() - due)


def _measure_blocking(client: BlockingClient, job: Labour, order: Order) -> Measured:
    with client, ThreadPoolExecutor(order.at_once) as threads:

        def spread(times: int) -> None:
            left = iter(range(times))

            def work(worker: int) -> None:
                for _ in left:
                    job.blocking(client, worker)

            list(threads.map(work, range(order.at_once)))

        before = _memory("VmRSS")
        spread(max(order.at_once, order.times // 4))
        job.check()
        gc.collect()
        began, used = time.perf_counter(), time.process_time()
        spread(order.times)
        cpu, wall = time.process_time() - used, time.perf_counter() - began
        extra = _memory("VmHWM") - before
        job.check()
    return Measured(cpu / order.times, wall, extra, None, None, job.done)


def _memory(field: str) -> int:
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
    with tempfile.TemporaryDirectory() as directory:
        job = Labour(NAMED[order.work], order.base_url, Path(directory))
        client = makes[order.client](order.base_url, order.at_once)
        if hasattr(client, "__aenter__"):
            measured = asyncio.run(_measure_async(cast("AsyncClient", client), job, order))
        else:
            measured = _measure_blocking(client, job, order)
    print(json.dumps(attrs.asdict(measured)))  # noqa: T201 whoever started it reads it


if __name__ == "__main__":
    main()
