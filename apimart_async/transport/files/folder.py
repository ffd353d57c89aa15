"""File work in one folder: on the event loop as long as it takes microseconds there, in a thread otherwise.

A way to a thread and back costs an image more than opening, writing and naming its file: a download of 3 MB
took 1.7 times the processor time of one that writes on the loop, because what was received has left the
processor's cache by then. But a disk that spins, is full of work or is somewhere on a network stops
everything. So it is measured: a folder is trusted after some quick calls, all of them made in a thread, and
what its calls take above 5 ms is added up. That is 50 ms after one call of a busy disk or many of a slow one,
and then it is back to threads: for a second, for two when that happens again, and so on. Less is forgotten in
time: a call that the system interrupted says nothing of the disk, and losing trust for each cost a tenth. A
call cannot be taken back: a mount that hangs after it was quick holds up the loop once, until it goes on.
"""

from __future__ import annotations

from functools import lru_cache
from time import monotonic
from typing import TYPE_CHECKING, Final, TypeVar

from apimart_async.transport.files.threads import on_disk

if TYPE_CHECKING:
    from collections.abc import Callable

_QUICK: Final = 0.005
_ENOUGH: Final = 8
_PATIENCE: Final = 10
"""How many times as long as a quick call the slow ones may hold things up, all together."""

_FORGOTTEN: Final = 0.02
"""What of each second they may hold things up for ever: a busy machine does so now and then."""

_SUSPICION: Final = 1.0
_LONGEST_SUSPICION: Final = 60.0
_MOST_FOLDERS: Final = 256

_Result = TypeVar("_Result")


class Folder:
    """What is known of how quick a folder is; one for each path, shared by all clients and threads.

    Args:
        quick: Seconds a call may take on the event loop.
        suspicion: Seconds after trust was lost in which quick calls count for nothing; twice as many each
            time that it is lost again, up to a minute. After a minute without it begins anew.

    Attributes:
        was_there: Whether it has been seen to be there.
        takes_nameless: Whether files without a name can be made there, as far as is known.
    """

    def __init__(self, quick: float = _QUICK, suspicion: float = _SUSPICION) -> None:
        self.was_there: bool = False
        self.takes_nameless: bool = True
        self._quick = quick
        self._held_up = 0.0
        self._last_held_up = float("-inf")
        self._first_suspicion = self._suspicion = suspicion
        self._quick_calls = 0
        self._slow_until = float("-inf")
        self._told_truly = 0.0

    @property
    def is_quick(self) -> bool:
        """Tell whether the next call is made on the event loop."""
        return self._quick_calls >= _ENOUGH

    @property
    def trusts_urls(self) -> bool:
        """Tell whether files here have the extensions that their URLs tell, as it was with all until now."""
        return self._told_truly >= _ENOUGH

    def learn(self, told: str | None, extension: str) -> None:
        """Note which extension a URL told, and which one it was; one lie is enough."""
        if told is not None:
            self._told_truly = self._told_truly + 1 if told == extension else float("-inf")

    async def call(self, work: Callable[..., _Result], *args: object) -> _Result:
        """Call a function that opens, reads or writes a little there.

        Raises:
            BaseException: What the function raises.

        Cancelling it waits for the function.
        """
        if self._quick_calls >= _ENOUGH:
            return self.call_now(work, *args)
        return await on_disk(self.call_now, work, *args)

    def call_now(self, work: Callable[..., _Result], *args: object) -> _Result:
        """Call a function here, on the event loop where ``is_quick``, and see how long it takes.

        Raises:
            BaseException: What the function raises.
        """
        began = monotonic()
        try:
            return work(*args)
        finally:
            ended = monotonic()
            if ended - began > self._quick:
                self._hold_against_it(ended - began - self._quick, ended)
            elif self._quick_calls < _ENOUGH and ended >= self._slow_until:
                self._quick_calls += 1

    def _hold_against_it(self, seconds: float, now: float) -> None:
        forgotten = (now - self._last_held_up) * _FORGOTTEN
        self._held_up = max(0.0, self._held_up - forgotten) + seconds
        self._last_held_up = now
        if self._held_up > _PATIENCE * self._quick:
            self._distrust(now)

    def _distrust(self, now: float) -> None:
        if now - self._slow_until > _LONGEST_SUSPICION:
            self._suspicion = self._first_suspicion
        elif self.is_quick:
            self._suspicion = min(2 * self._suspicion, _LONGEST_SUSPICION)
        self._held_up = 0.0
        self._quick_calls = 0
        self._slow_until = now + self._suspicion


@lru_cache(_MOST_FOLDERS)
def folder_at(path: str) -> Folder:  # noqa: ARG001 it is the key
    """Return what is known of the folder of this path."""
    return Folder()
