"""Mistakes found before anything is sent: one sentence, exit code 2, no request."""

from __future__ import annotations

import os
import shlex
import sys
from typing import TYPE_CHECKING

import pytest

from apimart_async.cli import main
from apimart_async.cli.app import run

if TYPE_CHECKING:
    from pathlib import Path

    from apimart_async.emulator import Emulator

    from .conftest import Command

NOWHERE = "http://127.0.0.1:9"


@pytest.fixture
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APIMART_API_KEY", "sk-never-to-be-seen")
    monkeypatch.setenv("APIMART_BASE_URL", NOWHERE)
    monkeypatch.setenv("APPLEROUTER_API_KEY", "sk-never-to-be-seen")
    monkeypatch.setenv("APPLEROUTER_BASE_URL", NOWHERE)


@pytest.mark.usefixtures("_key")
@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        ("edit", "IMAGES"),
        ("edit PHOTO", "--prompt is missing. See: apimart edit --help"),
        ("edit PHOTO -p", "-p has no value."),
        ("edit PHOTO -p x -o -", "-o does not take -."),
        ("edit PHOTO -p x -o=-", "-o does not take -: results are files, and their paths go to stdout."),
        ("edit PHOTO --promt=x", "Unknown option: --promt. Did you mean --prompt?"),
        ("edit PHOTO -p ' '", "prompt must be a text that is not empty"),
        ("edit PHOTO -p x -n 11", "n must be a whole number from 1 to 10, not 11"),
        ("edit PHOTO -p x -n two", "two"),
        ("edit PHOTO -p x --model ''", "model must be"),
        ("edit PHOTO -p x --timeout 0", "--timeout must be more than 0"),
        ("edit PHOTO -p x --timeout nan", "--timeout must be more than 0"),
        ("edit PHOTO -p x --colour", "Unknown option"),
        ("edit PHOTO -p x --base-url ftp://host", "base_url must look like"),
        ("edit PHOTO -p x --local --base-url NOWHERE", "leave --base-url out"),
        ("edit PHOTO -p x -o PHOTO", "exists already"),
        ("edit PHOTO -p x -o PHOTO/out", "Nothing can be saved in"),
        ("edit ftp://host/picture.png -p x", "ftp://"),
        ("edit FOLDER -p x", "is a directory: give its pictures, such as "),
        ("edit PHOTO -p x --mask m.png", "--mask is for --service applerouter"),
        ("edit PHOTO -p x --size 256x256", "--size is for --service applerouter"),
        ("edit PHOTO -p x --service other", "other"),
        ("edit PHOTO -p x --service applerouter --inline", "--inline is for --service apimart"),
        ("edit PHOTO -p x --service applerouter --size 3x3", "size must be one of 256x256"),
        ("edit https://host/a.png -p x --service applerouter", "is an address: download it first"),
        ("edit FOLDER -p x --service applerouter", "is a directory"),
        ("edit FOLDER -p x --service applerouter --model another", "is a directory"),
        ("edit PHOTO -p x --service applerouter --mask none.png", "none.png"),
        ("edit PHOTO -p x --service applerouter -m another -o PHOTO", "exists already"),
        ("generate", "PROMPT"),
        ("generate ' '", "prompt must be a text that is not empty"),
        ("generate x -n 0", "n must be a whole number"),
        ("generate x --model ''", "model must be"),
        ("generate x --timeout 0", "--timeout must be more than 0"),
        ("generate x -i FOLDER", "is a directory"),
        ("generate x --mask FOLDER", "is a directory"),
        ("generate x --local --base-url NOWHERE", "leave --base-url out"),
        ("generate x -o PHOTO", "exists already"),
        ("balance --scope team", "team"),
        ("balance --base-url ftp://host", "base_url must look like"),
        ("models --base-url ftp://host", "base_url must look like"),
        ("upload https://host/picture.png", "is an address already"),
        ("task get ' '", "One of the task ids is empty"),
        ("task save task_1 -o PHOTO", "is not a directory"),
        ("emulator --port 70000", "The emulator cannot be started so"),
        ("emulator --faults FOLDER/none.json", "cannot be read"),
        ("emulator --faults PHOTO", "The emulator cannot be started so"),
        ("batch PHOTO b.jpg c.jpg -p x -o out", "Unexpected argument: b.jpg and 1 more. Put a pattern or"),
        ("edit PHOTO -p A starry sky --dry-run", "Unexpected argument: starry and 1 more"),
        ("batch FOLDER -p x -o PHOTO --check", "is not a directory: name another one with -o."),
        ("edti", 'Unknown command "edti"'),
        ("task find", 'Unknown command "find"'),
    ],
)
def test_a_mistake_is_a_sentence(
    command: str, sentence: str, photo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = {"PHOTO": str(photo), "FOLDER": str(photo.parent), "NOWHERE": NOWHERE}
    for name, place in places.items():
        command = command.replace(name, shlex.quote(place))

    assert run(shlex.split(command)) == 2

    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("apimart: ")
    assert said.err.count("\n") == 1
    assert sentence in said.err
    assert "sk-never-to-be-seen" not in said.err


async def test_bad_pictures_are_all_named_and_nothing_is_sent(
    apimart: Command, emulator: Emulator, photo: Path
) -> None:
    text, empty, missing = (apimart.directory / name for name in ("notes.jpg", "empty.png", "missing.gif"))
    text.write_text("not a picture")
    empty.touch()
    done = await apimart("edit", photo, text, empty, missing, "-p", "x", "-o", "out", "--json")

    assert done.code == 2
    assert done.stdout == ""
    heading, *named = done.stderr.splitlines()
    assert "3 of 4 pictures cannot be sent" in heading
    for line, path in zip(named, (text, empty, missing), strict=True):
        assert str(path) in line
    assert emulator.requests == ()
    assert not (apimart.directory / "out").exists()


@pytest.mark.parametrize(
    ("command", "remedy"),
    [("edit", "add --local"), ("upload", "run `apimart emulator`"), ("task", "run `apimart emulator`")],
)
def test_without_a_key_both_remedies_are_named(
    command: str,
    remedy: str,
    photo: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("APIMART_API_KEY", " ")
    arguments = {
        "edit": ["edit", str(photo), "-p", "x"],
        "upload": ["upload", str(photo)],
        "task": ["task", "get", "task_1"],
    }

    assert run(arguments[command]) == 2

    sentence = capsys.readouterr().err
    assert "set APIMART_API_KEY" in sentence
    assert remedy in sentence


@pytest.mark.parametrize("module", ["cyclopts", "rich"])
def test_without_its_extra_the_command_names_it(
    module: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(SystemExit) as ended:
        main()

    assert ended.value.code == 2
    assert f"needs {module}: pip install '.[cli]' in the clone" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["edit PHOTO -p x --local", "emulator"])
def test_without_pillow_the_emulator_names_its_extra(
    command: str, photo: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in sys.modules if name.startswith("apimart_async.emulator")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "PIL", None)

    assert run(command.replace("PHOTO", str(photo)).split()) == 2
    assert "needs Pillow: pip install '.[emulator]' in the clone" in capsys.readouterr().err


async def test_an_unexpected_error_is_a_sentence_and_a_traceback_only_when_debugging(
    offline: Command, photo: Path
) -> None:
    (offline.directory / "aiohttp.py").write_text("raise RuntimeError('a broken package')")
    path = os.pathsep.join([str(offline.directory), os.environ.get("PYTHONPATH", "")])
    broken = {"PYTHONPATH": path, "APIMART_API_KEY": "k"}

    done = await offline.in_process("upload", photo, **broken)
    debugged = await offline.in_process("upload", photo, **broken, APIMART_DEBUG="1")

    assert (done.code, debugged.code) == (1, 1)
    assert done.stderr.count("\n") == 1
    assert "Unexpected RuntimeError: a broken package" in done.stderr
    assert "APIMART_DEBUG=1" in done.stderr
    assert "Traceback" not in done.stderr
    assert "Traceback" in debugged.stderr
