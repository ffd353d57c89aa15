"""The parts of one exchange with a server: request body, deadline, body of the answer, and its failure."""

from __future__ import annotations

import asyncio
import os
import ssl
from contextlib import aclosing
from typing import TYPE_CHECKING, Final, Protocol, Self

import aiohttp
import attrs

from apimart_async.errors import (
    APIConnectionError,
    APIError,
    ApimartError,
    APIResponseValidationError,
    APITimeoutError,
    DownloadError,
)
from apimart_async.transport import compression
from apimart_async.transport.concurrency import file_threads
from apimart_async.transport.retry import Effect
from apimart_async.urls import bare_url

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from apimart_async.config import Timeout
    from apimart_async.transport.media.multipart import Body

_CHUNK_BYTES: Final = 512 * 1024

# So little is written without waiting for the connection to drain: an error says that nothing was sent.
_FIRST_BYTES: Final = 16 * 1024

# An answer from this size on is joined in a thread.
_LARGE_BYTES: Final = 1024 * 1024
_LARGE_COMPRESSED_BYTES: Final = 4 * 1024
_BAD_FROM: Final = 400

FAILURES: Final = (aiohttp.ClientError, TimeoutError, OSError, UnicodeError)
"""Exceptions of an exchange without a whole answer."""

NEVER_SENT: Final = (
    aiohttp.ClientConnectorError,  # refused, unreachable, name look-up, TLS, proxy out of reach
    aiohttp.ClientConnectorCertificateError,
    aiohttp.ServerFingerprintMismatch,
    aiohttp.ConnectionTimeoutError,
    aiohttp.ClientHttpProxyError,  # the proxy refused to open a tunnel
    aiohttp.InvalidURL,
    UnicodeError,  # not a host name
)
"""Those after which a request without a body was not sent; a body notes that itself."""


@attrs.define(eq=False, slots=False)
class NoAnswerError(Exception):
    """An attempt without a complete answer.

    Attributes:
        error: Error for the caller.
        effect: Effect of the attempt on its request.
    """

    error: APIError
    effect: Effect


class OwnError(OSError):
    """An exchange failed; the message was written here, and may be shown."""


class OwnTimeoutError(OwnError, TimeoutError):
    """An exchange timed out; the message was written here, and may be shown."""


class UnreadableAnswerError(aiohttp.ClientPayloadError):
    """A whole answer has more bytes than allowed, or its compression is damaged."""


class Writer(Protocol):
    """Connection that a body is written to."""

    async def write(self, chunk: bytes | memoryview, /) -> None:
        """Write a chunk, and wait while the connection is full."""
        ...


class RequestBody(aiohttp.Payload):
    """A body for one attempt: JSON text, or a form that is read while it is sent.

    It notes whether its sending started: that decides if a paid request may have been executed.

    Args:
        body: Content.

    Attributes:
        started: Whether any of it may have been sent.
        is_sending: Whether the rest of it is still being sent.
        on_sent: Called when all of it has been handed to the connection.
        failure: Error of its source, which ended the sending.
    """

    def __init__(self, body: Body | bytes) -> None:
        content_type = "application/json" if isinstance(body, bytes) else body.content_type
        super().__init__(body, content_type=content_type)
        self._body = body
        self.started: bool = False
        self.is_sending: bool = False
        self.on_sent: Callable[[], None] | None = None
        self.failure: ApimartError | None = None

    @property
    def size(self) -> int:
        """Bytes in all."""
        return len(self._body) if isinstance(self._body, bytes) else self._body.length

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        """Return JSON text, as aiohttp asks for it; a form has none."""
        if not isinstance(self._body, bytes):
            raise TypeError("A form that is read while it is sent has no text.")
        return self._body.decode(encoding, errors)

    async def write(self, writer: Writer) -> None:
        """Write all of it, in chunks.

        Raises:
            ApimartError: The source cannot be read to its end.
            aiohttp.ClientConnectionResetError: The connection is closed.
        """
        self.is_sending = True
        try:
            if isinstance(self._body, bytes):
                for offset in range(0, len(self._body), _CHUNK_BYTES):
                    await self._send(writer, memoryview(self._body)[offset : offset + _CHUNK_BYTES])
            else:
                async with aclosing(self._body.chunks()) as chunks:
                    async for chunk in chunks:
                        await self._send(writer, chunk)
        except ApimartError as error:
            self.failure = error
            raise
        finally:
            self.is_sending = False
        if self.on_sent is not None:
            self.on_sent()

    async def _send(self, writer: Writer, chunk: bytes | memoryview) -> None:
        # Other tasks run in between, and an answer that came early ends the sending. Before the first chunk,
        # the session recognizes an answer that came before its request.
        await asyncio.sleep(0)
        if not self.started:
            self.started = True
            try:
                await writer.write(chunk[:_FIRST_BYTES])
            except aiohttp.ClientConnectionResetError:
                self.started = False
                raise
            chunk = chunk[_FIRST_BYTES:]
        if chunk:
            await writer.write(chunk)


