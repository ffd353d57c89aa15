"""Files from any host: opened without the key, through redirects, never from where they must not lead."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar
from urllib.parse import urljoin

from yarl import URL

from apimart_async import errors
from apimart_async.transport.headers import Headers
from apimart_async.transport.session.direct import Address, plain_address
from apimart_async.transport.session.failures import FAILURES, connection_error
from apimart_async.transport.session.response import Response, pour_out
from apimart_async.urls import bare_url

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from apimart_async.transport.session.deadlines import Deadline
    from apimart_async.transport.session.pool import AnyResponse, Pool
    from apimart_async.transport.session.receiver import Take

_HEADERS: Final = Headers(
    {"Accept": "image/*,*/*;q=0.5", "Accept-Encoding": "identity", "User-Agent": "apimart-async"}
)
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_MOST_REDIRECTS: Final = 5
_BAD_FROM: Final = 300

T = TypeVar("T")


class Download:
    """The body of a file, piece by piece; whoever opened it closes it.

    Attributes:
        length: Bytes announced; ``None`` when the host did not say.
        content_type: MIME type announced.
    """

    def __init__(
        self,
        response: AnyResponse,
        url: str,
        limit: int,
        deadline: Deadline,
        when_closed: Callable[[], None],
    ) -> None:
        self.length: int | None = response.content_length
        self.content_type: str | None = response.headers.get("Content-Type")
        self._response = response
        self._receiver = response.receiver if isinstance(response, Response) else None
        deadline.body = self._receiver or response.content
        self._url = url
        self._limit = limit
        self._deadline = deadline
        self._when_closed = [deadline.end, when_closed]

    async def read(self) -> bytes:
        """Return the next piece as it comes, and nothing at the end.

        Raises:
            APIError: As ``pour``.
        """
        pieces: list[bytes] = []

        def take_one(piece: bytes | memoryview) -> bool:
            pieces.append(bytes(piece))
            return False

        await self.pour(take_one)
        return b"".join(pieces)

    async def pour(self, take: Take) -> bool:
        """Hand over what comes, on the event loop, as long as there is room for it.

        Args:
            take: What takes it; if it was opened with one, with the same.

        Returns:
            Whether that was all. Otherwise ``take`` had no more room, and nothing comes until the next call.

        Raises:
            DownloadError: More came than the limit.
            APIConnectionError: The connection broke before the end.
            APITimeoutError: Nothing came for ``Timeout.read`` seconds.
        """
        receiver, content = self._receiver, self._response.content
        if content.at_eof() if receiver is None else receiver.is_whole:
            return True
        if self.length is None:
            take = self._limited(take)
        pour = partial(pour_out, content) if receiver is None else receiver.pour
        try:
            return await self._waited(partial(pour, take))
        except BaseException:
            self._let_go()  # what still comes is for nobody
            raise

    def _limited(self, take: Take) -> Take:
        def take_within_limit(piece: bytes | memoryview) -> bool:
            if self._response.content.total_bytes > self._limit:
                raise _too_large(self._url, self._limit)
            return take(piece)

        return take_within_limit

    async def _waited(self, call: Callable[[], Awaitable[T]]) -> T:
        """Wait for the host by the deadline, and say in the package's words what goes wrong."""
        deadline = self._deadline
        try:
            deadline.resume()
            return await call()
        except asyncio.CancelledError:
            if not deadline.was_missed():
                raise
            late = TimeoutError(deadline.late)
            raise connection_error(late, "GET", self._url) from late
        except FAILURES as error:
            raise connection_error(error, "GET", self._url) from error
        finally:
            deadline.pause()

    def _let_go(self) -> None:
        if not self._response.closed:
            self._response.release()

    def add_close_callback(self, when_closed: Callable[[], None]) -> None:
        """Call this too when it is closed."""
        self._when_closed.append(when_closed)

    def close(self) -> None:
        """Give the connection back, or close it if there is more to come; a second call does nothing."""
        self._let_go()
        for call in self._when_closed:
            call()
        self._when_closed.clear()


async def open_file(
    pool: Pool, url: str, connect: float, limit: int, *, deadline: Deadline, take: Take | None
) -> AnyResponse:
    """Return a good answer; the caller closes it.

    Args:
        pool: Opens connections.
        url: Where it is.
        connect: Seconds until there is a connection.
        limit: Most bytes it may have.
        deadline: Of the opening; paused when ``take`` begins.
        take: Takes the body of the good answer from the moment that its head has come, if it is said how
            long it is, and the way it comes allows that.

    Raises:
        DownloadError: Not an ``http(s)`` address of a public host, an error answer, too many redirects, or
            more bytes announced than the limit. In this and all other cases ``take`` was not called.
        APIConnectionError: The host could not be reached.
        APITimeoutError: The same, for lack of time.
    """

    def accept(status: int, length: int) -> Take | None:
        if status >= _BAD_FROM or length > limit:
            return None
        deadline.pause()  # it is opened now: an end of its time must not make anybody open it once more
        return take

    for _ in range(_MOST_REDIRECTS + 1):
        target = _checked(pool, url)
        try:
            response = await pool.fetch(target, _HEADERS, connect, None if take is None else accept)
        except FAILURES as error:
            raise connection_error(error, "GET", url) from error
        if response.status in _REDIRECTS and "Location" in response.headers:
            response.release()
            url = _joined(url, response.headers["Location"])
            continue
        if response.status >= _BAD_FROM:
            response.release()
            message = "The file host answered with an error."
            raise errors.DownloadError(message, status=response.status, method="GET", url=bare_url(url))
        if (response.content_length or 0) > limit:
            response.release()
            raise _too_large(url, limit)
        return response
    message = f"The file host redirects more than {_MOST_REDIRECTS} times."
    raise errors.DownloadError(message, method="GET", url=bare_url(url))


def _joined(url: str, location: str) -> str:
    try:
        return urljoin(url, location)
    except ValueError:
        return location  # which is refused


def _checked(pool: Pool, url: str) -> Address | URL:
    target = plain_address(url) or _parsed(url)
    if not target.host:
        raise errors.DownloadError("A file can only be fetched from an http(s) address.", url=bare_url(url))
    if not pool.may_reach(target.host):
        message = f"The file is said to be on {target.host}, which is not a public host; it was not fetched."
        raise errors.DownloadError(message, method="GET", url=bare_url(url))
    return target


def _parsed(url: str) -> URL:
    try:
        target = URL(url)
    except ValueError:
        return URL()
    return target if target.scheme in {"http", "https"} else URL()


def _too_large(url: str, limit: int) -> errors.DownloadError:
    message = f"The file is larger than {limit} bytes (Limits.download_bytes)."
    return errors.DownloadError(message, method="GET", url=bare_url(url))
