"""Import times: processor time of a new interpreter, less that of one that imports nothing."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from statistics import median
from typing import Final

_STATEMENTS: Final = {
    "import apimart_async": "import apimart_async",
    "from apimart_async import AsyncApimart": "from apimart_async import AsyncApimart",
    "import aiohttp": "import aiohttp",
    "import requests": "import requests",
    "import httpx": "import httpx",
    "import openai": "import openai",
    "apimart --help": "import sys; sys.argv[1:] = ['--help']; from apimart_async.cli import main; main()",
}


def import_times(rounds: int) -> dict[str, float]:
    """Return the median seconds of each statement whose packages are installed."""
    usable = {name: code for name, code in _STATEMENTS.items() if _run(code) is not None}
    times: dict[str, list[float]] = {name: [] for name in usable}
    bare: list[float] = []
    for _ in range(rounds):
        bare.append(_run("pass") or 0.0)
        for name, code in usable.items():
            times[name].append(_run(code) or 0.0)
    return {name: median(found) - median(bare) for name, found in times.items()}


def _run(code: str) -> float | None:
    before = _used()
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", code], check=False, capture_output=True, env={**os.environ, "NO_COLOR": "1"}
    )
    return None if done.returncode else _used() - before


def _used() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
