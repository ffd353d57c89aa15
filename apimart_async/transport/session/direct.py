"""Requests written straight onto aiohttp's connections: a poll costs 0.74 of plain aiohttp, not 1.12.

For each request a session of aiohttp makes a request, a writer, a response and often a task, and goes over
what this package never asks of it: cookies, middlewares, traces, redirects. Its connector, which looks names
up, speaks TLS and keeps connections, and its parser do the work that counts; they are used here as they are.
What is not plain goes through a session all the same, and ``pool.py`` decides.
"""

from __future__ import annotations

import asyncio
import re
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Final, NamedTuple

import aiohttp
from aiohttp.http import HttpProcessingError, StreamWriter
from yarl import URL

from apimart_async.transport.session.payloads import open_transport
from apimart_async.transport.session.receiver import ANY_ANSWER, Receiver, make_buffer
from apimart_async.transport.session.response import Response, abort

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from aiohttp.client_proto import ResponseHandler
    from aiohttp.connector import Connection
    from aiohttp.http import RawResponseMessage

    from apimart_async.transport.headers import Headers
    from apimart_async.transport.session.payloads import Outgoing
    from apimart_async.transport.session.receiver import Accept

IS_KNOWN: Final = (3, 14) <= tuple(map(int, aiohttp.__version__.split(".")[:2])) < (4,)
"""Whether this is an aiohttp whose connections are known; with any other, all goes through its sessions.

Up to 3.13, who is cut off while a line is full leaves an error behind that nobody asks for.
"""

_ORIGINS_KEPT: Final = 64
_INTERIM: Final = frozenset(range(100, 200)) - {101}
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
    return Address(origin, host.strip("[]"), target) if _is_sound(origin) else None


@lru_cache(_ORIGINS_KEPT)
def _is_sound(origin: str) -> bool:
    try:
        return URL(origin).port is not None
    except ValueError:
        return False


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
        self._buffer = make_buffer()
        self._in_use: set[Connection] = set()

    async def request(
        self,
        method: str,
        address: Address,
        *,
        headers: Headers,
        further: Mapping[str, str] | None,
        body: Outgoing | None,
        timeout: aiohttp.ClientTimeout,
        accept: Accept | None = None,
    ) -> Response:
        """Send a request and return its answer, whose body is not read yet.

        Args:
            method: HTTP method.
            address: Where to.
            headers: Those of many requests.
            further: Those of this one, instead of the former where both name one.
            body: What is sent.
            timeout: Until there is a connection.
            accept: Names who takes the body of a ``GET``, from the moment that its head has come.

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
            return await self._exchange(origin.first, head, body, timeout, accept)
        except aiohttp.ClientConnectorError:
            raise
        except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError):
            # The other end may have closed a kept connection just now; what only looks is asked anew at once.
            if method != "GET" or self._connector.closed:
                raise
        return await self._exchange(origin.first, head, body, timeout, accept)

    def abort(self) -> None:
        """Close the connections that are in use, without what is still to be sent on them."""
        for connection in list(self._in_use):
            abort(connection)

    async def _exchange(
        self,
        first: aiohttp.ClientRequest,
        head: bytes,
        body: Outgoing | None,
        timeout: aiohttp.ClientTimeout,
        accept: Accept | None,
    ) -> Response:
        connection, protocol = await self._connect(first, timeout)
        self._in_use.add(connection)
        connection.add_callback(partial(self._in_use.discard, connection))
        try:
            receiver = None
            if accept is None:
                protocol.set_response_params(**ANY_ANSWER)
            else:
                receiver = Receiver(protocol, open_transport(protocol), self._buffer, accept)
            if body is None:
                open_transport(protocol).write(head)
            else:
                await body.send(StreamWriter(protocol, first.loop), head)
            if receiver is not None and (message := await receiver.head) is not None:
                return Response(connection, message, aiohttp.EMPTY_PAYLOAD, body, receiver)
            message, content = await _answer(protocol)
        except BaseException as error:
            abort(connection)
            if body is not None:
                await body.stop()
            if isinstance(error, HttpProcessingError):
                raise aiohttp.ClientConnectionError(f"the answer is not HTTP: {error.message}") from error
            if isinstance(error, aiohttp.EofStream):
                raise aiohttp.ServerDisconnectedError from error
            raise
        return Response(connection, message, content, body)

    async def _connect(
        self, first: aiohttp.ClientRequest, timeout: aiohttp.ClientTimeout
    ) -> tuple[Connection, ResponseHandler]:
        # Of those that are kept, as many as there may be have been given up by the other end.
        for _ in range(self._connector.limit + 1):
            try:
                connection = await self._connector.connect(first, traces=[], timeout=timeout)
            except TimeoutError as error:
                raise aiohttp.ConnectionTimeoutError(f"Connection timeout to host {first.url}") from error
            protocol = connection.protocol
            # What came while nothing was asked, such as a farewell, is no answer to what is asked now.
            if protocol is not None and not protocol.should_close:
                return connection, protocol
            connection.close()
        raise aiohttp.ServerDisconnectedError("the other end speaks before it is asked")


def _make_origin(origin: str) -> _Origin:
    url = URL(origin)
    return _Origin(
        url.host_port_subcomponent or "",
        aiohttp.ClientRequest("GET", url, loop=asyncio.get_running_loop()),
    )


async def _answer(protocol: ResponseHandler) -> tuple[RawResponseMessage, aiohttp.StreamReader]:
    while True:
        message, content = await protocol.read()
        if message.code not in _INTERIM:
            return message, content