class Deadline:
    """Cancels the body of its ``with`` block after a total time, or after a time without data.

    It works as ``asyncio.timeout``, at a third of its cost, and for several blocks in sequence. The time
    between blocks counts towards the total, but not as time without data.

    Args:
        timeout: ``total`` from the first block on, and ``read``.
        is_sent: Whether an answer is awaited from the start of a block; otherwise from ``extend`` on.
    """

    __slots__ = ("_before", "_error", "_handle", "_is_sent", "_loop", "_task", "_timeout", "_until")

    def __init__(self, timeout: Timeout, *, is_sent: bool) -> None:
        self._timeout = timeout
        self._is_sent = is_sent
        self._loop = asyncio.get_running_loop()
        self._until = self._loop.time() + timeout.total
        self._error: Exception | None = None
        self._handle: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[object] | None = None
        self._before = 0

    def __enter__(self) -> Self:
        until, now = self._until, self._loop.time()
        if until <= now:  # while data keeps arriving, no timer would run
            raise self._timed_out(is_total=True)
        self._task = task = asyncio.current_task(self._loop)
        assert task is not None  # noqa: S101 for the type checker: a coroutine of aiohttp needs one
        self._before = task.cancelling()
        if self._is_sent:
            until = min(until, now + self._timeout.read)
        self._handle = self._loop.call_at(until, self._expire)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        task, self._task = self._task, None
        if self._handle is not None:
            self._handle.cancel()
        if self._error is None or task is None:
            return
        ended, self._error = self._error, None
        # Another cancellation, at the same moment, wins.
        if task.uncancel() <= self._before and kind is asyncio.CancelledError:
            raise ended from error

    def extend(self) -> None:
        """Await an answer, or more of it, from now on."""
        self._is_sent = True
        if self._handle is not None and self._task is not None and self._error is None:
            self._handle.cancel()
            until = min(self._until, self._loop.time() + self._timeout.read)
            self._handle = self._loop.call_at(until, self._expire)

    def _expire(self) -> None:
        is_total = self._handle is None or self._handle.when() >= self._until
        self.end(self._timed_out(is_total=is_total))

    def _timed_out(self, *, is_total: bool) -> OwnTimeoutError:
        return OwnTimeoutError(
            f"no whole answer within {self._timeout.total:g} s (Timeout.total)"
            if is_total
            else f"nothing came for {self._timeout.read:g} s (Timeout.read)"
        )

    def end(self, error: Exception) -> None:
        """End the block with an error; a second call does nothing."""
        if self._task is not None and self._error is None:
            self._error = error
            self._task.cancel()


