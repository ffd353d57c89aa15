"""One measurement in a process of its own: `python -m benchmarks.child`, with its options as JSON on stdin.

The process imports the modules of all clients of the run, because imports change the use of memory. It warms
up, measures processor time and memory, runs the workload again beside a task that measures the lag of the
event loop, and then alternates with the baseline.

Results are written to memory where possible. On ext4, the creation of a file is slow for minutes after many
were deleted: after some thousand of them, that was half of the cost of a download, with every client.
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
    from benchmarks.work import Workload

_TICK: Final = 0.002
_MAX_SECONDS: Final = 0.6
"""Seconds of one measurement: a slow client runs fewer operations."""

_MAX_TURNS: Final = 10
_MIN_TURNS: Final = 4
MEMORY_FOLDER: Final = "/dev/shm"  # noqa: S108 the folders in it get random names

AnyClient: TypeAlias = "AsyncClient | BlockingClient"

RunOperations: TypeAlias = "Callable[[int, list[float] | None], float]"
"""Runs a number of operations, appends lags of the event loop to a list, and returns seconds of CPU time."""


@attrs.frozen
class Options:
    """The options of a measurement.

    Attributes:
        client: Name of the client.
        work: Name of the workload.
        at_once: Number of concurrent operations.
        count: Maximum number of operations.
        base_url: Base URL of the server.
        imported: Names of all clients of the run.
        baseline: Name of the client that is the baseline.
    """

    client: str
    work: str
    at_once: int
    count: int
    base_url: str
    imported: tuple[str, ...]
    baseline: str


@attrs.frozen
class Measurement:
    """The result of a measurement.

    Attributes:
        cpu: Seconds of processor time, user and system, per operation.
        ratio: Processor time divided by that of the baseline, both alternating within this process.
        count: Number of operations that were measured.
        wall: Seconds that they took together.
        extra_rss: Resident memory at the peak, less that before the first request, in bytes.
        lag: 99th percentile of the lag of the event loop in seconds; ``None`` for blocking clients.
        longest_lag: Longest lag in seconds.
        total: Number of all operations of the client and the baseline, warm-up included.
    """

    cpu: float
    ratio: float
    count: int
    wall: float
    extra_rss: int
    lag: float | None
    longest_lag: float | None
    total: int


class Operations:
    """The operations of a workload, and their number.

    Args:
        work: The workload.
        base_url: Base URL of the server.
        photos: Folder for the image that is uploaded.
        results: Folder for the results.
    """

    def __init__(self, work: Workload, base_url: str, photos: Path, results: Path) -> None:
        self._kind = work.kind
        self._size = RESULT_BYTES if work.kind == "job" else work.size
        self._url = f"{base_url}/files/{work.size}.jpg"
        self._photo = photos / "photo.jpg"
        self._photo.write_bytes(picture(work.size or 1000))
        self._results = results
        self._to_download: Iterator[Any] = iter(())
        self.total = 0

    def prepare(self, client: AnyClient, count: int) -> None:
        """Make the arguments of ``download``, which a job gets from its poll."""
        if self._kind == "download":
            numbers = range(self.total, self.total + count)
            self._to_download = iter([client.result(self._url, number) for number in numbers])

    async def run_async(self, client: AsyncClient, worker: int) -> None:
        """Run one operation with an async client."""
        self.total += 1
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

    def run_blocking(self, client: BlockingClient, worker: int) -> None:
        """Run one operation with a blocking client."""
        self.total += 1
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
        """Check that the last files are whole, and remove all files."""
        for path in self._results.iterdir():
            if path.stat().st_size != self._size:
                raise RuntimeError(f"{path} is not whole")
            path.unlink()


def _measure(client: AnyClient, baseline: AnyClient, operations: Operations, options: Options) -> Measurement:
    with asyncio.Runner() as runner, _opened(client, operations, options, runner) as run:
        before = memory("VmRSS")
        run(options.at_once, None)
        count = _choose_count(run, options)
        run(max(options.at_once, count // 4), None)
        operations.check()
        gc.collect()
        began = time.perf_counter()
        cpu = run(count, None)
        wall = time.perf_counter() - began
        extra = memory("VmHWM") - before
        operations.check()
        lags: list[float] = []
        if hasattr(client, "__aenter__"):
            run(count, lags)
            lags.sort()
            operations.check()
        with _opened(baseline, operations, options, runner) as run_baseline:
            run_baseline(options.at_once, None)
            ratio = _compare(run, run_baseline, operations, count // options.at_once, options.at_once)
    lag = lags[int(len(lags) * 0.99)] if lags else None
    longest_lag = lags[-1] if lags else None
    return Measurement(cpu / count, ratio, count, wall, extra, lag, longest_lag, operations.total)


def _choose_count(run: RunOperations, options: Options) -> int:
    """Return the number of operations to measure: a multiple of the number of concurrent operations."""
    began = time.perf_counter()
    run(options.at_once, None)
    round_ = time.perf_counter() - began
    return max(1, min(options.count // options.at_once, int(_MAX_SECONDS / round_))) * options.at_once


def _compare(
    run: RunOperations, run_baseline: RunOperations, operations: Operations, rounds: int, at_once: int
) -> float:
    """Alternate with the baseline every few milliseconds, so that other load slows both equally."""
    ratios: list[float] = []
    turns = max(_MIN_TURNS, min(_MAX_TURNS, rounds))
    count = max(1, round(rounds / turns)) * at_once
    for number in range(turns):
        spent: dict[RunOperations, float] = {}
        for each in (run, run_baseline) if number % 2 == 0 else (run_baseline, run):
            spent[each] = each(count, None)
            operations.check()
        ratios.append(spent[run] / spent[run_baseline])
    return median(ratios)


@contextmanager
def _opened(
    client: AnyClient, operations: Operations, options: Options, runner: asyncio.Runner
) -> Iterator[RunOperations]:
    """Open a client, and yield a function that runs operations with it."""
    if not hasattr(client, "__aenter__"):
        blocking = cast("BlockingClient", client)
        with blocking, ThreadPoolExecutor(options.at_once) as threads:

            def run(count: int, _: list[float] | None) -> float:
                left = iter(range(count))
                operations.prepare(blocking, count)
                used = time.process_time()

                def work(worker: int) -> None:
                    for _ in left:
                        operations.run_blocking(blocking, worker)

                list(threads.map(work, range(options.at_once)))
                return time.process_time() - used

            yield run
        return

    async_client = cast("AsyncClient", client)

    async def run_async(count: int, lags: list[float] | None) -> float:
        left = iter(range(count))
        operations.prepare(async_client, count)
        used = time.process_time()

        async def work(worker: int) -> None:
            for _ in left:
                await operations.run_async(async_client, worker)

        monitor = None if lags is None else asyncio.create_task(_measure_lag(lags))
        await asyncio.gather(*(work(worker) for worker in range(options.at_once)))
        spent = time.process_time() - used
        if monitor is not None:
            monitor.cancel()
            with suppress(asyncio.CancelledError):
                await monitor
        return spent

    runner.run(_enter(async_client))
    try:
        yield lambda count, lags: runner.run(run_async(count, lags))
    finally:
        runner.run(_exit(async_client))


async def _enter(client: AsyncClient) -> None:
    await client.__aenter__()


async def _exit(client: AsyncClient) -> None:
    await client.__aexit__(None, None, None)


async def _measure_lag(lags: list[float]) -> None:
    """Append the delay of each timer of the event loop."""
    while True:
        due = time.perf_counter() + _TICK
        await asyncio.sleep(_TICK)
        lags.append(time.perf_counter() - due)


def memory(field: str) -> int:
    """Return resident bytes; the peak of getrusage survives exec, and may be that of the parent process."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    (line,) = (line for line in status.splitlines() if line.startswith(field))
    return int(line.split()[1]) * 1024


def main() -> None:
    """Measure as the options on standard input say, and print the result as JSON."""
    given: dict[str, Any] = json.load(sys.stdin)
    options = Options(**given)
    factories = {name: load(name) for name in options.imported}
    gc.collect()
    gc.freeze()  # no collection visits the imported objects, which are the same for all clients
    folder = MEMORY_FOLDER if os.access(MEMORY_FOLDER, os.W_OK) else None
    with tempfile.TemporaryDirectory() as photos, tempfile.TemporaryDirectory(dir=folder) as results:
        operations = Operations(NAMED[options.work], options.base_url, Path(photos), Path(results))
        client, baseline = (
            factories[name](options.base_url, options.at_once) for name in (options.client, options.baseline)
        )
        measurement = _measure(client, baseline, operations, options)
    print(json.dumps(attrs.asdict(measurement)))  # noqa: T201 the parent process reads it


if __name__ == "__main__":
    main()
