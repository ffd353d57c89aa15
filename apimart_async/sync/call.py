"""One call from a thread to the event loop in the background."""

from __future__ import annotations

import sys
import threading
from asyncio import CancelledError
from typing import TYPE_CHECKING, ClassVar, Final, Generic, TypeVar, cast

from anyio import CancelScope

from apimart_async.interruption import carry_over, mark
from apimart_async.models import Task

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

T = TypeVar("T")

CLOSED: Final = "This client is closed."

# Windows does not wake a thread that waits for a lock on Ctrl-C, so the wait is cut into intervals there.
_WAIT_SECONDS: Final = 0.1 if sys.platform == "win32" else -1


class Call(Generic[T]):
    """An awaitable that the event loop runs while a thread waits for its result.

    The calling thread uses ``wait``, ``annotate`` and ``result``, the event loop all other methods. The call
    runs in a cancel scope of anyio, because ``Task.cancel()`` would interrupt shielded cleanup too.

    Args:
        function: Called without arguments on the event loop; its result is awaited.

    Attributes:
        error: The exception of the call, until ``result`` raises it.
        is_cancelled: Whether ``cancel`` ended the call.
        has_raised: Whether ``result`` has raised the exception of the call.
        is_exiting: Whether the interpreter exits. Waiting threads are daemon threads then and must not wake
            up, or they print tracebacks.
    """

    is_exiting: ClassVar[bool] = False

    __slots__ = (
        "_ended",
        "_function",
        "_has_ended",
        "_result",
        "_scope",
        "error",
        "has_raised",
        "is_cancelled",
    )

    def __init__(self, function: Callable[[], Awaitable[T]]) -> None:
        self._function = function
        self._has_ended = False
        # A bare lock, because Ctrl-C inside the Python code of Event.wait() can become a RuntimeError.
        self._ended = threading.Lock()
        self._ended.acquire()
        self._scope: CancelScope | None = None
        self._result: T | None = None
        self.error: BaseException | None = None
        self.is_cancelled: bool = False
        self.has_raised: bool = False

    def wait(self) -> None:
        """Block this thread until the call has ended. May be called again after an interruption."""
        while not self._has_ended:
            self._ended.acquire(timeout=_WAIT_SECONDS)

    def annotate(self, interruption: BaseException) -> None:
        """Add the outcome of the interrupted call to the exception that interrupted the wait."""
        if self.is_cancelled and self.error is not None:
            carry_over(self.error, interruption)
        elif self.error is not None:
            interruption.__cause__ = self.error
        elif self._result:
            interruption.add_note(f"The interrupted call had already ended: {self._result!r:.10000}")
            if isinstance(self._result, Task):
                task = self._result
                mark(
                    interruption,
                    task_id=task.id,
                    idempotency_key=task.idempotency_key,
                    sibling_ids=task.sibling_ids,
                )

    def result(self) -> T:
        """Return the result of the ended call.

        Raises:
            BaseException: The exception of the call, unchanged.
        """
        error, self.error = self.error, None
        if error is None:
            return cast("T", self._result)
        self.has_raised = True
        try:
            raise error
        finally:
            del error  # its traceback refers to this frame: a reference cycle that keeps the arguments alive

    def cancel(self) -> None:
        """Cancel the call. It ends after its cleanup, or at once if it has not started."""
        if self._scope is not None:
            self._scope.cancel()
        elif not self._has_ended:
            self._fail_cancelled(RuntimeError(CLOSED))

    def fail(self, error: BaseException) -> None:
        """End the call with an exception, unless it has ended."""
        if not self._has_ended:
            self.error = error
            self._end()

    async def run(self) -> None:
        """Await the function and keep its result or exception.

        Raises:
            BaseException: A cancellation from outside the call, or another exception that is no
                ``Exception``. The call has not ended then: use ``fail``.
        """
        if self._has_ended:
            return
        closed = RuntimeError(CLOSED)
        try:
            with CancelScope() as self._scope:
                try:
                    self._result = await self._function()
                except CancelledError as cancellation:
                    carry_over(cancellation, closed)
                    raise
        except Exception as error:  # noqa: BLE001  # raised again in the calling thread
            self.fail(error)
            return
        if self._scope.cancelled_caught:
            self._fail_cancelled(closed)
        else:
            self._end()

    def _fail_cancelled(self, error: RuntimeError) -> None:
        self.is_cancelled = True
        self.fail(error)

    def _end(self) -> None:
        self._has_ended = True
        if not Call.is_exiting:
            self._ended.release()
