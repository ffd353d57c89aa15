"""The command as a user runs it, in this process or one of its own, with an environment of its own."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import anyio
import anyio.to_thread
import attrs
import pytest
from anyio.abc import Process

from apimart_async.cli.app import run

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from apimart_async.emulator import Emulator

KEY = "sk-never-to-be-seen"
SERVICES = ("APIMART", "APPLEROUTER")
OURS = ("APIMART_DEBUG", *(f"{name}_{part}" for name in SERVICES for part in ("API_KEY", "BASE_URL")))
MODULE = (sys.executable, "-W", "error", "-m", "apimart_async")


@attrs.frozen
class Finished:
    """The exit code and the output of a run of the command."""

    code: int | None
    stdout: str
    stderr: str

    @property
    def results(self) -> list[str]:
        return self.stdout.splitlines()

    @property
    def records(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.results]


@attrs.frozen
class Running:
    """A run of the command that has not ended."""

    process: Process
    received: bytearray = attrs.field(factory=bytearray)

    async def stderr_until(self, text: str) -> str:
        """Return stderr up to and including a text."""
        assert self.process.stderr
        while text.encode() not in self.received:
            self.received.extend(await self.process.stderr.receive())
        return self.received.decode()

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal, unless the process has ended.

        ``Process.send_signal`` of asyncio may take the exit code of a process that ends at that moment; the
        code is 255 then.
        """
        with suppress(ProcessLookupError):
            os.kill(self.process.pid, number)

    async def interrupt(self, how: signal.Signals = signal.SIGINT) -> Finished:
        """Press Ctrl-C, and wait for the end."""
        self.send_signal(how)
        return await self.finish()

    async def finish(self) -> Finished:
        assert self.process.stdout
        assert self.process.stderr
        stdout = b"".join([part async for part in self.process.stdout])
        self.received.extend(b"".join([part async for part in self.process.stderr]))
        return checked(Finished(await self.process.wait(), stdout.decode(), self.received.decode()))


@attrs.frozen
class Command:
    """Runs the command in a directory."""

    environment: dict[str, str]
    directory: Path

    @property
    def whole_environment(self) -> dict[str, str]:
        """The environment of a process of its own."""
        return {name: value for name, value in os.environ.items() if name not in OURS} | self.environment

    async def __call__(
        self, *arguments: str | Path, stdout: TextIO | None = None, **environment: str
    ) -> Finished:
        """Run it in a thread of this process, where blocking the loop is an error, too.

        Args:
            arguments: Those of the command.
            stdout: A file that takes its results, instead of ``Finished.stdout``.
            environment: Variables to set.
        """
        results, stderr = io.StringIO(), io.StringIO()
        with (
            pytest.MonkeyPatch.context() as process,
            redirect_stdout(stdout or results),
            redirect_stderr(stderr),
        ):
            process.chdir(self.directory)
            for name in OURS:
                process.delenv(name, raising=False)
            for name, value in (self.environment | environment).items():
                process.setenv(name, value)
            code = await anyio.to_thread.run_sync(run, [str(argument) for argument in arguments])
        return checked(Finished(code, results.getvalue(), stderr.getvalue()))

    async def in_process(self, *arguments: str | Path, **environment: str) -> Finished:
        """Run it in a process of its own, with nothing on stdin."""
        return await self.fed(b"", *arguments, **environment)

    async def fed(self, stdin: bytes, *arguments: str | Path, **environment: str) -> Finished:
        """Run it in a process of its own, with these bytes on stdin."""
        done = await anyio.run_process(
            [*MODULE, *map(str, arguments)],
            cwd=self.directory,
            env=self.whole_environment | environment,
            input=stdin,
            check=False,
        )
        return Finished(done.returncode, done.stdout.decode(), done.stderr.decode())

    async def on_terminal(
        self, *arguments: str | Path, stdout_too: bool = False, through_cat: bool = False
    ) -> Finished:
        """Run it with stderr, and stdout if wanted, on a terminal of 100 columns."""
        command = [*MODULE, *map(str, arguments)]
        if through_cat:
            command = ["sh", "-c", '"$@" | cat', "sh", *command]
        ours, theirs = os.openpty()
        screen, stdout, code = bytearray(), b"", None

        def read_all() -> None:
            with suppress(OSError):  # Linux says so when the last writer has closed the terminal
                while part := os.read(ours, 65536):
                    screen.extend(part)

        async with anyio.create_task_group() as group:
            process = await anyio.open_process(
                command,
                cwd=self.directory,
                env=self.whole_environment | {"TERM": "xterm-256color"},
                stdin=subprocess.DEVNULL,
                stdout=theirs if stdout_too else subprocess.PIPE,
                stderr=theirs,
            )
            os.close(theirs)
            group.start_soon(anyio.to_thread.run_sync, read_all)
            if process.stdout:
                stdout = b"".join([part async for part in process.stdout])
            code = await process.wait()
        os.close(ours)
        return checked(Finished(code, stdout.decode(), screen.decode()))

    async def start(self, *arguments: str | Path, **environment: str) -> Running:
        return Running(
            await anyio.open_process(
                [*MODULE, *map(str, arguments)],
                cwd=self.directory,
                env=self.whole_environment | environment,
            )
        )


def checked(finished: Finished) -> Finished:
    """Check the rules for every run of the command, however it ends."""
    everything = finished.stdout + finished.stderr
    assert KEY not in everything
    assert "Traceback" not in everything
    return finished


@pytest.fixture
def offline(tmp_path: Path) -> Command:
    """The command without a key."""
    return Command({"COLUMNS": "100", "NO_PROXY": "*"}, tmp_path)


@pytest.fixture
async def emulator() -> AsyncIterator[Emulator]:
    """A running emulator whose tasks take moments and whose pictures are small."""
    from apimart_async.emulator import Emulator

    async with Emulator(task_seconds=0.1, api_key=KEY, images="tiny") as running:
        yield running


@pytest.fixture
def apimart(offline: Command, emulator: Emulator) -> Command:
    """The command with a key."""
    keys = {f"{name}_API_KEY": emulator.api_key for name in SERVICES}
    addresses = {f"{name}_BASE_URL": emulator.base_url for name in SERVICES}
    return Command(offline.environment | keys | addresses, offline.directory)


@pytest.fixture
def photos(photographs: dict[str, Path]) -> list[Path]:
    """Three photographs, the smallest of each kind."""
    kinds = {photograph.suffix: photograph for photograph in _by_size(photographs.values())}
    return list(kinds.values())


def _by_size(files: Iterable[Path]) -> list[Path]:
    return sorted(files, key=lambda file: file.stat().st_size, reverse=True)


@pytest.fixture
def photo(photos: list[Path]) -> Path:
    return photos[0]
