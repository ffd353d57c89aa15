"""Another address of a running emulator, to test clients that know several addresses of a service."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable
    from ssl import SSLContext

    from .service import Service

_LOOPBACK: Final = "127.0.0.1"
_BACKLOG: Final = 1024


class Mirror:
    """An address with the tasks, uploads, idempotency keys and ledger of its emulator.

    It listens on loopback. Uploads and results stay on the host of the emulator. `Emulator.mirror` makes one.

    It accepts connections itself: `asyncio.Server` leaks those that arrive while it is closed. On Windows it
    needs a selector event loop.

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
        self._listener: socket.socket | None = None
        self._handshakes: dict[asyncio.Task[None], socket.socket] = {}
        self._transports: set[asyncio.Transport] = set()
        self._port = 0

    @property
    def base_url(self) -> str:
        """Its URL, the same after a stop and a new start."""
        return f"{'http' if self._ssl is None else 'https'}://{_LOOPBACK}:{self._port}"

    def start(self) -> None:
        """Accept connections; a second call does nothing."""
        if self._listener is not None:
            return
        listener = socket.create_server((_LOOPBACK, self._port), backlog=_BACKLOG)
        listener.setblocking(False)  # noqa: FBT003 the standard library's
        self._port = listener.getsockname()[1]
        self._service.mirrors.add(f"{_LOOPBACK}:{self._port}")
        asyncio.get_running_loop().add_reader(listener, self._accept, listener)
        self._listener = listener

    def stop(self) -> None:
        """Refuse connections and reset those that are open, with the requests on them; twice does nothing.

        A request that was received is executed all the same.
        """
        if self._listener is None:
            return
        asyncio.get_running_loop().remove_reader(self._listener)
        self._listener.close()
        self._listener = None
        for handshake in self._handshakes:
            handshake.cancel()
        for transport in self._transports:
            # asyncio cannot abort a TLS connection that was closed twice: it has no protocol any more.
            if not transport.is_closing():
                transport.abort()
        self._transports.clear()

    async def close(self) -> None:
        """Stop, and wait until no connection is being accepted."""
        self.stop()
        await asyncio.gather(*self._handshakes, return_exceptions=True)

    def _accept(self, listener: socket.socket) -> None:
        try:
            connection, _ = listener.accept()
        except OSError:  # the client has gone
            return
        handshake = asyncio.get_running_loop().create_task(self._serve(connection))
        self._handshakes[handshake] = connection
        handshake.add_done_callback(self._served)

    def _served(self, handshake: asyncio.Task[None]) -> None:
        connection = self._handshakes.pop(handshake)
        if handshake.cancelled():  # perhaps before it began
            connection.close()

    async def _serve(self, connection: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        try:
            transport, _ = await loop.connect_accepted_socket(self._connected, connection, ssl=self._ssl)
        except OSError:  # a client that does not trust the certificate, for example
            connection.close()
            return
        self._transports = {each for each in self._transports if not each.is_closing()}
        self._transports.add(transport)
