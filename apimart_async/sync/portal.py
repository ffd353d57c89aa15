"""The portal of a blocking client to its async client, shared with the copies from ``with_options``.

A call is a task on the event loop in the background (``loop_thread.py``) while the calling thread waits:

- An exception reaches the caller unchanged, with its original traceback.
- Ctrl-C cancels the call, waits for its cleanup and raises KeyboardInterrupt; a second Ctrl-C does not wait.
- A client that is not closed is closed by the garbage collector, or at exit.
- After ``os.fork()``, a client that was in use raises RuntimeError in the child process.
"""

from __future__ import annotations

import asyncio
import weakref
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeAlias, TypeVar

from apimart_async.arguments import wrong_type
from apimart_async.sync.call import CLOSED, Call
from apimart_async.sync.loop_thread import ClientState, LoopThread

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
    from contextlib import AbstractAsyncContextManager
    from types import TracebackType

P = ParamSpec("P")
T = TypeVar("T")

_ExitArguments: TypeAlias = "tuple[type[BaseException] | None, BaseException | None, TracebackType | None]"


class Portal:
    """Runs the calls of one client on the loop; safe to use from many threads at once.

    Args:
        close: Closes the async client; awaited on the loop, once.
    """

    def __init__(self, close: Callable[[], Awaitable[None]]) -> None:
        self.client: ClientState = ClientState(close)

    def call(self, function: Callable[P, Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a function on the loop, await its result there and return it.

        Raises:
            RuntimeError: The client is closed or was in use before a fork, or this is the thread of the loop.
            BaseException: The exception of the function, unchanged.
        """
        call = Call(partial(function, *args, **kwargs))
        thread = self.thread()
        return thread.run(call, thread.start, self.client, call)

    def open(
        self,
        function: Callable[P, AbstractAsyncContextManager[AsyncIterator[T]]],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> BlockingContextManager[T]:
        """Return an async context manager as a blocking one; entering it calls the function."""
        return BlockingContextManager(self, partial(function, *args, **kwargs))

    def close(self) -> None:
        """Cancel the calls of other threads, wait for their cleanup and close the client.

        Does nothing the second time, and nothing in a child process, whose parent has the connections.
        """
        with LoopThread.lock:
            thread = self.client.thread
            if thread is None:
                self.client.is_closed = True
        if thread is not None:
            thread.release(self.client)

    def thread(self) -> LoopThread:
        """Return the loop thread that serves the client from its first use until it is closed.

        Raises:
            RuntimeError: The client is closed.
        """
        thread = self.client.thread
        if thread is None or self.client.is_closed:
            thread = LoopThread.acquire(self.client)
            weakref.finalize(self, thread.release_soon, self.client).atexit = False
        return thread


def portal_of(client: object) -> Portal:
    """Return the portal of a blocking client.

    Raises:
        InvalidArgumentError: The object is not a blocking client, but for example an async one.
    """
    portal = getattr(client, "_portal", None)
    if not isinstance(portal, Portal):
        expected = (
            "an Apimart or an AppleRouter (apimart_async has this function for the asynchronous clients)"
        )
        raise wrong_type("client", expected, client)
    return portal


class BlockingContextManager(Generic[T]):
    """A blocking context manager over an async one, and a blocking iterator over its async iterator.

    One task on the loop enters, iterates and exits, as cancel scopes demand. So a failure in a background
    task of the async context manager reaches the thread that waits for an item.

    Args:
        portal: The portal of the client.
        function: Called on the loop to create the async context manager when this one is entered.
    """

    def __init__(
        self, portal: Portal, function: Callable[[], AbstractAsyncContextManager[AsyncIterator[T]]]
    ) -> None:
        self._portal = portal  # kept, because the client of a garbage-collected portal is closed
        self._thread = portal.thread()
        self._function = function
        self._task = Call(self._run)
        self._requests: asyncio.Queue[Call[Any] | _ExitArguments] = asyncio.Queue()
        self._pending: set[Call[Any]] = set()
        self._is_entered = False
        # The error of every request before the entry and after the end.
        self._error: BaseException | None = RuntimeError("Items come inside the with block only.")

    def __enter__(self) -> Iterator[T]:
        if self._is_entered:
            raise RuntimeError("This block was entered before: call the method again for another one.")
        self._is_entered = True
        entry = Call(partial(asyncio.sleep, 0))  # the first request: it runs once the manager is entered
        try:
            self._thread.run(entry, self._start, entry)
        except BaseException:
            self._thread.cancel(self._task)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> bool | None:
        if self._thread.has_forked:
            return None
        if self._thread.is_current:  # the garbage collector ends a generator with an open block
            self._thread.post(self._requests.put_nowait, (kind, error, traceback))
            return None
        self._thread.wait_for(self._task, self._requests.put_nowait, (kind, error, traceback))
        if self._task.is_cancelled or (error is not None and self._task.error is error):
            return None
        return self._task.result()

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        request = Call(self._next)
        try:
            return self._thread.run(request, self._put, request)
        except StopAsyncIteration:
            raise StopIteration from None

    # The methods below run on the loop.

    def _start(self, entry: Call[None]) -> None:
        self._error = None
        self._put(entry)
        self._thread.start(self._portal.client, self._task)
        if self._task.error is not None:  # the client is closed
            self._fail_requests(self._task.error)

    def _put(self, request: Call[Any]) -> None:
        if self._error is not None:
            request.fail(self._error)
        else:
            self._pending.add(request)
            self._requests.put_nowait(request)

    def _fail_requests(self, error: BaseException) -> None:
        self._error = error
        for request in self._pending:
            request.fail(error)
        self._pending.clear()

    async def _next(self) -> T:
        return await anext(self._items)

    async def _run(self) -> bool | None:
        error: BaseException = StopAsyncIteration()
        try:
            return await self._use(self._function())
        except asyncio.CancelledError:
            error = RuntimeError(CLOSED)
            raise
        except BaseException as raised:
            error = raised
            raise
        finally:
            self._fail_requests(error)

    async def _use(self, manager: AbstractAsyncContextManager[AsyncIterator[T]]) -> bool | None:
        self._items = await manager.__aenter__()
        try:
            exit_arguments = await self._serve_requests()
        except BaseException as error:  # as async with does
            if not await manager.__aexit__(type(error), error, error.__traceback__):
                raise
            return None
        return await manager.__aexit__(*exit_arguments)

    async def _serve_requests(self) -> _ExitArguments:
        while True:
            request = await self._requests.get()
            if isinstance(request, tuple):
                return request
            await request.run()
            self._pending.discard(request)
