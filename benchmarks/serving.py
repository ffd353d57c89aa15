"""Start the server in a process of its own, and read its statistics."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.request import urlopen

import attrs

if TYPE_CHECKING:
    from collections.abc import Iterator


@attrs.frozen
class Statistics:
    """The statistics of the server since they were last taken.

    Attributes:
        counts: Number of requests by kind.
        received: Bytes received.
        cpu: Seconds of processor time since the start of the server.
    """

    counts: dict[str, int]
    received: int
    cpu: float


@attrs.frozen
class Server:
    """A running server.

    Attributes:
        base_url: Its base URL.
    """

    base_url: str

    def take_statistics(self) -> Statistics:
        """Return the statistics, and reset the counts."""
        with urlopen(f"{self.base_url}/v1/counts", timeout=10) as answer:  # noqa: S310 our own loopback server
            statistics: dict[str, Any] = json.load(answer)
        return Statistics(**statistics)


@contextmanager
def running(*durations: float) -> Iterator[Server]:
    """Start a server, which ends with the block or with this process.

    Args:
        durations: Seconds that tasks take, and the share by which they differ; by default, a task ends at its
            fourth poll.
    """
    command = [sys.executable, "-m", "benchmarks.server", *map(str, durations)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603
        assert process.stdin is not None  # noqa: S101 for the type checker
        assert process.stdout is not None  # noqa: S101 for the type checker
        pin(process.pid, last=True)
        try:
            yield Server(f"http://127.0.0.1:{int(process.stdout.readline())}")
        finally:
            process.stdin.close()


def pin(pid: int, *, last: bool) -> None:
    """Bind a process to the last processor, or to all others, if there are several and the system can."""
    if not hasattr(os, "sched_setaffinity"):
        return
    processors = sorted(os.sched_getaffinity(0))
    if len(processors) > 1:
        os.sched_setaffinity(pid, {processors[-1]} if last else set(processors[:-1]))
