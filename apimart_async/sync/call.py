"""One call on its way from a thread to the event loop, and its outcome on the way back."""

from __future__ import annotations

import sys
import threading
from asyncio import CancelledError
from typing import TYPE_CHECKING, ClassVar, Final, Generic, TypeVar, cast

from anyio import CancelScope

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

T = TypeVar("T")

CLOSED: Final = "This client is closed."

# Windows wakes no waiting thread for Ctrl-C, so there it looks up now and then.
_LOOK_UP: Final = 0.1 if sys.platform == "win32" else -1


class Call(Generic[T]):
    """What a thread waits for while the event loop awaits it.

    ``wait``, ``explain`` and ``outcome`` belong to the thread that calls, everything else to the event loop.
    The call runs in a cancel scope of anyio: ``Task.cancel()`` would tear shielded cleanup too.

    Args:
        function: Called without arguments on the event loop; what it returns is awaited.

    Attributes:
        error: What the call raised, until ``outcome`` raises it.
        is_cancelled: Whether it ended because of ``cancel``.
        is_silent: Whether calls go unanswered, as at exit of the interpreter: those who wait are daemon
            threads then, and end with it without a word.
    """

    is_silent: ClassVar[bool] = False

    __slots__ = ("_function", "_has_ended", "_result", "_scope", "_unless_ended", "error", "is_cancelled")

    def __init__(self, function: Callable[[], Awaitable[T]]) -> None:
        self._function = function
        self._has_ended = False
        # A bare lock, because Ctrl-C inside the Python code of Event.wait() can come out as a RuntimeError.
        self._unless_ended = threading.Lock()
        self._unless_ended.acquire()
        self._scope: CancelScope | None = None
        self._result: T | None = None
        self.error: BaseException | None = None
        self.is_cancelled: bool = False

    def wait(self) -> None:
        """Block this thread until the call has ended; may be interrupted, and called again."""
        while not self._has_ended:
            self._unless_ended.acquire(timeout=_LOOK_UP)

    def explain(self, interruption: BaseException) -> None:
        """Tell the exception that interrupted the wait what became of the call, where that is news."""
        if self.is_cancelled:
            for note in getattr(self.error, "__notes__", ()):
                interruption.add_note(note)
        elif self.error is not None:
            interruption.__cause__ = self.error
        elif self._result is not None:
            interruption.add_note(f"The interrupted call had already ended: {self._result!r}")

    def outcome(self) -> T:
        """Return what the call returned.

        Raises:
            BaseException: What the call raised, as it is.
        """
        error, self.error = self.error, None
        if error is None:
            return cast("T", self._result)
        try:
            raise error
        finally:
            del error  # the traceback holds this frame: a cycle around all that the call held

    def cancel(self) -> None:
        """Cancel the call: it ends when its cleanup has, or at once when it has not begun."""
        if self._scope is not None:
            self._scope.cancel()
        elif not self._has_ended:
            self._fail_cancelled(())

    def fail(self, error: BaseException) -> None:
        """End the call with an exception, unless it has ended."""
        if not self._has_ended:
            self.error = error
            self._end()

    async def run(self) -> None:
        """Await the function and keep how it ends.

        Raises:
            BaseException: What is not this call's own affair, above all a cancellation that comes from
                outside it. The call has not ended then: ``fail`` it.
        """
        if self._has_ended:
            return
        notes: Sequence[str] = ()
        try:
            with CancelScope() as self._scope:
                try:
                    self._result = await self._function()
                except CancelledError as cancellation:
                    notes = getattr(cancellation, "__notes__", ())
                    raise
        except Exception as error:  # noqa: BLE001  # raised again in the thread that waits
            self.fail(error)
            return
        if self._scope.cancelled_caught:
            self._fail_cancelled(notes)
        else:
            self._end()

    def _fail_cancelled(self, notes: Sequence[str]) -> None:
        error = RuntimeError(CLOSED)
        for note in notes:  # a paid request that was cut off says so there
            error.add_note(note)
        self.is_cancelled = True
        self.fail(error)

    def _end(self) -> None:
        self._has_ended = True
        if not Call.is_silent:
            self._unless_ended.release()