class Download:
    """The body of a file, in chunks; the code that opened it closes it.

    Attributes:
        status: HTTP status.
        length: Bytes announced; ``None`` when the host did not say, or compresses them.
        content_type: MIME type announced.
        discard: Function to call if the content is not the file: its connections are not used again.
    """

    def __init__(
        self,
        response: aiohttp.ClientResponse,
        url: str,
        limit: int,
        limit_name: str,
        *,
        read: Callable[[], Awaitable[bytes]],
        on_close: Callable[[], None],
        on_discard: Callable[[], None],
    ) -> None:
        self.status: int = response.status
        self.length: int | None = response.content_length
        self.content_type: str | None = response.headers.get("Content-Type")
        self._coding = response.headers.get("Content-Encoding", "")
        self._decompressor: compression.Decompressor | None = None
        self._packed = b""
        self._has_begun = False
        self._response = response
        self._url = url
        self._left = limit
        self._limit = limit
        self._limit_name = limit_name
        self._read = read
        self._on_close = [response.release, on_close]
        self.discard = on_discard

    async def read(self) -> bytes:
        """Return all that has come since the last call, waiting for some, and nothing at the end.

        Raises:
            DownloadError: More came than the limit, or its compression is damaged.
            APIConnectionError: The connection broke before the end.
            APITimeoutError: Nothing came for ``Timeout.read`` seconds, or not all within ``Timeout.total``.

        Cancellation closes the connection.
        """
        try:
            if self._decompressor is not None:
                chunk = await self._decompress(self._decompressor)
            else:
                chunk = await self._read()
            if not self._has_begun:
                chunk = await self._begin(chunk)
        except BaseException:
            self._response.close()
            raise
        self._left -= len(chunk)
        if self._left < 0:
            self._response.close()
            raise too_large(self._url, self._limit, self._limit_name)
        return chunk

    async def _begin(self, chunk: bytes) -> bytes:
        """Judge the first bytes, and return the first part of the content."""
        self._has_begun = True
        while len(chunk) < compression.HEAD_BYTES and (more := await self._read()):
            chunk += more
        if not _is_compressed(chunk, self._coding):
            return chunk
        self._decompressor = compression.Decompressor(self._coding, self._limit)
        self._packed = chunk
        self.length = None
        return await self._decompress(self._decompressor)

    async def _decompress(self, decompressor: compression.Decompressor) -> bytes:
        """Return the next part of the content, and nothing at its end."""
        try:
            while packed := self._packed or await self._read():
                self._packed = packed[compression.PIECE_BYTES :]
                piece = packed[: compression.PIECE_BYTES]
                if content := await file_threads.run(decompressor.decode, piece):
                    return content
            return decompressor.finish()
        except compression.TooLargeError as error:
            raise too_large(self._url, self._limit, self._limit_name) from error
        except compression.EndedEarlyError as error:
            raise APIConnectionError(
                f"The connection failed: {error}.", method="GET", url=bare_url(self._url)
            ) from error
        except ValueError as error:
            message = f"The file cannot be decompressed: {error}."
            raise DownloadError(message, method="GET", url=bare_url(self._url)) from error

    def add_close_callback(self, on_close: Callable[[], None]) -> None:
        """Call a function when the download is closed."""
        self._on_close.append(on_close)

    def close(self) -> None:
        """Give the connection back, or close it if there is more to come; a second call does nothing."""
        for call in self._on_close:
            call()
        self._on_close.clear()


async def read_answer(
    response: aiohttp.ClientResponse,
    body: RequestBody | None,
    limit: int,
    on_chunk: Callable[[], None],
    *,
    limit_name: str,
) -> bytes:
    """Return a whole body, decompressed; of an error answer above the limit, its beginning.

    The connection is given back, or closed.

    Args:
        response: Answer.
        body: Body of the request.
        limit: Most bytes of its content.
        on_chunk: Called when a part of it has come.
        limit_name: Setting to name in errors.

    Raises:
        UnreadableAnswerError: The body is longer than the limit, or its compression is damaged.
        aiohttp.ClientError: The connection was lost.
    """
    content = response.content
    try:
        data = await next_chunk(content)
        size = len(data)
        if not content.at_eof():
            chunks = [data]
            while size <= limit:
                on_chunk()
                if not (chunk := await next_chunk(content)):
                    break
                chunks.append(chunk)
                size += len(chunk)
            # A join of this size releases the interpreter's lock.
            data = await file_threads.run(b"".join, chunks) if size > _LARGE_BYTES else b"".join(chunks)
    finally:
        # aiohttp gives a connection back at the end of a body, unless its request is still sent.
        if not content.at_eof() or (body is not None and body.is_sending):
            async with response:
                pass
    coding = response.headers.get("Content-Encoding")
    try:
        if size > limit:
            raise compression.TooLargeError(f"it is larger than {limit} bytes")
        if _is_compressed(data, coding):
            arguments = (data, coding or "", limit)
            if size <= _LARGE_COMPRESSED_BYTES:
                return compression.decompress(*arguments)
            return await file_threads.run(compression.decompress, *arguments)
    except ValueError as error:
        if response.status >= _BAD_FROM:  # the beginning is enough
            return data[:limit] if size > limit else b""
        setting = f" ({limit_name})" if isinstance(error, compression.TooLargeError) else ""
        raise UnreadableAnswerError(f"{error}{setting}") from error
    return data


