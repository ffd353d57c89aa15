"""The runner of a batch as a command uses it: a journal in memory, events of each job, names of its own."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from PIL import Image

from apimart_async import (
    AsyncApimart,
    AsyncAppleRouter,
    AuthenticationError,
    InvalidArgumentError,
    Job,
    SubmissionIndeterminateError,
)
from apimart_async.batch import BatchOptions, JobProgress, Outcome, Runner, SqliteJournal
from apimart_async.batch.backends import ApimartBackend, AppleRouterBackend
from apimart_async.emulator.faults import Fault

if TYPE_CHECKING:
    from pathlib import Path

    from apimart_async.batch.backends import Backend
    from apimart_async.emulator import Emulator


def runner(backend: Backend, jobs: list[Job], output: Path, **options: Any) -> Runner:
    options = {"write_results": False, **options}
    return Runner(backend, jobs, SqliteJournal(":memory:"), BatchOptions(output=output, **options))


async def run(backend: Backend, jobs: list[Job], output: Path, **options: Any) -> list[Outcome]:
    async with runner(backend, jobs, output, **options) as outcomes:
        return [outcome async for outcome in outcomes]


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


async def test_a_journal_in_memory_leaves_only_images(
    client: AsyncApimart, emulator: Emulator, pictures: list[Path], tmp_path: Path
) -> None:
    jobs = [Job(path, "prompt", n=2, id=str(path)) for path in pictures]
    template = {str(path): path.stem for path in pictures}
    outcomes = await run(
        ApimartBackend(client), jobs, tmp_path / "out", template=lambda job: template[str(job.image)]
    )
    assert [outcome.status for outcome in outcomes] == ["saved"] * 3
    assert names(tmp_path / "out") == sorted(
        f"{stem}{suffix}.jpg" for stem in ("red", "green", "blue") for suffix in ("", "-2")
    )
    assert emulator.counts["uploads"] == 3


async def test_each_job_reports_its_stages_with_its_key_and_its_task(
    client: AsyncApimart, emulator: Emulator, pictures: list[Path], tmp_path: Path
) -> None:
    events: dict[str, list[JobProgress]] = defaultdict(list)
    jobs = [Job(path, "prompt", id=path.stem) for path in pictures]
    await run(
        ApimartBackend(client), jobs, tmp_path, on_job=lambda event: events[str(event.job.id)].append(event)
    )
    keys = {entry.task_id: entry.idempotency_key for entry in emulator.ledger.entries}
    for seen in events.values():
        stages = list(dict.fromkeys(event.stage for event in seen))
        assert stages == ["preparing", "uploading", "submitting", "waiting", "saving", "done"]
        (submitting,) = [event.record for event in seen if event.stage == "submitting"]
        waiting = [event.record for event in seen if event.stage == "waiting"]
        assert submitting
        assert waiting[0]
        assert waiting[0].task
        assert waiting[-1]
        assert waiting[-1].task
        assert submitting.task is None
        assert submitting.key == keys[str(waiting[0].task.id)]
        assert waiting[0].task.status == "submitted"
        assert waiting[-1].task.is_completed, "polls are not reported"


async def test_a_job_that_fails_reports_why(
    client: AsyncApimart, pictures: list[Path], tmp_path: Path
) -> None:
    events: list[JobProgress] = []
    (outcome,) = await run(
        ApimartBackend(client), [Job(pictures[0], " ")], tmp_path / "out", on_job=events.append
    )
    assert outcome.status == "failed"
    assert events[-1].outcome == outcome
    assert [(event.stage, type(event.error)) for event in events] == [
        ("preparing", type(None)),
        ("failed", InvalidArgumentError),
    ]


async def test_an_error_that_stops_a_batch_is_reported_once(
    client: AsyncApimart, emulator: Emulator, pictures: list[Path], tmp_path: Path
) -> None:
    emulator.faults.add(Fault(kind="status", route="edits", status=401))
    events: list[JobProgress] = []
    jobs = [Job(picture, "prompt") for picture in pictures]
    with pytest.raises(AuthenticationError):
        await run(ApimartBackend(client), jobs, tmp_path / "out", on_job=events.append)
    (failed,) = [event for event in events if event.stage == "failed"]
    assert isinstance(failed.error, AuthenticationError)
    assert failed.outcome is None


async def test_a_listener_that_raises_ends_the_batch_and_loses_no_task(
    client: AsyncApimart, emulator: Emulator, pictures: list[Path], tmp_path: Path
) -> None:
    def fail(event: JobProgress) -> None:
        if event.stage == "submitting":
            raise ZeroDivisionError

    async with runner(ApimartBackend(client), [Job(pictures[0], "a")], tmp_path, on_job=fail) as outcomes:
        assert (await anext(outcomes)).status == "saved"
        with pytest.raises(ZeroDivisionError):
            await anext(outcomes)
    assert len(emulator.ledger.entries) == 1


async def test_images_may_travel_inside_the_request(
    client: AsyncApimart, emulator: Emulator, pictures: list[Path], tmp_path: Path
) -> None:
    (outcome,) = await run(ApimartBackend(client, inline=True), [Job(pictures[0], "a")], tmp_path / "out")
    assert outcome.status == "saved"
    assert emulator.counts["uploads"] == 0


async def test_a_lost_answer_is_an_outcome_with_its_key(
    client: AsyncApimart, emulator: Emulator, pictures: list[Path], tmp_path: Path
) -> None:
    emulator.faults.add(Fault(kind="disconnect", route="edits", executed=True, times=1))
    (outcome,) = await run(ApimartBackend(client), [Job(pictures[0], "a")], tmp_path / "out")
    assert outcome.status == "in_doubt"
    assert isinstance(outcome.error, SubmissionIndeterminateError)
    (entry,) = emulator.ledger.entries
    assert outcome.error.idempotency_key == entry.idempotency_key


async def test_the_grace_period_of_unanswered_requests_is_an_option(
    client: AsyncApimart, emulator: Emulator, pictures: list[Path], tmp_path: Path
) -> None:
    emulator.faults.add(Fault(kind="hang", route="edits", executed=True))
    submitted = anyio.Event()

    def note(event: JobProgress) -> None:
        if event.stage == "submitting":
            submitted.set()

    jobs = [Job(pictures[0], "a")]
    # A deadline that only catches a hang: the default grace period is five seconds.
    with anyio.fail_after(120):
        async with runner(ApimartBackend(client), jobs, tmp_path / "out", on_job=note, grace=0.01):
            await submitted.wait()


async def test_the_grace_period_can_be_ended_early(
    client: AsyncApimart, emulator: Emulator, pictures: list[Path], tmp_path: Path
) -> None:
    emulator.faults.add(Fault(kind="hang", route="edits", executed=True))
    jobs = [Job(pictures[0], "a")]
    scope = anyio.CancelScope()

    def note(event: JobProgress) -> None:
        if event.stage == "submitting":
            scope.cancel()
            outcomes.end_grace()

    # A deadline that only catches a hang.
    with anyio.fail_after(120), scope:
        async with runner(
            ApimartBackend(client), jobs, tmp_path / "out", on_job=note, grace=3600
        ) as outcomes:
            await anyio.sleep_forever()
    assert scope.cancelled_caught


async def test_images_that_no_task_remembers_are_saved_within_the_grace_period(
    emulator: Emulator, tmp_path: Path
) -> None:
    Image.new("RGBA", (32, 32)).save(tmp_path / "square.png")
    job = Job(tmp_path / "square.png", "prompt", options={"size": "256x256", "response_format": "b64_json"})
    async with AsyncAppleRouter(emulator.api_key, base_url=emulator.base_url) as client:
        backend = AppleRouterBackend(client, timeout=60)
        with anyio.CancelScope() as scope:

            def leave(event: JobProgress) -> None:
                if event.stage == "submitting":
                    scope.cancel()

            options: dict[str, Any] = {"on_job": leave, "grace": 60, "template": lambda _: "saved"}
            async with runner(backend, [job], tmp_path / "out", **options) as outcomes:
                async for _ in outcomes:
                    pytest.fail("an outcome")
    assert scope.cancelled_caught
    assert names(tmp_path / "out") == ["saved.png"]


@pytest.mark.parametrize("wrong", [{"grace": 0}, {"max_in_flight": 1.5}, {"max_uploads": 0}])
def test_options_out_of_range_are_refused(tmp_path: Path, wrong: Any) -> None:
    with pytest.raises(InvalidArgumentError):
        BatchOptions(output=tmp_path, **wrong)
