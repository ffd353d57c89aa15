from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import requests

from .conftest import opened

if TYPE_CHECKING:
    from .conftest import Service

SCRIPT = Path(__file__).with_name("three_steps.py")


def three_steps(service: Service, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", str(SCRIPT), *arguments],
        cwd=folder,
        env=service.environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.mark.parametrize(("kind", "size"), [((), (640, 427)), (("generation",), (1024, 576))])
def test_the_documented_three_steps(
    service: Service, folder: Path, kind: tuple[str, ...], size: tuple[int, int]
) -> None:
    done = three_steps(service, folder, "photo.jpg", "A starry sky", "result.jpg", *kind)
    assert done.returncode == 0, done.stderr
    task_id, cost = done.stdout.split()
    assert opened((folder / "result.jpg").read_bytes()).size == size
    ledger = requests.get(
        f"{service.base_url}/emulator/ledger",
        headers={"Authorization": f"Bearer {service.api_key}"},
        timeout=120,
    ).json()
    (entry,) = [entry for entry in ledger["entries"] if entry["task_id"] == task_id]
    assert entry["cost"] == float(cost) > 0


def test_a_failed_task_is_said_to_have_failed(service: Service, folder: Path) -> None:
    done = three_steps(service, folder, "photo.jpg", "moderated", "result.jpg")
    assert done.returncode == 1
    assert done.stderr.startswith("The task failed:")
    assert not (folder / "result.jpg").exists()


def test_a_wrong_file_is_refused_with_the_documented_words(service: Service, folder: Path) -> None:
    (folder / "note.txt").write_text("This is no picture at all.")
    done = three_steps(service, folder, "note.txt", "A starry sky", "result.jpg")
    assert done.returncode == 1
    assert "HTTP 400: unsupported image type" in done.stderr
    assert "allowed: jpeg, png, gif, webp" in done.stderr


def test_an_empty_account_is_refused_before_anything_is_done(penniless: Service, folder: Path) -> None:
    done = three_steps(penniless, folder, "photo.jpg", "A starry sky", "result.jpg")
    assert done.returncode == 1
    assert done.stderr.startswith("HTTP 402:")


def test_the_published_script_runs_unchanged(service: Service, folder: Path, repository: Path) -> None:
    published = (repository / "docs" / "examples" / "upload_and_generate.py").read_text(encoding="utf-8")
    script = published.replace("https://api.apimart.ai", service.base_url)
    script = script.replace("YOUR_API_KEY", service.api_key)
    (folder / "script.py").write_text(script, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-W", "error", "script.py", "photo.jpg", "A starry sky"],
        cwd=folder,
        env=service.environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    *_, submitted, result = done.stdout.splitlines()
    task_id, url = submitted.split()[-1], result.split()[-1]
    assert url.startswith(f"{service.base_url}/files/results/{task_id}/")
    assert opened(requests.get(url, timeout=120).content).size == (1024, 576)
    ledger = requests.get(
        f"{service.base_url}/emulator/ledger",
        headers={"Authorization": f"Bearer {service.api_key}"},
        timeout=120,
    ).json()
    assert [entry["cost"] for entry in ledger["entries"] if entry["task_id"] == task_id] == [0.05]
