"""A whole batch beside loops written by hand: `python -m benchmarks.batch`.

Each measurement is a process of its own, and the clients alternate. All images are different. The figures
exclude imports and the creation of the images; those of the command include the start of its process.
"""

# ruff: noqa: T201 (a benchmark prints its results)

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.request import urlopen

import attrs

from apimart_async import AsyncApimart, Poll, edit_many
from apimart_async.batch import Job
from benchmarks.child import MEMORY_FOLDER, memory
from benchmarks.clients import BASELINE, KEY, PROMPT, load
from benchmarks.server import picture
from benchmarks.serving import pin, running

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from benchmarks.clients import AsyncClient, BlockingClient
    from benchmarks.serving import Server

BATCH: Final = "edit_many"
COMMAND: Final = "apimart batch"
CLIENTS: Final = (BASELINE, BATCH, COMMAND, "requests", "openai", "openai, aiohttp")
_POLL_INTERVAL: Final = 1.0
"""Seconds between the polls of the loops by hand, which poll first at once."""


@attrs.frozen
class Options:
    """The options of a measurement.

    Attributes:
        client: Name of the client.
        at_once: Number of concurrent jobs.
        base_url: Base URL of the server.
        photos: Folder of the images.
        output: Folder of the results, empty.
    """

    client: str
    at_once: int
    base_url: str
    photos: str
    output: str


@attrs.frozen
class Measurement:
    """The result of a measurement.

    Attributes:
        cpu: Seconds of processor time, user and system.
        wall: Seconds from start to end.
        extra_rss: Resident memory at the peak, less that after the imports, in bytes; that of the
            command is the whole.
    """

    cpu: float
    wall: float
    extra_rss: int


@attrs.frozen
class Row:
    """The results of one client, as medians over the rounds.

    Attributes:
        client: Name of the client.
        ratio: Processor time divided by that of the baseline in the same round.
        least: The least ratio.
        most: The greatest ratio.
        cpu: Seconds of processor time per job.
        extra_rss: Resident memory at the peak, less that after the imports, in bytes.
        per_second: Jobs per second.
        polls: Poll requests per job.
    """

    client: str
    ratio: float
    least: float
    most: float
    cpu: float
    extra_rss: float
    per_second: float
    polls: float


# --- in the child process -------------------------------------------------------------------------------


async def _edit_many(options: Options, poll: Poll | None = None) -> None:
    jobs = [Job(path, PROMPT) for path in _photos(options)]
    async with (
        AsyncApimart(KEY, base_url=options.base_url, poll=poll or Poll()) as client,
        edit_many(client, jobs, output=options.output, max_in_flight=options.at_once) as outcomes,
    ):
        async for outcome in outcomes:
            if outcome.status != "saved":
                raise RuntimeError(repr(outcome))


async def _by_hand(options: Options, client: AsyncClient) -> None:
    semaphore = asyncio.Semaphore(options.at_once)

    async def do(path: Path) -> None:
        async with semaphore:
            task_id = await client.submit(await client.upload(path))
            while (result := await client.poll(task_id)) is None:  # noqa: ASYNC110 the service has no event
                await asyncio.sleep(_POLL_INTERVAL)
            await client.download(result, Path(options.output))

    async with client:
        await asyncio.gather(*map(do, _photos(options)))


def _in_threads(options: Options, client: BlockingClient) -> None:
    def do(path: Path) -> None:
        task_id = client.submit(client.upload(path))
        while (result := client.poll(task_id)) is None:
            time.sleep(_POLL_INTERVAL)
        client.download(result, Path(options.output))

    with client, ThreadPoolExecutor(options.at_once) as threads:
        list(threads.map(do, _photos(options)))


def _photos(options: Options) -> list[Path]:
    return sorted(Path(options.photos).iterdir())


def _warm_up(options: Options) -> None:
    """Run a batch of one job, so that imports at the first use are not counted."""
    with tempfile.TemporaryDirectory() as folder:
        photos = Path(folder, "photos")
        photos.mkdir()
        photos.joinpath("warm.jpg").write_bytes(picture(1000))
        warm = attrs.evolve(options, photos=str(photos), output=str(Path(folder, "output")))
        asyncio.run(_edit_many(warm, Poll(first=0.1)))
    with urlopen(f"{options.base_url}/v1/counts", timeout=10):  # noqa: S310 our own loopback server
        pass  # reading the counts resets them


def _measure(options: Options) -> Measurement:
    if options.client == BATCH:
        _warm_up(options)
    client = None if options.client == BATCH else load(options.client)(options.base_url, options.at_once)
    gc.collect()
    before = memory("VmRSS")
    cpu, wall = time.process_time(), time.perf_counter()
    if client is None:
        asyncio.run(_edit_many(options))
    elif hasattr(client, "__aenter__"):
        asyncio.run(_by_hand(options, cast("AsyncClient", client)))
    else:
        _in_threads(options, cast("BlockingClient", client))
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    return Measurement(cpu, wall, memory("VmHWM") - before)


