"""A batch of jobs of every operation: which request each becomes, its identity, its cost and its row."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

import anyio.to_thread
import attrs
import pytest

from apimart_async import (
    AsyncApimart,
    AsyncAppleRouter,
    BudgetExceededError,
    ImageError,
    InvalidArgumentError,
    Job,
    Outcome,
    edit_many,
    run_many,
)
from apimart_async.batch import Record, read_outcomes
from apimart_async.batch.report.rows import row_of
from apimart_async.batch.requests import APIMART_MODELS, APPLEROUTER_MODELS, check_job, payload_digest
from apimart_async.resources.submission import max_n, submit_path

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from apimart_async.emulator import Emulator

GROK_2, GPT, GEMINI = "grok-imagine-2.0-ext", "gpt-image-2", "gemini-3-pro-image-preview"
EDIT = "grok-imagine-1.0-edit-apimart"
URL = "https://pictures.example/a.png"


async def run(
    client: AsyncApimart | AsyncAppleRouter, jobs: Iterable[Job], output: Path, **options: Any
) -> list[Outcome]:
    async with run_many(client, jobs, output=output, **options) as outcomes:
        return [outcome async for outcome in outcomes]


async def test_each_operation_reaches_its_endpoint_and_the_ledger_agrees(
    client: AsyncApimart, emulator: Emulator, pictures: list[Path], tmp_path: Path
) -> None:
    red, green, _ = pictures
    jobs = [
        Job(red, "Add snow", id="edit"),
        Job(red, "Add snow", GPT, n=2, id="edit elsewhere"),
        Job([red, green], "Combine", GEMINI, operation="generate", id="references"),
        Job([red, green], "Combine", GROK_2, roles=["style", "content"], id="roles"),
        Job(prompt="A lighthouse", id="text to image"),
        Job(red, operation="segment", id="segment"),
        Job(red, "A red roof", operation="region_edit", options={"mask": green}, id="region edit"),
    ]
    outcomes = {outcome.id: outcome for outcome in await run(client, jobs, tmp_path / "out")}
    assert {outcome.status for outcome in outcomes.values()} == {"saved"}
    assert emulator.counts["uploads"] == 2
    ledger = {entry.idempotency_key: entry for entry in emulator.ledger.entries}
    assert len(ledger) == len(jobs)
    found = {}
    for name, outcome in outcomes.items():
        assert outcome.task
        entry = ledger[outcome.task.idempotency_key]
        found[name] = (entry.endpoint, entry.model, entry.operation, entry.images)
        assert outcome.cost == pytest.approx(entry.cost)
    assert found == {
        "edit": ("edits", EDIT, None, 1),
        "edit elsewhere": ("generations", GPT, None, 2),
        "references": ("generations", GEMINI, None, 1),
        "roles": ("generations", GROK_2, None, 1),
        "text to image": ("generations", GEMINI, None, 1),
        "segment": ("generations", GROK_2, "segment", 1),
        "region edit": ("generations", GROK_2, "region_edit", 1),
    }
    assert outcomes["segment"].cost == 0
    assert sum(outcome.cost or 0 for outcome in outcomes.values()) == pytest.approx(emulator.ledger.total)
    lines = [json.loads(line) for line in await read_lines(tmp_path / "out" / "results.jsonl")]
    assert {line["id"]: line["operation"] for line in lines} == {job.id: job.operation for job in jobs}
    images = {line["id"]: line["image"] for line in lines}
    assert images["text to image"] is None
    assert images["references"] == f"{red}, {green}"
    again = await run(client, jobs, tmp_path / "out")
    assert {outcome.status for outcome in again} == {"saved"}
    assert len(emulator.ledger.entries) == len(jobs)


async def read_lines(path: Path) -> list[str]:
    return await anyio.to_thread.run_sync(lambda: path.read_text(encoding="utf-8").splitlines())


async def test_equal_content_with_another_operation_is_another_job(
    client: AsyncApimart, emulator: Emulator, pictures: list[Path], tmp_path: Path
) -> None:
    job = Job(pictures[0], "Add snow", GROK_2)
    jobs = [job, attrs.evolve(job, operation="generate"), attrs.evolve(job, operation="region_edit"), job]
    outcomes = await run(client, jobs, tmp_path / "out")
    assert len({outcome.id for outcome in outcomes}) == 3
    assert Counter(entry.operation for entry in emulator.ledger.entries) == {None: 2, "region_edit": 1}


async def test_one_id_for_another_operation_is_refused(
    client: AsyncApimart, pictures: list[Path], tmp_path: Path
) -> None:
    job = Job(pictures[0], "Add snow", GROK_2, id="one")
    await run(client, [job], tmp_path / "out")
    (outcome,) = await run(client, [attrs.evolve(job, operation="region_edit")], tmp_path / "out")
    assert isinstance(outcome.error, InvalidArgumentError)


def test_the_identity_of_an_edit_is_that_of_earlier_versions() -> None:
    job = Job("a.png", "Add snow", n=2)
    known = payload_digest(job, EDIT, ["digest"], {"size": "1:1"})
    assert known == "20c2b2e0c6e651953275fcfd822b9d5cf4aee91df505e2e5d541bf69d641a93c"


def test_a_row_of_an_earlier_version_is_that_of_an_edit() -> None:
    record = Record.describe(Job("a.png", "Add snow"), EDIT, job_id="1", payload="x")
    *columns, body = record.to_row()
    assert not {"operation", "roles"} & json.loads(body).keys()
    assert Record.from_row((*columns, body)).operation == "edit"  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "job",
    [
        Job(prompt="A lighthouse"),
        Job(["a.png", "b.png"], "Both", GPT, roles=["style", "content"]),
        Job("a.png", operation="segment"),
    ],
    ids=["text to image", "roles", "segment"],
)
def test_a_row_keeps_the_operation_and_the_roles(job: Job, tmp_path: Path) -> None:
    record = Record.describe(job, "model", job_id="1", payload="x")
    read = Record.from_row(record.to_row())
    assert read == record
    described = read.outcome(tmp_path).job
    assert (described.operation, tuple(described.roles)) == (job.operation, tuple(job.roles))
    assert (described.image is None) is (job.image is None)


WRONG: dict[str, tuple[Job, str]] = {
    "nothing": (Job(), "prompt must be a text"),
    "an edit without an image": (Job(prompt="x", operation="edit"), "'edit' needs an image"),
    "a segmentation without an image": (Job(operation="segment"), "'segment' needs an image"),
    "a segmentation with a prompt": (Job(URL, "x", operation="segment"), "takes no prompt"),
    "a segmentation with a model that bills": (Job(URL, model=GPT, operation="segment"), "would bill"),
    "an edit of regions with an edit model": (Job(URL, "x", EDIT, operation="region_edit"), "is not known"),
    "an edit of regions without a prompt": (Job(URL, operation="region_edit"), "prompt must be a text"),
    "an edit without a prompt": (Job(URL), "prompt must be a text"),
    "a text for a model that only edits": (Job(prompt="x", model=EDIT), "only edits"),
    "references for a model that only edits": (Job(URL, "x", EDIT, operation="generate"), "only edits"),
    "a mask for a model without one": (Job(URL, "x", options={"mask": URL}), "takes no mask"),
    "roles for a model without them": (Job(URL, "x", roles=["style"]), "take no roles"),
    "too few roles": (Job([URL, URL], "x", GPT, roles=["style"]), "1 roles for 2 images"),
    "a text as roles": (Job(URL, "x", GPT, roles="style"), "a list of texts"),
    "too many variants of an edit": (Job(URL, "x", n=11), "from 1 to 10"),
    "too many variants of grok": (Job(URL, "x", GROK_2, n=13), "from 1 to 12"),
    "too many variants of seedream": (Job(prompt="x", model="doubao-seedream-4", n=16), "from 1 to 15"),
    "an unknown operation": (Job(URL, "x", operation="erase"), "must be one of 'edit', "),  # type: ignore[arg-type]
    "the operation as an option": (Job(URL, "x", options={"operation": "segment"}), "cannot hold operation"),
}


@pytest.mark.parametrize("case", WRONG)
async def test_an_illegal_combination_is_refused_before_anything_is_sent(
    client: AsyncApimart, emulator: Emulator, tmp_path: Path, case: str
) -> None:
    job, message = WRONG[case]
    (outcome,) = await run(client, [job], tmp_path / "out")
    assert outcome.status == "failed"
    assert isinstance(outcome.error, InvalidArgumentError)
    assert message in outcome.error.message
    assert not emulator.requests


def test_an_empty_list_of_images_is_no_job_without_images() -> None:
    with pytest.raises(ImageError, match="empty"):
        check_job(Job([], "A lighthouse"), APIMART_MODELS)


def test_applerouter_only_edits_in_a_batch() -> None:
    check_job(Job(URL, "x", options={"mask": URL}), APPLEROUTER_MODELS)
    with pytest.raises(InvalidArgumentError, match="one of 'edit', not 'generate'"):
        check_job(Job(prompt="A lighthouse"), APPLEROUTER_MODELS)
    with pytest.raises(InvalidArgumentError, match="roles"):
        check_job(Job(URL, "x", roles=["style"]), APPLEROUTER_MODELS)


async def test_a_segmentation_is_free_and_fits_every_budget(
    client: AsyncApimart, emulator: Emulator, pictures: list[Path], tmp_path: Path
) -> None:
    output = tmp_path / "out"
    segments = [Job(picture, operation="segment") for picture in pictures]
    await run(client, [Job(pictures[0], "Add snow")], output, max_cost=0.015)
    outcomes = await run(client, segments, output, max_cost=0.015)
    assert [(outcome.status, outcome.cost) for outcome in outcomes] == [("saved", 0.0)] * 3
    with pytest.raises(BudgetExceededError):
        await run(client, [Job(pictures[0], "Add stars")], output, max_cost=0.015)
    assert emulator.ledger.total == pytest.approx(0.015)
    assert len(emulator.ledger.billed) == 1


async def test_jobs_in_flight_count_as_billable_only_if_their_operation_is(tmp_path: Path) -> None:
    paid = Record.describe(Job(URL, "x", GROK_2, n=2), GROK_2)
    free = Record.describe(Job(URL, operation="segment", n=2), GROK_2)
    assert (paid.billable, paid.intent("key", 0).cost) == (2, None)
    assert (free.billable, free.intent("key", 0).cost) == (0, 0.0)


async def test_the_report_has_no_original_for_an_image_from_text(
    client: AsyncApimart, pictures: list[Path], tmp_path: Path
) -> None:
    output = tmp_path / "out"
    jobs = [
        Job(prompt="A lighthouse", name="lighthouse"),
        Job(pictures[0], operation="segment", name="parts"),
    ]
    await run(client, jobs, output)
    rows = await anyio.to_thread.run_sync(lambda: [row_of(each, output) for each in read_outcomes(output)])
    made, parts = sorted(rows, key=lambda row: str(row["name"]))
    assert ("before" in made, made["name"], "source" in made) == (False, "lighthouse", False)
    assert made["after"] == ["lighthouse.jpg"]
    assert ("before" in parts, parts["prompt"]) == (True, "segment")


def test_edit_many_is_another_name_of_run_many() -> None:
    assert edit_many is run_many


def test_the_name_of_a_model_decides_where_there_is_no_schema() -> None:
    assert submit_path(EDIT) == submit_path("grok-imagine-1.5-edit-apimart") == "/v1/images/edits"
    assert submit_path(GPT) == "/v1/images/generations"
    assert submit_path("new-edit-model", "/v1/images/generations") == "/v1/images/generations"
    assert (max_n(EDIT), max_n(GROK_2), max_n("seedream-5"), max_n(GPT)) == (10, 12, 15, 1_000)
