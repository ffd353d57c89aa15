"""`apimart generate`: from a prompt, and from pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PIL import Image

from apimart_async.emulator.faults import Fault

if TYPE_CHECKING:
    from pathlib import Path

    from apimart_async.emulator import Emulator

    from .conftest import Command

PROMPT = "A lighthouse that nobody else may read about"


async def test_from_a_prompt_alone(apimart: Command, emulator: Emulator) -> None:
    done = await apimart("generate", PROMPT, "-n", "2", "-o", "out")
    assert done.code == 0
    (entry,) = emulator.ledger.entries
    assert (entry.endpoint, entry.model, entry.images) == ("generations", "gemini-3-pro-image-preview", 2)
    assert [path.rpartition(".")[0] for path in done.results] == [
        f"out/{entry.task_id}-1",
        f"out/{entry.task_id}-2",
    ]
    for path in done.results:
        with Image.open(apimart.directory / path) as picture:
            picture.load()
    assert f"submitted as {entry.task_id}" in done.stderr
    assert PROMPT not in done.stdout + done.stderr
    assert emulator.counts["uploads"] == 0


async def test_from_pictures_with_every_option(
    apimart: Command, emulator: Emulator, photos: list[Path]
) -> None:
    pictures: list[str | Path] = [
        "-i",
        photos[0],
        "--image",
        photos[1],
        "-i",
        "https://a.example/b.png",
        "--mask",
        photos[2],
    ]
    options = ["--size", "16:9", "--resolution", "2k", "--quality", "high", "--format", "png"]
    done = await apimart("generate", PROMPT, *pictures, *options, "-m", "another", "--json")
    assert done.code == 0
    (record,) = done.records
    assert set(record) == {"status", "task_id", "paths", "cost", "seconds", "error"}
    assert record["status"] == "done"
    assert record["error"] is None
    assert record["cost"] == emulator.ledger.total
    (path,) = record["paths"]
    assert path == f"generated/{record['task_id']}-1.png"
    assert emulator.ledger.entries[0].model == "another"
    assert emulator.counts["uploads"] == 3


async def test_inline_uploads_nothing(apimart: Command, emulator: Emulator, photo: Path) -> None:
    assert (await apimart("generate", PROMPT, "-i", photo, "--inline")).code == 0
    assert emulator.counts["uploads"] == 0


async def test_a_failure_has_a_next_step(apimart: Command, emulator: Emulator) -> None:
    done = await apimart("generate", "moderated", "--json")
    assert done.code == 1
    (record,) = done.records
    assert (record["status"], record["error"]["type"]) == ("failed", "TaskFailedError")
    assert "Failed tasks are free; change the prompt" in done.stderr

    refused = await apimart("generate", PROMPT, "--size", "enormous")
    assert refused.code == 1
    assert ": size must be" in refused.stderr
    assert "Nothing was billed; correct it and run it again." in refused.stderr

    emulator.faults.add(Fault(kind="task-stuck", route="generations"))
    late = await apimart("generate", PROMPT, "--timeout", "0.01", "-o", "somewhere")
    assert late.code == 1
    assert f"apimart task save {emulator.ledger.entries[-1].task_id} -o somewhere" in late.stderr


async def test_an_interruption_names_the_task(apimart: Command, emulator: Emulator) -> None:
    emulator.faults.add(Fault(kind="task-stuck", route="generations"))
    running = await apimart.start("generate", PROMPT, "-o", "out")
    await running.stderr_until("submitted as")
    done = await running.interrupt()
    assert done.code == 130
    assert f"apimart task save {emulator.ledger.entries[0].task_id} -o out" in done.stderr


async def test_local_needs_no_key(offline: Command) -> None:
    done = await offline("generate", PROMPT, "--local")
    assert done.code == 0
    (path,) = done.results
    with Image.open(offline.directory / path) as picture:
        assert picture.size == (1024, 1024)