def _is_compressed(head: bytes, coding: str | None) -> bool:
    """Tell whether a body may have to be decompressed, from its first bytes and its ``Content-Encoding``."""
    return head.startswith(compression.GZIP) or (coding is not None and "deflate" in coding.lower())


async def next_chunk(content: aiohttp.StreamReader) -> bytes:
    """Return all that has come of a body since the last call, waiting for some, and nothing at its end.

    Raises:
        aiohttp.ClientError: The connection broke before the end.
    """
    try:
        return await content.readany()
    except (RuntimeError, aiohttp.ClientConnectionError) as error:
        # aiohttp's for a connection that was closed between two reads; the subclasses are of the network.
        if isinstance(error, aiohttp.ClientError) and type(error) is not aiohttp.ClientConnectionError:
            raise
        # One object for all connections of the process: its traceback would keep the frames of this read.
        raise OwnError("the connection was closed") from error.with_traceback(None)


def connection_error(error: Exception, method: str, url: str) -> APIError:
    """Make the error for an exchange without a whole answer that can be read.

    aiohttp's own text is not shown: it holds passwords of proxies, signed URLs, and bytes of a server.
    """
    kind: type[APIError] = APIConnectionError
    event = "The connection failed"
    if isinstance(error, TimeoutError):
        kind, event = APITimeoutError, "Timed out"
    elif isinstance(error, UnreadableAnswerError):
        kind, event = APIResponseValidationError, "The answer cannot be read"
    return kind(f"{event}: {_reason(error)}.", method=method, url=bare_url(url))


# The first class that fits counts.
_REASONS: Final[tuple[tuple[type[Exception], str], ...]] = (
    (aiohttp.ConnectionTimeoutError, "no connection within Timeout.connect"),
    (aiohttp.ClientResponseError, "the answer is not HTTP"),
    (aiohttp.ServerDisconnectedError, "the server disconnected before the end of an answer"),
    (aiohttp.ClientPayloadError, "the answer broke off"),
    (aiohttp.ClientConnectorDNSError, "the host name cannot be resolved"),
    (aiohttp.InvalidURL, "the URL has no valid host name"),
    (UnicodeError, "the URL has no valid host name"),
)


def _reason(error: BaseException) -> str:
    """Say why an exchange failed: in our words, or those of the operating system and of OpenSSL."""
    if isinstance(error, OwnError | UnreadableAnswerError):
        return str(error)
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return f"the proxy refused the tunnel with HTTP {error.status}"
    if isinstance(error, aiohttp.ClientProxyConnectionError):
        return f"the proxy cannot be reached: {_reason(error.os_error)}"
    if isinstance(error, aiohttp.ClientConnectorError) and isinstance(error.os_error, OwnError):
        return str(error.os_error)
    for kind, reason in _REASONS:
        if isinstance(error, kind):
            return reason
    return _system_reason(error)


def _system_reason(error: BaseException) -> str:
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return _system_reason(error.certificate_error)
    if isinstance(error, aiohttp.ClientConnectorError):
        return _system_reason(error.os_error)
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the TLS certificate is not trusted: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"TLS failed with {error.reason}"
    if isinstance(error, OSError) and error.errno is not None and error.errno > 0:
        return os.strerror(error.errno)
    return type(error).__name__


def too_large(url: str, limit: int, limit_name: str = "Limits.download_bytes") -> DownloadError:
    """Make the error for a file above the limit."""
    message = f"The file is larger than {limit} bytes ({limit_name})."
    return DownloadError(message, method="GET", url=bare_url(url))
