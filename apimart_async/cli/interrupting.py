"""Ctrl-C and SIGTERM of a batch: the first ends it gently, the second at once."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import anyio

from apimart_async.cli.display.streams import say

if TYPE_CHECKING:
    from types import FrameType

    from apimart_async.batch import Shutdown

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def shutting_down_first(shutdown: Shutdown, scope: anyio.CancelScope) -> Generator[None]:
    """Shut down at the first signal and cancel at the second, as long as the body runs on this loop.

    Python lets only the main thread do that; elsewhere signals stay as they are.

    Args:
        shutdown: Requested at the first signal.
        scope: Cancelled at the second.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    received = 0

    def gently() -> None:
        say("Finishing what is in flight; Ctrl-C again stops at once, and loses nothing either.")
        shutdown.request()

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal received
        received += 1
        steps: tuple[Callable[[], object], ...] = (gently, scope.cancel)
        if received <= len(steps):
            loop.call_soon_threadsafe(steps[received - 1])
        elif callable(before[number]):  # something does not end: whatever ended it before may now
            before[number](number, frame)

    before: dict[int, Any] = {number: signal.signal(number, handle) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
