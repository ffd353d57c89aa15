"""Batches with ``--local``: the emulator ends with the command and loses its unfinished tasks.

A mark beside the journal keeps them apart from batches of a real service: a result of the emulator must never
count as saved when the same command is run without ``--local``.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

from apimart_async.cli.signals import UsageError

_MARK: Final = "emulated"


def check_directory_is_for(output: Path, *, local: bool) -> None:
    """Check that a directory holds a batch of the same kind, or none.

    Raises:
        UsageError: The directory holds a batch of the other kind.
    """
    from apimart_async.batch.journal.opening import journal_path

    has_batch, is_local = journal_path(output).exists(), _mark(output).exists()
    if has_batch and is_local and not local:
        raise UsageError(
            f"{output} holds a batch that --local made, with pictures of the emulator: name another "
            "directory with -o, or continue with --local."
        )
    if has_batch and local and not is_local:
        raise UsageError(f"{output} holds a batch of the real service: name another directory for --local.")


def _mark(output: Path) -> Path:
    from apimart_async.batch.journal.opening import journal_path

    return journal_path(output).with_name(_MARK)


def mark(output: Path) -> None:
    """Mark a directory as one of ``--local``."""
    from apimart_async.transport.files.private import create_private_file, make_private_folder

    make_private_folder(_mark(output).parent)
    with suppress(FileExistsError):
        os.close(create_private_file(_mark(output)))


async def drop_lost(output: Path) -> None:
    """Remove the jobs that an emulator has lost, so that they start anew: all neither saved nor failed.

    Raises:
        JournalError: The journal cannot be used.
    """
    from apimart_async.batch.journal.opening import journal_path
    from apimart_async.batch.journal.sqlite import SqliteJournal

    async with SqliteJournal(journal_path(output)) as journal:
        lost = [record.id async for record in journal.records() if record.state not in {"saved", "failed"}]
        for job_id in lost:
            await journal.drop(job_id)
