"""An answer whose head has come, and the connection that its body comes on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import aiohttp

from apimart_async.transport.session.receiver import Receiver

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiohttp.connector import Connection
    from aiohttp.http import RawResponseMessage

    from apimart_async.transport.session.payloads import Outgoing
    from apimart_async.transport.session.receiver import Take


class Response:
    """An answer, as much of aiohttp's own as is used here.

    Args:
        connection: Where it comes on; given back when the body ends.
        message: Its head.
        content: Its body.
        request: The body it answers, which may still be being sent.
        buffer: What a body is received into: one for all of a loop, which fills and empties it in one step.

    Attributes:
        status: HTTP status.
        headers: Names in any case.
        content: The body.
    """

    __slots__ = ("_buffer", "_connection", "_receiver", "_request", "content", "headers", "status")

    def __init__(
        self,
        connection: Connection,
        message: RawResponseMessage,
        content: aiohttp.StreamReader,
        request: Outgoing | None,
        buffer: memoryview,
    ) -> None:
        self.status: int = message.code
        self.headers: Mapping[str, str] = message.headers
        self.content: aiohttp.StreamReader = content
        self._connection: Connection | None = connection
        self._buffer = buffer
        self._receiver: Receiver | None = None
        self._request = request
        content.on_eof(self.release)

    @property
    def content_length(self) -> int | None:
        """Return how many bytes are announced."""
        announced = self.headers.get("Content-Length")
        return None if announced is None or "Transfer-Encoding" in self.headers else int(announced)

    @property
    def closed(self) -> bool:
        """Tell whether it has let go of its connection."""
        return self._connection is None

    def release(self) -> None:
        """Give the connection back, or close it when there is more to come or to be sent; once."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        if self._receiver is not None:
            self._receiver.leave()
        if self._request is not None and self._request.is_going_on:
            abort(connection)
        else:
            connection.release()

    async def pour(self, take: Take) -> bool:
        """Hand the body over as it comes, on the event loop.

        Args:
            take: What takes it.

        Returns:
            Whether that was all. Otherwise ``take`` had no more room, and nothing comes until the next call.

        Raises:
            aiohttp.ClientError: The connection broke before the end.
            BaseException: What ``take`` raises.
        """
        content = self.content
        piece = content.read_nowait()
        if piece and not take(piece):
            return content.at_eof()
        if content.is_eof():
            return True
        receiver = self._receiver or self._receive()
        if receiver is not None:
            return await receiver.pour(take)
        while piece := await next_piece(content):
            if not take(piece):
                return content.at_eof()
        return True

    def _receive(self) -> Receiver | None:
        """Take the rest of the body out of aiohttp's hands, where it is known how long that is."""
        length = self.content_length
        protocol = None if self._connection is None else self._connection.protocol
        transport = None if protocol is None else protocol.transport
        # While nothing is read, the parser may hold a part of the body back.
        if length is not None and protocol is not None and transport is not None and transport.is_reading():
            left = length - self.content.total_bytes
            self._receiver = Receiver(protocol, transport, self.content, left, self._buffer)
        return self._receiver


async def next_piece(content: aiohttp.StreamReader) -> bytes:
    """Return what comes next of a body, nothing at its end.

    Raises:
        aiohttp.ClientError: The connection broke before the end.
    """
    try:
        return await content.readany()
    except RuntimeError as error:  # so aiohttp calls a connection that went while nothing was waited for
        raise aiohttp.ClientPayloadError("the connection was closed") from error


def abort(connection: Connection) -> None:
    """Close a connection without what is still to be sent, which nobody may ever take."""
    if connection.transport is not None:
        connection.transport.abort()
    connection.close()
