"""A batch in a process of its own, which can kill itself at a named point of a job."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from apimart_async import AsyncApimart, Job, Limits, Poll, run_many
from apimart_async.batch import SqliteJournal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from apimart_async import Upload
    from apimart_async.batch import Record


GROK = "grok-imagine-2.0-ext"


class Killer(SqliteJournal):
    """Kills the process right before or right after a row is written."""

    def __init__(self, path: Path, point: str, occurrence: int) -> None:
        super().__init__(path)
        self._point = point
        self._left = occurrence

    def _pass(self, point: str) -> None:
        if point == self._point:
            self._left -= 1
            if not self._left:
                os.kill(os.getpid(), signal.SIGKILL)

    async def begin(self, intent: Record, previous: Record | None) -> bool:
        self._pass("before intent")
        began = await super().begin(intent, previous)
        self._pass("after intent")
        return began

    async def put(self, record: Record) -> None:
        self._pass(f"before {record.state}")
        await super().put(record)
        self._pass(f"after {record.state}")

    async def put_upload(self, key: str, upload: Upload) -> None:
        self._pass("before upload")
        await super().put_upload(key, upload)
        self._pass("after upload")


def jobs(pictures: list[Path], name: str, count: int) -> Iterator[Job]:
    for number in range(count):
        yield Job(pictures[number % len(pictures)], f"{name} {number}", name=f"{name}-{number:04}")


def mixed(pictures: list[Path], name: str, count: int) -> Iterator[Job]:
    """Jobs of every operation in turn."""
    first, second = pictures[:2]
    for number in range(count):
        prompt = f"{name} {number}"
        kinds = [
            Job(first, prompt),
            Job(first, prompt, "gpt-image-2", n=2),
            Job([first, second], prompt, GROK, operation="generate", roles=["style", "content"]),
            Job(prompt=prompt),
            Job(
                pictures[number % len(pictures)],
                operation="segment",
                options={"metadata": {"number": number}},
            ),
            Job(first, prompt, operation="region_edit", options={"mask": second}),
        ]
        yield attrs.evolve(kinds[number % len(kinds)], name=f"{name}-{number:04}")


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("key")
    parser.add_argument("output")
    parser.add_argument("pictures", nargs="+")
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--mixed", action="store_true")
    parser.add_argument("--in-flight", type=int, default=24)
    parser.add_argument("--requests", type=int, default=64)
    parser.add_argument("--point", default="")
    parser.add_argument("--occurrence", type=int, default=1)
    return parser.parse_args(arguments)


async def run(options: argparse.Namespace, begun: Callable[[], object] = lambda: None) -> dict[str, Any]:
    output = Path(options.output)
    journal = Killer(output / ".batch" / "journal.sqlite3", options.point, options.occurrence)
    poll = Poll(first=0.02, shortest=0.02, longest=0.05)
    statuses: Counter[str] = Counter()
    in_doubt: list[str] = []
    limits = Limits(requests=options.requests)
    async with AsyncApimart(options.key, base_url=options.url, poll=poll, limits=limits) as client:
        make = mixed if options.mixed else jobs
        everything = make([Path(picture) for picture in options.pictures], output.name, options.count)
        async with run_many(
            client, everything, output=output, journal=journal, max_in_flight=options.in_flight
        ) as outcomes:
            begun()
            async for outcome in outcomes:
                statuses[outcome.status] += 1
                if outcome.status == "in_doubt":
                    in_doubt.append(outcome.id)
    return {"statuses": statuses, "in_doubt": sorted(in_doubt)}


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    say(json.dumps(asyncio.run(run(parse(sys.argv[1:]), begun=lambda: say("begun")))))
