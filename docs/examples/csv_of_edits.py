"""Edit the rows of a CSV file; run it again after an interruption, and it goes on.

python csv_of_edits.py edits.csv out/
"""

from __future__ import annotations

import asyncio
import csv
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from apimart_async import AsyncApimart, Job, edit_many

if TYPE_CHECKING:
    from collections.abc import Iterator

    from apimart_async.batch import Progress


def jobs(table: Path) -> Iterator[Job]:
    """Yield a job for each row, as the batch asks for it."""
    with table.open(encoding="utf-8-sig", newline="") as file:
        for row in csv.DictReader(file):
            photo = table.parent / row["image"]
            yield Job(
                photo,
                row["prompt"],
                id=row["id"],
                name=row["id"],
                extra={"customer": row["customer"]},
            )


def show(progress: Progress) -> None:
    """Renew a line in the terminal five times a second."""
    print(
        f"\r{progress.saved} saved, {progress.failed} failed, {progress.spent:.2f} USD",
        end="",
        file=sys.stderr,
    )


async def main(table: Path, output: Path) -> int:
    """Edit all rows, and return the number of those that are not saved."""
    problems = 0
    async with (
        AsyncApimart() as client,
        edit_many(
            client,
            jobs(table),
            output=output,
            max_cost=50.0,
            on_progress=show,
        ) as outcomes,
    ):
        async for outcome in outcomes:  # in the order they end
            if outcome.status != "saved":
                problems += 1
                print(f"{outcome.id}: {outcome.status}: {outcome.error}")
    print(f"{problems} rows are not saved. {output / 'results.jsonl'} lists all.")
    return problems


if __name__ == "__main__":
    sys.exit(asyncio.run(main(Path(sys.argv[1]), Path(sys.argv[2]))) > 0)
