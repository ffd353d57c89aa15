"""A Ray cluster of three nodes on loopback, a PostgreSQL server, and a service that ignores keys."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Self

import pytest

from apimart_async.emulator import Emulator
from tests.fleet.postgres_server import PostgresServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

ACTOR = "ShardActor"


def pytest_sessionstart() -> None:
    """Refuse to run with a network: Ray looks for cloud metadata services, whatever it is told."""
    interfaces = [name for _, name in socket.if_nameindex()]
    if interfaces != ["lo"]:
        raise pytest.UsageError(
            f"These tests need loopback as the only network interface, not {interfaces}: nox -s fleet_ray"
        )


class RayCluster:
    """A head without CPUs, and two nodes of two CPUs.

    Args:
        service: The nodes have its key and its address in their environment.
    """

    def __init__(self, service: Emulator) -> None:
        self.env: dict[str, str] = os.environ | {
            "APIMART_API_KEY": service.api_key,
            "APIMART_BASE_URL": service.base_url,
            "RAY_USAGE_STATS_ENABLED": "0",
            # Nobody else can reach this loopback.
            "RAY_AUTH_MODE": "disabled",
        }
        # Paths of sockets must be short.
        self._folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address: str = f"127.0.0.1:{free.getsockname()[1]}"
        self._nodes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        port = self.address.rpartition(":")[2]
        head = (f"--port={port}", f"--temp-dir={self._folder}", "--include-dashboard=false")
        try:
            self._start("--head", *head, "--num-cpus=0")
            for _ in range(2):
                self.add_node()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for node in reversed(self._nodes):
            self.kill(node)
        shutil.rmtree(self._folder, ignore_errors=True)

    def add_node(self) -> None:
        """Add a node of two CPUs."""
        self._start(f"--address={self.address}", "--num-cpus=2")

    def _start(self, *options: str) -> None:
        with (self._folder / f"node-{len(self._nodes)}.log").open("wb") as log:
            command = [str(Path(sys.executable).with_name("ray")), "start", "--block", *options]
            memory = f"--object-store-memory={100 * 1024 * 1024}"
            node = subprocess.Popen(
                [*command, "--node-ip-address=127.0.0.1", memory, "--disable-usage-stats"],
                env=self.env,
                stdout=log,
                stderr=log,
            )
        self._nodes.append(node)
        while b"Ray runtime started" not in Path(log.name).read_bytes():
            assert node.poll() is None, Path(log.name).read_text()
            time.sleep(0.1)

    def node_with_actor(self) -> subprocess.Popen[bytes]:
        """Return a node that runs an actor of the fleet."""
        return next(node for node in self._nodes[1:] if self.actors(node))

    def actors(self, node: subprocess.Popen[bytes]) -> list[int]:
        """Return the processes of the actors of a node."""
        return [process for process in descendants(node.pid) if ACTOR in command_of(process)]

    def kill(self, node: subprocess.Popen[bytes]) -> None:
        """Kill a node with all its processes."""
        self._nodes.remove(node)
        for process in [*descendants(node.pid), node.pid]:
            kill(process)
        node.wait()


def kill(process: int) -> None:
    """Kill a process, if there is one."""
    with suppress(ProcessLookupError):
        os.kill(process, signal.SIGKILL)


def descendants(process: int) -> list[int]:
    """Return the children of a process, and theirs."""
    found = [process]
    for parent in found:
        for path in Path(f"/proc/{parent}/task").glob("*/children"):
            found += map(int, read(path).split())
    return found[1:]


def command_of(process: int) -> str:
    """Return the command line of a process; Ray writes the name of an actor into it."""
    return read(Path(f"/proc/{process}/cmdline"))


def read(path: Path) -> str:
    """Return the text of a file of a process, which may have ended."""
    try:
        return path.read_text()
    except OSError:
        return ""


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """A running server."""
    with PostgresServer() as running:
        yield running


@pytest.fixture
def url(server: PostgresServer) -> str:
    """The URL of a new database."""
    return server.new_database()


@pytest.fixture(scope="module")
async def service() -> AsyncIterator[Emulator]:
    """A service that ignores keys."""
    async with Emulator(task_seconds=0.2, images="tiny", idempotent_replay=False) as emulator:
        yield emulator


@pytest.fixture(scope="module")
async def cluster(service: Emulator) -> AsyncIterator[RayCluster]:
    """A running cluster."""
    with RayCluster(service) as running:
        yield running
