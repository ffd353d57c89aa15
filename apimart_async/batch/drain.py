"""The way to end a batch early without losing what is paid for."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Drain:
    """Ask a batch to begin nothing more, finish what is in flight and end.

    Hand one to ``edit_many(…, drain=…)``. It may be requested from a signal handler, from any thread and
    before the batch has begun.
    """

    def __init__(self) -> None:
        self._is_requested = False
        self._listeners: list[Callable[[], object]] = []
        # Reentrant: a signal handler may interrupt the thread that holds it.
        self._lock = threading.RLock()

    @property
    def is_requested(self) -> bool:
        """Tell whether the batch was asked to end."""
        return self._is_requested

    def request(self) -> None:
        """Ask for it; a second time does nothing. To end at once, cancel the batch."""
        with self._lock:
            first, self._is_requested = not self._is_requested, True
            listeners = self._listeners if first else []
        for listener in listeners:
            listener()

    def add_listener(self, listener: Callable[[], object]) -> None:
        """Have a function called, in whichever thread asks, at once if that has happened."""
        with self._lock:
            self._listeners = [*self._listeners, listener]
            is_late = self._is_requested
        if is_late:
            listener()

    def remove_listener(self, listener: Callable[[], object]) -> None:
        """Have a function called no more."""
        with self._lock:
            self._listeners = [other for other in self._listeners if other is not listener]
