"""The functions that the examples for Spark and Dask give to their engine."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import pytest
from anyio import run_process, to_thread

from tests.fleet.photo import PNG

if TYPE_CHECKING:
    from apimart_async.emulator import Emulator

# asyncpg looks for the files of libpq when it connects.
pytestmark = pytest.mark.may_block


@pytest.fixture(autouse=True)
def _worker(service: Emulator, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment of a worker, with the examples to import."""
    monkeypatch.setenv("APIMART_API_KEY", service.api_key)
    monkeypatch.setenv("APIMART_BASE_URL", service.base_url)
    monkeypatch.setenv("APIMART_JOURNAL", url)
    monkeypatch.setenv("OUTPUT", str(tmp_path / "out"))
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "docs" / "examples" / "fleet"))
    (tmp_path / "photo.png").write_bytes(PNG)


async def test_spark_gives_frames_with_missing_values(service: Emulator, tmp_path: Path) -> None:
    from spark_batch import edit

    photo = str(tmp_path / "photo.png")
    frames = [
        pd.DataFrame({"image": [photo, photo], "prompt": ["Spark 1", "Spark 2"], "n": [1, None]}),
        pd.DataFrame({"image": [photo, None], "prompt": ["Spark 3", "Spark 4"], "at": pd.Timestamp(0)}),
    ]
    before = len(service.ledger.billed)
    ended = await to_thread.run_sync(lambda: list(edit(iter(frames))))
    assert [list(frame["status"]) for frame in ended] == [["saved", "saved"], ["saved", "failed"]]
    assert json.loads(ended[1]["result"][0])["extra"] == {"at": "1970-01-01 00:00:00"}
    assert len(service.ledger.billed) - before == 3


async def test_importing_the_package_imports_no_extra() -> None:
    """It stays as quick as without them."""
    modules = {"ray", "asyncpg", "pyarrow", "pandas", "numpy", "yaml", "PIL"}
    for module in ("apimart_async", "apimart_async.fleet"):
        code = f"import sys, {module}; print(*(sys.modules.keys() & {modules}))"
        process = await run_process([sys.executable, "-c", code])
        assert process.stdout.strip() == b""


async def test_dask_gives_partitions_of_rows(service: Emulator, tmp_path: Path) -> None:
    from dask_batch import edit

    rows = [
        {"image": str(tmp_path / "photo.png"), "prompt": f"Dask {number}", "id": str(number)}
        for number in range(3)
    ]
    before = len(service.ledger.billed)
    # A scheduler may repeat a partition.
    for _ in range(2):
        ended = await to_thread.run_sync(edit, iter(rows))
        assert [result["status"] for result in ended] == ["saved"] * 3
    assert len(service.ledger.billed) - before == 3
