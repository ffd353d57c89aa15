"""Ctrl-C at every stage: prompt, without a traceback, and nothing that is paid for is lost."""

from __future__ import annotations

import shlex
import signal
import sys
from typing import TYPE_CHECKING

import anyio
import pytest

from apimart_async.emulator.faults import Fault

if TYPE_CHECKING:
    from pathlib import Path

    from apimart_async.emulator import Emulator

    from .conftest import Command

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals are those of POSIX")


async def test_tasks_are_listed_with_the_command_that_goes_on(
    apimart: Command, emulator: Emulator, photos: list[Path]
) -> None:
    running = await apimart.start("edit", *photos, "-p", "sunset", "-o", "my results", "--json")
    for photo in photos:
        await running.stderr_until(f"{photo.name}: submitted as")
    done = await running.interrupt()

    assert done.code == 130
    assert "Interrupted: 0 of 3 images edited" in done.stderr
    ids = [entry.task_id for entry in emulator.ledger.entries]
    assert {record["task_id"] for record in done.records} == set(ids)
    assert {record["status"] for record in done.records} == {"interrupted"}

    (command,) = (line for line in done.stderr.splitlines() if line.startswith("  apimart task save"))
    emulator.advance(60)
    _, *arguments = shlex.split(command)
    continued = await apimart(*arguments)

    assert continued.code == 0
    assert sorted(path.split("/")[0] for path in continued.results) == ["my results"] * 3
    assert len(list((apimart.directory / "my results").iterdir())) == 3
    assert len(emulator.ledger.entries) == 3


async def test_a_submit_under_way_gets_its_answer(apimart: Command, emulator: Emulator, photo: Path) -> None:
    emulator.faults.add(Fault(kind="slow", route="edits", seconds=0.5))
    running = await apimart.start("edit", photo, "-p", "sunset", "-o", "out")
    while not emulator.ledger.entries:  # the answer is on its way from here
        await _moment()
    done = await running.interrupt()

    assert done.code == 130
    assert f"apimart task save {emulator.ledger.entries[0].task_id} -o out" in done.stderr


async def test_a_submit_without_an_answer_names_its_key(
    apimart: Command, emulator: Emulator, photo: Path
) -> None:
    emulator.faults.add(Fault(kind="hang", route="edits", seconds=60, executed=True))
    running = await apimart.start("edit", photo, "-p", "sunset", "-o", "out", "--json")
    while not emulator.ledger.entries:
        await _moment()
    running.process.send_signal(signal.SIGINT)
    done = await running.interrupt(signal.SIGTERM)  # the second one does not wait

    assert done.code == 130
    (record,) = done.records
    key = emulator.ledger.entries[0].idempotency_key
    assert record["status"] == "interrupted"
    assert record["error"]["idempotency_key"] == key
    assert f"may have been billed; idempotency key {key}" in done.stderr


async def test_a_terminated_local_run_has_nothing_to_go_on_with(offline: Command, photo: Path) -> None:
    running = await offline.start("edit", photo, "-p", "sunset", "--local", "-o", "out")
    await running.stderr_until("submitted as")
    done = await running.interrupt(signal.SIGTERM)

    assert done.code == 130
    assert "Interrupted" in done.stderr
    assert "apimart task" not in done.stderr


async def _moment() -> None:
    await anyio.sleep(0.02)
