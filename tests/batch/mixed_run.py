"""Two batches of mixed jobs in a process of its own, one for each service, which may be killed at any moment.

Its argument is JSON: see ``Options``. It writes a line of JSON for each job that ends, and a last one with
the progress of each batch.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import attrs

from apimart_async import AsyncApimart, AsyncAppleRouter, Job, Limits, Poll, Retry, run_many

if TYPE_CHECKING:
    from collections.abc import Iterator

    from apimart_async.batch import Progress

GROK = "grok-imagine-2.0-ext"
RETRY = Retry(initial_delay=0.01, max_delay=0.05)
RETRIES = 8
MODERATED = 17
"""Each job of this number does not pass moderation."""


@attrs.frozen
class Options:
    """The arguments of a run.

    Attributes:
        base_urls: The addresses of both services.
        key: Their API key.
        output: Folder of both batches.
        pictures: Three square pictures with transparency.
        apimart: Number of jobs of the batch with APIMart.
        applerouter: Number of jobs of the batch with AppleRouter.
        in_doubt: Option for jobs in doubt of APIMart; those of AppleRouter are always reported.
    """

    base_urls: list[str]
    key: str
    output: str
    pictures: list[str]
    apimart: int = 240
    applerouter: int = 60
    in_doubt: Literal["report", "collect", "resubmit"] = "report"


def apimart_jobs(pictures: list[Path], count: int) -> Iterator[Job]:
    """Yield jobs of every operation in turn, all of them different."""
    first, second, third = pictures
    for number in range(count):
        prompt = f"{'moderated' if number % MODERATED == 0 else 'stars'} {number}"
        kinds = [
            Job(first, prompt),
            Job(first, prompt, "gpt-image-2", n=2),
            Job([first, second], prompt, GROK, operation="generate", roles=["style", "content"]),
            Job(prompt=prompt, n=3),
            Job(pictures[number % 3], operation="segment", options={"metadata": {"number": number}}),
            Job(first, prompt, operation="region_edit", options={"mask": second}),
            Job(third, prompt, "grok-imagine-1.5-edit-apimart", n=3),
            Job([third, "https://pictures.example/a.png"], prompt, "gpt-image-2.5-flare", n=2),
        ]
        yield attrs.evolve(kinds[number % len(kinds)], id=f"job-{number:03}")


def applerouter_jobs(pictures: list[Path], count: int) -> Iterator[Job]:
    """Yield edits, each with a model of its own: without a key, only that tells them apart in the ledger."""
    first, second, third = pictures
    for number in range(count):
        prompt = f"{'moderated' if number % MODERATED == 0 else 'stars'} {number}"
        gpt, qwen = f"gpt-image-{number:03}", f"qwen-image-edit-{number:03}"
        kinds = [
            Job(first, prompt, gpt),
            Job([first, second], prompt, gpt, n=2, options={"response_format": "b64_json"}),
            Job("https://pictures.example/a.png", prompt, qwen, n=2),
            Job(third, prompt, gpt, n=3, options={"mask": third, "output_format": "webp"}),
        ]
        yield attrs.evolve(kinds[number % len(kinds)], id=f"job-{number:03}")


async def run(options: Options) -> None:
    """Run both batches at once."""
    pictures = [Path(picture) for picture in options.pictures]
    output = Path(options.output)
    limits = Limits(requests=16)
    async with (
        AsyncApimart(
            options.key,
            base_url=options.base_urls,
            poll=Poll(first=0.02, shortest=0.02, longest=0.05),
            max_retries=RETRIES,
            retry=RETRY,
            limits=limits,
        ) as apimart,
        AsyncAppleRouter(
            options.key, base_url=options.base_urls, max_retries=RETRIES, retry=RETRY, limits=limits
        ) as applerouter,
        asyncio.TaskGroup() as group,
    ):
        tasks = [
            group.create_task(
                run_one(
                    apimart,
                    list(apimart_jobs(pictures, options.apimart)),
                    output / "apimart",
                    in_doubt=options.in_doubt,
                    max_in_flight=24,
                )
            ),
            group.create_task(
                run_one(
                    applerouter,
                    list(applerouter_jobs(pictures, options.applerouter)),
                    output / "applerouter",
                    max_in_flight=4,
                )
            ),
        ]
    say(dict(zip(("apimart", "applerouter"), [task.result() for task in tasks], strict=True)))


async def run_one(
    client: AsyncApimart | AsyncAppleRouter, jobs: list[Job], output: Path, **options: Any
) -> dict[str, Any]:
    """Run a batch, and return the last report of its progress."""
    reports: list[Progress] = []
    async with run_many(client, jobs, output=output, on_progress=reports.append, **options) as outcomes:
        async for outcome in outcomes:
            say({"batch": output.name, "id": outcome.id, "status": outcome.status})
    return attrs.asdict(reports[-1])


def say(fact: dict[str, Any]) -> None:
    """Write a line at once."""
    sys.stdout.write(f"{json.dumps(fact)}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(run(Options(**json.loads(sys.argv[1]))))
