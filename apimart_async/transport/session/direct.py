"""Requests written straight onto aiohttp's connections: half of what its sessions take for the same.

For each request a session of aiohttp makes a request, a writer, a response and often a task, and goes over
what this package never asks of it: cookies, middlewares, traces, redirects. Its connector, which looks names
up, speaks TLS and keeps connections, and its parser do the work that counts; they are used here as they are.
What is not plain goes through a session all the same, and ``pool.py`` decides.
"""

from __future__ import annotations

import asyncio
import re
from contextlib import suppress
from functools import lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple

import aiohttp
from aiohttp.http import HttpProcessingError, StreamWriter
from yarl import URL

from apimart_async.transport.session.payloads import open_transport

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from aiohttp.client_proto import ResponseHandler
    from aiohttp.connector import Connection
    from aiohttp.http import RawResponseMessage

    from apimart_async.transport.headers import Headers
    from apimart_async.transport.session.payloads import Outgoing

IS_KNOWN: Final = (3, 14) <= tuple(map(int, aiohttp.__version__.split(".")[:2])) < (4,)
"""Whether this is an aiohttp whose connections are known; with any other, all goes through its sessions.

Up to 3.13, who is cut off while a line is full leaves an error behind that nobody asks for.
"""

_ORIGINS_KEPT: Final = 64
_FINAL_FROM: Final = 200
_SWITCHED: Final = 101
_GOOD_BELOW: Final = 300
_PLAIN: Final = re.compile(
    r"(?P<origin>https?://(?P<host>[a-z0-9.-]+|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?)"
    r"(?P<target>/[A-Za-z0-9\-._~:/?@!$&'()*+,;=%]*)"
)


class Address(NamedTuple):
    """An address that is sent just as it is written.

    Attributes:
        origin: Scheme, host and port.
        host: Name or number, without brackets.
        target: Path and query.
    """

    origin: str
    host: str
    target: str


def plain_address(url: str) -> Address | None:
    """Take an address apart, unless something in it has to be quoted, resolved or kept to ourselves."""
    found = _PLAIN.fullmatch(url)
    if found is None or "/." in url:
        return None
    origin, host, target = found.groups()
    return Address(origin, host.strip("[]"), target)


