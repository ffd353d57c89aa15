"""An answer whose head has come, and the connection that its body comes on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import aiohttp

from apimart_async.transport.session.receiver import announced_length

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiohttp.connector import Connection
    from aiohttp.http import RawResponseMessage

    from apimart_async.transport.session.payloads import Outgoing
    from apimart_async.transport.session.receiver import Receiver, Take


class Response:
    """An answer, as much of aiohttp's own as is used here.

    Args:
        connection: Where it comes on; given back when the body ends.
        message: Its head.
        content: Its body.
        request: The body it answers, which may still be being sent.
        receiver: Hands the body over instead.

    Attributes:
        status: HTTP status.
        headers: Names in any case.
        content: The body, empty where a receiver hands it over.
        content_length: How many bytes are announced; ``None`` when it was not said.
        receiver: Hands the body over.
    """

    __slots__ = ("_connection", "_request", "content", "content_length", "headers", "receiver", "status")

    def __init__(
        self,
        connection: Connection,
        message: RawResponseMessage,
        content: aiohttp.StreamReader,
        request: Outgoing | None,
        receiver: Receiver | None = None,
    ) -> None:
        self.status: int = message.code
        self.headers: Mapping[str, str] = message.headers
        self.content: aiohttp.StreamReader = content
        self.content_length: int | None = announced_length(message)
        self._connection: Connection | None = connection
        self._request = request
        self.receiver: Receiver | None = receiver
        if receiver is None:
            content.on_eof(self.release)
        else:
            receiver.when_whole(self.release)

    @property
    def closed(self) -> bool:
        """Tell whether it has let go of its connection."""
        return self._connection is None

    def release(self) -> None:
        """Give the connection back, or close it when there is more to come or to be sent; once."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        is_over = self._request is None or not self._request.is_going_on
        if self.receiver is not None:
            self.receiver.release()
            is_over = self.receiver.is_whole
        if is_over:
            connection.release()  # which closes it while aiohttp's parser waits for more
        else:
            abort(connection)


async def next_piece(content: aiohttp.StreamReader) -> bytes:
    """Return what comes next of a body, nothing at its end.

    Raises:
        aiohttp.ClientError: The connection broke before the end.
    """
    try:
        return await content.readany()
    except RuntimeError as error:  # so aiohttp calls a connection that went while nothing was waited for
        raise aiohttp.ClientPayloadError("the connection was closed") from error


async def pour_out(content: aiohttp.StreamReader, take: Take) -> bool:
    """Hand over what aiohttp's parser made of a body, as ``Receiver.pour`` does.

    Raises:
        aiohttp.ClientError: The connection broke before the end.
        BaseException: What ``take`` raises.
    """
    while piece := await next_piece(content):
        if not take(piece):
            return content.at_eof()
    return True


def abort(connection: Connection) -> None:
    """Close a connection without what is still to be sent, which nobody may ever take."""
    if connection.transport is not None:
        connection.transport.abort()
    connection.close()
