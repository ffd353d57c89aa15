"""Text from outside commands no terminal, forges no line, and becomes no option of a command to be copied."""

from __future__ import annotations

import logging
import shlex
import subprocess
from pathlib import Path

import pytest

from apimart_async import ApimartError
from apimart_async.cli.app import build
from apimart_async.cli.display import messages, output
from apimart_async.cli.display.messages import ResumeHint, explain

HOSTILE = "\x1b]0;title\x07\x9b31m\r\nforged: line\u2028\u202e"
CONTROLS = {*map(chr, range(32)), "\x7f", *map(chr, range(0x80, 0xA0)), "\u2028", "\u202e"}


def assert_is_harmless(text: str, lines: int = 1) -> None:
    assert text.count("\n") == lines
    assert not CONTROLS & set(text.replace("\n", ""))


@pytest.mark.parametrize("write", [output.say, output.write_line])
def test_lines_are_printed_without_control_characters(
    capsys: pytest.CaptureFixture[str], write: object
) -> None:
    assert callable(write)
    write(HOSTILE)
    assert_is_harmless("".join(capsys.readouterr()))


def test_what_an_error_says_forges_no_line(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = ApimartError(HOSTILE, request_id=HOSTILE, task_id=HOSTILE)
    assert_is_harmless(f"{error}\n")
    logging.getLogger("apimart_async").warning("%s", error)
    assert_is_harmless(f"{caplog.messages[0]}\n")
    assert_is_harmless(explain(error, ResumeHint(Path("out"))) + "\n")
    monkeypatch.setenv("APIMART_DEBUG", "1")
    messages.trace(error)
    assert "\nforged" not in capsys.readouterr().err


@pytest.mark.parametrize(
    "task_id",
    [
        "--base-url=https://evil.example",
        "-o/etc",
        "--",
        "a b; rm -rf /",
        "$(id)",
        "`id`",
        "'",
        HOSTILE,
        "a\\'\x1b",
    ],
)
@pytest.mark.parametrize("directory", [None, Path("my results")])
def test_an_id_in_a_command_to_be_copied_stays_an_id(task_id: str, directory: Path | None) -> None:
    command = ResumeHint(directory, ["https://api.example"]).command([("task_1", None), (task_id, None)])
    assert command is not None
    assert_is_harmless(command + "\n")
    shell = subprocess.run(["/bin/bash", "-c", f"printf '%s\\0' {command}"], capture_output=True, check=True)
    words = shell.stdout.decode().split("\0")[1:-1]
    assert task_id in words
    _, bound, _ = build().parse_args(words, print_error=False, exit_on_error=False)
    assert bound.arguments["base_url"] == ["https://api.example"]
    assert bound.args == (["task_1", task_id],)


def test_a_command_without_hostile_ids_is_plain() -> None:
    command = ResumeHint(Path("my results")).command([("task_1", None)])
    assert command is not None
    assert shlex.split(command) == ["apimart", "task", "save", "task_1", "-o", "my results"]


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:hunter2@h/db",
        "postgresql://h/db?user=u&password=hunter2",
        "postgres://h?sslpassword=hunter2",
    ],
)
@pytest.mark.parametrize("form", ["--journal {}", "--journal={}"])
def test_a_command_to_be_copied_holds_no_password_of_a_journal(url: str, form: str) -> None:
    token = output.ARGUMENTS.set(["batch", "jobs.csv", "-o", "out", *form.format(url).split()])
    try:
        assert output.same_command() is None
    finally:
        output.ARGUMENTS.reset(token)
