"""Made-up batches that have ended: a journal with jobs of each kind, and their pictures."""

from __future__ import annotations

import base64
import random
import string
from typing import TYPE_CHECKING

import anyio
import attrs

from apimart_async.batch.journal.opening import journal_path
from apimart_async.batch.journal.record import Failure, Record
from apimart_async.batch.journal.sqlite import SqliteJournal
from apimart_async.models import Task

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)

HOSTILE = "<script>alert(1)</script> </script><!-- & \" ' {{ 7 * 7 }} \u2028 ![x](y)"


def record(number: int, **changes: object) -> Record:
    """Return the record of a job, saved by default."""
    made = Record(
        id=f"job-{number}",
        state="saved",
        payload="x",
        image="/nowhere/photo.jpg",
        prompt="A starry sky",
        model="a-model",
        key=f"key-{number}",
        task=Task(f"task_{number}", "completed"),
        paths=(),
        cost=0.015,
        seconds=20.0,
    )
    return attrs.evolve(made, **changes)  # type: ignore[arg-type]


def write(directory: Path, records: Iterable[Record]) -> Path:
    """Make the output directory of a batch with these jobs."""

    async def put() -> None:
        async with SqliteJournal(journal_path(directory)) as journal, anyio.create_task_group() as group:
            for each in records:
                group.start_soon(journal.put, each)

    directory.mkdir(parents=True, exist_ok=True)
    anyio.run(put)
    return directory


def mixed(directory: Path, count: int) -> list[Record]:
    """Jobs of each kind with pictures, the same for the same count."""
    source = random.Random(count)
    original = directory / "originals" / "a photo.png"
    original.parent.mkdir(parents=True, exist_ok=True)
    original.write_bytes(PNG)
    (directory / "result 1.png").write_bytes(PNG)
    (directory / "result 2.png").write_bytes(PNG)
    kinds = {
        "failed": Failure("TaskFailedError", "The prompt was refused."),
        "in_doubt": Failure("SubmissionIndeterminateError", "The connection broke."),
        "submitted": Failure("TaskTimeoutError", "It has not ended in 600 s."),
    }
    records: list[Record] = []
    for number in range(count):
        state = ("failed", "in_doubt", "submitted")[number // 7 % 3] if number % 7 == 6 else "saved"
        is_saved = state == "saved"
        word = "".join(source.choices(string.ascii_lowercase, k=8))
        records.append(
            record(
                number,
                state=state,
                image=str(original),
                prompt=f"{word} picture {number}",
                paths=("result 1.png", "result 2.png")[: number % 2 + 1] if is_saved else (),
                cost=0.015 if is_saved else None,
                error=kinds.get(state),
                seconds=round(source.lognormvariate(3, 0.4), 3),
            )
        )
    return records
