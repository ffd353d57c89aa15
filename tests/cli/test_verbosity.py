"""`-v`, `-vv` and `-q`, which every command has, and the access log of the emulator."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING

import anyio
import pytest

from apimart_async.cli.app import take_verbosity
from apimart_async.emulator.faults import Fault

if TYPE_CHECKING:
    from pathlib import Path

    from apimart_async.emulator import Emulator

    from .conftest import Command

PROMPT = "A sunset that nobody else may read about"


@pytest.mark.long
async def test_verbose_logs_tasks_and_twice_requests(apimart: Command, photos: list[Path]) -> None:
    edit = ("edit", photos[0], "-p", PROMPT, "-o", "out")
    once = await apimart.in_process("-v", *edit)
    twice = await apimart.in_process(*edit, "-v", "-v")
    for done in (once, twice):
        assert (done.code, len(done.results)) == (0, 1)
        assert re.search(r"INFO apimart_async\.resources: Task \S+ submitted: ", done.stderr)
        assert PROMPT not in done.stderr
    assert "DEBUG apimart_async" not in once.stderr
    assert re.search(r"DEBUG apimart_async\.transport: POST \S+/v1/images/edits: 200, ", twice.stderr)


async def test_quiet_leaves_only_errors(apimart: Command, emulator: Emulator, photos: list[Path]) -> None:
    good = await apimart("edit", *photos[:2], "-p", PROMPT, "-o", "out", "-q")
    emulator.faults.add(Fault(kind="task-failed", route="edits", times=1))
    bad = await apimart("-q", "edit", photos[0], "-p", PROMPT, "-o", "out")
    assert (good.code, len(good.results), good.stderr) == (0, 2, "")
    assert (bad.code, bad.stderr.count("\n")) == (1, 1)
    assert "Failed tasks are free" in bad.stderr


def test_words_after_a_double_dash_are_no_options() -> None:
    assert take_verbosity(["edit", "-q", "--", "-v", "-q"]) == ["edit", "--", "-v", "-q"]
    assert take_verbosity([]) == []


@pytest.mark.skipif(sys.platform == "win32", reason="signals are those of POSIX")
@pytest.mark.parametrize("option", ["--access-log", "-v"])
async def test_the_emulator_logs_each_request_without_its_query(offline: Command, option: str) -> None:
    running = await offline.start("emulator", "--json", option)
    assert running.process.stdout
    line = (await running.process.stdout.receive()).decode()
    port = int(line.partition("127.0.0.1:")[2].partition('"')[0])
    async with await anyio.connect_tcp("127.0.0.1", port) as connection:
        await connection.send(b"GET /v1/models?secret=1 HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n")
        while b"\r\n\r\n" not in await connection.receive():
            pass
        stderr = await running.stderr_until("apimart_async.emulator.access: ")
    done = await running.interrupt()
    told = done.stderr.partition("emulator.access: ")[2] or stderr.partition("emulator.access: ")[2]
    assert told.startswith("127.0.0.1 GET /v1/models: 401, ")
    assert "secret" not in done.stderr
