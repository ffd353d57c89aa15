"""What a batch leaves for people and programs: ``results.jsonl``, and outcomes that can be read back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from anyio import to_thread

from apimart_async.batch.journal_file import read_journal
from apimart_async.errors import DownloadError

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

    from apimart_async.batch.job import Outcome
    from apimart_async.batch.journal import Journal

RESULTS: Final = "results.jsonl"

_LINES: Final = 200


def journal_path(output: str | os.PathLike[str]) -> Path:
    """Return where the journal of a batch is by default."""
    return Path(output) / ".batch" / "journal.sqlite3"


def read_outcomes(
    output: str | os.PathLike[str], *, journal: str | os.PathLike[str] | None = None
) -> Iterator[Outcome]:
    """Yield how every job of a batch stands, in the order they were begun; nothing is changed.

    A batch that is running can be read. What it is working on is ``"unfinished"``, or ``"in_doubt"`` from its
    paid request until the answer.

    Args:
        output: Folder of the batch.
        journal: Its journal, when that is elsewhere.

    Raises:
        JournalError: There is no journal, it is damaged or of a newer version.
    """
    directory = Path(output)
    path = journal_path(output) if journal is None else Path(journal)
    return (record.outcome(directory) for record in read_journal(path))


def as_plain(outcome: Outcome, directory: Path) -> dict[str, Any]:
    """Return an outcome as it stands in ``results.jsonl``; paths are relative to the directory."""
    job, task, error = outcome.job, outcome.task, outcome.error
    return {
        "id": outcome.id,
        "status": outcome.status,
        "image": job.image if isinstance(job.image, str) else str(job.image),
        "prompt": job.prompt,
        "model": job.model,
        "n": job.n,
        "name": job.name,
        "options": dict(job.options),
        "task_id": task.id if task else None,
        "paths": [_relative(path, directory) for path in outcome.paths],
        "cost": outcome.cost,
        "seconds": None if outcome.seconds is None else round(outcome.seconds, 3),
        "error": None
        if error is None
        else {
            "type": type(error).__name__,
            "message": getattr(error, "message", str(error)),
            "status": getattr(error, "status", None),
            "code": getattr(error, "code", None),
            "idempotency_key": getattr(error, "idempotency_key", None),
        },
    }


def _relative(path: Path, directory: Path) -> str:
    return (path.relative_to(directory) if path.is_relative_to(directory) else path).as_posix()


def check_directory(directory: Path) -> None:
    """Make the output folder, and find out whether it can be written; blocks.

    Raises:
        DownloadError: It cannot.
    """
    partial = directory / f".{RESULTS}.part"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(b"")
        partial.unlink()
    except OSError as error:
        raise DownloadError(
            f"Nothing can be saved in {directory}: {error.strerror or error}. Nothing was submitted."
        ) from error


async def write_results(journal: Journal, directory: Path) -> Path:
    """Write ``results.jsonl`` anew from the journal: one line for each job, in the order they were begun.

    The file is there whole or as it was before.

    Raises:
        DownloadError: It cannot be written; everything in it is in the journal.
        JournalError: The journal cannot be read.
    """
    path = directory / RESULTS
    partial = directory / f".{RESULTS}.part"
    try:
        await to_thread.run_sync(partial.write_bytes, b"")
        lines: list[str] = []
        async for record in journal.records():
            lines.append(json.dumps(as_plain(record.outcome(directory), directory)))
            if len(lines) >= _LINES:
                await to_thread.run_sync(_append, partial, lines)
                lines = []
        await to_thread.run_sync(_append, partial, lines)
        await to_thread.run_sync(partial.replace, path)
    except OSError as error:
        raise DownloadError(
            f"{path} cannot be written: {error.strerror or error}. What would be in it is in the journal."
        ) from error
    return path


def _append(path: Path, lines: list[str]) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.writelines(f"{line}\n" for line in lines)
