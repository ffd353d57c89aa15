"""The examples of deployments in docs/examples/fleet: their commands run as they are written."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from anyio import to_thread

from .photo import PNG
from .test_command import apimart, environment

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

from apimart_async.emulator import Emulator

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples" / "fleet"
# The tests start processes.
pytestmark = pytest.mark.may_block


@pytest.fixture
async def service() -> AsyncIterator[Emulator]:
    """A service that ignores keys."""
    async with Emulator(task_seconds=0.05, images="tiny", idempotent_replay=False) as emulator:
        yield emulator


@pytest.fixture
def jobs(tmp_path: Path) -> Path:
    """A folder with a manifest of six edits, mounted as /jobs."""
    (tmp_path / "photo.png").write_bytes(PNG)
    lines = "".join(f"photo.png,prompt {number},{number}\n" for number in range(6))
    (tmp_path / "jobs.csv").write_text(f"image,prompt,id\n{lines}")
    return tmp_path


def loaded(name: str) -> Any:
    return yaml.safe_load((EXAMPLES / name).read_text())


def mounted(command: Sequence[str], jobs: Path) -> list[str]:
    """Return a command with the folder in place of /jobs."""
    return [part.replace("/jobs/", f"{jobs}/") for part in command]


async def run(commands: Sequence[Sequence[str]], envs: Sequence[dict[str, str]]) -> None:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"

    def run_one(command: Sequence[str], env: dict[str, str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, env=env | {"PATH": path}, capture_output=True, text=True, check=False)

    runs = await asyncio.gather(
        *(to_thread.run_sync(run_one, *each) for each in zip(commands, envs, strict=True))
    )
    assert [run.returncode for run in runs] == [0] * len(runs), [run.stderr for run in runs]


async def assert_all_are_saved(service: Emulator, jobs: Path, url: str) -> None:
    assert len(service.ledger.billed) == 6
    assert len(list((jobs / "out").glob("*.png"))) + len(list((jobs / "out").glob("*.jpg"))) == 6
    status = await apimart("fleet", "status", "--json", env=environment(service, APIMART_JOURNAL=url))
    assert json.loads(status.stdout)["jobs"] == {"saved": 6}


async def test_the_workers_of_the_compose_file_share_the_jobs(
    url: str, jobs: Path, service: Emulator
) -> None:
    services = loaded("compose.yaml")["services"]
    worker = services["worker"]
    build = worker["build"]
    context = (EXAMPLES / build["context"]).resolve()
    assert (context / "pyproject.toml").is_file()
    assert (context / build["dockerfile"]) == EXAMPLES / "Dockerfile"
    assert set(worker["depends_on"]) == {"journal"}
    database = f"/{services['journal']['environment']['POSTGRES_DB']}"
    assert worker["environment"]["APIMART_JOURNAL"].endswith(f"postgres@journal{database}")
    env = environment(service, **worker["environment"] | {"APIMART_JOURNAL": url, "PGPASSWORD": "any"})
    # The key is that of the caller, and not that of the file.
    env["APIMART_API_KEY"] = service.api_key
    replicas = worker["deploy"]["replicas"]
    assert replicas == 3
    await run([mounted(worker["command"], jobs)] * replicas, [env] * replicas)
    await assert_all_are_saved(service, jobs, url)


async def test_the_pods_of_the_kubernetes_job_do_a_shard_each(
    url: str, jobs: Path, service: Emulator
) -> None:
    job = loaded("job.yaml")
    assert (job["apiVersion"], job["kind"]) == ("batch/v1", "Job")
    spec = job["spec"]
    assert spec["completionMode"] == "Indexed"
    pods = spec["completions"]
    (container,) = spec["template"]["spec"]["containers"]
    assert f"$JOB_COMPLETION_INDEX/{pods}" in container["command"][-1]
    assert {each["name"] for each in container["env"]} == {"APIMART_API_KEY", "APIMART_JOURNAL"}
    assert container["volumeMounts"][0]["mountPath"] == "/jobs"
    env = environment(service, APIMART_JOURNAL=url)
    await run(
        [mounted(container["command"], jobs)] * pods,
        [env | {"JOB_COMPLETION_INDEX": str(index)} for index in range(pods)],
    )
    await assert_all_are_saved(service, jobs, url)
