"""A few threads for file work, so that no disk holds up the event loop.

Four threads also bound how many chunks of files are in memory at once. A call that may never return, such as
reading a pipe, does not belong here: it would keep a thread for good.
"""

from __future__ import annotations

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Final, TypeVar, TypeVarTuple

from anyio import CancelScope

if TYPE_CHECKING:
    from collections.abc import Callable

Result = TypeVar("Result")
Args = TypeVarTuple("Args")

_THREADS: Final = 4


def _new_executor() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_THREADS, "apimart-async files")


_executor = _new_executor()


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
