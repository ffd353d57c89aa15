"""The server in its own process, from outside."""

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
class Account:
    """What the server was asked for since the last account.

    Attributes:
        counts: Requests by what they were for.
        received: Bytes.
        cpu: Seconds of processor time it has used since it started.
    """

    counts: dict[str, int]
    received: int
    cpu: float


@attrs.frozen
class Server:
    """A running server.

    Attributes:
        base_url: Where it listens.
    """

    base_url: str

    def account(self) -> Account:
        """Take the account of what was asked for, and begin a new one."""
        with urlopen(f"{self.base_url}/v1/counts", timeout=10) as answer:  # noqa: S310 our own loopback server
            told: dict[str, Any] = json.load(answer)
        return Account(**told)


@contextmanager
def running(*durations: float) -> Iterator[Server]:
    """Start a server; it ends with the block, and with this process.

    Args:
        durations: Seconds of the tasks and their spread; without, tasks end at their fourth poll.
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
    """Keep a process to the last processor or away from it, where there are two and it can be told."""
    if not hasattr(os, "sched_setaffinity"):
        return
    processors = sorted(os.sched_getaffinity(0))
    if len(processors) > 1:
        os.sched_setaffinity(pid, {processors[-1]} if last else set(processors[:-1]))
