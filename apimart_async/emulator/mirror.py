"""Another address of a running emulator, to test clients that know several addresses of a service."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable
    from ssl import SSLContext

    from .service import Service

_LOOPBACK: Final = "127.0.0.1"


class Mirror:
    """An address with the tasks, uploads, idempotency keys and ledger of its emulator.

    It listens on loopback. Uploads and results stay on the host of the emulator. `Emulator.mirror` makes one.

    Args:
        service: State of the emulator.
        connected: Makes the protocol of a new connection.
        ssl: TLS context of the server; None for none.
    """

    def __init__(
        self, service: Service, connected: Callable[[], asyncio.Protocol], ssl: SSLContext | None
    ) -> None:
        self._service = service
        self._connected = connected
        self._ssl = ssl
        # All since the start: aiohttp's protocols cannot be referenced weakly.
        self._connections: list[asyncio.Protocol] = []
        self._listener: asyncio.Server | None = None
        self._port = 0

    @property
    def base_url(self) -> str:
        """Its URL, the same after a stop and a new start."""
        return f"{'http' if self._ssl is None else 'https'}://{_LOOPBACK}:{self._port}"

    async def start(self) -> None:
        """Accept connections; a second call does nothing. Cancellation leaves it stopped."""
        if self._listener is None:
            # Not started yet: a cancelled `create_server` would leak the socket that is already listening.
            listen = partial(asyncio.get_running_loop().create_server, self._accepted, start_serving=False)
            self._listener = await listen(_LOOPBACK, self._port, ssl=self._ssl)
            _, self._port, *_ = self._listener.sockets[0].getsockname()
            self._service.mirrors.add(f"{_LOOPBACK}:{self._port}")
            await self._listener.start_serving()

    def stop(self) -> None:
        """Refuse connections and reset those that are open, with the requests on them; twice does nothing.

        A request that was received is executed all the same.
        """
        if self._listener is not None:
            self._listener.close()
            self._listener = None
            for connection in self._connections:
                transport = getattr(connection, "transport", None)
                if transport is not None:
                    transport.abort()
            self._connections.clear()

    def _accepted(self) -> asyncio.Protocol:
        connection = self._connected()
        self._connections.append(connection)
        return connection
