"""Measurements of several clients in turns, each in a new process and with its requests checked."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any, Final

import attrs

from benchmarks.child import Measurement, Options
from benchmarks.clients import BASELINE, FIXED, SDK, TWIN
from benchmarks.serving import pin

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from benchmarks.serving import Server
    from benchmarks.work import Workload

LONGEST: Final = 120.0
"""Maximum duration of a measurement in seconds."""

_OWN: Final = {BASELINE, SDK, TWIN, FIXED}
"""Clients whose failure ends the run; another's is its result."""

# glibc maps and unmaps large blocks until the first is freed: without this, equal runs differ by a fifth.
_MALLOC: Final = {
    "MALLOC_MMAP_THRESHOLD_": str(64 * 1024 * 1024),
    "MALLOC_TRIM_THRESHOLD_": str(1024 * 1024 * 1024),
    "MALLOC_ARENA_MAX": "2",
    "PYTHONHASHSEED": "0",
}


@attrs.frozen
class Sample:
    """One measurement, and the load of the server during it.

    Attributes:
        client: Name of the client.
        round: Number of the round, from 0.
        measured: The measurement of the child process.
        server_cpu: Seconds of processor time of the server per operation.
    """

    client: str
    round: int
    measured: Measurement
    server_cpu: float


def alternate(
    server: Server, work: Workload, at_once: int, clients: Sequence[str], *, rounds: int, effort: float
) -> Iterator[Sample]:
    """Measure each client once a round, in ascending and descending order in turn.

    A client that fails, or takes more than ``LONGEST`` seconds, is left out of the further rounds.

    Args:
        server: The server to send requests to.
        work: The workload.
        at_once: Number of concurrent operations.
        clients: Names of the clients; the first is the baseline of all, itself included, as a null control.
        rounds: Number of rounds.
        effort: Factor of the number of operations.

    Raises:
        RuntimeError: A client that must not fail has failed, or the server received other requests than those
            of the workload.
    """
    count = work.count(at_once, effort)
    left = list(clients)
    for number in range(rounds):
        for client in left[:] if number % 2 == 0 else left[::-1]:
            options = Options(client, work.name, at_once, count, server.base_url, tuple(clients), clients[0])
            sample = _sample(server, work, options, number)
            if sample is None:
                left.remove(client)
            else:
                yield sample


def _sample(server: Server, work: Workload, options: Options, number: int) -> Sample | None:
    before = server.take_statistics()
    measured = _measure(options)
    after = server.take_statistics()
    if measured is None:
        return None
    expected = work.requests(measured.total)
    if after.counts != expected:
        raise RuntimeError(f"{options.client} sent {after.counts} instead of {expected}")
    if work.kind in {"upload", "job"} and after.received < measured.total * work.size:
        raise RuntimeError(f"{options.client} did not send whole images")
    return Sample(options.client, number, measured, (after.cpu - before.cpu) / measured.total)


def _measure(options: Options) -> Measurement | None:
    command = [sys.executable, "-m", "benchmarks.child"]
    with subprocess.Popen(  # noqa: S603
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, **_MALLOC}
    ) as process:
        pin(process.pid, last=False)
        try:
            printed, _ = process.communicate(json.dumps(attrs.asdict(options)), timeout=LONGEST)
        except subprocess.TimeoutExpired:
            process.kill()
            return None
        except BaseException:
            process.kill()
            raise
    if process.returncode and options.client not in _OWN:
        return None
    if process.returncode:
        raise RuntimeError(f"{options.client} failed at {options.work}, {options.at_once} at once")
    result: dict[str, Any] = json.loads(printed)
    return Measurement(**result)
