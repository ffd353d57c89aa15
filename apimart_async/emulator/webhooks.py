"""Webhooks: posts that tell the address in a submission that its task has ended."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import aiohttp
import anyio

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from .clock import Clock

RETRY_DELAYS: Final = (10.0, 30.0, 60.0)
"""Seconds after a failed delivery until the next."""

_TIMEOUT: Final = aiohttp.ClientTimeout(total=10.0)
_LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})
_CLOCK_STEP: Final = 0.02
"""Seconds after which the clock is looked at again, because `Emulator.advance` moves it."""


class Webhooks:
    """The deliveries of a running emulator, each in a task that ends with it.

    Only addresses on loopback are called: a request to an emulator must not make it a client of strangers.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._deliveries: set[asyncio.Task[None]] = set()

    def start(self, url: str, due: float, describe: Callable[[], Awaitable[dict[str, Any]]]) -> None:
        """Deliver a task once it has ended.

        Args:
            url: Address in the submission; `/callback` is appended.
            due: When the task ends, in unix seconds.
            describe: Returns the body.
        """
        if _is_loopback(url):
            delivery = asyncio.create_task(self._deliver(f"{url.rstrip('/')}/callback", due, describe))
            self._deliveries.add(delivery)
            delivery.add_done_callback(self._deliveries.discard)

    async def close(self) -> None:
        """Cancel the deliveries that wait."""
        for delivery in list(self._deliveries):
            delivery.cancel()
        if self._deliveries:
            await asyncio.wait(self._deliveries)

    async def _deliver(self, url: str, due: float, describe: Callable[[], Awaitable[dict[str, Any]]]) -> None:
        await self._sleep_until(due)
        body = await describe()
        if body["status"] not in {"completed", "failed"}:
            return
        async with aiohttp.ClientSession(timeout=_TIMEOUT) as session:
            for delay in (*RETRY_DELAYS, None):
                try:
                    async with session.post(url, json=body, allow_redirects=False) as response:
                        status = response.status
                except (aiohttp.ClientError, TimeoutError):
                    status = 0
                # The service takes a refusal as the receiver's last word.
                if 200 <= status < 300 or 400 <= status < 500 or delay is None:  # noqa: PLR2004 classes of HTTP
                    return
                await self._sleep_until(self._clock.now() + delay)

    async def _sleep_until(self, moment: float) -> None:
        # No event: another thread may move the clock.
        while (remaining := moment - self._clock.now()) > 0:  # noqa: ASYNC110
            await anyio.sleep(min(remaining, _CLOCK_STEP))


def _is_loopback(url: str) -> bool:
    try:
        return urlsplit(url).hostname in _LOOPBACK
    except ValueError:
        return False
