"""Exit codes, and SIGINT and SIGTERM during the whole life of the process.

The handler never raises: its exception could surface in any line, in the middle of an import or between the
answer to a paid request and the line that keeps its task id. Before a command has anything to end, a signal
ends the process inside the handler. From then on the handler only wakes the event loop, which acts on the
signal.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from enum import IntEnum
from itertools import count
from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    import asyncio
    from types import FrameType

Step: TypeAlias = Callable[[], object]

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)
_MOST_STEPS: Final = 2


class Exit(IntEnum):
    """The exit codes, as ``apimart --help`` lists them."""

    ALL_DONE = 0
    SOME_FAILED = 1
    USAGE = 2
    INTERRUPTED = 130


class UsageError(Exception):
    """The command cannot run with its arguments or in its environment; nothing was sent."""


class Signals:
    """The handler of both signals; the process has one, ``SIGNALS``."""

    def __init__(self) -> None:
        self._handled: list[signal.Signals] = []
        self._exits_at_once = True
        # `next` is atomic: the handler may be interrupted by itself, for another signal.
        self._numbers = count(1)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._steps: Iterator[Step] = iter(())

    def handle(self) -> None:
        """Handle both signals until the process ends. An ignored signal stays ignored. Main thread only."""
        # The first registered function runs last, after all threads have ended. The exit code is decided by
        # then, and Python is about to restore the default handlers, which would replace it.
        atexit.register(self._set, signal.SIG_IGN)
        self._handled = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
        self._set(self._receive)

    @contextmanager
    def calling(self, *steps: Step) -> Generator[None]:
        """Call the first step on the first signal and the second on the second, in the running loop.

        From here on, also after the body, a signal no longer ends the process inside the handler. Only the
        third does, by the default action of the system, in case the command does not end.

        Args:
            steps: One or two callbacks of the loop. They may cancel scopes and print.
        """
        import asyncio

        self._loop, self._steps = asyncio.get_running_loop(), iter(steps)
        self._exits_at_once = False
        try:
            with self._waking(self._loop):
                yield
        finally:
            self._loop, self._steps = None, iter(())

    @contextmanager
    def _waking(self, loop: asyncio.AbstractEventLoop) -> Generator[None]:
        """Wake the loop on every signal.

        The system may deliver a signal to another thread, or just before the main thread enters the selector.
        The handler, which Python runs in the main thread, would then wait until the selector returns.
        """
        if not self._handled or sys.platform == "win32":  # the loop of Windows does this itself
            yield
            return
        reader, writer = os.pipe()
        os.set_blocking(reader, False)
        os.set_blocking(writer, False)
        loop.add_reader(reader, os.read, reader, 4096)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        try:
            yield
        finally:
            signal.set_wakeup_fd(-1)
            loop.remove_reader(reader)
            os.close(reader)
            os.close(writer)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        if self._exits_at_once:
            with suppress(OSError):
                os.write(2, b"apimart: Interrupted.\n")
            os._exit(Exit.INTERRUPTED)
        if next(self._numbers) >= _MOST_STEPS:
            self._set(signal.SIG_DFL)
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._act)

    def _act(self) -> None:
        step = next(self._steps, None)
        if step is not None:
            step()

    def _set(self, handler: Callable[[int, FrameType | None], object] | signal.Handlers) -> None:
        for number in self._handled:
            signal.signal(number, handler)


SIGNALS: Final = Signals()
