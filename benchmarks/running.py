"""Measurements in alternation, each in a fresh process, held to what the server saw."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any, Final

import attrs

from benchmarks.child import Measured, Order
from benchmarks.clients import BASELINE, FIXED, SDK, TWIN
from benchmarks.serving import pin

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from benchmarks.serving import Server
    from benchmarks.work import Work

LONGEST: Final = 120.0
"""Seconds a measurement may take."""

_OWN: Final = {BASELINE, SDK, TWIN, FIXED}
"""Clients whose failure ends the run; another's is its result."""

# glibc maps and unmaps large blocks until it has freed one: without this, identical work differs by a fifth.
_MALLOC: Final = {
    "MALLOC_MMAP_THRESHOLD_": str(64 * 1024 * 1024),
    "MALLOC_TRIM_THRESHOLD_": str(1024 * 1024 * 1024),
    "MALLOC_ARENA_MAX": "2",
    "PYTHONHASHSEED": "0",
}


@attrs.frozen
class Sample:
    """One measurement and what the server did meanwhile.

    Attributes:
        client: Who did it.
        round: In which round.
        measured: What its own process tells.
        server_cpu: Seconds of processor time of the server per piece of work.
    """

    client: str
    round: int
    measured: Measured
    server_cpu: float


def alternate(
    server: Server, work: Work, at_once: int, clients: Sequence[str], *, rounds: int, effort: float
) -> Iterator[Sample]:
    """Measure each client once a round, forwards and backwards in turn, but none that fails or takes minutes.

    Args:
        server: To work with.
        work: What is done.
        at_once: How many at once.
        clients: Who does it; the first is what all are compared with, itself included: the null control.
        rounds: How many.
        effort: Times the usual amount of work.
    """
    times = work.times(at_once, effort)
    left = list(clients)
    for number in range(rounds):
        for client in left[:] if number % 2 == 0 else left[::-1]:
            order = Order(client, work.name, at_once, times, server.base_url, tuple(clients), clients[0])
            sample = _sample(server, work, order, number)
            if sample is None:
                left.remove(client)
            else:
                yield sample


def _sample(server: Server, work: Work, order: Order, number: int) -> Sample | None:
    before = server.account()
    measured = _measure(order)
    after = server.account()
    if measured is None:
        return None
    expected = work.requests(measured.done)
    if after.counts != expected:
        raise RuntimeError(f"{order.client} was to send {expected}, but sent {after.counts}")
    if work.kind in {"upload", "job"} and after.received < measured.done * work.size:
        raise RuntimeError(f"{order.client} did not send whole images")
    return Sample(order.client, number, measured, (after.cpu - before.cpu) / measured.done)


def _measure(order: Order) -> Measured | None:
    command = [sys.executable, "-m", "benchmarks.child"]
    with subprocess.Popen(  # noqa: S603
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, **_MALLOC}
    ) as process:
        pin(process.pid, last=False)
        try:
            printed, _ = process.communicate(json.dumps(attrs.asdict(order)), timeout=LONGEST)
        except subprocess.TimeoutExpired:
            process.kill()
            return None
        except BaseException:
            process.kill()
            raise
    if process.returncode and order.client not in _OWN:
        return None
    if process.returncode:
        raise RuntimeError(f"{order.client} failed at {order.work}, {order.at_once} at once")
    told: dict[str, Any] = json.loads(printed)
    return Measured(**told)