# --- in the parent process ------------------------------------------------------------------------------


def measure(
    server: Server, *, jobs: int, size: int, at_once: int, rounds: int, clients: Sequence[str]
) -> list[Row]:
    """Measure each client once a round, in ascending and descending order in turn; the first is the baseline.

    Raises:
        RuntimeError: A client failed, or the server did not receive the requests of all jobs.
    """
    found: dict[str, list[tuple[Measurement, int]]] = {client: [] for client in clients}
    memory_folder = MEMORY_FOLDER if os.access(MEMORY_FOLDER, os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=memory_folder) as folder:
        photos = Path(folder, "photos")
        photos.mkdir()
        content = picture(size)
        for number in range(jobs):
            mark = f"{number:07}"
            photos.joinpath(f"{mark}.jpg").write_bytes(content[:100] + mark.encode() + content[107:])
        for number in range(rounds):
            for client in clients if number % 2 == 0 else clients[::-1]:
                output = Path(folder, "output")
                output.mkdir()
                server.take_statistics()
                options = Options(client, at_once, server.base_url, str(photos), str(output))
                measured = _command(options) if client == COMMAND else _child(options)
                counts = server.take_statistics().counts
                # Requests for schemas and prices, answered with 404, are counted under other names.
                if any(counts.get(kind) != jobs for kind in ("upload", "submit", "download")):
                    raise RuntimeError(f"{client} sent {counts} for {jobs} jobs")
                found[client].append((measured, counts["poll"]))
                shutil.rmtree(output)
    return list(_rows(found, jobs))


def _rows(found: dict[str, list[tuple[Measurement, int]]], jobs: int) -> Iterator[Row]:
    baseline = next(iter(found.values()))
    for client, samples in found.items():
        ratios = [own.cpu / other.cpu for (own, _), (other, _) in zip(samples, baseline, strict=True)]
        yield Row(
            client,
            median(ratios),
            min(ratios),
            max(ratios),
            median(own.cpu for own, _ in samples) / jobs,
            median(own.extra_rss for own, _ in samples),
            jobs / median(own.wall for own, _ in samples),
            median(polls for _, polls in samples) / jobs,
        )


def _child(options: Options) -> Measurement:
    command = [sys.executable, "-m", "benchmarks.batch", "--child"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603
        pin(process.pid, last=False)
        printed, _ = process.communicate(json.dumps(attrs.asdict(options)))
    if process.returncode:
        raise RuntimeError(f"{options.client} failed")
    result: dict[str, Any] = json.loads(printed)
    return Measurement(**result)


def _command(options: Options) -> Measurement:
    """Run the command as a process; its figures include the start of the interpreter and the imports."""
    command = [
        sys.executable,
        "-m",
        "apimart_async",
        "batch",
        options.photos,
        "-p",
        PROMPT,
        "-o",
        options.output,
    ]
    command += ["--in-flight", str(options.at_once), "--base-url", options.base_url]
    began = time.perf_counter()
    with subprocess.Popen(  # noqa: S603
        command, env={**os.environ, "APIMART_API_KEY": KEY}, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as process:
        pin(process.pid, last=False)
        assert process.stderr is not None  # noqa: S101 for the type checker
        messages = process.stderr.read()
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{options.client} failed: {messages[-500:]!r}")
    return Measurement(used.ru_utime + used.ru_stime, time.perf_counter() - began, used.ru_maxrss * 1024)


def table(rows: Sequence[Row]) -> str:
    """Return a table in Markdown."""
    lines = [
        "| client | ratio | least to most | CPU a job, ms | memory, MB | jobs a second | polls a job |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    lines += [
        f"| {row.client} | {row.ratio:.2f} | {row.least:.2f} to {row.most:.2f} | {1e3 * row.cpu:.2f} "
        f"| {row.extra_rss / 1e6:.0f} | {row.per_second:.0f} | {row.polls:.2f} |"
        for row in rows
    ]
    return "\n".join(lines)


def main() -> None:
    """Read the command line, measure and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--size", type=int, default=200_000, help="bytes of an image (200,000)")
    parser.add_argument("--at-once", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=0.0, help="duration of the tasks in seconds (0)")
    parser.add_argument("--spread", type=float, default=0.0, help="share by which durations differ (0)")
    parser.add_argument(
        "--client", action="append", choices=CLIENTS, help="only this client beside aiohttp; may be repeated"
    )
    given = parser.parse_args()
    if given.child:
        options: dict[str, Any] = json.load(sys.stdin)
        print(json.dumps(attrs.asdict(_measure(Options(**options)))))
        return
    clients = tuple(dict.fromkeys((BASELINE, *(given.client or CLIENTS))))
    with running(given.seconds, given.spread) as server:
        rows = measure(
            server,
            jobs=given.jobs,
            size=given.size,
            at_once=given.at_once,
            rounds=given.rounds,
            clients=clients,
        )
    print(table(rows))


if __name__ == "__main__":
    main()
