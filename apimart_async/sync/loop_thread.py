"""The background thread with the event loop that all blocking clients of a process share.

A shared loop is as safe as a thread for each client, because blocking the loop is a defect in any case, and a
hundred clients cost one thread and one pool of worker threads. The thread counts references: it starts with
the first client that is used and ends with the last client that is closed.
"""

# Not anyio's BlockingPortal, because of Ctrl-C: its call() leaves the coroutine running, a cancelled future
# of start_task_soon() does not wait for the cleanup, and wrap_async_context_manager() cannot cancel an entry.

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import threading
from collections.abc import Awaitable, Callable  # attrs resolves them at run time
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, ClassVar, Final, ParamSpec, TypeAlias, TypeVar

import attrs

from apimart_async.sync.call import CLOSED, Call

P = ParamSpec("P")
T = TypeVar("T")

_GRACE: Final = 0.8
"""Seconds to wait for the thread to end: at exit of the interpreter, and after the last client is closed."""

_FORKED: Final = (
    "This client was in use before os.fork(), and its connections stayed in the parent process. "
    "Create a new client in the child."
)
_ON_THE_LOOP: Final = (
    "A callback on the event loop of the blocking clients made a blocking call, which would wait for itself. "
    "Use the async client there."
)

_Calls: TypeAlias = "dict[Call[Any], asyncio.Task[None]]"


def _no_calls() -> _Calls:
    return {}


@attrs.define(eq=False)
class ClientState:
    """The state of one client on the loop thread.

    Attributes:
        close: Closes the async client; awaited on the loop, once.
        thread: The loop thread, from the first use of the client on.
        calls: The running calls, each with its task.
        is_closed: Whether the client is closed or closing.
    """

    close: Callable[[], Awaitable[None]]
    thread: LoopThread | None = None
    calls: _Calls = attrs.field(factory=_no_calls)
    is_closed: bool = False


