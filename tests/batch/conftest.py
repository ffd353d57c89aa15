"""A service whose tasks take moments, and small pictures to edit."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from PIL import Image

from apimart_async import AsyncApimart, Poll
from apimart_async.emulator import Emulator

from .chromium import executable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture
async def emulator() -> AsyncIterator[Emulator]:
    async with Emulator(task_seconds=0.02, images="tiny") as running:
        yield running


@pytest.fixture
async def client(emulator: Emulator) -> AsyncIterator[AsyncApimart]:
    poll = Poll(first=0.02, shortest=0.02, longest=0.05)
    async with AsyncApimart(emulator.api_key, base_url=emulator.base_url, poll=poll) as connected:
        yield connected


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"{colour}.png" for colour in ("red", "green", "blue")]
    for path in paths:
        Image.new("RGB", (16, 16), path.stem).save(path)
    return paths


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip tests that need a browser where there is none; `nox -s report` requires one."""
    if executable() is not None:
        return
    if os.environ.get("TESTS_NEED_BROWSER"):
        raise pytest.UsageError("These tests need Chromium, and none is installed.")
    left_out = [item for item in items if item.get_closest_marker("browser")]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]
