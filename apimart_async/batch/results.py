"""The output folder of a batch, and ``results.jsonl`` in it: one line for each job, on disk or in a store."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import anyio
from anyio import to_thread

from apimart_async import errors
from apimart_async.transport.files import objects
from apimart_async.transport.files.private import Replacement
from apimart_async.transport.object_storage import ObjectPath

if TYPE_CHECKING:
    from pathlib import Path

    from apimart_async.batch.job import Outcome
    from apimart_async.batch.journal.protocol import Journal

RESULTS: Final = "results.jsonl"
_LINES_AT_ONCE: Final = 200


async def check_output(output: Path) -> None:
    """Create the output folder, and check that it can be written, before any money is spent.

    Raises:
        DownloadError: The folder cannot be written.
    """
    try:
        if isinstance(output, ObjectPath):
            await objects.check_writable(output)
        else:
            await to_thread.run_sync(_check_directory, output)
    except OSError as error:
        raise errors.DownloadError(
            f"Nothing can be saved in {output}: {error.strerror or error}. Nothing was submitted."
        ) from error


def _check_directory(directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    Replacement.begin(directory / RESULTS).discard()


async def write_results(journal: Journal, directory: Path) -> None:
    """Replace ``results.jsonl`` with one line for each job, in the order in which they were started.

    The file is whole at any moment.

    Raises:
        DownloadError: The file cannot be written; its content is in the journal.
        JournalError: The journal cannot be read.
    """
    path = directory / RESULTS
    try:
        if isinstance(path, ObjectPath):
            async with objects.writing(path) as writer:
                async for record in journal.records():
                    line = json.dumps(as_plain(record.outcome(directory), directory)) + "\n"
                    await writer.write(line.encode())
            return
        file = await to_thread.run_sync(Replacement.begin, path)
        try:
            lines: list[str] = []
            async for record in journal.records():
                lines.append(json.dumps(as_plain(record.outcome(directory), directory)) + "\n")
                if len(lines) >= _LINES_AT_ONCE:
                    await to_thread.run_sync(file.write, lines)
                    lines = []
            await to_thread.run_sync(file.write, lines)
            await to_thread.run_sync(file.finish)
        finally:
            with anyio.CancelScope(shield=True):
                await to_thread.run_sync(file.discard)
    except OSError as error:
        raise errors.DownloadError(
            f"{path} cannot be written: {error.strerror or error}. Its content is in the journal."
        ) from error


def as_plain(outcome: Outcome, directory: Path) -> dict[str, Any]:
    """Return an outcome as ``results.jsonl`` has it; paths are relative to the directory."""
    job, task, error = outcome.job, outcome.task, outcome.error
    folder = f"{directory.as_posix().rstrip('/')}/"
    return {
        "id": outcome.id,
        "status": outcome.status,
        "operation": job.operation,
        "image": job.image if job.image is None or isinstance(job.image, str) else str(job.image),
        "prompt": job.prompt,
        "model": job.model,
        "n": job.n,
        "name": job.name,
        "options": dict(job.options),
        "roles": list(job.roles),
        "extra": dict(job.extra),
        "task_id": task.id if task else None,
        "paths": [path.as_posix().removeprefix(folder) for path in outcome.paths],
        "cost": outcome.cost,
        "seconds": None if outcome.seconds is None else round(outcome.seconds, 3),
        "error": None
        if error is None
        else {
            "type": type(error).__name__,
            "message": error.message if isinstance(error, errors.ApimartError) else str(error),
            "status": getattr(error, "status", None),
            "code": getattr(error, "code", None),
            "request_id": getattr(error, "request_id", None),
            "idempotency_key": getattr(error, "idempotency_key", None),
        },
    }
