"""The cost of 10,000 concurrent `edits.run` in one process: `python benchmarks/waiting.py --edits 10000`.

No task ends. The output is the memory of each edit, the processor time while all wait, and the seconds until
all are cancelled. The service is the emulator, in a process of its own.
"""

# ruff: noqa: T201 (a benchmark prints its results)

from __future__ import annotations

import argparse
import asyncio
import gc
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

from apimart_async import AsyncApimart, Limits

_SERVICE: Final = """
import asyncio, sys
from apimart_async.emulator import Emulator

async def serve():
    async with Emulator(task_seconds=86400.0, images="tiny", balance=1e9) as emulator:
        print(emulator.base_url, emulator.api_key, flush=True)
        await asyncio.to_thread(sys.stdin.read)

asyncio.run(serve())
"""
_LONGEST: Final = 300.0
_WARM: Final = 50


def resident() -> float:
    """Return the resident memory of this process in KB."""
    (line,) = (
        line for line in Path("/proc/self/status").read_text("ascii").splitlines() if line.startswith("VmRSS")
    )
    return float(line.split()[1])


async def measure(base_url: str, api_key: str, edits: int, seconds: float) -> None:
    """Start the edits, measure while they wait, cancel them, and print the results."""
    async with AsyncApimart(api_key, base_url=base_url, limits=Limits(adaptive=False)) as client:
        submitted = 0

        def on_update(_: object) -> None:
            nonlocal submitted
            submitted += 1

        def start(count: int) -> list[asyncio.Task[object]]:
            return [
                asyncio.create_task(
                    client.edits.run("https://photos.example/a.jpg", "snow", on_update=on_update)
                )
                for _ in range(count)
            ]

        async def all_submitted(count: int) -> None:
            async with asyncio.timeout(_LONGEST):
                while submitted < count:  # noqa: ASYNC110 the count has no event
                    await asyncio.sleep(0.05)

        running = start(_WARM)
        await all_submitted(_WARM)
        gc.collect()
        before, began = resident(), time.process_time()
        running += start(edits)
        await all_submitted(_WARM + edits)
        print(
            f"{edits} edits: {1e3 * (time.process_time() - began) / edits:.2f} ms of CPU each until waiting"
        )
        await asyncio.sleep(2)
        gc.collect()
        print(f"memory: {(resident() - before) / edits:.1f} KB for each edit that waits")
        began = time.process_time()
        await asyncio.sleep(seconds)
        used = time.process_time() - began
        print(f"waiting: {used / seconds:.3f} s of CPU a second, while no task ends")
        began = time.perf_counter()
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        print(f"cancelled: all in {time.perf_counter() - began:.2f} s")


def main() -> None:
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--edits", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=20.0, help="seconds of measuring while they wait")
    options = parser.parse_args()
    with subprocess.Popen(  # noqa: S603 our own interpreter
        [sys.executable, "-c", _SERVICE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as service:
        assert service.stdin is not None  # noqa: S101 for the type checker
        assert service.stdout is not None  # noqa: S101 for the type checker
        try:
            base_url, api_key = service.stdout.readline().split()
            asyncio.run(measure(base_url, api_key, options.edits, options.seconds))
        finally:
            service.stdin.close()


if __name__ == "__main__":
    main()
