"""Every example in the README and the documentation works."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from anyio.from_thread import start_blocking_portal

from apimart_async.emulator import Emulator

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

INCLUDE = re.compile(r"^```\{literalinclude\} (\S+\.py)\n((?::.*\n)*)```$", re.MULTILINE)
FENCE = re.compile(r"^```(?P<language>\w+)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)
# Commands of a shell between `&&` and line ends, and those of this package, with or without variables.
PARTS = re.compile(r"&&|(?<!\\)\n")
OURS = re.compile(r"\s*([A-Z_]+=\S+ )*apimart ")


@pytest.fixture
def service() -> Iterator[Emulator]:
    """An emulator in a thread of its own, for clients in other processes."""
    emulator = Emulator(task_seconds=0.5, images="tiny")
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(emulator):
        yield emulator


def examples(repository: Path) -> dict[str, tuple[str, ...]]:
    """Return the command that runs each example, by where it stands."""
    commands: dict[str, tuple[str, ...]] = {}
    for page in (repository / "README.md", *sorted(repository.glob("docs/**/*.md"))):
        text = page.read_text(encoding="utf-8")
        for fence in FENCE.finditer(text):
            place = f"{page.relative_to(repository)}:{text.count(chr(10), 0, fence.start()) + 2}"
            if fence["language"] == "python":
                commands[place] = (sys.executable, "-W", "error", "-c", fence["code"])
            elif fence["language"] == "sh":
                # The installing half of a command has been done for the tests.
                ours = [part for part in PARTS.split(fence["code"]) if OURS.match(part)]
                if ours:
                    commands[place] = ("bash", "-euc", "\n".join(ours))
            else:
                pytest.fail(f"{place}: nothing runs {fence['language']}")
    return commands


def run(
    command: tuple[str, ...], directory: Path, repository: Path, service: Emulator
) -> subprocess.CompletedProcess[str]:
    """Run an example where its photos are, as a user with a key would."""
    examples = repository / "docs" / "examples"
    shutil.copytree(examples, directory / "docs" / "examples", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(examples / "photos" / "lighthouse.jpg", directory / "photo.jpg")
    environment = os.environ | {
        "APIMART_API_KEY": service.api_key,
        "APIMART_BASE_URL": service.base_url,
        "APPLEROUTER_API_KEY": service.api_key,
        "APPLEROUTER_BASE_URL": service.base_url,
        "PATH": f"{sysconfig.get_path('scripts')}{os.pathsep}{os.environ['PATH']}",
    }
    return subprocess.run(
        command,
        cwd=directory,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=300,
        check=False,
    )


def test_an_included_program_is_whole_but_for_its_docstring(repository: Path) -> None:
    """Without the first import, its annotations name types that are imported for type checkers only."""
    included = 0
    for page in repository.glob("docs/**/*.md"):
        for name, options in INCLUDE.findall(page.read_text(encoding="utf-8")):
            program = (page.parent / name).read_text(encoding="utf-8")
            if "from __future__ import annotations" in program:
                included += 1
                assert ":start-at: from __future__" in options or ":start-at:" not in options, (page, name)
    assert included > 5


@pytest.mark.long
def test_every_example_runs(
    repository: Path, service: Emulator, tmp_path: Path, subtests: pytest.Subtests
) -> None:
    commands = examples(repository)
    assert len(commands) > 5
    # An example that is in two places runs once.
    directories = {command: tmp_path / str(number) for number, command in enumerate(set(commands.values()))}
    # They wait for tasks most of the time, so they wait together, but do not start all at once.
    with ThreadPoolExecutor(8) as threads:
        runs = {
            command: threads.submit(run, command, directory, repository, service)
            for command, directory in directories.items()
        }
    for place, command in commands.items():
        with subtests.test(place):
            result = runs[command].result()
            assert result.returncode == 0, result.stderr
            assert result.stdout, "says nothing"
            for line in result.stdout.splitlines():
                for word in line.split():
                    if word.startswith(("out/", "edited/")):
                        assert (directories[command] / word.rstrip(".")).stat().st_size
