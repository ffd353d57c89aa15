"""The recipes that need other people's packages: each runs as its page shows it."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import httpx
import pytest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from apimart_async.emulator import Emulator

pytest_plugins = ["pytester"]

# Services of their own, as their users have them, under a pytest of their own.
FLAGS = ("-p", "no:cacheprovider", "-p", "no:xdist", "-W", "error")


@pytest.mark.parametrize("name", ["fastapi_service", "celery_worker"])
def test_a_recipe_passes_its_own_tests(
    name: str, pytester: pytest.Pytester, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(repository / "docs" / "examples", pytester.path / "examples")
    pytester.makeini("[pytest]\nanyio_mode = auto\n")
    monkeypatch.chdir(pytester.path / "examples" / name)
    outcomes = pytester.runpytest_subprocess(*FLAGS).parseoutcomes()
    assert set(outcomes) == {"passed"}
    assert outcomes["passed"] >= 4


def edit_with_openai(repository: Path, folder: Path, emulator: Emulator) -> subprocess.CompletedProcess[str]:
    shutil.copy(repository / "docs" / "examples" / "photos" / "lighthouse.jpg", folder / "photo.jpg")
    return subprocess.run(
        [sys.executable, "-W", "error", str(repository / "docs" / "examples" / "from_openai.py")],
        cwd=folder,
        env=os.environ | {"APPLEROUTER_BASE_URL": emulator.router_url},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_the_program_for_openai_runs(repository: Path, tmp_path: Path, apimart_emulator: Emulator) -> None:
    done = edit_with_openai(repository, tmp_path, apimart_emulator)
    assert done.returncode == 0, done.stderr
    paths = done.stdout.split()
    assert len(paths) == 3
    assert all((tmp_path / path).stat().st_size for path in paths)
    apimart_emulator.ledger.assert_billed(times=2)


def test_openai_pays_three_times_for_an_edit_whose_answers_are_lost(
    repository: Path, tmp_path: Path, apimart_emulator: Emulator
) -> None:
    """The page says so."""
    from apimart_async.emulator import Fault

    apimart_emulator.faults.add(Fault(kind="disconnect", route="applerouter", executed=True))
    done = edit_with_openai(repository, tmp_path, apimart_emulator)
    assert done.returncode != 0
    assert "APIConnectionError" in done.stderr
    assert len(apimart_emulator.ledger.entries) == 3


async def test_the_webhook_receiver_saves_the_image_once(
    repository: Path, tmp_path: Path, apimart_emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert apimart_emulator.base_url
    monkeypatch.chdir(tmp_path)
    module = example(repository / "docs" / "examples" / "webhook_fastapi.py")
    transport = httpx.ASGITransport(module.app)
    async with (
        module.app.router.lifespan_context(module.app),
        httpx.AsyncClient(transport=transport, base_url="http://service") as service,
    ):
        submitted = await service.post("/generations", params={"prompt": "A lighthouse"})
        assert submitted.status_code == 202
        assert (await service.post("/generations", params={"prompt": ""})).status_code == 400
        notification = {"id": submitted.json()["task_id"], "status": "completed"}
        statuses = {503}
        while 503 in statuses:  # until the task has ended
            statuses = {
                (await service.post("/apimart/callback", json=notification)).status_code for _ in "ab"
            }
        assert statuses == {200}
        forged = await service.post("/apimart/callback", json={"id": "task_1", "status": "completed"})
        assert forged.status_code == 400
        assert (await service.post("/apimart/callback", content=b"{")).status_code == 400
        assert (await service.post("/apimart/callback", content=endless())).status_code == 413
    assert len(list((tmp_path / "out").iterdir())) == 1


async def endless() -> AsyncIterator[bytes]:
    while True:
        yield b" " * 300_000


def example(path: Path) -> Any:
    """Import an example of the documentation."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # FastAPI looks annotations up there
    spec.loader.exec_module(module)
    return module
