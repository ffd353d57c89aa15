"""An answer whose head has come, and the connection that its body comes on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import aiohttp

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
        receiver: Has the connection in aiohttp's place, if the body is to be poured.

    Attributes:
        status: HTTP status.
        headers: Names in any case.
        content: The body.
        content_length: How many bytes are announced; ``None`` when it was not said.
    """

    __slots__ = ("_connection", "_receiver", "_request", "content", "content_length", "headers", "status")

    def __init__(
        self,
        connection: Connection,
        message: RawResponseMessage,
        content: aiohttp.StreamReader,
        request: Outgoing | None,
        receiver: Receiver | None,
    ) -> None:
        self.status: int = message.code
        self.headers: Mapping[str, str] = message.headers
        self.content: aiohttp.StreamReader = content
        announced = message.headers.get("Content-Length")
        self.content_length: int | None = (
            None if announced is None or "Transfer-Encoding" in message.headers else int(announced)
        )
        self._connection: Connection | None = connection
        self._request = request
        self._receiver: Receiver | None = None
        if receiver is not None and receiver.expect(content, self.content_length):
            self._receiver = receiver
        content.on_eof(self.release)

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
            self._receiver.release()
            self._receiver = None
        if self._request is not None and self._request.is_going_on:
            abort(connection)
        else:
            connection.release()

    def pour_now(self, take: Take) -> bool:
        """Hand the body over if all of it came with its head; return whether it did.

        Raises:
            BaseException: What ``take`` raises.
        """
        return self._receiver is not None and self._receiver.pour_now(take)

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
        if self._receiver is not None:
            return await self._receiver.pour(take)
        return await pour_out(self.content, take)


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
    """Hand over what aiohttp's parser made of a body, as ``Response.pour`` does.

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
