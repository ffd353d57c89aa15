"""One process of a fleet with limits: runs jobs of its own with several clients.

python limited_worker.py PHOTO JOURNAL OUTPUT OPTIONS
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from apimart_async import AsyncApimart, BudgetExceededError, Job, Poll, edit_many
from apimart_async.batch.journal.postgres import PostgresJournal


async def main(photo: str, url: str, output: str, options: dict[str, Any]) -> None:
    """Run the clients; the key and the address of the service are in the environment."""

    async def run(number: int) -> None:
        first = options["first"] + number * options["jobs"]
        jobs = [Job(Path(photo), f"A starry sky, {first + job}") for job in range(options["jobs"])]
        journal = PostgresJournal(url, requests_per_second=options.get("rate"))
        async with AsyncApimart(poll=Poll(first=0.2, shortest=0.2, longest=1.0)) as client:
            try:
                async with edit_many(
                    client,
                    jobs,
                    output=f"{output}-{number}",
                    journal=journal,
                    max_in_flight=32,
                    max_cost=options.get("max_cost"),
                ) as outcomes:
                    async for _ in outcomes:
                        pass
            except BudgetExceededError as error:
                sys.stdout.write(f"{error}\n")

    async with asyncio.TaskGroup() as group:
        for number in range(options["clients"]):
            group.create_task(run(number))


if __name__ == "__main__":
    photo, url, output, options = sys.argv[1:]
    asyncio.run(main(photo, url, output, json.loads(options)))
