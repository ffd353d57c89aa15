"""The event loop in the background that all blocking clients of a process share.

Sharing is as safe as a thread each, because whatever blocks the loop is a mistake anyway, and a hundred
clients cost one thread and one pool of worker threads. What a client holds on the loop is its lease: the
thread starts with the first lease and ends with the last.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import threading
from collections.abc import Awaitable, Callable  # attrs resolves them at run time
from functools import partial
from typing import Any, ClassVar, Final, TypeAlias

import attrs

from apimart_async.sync.call import CLOSED, Call
from apimart_async.sync.executor import LateExecutor

_GRACE: Final = 0.8
"""Seconds to wait for the thread to end: at exit of the interpreter, and after the last client is closed."""

_FORKED: Final = (
    "This client was in use before os.fork(), and its connections stayed in the parent process. "
    "Create a new client in the child."
)
_ON_THE_LOOP: Final = (
    "A blocking call was made from a callback that runs on the event loop of the blocking clients, where it "
    "would wait for itself. Use the async client there."
)

_Calls: TypeAlias = "dict[Call[Any], asyncio.Task[None]]"


def _no_calls() -> _Calls:
    return {}


@attrs.define(eq=False)
class Lease:
    """What one client holds on the loop.

    Attributes:
        close: Closes the client; awaited on the loop, once.
        thread: Where the lease was admitted; ``None`` until then.
        calls: Its calls under way, each with its task.
        has_ended: Whether the client is closed, or closing.
    """

    close: Callable[[], Awaitable[None]]
    thread: LoopThread | None = None
    calls: _Calls = attrs.field(factory=_no_calls)
    has_ended: bool = False


class LoopThread:
    """A daemon thread that runs an event loop for as long as there are leases.

    Every call has its own task, kept by the lease: a blocking portal of anyio, which keeps it in a task
    group, costs 80 µs of CPU a call against 34. ``release`` waits for the tasks of a lease, so that none
    outlives it.

    Attributes:
        leases: Those that have not ended.
        has_ended: Whether the last one has; nothing is accepted any more.
        has_forked: Whether this is a copy in a child process, which has the object but not the thread.
    """

    _shared: ClassVar[LoopThread | None] = None
    # Held for microseconds. Reentrant, because a signal handler may use a client too.
    _lock: ClassVar[threading.RLock] = threading.RLock()

    def __init__(self) -> None:
        self.leases: set[Lease] = set()
        self.has_ended: bool = False
        self.has_forked: bool = False
        self._is_vacant = asyncio.Event()
        self._releases: _Calls = {}
        self._loop = asyncio.new_event_loop()
        self._loop.set_default_executor(LateExecutor())
        self._thread = threading.Thread(target=self._run, name="apimart-async", daemon=True)
        self._thread.start()

    @classmethod
    def admit(cls, lease: Lease) -> LoopThread:
        """Return the thread of a lease; put a new one on the thread of this process, started if need be.

        Raises:
            RuntimeError: The lease has ended.
        """
        with cls._lock:
            if lease.has_ended:
                raise RuntimeError(CLOSED)
            if lease.thread is None:
                if cls._shared is None or cls._shared.has_ended:
                    cls._shared = cls()
                lease.thread = cls._shared
                cls._shared.leases.add(lease)
            return lease.thread

    @classmethod
    def withdraw(cls, lease: Lease) -> LoopThread | None:
        """Return the thread of a lease, or else end the lease so that it never has one."""
        with cls._lock:
            if lease.thread is None:
                lease.has_ended = True
            return lease.thread

    @classmethod
    def at_exit(cls) -> None:
        """Close every client that is still open, and wait a moment for it."""
        if cls._shared is not None:
            cls._shared.drain()

    @classmethod
    def after_fork_in_child(cls) -> None:
        """Leave the thread and its lock, which may be held, to the parent process."""
        cls._lock = threading.RLock()
        if cls._shared is not None:
            cls._shared.disown()
            cls._shared = None

    def wait_for(self, call: Call[Any], callback: Callable[..., object], *args: object) -> None:
        """Have the loop call a function that sets a call going, and block until the call has ended.

        The function runs in a copy of this thread's context. When a signal handler raises meanwhile, the call
        is cancelled, its cleanup waited for and the exception let through; a second one is not held up.

        Raises:
            RuntimeError: The loop is in the parent process, or this is its own thread.
            KeyboardInterrupt: The user pressed Ctrl-C.
        """
        if self.has_forked:
            raise RuntimeError(_FORKED)
        if self._is_current:
            raise RuntimeError(_ON_THE_LOOP)
        try:
            if not self._post(callback, *args):
                call.fail(RuntimeError(CLOSED))
            call.wait()
        except BaseException as interruption:
            self.cancel(call)
            call.explain(interruption)
            raise

    def cancel(self, call: Call[Any]) -> None:
        """Cancel a call and block until it has ended, unless ``wait_for`` refused to begin it."""
        if not self.has_forked and not self._is_current and self._post(call.cancel):
            call.wait()

    def begin(self, lease: Lease, call: Call[Any]) -> None:
        """Start a call in a task of its own. Runs on the loop."""
        if lease.has_ended:
            call.fail(RuntimeError(CLOSED))
        else:
            self._start(call, lease.calls)

    def release(self, lease: Lease) -> None:
        """Close the client of a lease as ``_release`` does, and see the thread end if that was the last one.

        Raises:
            RuntimeError: This is the loop's own thread.
            BaseException: What closing the client raises.
        """
        call = Call(partial(self._release, lease))
        self.wait_for(call, self._start, call, self._releases)
        if self.has_ended:
            self._thread.join(_GRACE)
        call.outcome()

    def release_soon(self, lease: Lease) -> None:
        """Close the client of a lease without waiting, and without a word if that fails.

        Takes no lock: the garbage collector calls this, and may have stopped a holder of the lock.
        """
        if not self.has_forked:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(
                    self._start, Call(partial(self._release, lease)), self._releases
                )

    def drain(self) -> None:
        """Close the clients of all leases and wait a moment for the thread to end."""
        with self._lock:
            leases = tuple(self.leases)
        Call.is_silent = True
        for lease in leases:
            self.release_soon(lease)
        self._thread.join(_GRACE)
        Call.is_silent = False

    def disown(self) -> None:
        """Mark the thread as one of another process."""
        self.has_forked = True
        # A session that is collected complains to its loop, which is for the parent to hear.
        self._loop.set_exception_handler(_ignore)

    @property
    def _is_current(self) -> bool:
        return self._thread.ident == threading.get_ident()

    def _post(self, callback: Callable[..., object], *args: object) -> bool:
        with self._lock:
            if not self.has_ended:
                self._loop.call_soon_threadsafe(callback, *args)
            return not self.has_ended

    def _start(self, call: Call[Any], calls: _Calls) -> None:
        calls[call] = self._loop.create_task(_carry(call, calls))

    async def _release(self, lease: Lease) -> None:
        """Cancel the calls of a lease, see them end and close its client; the last one ends the loop."""
        if lease.has_ended:
            return
        lease.has_ended = True
        try:
            for call in lease.calls:
                call.cancel()
            if lease.calls:
                await asyncio.wait(tuple(lease.calls.values()))
            await lease.close()
        finally:
            with self._lock:
                self.leases.discard(lease)
                self.has_ended = not self.leases
            if self.has_ended:
                self._is_vacant.set()

    def _run(self) -> None:
        # What asyncio.Runner does, without its thread that joins threads: at exit none can be started.
        try:
            self._loop.run_until_complete(self._serve())
        finally:
            self._loop.close()

    async def _serve(self) -> None:
        # What was posted before the end came stands ahead of this wake-up in the loop's queue.
        await self._is_vacant.wait()
        stray = asyncio.all_tasks() - {asyncio.current_task()}
        for task in stray:
            task.cancel()
        await asyncio.gather(*stray, return_exceptions=True)
        await self._loop.shutdown_asyncgens()


async def _carry(call: Call[Any], calls: _Calls) -> None:
    try:
        await call.run()
    except BaseException as error:  # noqa: BLE001  # SystemExit too belongs to the thread that waits
        call.fail(error)
    finally:
        del calls[call]


def _ignore(_loop: asyncio.AbstractEventLoop, _context: dict[str, Any]) -> None:
    pass


atexit.register(LoopThread.at_exit)
if hasattr(os, "register_at_fork"):  # not on Windows, where nothing forks
    os.register_at_fork(after_in_child=LoopThread.after_fork_in_child)
