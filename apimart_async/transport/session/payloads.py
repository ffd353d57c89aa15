"""Request bodies that remember whether their sending began, and go on while the answer is waited for."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from typing import TYPE_CHECKING, Any, Final, cast

import aiohttp
from aiohttp.payload import Payload
from anyio import CancelScope

from apimart_async import errors
from apimart_async.transport.rate_limit import Gate
from apimart_async.transport.session.turns import Turns

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from aiohttp.abc import AbstractStreamWriter
    from aiohttp.base_protocol import BaseProtocol
    from aiohttp.client_proto import ResponseHandler
    from aiohttp.http_writer import StreamWriter

    from apimart_async.transport.media.multipart import Body


_PIECE_BYTES: Final = 256 * 1024
_READ_AT_ONCE: Final = 4
_PIECES_A_ROUND: Final = 4


class Outgoing(Payload):
    """A request body: a payload of aiohttp, which is also written in two steps by ``direct.py``.

    Attributes:
        started: Whether any of it may have left.
        when_sent: Called when all of it has.
        failure: Why it could not be read to its end.
    """

    def __init__(self, value: Any, content_type: str, size: int) -> None:  # noqa: ANN401 aiohttp keeps it
        super().__init__(value, content_type=content_type)
        self._size = size
        self.started: bool = False
        self.when_sent: Callable[[], None] = _nothing
        self.failure: errors.ApimartError | None = None
        self._rest: asyncio.Task[None] | None = None
        self._is_direct = False

    @property
    def is_going_on(self) -> bool:
        """Tell whether a part of it is still being sent."""
        return self._rest is not None and not self._rest.done()

    async def write(self, writer: AbstractStreamWriter) -> None:
        """Write it, as a session of aiohttp asks for it."""
        line = cast("StreamWriter", writer)
        try:
            if not await self.begin(line):
                await self.finish(line)
        finally:
            self.end()

    async def send(self, line: StreamWriter, head: bytes) -> None:
        """Write as much as goes at once, after what comes before it; the rest goes on until ``stop``.

        Raises:
            aiohttp.ClientConnectionResetError: The connection was closed, and nothing was written.
            ImageError: It could not be read.
        """
        self._is_direct = True
        is_going_on = False
        try:
            is_going_on = not await self.begin(line, head)
        finally:
            if not is_going_on:
                self.end()
        if is_going_on:
            self._rest = asyncio.create_task(self._go_on(line))

    async def stop(self) -> None:
        """Cut off what ``send`` left to be sent, and leave nothing open, also when it is cancelled."""
        if self._rest is None:
            return
        cancelled: asyncio.CancelledError | None = None
        self._rest.cancel()
        with CancelScope(shield=True):
            while not self._rest.done():
                try:
                    await asyncio.wait([self._rest])
                except asyncio.CancelledError as error:
                    cancelled = error
        self.end()
        if cancelled is not None:
            raise cancelled

    async def _go_on(self, line: StreamWriter) -> None:
        try:
            await self.finish(line)
        except Exception as error:  # noqa: BLE001 raised where the answer is waited for
            broken = aiohttp.ClientConnectionError(f"the body could not be sent: {error}")
            cast("ResponseHandler", line.protocol).set_exception(broken, error)

    @abstractmethod
    async def begin(self, line: StreamWriter, head: bytes = b"") -> bool:
        """Write the first piece after what comes before it; return whether that was all, and has left."""

    @abstractmethod
    async def finish(self, line: StreamWriter) -> None:
        """Write what is left."""

    def end(self) -> None:
        """Leave nothing open, whether all of it was written or not."""

    def _note_failure(self, error: errors.ApimartError) -> None:
        self.failure = error

    def _note_start(self, line: StreamWriter) -> asyncio.Transport:
        transport = open_transport(line.protocol)
        self.started = True
        return transport


class BytesBody(Outgoing):
    """JSON text."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data, "application/json", len(data))
        self._data = data

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        """Return the text, as aiohttp asks for it."""
        return self._data.decode(encoding, errors)

    async def begin(self, line: StreamWriter, head: bytes = b"") -> bool:
        """Write the first piece; pictures inside a request make it large, but mostly that is all."""
        self._note_start(line)
        await line.write(head + self._data[:_PIECE_BYTES], drain=False)
        if len(self._data) > _PIECE_BYTES or line.protocol.writing_paused:
            return False
        self.when_sent()
        return True

    async def finish(self, line: StreamWriter) -> None:
        """Write the other pieces."""
        view = memoryview(self._data)
        for offset in range(_PIECE_BYTES, len(view), _PIECE_BYTES):
            await line.drain()
            await line.write(view[offset : offset + _PIECE_BYTES], drain=False)
        await line.drain()
        self.when_sent()


class Sending:
    """What the streamed bodies of a client share while they are sent.

    Attributes:
        reading: Lets a few pieces at a time be read and handed to their connections. With more, 64 uploads at
            once hold 64 pieces, and those are no longer in the processor's cache when they are sent.
        turns: Lets some milliseconds' worth of them be sent before everybody else goes on.
    """

    def __init__(self) -> None:
        self.reading: Gate = Gate(_READ_AT_ONCE)
        self.turns: Turns = Turns(_PIECES_A_ROUND)


class StreamedBody(Outgoing):
    """A body read piece by piece while it is sent, which keeps the error of its source.

    Args:
        body: What to send.
        sending: Shared with all others.
    """

    def __init__(self, body: Body, sending: Sending) -> None:
        super().__init__(body, body.content_type, body.length)
        self._sending = sending
        self._body = body
        self._chunks: AsyncIterator[bytes] | None = None
        self._left = 0

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:  # noqa: ARG002 aiohttp's signature
        """Refuse: the body is not in memory."""
        raise TypeError("a streamed body has no text")

    async def begin(self, line: StreamWriter, head: bytes = b"") -> bool:
        """Write the first piece, read to behind the head."""
        self._chunks = chunks = self._body.chunks()
        self._left = self._body.length
        await self._write_piece(chunks, line, head)
        if self._left > 0 or line.protocol.writing_paused:
            return False
        self.when_sent()
        return True

    async def finish(self, line: StreamWriter) -> None:
        """Write the other pieces."""
        while self._left > 0 and self._chunks is not None:
            await line.drain()  # a line that is full is waited for outside the gate
            if not self._is_direct:
                await asyncio.sleep(0)  # for an answer that comes early
            await self._write_piece(self._chunks, line)
        await line.drain()
        self.when_sent()

    def end(self) -> None:
        """Close the source."""
        self._chunks = None

    async def _write_piece(self, chunks: AsyncIterator[bytes], line: StreamWriter, head: bytes = b"") -> None:
        if not self._sending.turns.take_now():
            await self._sending.turns.take()
        if not self._sending.reading.enter_now():
            await self._sending.reading.enter()
        try:
            piece = await anext(chunks)
            transport = self._note_start(line)
            if not self._is_direct:
                await line.write(head + piece, drain=False)
            else:
                transport.write(head + piece)
        except errors.ApimartError as error:
            self._note_failure(error)
            raise
        finally:
            self._sending.reading.leave()
        self._left -= len(piece) or self._left


def open_transport(protocol: BaseProtocol) -> asyncio.Transport:
    """Return what a connection is written to; nothing is written to one that was closed.

    Raises:
        aiohttp.ClientConnectionResetError: It was.
    """
    transport = protocol.transport
    if transport is None or transport.is_closing():
        raise aiohttp.ClientConnectionResetError("the connection was closed")
    return transport


def _nothing() -> None:
    pass