class LoopThread:
    """A daemon thread that runs an event loop as long as clients use it.

    Each call is a task of its client, and closing the client waits for its tasks, so no task outlives it.

    Attributes:
        shared: The thread of this process.
        lock: Held for microseconds. Reentrant, because a signal handler may use a client too.
        clients: The open clients.
        has_ended: Whether the last client is closed; the thread then accepts no calls.
        has_forked: Whether this object is the copy in a child process, where the thread does not run.
    """

    shared: ClassVar[LoopThread | None] = None
    lock: ClassVar[threading.RLock] = threading.RLock()

    def __init__(self) -> None:
        self.clients: set[ClientState] = set()
        self.has_ended: bool = False
        self.has_forked: bool = False
        self._is_unused = asyncio.Event()
        self._closing: _Calls = {}
        self._loop = asyncio.new_event_loop()
        self._loop.set_default_executor(_DaemonExecutor())
        self._thread = threading.Thread(target=self._run, name="apimart-async", daemon=True)
        self._thread.start()

    @classmethod
    def acquire(cls, client: ClientState) -> LoopThread:
        """Return the thread of a client. The first use assigns the thread of this process, started if needed.

        Raises:
            RuntimeError: The client is closed.
        """
        with cls.lock:
            if client.is_closed:
                raise RuntimeError(CLOSED)
            if client.thread is None:
                if cls.shared is None or cls.shared.has_ended:
                    cls.shared = cls()
                client.thread = cls.shared
                cls.shared.clients.add(client)
            return client.thread

    def release(self, client: ClientState) -> None:
        """Cancel the calls of a client, close it and wait for that. Do nothing if it is closed or forked.

        Do not wait on the loop, where the garbage collector may end a generator with an open client.

        Raises:
            BaseException: The exception of closing the client.
        """
        if self.has_forked or client.is_closed:
            return
        if self.is_current:
            self.release_soon(client)
        else:
            call = Call(partial(self._close, client))
            self.wait_for(call, self._start, call, self._closing)
            if self.has_ended:
                self._thread.join(_GRACE)
            call.result()

    def release_soon(self, client: ClientState) -> None:
        """Close a client without waiting, and ignore errors.

        Takes no lock: the garbage collector calls this, perhaps inside a function that holds the lock.
        """
        if not self.has_forked:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(
                    self._start, Call(partial(self._close, client)), self._closing
                )

    def shutdown(self) -> None:
        """Close all clients at exit of the interpreter, and wait ``_GRACE`` for the thread to end."""
        with self.lock:
            clients = tuple(self.clients)
        Call.is_exiting = True
        for client in clients:
            self.release_soon(client)
        self._thread.join(_GRACE)
        Call.is_exiting = False

    def abandon(self) -> None:
        """Leave the thread to the parent process."""
        self.has_forked = True
        # A session that is garbage collected complains to its loop; that belongs to the parent.
        self._loop.set_exception_handler(lambda _loop, _context: None)

    def wait_for(self, call: Call[Any], callback: Callable[..., object], *args: object) -> None:
        """Let the loop call a function that starts a call, and block until the call has ended.

        The function runs in a copy of the context of this thread. If a signal handler raises meanwhile,
        cancel the call, wait for its cleanup and let the exception pass; a second exception passes at once.

        Raises:
            RuntimeError: The loop is in the parent process, or this is the thread of the loop.
            KeyboardInterrupt: The user pressed Ctrl-C.
        """
        if self.has_forked:
            raise RuntimeError(_FORKED)
        if self.is_current:
            raise RuntimeError(_ON_THE_LOOP)
        try:
            if not self.post(callback, *args):
                call.fail(RuntimeError(CLOSED))
            call.wait()
        except BaseException as interruption:
            self.cancel(call)
            call.annotate(interruption)
            raise

    def run(self, call: Call[T], callback: Callable[..., object], *args: object) -> T:
        """Have the loop call a function that starts a call, block until it has ended and return its result.

        Raises:
            BaseException: The exception of the call, unchanged, or as ``wait_for`` raises.
        """
        self.wait_for(call, callback, *args)
        try:  # Python runs no signal handler between these lines, so no result is lost
            return call.result()
        except BaseException as raised:
            if not call.has_raised:
                call.annotate(raised)
            raise

    def cancel(self, call: Call[Any]) -> None:
        """Cancel a call and block until it has ended, unless ``wait_for`` would not start it."""
        if not self.has_forked and not self.is_current and self.post(call.cancel):
            call.wait()

    def wake(self) -> None:
        """Have the loop look at its timers, because a test has moved the time."""
        self.post(lambda: None)

    def start(self, client: ClientState, call: Call[Any]) -> None:
        """Start a call of a client as a task. Runs on the loop."""
        if client.is_closed:
            call.fail(RuntimeError(CLOSED))
        else:
            self._start(call, client.calls)

    @property
    def is_current(self) -> bool:
        """Tell whether the caller runs in this thread, where waiting for the loop would never end."""
        return threading.current_thread() is self._thread

    def post(self, callback: Callable[..., object], *args: object) -> bool:
        """Have the loop call a function soon; return whether it will."""
        with self.lock:
            if not self.has_ended:
                self._loop.call_soon_threadsafe(callback, *args)
            return not self.has_ended

    def _start(self, call: Call[Any], calls: _Calls) -> None:
        async def run() -> None:
            try:
                await call.run()
            except BaseException as error:  # noqa: BLE001  # SystemExit too belongs to the calling thread
                call.fail(error)
            finally:
                del calls[call]

        calls[call] = self._loop.create_task(run())

    async def _close(self, client: ClientState) -> None:
        if client.is_closed:
            return
        client.is_closed = True
        try:
            for call in client.calls:
                call.cancel()
            if client.calls:
                await asyncio.wait(tuple(client.calls.values()))
            await client.close()
        finally:
            with self.lock:
                self.clients.discard(client)
                self.has_ended = not self.clients
            if self.has_ended:
                self._is_unused.set()

    def _run(self) -> None:
        # At exit of the interpreter, asyncio.Runner fails to start the thread that shuts the executor down.
        try:
            self._loop.run_until_complete(self._serve())
        finally:
            self._loop.close()

    async def _serve(self) -> None:
        # Callbacks posted before the end run first: they are ahead of this wake-up in the queue of the loop.
        await self._is_unused.wait()
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)
        await self._loop.shutdown_asyncgens()


class _DaemonExecutor(ThreadPoolExecutor):
    """A daemon thread for each function; asyncio uses it to resolve host names.

    The executors of ``concurrent.futures`` accept no work once the main thread has ended, but other threads
    may run on and make calls.
    """

    def submit(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run the function in a daemon thread and return its future."""
        future = Future[T]()

        def run() -> None:
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(function(*args, **kwargs))
                except BaseException as error:  # noqa: BLE001  # raised again where the future is awaited
                    future.set_exception(error)

        try:
            threading.Thread(target=run, name="apimart-async executor", daemon=True).start()
        except RuntimeError:  # Python 3.12 starts no thread once the main thread has ended
            run()
        return future


def _at_exit() -> None:
    if LoopThread.shared is not None:
        LoopThread.shared.shutdown()


def _after_fork_in_child() -> None:
    LoopThread.lock = threading.RLock()  # a thread of the parent may hold the old one
    if LoopThread.shared is not None:
        LoopThread.shared.abandon()
        LoopThread.shared = None


atexit.register(_at_exit)
if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(after_in_child=_after_fork_in_child)
