"""How a blocking client reaches its async client: one portal each, shared by its ``with_options`` copies.

A call is a task on the loop in the background (``loop_thread.py``) while the thread that calls waits for it:

- An exception comes back as itself, with the traceback of where it was raised.
- Ctrl-C cancels the call, waits for its cleanup and raises KeyboardInterrupt; a second one does not wait.
- A client that nobody closes is closed when it is collected, or at exit.
- In a child process after ``os.fork()`` a client that was in use raises RuntimeError.
"""

from __future__ import annotations

import asyncio
import weakref
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeAlias, TypeVar

from apimart_async.sync.call import CLOSED, Call
from apimart_async.sync.loop_thread import Lease, LoopThread

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
    from contextlib import AbstractAsyncContextManager
    from types import TracebackType

P = ParamSpec("P")
T = TypeVar("T")

_Leaving: TypeAlias = "tuple[type[BaseException] | None, BaseException | None, TracebackType | None]"


class Portal:
    """The way of one client onto the loop; safe to use from many threads at once.

    Args:
        close: Closes the async client; awaited on the loop, once.
    """

    def __init__(self, close: Callable[[], Awaitable[None]]) -> None:
        self.lease: Lease = Lease(close)

    def call(self, function: Callable[P, Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Await what a function returns on the loop, and return its result.

        Raises:
            RuntimeError: The client is closed, or was in use before a fork, or this is the loop's own thread.
            BaseException: What the function raises, as it is.
        """
        call = Call(partial(function, *args, **kwargs))
        thread = self.admit()
        thread.wait_for(call, thread.begin, self.lease, call)
        return call.outcome()

    def open(
        self,
        function: Callable[P, AbstractAsyncContextManager[AsyncIterator[T]]],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> Visit[T]:
        """Return an asynchronous context manager as a blocking one; it is made when entered."""
        return Visit(self, partial(function, *args, **kwargs))

    def close(self) -> None:
        """Cancel the calls of other threads, see them end and close the client.

        Does nothing the second time, and nothing in a child process: what is open belongs to the parent.
        """
        thread = LoopThread.withdraw(self.lease)
        if thread is not None and not thread.has_forked and not self.lease.has_ended:
            thread.release(self.lease)

    def admit(self) -> LoopThread:
        """Return the thread that serves the client, from its first use until it is closed.

        Raises:
            RuntimeError: The client is closed.
        """
        thread = self.lease.thread
        if thread is None or self.lease.has_ended:
            thread = LoopThread.admit(self.lease)
            weakref.finalize(self, thread.release_soon, self.lease).atexit = False
        return thread


class Visit(Generic[T]):
    """A ``with`` block over the items of an asynchronous context manager, from outside the loop.

    Entering, each item and leaving happen in one task on the loop: cancel scopes demand it, and a failure in
    the background of the manager then reaches whoever waits for an item.

    Args:
        portal: The way onto the loop.
        function: Called on the loop to make the manager, when the block is entered.
    """

    def __init__(
        self, portal: Portal, function: Callable[[], AbstractAsyncContextManager[AsyncIterator[T]]]
    ) -> None:
        self._portal = portal  # held, because a portal that is collected closes its client
        self._thread = portal.admit()
        self._function = function
        self._stay = Call(self._run)
        self._requests: asyncio.Queue[Call[Any] | _Leaving] = asyncio.Queue()
        self._unanswered: set[Call[Any]] = set()
        self._refusal: BaseException | None = RuntimeError("Items come inside the with block only.")

    def __enter__(self) -> Iterator[T]:
        entry = Call(self._arrive)
        try:
            self._thread.wait_for(entry, self._begin, entry)
            entry.outcome()
        except BaseException:
            self._thread.cancel(self._stay)
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
        self._thread.wait_for(self._stay, self._requests.put_nowait, (kind, error, traceback))
        if self._stay.is_cancelled or (error is not None and self._stay.error is error):
            return None
        return self._stay.outcome()

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        request = Call(self._take)
        self._thread.wait_for(request, self._ask, request)
        try:
            return request.outcome()
        except StopAsyncIteration:
            raise StopIteration from None

    # From here on, everything runs on the loop.

    def _begin(self, entry: Call[None]) -> None:
        self._refusal = None
        self._ask(entry)
        self._thread.begin(self._portal.lease, self._stay)
        if self._stay.error is not None:  # the client is closed
            self._refuse(self._stay.error)

    def _ask(self, request: Call[Any]) -> None:
        if self._refusal is not None:
            request.fail(self._refusal)
        else:
            self._unanswered.add(request)
            self._requests.put_nowait(request)

    def _refuse(self, refusal: BaseException) -> None:
        self._refusal = refusal
        for request in self._unanswered:
            request.fail(refusal)
        self._unanswered.clear()

    async def _arrive(self) -> None:
        """Do nothing: to be answered at all is to be in."""

    async def _take(self) -> T:
        return await anext(self._items)

    async def _run(self) -> bool | None:
        refusal: BaseException = StopAsyncIteration()
        try:
            return await self._visit(self._function())
        except asyncio.CancelledError:
            refusal = RuntimeError(CLOSED)
            raise
        except BaseException as error:
            refusal = error
            raise
        finally:
            self._refuse(refusal)

    async def _visit(self, manager: AbstractAsyncContextManager[AsyncIterator[T]]) -> bool | None:
        self._items = await manager.__aenter__()
        try:
            leaving = await self._answer()
        except BaseException as error:  # what async with does
            if not await manager.__aexit__(type(error), error, error.__traceback__):
                raise
            return None
        return await manager.__aexit__(*leaving)

    async def _answer(self) -> _Leaving:
        while True:
            request = await self._requests.get()
            if isinstance(request, tuple):
                return request
            await request.run()
            self._unanswered.discard(request)
