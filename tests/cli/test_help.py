"""The help: examples, exit codes, and the same command by either name."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
import tomllib
from inspect import cleandoc
from typing import TYPE_CHECKING

import anyio
import pytest

import apimart_async
from apimart_async.cli.app import build, run
from apimart_async.resources.edits import DEFAULT_MODEL

from .conftest import MODULE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cyclopts import App

    from .conftest import Command


def help_of(capsys: pytest.CaptureFixture[str], *command: str) -> str:
    assert run([*command, "--help"]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    return said.out


@pytest.mark.parametrize(
    "command",
    [
        (),
        ("balance",),
        ("edit",),
        ("generate",),
        ("models",),
        ("upload",),
        ("task", "get"),
        ("task", "wait"),
        ("task", "save"),
        ("batch",),
        ("batch", "status"),
        ("report",),
        ("emulator",),
    ],
    ids=" ".join,
)
def test_every_help_shows_an_example(command: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    text = help_of(capsys, *command)
    assert re.search(rf"^  (\S+=\S+ )?apimart {' '.join(command)}", text, re.MULTILINE)
    assert not [line for line in text.splitlines() if len(line) > 80]


def test_no_text_of_help_is_wrapped_on_80_columns_and_commands_are_in_the_order_of_use() -> None:
    def commands(app: App, *names: str) -> Iterator[tuple[str, App]]:
        yield " ".join(names), app
        for name in app:
            if name not in {"--help", "-h", "--version"}:
                yield from commands(app[name], *names, name)

    everything = dict(commands(build()))
    texts = {name: f"{app.help}\n{app.help_epilogue or ''}" for name, app in everything.items()}
    # In the panel of the commands, a first line may be wrapped; it has fewer columns there.
    assert [
        line for text in texts.values() for line in cleandoc(text).splitlines()[1:] if len(line) > 80
    ] == []
    top = [name for name, app in sorted(everything.items(), key=lambda each: each[1].sort_key or 0) if name]
    assert [name for name in top if " " not in name][:3] == ["edit", "generate", "upload"]


def test_every_help_names_the_options_of_all_commands(capsys: pytest.CaptureFixture[str]) -> None:
    for command in ((), ("edit",), ("batch", "status")):
        assert "\n  -q   no progress" in help_of(capsys, *command)


@pytest.mark.long
@pytest.mark.skipif(sys.platform == "win32", reason="the examples are for a POSIX shell")
async def test_the_examples_without_a_key_run_from_the_clone(
    offline: Command, repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    helps = [help_of(capsys, *command) for command in ((), ("edit",), ("generate",), ("batch",))]
    examples = [line.strip() for text in helps for line in text.splitlines() if line.startswith("  apimart ")]
    without_key = [example for example in examples if re.search(r"--local|--dry-run", example)]
    assert len(without_key) >= 10
    clone, programs = tmp_path / "clone", tmp_path / "programs"
    shutil.copytree(repository / "docs" / "examples", clone / "docs" / "examples")
    programs.mkdir()
    (programs / "apimart").write_text(f'#!/bin/sh\nexec {shlex.join(MODULE)} "$@"\n')
    (programs / "apimart").chmod(0o755)
    environment = offline.whole_environment
    environment["PATH"] = f"{programs}{os.pathsep}{environment['PATH']}"
    limiter = anyio.CapacityLimiter(4)

    async def try_out(example: str) -> None:
        async with limiter:
            done = await anyio.run_process(example, cwd=clone, env=environment, check=False)
        assert done.returncode == 0, (example, done.stderr.decode())

    async with anyio.create_task_group() as group:
        for example in without_key:
            group.start_soon(try_out, example)


def test_the_exit_codes_are_documented(capsys: pytest.CaptureFixture[str]) -> None:
    codes = re.findall(r"^  (\d+) +\w", help_of(capsys), re.MULTILINE)
    assert codes == ["0", "1", "2", "130"]


def test_the_default_model_is_that_of_the_sdk(capsys: pytest.CaptureFixture[str]) -> None:
    assert f"default: {DEFAULT_MODEL}]" in re.sub(r"[\s│]+", " ", help_of(capsys, "edit"))


def test_without_arguments_the_help_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([]) == 0
    assert capsys.readouterr().out == help_of(capsys)


def test_the_list_of_commands_has_the_first_line_of_the_help_of_each() -> None:
    listed, whole = build(only=""), build()
    names = [name for name in whole if not name.startswith("-")]
    assert names == [name for name in listed if not name.startswith("-")]
    for name in names:
        assert listed[name].help == whole[name].help.partition("\n")[0]


async def test_the_list_of_commands_imports_no_command_and_no_client(offline: Command) -> None:
    script = (
        "import sys; from apimart_async.cli.app import run; code = run(['--help'])\n"
        "print(*sys.modules, file=sys.stderr); sys.exit(code)"
    )
    done = await anyio.run_process([sys.executable, "-c", script], cwd=offline.directory)

    modules = set(done.stderr.decode().split())
    heavy = {"asyncio", "anyio", "aiohttp", "cattrs", "sqlite3", "PIL", "jinja2"}
    ours = {
        f"apimart_async.{name}" for name in ("cli.edit", "cli.batch", "cli.options", "transport", "client")
    }
    assert "apimart_async.cli.app" in modules
    assert sorted(modules & (heavy | ours)) == []


async def test_the_module_is_the_command(offline: Command) -> None:
    done = await offline.in_process("--version")
    assert (done.code, done.stdout, done.stderr) == (0, f"{apimart_async.__version__}\n", "")


def test_the_entry_point_is_the_module_s(repository: Path) -> None:
    project = tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["scripts"] == {"apimart": "apimart_async.cli:main"}
