"""A raw HTTP server whose answers, right or wrong, are written by a test, over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import attrs
import pytest
import trustme

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


def png_of(content: bytes) -> bytes:
    """Return a PNG with the content in a chunk that decoders skip."""
    chunk = len(content).to_bytes(4) + b"juNk" + content + bytes(4)
    return b"\x89PNG\r\n\x1a\n" + chunk + b"\0\0\0\0IEND\xaeB`\x82"


@attrs.define
class Seen:
    """A request as it arrived."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@attrs.define
class Exchange:
    """One request on one connection, and the way to answer it."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    number: int
    seen: list[Seen]

    async def read(self) -> Seen:
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.rstrip("\r\n").split("\r\n")
        method, path, _ = first.split(" ", 2)
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        body = await self.reader.readexactly(int(headers.get("content-length", "0")))
        request = Seen(method, path, headers, body)
        self.seen.append(request)
        return request

    async def read_head(self) -> int:
        """Read a head and nothing of the body; return the length that was announced."""
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        (length,) = (line[16:] for line in head.split("\r\n") if line.startswith("content-length: "))
        return int(length)

    async def answer(
        self,
        body: bytes = b"{}",
        status: int = 200,
        headers: dict[str, str] | None = None,
        length: int | None = None,
    ) -> None:
        lines = {
            "Content-Type": "application/json",
            "Content-Length": str(len(body) if length is None else length),
        }
        lines |= headers or {}
        head = f"HTTP/1.1 {status} Said\r\n" + "".join(
            f"{name}: {value}\r\n" for name, value in lines.items()
        )
        self.writer.write(head.encode() + b"\r\n" + body)
        await self.writer.drain()

    def drop(self) -> None:
        self.writer.transport.abort()


@attrs.define
class RawServer:
    """Runs a test's handler for each request; one that returns leaves the connection open for the next."""

    handle: Callable[[Exchange], Awaitable[None]] | None = None
    seen: list[Seen] = attrs.field(factory=list)
    connections: int = 0
    exchanges: int = 0
    base_url: str = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while not writer.is_closing():
                self.exchanges += 1
                assert self.handle
                await self.handle(Exchange(reader, writer, self.exchanges, self.seen))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()


class SchemaAnsweringProtocol(asyncio.StreamReaderProtocol):
    """Answers requests for the schema of a model itself: there is none. The test sees all other requests."""

    wire: asyncio.BaseTransport | None = None
    is_seen = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.wire = transport

    def data_received(self, data: bytes) -> None:
        if data.startswith(b"GET /v1/model-schema"):
            assert isinstance(self.wire, asyncio.WriteTransport)
            self.wire.write(
                b"HTTP/1.1 404 None\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
            )
            return
        if not self.is_seen:
            self.is_seen = True
            assert self.wire is not None
            super().connection_made(self.wire)
        super().data_received(data)

    def eof_received(self) -> bool:
        return bool(super().eof_received()) if self.is_seen else False

    def connection_lost(self, exc: Exception | None) -> None:
        if self.is_seen:
            super().connection_lost(exc)


async def arrive() -> None:
    """Let data on loopback arrive: that takes one round of the event loop, and a few over TLS."""
    for _ in range(20):
        await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def listening(server: RawServer, context: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """Accept connections for a server, on the port that is the value."""
    tasks: set[asyncio.Task[None]] = set()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(server.serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    def protocol() -> SchemaAnsweringProtocol:
        return SchemaAnsweringProtocol(asyncio.StreamReader(), connected)

    listener = await asyncio.get_running_loop().create_server(protocol, "127.0.0.1", 0, ssl=context)
    yield listener.sockets[0].getsockname()[1]
    listener.close()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@pytest.fixture
async def raw_server() -> AsyncIterator[RawServer]:
    server = RawServer()
    async with listening(server) as port:
        server.base_url = f"http://127.0.0.1:{port}"
        yield server


@pytest.fixture
async def secure_server(raw_server: RawServer) -> AsyncIterator[tuple[str, ssl.SSLContext]]:
    """The same server behind TLS: its base URL, and a context that trusts it."""
    authority = trustme.CA()
    served, trusting = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), ssl.create_default_context()
    authority.issue_cert("127.0.0.1").configure_cert(served)
    authority.configure_trust(trusting)
    async with listening(raw_server, served) as port:
        yield f"https://127.0.0.1:{port}", trusting
