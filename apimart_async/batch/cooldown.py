"""The delay of a request after a 429, and the pause of the whole batch after many in a row."""

from __future__ import annotations

import logging
import math
import random
from time import monotonic
from typing import TYPE_CHECKING, Final, TypeVar

import anyio

from apimart_async.errors import RateLimitError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from apimart_async.batch.shutdown import ShutdownState

Result = TypeVar("Result")

_FIRST_PAUSE: Final = 1.0
_LONGEST_PAUSE: Final = 30.0
_LIMIT_FROM: Final = 8
"""Number of refusals without an accepted request in between that count as a limit."""

_log: Final = logging.getLogger("apimart_async.batch")


class Cooldown:
    """Sends the requests of a batch, and sends each again after a 429, for any length of time.

    An isolated refusal delays its request alone. Eight in a row pause the batch: then the first request goes
    alone, and each accepted one lets one more go beside the others. Delays and pauses are the ``Retry-After``
    of the service, or grow from 1 s to 30 s. The end of a task ends a pause that the service has not asked
    for: the number of tasks may be limited.

    Args:
        shutdown: Shutdown state of the batch; a longer delay than is allowed ends the batch.
        max_retry_after: Longest ``Retry-After``, in seconds, that the batch waits.
    """

    def __init__(self, shutdown: ShutdownState, max_retry_after: float) -> None:
        self._shutdown = shutdown
        self._max_retry_after = max_retry_after
        self._at_once = math.inf
        self._active = 0
        self._waiting = 0
        self._refusals = 0
        self._pause = 0.0
        self._until = 0.0
        self._asked_until = 0.0
        self._refused_at = -math.inf
        self._changed = anyio.Event()

    @property
    def is_limited(self) -> bool:
        """Tell whether requests wait after a 429, and none was accepted since."""
        return self._waiting > 0 and self._refusals > 0

    async def run(self, request: Callable[[], Awaitable[Result]]) -> Result | None:
        """Call a function that sends a request, again after each 429.

        Returns:
            The result; ``None`` when the batch shuts down while the request waits.

        Raises:
            Exception: The exception of the function, except for a transient ``RateLimitError``.

        Cancellation leaves the request not sent, or as the function leaves it.
        """
        delay, backoff = 0.0, _FIRST_PAUSE
        while True:
            with self._shutdown.until_requested() as scope:
                await self._wait(delay)
            if scope.cancelled_caught:
                return None
            began = monotonic()
            self._active += 1
            try:
                result = await request()
            except RateLimitError as error:
                if not error.is_transient:
                    raise
                if error.retry_after is not None and error.retry_after > self._max_retry_after:
                    self._shutdown.fail(error)
                    return None
                delay = self._refused(began, error.retry_after, backoff)
                backoff = min(_LONGEST_PAUSE, 2 * backoff)
            else:
                self._refusals = 0
                self._pause = 0.0
                self._at_once += 1
                return result
            finally:
                self._active -= 1
                self._wake()

    async def _wait(self, delay: float) -> None:
        """Wait for the delay, and until the batch may send one more request."""
        self._waiting += 1
        try:
            await anyio.sleep(delay)
            while (pause := self._until - monotonic()) > 0 or self._active >= self._at_once:
                with anyio.move_on_after(pause if pause > 0 else None):
                    await self._changed.wait()
        finally:
            self._waiting -= 1

    def _refused(self, began: float, retry_after: float | None, backoff: float) -> float:
        """Return the seconds before the refused request may be sent again, or pause the batch."""
        now = monotonic()
        self._refusals += 1
        if self._refusals < _LIMIT_FROM:
            return random.uniform(0.5, 1.0) * backoff if retry_after is None else retry_after
        # Requests under way together are refused together: only the first refusal counts.
        if began >= self._refused_at:
            self._pause = min(_LONGEST_PAUSE, max(backoff, 2 * self._pause))
            self._until = max(self._until, now + random.uniform(0.5, 1.0) * self._pause)
            _log.info("The service limits the rate: the batch waits %.1f s.", retry_after or self._pause)
        if retry_after is not None:
            self._asked_until = max(self._asked_until, now + retry_after)
            self._until = max(self._until, self._asked_until)
        self._refused_at = now
        self._at_once = 1
        return 0.0

    def task_ended(self) -> None:
        """End a pause that the service has not asked for."""
        if self._until > self._asked_until:
            self._until = self._asked_until
            self._wake()

    def _wake(self) -> None:
        if self._waiting:
            self._changed.set()
            self._changed = anyio.Event()
