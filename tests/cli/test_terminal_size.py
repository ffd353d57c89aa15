"""The live display on a narrow terminal, on one that is resized, and in a pipe."""

from __future__ import annotations

import fcntl
import os
import re
import struct
import subprocess
import sys
import termios
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

import anyio
import anyio.abc
import attrs
import pytest
from rich.cells import cell_len

from .conftest import MODULE
from .gate import Gate
from .test_terminal import CONTROL

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from apimart_async.emulator import Emulator

    from .conftest import Command

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="terminals are those of POSIX")


@attrs.frozen
class Terminal:
    """The screen of a command on a terminal whose size can be changed."""

    file: int
    process: anyio.abc.Process
    screen: bytearray = attrs.field(factory=bytearray)

    def resize(self, columns: int) -> None:
        set_columns(self.file, columns)
        self.screen.clear()

    async def read_until(self, pattern: str) -> str:
        """Return the text since the last change of the size, as soon as it has a match."""
        while not re.search(pattern, text := CONTROL.sub("", self.screen.decode(errors="ignore"))):
            part = await self._read()
            assert part, text
            self.screen.extend(part)
        return text

    async def read_all(self) -> str:
        while part := await self._read():
            self.screen.extend(part)
        return CONTROL.sub("", self.screen.decode())

    async def _read(self) -> bytes:
        await anyio.wait_readable(self.file)
        with suppress(OSError):  # Linux says so when the last writer has closed the terminal
            return os.read(self.file, 65536)
        return b""


def set_columns(terminal: int, columns: int) -> None:
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))


def widest(text: str) -> int:
    return max(cell_len(line) for line in re.split(r"[\r\n]", text))


@asynccontextmanager
async def started(command: Command, columns: int, *arguments: str | Path) -> AsyncGenerator[Terminal]:
    ours, theirs = os.openpty()
    set_columns(ours, columns)
    environment = command.whole_environment | {"TERM": "xterm-256color"}
    del environment["COLUMNS"]
    process = await anyio.open_process(
        [*MODULE, *map(str, arguments)],
        cwd=command.directory,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=theirs,
    )
    os.close(theirs)
    try:
        yield Terminal(ours, process)
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        os.close(ours)


async def test_pictures_fit_a_narrow_terminal_and_a_resized_one(
    apimart: Command, emulator: Emulator, photos: list[Path]
) -> None:
    command: tuple[str | Path, ...] = ("edit", *photos, "-p", "stars", "-o", "out", "--base-url")
    async with (
        Gate(emulator, "/tasks", "received") as gate,
        started(apimart, 40, *command, gate.url) as terminal,
    ):
        narrow = await terminal.read_until(r"(?s)0 of 3.*submitted.*0 of 3")
        terminal.resize(100)
        wide = await terminal.read_until(r"submitted +\d+\.\d s")
        terminal.resize(40)
        await gate.holds()
        gate.release()
        await terminal.read_all()
        code = await terminal.process.wait()

    assert code == 0
    assert widest(narrow) <= 40
    assert 40 < widest(wide) <= 100


@pytest.mark.long
async def test_a_batch_fits_a_narrow_terminal_and_counts_only_jobs_in_flight(
    apimart: Command, emulator: Emulator, photo: Path
) -> None:
    manifest = apimart.directory / "many.csv"
    rows = [f"{photo},prompt {number}" for number in range(30)]
    manifest.write_text("\n".join(["image,prompt", *rows]) + "\n")
    command = ("batch", manifest, "-o", "out", "--allow-outside", "--in-flight", "4")
    async with (
        Gate(emulator, "/tasks", "received") as gate,
        started(apimart, 40, *command, "--base-url", gate.url) as terminal,
    ):
        await gate.holds()
        await terminal.read_until(r"4 in flight")
        gate.release()
        text = await terminal.read_all()
        code = await terminal.process.wait()

    assert code == 0
    drawn = [line for line in re.split(r"[\r\n]", text) if " of 30 done" in line or "in flight" in line]
    assert max(map(cell_len, drawn)) <= 40
    assert max(int(number) for number in re.findall(r"(\d+) in flight", text)) == 4


@pytest.mark.long  # a line comes every ten seconds
async def test_in_a_pipe_the_progress_is_a_line_now_and_then_without_control_characters(
    apimart: Command, emulator: Emulator, photo: Path
) -> None:
    manifest = apimart.directory / "many.csv"
    rows = [f"{photo},prompt {number}" for number in range(30)]
    manifest.write_text("\n".join(["image,prompt", *rows]) + "\n")
    command = ("batch", manifest, "-o", "out", "--allow-outside", "--in-flight", "4")
    async with Gate(emulator, "/tasks", "received") as gate:
        running = await apimart.start(*command, "--base-url", gate.url)
        await running.stderr_until("0 of 30 done, 4 in flight")
        gate.release()
        done = await running.finish()

    assert done.code == 0
    assert done.stderr.splitlines()[-1].startswith("30 of 30 jobs saved")
    assert all(letter.isprintable() or letter == "\n" for letter in done.stderr)
