"""The live display on a terminal, and output whose reader goes away."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from apimart_async.emulator.faults import Fault

if TYPE_CHECKING:
    from apimart_async import AsyncApimart
    from apimart_async.emulator import Emulator

    from .conftest import Command

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="terminals are those of POSIX")

CONTROL = re.compile(r"\x1b\[[?0-9;]*[a-zA-Z]")
HIDE, SHOW = "\x1b[?25l", "\x1b[?25h"


async def test_the_display_shows_stages_and_ends_with_a_line_each(
    apimart: Command, emulator: Emulator, client: AsyncApimart, photos: list[Path]
) -> None:
    emulator.faults.add(Fault(kind="task-failed", route="edits", times=1))
    tasks = [await client.edits.create(photo, "sunset") for photo in photos]
    done = await apimart.on_terminal("task", "save", *(str(task.id) for task in tasks), "-o", "out")

    assert done.code == 1
    assert len(done.results) == 2
    assert done.stderr.rfind(HIDE) < done.stderr.rfind(SHOW)
    text = CONTROL.sub("", done.stderr)
    assert "0 of 3" in text
    assert text.count("✓") == 2
    assert len(re.findall(r"✗ task_\w+: Task task_\w+ failed", text)) == 1
    assert "2 of 3 tasks saved, 1 failed" in text


@pytest.mark.parametrize("through_cat", [False, True])
async def test_results_on_the_same_terminal_come_after_the_display(
    apimart: Command, photos: list[Path], *, through_cat: bool
) -> None:
    done = await apimart.on_terminal("upload", *photos, stdout_too=True, through_cat=through_cat)

    assert done.code == 0
    last = [line for line in CONTROL.sub("", done.stderr).splitlines() if line.strip()][-4:]
    assert last[0].startswith("3 images uploaded")
    assert all(line.startswith("http://127.0.0.1") for line in last[1:])
    assert [line.rpartition(".")[2] for line in last[1:]] == [photo.suffix[1:] for photo in photos]


async def test_a_batch_draws_nothing_over_the_lines_of_a_pipe(apimart: Command, photos: list[Path]) -> None:
    done = await apimart.on_terminal(
        "batch", photos[0].parent, "-p", "snow", "-o", "out", stdout_too=True, through_cat=True
    )

    assert not CONTROL.search(done.stderr)
    assert "out/" in done.stderr


@pytest.mark.may_block  # by writing results
async def test_a_reader_that_goes_away_does_not_end_the_work(
    apimart: Command, emulator: Emulator, photos: list[Path]
) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w", encoding="utf-8") as pipe:
        done = await apimart("upload", *photos, stdout=pipe)

    assert done.code == 0
    assert "3 images uploaded" in done.stderr
    assert emulator.counts["uploads"] == 3


@pytest.mark.may_block  # by writing results
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux has a device that is full")
async def test_results_that_cannot_be_written_are_a_failure(apimart: Command, photo: Path) -> None:
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        done = await apimart("upload", photo, stdout=full)

    assert done.code == 1
    assert done.stderr.endswith("apimart: The results cannot be written: No space left on device.\n")
