"""Names come from asyncio, HTTP and batch processing; no name has a word that only this project knew."""

from __future__ import annotations

import ast
import re
from functools import cache
from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# Room -> words that no module, class, function, parameter or test there may bear.
RETIRED: Final = {
    "": "passage scratch landing verdict throttle vigil lookout party conductor conducting facilities meter "
    "darkroom mischief rehearsal gauge enter_now restore_experience drain",
    "transport": "outcome pace gate turns draft bodies disk",
    "polling": "look looks meeting experience ending",
    "batch": "course paying finishing preparing stopping cells survey listing figures place placed",
    "cli": "standing continuing routed fitting perform batching interrupting",
    "emulator": "door spoiling looks guard hosting",
}


@cache
def parts(name: str) -> str:
    """Return the words of a name between underscores: ``PollQueue`` becomes ``_poll_queue_``."""
    snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name)
    return f"_{snake.lower().strip('_')}_"


def names(path: Path) -> Iterator[tuple[int, str]]:
    yield 1, path.stem
    for node in ast.walk(ast.parse(path.read_bytes())):
        match node:
            case ast.ClassDef() | ast.FunctionDef() | ast.AsyncFunctionDef():
                yield node.lineno, node.name
            case ast.arg():
                yield node.lineno, node.arg
            case _:
                pass


# The field's own names.
EXCEPTIONS: Final = {("apimart_async/otel.py", "meter"), ("apimart_async/otel.py", "meter_provider")}


def bearers(repository: Path, room: str, words: str) -> list[str]:
    patterns = [f"_{word}_" for word in words.split()]
    folders = [f"apimart_async/{room}", f"tests/{room}"]
    return [
        f"{path.relative_to(repository)}:{line}: {name}"
        for folder in folders
        for path in sorted((repository / folder).rglob("*.py"))
        for line, name in names(path)
        if any(pattern in parts(name) for pattern in patterns)
        and (path.relative_to(repository).as_posix(), name) not in EXCEPTIONS
    ]


@pytest.mark.parametrize("room", RETIRED)
def test_no_name_bears_a_retired_word(repository: Path, room: str) -> None:
    assert bearers(repository, room, RETIRED[room]) == []


def test_a_retired_word_is_found_in_any_spelling(tmp_path: Path) -> None:
    (tmp_path / "apimart_async").mkdir()
    (tmp_path / "apimart_async" / "vigil.py").write_text(
        "class PollVigil:\n    async def lead_party(self, vigil): ...\ndef surveillance(): ...\n"
    )
    found = bearers(tmp_path, "", RETIRED[""])
    assert [line.rpartition(": ")[2] for line in found] == ["vigil", "PollVigil", "lead_party", "vigil"]
