"""The emulator as a blocking context manager, in a thread of its own."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Self

from anyio.from_thread import start_blocking_portal

from apimart_async import emulator
from apimart_async.emulator import Fault

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["Emulator", "Fault"]


class Emulator(emulator.Emulator):
    """An emulator that other threads and processes use."""

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            portal = stack.enter_context(start_blocking_portal())
            stack.enter_context(portal.wrap_async_context_manager(self))
            self._running = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._running.close()
