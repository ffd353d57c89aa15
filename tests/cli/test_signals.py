"""SIGINT and SIGTERM, once and twice, at every moment: the command ends and loses nothing it paid for."""

from __future__ import annotations

import os
import shlex
import signal
import sys
from typing import TYPE_CHECKING

import anyio
import pytest

from apimart_async.emulator import Fault

from .gate import Gate, Stage

if TYPE_CHECKING:
    from pathlib import Path

    from apimart_async.emulator import Emulator

    from .conftest import Command, Finished, Running

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals are those of POSIX")

WAITING = "Waiting up to 3 s for the answers to paid requests; Ctrl-C again stops at once."
UPLOAD, SUBMIT, POLL, DOWNLOAD = "/uploads/images", "/images/edits", "/tasks", "/files/results"
TWICE = [signal.SIGINT, signal.SIGINT]
BOTH = [signal.SIGINT, signal.SIGTERM]


def names_all_it_paid_for(done: Finished, emulator: Emulator) -> bool:
    """Tell whether both streams name the task, or the key, of every paid request."""
    return all(
        any(name is not None and name in stream for name in (entry.task_id, entry.idempotency_key))
        for entry in emulator.ledger.entries
        for stream in (done.stdout, done.stderr)
    )


# --- one signal ---------------------------------------------------------------------------------------------


async def test_tasks_are_listed_with_the_command_that_continues(
    apimart: Command, emulator: Emulator, photos: list[Path]
) -> None:
    emulator.faults.add(
        Fault(kind="hang", route="tasks", seconds=3600),
        Fault(kind="hang", route="tasks/batch", seconds=3600),
    )
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
    emulator.faults.clear()
    emulator.advance(60)
    _, *arguments = shlex.split(command)
    continued = await apimart(*arguments)

    assert continued.code == 0
    assert sorted(path.split("/")[0] for path in continued.results) == ["my results"] * 3
    saved = {path.stem for path in (apimart.directory / "my results").iterdir()}
    assert saved == {photo.stem for photo in photos}
    assert len(emulator.ledger.entries) == 3


async def test_a_submit_in_flight_gets_its_answer(apimart: Command, emulator: Emulator, photo: Path) -> None:
    async with Gate(emulator, SUBMIT, "executed") as gate:
        running = await apimart.start("edit", photo, "-p", "sunset", "-o", "out", "--base-url", gate.url)
        await gate.holds()
        running.send_signal(signal.SIGTERM)
        await running.stderr_until(WAITING)
        gate.release()
        done = await running.finish()

    assert done.code == 130
    assert f"apimart task save {emulator.ledger.entries[0].task_id}={photo.stem} -o out" in done.stderr


async def test_a_local_run_has_nothing_to_continue(offline: Command, photo: Path) -> None:
    running = await offline.start("edit", photo, "-p", "sunset", "--local", "-o", "out")
    await running.stderr_until("submitted as")
    done = await running.interrupt(signal.SIGTERM)

    assert done.code == 130
    assert "Interrupted" in done.stderr
    assert "apimart task" not in done.stderr


# --- two signals --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("signals", [BOTH, TWICE], ids=["both", "twice"])
@pytest.mark.parametrize(
    "moment",
    [
        (UPLOAD, "received"),
        (UPLOAD, "answered"),
        (SUBMIT, "received"),
        (SUBMIT, "executed"),
        (SUBMIT, "half answered"),
        (SUBMIT, "answered"),
        (POLL, "received"),
        (DOWNLOAD, "half answered"),
    ],
    ids=" ".join,
)
async def test_at_every_moment_of_an_edit(
    apimart: Command,
    emulator: Emulator,
    photo: Path,
    moment: tuple[str, Stage],
    signals: list[signal.Signals],
) -> None:
    path, stage = moment
    async with Gate(emulator, path, stage) as gate:
        running = await apimart.start(
            "edit", photo, "-p", "sunset", "-o", "out", "--json", "--base-url", gate.url
        )
        await gate.holds()
        running.send_signal(signals[0])
        if path == SUBMIT and stage != "answered" and signals == TWICE:  # the system merges equal signals
            await running.stderr_until(WAITING)
        running.send_signal(signals[1])
        done = await running.finish()

    assert done.code == 130
    assert "Interrupted: 0 of 1 image edited" in done.stderr
    (record,) = done.records
    assert record["status"] == "interrupted"
    assert names_all_it_paid_for(done, emulator)
    if moment in {(SUBMIT, "received"), (SUBMIT, "executed")}:
        key = record["error"]["idempotency_key"]
        assert f"may have been billed; idempotency key {key}" in done.stderr


