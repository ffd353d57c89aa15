"""Fixtures that several folders of tests share."""

from __future__ import annotations

import importlib
import importlib.util
import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from blockbuster import blockbuster_ctx
from hypothesis import HealthCheck, settings

from .clock import Clock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from apimart_async import AsyncApimart
    from apimart_async.emulator import Emulator


REPOSITORY = Path(__file__).resolve().parent.parent

CLOCK = Clock()
time.monotonic = CLOCK.monotonic

# The same examples on every run, however long one takes.
settings.register_profile(
    "steady", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("steady")


def pytest_sessionstart() -> None:
    """Refuse to test the checkout where the installed package is meant, as under nox.

    And restore SIGINT for tests that send it: a shell starts background processes with SIGINT ignored, and
    every process started from there inherits that.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if os.environ.get("TESTS_NEED_INSTALLED_PACKAGE"):
        package = Path(importlib.import_module("apimart_async").__path__[0])
        if package.parent == REPOSITORY:
            raise pytest.UsageError(f"These tests would test the checkout: {package}")


def pytest_report_header() -> str | None:
    """Report the tests that are skipped on this machine."""
    from .batch.chromium import executable

    return None if executable() else "The report is not tested in a browser: no Chromium is installed."


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def _nothing_blocks_the_loop(request: pytest.FixtureRequest) -> Iterator[None]:
    """Make a blocking call on a running loop an error, when it is the package that makes it."""
    if request.node.get_closest_marker("may_block"):
        yield
        return
    with blockbuster_ctx(importlib.import_module("apimart_async")):
        yield


@pytest.fixture
def clock() -> Clock:
    """The clock of this process: a test moves it forwards instead of waiting."""
    return CLOCK


@pytest.fixture(scope="session")
def repository() -> Path:
    """The checkout these tests come from; the package under test may be installed elsewhere."""
    return REPOSITORY


@pytest.fixture(scope="session")
def photographs() -> dict[str, Path]:
    """Freely licensed photographs by file name: JPEG, PNG and GIF as cameras and tools wrote them."""
    spec = importlib.util.find_spec("skimage")  # finds it without importing it, or numpy
    assert spec, "scikit-image is missing: pip install --no-deps scikit-image"
    assert spec.submodule_search_locations
    data = Path(spec.submodule_search_locations[0], "data")
    return {path.name: path for path in sorted(data.glob("*.*")) if path.suffix in {".gif", ".jpg", ".png"}}


@pytest.fixture
async def emulator() -> AsyncIterator[Emulator]:
    """A running emulator whose tasks take moments."""
    from apimart_async.emulator import Emulator

    async with Emulator(task_seconds=0.02) as running:
        yield running


@pytest.fixture
async def client(emulator: Emulator) -> AsyncIterator[AsyncApimart]:
    """A client of that emulator that polls as often as its tasks deserve."""
    from apimart_async import AsyncApimart, Poll

    poll = Poll(first=0.02, shortest=0.02, longest=0.05)
    async with AsyncApimart(emulator.api_key, base_url=emulator.base_url, poll=poll) as connected:
        yield connected
