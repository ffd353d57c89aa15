"""Several calls at once: coroutines in one task group, file work and pictures in a few threads.

File threads keep a slow disk away from the event loop, and four of them bound how many chunks of files are in
memory at once. A call that may never return, such as reading a pipe, would keep a thread for good. Two other
threads bound how many decoded pictures are in memory, and leave the file threads free.
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

_FILE_THREADS: Final = 4
_PICTURE_THREADS: Final = 2


def _new_executors() -> tuple[ThreadPoolExecutor, ThreadPoolExecutor]:
    return (
        ThreadPoolExecutor(_FILE_THREADS, "apimart-async files"),
        ThreadPoolExecutor(_PICTURE_THREADS, "apimart-async pictures"),
    )


_file_executor, _picture_executor = _new_executors()


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
    return await _run(_file_executor, function, *args)


async def run_in_picture_thread(function: Callable[[*Args], Result], *args: *Args) -> Result:
    """Call a function that decodes a picture in one of two threads, and return its result.

    Raises:
        BaseException: The exception of the function.

    Cancellation waits for a function that has begun.
    """
    return await _run(_picture_executor, function, *args)


async def _run(executor: ThreadPoolExecutor, function: Callable[[*Args], Result], *args: *Args) -> Result:
    try:
        call = executor.submit(function, *args)
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


def _replace_executors() -> None:
    # A forked process has the objects, but none of their threads.
    global _file_executor, _picture_executor
    _file_executor, _picture_executor = _new_executors()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_replace_executors)