class Response:
    """An answer whose head has come, with the connection it comes on.

    Attributes:
        status: HTTP status.
        headers: Names in any case.
        content: The body.
    """

    __slots__ = ("_connection", "_is_cut_off", "content", "headers", "status")

    def __init__(
        self,
        connection: Connection,
        message: RawResponseMessage,
        content: aiohttp.StreamReader,
        *,
        is_cut_off: bool,
    ) -> None:
        self.status: int = message.code
        self.headers: Mapping[str, str] = message.headers
        self.content: aiohttp.StreamReader = content
        self._connection: Connection | None = connection
        self._is_cut_off = is_cut_off
        content.on_eof(self.release)

    @property
    def content_length(self) -> int | None:
        """Return how many bytes are announced."""
        announced = self.headers.get("Content-Length")
        return None if announced is None else int(announced)

    @property
    def closed(self) -> bool:
        """Tell whether it has let go of its connection."""
        return self._connection is None

    def release(self) -> None:
        """Give the connection back, or close it when there is more to come; a second call does nothing."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        if self._is_cut_off:
            _abort(connection)
        else:
            connection.release()


class _Origin(NamedTuple):
    """Where requests go.

    Attributes:
        host: Value of ``Host``.
        first: What the connector is asked with for a connection.
    """

    host: str
    first: aiohttp.ClientRequest


class Direct:
    """Send requests on connections of one connector.

    Args:
        connector: Whose.
    """

    def __init__(self, connector: aiohttp.BaseConnector) -> None:
        self._connector = connector
        self._origin: Callable[[str], _Origin] = lru_cache(_ORIGINS_KEPT)(_make_origin)

    async def request(
        self,
        method: str,
        address: Address,
        *,
        headers: Headers,
        further: Mapping[str, str] | None,
        body: Outgoing | None,
        timeout: aiohttp.ClientTimeout,
    ) -> Response:
        """Send a request and return its answer, whose body is not read yet.

        Raises:
            aiohttp.ClientError: No answer came.
            TimeoutError: No connection was made in time.

        Cancelling it closes the connection.
        """
        origin = self._origin(address.origin)
        length = "" if body is None else f"Content-Length: {body.size}\r\n"
        lines = headers.lines(origin.host, further)
        head = f"{method} {address.target} HTTP/1.1\r\n{lines}{length}\r\n".encode()
        try:
            return await self._exchange(origin.first, head, body, timeout)
        except aiohttp.ClientConnectorError:
            raise
        except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError):
            # The other end may have closed a kept connection just now; what only looks is asked anew at once.
            if method != "GET":
                raise
        return await self._exchange(origin.first, head, body, timeout)

    async def _exchange(
        self,
        first: aiohttp.ClientRequest,
        head: bytes,
        body: Outgoing | None,
        timeout: aiohttp.ClientTimeout,
    ) -> Response:
        connection, protocol = await self._connect(first, timeout)
        sending: asyncio.Task[None] | None = None
        is_cut_off = False
        try:
            protocol.set_response_params(read_until_eof=True, auto_decompress=False)
            if body is None:
                open_transport(protocol).write(head)
            else:
                writer = StreamWriter(protocol, first.loop)
                if not await body.begin(writer, head):
                    sending = asyncio.create_task(_go_on(body, writer, protocol))
            message, content = await _answer(protocol)
            if sending is not None:
                is_cut_off = await _is_cut_off(sending, is_wanted=message.code < _GOOD_BELOW)
        except BaseException as error:
            _abort(connection)
            if sending is not None:
                await _is_cut_off(sending, is_wanted=False)
            if isinstance(error, HttpProcessingError):
                raise aiohttp.ClientConnectionError(f"the answer is not HTTP: {error.message}") from error
            raise
        finally:
            if body is not None:
                body.end()
        return Response(connection, message, content, is_cut_off=is_cut_off)

    async def _connect(
        self, first: aiohttp.ClientRequest, timeout: aiohttp.ClientTimeout
    ) -> tuple[Connection, ResponseHandler]:
        try:
            connection = await self._connector.connect(first, traces=[], timeout=timeout)
        except TimeoutError as error:
            raise aiohttp.ConnectionTimeoutError(f"Connection timeout to host {first.url}") from error
        protocol = connection.protocol
        if protocol is None or protocol.should_close:
            # What came while nothing was asked, such as a farewell, is no answer to what is asked now.
            connection.close()
            raise aiohttp.ServerDisconnectedError("the connection was given up by the other end")
        return connection, protocol


def _make_origin(origin: str) -> _Origin:
    url = URL(origin)
    return _Origin(
        url.host_port_subcomponent or "",
        aiohttp.ClientRequest("GET", url, loop=asyncio.get_running_loop()),
    )


async def _answer(protocol: ResponseHandler) -> tuple[RawResponseMessage, aiohttp.StreamReader]:
    while True:
        message, content = await protocol.read()
        if message.code >= _FINAL_FROM or message.code == _SWITCHED:
            return message, content


async def _go_on(body: Outgoing, writer: StreamWriter, protocol: ResponseHandler) -> None:
    """Send the rest of a body; whoever waits for the answer is told when that fails."""
    try:
        await body.finish(writer)
    except Exception as error:  # noqa: BLE001 raised where the answer is waited for
        protocol.set_exception(aiohttp.ClientConnectionError(f"the body could not be sent: {error}"), error)


async def _is_cut_off(sending: asyncio.Task[None], *, is_wanted: bool) -> bool:
    """Wait until the rest of a body is sent, or cut it off: an error is an answer also to the half of it."""
    if is_wanted:
        await asyncio.wait([sending])
    is_cut_off = not sending.done()
    sending.cancel()
    while not sending.done():
        with suppress(asyncio.CancelledError):
            await asyncio.wait([sending])
    return is_cut_off


def _abort(connection: Connection) -> None:
    """Close a connection without what is still to be sent, which nobody may ever take."""
    if connection.transport is not None:
        connection.transport.abort()
    connection.close()
