"""Several calls at once: coroutines in one task group, a semaphore, file work and pictures in a few threads.

File threads keep a slow disk away from the event loop, and four of them bound how many chunks of files are in
memory at once. A call that may never return, such as reading a pipe, would keep a thread for good. Two other
threads bound how many decoded pictures are in memory, and leave the file threads free.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar, TypeVarTuple

import anyio
from anyio import CancelScope

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

Item = TypeVar("Item")
Result = TypeVar("Result")
Args = TypeVarTuple("Args")


async def for_each(function: Callable[[Item], Awaitable[Result]], items: Sequence[Item]) -> list[Result]:
    """Call a function for all items at once and return the results in order.

    Raises:
        Exception: The first failure, as itself; it cancels the other calls.

    Cancellation cancels all calls.
    """
    if len(items) == 1:
        return [await function(items[0])]
    results: dict[int, Result] = {}
    failures: list[Exception] = []

    async def one(index: int, item: Item) -> None:
        try:
            results[index] = await function(item)
        except Exception as error:  # noqa: BLE001 raised below, outside the group
            failures.append(error)
            group.cancel_scope.cancel()

    async with anyio.create_task_group() as group:
        for index, item in enumerate(items):
            group.start_soon(partial(one, index, item))
    if failures:
        raise failures[0]
    return [results[index] for index in range(len(items))]


class Semaphore:
    """Limits concurrent use; unlike asyncio's, it can be tried without waiting.

    Args:
        limit: Number of places.

    Attributes:
        limit: Number of places. Call ``wake`` after raising it while callers wait.
        in_use: Places taken.
    """

    def __init__(self, limit: float) -> None:
        self.limit: float = limit
        self.in_use: int = 0
        self._waiters: deque[asyncio.Future[None]] = deque()

    def acquire_nowait(self) -> bool:
        """Take a place if one is free and no caller waits; return whether it was taken."""
        if self.in_use < self.limit and not self._waiters:
            self.in_use += 1
            return True
        return False

    async def acquire(self) -> None:
        """Wait for a place. Cancellation leaves no place taken."""
        if self.acquire_nowait():
            return
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                self.release()
            else:
                with suppress(ValueError):
                    self._waiters.remove(waiter)
            raise

    def release(self) -> None:
        """Give a place back."""
        self.in_use -= 1
        if self._waiters:
            self.wake()

    def wake(self) -> None:
        """Give free places to waiting callers."""
        while self._waiters and self.in_use < self.limit:
            waiter = self._waiters.popleft()
            if not waiter.done():
                self.in_use += 1
                waiter.set_result(None)


class Threads:
    """A few threads for calls that would block the event loop."""

    def __init__(self, number: int, name: str) -> None:
        self._number = number
        self._name = name
        self.start_anew()

    def start_anew(self) -> None:
        """Use new threads: a forked process has the objects of the old ones, but none of the threads."""
        self._executor = ThreadPoolExecutor(self._number, self._name)

    async def run(self, function: Callable[[*Args], Result], *args: *Args) -> Result:
        """Call a function in one of the threads and return its result.

        Raises:
            BaseException: The exception of the function.

        Cancellation waits for a function that has begun, so nothing goes on behind the caller's back.
        """
        try:
            call = self._executor.submit(function, *args)
        except RuntimeError:  # the interpreter is shutting down and starts no more threads
            return function(*args)
        try:
            return await asyncio.wrap_future(call)
        except asyncio.CancelledError:
            if not call.cancel():
                with CancelScope(shield=True):
                    ended = asyncio.wrap_future(call)
                    while not ended.done():
                        with suppress(asyncio.CancelledError):  # the first cancellation is raised below
                            await asyncio.wait((ended,))
                    ended.exception()  # retrieved, so that asyncio does not report it
            raise


file_threads: Final = Threads(4, "apimart-async files")
"""Threads that read and write files."""
picture_threads: Final = Threads(2, "apimart-async pictures")
"""Threads that decode pictures: fewer, as each picture may take much memory."""

if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=file_threads.start_anew)
    os.register_at_fork(after_in_child=picture_threads.start_anew)
