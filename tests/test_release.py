"""A release publishes the wheel that was tested, and keeps the documentation of every version."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tomllib
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

VERSION = '__version__: Final = "1.2.3"\n'


@pytest.fixture
def workflow(repository: Path) -> str:
    return (repository / ".github" / "workflows" / "release.yml").read_text(encoding="utf-8")


@pytest.fixture
def jobs(workflow: str) -> dict[str, str]:
    _, *parts = re.split(r"^  (\w+):\n(?=    )", workflow.partition("\njobs:\n")[2], flags=re.MULTILINE)
    return dict(zip(parts[::2], parts[1::2], strict=True))


def test_a_release_begins_with_a_tag_only(workflow: str) -> None:
    (triggers,) = re.findall(r"^on:\n((?: .*\n)+)", workflow, re.MULTILINE)
    assert re.fullmatch(r"  push:\n    tags: \[.*\]\n", triggers)


def test_nothing_is_published_that_was_not_tested(jobs: dict[str, str]) -> None:
    needs = {name: re.findall(r"^    needs: (\w+)$", text, re.MULTILINE) for name, text in jobs.items()}
    assert needs == {"build": [], "test": ["build"], "publish": ["test"], "pages": ["publish"]}
    assert "TESTED_WHEEL" in jobs["test"]
    # The job that publishes takes the files as they are, and runs nothing of the repository.
    assert "checkout" not in jobs["publish"]
    assert "run:" not in jobs["publish"]


def test_one_job_has_the_right_to_publish(jobs: dict[str, str]) -> None:
    assert [name for name, text in jobs.items() if "id-token: write" in text] == ["publish"]
    assert [name for name, text in jobs.items() if "contents: write" in text] == ["pages"]
    assert "password" not in jobs["publish"]
    assert "environment: pypi" in jobs["publish"]


def test_every_supported_python_is_tested(repository: Path, jobs: dict[str, str]) -> None:
    project = tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    classified = set(re.findall(r"Python :: (3\.\d+)", " ".join(project["classifiers"])))
    (matrix,) = re.findall(r"python: \[(.*)\]", jobs["test"])
    assert classified == set(re.findall(r"3\.\d+", matrix))
    checks = (repository / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
    (installed,) = re.findall(r"python-version: \|\n((?: +3\.\d+\n)+)", checks)
    assert classified == set(installed.split())


@pytest.fixture
def clone(repository: Path, tmp_path: Path) -> Path:
    """A clone with the scripts, a version and a changelog, and a remote."""
    clone = tmp_path / "clone"
    shutil.copytree(repository / ".ci", clone / ".ci")
    (clone / "apimart_async").mkdir()
    (clone / "apimart_async" / "__init__.py").write_text(VERSION)
    (clone / "CHANGELOG.md").write_text("# Changes\n\n## 1.2.3 (2026-12-01)\n")
    git(tmp_path, "init", "--quiet", "--bare", "remote.git")
    git(clone, "init", "--quiet")
    git(clone, "remote", "add", "origin", str(tmp_path / "remote.git"))
    git(clone, "add", "--all")
    git(clone, "-c", "user.name=a", "-c", "user.email=a@localhost", "commit", "--quiet", "-m", "Begin")
    return clone


def git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=True)  # noqa: S607 the git of this machine
    return done.stdout


def check_tag(clone: Path, tag: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([clone / ".ci" / "check-tag", tag], capture_output=True, text=True, check=False)


def test_a_tag_has_to_name_the_version_and_the_changelog_to_have_it(clone: Path) -> None:
    assert check_tag(clone, "v1.2.3").returncode == 0
    assert "1.2.3" in check_tag(clone, "v1.2.4").stderr
    (clone / "CHANGELOG.md").write_text("# Changes\n\n## 1.2.30 (2026-12-01)\n")
    assert "towncrier" in check_tag(clone, "v1.2.3").stderr


def test_the_pages_keep_every_version_and_lead_to_the_newest(clone: Path, tmp_path: Path) -> None:
    html = tmp_path / "html"
    (html / "_static").mkdir(parents=True)
    (html / "_static" / "style.css").write_text("a {}")
    for tag in ("v0.9.0", "v0.10.0", "v0.11.0rc1", "v0.9.0"):
        (html / "index.html").write_text(f"The pages of {tag}")
        subprocess.run([clone / ".ci" / "publish-pages", html, tag], cwd=clone, check=True)
    remote = tmp_path / "remote.git"
    names = git(remote, "ls-tree", "-r", "--name-only", "gh-pages").split()
    assert "apimart_async/__init__.py" not in names
    assert {name.partition("/")[0] for name in names} == {
        ".nojekyll",
        "0.10.0",
        "0.11.0rc1",
        "0.9.0",
        "index.html",
        "versions.json",
    }
    assert "0.10.0/_static/style.css" in names
    front = git(remote, "show", "gh-pages:index.html")
    assert "url=0.10.0/" in front
    versions = ["0.11.0rc1", "0.10.0", "0.9.0"]
    assert re.findall(r'href="([^"]+)/"', front) == versions
    listed = json.loads(git(remote, "show", "gh-pages:versions.json"))
    assert listed == {"newest": "0.10.0", "versions": versions}
    # The same version again changes nothing.
    assert len(git(remote, "log", "--format=%h", "gh-pages").split()) == 3
    assert "clone" not in git(clone, "worktree", "list").partition("\n")[2]
