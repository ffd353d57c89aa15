"""Write the tests of the blocking twins from the async tests of the resources.

    python tests/sync/generate_tests.py [--check]

An async test becomes a blocking one without `async`, `await` and `Async`; its emulator runs in a thread.
Left out are statements that name asyncio or anyio, such as tests that cancel a task, and the tables of wrong
arguments, which the twins pass on unread. `--check` writes nothing and prints the differences.
"""

from __future__ import annotations

import ast
import difflib
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

TESTS: Final = Path(__file__).resolve().parent.parent
SOURCES: Final = ("account", "applerouter", "edits", "generations")
HEADER: Final = "# Written by tests/sync/generate_tests.py from {source}: change that file instead.\n\n"
REPLACEMENTS: Final = (
    (r"\basync (?=def |with |for )", ""),
    (r"\bawait ", ""),
    (r"\bAsync(?=Apimart\b|AppleRouter\b|Iterator\b)", ""),
    (r"(?m)^from apimart_async\.emulator import", "from ..emulator import"),
)
LEFT_OUT: Final = re.compile(r"\b(asyncio|anyio|to_thread|WRONG|LIMITS)\b")


def _statements(text: str) -> Iterator[str]:
    """Yield each top-level statement with its decorators and the comments and blank lines above it."""
    lines = text.splitlines(keepends=True)
    start = 0
    for node in ast.parse(text).body:
        yield "".join(lines[start : node.end_lineno])
        start = node.end_lineno or start


def render(text: str) -> str:
    """Return the blocking tests for the text of a file of async tests."""
    text = "".join(statement for statement in _statements(text) if not LEFT_OUT.search(statement))
    for pattern, replacement in REPLACEMENTS:
        text = re.sub(pattern, replacement, text)
    return text


def main(*arguments: str) -> int:
    """Write the tests; with `--check` print the differences instead and return 1 if there are any."""
    status = 0
    for name in SOURCES:
        source = TESTS / "resources" / f"test_{name}.py"
        target = TESTS / "sync" / "generated" / source.name
        header = HEADER.format(source=source.relative_to(TESTS.parent).as_posix())
        wanted = header + render(source.read_text("utf-8"))
        found = target.read_text("utf-8") if target.exists() else ""
        if "--check" not in arguments:
            target.parent.mkdir(exist_ok=True)
            target.write_text(wanted, "utf-8")
        elif found != wanted:
            lines = (found.splitlines(keepends=True), wanted.splitlines(keepends=True))
            sys.stdout.writelines(difflib.unified_diff(*lines, target.as_posix(), "generated"))
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
