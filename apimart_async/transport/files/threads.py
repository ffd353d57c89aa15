"""A few threads for file work that takes its time, at a sixth of what `anyio.to_thread` costs.

With many edits under way, a hop into one of these threads and back takes 5 µs where anyio's takes 40.
``folder.py`` decides what comes here. Few threads also mean few pieces of files in memory at once. What may
never end, such as reading a pipe, has no place here.
"""

from __future__ import annotations

import asyncio
import os
import threading
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar, cast

from anyio import CancelScope

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

_MOST_THREADS: Final = 4
_IDLE: Final = 10.0


async def on_disk(work: Callable[..., T], *args: object) -> T:
    """Call a function in a worker thread and return its result.

    Raises:
        BaseException: What the function raises.

    Cancelling it waits for the function: nobody works on behind the caller's back.
    """
    errand = _Errand(asyncio.get_running_loop(), work, args)
    _threads.take(errand)
    try:
        await errand.returned
    except asyncio.CancelledError:
        with CancelScope(shield=True):
            while not errand.is_done:
                # The one that was cancelled says nothing more, and there may be a second cancellation.
                errand.returned = errand.loop.create_future()
                with suppress(asyncio.CancelledError):
                    await errand.returned
        raise
    return errand.outcome()


class _Errand(Generic[T]):
    """A call on its way to a thread and back."""

    __slots__ = ("_args", "_error", "_result", "_work", "is_done", "loop", "returned")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, work: Callable[..., T], args: tuple[object, ...]
    ) -> None:
        self.loop = loop
        self.returned: asyncio.Future[None] = loop.create_future()
        self.is_done: bool = False
        self._work = work
        self._args = args
        self._result: T | None = None
        self._error: BaseException | None = None

    def run(self) -> None:
        try:
            self._result = self._work(*self._args)
        except BaseException as error:  # noqa: BLE001 raised again where it is awaited
            self._error = error
        with suppress(RuntimeError):  # the loop was closed: nobody waits
            self.loop.call_soon_threadsafe(self._come_back)

    def _come_back(self) -> None:
        self.is_done = True
        if not self.returned.done():
            self.returned.set_result(None)

    def outcome(self) -> T:
        error, self._error = self._error, None
        if error is None:
            return cast("T", self._result)
        try:
            raise error
        finally:
            del error  # its traceback holds this frame


class _Threads:
    """Started as they are needed, and gone when they have had nothing to do for a while."""

    def __init__(self) -> None:
        self._errands: SimpleQueue[_Errand[Any]] = SimpleQueue()
        self._lock = threading.Lock()
        self._unfinished = 0
        self._running = 0

    def take(self, errand: _Errand[Any]) -> None:
        with self._lock:
            self._unfinished += 1
            is_short = self._running < min(self._unfinished, _MOST_THREADS)
            self._running += is_short
        self._errands.put(errand)
        if is_short:
            try:
                threading.Thread(target=self._work, name="apimart-async files", daemon=True).start()
            except RuntimeError:  # the interpreter shuts down and starts no more: there may be none at all
                self._work_here()

    def _work_here(self) -> None:
        with self._lock:
            self._running -= 1
        with suppress(Empty):
            while True:
                self._finish(self._errands.get_nowait())

    def _work(self) -> None:
        while True:
            try:
                errand = self._errands.get(timeout=_IDLE)
            except Empty:
                with self._lock:
                    if self._unfinished < self._running:
                        self._running -= 1
                        return
            else:
                self._finish(errand)
                del errand  # it holds what it returned

    def _finish(self, errand: _Errand[Any]) -> None:
        errand.run()
        with self._lock:
            self._unfinished -= 1


_threads = _Threads()


def _forget_threads() -> None:
    global _threads  # noqa: PLW0603 a forked process has the object, but none of its threads
    _threads = _Threads()


if hasattr(os, "register_at_fork"):  # not on Windows, where nothing forks
    os.register_at_fork(after_in_child=_forget_threads)
