"""Completion by the Tab key: installed for each shell, and tried by typing into it."""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .conftest import Command

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="terminals are those of POSIX")

SHELLS: Final = [
    pytest.param(shell, marks=pytest.mark.skipif(not shutil.which(shell), reason=f"{shell} is not installed"))
    for shell in ("bash", "zsh", "fish")
]

# The file that each shell reads at its start, and lines that let Ctrl-X 1 write the line being edited.
STARTUP: Final = {
    "bash": (".bashrc", r"""bind -x '"\C-x1": printf %s "$READLINE_LINE" > line.new && mv line.new line'"""),
    "zsh": (
        ".zshrc",
        "write() { print -rn -- $BUFFER > line.new && mv line.new line }\nzle -N write\nbindkey '^X1' write",
    ),
    "fish": (".config/fish/config.fish", r"bind \cx1 'commandline > line.new; mv line.new line'"),
}
WITH_CONTROLLING_TERMINAL: Final = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""
TAB, CLEAR_LINE, WRITE_LINE = b"\t", b"\x15", b"\x181"

COMPLETED: Final = {
    "ed": "edit ",
    "task sa": "task save ",
    "batch st": "batch status ",
    "batch jo": "batch jobs.csv ",
    "batch --max-c": "batch --max-cost ",
    "task save abc --out": "task save abc --output ",
    "edit photos/a": "edit photos/a.jpg ",
    "edit photos/a.jpg photos/m": r"edit photos/a.jpg photos/my\ photo.jpg ",
    "edit photos/a.jpg --service appl": "edit photos/a.jpg --service applerouter ",
    "edit --convert=n": "edit --convert=never ",
    "edit photos/a.jpg -o pho": "edit photos/a.jpg -o photos/",
    "edit -p 'a sky' -n 2 --loc": "edit -p 'a sky' -n 2 --local ",
    "generate sky -i photos/m": r"generate sky -i photos/my\ photo.jpg ",
    "generate --out": "generate --output ",
    "-v edit --keep": "-v edit --keep-metadata ",
    # A file with the name of a command.
    "edit report --dr": "edit report --dry-run ",
    "--inst": "--install-completion ",
}


@attrs.frozen
class Shell:
    """An interactive shell on a terminal."""

    terminal: int
    directory: Path

    def completed(self, words: str) -> str:
        """Return the line after a press of the Tab key behind these words."""
        line = self.directory / "line"
        line.unlink(missing_ok=True)
        os.write(self.terminal, CLEAR_LINE + f"apimart {words}".encode() + TAB + WRITE_LINE)
        while not line.exists():
            self.read()
        return line.read_text().rstrip("\n").removeprefix("apimart ")

    def read(self) -> bytes:
        readable, _, _ = select.select([self.terminal], [], [], 0.01)
        return os.read(self.terminal, 65536) if readable else b""


@contextmanager
def started(shell: str, directory: Path) -> Iterator[Shell]:
    """Start a shell whose home is this directory, and wait for its prompt."""
    program = str(shutil.which(shell))
    ours, theirs = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", WITH_CONTROLLING_TERMINAL, program, "-i"],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        cwd=directory,
        env={"HOME": str(directory), "PATH": f"{directory}:{os.defpath}", "TERM": "xterm", "LANG": "C.UTF-8"},
        start_new_session=True,
    )
    os.close(theirs)
    try:
        running = Shell(ours, directory)
        seen = b""
        while b"READY" not in seen:
            seen += running.read()
        yield running
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        os.close(ours)


async def install(offline: Command, shell: str) -> Path:
    done = await offline("--install-completion", "--shell", shell, HOME=str(offline.directory))
    assert done.code == 0
    assert f"Completion for {shell} is installed" in done.stderr
    (path,) = done.results
    return offline.directory / path


@pytest.mark.long
@pytest.mark.parametrize("shell", SHELLS)
async def test_the_tab_key_completes_commands_options_choices_and_files(offline: Command, shell: str) -> None:
    await install(offline, shell)
    home = offline.directory
    (home / "photos").mkdir()
    for name in ("photos/a.jpg", "photos/my photo.jpg", "jobs.csv", "report"):
        (home / name).touch()
    # fish completes the arguments only of a command that exists.
    (home / "apimart").write_text("#!/bin/sh\n")
    (home / "apimart").chmod(0o755)
    name, binding = STARTUP[shell]
    startup = home / name
    startup.parent.mkdir(parents=True, exist_ok=True)
    prompt = "function fish_prompt; echo READY; end" if shell == "fish" else "PS1='READY '"
    with startup.open("a") as file:
        file.write(f"{binding}\n{prompt}\n")

    with started(shell, home) as running:
        assert {words: running.completed(words) for words in COMPLETED} == COMPLETED


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
async def test_the_script_is_installed_without_a_change_to_other_lines_and_loaded_once(
    offline: Command, shell: str
) -> None:
    startup = offline.directory / STARTUP[shell][0]
    startup.parent.mkdir(parents=True, exist_ok=True)
    startup.write_text("echo hello")
    script = await install(offline, shell)
    first = startup.read_text()
    assert await install(offline, shell) == script

    assert first.startswith("echo hello")
    assert startup.read_text() == first
    assert first.count(str(script)) == {"bash": 2, "zsh": 1, "fish": 0}[shell]
    for word in ("edit", "keep-metadata", "applerouter", "max-cost"):
        assert word in script.read_text()


async def test_zsh_and_fish_may_keep_their_files_elsewhere(offline: Command) -> None:
    home = offline.directory
    (home / "z").mkdir()
    zsh = await offline("--install-completion", "--shell", "zsh", HOME=str(home), ZDOTDIR=str(home / "z"))
    fish = await offline("--install-completion", "--shell", "fish", XDG_CONFIG_HOME=str(home / "x"))

    assert (zsh.code, fish.code) == (0, 0)

    assert "compdef" in (home / "z/.zshrc").read_text()
    assert fish.results == [str(home / "x/fish/completions/apimart.fish")]


async def test_an_unknown_shell_is_asked_for(offline: Command) -> None:
    done = await offline("--install-completion", "--shell", "tcsh")
    assert done.code == 2
    assert "bash" in done.stderr
