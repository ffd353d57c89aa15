"""`apimart task`: get, wait and save, as text and as JSON."""

from __future__ import annotations

import shlex
import signal
import sys
from typing import TYPE_CHECKING

import pytest

from apimart_async.emulator.faults import Fault

from .gate import Gate

if TYPE_CHECKING:
    from pathlib import Path

    from apimart_async import AsyncApimart, Task
    from apimart_async.emulator import Emulator

    from .conftest import Command


@pytest.fixture
async def task(client: AsyncApimart, photo: Path) -> Task:
    return await client.edits.create(photo, "sunset", n=2)


async def test_get_shows_the_task_and_its_images(apimart: Command, emulator: Emulator, task: Task) -> None:
    emulator.advance(60)
    done = await apimart("task", "get", str(task.id), "task_unknown", str(task.id))

    assert done.code == 1
    first, *images = done.results
    assert first.startswith(f"{task.id} completed $0.03")
    assert [image.startswith(f"  {emulator.base_url}/") for image in images] == [True, True]
    assert "task_unknown" in done.stderr
    assert "Check the id" in done.stderr


async def test_get_with_json_has_every_field(
    apimart: Command, emulator: Emulator, client: AsyncApimart, task: Task, photo: Path
) -> None:
    emulator.faults.add(Fault(kind="task-failed", route="edits"))
    failing = await client.edits.create(photo, "sunset")
    emulator.advance(60)
    done = await apimart("task", "get", str(task.id), str(failing.id), "task_unknown", "--json")

    assert done.code == 1
    completed, failed, unknown = done.records
    assert completed["task_status"] == "completed"
    assert len(completed["images"]) == 2
    assert completed["images"][0]["url"].startswith(emulator.base_url)
    assert completed["images"][0]["expires_at"]
    assert completed["error"] is None
    assert (failed["status"], failed["task_status"]) == ("done", "failed")
    assert failed["error"]["message"]
    assert (unknown["status"], unknown["task_status"]) == ("failed", None)
    assert unknown["error"]["type"] == "NotFoundError"
    assert unknown["error"]["status"] == 404


async def test_wait_then_save_twice(apimart: Command, emulator: Emulator, task: Task) -> None:
    emulator.advance(60)
    waited = await apimart("task", "wait", str(task.id), "--json")
    assert waited.code == 0
    assert waited.records[0]["task_status"] == "completed"
    assert waited.records[0]["paths"] == []

    saved = await apimart("task", "save", str(task.id), "-o", "out")
    downloads = emulator.counts["files"]
    again = await apimart("task", "save", str(task.id), "-o", "out")

    assert (saved.code, again.code) == (0, 0)
    assert [path.partition(".")[0] for path in saved.results] == [f"out/{task.id}-1", f"out/{task.id}-2"]
    assert again.results == saved.results
    assert emulator.counts["files"] == downloads
    assert [seen for seen in emulator.requests if seen.route == "files" and seen.authorization] == []


async def test_a_wait_that_is_too_short_names_the_command_to_continue(
    apimart: Command, emulator: Emulator, photo: Path
) -> None:
    emulator.faults.add(Fault(kind="task-stuck", route="edits", times=1))
    done = await apimart("edit", photo, "-p", "sunset", "-o", "out", "--timeout", "0.01", "--json")

    assert done.code == 1
    (record,) = done.records
    assert record["error"]["type"] == "TaskTimeoutError"
    command = f"apimart task save {record['task_id']}={photo.stem} -o out"
    assert done.stderr.rstrip().endswith(command)
    again = await apimart(*shlex.split(command)[1:], "--timeout", "0.01")
    assert again.code == 1
    assert command in again.stderr


async def test_a_result_that_cannot_be_fetched_is_not_lost(
    apimart: Command, emulator: Emulator, task: Task
) -> None:
    emulator.advance(60)
    emulator.faults.add(Fault(kind="wrong-bytes", route="files"))
    broken = await apimart("task", "save", str(task.id), "-o", "out", "--base-url", emulator.base_url)
    emulator.faults.clear()

    assert broken.code == 1
    assert broken.stdout == ""
    command = broken.stderr.partition("go on with: ")[2]
    done = await apimart(*shlex.split(command)[1:])
    assert done.code == 0
    assert len(done.results) == 2


@pytest.mark.skipif(sys.platform == "win32", reason="signals are those of POSIX")
async def test_two_signals_end_a_wait(apimart: Command, emulator: Emulator, task: Task) -> None:
    async with Gate(emulator, "/tasks", "received") as gate:
        running = await apimart.start("task", "wait", str(task.id), "--base-url", gate.url)
        await gate.holds()
        running.send_signal(signal.SIGINT)
        done = await running.interrupt(signal.SIGTERM)

    assert done.code == 130
    assert done.stderr == "Interrupted: 0 of 1 task completed.\n"
