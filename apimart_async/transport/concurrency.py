"""Several calls at once: coroutines in one task group, and file work in a few threads.

File threads keep a slow disk away from the event loop, and four of them bound how many chunks of files are in
memory at once. A call that may never return, such as reading a pipe, would keep a thread for good.
"""

from __future__ import annotations

import asyncio
import os
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

_THREADS: Final = 4


def _new_executor() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_THREADS, "apimart-async files")


_executor = _new_executor()


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


async def run_in_file_thread(function: Callable[[*Args], Result], *args: *Args) -> Result:
    """Call a function in a file thread and return its result.

    Raises:
        BaseException: The exception of the function.

    Cancellation waits for a function that has begun, so nothing goes on behind the caller's back.
    """
    try:
        call = _executor.submit(function, *args)
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


def _replace_executor() -> None:
    global _executor  # noqa: PLW0603 a forked process has the object, but none of its threads
    _executor = _new_executor()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_replace_executor)
