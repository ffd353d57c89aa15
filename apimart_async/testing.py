"""A pytest plugin: the emulator as a fixture, clients of it, and a clock that tests move.

pytest loads it by itself where the package is installed with its extra ``emulator``::

    def test_a_photo_is_edited_once(apimart_emulator, apimart_client, tmp_path):
        task = apimart_client.edits.run("photo.jpg", "A starry sky behind it")
        assert apimart_client.images.save(task, tmp_path)
        apimart_emulator.ledger.assert_billed(times=1)

``@pytest.mark.apimart(...)`` passes options to the emulator, such as ``faults`` and ``task_seconds``.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import sys
import threading
import time
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import pytest
from anyio.from_thread import start_blocking_portal

from apimart_async.config import Poll

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Generator, Iterator

    from apimart_async import Apimart, AsyncApimart
    from apimart_async.emulator import Emulator

_TICK: Final = 0.01
_POLL: Final = Poll(first=0.02, shortest=0.02, longest=0.2)
_PACKAGE: Final = "apimart_async."
_WITH_CLOCKS: Final = ("apimart_async.batch.edit_many", "apimart_async.sync", "apimart_async.emulator")


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker."""
    config.addinivalue_line("markers", "apimart(**options): options of the emulator of `apimart_emulator`")


class TestClock:
    """The monotonic clock of this process: real time, and the seconds that a test adds.

    Event loops (not uvloop's), clients and emulators of this process ask it, so a test need not wait for
    tasks, polls, delays and timeouts.
    """

    __test__ = False

    def __init__(self) -> None:
        self.real: Callable[[], float] = time.monotonic
        self._ahead = 0.0
        self._loops: set[asyncio.AbstractEventLoop] = set()

    def monotonic(self) -> float:
        """Return the seconds of the system's clock and those that the test has added."""
        return self.real() + self._ahead

    def advance(self, seconds: float) -> None:
        """Move the time forwards, from any thread.

        Args:
            seconds: Seconds to add, not negative.

        Raises:
            ValueError: ``seconds`` is negative.
        """
        if seconds < 0:
            raise ValueError(f"time only goes forwards, so seconds must not be {seconds!r}")
        self._ahead += seconds
        for wake in self._sleepers():
            wake()

    @contextmanager
    def passing(self, speed: float = 25.0) -> Generator[None]:
        """Let time pass faster during a ``with`` block.

        Args:
            speed: Seconds that pass in one second; more than 1, 25 by default. A timeout of 60 seconds comes
                after 60 / ``speed`` real ones, so slow machines reach it at high speeds.

        Raises:
            ValueError: ``speed`` is not more than 1.
        """
        if not speed > 1:
            raise ValueError(f"speed must be more than 1, not {speed!r}")
        ended = threading.Event()
        self._sleepers()

        def tick() -> None:
            while not ended.wait(_TICK):
                self.advance(_TICK * (speed - 1))

        ticker = threading.Thread(target=tick, name="apimart-test-clock", daemon=True)
        ticker.start()
        try:
            yield
        finally:
            ended.set()
            ticker.join()

    def _sleepers(self) -> list[Callable[[], object]]:
        """Return functions that wake the loops: the test's, and that of the blocking clients."""
        from apimart_async.sync.loop_thread import LoopThread

        with suppress(RuntimeError):  # a blocking test has no loop
            self._loops.add(asyncio.get_running_loop())
        self._loops = {loop for loop in self._loops if not loop.is_closed()}
        wakes: list[Callable[[], object]] = [partial(loop.call_soon_threadsafe, int) for loop in self._loops]
        if LoopThread.shared is not None:
            wakes.append(LoopThread.shared.wake)
        return wakes


@pytest.fixture
def apimart_emulator(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    """A running emulator of both services, whose tasks take moments.

    It runs in a thread of its own, for async and blocking tests alike. ``APIMART_API_KEY``,
    ``APIMART_BASE_URL`` and those of AppleRouter name it, so clients made without arguments use it.
    """
    from apimart_async.emulator import Emulator

    marker = request.node.get_closest_marker("apimart")
    given: dict[str, Any] = dict(marker.kwargs) if marker else {}
    allowed = inspect.signature(Emulator).parameters
    if unknown := sorted(given.keys() - allowed.keys()):
        pytest.fail(
            f"@pytest.mark.apimart has no option {', '.join(unknown)}; it has {', '.join(allowed)}.",
            pytrace=False,
        )
    options: dict[str, Any] = {"task_seconds": 0.02, "images": "tiny"} | given
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(Emulator(**options)) as emulator,
    ):
        for service in ("APIMART", "APPLEROUTER"):
            monkeypatch.setenv(f"{service}_API_KEY", emulator.api_key)
            monkeypatch.setenv(f"{service}_BASE_URL", emulator.base_url)
        yield emulator


@pytest.fixture
async def apimart_async_client(apimart_emulator: Emulator) -> AsyncIterator[AsyncApimart]:
    """An async client of the emulator that polls often, for tests run by anyio or pytest-asyncio."""
    from apimart_async import AsyncApimart

    async with AsyncApimart(
        apimart_emulator.api_key, base_url=apimart_emulator.base_url, poll=_POLL
    ) as client:
        yield client


@pytest.fixture
def apimart_blocking_client(apimart_emulator: Emulator) -> Iterator[Apimart]:
    """A blocking client of the emulator that polls often."""
    from apimart_async import Apimart

    with Apimart(apimart_emulator.api_key, base_url=apimart_emulator.base_url, poll=_POLL) as client:
        yield client


@pytest.fixture
def apimart_client(request: pytest.FixtureRequest) -> AsyncApimart | Apimart:
    """A client of the emulator: async for an ``async def`` test, blocking for any other."""
    is_async = inspect.iscoroutinefunction(request.function)
    client: AsyncApimart | Apimart = request.getfixturevalue(
        "apimart_async_client" if is_async else "apimart_blocking_client"
    )
    return client


@pytest.fixture
def apimart_clock(monkeypatch: pytest.MonkeyPatch) -> TestClock:
    """A clock that the test moves, for clients and emulators of this process."""
    # A module that is imported during the test keeps the clock of the test.
    for name in _WITH_CLOCKS:
        importlib.import_module(name)
    clock = TestClock()
    for module in [time, *(module for name, module in sys.modules.items() if name.startswith(_PACKAGE))]:
        if getattr(module, "monotonic", None) is clock.real:
            monkeypatch.setattr(module, "monotonic", clock.monotonic)
    return clock
