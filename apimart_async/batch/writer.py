"""One thread that owns a database connection: what comes together is committed together."""

from __future__ import annotations

import asyncio
import queue
import threading
from typing import TYPE_CHECKING, Any, Final, TypeVar

import attrs

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable

    Work = Callable[[sqlite3.Connection], Any]

Result = TypeVar("Result")

_MOST_TOGETHER: Final = 1000


@attrs.define(eq=False)
class _Call:
    work: Work
    future: asyncio.Future[Any]
    result: Any = None
    error: Exception | None = None

    def settle(self) -> None:
        if self.future.done():
            return
        if self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(self.result)


class Writer:
    """Run functions with a connection, in a thread of its own, in the order they come.

    Those that wait together share one transaction, and so one sync to disk; each caller goes on when that is
    done. A transaction that fails fails for all of them. A function makes one statement, as its last act.

    Args:
        connect: Opens the connection, in autocommit mode; called in the thread.
        make_room: Called when a transaction has failed; says whether trying once more makes sense.
        closed: Called when the connection is closed.
    """

    def __init__(
        self,
        connect: Callable[[], sqlite3.Connection],
        make_room: Callable[[sqlite3.Error], bool],
        closed: Callable[[], object],
    ) -> None:
        self._connect = connect
        self._make_room = make_room
        self._closed = closed
        self._calls: queue.SimpleQueue[_Call | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop
        self._ended: asyncio.Future[None]

    async def open(self) -> None:
        """Start the thread and open the connection.

        Raises:
            Exception: What opening it raises.

        Cancelling it closes the connection as soon as it is open.
        """
        self._loop = asyncio.get_running_loop()
        self._ended = self._loop.create_future()
        opened = _Call(lambda _: None, self._loop.create_future())
        self._thread = threading.Thread(target=self._serve, args=(opened,), name="journal", daemon=True)
        self._thread.start()
        try:
            await opened.future
        except asyncio.CancelledError:
            self._calls.put(None)
            raise

    async def run(self, work: Callable[[sqlite3.Connection], Result]) -> Result:
        """Return what a function returns, once what it wrote is on disk.

        Raises:
            Exception: What it, or the transaction it was part of, raises.

        Cancelling it does not take the work back.
        """
        call = _Call(work, self._loop.create_future())
        self._calls.put(call)
        result: Result = await call.future
        return result

    async def close(self) -> None:
        """Finish what was asked for, close the connection and see the thread end."""
        if self._thread is not None:
            self._calls.put(None)
            await asyncio.shield(self._ended)

    def _serve(self, opened: _Call) -> None:
        try:
            connection = self._connect()
        except Exception as error:  # noqa: BLE001 raised where it is waited for
            opened.error = error
            self._tell([opened], is_last=True)
            return
        self._tell([opened])
        try:
            self._work(connection)
        finally:
            connection.close()
            self._closed()
            self._tell([], is_last=True)

    def _work(self, connection: sqlite3.Connection) -> None:
        is_closing = False
        while not is_closing:
            calls: list[_Call] = []
            while not is_closing and len(calls) < _MOST_TOGETHER:
                try:
                    call = self._calls.get(block=not calls)
                except queue.Empty:
                    break
                is_closing = call is None
                if call is not None:
                    calls.append(call)
            if calls:
                self._commit(connection, calls)
                self._tell(calls)

    def _tell(self, calls: list[_Call], *, is_last: bool = False) -> None:
        def settle() -> None:
            for call in calls:
                call.settle()
            if is_last and not self._ended.done():
                self._ended.set_result(None)

        try:
            self._loop.call_soon_threadsafe(settle)
        except RuntimeError:  # the loop is closed: nobody waits any more
            return

    def _commit(self, connection: sqlite3.Connection, calls: list[_Call]) -> None:
        error = self._try(connection, calls)
        if error is not None and self._make_room(error):
            error = self._try(connection, calls)
        if error is not None:
            for call in calls:
                call.error = error

    def _try(self, connection: sqlite3.Connection, calls: list[_Call]) -> sqlite3.Error | None:
        from sqlite3 import Error

        try:
            connection.execute("BEGIN IMMEDIATE")
            for call in calls:
                try:
                    call.result = call.work(connection)
                except Error:
                    raise
                except Exception as error:  # noqa: BLE001 it failed before it wrote anything, and by itself
                    call.error = error
            connection.execute("COMMIT")
        except Error as error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            return error
        return None
