"""Memory does not grow with the number of jobs: the benchmark itself, with fewer of them."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.long
def test_memory_does_not_grow_with_the_number_of_jobs(repository: Path) -> None:
    script = repository / "benchmarks" / "memory.py"
    # The outcomes of this many, if they were kept, would take more than that.
    done = subprocess.run(
        [sys.executable, script, "--jobs=8000", "--limit=9"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("8,000 jobs")
