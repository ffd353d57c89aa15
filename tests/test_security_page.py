"""The page about security names, for each promise, a test that exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
_NAMED = re.compile(r"`(tests/[\w/]+\.py)(?:::(test_\w+))?`|`(test_\w+)`")


def named_tests() -> list[tuple[str, str]]:
    """Return file and name of each test; one without a file is in the file named before it."""
    found: list[tuple[str, str]] = []
    file = ""
    for match in _NAMED.finditer((ROOT / "docs" / "security.md").read_text(encoding="utf-8")):
        file = match[1] or file
        found.append((file, match[2] or match[3] or ""))
    return found


@pytest.mark.parametrize(("file", "name"), sorted(set(named_tests())))
def test_each_test_of_a_promise_exists(file: str, name: str) -> None:
    text = (ROOT / file).read_text(encoding="utf-8")
    assert not name or re.search(rf"def {name}\(", text)


def test_each_promise_names_a_test() -> None:
    rows = [
        line
        for line in (ROOT / "docs" / "security.md").read_text(encoding="utf-8").splitlines()
        if line.startswith("| ") and line.endswith(" |") and "CVE-" not in line and "Advisories" not in line
    ]
    promises = [row for row in rows if not row.startswith(("| Promise |", "| Pillow ", "| pillow-heif "))]
    assert len(promises) > 30
    assert [row for row in promises if "`tests/" not in row and "`test_" not in row] == []
