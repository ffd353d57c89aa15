"""Services whose clock is not this machine's."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from apimart_async import AsyncApimart, Poll, Task
from apimart_async.emulator import Emulator
from apimart_async.transport import parsing, retry

HOUR = 3600.0


@pytest.mark.parametrize(
    ("offset", "naive"),
    [(-HOUR, False), (HOUR, False), (8 * HOUR, True), (-8 * HOUR, True)],
    ids=["behind", "ahead", "naive, east", "naive, west"],
)
async def test_ages_and_durations_do_not_depend_on_the_clock_of_the_service(
    offset: float, *, naive: bool
) -> None:
    poll = Poll(first=0.05, shortest=0.05, longest=0.1)
    async with (
        Emulator(task_seconds=0.2, clock_offset=offset, naive_times=naive, images="tiny") as emulator,
        AsyncApimart(emulator.api_key, base_url=emulator.base_url, poll=poll) as client,
    ):
        for number in range(3):
            task = await client.edits.create("https://pictures.example/a.png", f"number {number}")
            seen = await client.tasks.get(task)
            assert seen.created_at
            assert seen.submitted_at == task.submitted_at
            assert task.submitted_at
            ahead = (seen.created_at - task.submitted_at).total_seconds()
            assert abs(ahead - offset) < HOUR / 2
            assert (await client.tasks.wait(seen)).is_completed
            assert (await client.tasks.wait(task.id)).is_completed
        learnt = client.tasks._cadence.stats.of("grok-imagine-1.0-edit-apimart", poll.first)
        assert len(learnt.observations) == 3, "a task of unknown age teaches nothing"
        assert all(observation.by < HOUR / 2 for observation in learnt.observations)
        assert not learnt.running


def test_the_answer_to_a_submit_does_not_set_the_age() -> None:
    now = datetime.now(UTC)
    answer = {"id": "task_1", "status": "submitted", "created": int((now - timedelta(hours=1)).timestamp())}
    task = parsing.read_submission(answer, idempotency_key="key", submitted_at=now)
    assert task.submitted_at == now
    assert task.created_at != now
    polled = parsing.with_submit(Task("task_1", "processing", created_at=task.created_at), task)
    assert polled.submitted_at == now


@pytest.mark.parametrize("hours", [-1, 1])
def test_an_upload_expires_by_the_clock_of_this_machine_at_the_latest(hours: int) -> None:
    created = datetime.now(UTC) + timedelta(hours=hours)
    upload = parsing.read_upload({"url": "https://u.example/a.png", "created_at": created.timestamp()})
    assert upload.expires_at <= datetime.now(UTC) + parsing.UPLOAD_LIFETIME


@pytest.mark.parametrize("hours", [-1, 1])
def test_a_retry_after_date_is_read_by_the_clock_of_the_service(hours: int) -> None:
    here = datetime.now(UTC)
    there = here + timedelta(hours=hours)
    headers = {"date": _http(there), "retry-after": _http(there + timedelta(seconds=90))}
    assert retry.read_retry_after(headers, here) == pytest.approx(90)


def _http(moment: datetime) -> str:
    return moment.strftime("%a, %d %b %Y %H:%M:%S GMT")
