"""One process of a fleet: runs all jobs, beginning at its own, and writes a line for each outcome.

python worker.py PHOTO JOURNAL OUTPUT JOBS FIRST LEASE
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from apimart_async import AsyncApimart, Job, Poll, edit_many
from apimart_async.batch.journal.postgres import PostgresJournal


async def main(photo: Path, journal: PostgresJournal, output: str, count: int, first: int) -> None:
    """Run the jobs; the key and the address of the service are in the environment."""
    jobs = [Job(photo, f"A starry sky, {(first + number) % count}") for number in range(count)]
    poll = Poll(first=0.2, shortest=0.2, longest=1.0)
    async with (
        AsyncApimart(poll=poll) as client,
        edit_many(client, jobs, output=output, journal=journal, max_in_flight=64) as outcomes,
    ):
        async for outcome in outcomes:
            sys.stdout.write(f"{outcome.status}\n")


if __name__ == "__main__":
    photo, journal, output, count, first, lease = sys.argv[1:]
    asyncio.run(
        main(Path(photo), PostgresJournal(journal, lease=float(lease)), output, int(count), int(first))
    )
