"""Request bodies as aiohttp takes them, which remember whether their sending began."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, cast

from aiohttp.payload import Payload

from apimart_async import errors

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiohttp.abc import AbstractStreamWriter
    from aiohttp.http_writer import StreamWriter

    from apimart_async.transport.multipart import Body
    from apimart_async.transport.passage import Passage
    from apimart_async.transport.throttle import Gate


_PIECE_BYTES: Final = 256 * 1024


class BytesBody(Payload):
    """JSON text that remembers whether its sending began.

    Attributes:
        started: Whether any of it may have left.
        when_sent: Called when all of it has.
    """

    def __init__(self, data: bytes) -> None:
        super().__init__(data, content_type="application/json")
        self._size = len(data)
        self._data = data
        self.started: bool = False
        self.when_sent: Callable[[], None] = _nothing

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        """Return the text, as aiohttp asks for it."""
        return self._data.decode(encoding, errors)

    async def write(self, writer: AbstractStreamWriter) -> None:
        """Write it, as aiohttp asks for it; pictures inside a request make it large."""
        self.started = True
        if len(self._data) <= _PIECE_BYTES:
            await writer.write(self._data)
        else:
            view = memoryview(self._data)
            for offset in range(0, len(view), _PIECE_BYTES):
                await writer.write(view[offset : offset + _PIECE_BYTES])
        self.when_sent()


class StreamedBody(Payload):
    """A body read piece by piece while it is sent, which keeps the error of its source.

    Args:
        body: What to send.
        reading: Lets a few pieces at a time be read and handed to their connections. With more, 64 uploads at
            once hold 64 pieces, and those are no longer in the processor's cache when they are sent.

    Attributes:
        started: Whether any of it may have left.
        when_sent: Called when all of it has.
        failure: Why it could not be read to its end.
    """

    def __init__(self, body: Body, reading: Gate) -> None:
        super().__init__(body, content_type=body.content_type)
        self._size = body.length
        self._reading = reading
        self._body = body
        self.started: bool = False
        self.when_sent: Callable[[], None] = _nothing
        self.failure: errors.ApimartError | None = None

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:  # noqa: ARG002 aiohttp's signature
        """Refuse: the body is not in memory."""
        raise TypeError("a streamed body has no text")

    async def write(self, writer: AbstractStreamWriter) -> None:
        """Write it, as aiohttp asks for it."""
        self.started = True
        left = self._body.length
        passage = self._body.passage()
        try:
            while left > 0 and (written := await self._write_piece(passage, writer)):
                left -= written
                # A line that is full is waited for outside the gate.
                await writer.drain()
                if left > 0:
                    await asyncio.sleep(0)  # others have their turn, also where nobody waits
        except errors.ApimartError as error:
            self.failure = error
            raise
        finally:
            passage.close()
        self.when_sent()

    async def _write_piece(self, passage: Passage, writer: AbstractStreamWriter) -> int:
        if not self._reading.enter_now():
            await self._reading.enter()
        try:
            piece = await passage.read()
            if piece:
                await cast("StreamWriter", writer).write(piece, drain=False)
        finally:
            self._reading.leave()
        return len(piece)


def _nothing() -> None:
    pass
