"""Sums of a batch name the jobs of unknown cost, instead of counting them as free."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest
from anyio import to_thread
from PIL import Image

from apimart_async import AsyncApimart, AsyncAppleRouter, Job, Outcome, Task, edit_many
from apimart_async.batch.edit_many import read_outcomes
from apimart_async.batch.progress import Progress
from apimart_async.batch.report.statistics import Totals
from apimart_async.cli.display.messages import batch_facts, batch_summary
from apimart_async.emulator import Emulator

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from apimart_async.batch.job import Status


@pytest.fixture
async def emulator() -> AsyncIterator[Emulator]:
    async with Emulator(task_seconds=0, images="tiny") as running:
        yield running


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "square.png"
    Image.new("RGBA", (32, 32)).save(path)
    return path


async def run(
    client: AsyncApimart | AsyncAppleRouter, jobs: list[Job], output: Path
) -> tuple[list[Outcome], Progress]:
    reports: list[Progress] = []
    async with edit_many(client, jobs, output=output, on_progress=reports.append) as outcomes:
        found = [outcome async for outcome in outcomes]
    return found, reports[-1]


async def test_jobs_of_unknown_cost_are_counted_in_every_run(
    emulator: Emulator, image: Path, tmp_path: Path
) -> None:
    jobs = [Job(image, f"prompt {number}", options={"size": "256x256"}) for number in range(3)]
    jobs.append(Job(image, "moderated"))
    async with AsyncAppleRouter(emulator.api_key, base_url=emulator.base_url) as client:
        for _ in range(2):
            outcomes, progress = await run(client, jobs, tmp_path / "out")
            assert [outcome.cost for outcome in outcomes] == [None] * 4
            assert sorted(outcome.status for outcome in outcomes) == ["failed", *["saved"] * 3]
            assert (progress.saved, progress.spent, progress.unknown_costs) == (3, 0.0, 3)
    totals = Totals()
    for outcome in await to_thread.run_sync(list, read_outcomes(tmp_path / "out")):
        totals.add(outcome)
    assert (totals.unknown_costs, totals.spent, totals.costs_known) == (3, 0.0, False)


async def test_the_model_of_a_batch_without_one_is_not_sent(
    emulator: Emulator, image: Path, tmp_path: Path
) -> None:
    jobs = [
        Job(image, "a red hat"),
        Job(image, "a red hat", model="gpt-image-2", options={"quality": "high"}),
    ]
    async with AsyncAppleRouter(emulator.api_key, base_url=emulator.base_url) as client:
        outcomes, _ = await run(client, jobs, tmp_path / "out")
    assert [outcome.status for outcome in outcomes] == ["saved", "saved"]
    # The emulator edits a request without a model with dall-e-2.
    assert sorted(entry.model for entry in emulator.ledger.entries) == ["dall-e-2", "gpt-image-2"]


async def test_a_batch_edits_images_at_urls_with_a_qwen_model(emulator: Emulator, tmp_path: Path) -> None:
    jobs = [Job("https://example.com/a.webp", "a red bicycle", model="qwen-image-edit-plus", n=2)]
    async with AsyncAppleRouter(emulator.api_key, base_url=emulator.base_url) as client:
        (outcome,), _ = await run(client, jobs, tmp_path / "out")
    assert (outcome.status, len(outcome.paths)) == ("saved", 2)


@pytest.mark.long
async def test_costs_of_apimart_are_known(emulator: Emulator, image: Path, tmp_path: Path) -> None:
    async with AsyncApimart(emulator.api_key, base_url=emulator.base_url) as client:
        _, progress = await run(client, [Job(image, "a red hat")], tmp_path / "out")
    assert progress.spent == pytest.approx(emulator.ledger.total)
    assert progress.unknown_costs == 0


@pytest.mark.parametrize(
    ("status", "task", "cost", "is_unknown"),
    [
        ("saved", None, None, True),
        ("saved", Task("t", "completed"), None, True),
        ("saved", None, 0.0, False),
        ("unfinished", None, None, True),
        ("unfinished", Task("t", "completed"), None, True),
        ("unfinished", Task("t", "processing"), None, False),
        ("failed", None, None, False),
        ("in_doubt", None, None, False),
    ],
)
def test_a_cost_is_unknown_once_the_images_were_made(
    *, status: Status, task: Task | None, cost: float | None, is_unknown: bool
) -> None:
    assert Outcome(Job("a.png", "p"), status, task, cost=cost).has_unknown_cost is is_unknown


@pytest.mark.parametrize(
    ("spent", "unknown", "said"),
    [
        (0.0, 0, ""),
        (0.5, 0, ", $0.50 in all"),
        (0.0, 1, ", the unknown cost of 1 job in all"),
        (0.5, 1200, ", $0.50 and the unknown cost of 1,200 jobs in all"),
    ],
)
def test_the_summary_names_both(tmp_path: Path, spent: float, unknown: int, said: str) -> None:
    progress = Progress(saved=2, spent=spent, unknown_costs=unknown)
    (summary,) = batch_summary(progress, 2, tmp_path, is_interrupted=False)
    assert summary.endswith(f"0.0 s{said}.")
    assert ("unknown" in " ".join(batch_facts(progress))) is bool(unknown)


async def test_an_error_with_an_id_is_no_task_to_wait_for(image: Path, tmp_path: Path) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"--\r\n")
        body = b'{"id": "img_1", "error": {"message": "lost", "type": "server_error"}}'
        head = b"HTTP/1.1 200 OK\r\nX-Request-Id: req_7\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
        writer.write(head % len(body) + body)
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    base_url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server, AsyncAppleRouter("sk-test", base_url=base_url) as client:
        (outcome,), _ = await run(client, [Job(image, "a red hat", "another")], tmp_path / "out")
    assert outcome.status == "in_doubt"
    (line,) = (tmp_path / "out" / "results.jsonl").read_text().splitlines()
    assert json.loads(line)["error"]["request_id"] == "req_7"
