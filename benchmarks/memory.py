"""The memory of a batch, which must not grow with its jobs: `python benchmarks/memory.py --jobs 1000000`.

The service is a stub in the same process that answers at once, so that all growth is the batch's; the journal
is SQLite's. The exit code is 1 when the peak exceeds the memory before the batch by more than the limit.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import itertools
import resource
import sys
import tempfile
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from apimart_async import AsyncApimart, Image, Job, Task, edit_many

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_WARM_UP: Final = 1000


class Stub:
    """The resources of a client, with a service that answers at once."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)

    async def create(self, *_: object, idempotency_key: str, model: str, **__: object) -> Task:
        """Submit an edit."""
        await asyncio.sleep(0)
        return Task(
            f"task_{next(self._numbers):010}",
            "submitted",
            created_at=datetime.now(UTC),
            idempotency_key=idempotency_key,
            model=model,
        )

    async def check(self, request: object, *, path: str | None) -> None:
        """Check nothing: the models have no schemas."""

    async def wait(self, task: Task, **_: object) -> Task:
        """Wait for a task."""
        await asyncio.sleep(0)
        image = Image(f"https://files.example/{task.id}.png", task_id=task.id, index=1)
        return Task(task.id, "completed", images=(image,), cost=0.015, model=task.model)

    def duration_stats(self) -> dict[str, Any]:
        """Return no statistics."""
        return {}

    def load_duration_stats(self, stats: object) -> None:
        """Ignore the statistics."""

    async def save(self, task: Task, directory: Path, **_: object) -> list[Path]:
        """Save the images of a task."""
        await asyncio.sleep(0)
        return [directory / f"{task.id}-1.png"]


def jobs(count: int) -> Iterator[Job]:
    """Yield jobs that differ."""
    for number in range(count):
        yield Job("https://photos.example/photo.jpg", f"Change the background to starry sky number {number}")


def peak() -> float:
    """Return the peak of the resident memory of this process in MB."""
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used / 1e6 if sys.platform == "darwin" else used / 1024


async def edit(count: int) -> None:
    """Run a batch from its first to its last job."""
    client, stub = AsyncApimart("sk-stub", base_url="https://stub.example"), Stub()
    for name in ("edits", "tasks", "images", "uploads", "models"):
        setattr(client, name, stub)
    with tempfile.TemporaryDirectory() as folder:
        async with edit_many(client, jobs(count), output=folder) as outcomes:
            saved = 0
            async for outcome in outcomes:
                saved += outcome.status == "saved"
    if saved != count:
        raise SystemExit(f"{saved} of {count} jobs were saved")


def main() -> int:
    """Measure, print, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--jobs", type=int, default=1_000_000)
    parser.add_argument("--limit", type=float, default=150.0, help="MB above the baseline")
    options = parser.parse_args()
    asyncio.run(edit(1))  # imports everything that is imported at the first use
    gc.collect()
    baseline = peak()
    asyncio.run(edit(_WARM_UP))
    small = peak()
    began = time.perf_counter()
    asyncio.run(edit(options.jobs))
    seconds = time.perf_counter() - began
    grown = peak() - baseline
    sys.stdout.write(
        f"{options.jobs:,} jobs in {seconds:.0f} s ({options.jobs / seconds:,.0f} a second): baseline "
        f"{baseline:.0f} MB, {_WARM_UP:,} jobs {small - baseline:+.1f} MB, all {grown:+.1f} MB; "
        f"limit {options.limit:+.0f} MB\n"
    )
    return int(grown > options.limit)


if __name__ == "__main__":
    sys.exit(main())