@pytest.mark.parametrize("signals", [BOTH, TWICE], ids=["both", "twice"])
async def test_when_all_is_done_and_the_command_ends(
    apimart: Command, emulator: Emulator, photo: Path, signals: list[signal.Signals]
) -> None:
    running = await apimart.start("edit", photo, "-p", "sunset", "-o", "out", "--json")
    await running.stderr_until("done in")
    for number in signals:
        running.send_signal(number)
    done = await running.finish()

    assert done.code == 0
    (record,) = done.records
    assert record["status"] == "done"
    assert (apimart.directory / record["paths"][0]).stat().st_size
    assert len(emulator.ledger.entries) == 1


@pytest.mark.long
async def test_at_any_distance_while_submits_are_unanswered(
    apimart: Command, emulator: Emulator, photo: Path
) -> None:
    distances = [0, 0.001, 0.002, 0.004, 0.007, 0.01]  # seconds
    async with Gate(emulator, SUBMIT, "executed") as gate:
        options = ("-p", "sunset", "-o", "out", "--json", "--base-url", gate.url)
        running = [await apimart.start("edit", photo, *options) for _ in distances]
        await gate.holds(len(running))
        for command, distance in zip(running, distances, strict=True):
            command.send_signal(signal.SIGINT)
            await anyio.sleep(distance)
            command.send_signal(signal.SIGTERM)
        finished = [await command.finish() for command in running]

    assert [done.code for done in finished] == [130] * len(distances)
    keys = {entry.idempotency_key for entry in emulator.ledger.entries}
    assert {done.records[0]["error"]["idempotency_key"] for done in finished} == keys
    assert len(keys) == len(distances)


async def test_a_generation_names_its_key(apimart: Command, emulator: Emulator) -> None:
    async with Gate(emulator, "/images/generations", "executed") as gate:
        running = await apimart.start("generate", "sunset", "-o", "out", "--json", "--base-url", gate.url)
        await gate.holds()
        running.send_signal(signal.SIGTERM)
        await running.stderr_until(WAITING)
        done = await running.interrupt()

    assert done.code == 130
    assert names_all_it_paid_for(done, emulator)
    assert len(emulator.ledger.entries) == 1


# --- while modules are imported, and three ------------------------------------------------------------------


@pytest.fixture
def slow_import(apimart: Command) -> SlowImport:
    return SlowImport(apimart)


class SlowImport:
    """Runs an edit that stops at the import of a module, until its stdin is closed."""

    def __init__(self, command: Command) -> None:
        self._command = command

    async def start(self, module: str, photo: Path) -> Running:
        folder = self._command.directory / "modules"
        folder.mkdir()
        (folder / f"{module}.py").write_text(
            f"import sys\n"
            f"sys.stderr.write('importing\\n')\n"
            f"sys.stdin.read()\n"
            f"sys.path.remove({str(folder)!r})\n"
            f"del sys.modules[{module!r}]\n"
            f"import {module}\n"
        )
        path = os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])
        running = await self._command.start("edit", photo, "-p", "x", "-o", "out", PYTHONPATH=path)
        await running.stderr_until("importing\n")
        return running


async def signalled_until_it_ends(running: Running, number: signal.Signals) -> Finished:
    """Send a signal again and again.

    The system merges equal signals that arrive close together, and Python acts on a signal that arrives right
    before a blocking read only after that read, unless another signal interrupts the read.
    """
    done: Finished | None = None
    async with anyio.create_task_group() as group:

        async def finish() -> None:
            nonlocal done
            done = await running.finish()
            group.cancel_scope.cancel()

        group.start_soon(finish)
        while True:
            running.send_signal(number)
            await anyio.sleep(0.02)
    assert done
    return done


async def test_before_the_loop_runs_one_signal_ends_the_process(slow_import: SlowImport, photo: Path) -> None:
    done = await signalled_until_it_ends(await slow_import.start("cyclopts", photo), signal.SIGINT)

    assert done.code == 130
    assert done.stderr.endswith("importing\napimart: Interrupted.\n")


async def test_while_a_module_is_imported_in_the_loop_signals_wait_for_it(
    slow_import: SlowImport, emulator: Emulator, photo: Path
) -> None:
    running = await slow_import.start("aiohttp", photo)
    for number in BOTH:
        running.send_signal(number)
    assert running.process.stdin
    await running.process.stdin.aclose()
    done = await running.finish()

    assert done.code == 130
    assert "Interrupted: 0 of 1 image edited." in done.stderr
    assert emulator.requests == ()


async def test_the_third_signal_ends_a_command_that_hangs(slow_import: SlowImport, photo: Path) -> None:
    running = await slow_import.start("aiohttp", photo)
    running.send_signal(signal.SIGINT)
    done = await signalled_until_it_ends(running, signal.SIGTERM)

    assert done.code == -signal.SIGTERM
