"""The recipes of the documentation that need nothing but the package."""

from __future__ import annotations

import ast
import csv
import inspect
import json
import os
import re
import shutil
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from apimart_async.emulator import Emulator
    from apimart_async.testing import TestClock

CELL = re.compile(r"^```\{code-block\} python\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.mark.may_block
async def test_the_cells_of_the_notebook_run_in_a_running_loop(
    repository: Path,
    tmp_path: Path,
    apimart_emulator: Emulator,
    apimart_clock: TestClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shutil.copy(repository / "docs" / "examples" / "photos" / "lighthouse.jpg", tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)
    page = (repository / "docs" / "recipes" / "notebook.md").read_text(encoding="utf-8")
    cells = [match["code"] for match in CELL.finditer(page)]
    assert len(cells) > 5
    namespace: dict[str, Any] = {}
    for cell in [*cells[:2], *cells[1:]]:  # the cell that pays, twice
        code = compile(cell, "cell", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT | ast.PyCF_ONLY_AST)
        function = compile(code, "cell", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        with apimart_clock.passing():
            result = eval(function, namespace)  # noqa: S307 the page's own cells
            if inspect.isawaitable(result):
                await result
    assert len(namespace["paths"]) == 2
    # Two variants in one submit, three jobs of the batch, one edit of the async client.
    apimart_emulator.ledger.assert_billed(times=5)


@pytest.mark.long
def test_a_thousand_rows_are_paid_once_across_a_kill(
    repository: Path, tmp_path: Path, apimart_emulator: Emulator
) -> None:
    examples = repository / "docs" / "examples"
    photos = sorted((examples / "photos").iterdir())
    table = tmp_path / "edits.csv"
    with table.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "image", "prompt", "customer"])
        writer.writerows(
            [str(number), str(photos[number % len(photos)]), f"Variant {number}", "17"]
            for number in range(1000)
        )
    command = [sys.executable, "-W", "error", str(examples / "csv_of_edits.py"), str(table), "out"]
    with subprocess.Popen(command, cwd=tmp_path, env=os.environ, stderr=subprocess.DEVNULL) as first:
        while len(apimart_emulator.ledger.entries) < 100 and first.poll() is None:
            time.sleep(0.01)
        first.kill()
    second = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=500, check=False)
    # Jobs whose paid request was cut off are reported, and not paid for again.
    rows = [json.loads(line) for line in (tmp_path / "out" / "results.jsonl").read_text().splitlines()]
    in_doubt = [row for row in rows if row["status"] == "in_doubt"]
    assert second.returncode == (1 if in_doubt else 0), second.stderr[-2000:]
    assert len(rows) == 1000
    assert {row["status"] for row in rows} <= {"saved", "in_doubt"}
    assert all(row["extra"] == {"customer": "17"} for row in rows)
    assert len(apimart_emulator.ledger.executed_more_than_once) == 0
    assert 1000 - len(in_doubt) <= len(apimart_emulator.ledger.entries) <= 1000
