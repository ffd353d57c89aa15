"""Waves of tasks over real sockets, against the emulator."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from apimart_async import AsyncApimart
from apimart_async.emulator import Emulator

from .socket_time import BACKEND

IMAGE = "https://pictures.example/a.png"


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return BACKEND


@pytest.mark.long
async def test_a_wave_of_300_takes_a_fifth_of_a_request_for_each_task() -> None:
    async with (
        Emulator(task_seconds=20, seed=1, images="tiny") as emulator,
        AsyncApimart(emulator.api_key, base_url=emulator.base_url) as client,
    ):

        async def run(number: int) -> None:
            task = await client.edits.create(IMAGE, f"number {number}")
            assert (await client.tasks.wait(task)).is_completed

        async def wave(size: int) -> int:
            """Return the number of polling requests."""
            before = emulator.counts["tasks"] + emulator.counts["tasks/batch"]
            await asyncio.gather(*map(run, range(size)))
            return emulator.counts["tasks"] + emulator.counts["tasks/batch"] - before

        # The first tasks teach the durations, the second wave how many polls share a request.
        await wave(100)
        requests = [await wave(300) for _ in range(2)]
        assert sum(requests) <= 0.2 * 600
