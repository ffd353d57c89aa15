"""``Fleet`` and ``apimart fleet``: shards, and workers that are killed."""

from __future__ import annotations

import asyncio
import json
import math
import pickle
import subprocess
import sys
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from anyio import run_process, to_thread

from apimart_async import InvalidArgumentError, Job
from apimart_async.batch.journal.postgres import PostgresJournal
from apimart_async.batch.journal.record import Record
from apimart_async.emulator import Emulator
from apimart_async.fleet import Fleet

from .photo import PNG
from .test_command import apimart, environment

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

# The tests start processes.
pytestmark = pytest.mark.may_block


@pytest.fixture
async def service(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Emulator]:
    """A service that ignores keys; the environment names it."""
    async with Emulator(task_seconds=0.05, images="tiny", idempotent_replay=False) as emulator:
        monkeypatch.setenv("APIMART_API_KEY", emulator.api_key)
        monkeypatch.setenv("APIMART_BASE_URL", emulator.base_url)
        yield emulator


@pytest.fixture
def photo(tmp_path: Path) -> str:
    """The path of a photo."""
    path = tmp_path / "photo.png"
    path.write_bytes(PNG)
    return str(path)


def start(url: str, tmp_path: Path, photo: str, jobs: int, **environment: Any) -> subprocess.Popen[str]:
    command = [str(Path(__file__).with_name("shard_worker.py")), url, str(tmp_path / "out"), photo, str(jobs)]
    return subprocess.Popen([sys.executable, *command], stdout=subprocess.PIPE, text=True, **environment)


async def test_a_shard_of_rows_and_jobs_ends_in_their_order(
    url: str, tmp_path: Path, photo: str, service: Emulator
) -> None:
    fleet = pickle.loads(pickle.dumps(Fleet(journal=url, output=str(tmp_path / "out"))))  # noqa: S301
    job = Job(photo, "A starry sky", id="job")
    rows = [
        {"image": photo, "prompt": "Snow", "id": "row", "colour": "red"},
        {"prompt": "No image", "id": "bad"},
        {"image": "missing.png", "prompt": "Snow", "id": "missing"},
    ]
    results = await to_thread.run_sync(fleet.run_shard, [job, *rows, job])
    assert [result["id"] for result in results] == ["job", "row", "bad", "missing", "job"]
    assert [result["status"] for result in results] == ["saved", "saved", "failed", "failed", "saved"]
    assert results[1]["extra"] == {"colour": "red"}
    assert "image" in results[2]["error"]["message"]
    json.dumps(results)
    assert len(service.ledger.billed) == 2
    tally = await to_thread.run_sync(fleet.tally)
    assert tally.jobs["saved"] == 2


class Scalar:
    """A value as numpy has it."""

    def __init__(self, value: object) -> None:
        self._value = value

    def tolist(self) -> object:
        return self._value


async def test_values_of_engines_are_read(url: str, tmp_path: Path, photo: str, service: Emulator) -> None:
    """Frames hold times, decimals, NaN for a missing text, and the scalars and arrays of numpy."""
    extra = {"taken": datetime(2026, 1, 2, tzinfo=UTC), "price": Decimal("1.50"), "pixels": Scalar([3, 4])}
    rows: list[dict[str, Any]] = [
        {"image": Scalar([photo]), "prompt": "Snow", "id": "a", "n": Scalar(1), "model": float("nan")}
        | extra,
        {"image": math.nan, "prompt": "Snow", "id": "b"} | extra,
        {"image": photo, "prompt": 7, "id": "c"} | extra,
    ]
    results = await to_thread.run_sync(Fleet(journal=url, output=tmp_path / "out").run_shard, rows)
    assert [result["status"] for result in results] == ["saved", "failed", "failed"]
    taken = {"taken": "2026-01-02 00:00:00+00:00", "price": "1.50", "pixels": [3, 4]}
    assert results[0]["extra"] == taken
    assert "image" in results[1]["error"]["message"]
    assert "prompt" in results[2]["error"]["message"]
    json.dumps(results)
    assert len(service.ledger.billed) == 1


