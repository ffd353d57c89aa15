"""Completion by the Tab key: installed for each shell, and run in a real bash."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from .conftest import Command

BASH = shutil.which("bash")

COMPLETE = """
. "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
_apimart
printf '%s\\n' "${COMPREPLY[@]}"
"""


async def install(offline: Command, shell: str) -> Path:
    done = await offline("--install-completion", "--shell", shell, HOME=str(offline.directory))
    assert done.code == 0
    assert f"Completion for {shell} is installed" in done.stderr
    (path,) = done.results
    return offline.directory / path


@pytest.mark.skipif(BASH is None, reason="there is no bash")
async def test_bash_completes_commands_options_choices_and_files_with_spaces(offline: Command) -> None:
    script = await install(offline, "bash")
    folder = offline.directory / "photos"
    folder.mkdir()
    for name in ("a.jpg", "my photo.jpg"):
        (folder / name).touch()

    def completed(*words: str) -> list[str]:
        command = [str(BASH), "--norc", "-c", COMPLETE, "bash", str(script), "apimart", *words]
        done = subprocess.run(command, cwd=offline.directory, capture_output=True, text=True, check=True)
        assert done.stderr == ""
        return done.stdout.splitlines()

    assert completed("ed") == ["edit"]
    assert completed("task", "") == ["get", "wait", "save"]
    assert sorted(completed("edit", "photos/")) == ["photos/a.jpg", "photos/my photo.jpg"]
    assert completed("edit", "photos/a.jpg", "photos/m") == ["photos/my photo.jpg"]
    assert completed("edit", "photos/a.jpg", "--service", "") == ["apimart", "applerouter"]
    assert completed("edit", "photos/a.jpg", "--keep") == ["--keep-metadata"]
    assert completed("generate", "two words", "-i", "photos/m") == ["photos/my photo.jpg"]
    # Where the script has no answer, bash completes the name of a file; folders get a slash.
    assert "complete -o default -o filenames -F _apimart apimart" in script.read_text()
    assert str(script) in (offline.directory / ".bashrc").read_text()


@pytest.mark.parametrize("shell", ["zsh", "fish"])
async def test_zsh_and_fish_get_a_script_with_commands_and_files(offline: Command, shell: str) -> None:
    script = (await install(offline, shell)).read_text()

    assert "apimart" in script
    for word in ("edit", "keep-metadata", "applerouter", "max-cost"):
        assert word in script
    if shell == "zsh":
        assert ":_files'" in script
        assert "fpath=" in (offline.directory / ".zshrc").read_text()


async def test_an_unknown_shell_is_asked_for(offline: Command) -> None:
    done = await offline("--install-completion", "--shell", "tcsh")
    assert done.code == 2
    assert "bash" in done.stderr
