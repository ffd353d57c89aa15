"""Worker threads for the event loop in the background that go on working while the interpreter shuts down."""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")
T = TypeVar("T")


class LateExecutor(ThreadPoolExecutor):
    """A thread for each piece of work, which asyncio has only for looking host names up.

    The threads of ``concurrent.futures`` refuse work once the main thread has ended, but other threads may
    go on for long after that, and their calls too need to find the host.
    """

    def submit(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run the function in a thread that holds nobody up, and return its future."""
        future = Future[T]()
        run = partial(_run, future, partial(function, *args, **kwargs))
        try:
            threading.Thread(target=run, name="apimart-async look-up", daemon=True).start()
        except RuntimeError:
            # Python 3.12 starts no thread once the main one has ended.
            run()
        return future


def _run(future: Future[T], work: Callable[[], T]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = work()
    except BaseException as error:  # noqa: BLE001  # raised again where the future is awaited
        future.set_exception(error)
    else:
        future.set_result(result)