@pytest.mark.parametrize(("actors", "shard", "named"), [(0, 1, "actors"), (1, 0, "shard"), (1, 1, "'ray'")])
def test_ray_needs_its_package_and_valid_arguments(
    actors: int, shard: int, named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    dataset: Any = None
    with pytest.raises(InvalidArgumentError, match=named):
        Fleet(journal="postgresql://host/database", output="out").ray(dataset, actors=actors, shard=shard)


async def test_a_refused_key_leaves_the_jobs_not_started(
    url: str, tmp_path: Path, photo: str, service: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("APIMART_API_KEY", "sk-refused")
    fleet = Fleet(journal=url, output=tmp_path / "out")
    rows = [{"image": photo, "prompt": f"Snow {number}"} for number in range(3)]
    results = await to_thread.run_sync(fleet.run_shard, rows)
    assert [result["status"] for result in results] == ["not_started"] * 3
    assert {result["error"]["type"] for result in results} == {"AuthenticationError"}
    assert not service.ledger.billed


async def test_a_shard_runs_in_a_thread_with_a_running_loop(
    url: str, tmp_path: Path, photo: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = await to_thread.run_sync(_emulator_process)
    try:
        assert process.stdout
        lines = [process.stdout.readline() for _ in range(2)]
        for name, _, value in (line.strip().removeprefix("export ").partition("=") for line in lines):
            monkeypatch.setenv(name, value)
        # Blocks this loop, as a notebook or an asynchronous actor would.
        results = Fleet(journal=url, output=tmp_path / "out").run_shard([{"image": photo, "prompt": "Snow"}])
    finally:
        process.kill()
        process.communicate()
    assert [result["status"] for result in results] == ["saved"]


def _emulator_process() -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "apimart_async", "emulator", "--port", "0"],
        stdout=subprocess.PIPE,
        text=True,
    )


async def test_the_shard_of_a_killed_worker_is_finished_and_billed_once(
    url: str, tmp_path: Path, photo: str, service: Emulator
) -> None:
    jobs = 200
    killed = start(url, tmp_path, photo, jobs)
    try:
        while len(service.ledger.billed) < jobs // 4:
            assert killed.poll() is None
            await asyncio.sleep(0.02)
    finally:
        killed.kill()
        killed.communicate()
    again = start(url, tmp_path, photo, jobs)
    text, _ = await to_thread.run_sync(again.communicate)
    statuses = [result["status"] for result in json.loads(text)]
    assert len(statuses) == jobs
    # A request that was under way when the worker was killed is in doubt, and not repeated.
    assert set(statuses) <= {"saved", "in_doubt"}
    assert not service.ledger.billed_more_than_once


@pytest.mark.long
@pytest.mark.usefixtures("service")
async def test_shards_leave_no_memory_behind(url: str, tmp_path: Path, photo: str) -> None:
    script = str(Path(__file__).with_name("memory_worker.py"))
    process = await run_process([sys.executable, script, url, str(tmp_path / "out"), photo, "300", "5"])
    memory = [int(line) for line in process.stdout.split()]
    # 900 jobs after the first 600: less than 8 kB for each, which the journal alone would be.
    assert memory[-1] - memory[1] < 7_000, memory


async def test_workers_of_a_command_share_a_manifest(
    url: str, tmp_path: Path, photo: str, service: Emulator
) -> None:
    manifest = tmp_path / "jobs.csv"
    manifest.write_text("image,prompt,id\n" + "".join(f"{photo},prompt {n},{n}\n" for n in range(40)))
    env = environment(service, APIMART_JOURNAL=url.replace("postgres@", "postgres:hunter2@"))
    command = ("fleet", "work", manifest, "-o", tmp_path / "out", "--rate", 200, "--lease", 3)
    runs = await asyncio.gather(
        apimart(*command, env=env),
        apimart(*command, env=env),
        apimart(*command, "--shard", "1/2", "--json", env=env),
    )
    assert [run.returncode for run in runs] == [0, 0, 0], [run.stderr for run in runs]
    assert len(service.ledger.billed) == 40
    assert len(runs[2].stdout.splitlines()) == 20
    status = await apimart("fleet", "status", "--json", env=env)
    assert json.loads(status.stdout)["jobs"] == {"saved": 40}
    shown = await apimart("fleet", "status", env=env)
    assert "workers:             0" in shown.stdout
    assert "hunter2" not in "".join(run.stdout + run.stderr for run in (*runs, status, shown))


async def test_the_jobs_of_a_dead_worker_with_a_longer_lease_are_waited_for(
    url: str, tmp_path: Path, photo: str, service: Emulator
) -> None:
    row = {"image": photo, "prompt": "Snow", "id": "job"}
    dead = PostgresJournal(url, lease=6)
    await dead.__aenter__()
    dead._renewal.cancel()
    described = Record.describe(Job(photo, "Snow", id="job"), "model", job_id="job")
    assert await dead.begin(described.intent("key", 0.0), None)
    fleet = Fleet(journal=url, output=tmp_path / "out", lease=2)
    (result,) = await to_thread.run_sync(fleet.run_shard, [row])
    assert result["status"] == "in_doubt"
    assert len(service.ledger.billed) == 0
    await dead.__aexit__(None, None, None)


async def test_equal_pictures_of_two_shards_get_a_file_each(
    url: str, tmp_path: Path, photo: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No other worker has the second picture: its own one waits for the images, beyond any lease."""
    second, output = tmp_path / "second.png", tmp_path / "out"
    second.write_bytes(PNG)
    fleet = Fleet(journal=url, output=output, lease=2)
    async with Emulator(task_seconds=6, images="tiny") as emulator:
        monkeypatch.setenv("APIMART_API_KEY", emulator.api_key)
        monkeypatch.setenv("APIMART_BASE_URL", emulator.base_url)
        shards = [[{"image": path, "prompt": "Snow"}] for path in (photo, str(second))]
        results = await asyncio.gather(*(to_thread.run_sync(fleet.run_shard, shard) for shard in shards))
        assert [result["status"] for (result,) in results] == ["saved", "saved"]
        assert len(emulator.ledger.billed) == 1
    assert {path.stem for path in output.iterdir()} == {"photo", "second"}
