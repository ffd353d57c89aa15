"""A journal that is deleted, moved or replaced while its batch runs."""

from __future__ import annotations

import asyncio
import os
import shutil
from typing import TYPE_CHECKING

import pytest

from apimart_async import AsyncApimart, EventHooks, Job, JournalError, Poll, edit_many
from apimart_async.batch.journal.sqlite_file import Call, JournalFile
from apimart_async.emulator import Emulator

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from apimart_async.hooks import ResponseEvent

PICTURE = "https://pictures.example/a.png"


def replace(path: Path) -> None:
    copy = path.with_suffix(".copy")
    shutil.copy(path, copy)
    copy.replace(path)


@pytest.mark.may_block
@pytest.mark.parametrize(
    "lose",
    [os.unlink, lambda path: path.rename(f"{path}.bak"), replace, lambda path: shutil.rmtree(path.parent)],
    ids=["deleted", "moved", "replaced", "folder deleted"],
)
async def test_a_batch_that_loses_its_journal_submits_nothing_more_and_names_its_tasks(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], lose: Callable[[Path], object]
) -> None:
    def on_response(event: ResponseEvent) -> None:
        if event.request.method == "POST" and event.status == 200:
            lose(tmp_path / ".batch" / "journal.sqlite3")

    jobs = [Job(PICTURE, f"prompt {number}") for number in range(4)]
    async with (
        Emulator(task_seconds=0.01, images="tiny", batch=None) as emulator,
        AsyncApimart(
            emulator.api_key,
            base_url=emulator.base_url,
            poll=Poll(first=0.02),
            event_hooks=EventHooks(on_response=on_response),
        ) as client,
    ):
        statuses: list[str] = []

        async def run() -> None:
            async with edit_many(client, jobs, output=tmp_path, max_in_flight=1) as outcomes:
                async for outcome in outcomes:
                    statuses.append(outcome.status)  # noqa: PERF401 the error would lose them

        with pytest.raises(JournalError, match="deleted, moved or replaced"):
            await run()
    (entry,) = emulator.ledger.entries
    assert statuses == ["saved"]
    assert str(entry.task_id) in capfd.readouterr().err


@pytest.mark.may_block  # it is the thread of the journal
@pytest.mark.parametrize("kind", ["intent", "row"])
async def test_a_journal_that_moves_during_a_commit_fails_its_rows(tmp_path: Path, kind: str) -> None:
    file = JournalFile(tmp_path / "journal.sqlite3")
    connection = file.open()
    try:
        call = Call(
            asyncio.get_running_loop().create_future(),
            lambda _: file.path.rename(tmp_path / "elsewhere"),
            is_intent=kind == "intent",
            is_row=kind == "row",
        )
        file.commit(connection, [call])
        assert isinstance(call.error, JournalError)
    finally:
        connection.close()
        file.locks.close()
