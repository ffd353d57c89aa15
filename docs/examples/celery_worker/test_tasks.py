"""Tests of the task, without a broker and with a broker in memory."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from celery.contrib.testing.worker import start_worker

import tasks
from apimart_async import SubmissionIndeterminateError
from apimart_async.emulator import Fault

if TYPE_CHECKING:
    from apimart_async.emulator import Emulator
    from apimart_async.testing import TestClock

PHOTO = str(Path(__file__).parent.parent / "photos" / "lighthouse.jpg")
EDIT = (PHOTO, "A starry sky")


@pytest.fixture(autouse=True)
def _local(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "FOLDER", tmp_path)
    monkeypatch.setattr(tasks, "RETRY_DELAY", 0)
    tasks.app.conf.update(broker_url="memory://", result_backend="cache+memory://")


def test_a_task_that_is_delivered_twice_is_paid_once(
    apimart_emulator: Emulator, apimart_clock: TestClock
) -> None:
    with apimart_clock.passing():
        first = tasks.edit.apply(EDIT, task_id="order-1017").get()
        second = tasks.edit.apply(EDIT, task_id="order-1017").get()
    assert first == second
    assert Path(first[0]).stat().st_size
    apimart_emulator.ledger.assert_billed(times=1, cost=0.015)


@pytest.mark.apimart(task_seconds=20)
def test_a_retry_waits_for_the_task_that_is_paid_for(
    apimart_emulator: Emulator,
    apimart_clock: TestClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tasks, "MAX_WAIT", 2.0)
    with apimart_clock.passing():
        (path,) = tasks.edit.apply(EDIT, task_id="order-1017").get()
    assert Path(path).stat().st_size
    apimart_emulator.ledger.assert_billed(times=1)


def test_a_submit_whose_answer_is_lost_is_not_sent_again(
    apimart_emulator: Emulator, apimart_clock: TestClock
) -> None:
    apimart_emulator.faults.add(
        Fault(kind="disconnect", route="edits", executed=True, first=1)
    )
    with apimart_clock.passing():
        for _ in range(2):
            with pytest.raises(SubmissionIndeterminateError):
                tasks.edit.apply(EDIT, task_id="order-1017").get()
    apimart_emulator.ledger.assert_billed(times=1)


def test_a_worker_takes_the_task_from_its_broker(
    apimart_emulator: Emulator, apimart_clock: TestClock
) -> None:
    with (
        apimart_clock.passing(),
        start_worker(tasks.app, pool="solo", perform_ping_check=False),
    ):
        (path,) = tasks.edit.apply_async(EDIT, task_id="order-1017").get(timeout=100)
    assert Path(path).name.startswith("order-1017")
    apimart_emulator.ledger.assert_billed(times=1)
