"""One exchange with the API, or one file, at a time on each of a limited number of connections."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

import aiohttp

from apimart_async import errors
from apimart_async.transport.rate_limit import Gate
from apimart_async.transport.responses import Reply
from apimart_async.transport.session.deadlines import Deadline, Deadlines
from apimart_async.transport.session.downloads import Download, open_file
from apimart_async.transport.session.failures import (
    FAILURES,
    NEVER_SENT,
    NoAnswerError,
    connection_error,
)
from apimart_async.transport.session.payloads import BytesBody, Sending, StreamedBody
from apimart_async.transport.session.pool import Pool
from apimart_async.transport.session.response import next_piece
from apimart_async.urls import bare_url

if TYPE_CHECKING:
    from collections.abc import Mapping

    from apimart_async.config import Settings, Timeout
    from apimart_async.transport.headers import Headers
    from apimart_async.transport.media.multipart import Body
    from apimart_async.transport.session.payloads import Outgoing
    from apimart_async.transport.session.pool import AnyResponse
    from apimart_async.transport.session.receiver import Take

log: logging.Logger = logging.getLogger("apimart_async")


class Session:
    """The connections that a client and its copies share: opened at the first request, closed once.

    Args:
        settings: Of the client that opens it.
        external: The caller's own aiohttp session, used as it is and never closed.
    """

    def __init__(self, settings: Settings, external: aiohttp.ClientSession | None = None) -> None:
        self._pool = Pool(settings, external)
        self._limits = settings.limits
        self._longest_wait = settings.timeout.pool
        # Waiting for a connection inside aiohttp counts against its timeouts; waiting here does not.
        self._gate = Gate(settings.limits.connections)
        self._sending = Sending()
        self._deadlines = Deadlines()

    async def close(self) -> None:
        """Close the connections opened here; a second call does nothing."""
        self._deadlines.close()
        await self._pool.close()

    async def exchange(
        self,
        method: str,
        url: str,
        *,
        headers: Headers,
        further: Mapping[str, str] | None,
        body: Body | bytes | None,
        timeout: Timeout,
        cut_off_note: str | None = None,
    ) -> Reply:
        """Send one request to the API and read its whole answer.

        Args:
            method: HTTP method.
            url: Whole address, quoted.
            headers: Those of every request.
            further: Those of this one, instead of the former where both name one. No others are sent, but
                for those HTTP itself needs.
            body: JSON text, or a streamed body.
            timeout: Of this try.
            cut_off_note: What to add to the exception, and log, if the exchange is cancelled once its
                body may have left.

        Raises:
            NoAnswerError: None came, or not whole.
            ImageError: The streamed body could not be read to its end.
            RuntimeError: The client is closed, or was first used in another event loop.

        Cancelling it closes the connection.
        """
        task = self._deadlines.current_task()
        if not self._gate.enter_now():
            await self._enter(method, url)
        data: Outgoing | None = None
        deadline = Deadline(self._deadlines, task, timeout, is_sent=body is None)
        try:
            if body is not None:
                data = self._outgoing(body)
                data.when_sent = deadline.sent
            response = await self._pool.request(
                method, url, headers=headers, further=further, body=data, connect=timeout.connect
            )
            deadline.body = response.content
            return Reply(response.status, response.headers, await self._read(response, data))
        except asyncio.CancelledError as cancelled:
            if deadline.was_missed():
                late = TimeoutError(deadline.late)
                sent = data is None or data.started
                raise NoAnswerError(connection_error(late, method, url), sent) from late
            if cut_off_note is not None and data is not None and data.started:
                cancelled.add_note(cut_off_note)
                log.warning("%s %s: %s", method, bare_url(url), cut_off_note)
            raise
        except FAILURES as error:
            if data is not None and data.failure is not None:
                raise data.failure from error
            sent = (data is None or data.started) and not isinstance(error, NEVER_SENT)
            raise NoAnswerError(connection_error(error, method, url), sent) from error
        finally:
            deadline.end()
            self._gate.leave()

    async def download(self, url: str, timeout: Timeout, take: Take | None = None) -> Download:
        """Open a file on any public host, without the key, following redirects; the caller closes it.

        Args:
            url: Where it is.
            timeout: Of all of it.
            take: Takes what comes from the moment that it is open, before ``Download.pour`` is called; not
                if this raises, other than by being cancelled.

        Raises:
            DownloadError: Not an ``http(s)`` address of a public host, an error answer, too many redirects,
                or too large.
            APIConnectionError: The host could not be reached.
            APITimeoutError: The same, for lack of time.
            RuntimeError: The client is closed, or was first used in another event loop.

        Cancelling it closes the connection.
        """
        task = self._deadlines.current_task()
        if not self._gate.enter_now():
            try:
                await self._enter("GET", url)
            except NoAnswerError as failure:
                raise failure.error from failure
        limit = self._limits.download_bytes
        deadline = Deadline(self._deadlines, task, timeout, is_sent=True)
        try:
            response = await open_file(self._pool, url, timeout.connect, limit, deadline=deadline, take=take)
            return Download(response, url, limit, deadline, self._gate.leave)
        except BaseException as failed:
            is_late = isinstance(failed, asyncio.CancelledError) and deadline.was_missed()
            deadline.end()
            self._gate.leave()
            if is_late:
                late = TimeoutError(deadline.late)
                raise connection_error(late, "GET", url) from late
            raise
        finally:
            deadline.pause()

    def _outgoing(self, body: Body | bytes) -> Outgoing:
        if isinstance(body, bytes):
            return BytesBody(body)
        return StreamedBody(body, self._sending)

    async def _enter(self, method: str, url: str) -> None:
        if self._gate.enter_now():
            return
        try:
            async with asyncio.timeout(self._longest_wait):
                await self._gate.enter()
        except TimeoutError as error:
            message = (
                f"No connection became free within {self._longest_wait:g} s "
                "(Timeout.pool, Limits.connections)."
            )
            late = errors.APITimeoutError(message, method=method, url=bare_url(url))
            raise NoAnswerError(late, sent=False) from error

    async def _read(self, response: AnyResponse, sent: Outgoing | None) -> bytes:
        """Return the whole body, and let go of the connection."""
        limit = self._limits.answer_bytes
        content = response.content
        try:
            if content.is_eof() and content.total_bytes <= limit:
                return content.read_nowait()  # all of a short answer comes with its headers
            data = bytearray()
            while piece := await next_piece(content):
                data += piece
                if len(data) > limit:
                    message = f"the answer is larger than {limit} bytes (Limits.answer_bytes)"
                    raise aiohttp.ClientPayloadError(message)
            return bytes(data)
        finally:
            if not response.closed:  # at the end of its body it closes itself
                response.release()
            if sent is not None:
                await sent.stop()
