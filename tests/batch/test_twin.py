"""The blocking twin of a batch: a plain loop, a thread that shuts it down, and Ctrl-C in a script."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest
from anyio.from_thread import start_blocking_portal

from apimart_async import BudgetExceededError, Job, Poll
from apimart_async.batch import Shutdown, read_outcomes
from apimart_async.emulator import Emulator
from apimart_async.sync import Apimart, edit_many

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

POLL = Poll(first=0.02, shortest=0.02, longest=0.05)


@pytest.fixture
def service() -> Iterator[Emulator]:
    emulator = Emulator(task_seconds=0.02, images="tiny")
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(emulator):
        yield emulator


def test_outcomes_come_in_a_for_loop_and_errors_at_its_end(
    service: Emulator, pictures: list[Path], tmp_path: Path
) -> None:
    jobs = [Job(pictures[number % 3], f"prompt {number}") for number in range(12)]
    paths: list[Path] = []
    with Apimart(service.api_key, base_url=service.base_url, poll=POLL) as client:
        with edit_many(client, iter(jobs), output=tmp_path / "out", max_cost=0.1) as outcomes:
            paths += [path for _ in range(6) for path in next(outcomes).paths]
            with pytest.raises(BudgetExceededError, match="raise max_cost"):
                next(outcomes)
        assert len(paths) == 6
        with edit_many(client, jobs, output=tmp_path / "out") as outcomes:
            assert [outcome.status for outcome in outcomes] == ["saved"] * 12
    assert service.ledger.executed_more_than_once == {}


def test_another_thread_may_shut_a_batch_down(
    service: Emulator, pictures: list[Path], tmp_path: Path
) -> None:
    shutdown = Shutdown()
    jobs = (Job(pictures[0], f"prompt {number}") for number in range(500))
    with (
        Apimart(service.api_key, base_url=service.base_url, poll=POLL) as client,
        edit_many(client, jobs, output=tmp_path / "out", max_in_flight=8, shutdown=shutdown) as outcomes,
    ):
        next(outcomes)
        threading.Thread(target=shutdown.request).start()
        count = 1 + sum(1 for _ in outcomes)
    assert count == len(service.ledger.entries) < 500


SCRIPT = """
import sys
from apimart_async import Job, Poll
from apimart_async.sync import Apimart, edit_many
url, key, output, picture = sys.argv[1:]
with Apimart(key, base_url=url, poll=Poll(first=0.02, shortest=0.02, longest=0.05)) as client:
    jobs = (Job(picture, f"prompt {number}") for number in range(2000))
    with edit_many(client, jobs, output=output, max_in_flight=8) as outcomes:
        for outcome in outcomes:
            print(outcome.status, flush=True)
"""


def test_ctrl_c_loses_no_task(service: Emulator, pictures: list[Path], tmp_path: Path) -> None:
    output = tmp_path / "out"
    command = [
        sys.executable,
        "-W",
        "error",
        "-c",
        SCRIPT,
        service.base_url,
        service.api_key,
        output,
        pictures[0],
    ]
    with subprocess.Popen(
        [str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == "saved\n"
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=120)
    # A note follows if the call ended at this moment, with its return value.
    assert "KeyboardInterrupt" in stderr.splitlines(), stderr
    assert "prompt 1" not in stderr
    found = [outcome.status for outcome in read_outcomes(output)]
    assert set(found) <= {"saved", "unfinished"}
    assert len(found) == len(service.ledger.entries) < 2000
