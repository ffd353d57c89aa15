"""`Fleet.ray` on a cluster: 2,000 jobs, while a worker, a node or the driver is killed."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import asyncpg
import pytest
from anyio import to_thread
from pyarrow import Table, parquet

from tests.fleet.photo import PNG

from .conftest import kill

if TYPE_CHECKING:
    from apimart_async.emulator import Emulator

    from .conftest import RayCluster

JOBS = 2_000
# The tests start processes, and asyncpg looks for the files of libpq when it connects.
pytestmark = pytest.mark.may_block


def write_jobs(tmp_path: Path, count: int, prompt: str) -> Path:
    photo, table = tmp_path / "photo.png", tmp_path / "jobs.parquet"
    photo.write_bytes(PNG)
    rows = [
        {"image": str(photo), "prompt": f"{prompt} {number}", "id": str(number)} for number in range(count)
    ]
    parquet.write_table(Table.from_pylist(rows), table)
    return table


def run(
    cluster: RayCluster, script: Path, *arguments: object, log: Path, **variables: str
) -> subprocess.Popen[bytes]:
    with log.open("ab") as file:
        return subprocess.Popen(
            [sys.executable, str(script), *map(str, arguments)],
            env=cluster.env | {"RAY_ADDRESS": cluster.address} | variables,
            stdout=file,
            stderr=file,
        )


def outcomes(folder: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = parquet.read_table(folder).to_pylist()
    return rows


@pytest.mark.parametrize("victim", ["worker", "node", "driver"])
async def test_a_kill_bills_nothing_twice_and_a_rerun_finishes(
    victim: Literal["worker", "node", "driver"],
    cluster: RayCluster,
    service: Emulator,
    url: str,
    tmp_path: Path,
) -> None:
    table, log = write_jobs(tmp_path, JOBS, victim), tmp_path / "log"
    fleet = json.dumps({"journal": url, "output": str(tmp_path / "out"), "lease": 3.0})
    before = len(service.ledger.billed)

    def start(name: str) -> subprocess.Popen[bytes]:
        return run(cluster, Path(__file__).with_name("driver.py"), table, tmp_path / name, fleet, log=log)

    driver = start("first")
    try:
        while len(service.ledger.billed) - before < JOBS * 0.4:
            assert driver.poll() is None, log.read_text()[-3000:]
            await asyncio.sleep(0.05)
        if victim == "worker":
            kill(cluster.actors(cluster.node_with_actor())[0])
        elif victim == "node":
            cluster.kill(cluster.node_with_actor())
            await to_thread.run_sync(cluster.add_node)
        else:
            driver.kill()
        status = await to_thread.run_sync(driver.wait)
    finally:
        driver.kill()
        driver.wait()
    if victim != "driver":
        # Ray has restarted the actors, and repeated their shards.
        assert status == 0, log.read_text()[-3000:]
        assert len({row["id"] for row in outcomes(tmp_path / "first")}) == JOBS
    again = start("again")
    assert await to_thread.run_sync(again.wait) == 0, log.read_text()[-3000:]
    rows = outcomes(tmp_path / "again")
    connection = await asyncpg.connect(url)
    states = dict(await connection.fetch("SELECT id, state FROM apimart_jobs"))
    paid = {row[0] for row in await connection.fetch("SELECT task_id FROM apimart_payments")}
    doubtful = {
        row[0] for row in await connection.fetch("SELECT key FROM apimart_jobs WHERE state = 'in_doubt'")
    }
    await connection.close()
    # Billed twice: none.
    assert not service.ledger.billed_more_than_once
    # Lost: none. An answer that a killed process has taken with it is in doubt; any other task is known.
    assert states == {row["id"]: row["status"] for row in rows}
    assert len(states) == len(rows) == JOBS
    assert set(states.values()) <= {"saved", "in_doubt"}
    assert len(doubtful) <= JOBS * 0.1
    unknown = [entry for entry in service.ledger.billed[before:] if entry.task_id not in paid]
    assert {entry.idempotency_key for entry in unknown} <= doubtful


async def test_the_example_writes_a_table_of_outcomes(
    cluster: RayCluster, service: Emulator, url: str, tmp_path: Path
) -> None:
    table, log = write_jobs(tmp_path, 20, "example"), tmp_path / "log"
    before = len(service.ledger.billed)
    script = Path(__file__).parents[2] / "docs" / "examples" / "fleet" / "ray_batch.py"
    paths = (tmp_path / "out", tmp_path / "outcomes")
    driver = run(cluster, script, table, *paths, log=log, APIMART_JOURNAL=url)
    assert await to_thread.run_sync(driver.wait) == 0, log.read_text()[-3000:]
    rows = outcomes(tmp_path / "outcomes")
    assert [row["status"] for row in rows] == ["saved"] * 20
    assert all((tmp_path / "out" / row["paths"][0]).is_file() for row in rows)
    assert json.loads(rows[0]["result"])["prompt"].startswith("example")
    assert "'saved': 20" in log.read_text()
    assert len(service.ledger.billed) - before == 20
