"""Files from any host: opened without the key, through redirects, never from where they must not lead."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final
from urllib.parse import urljoin

import aiohttp
from yarl import URL

from apimart_async import errors
from apimart_async.addresses import bare_url
from apimart_async.transport.headers import Headers
from apimart_async.transport.session.direct import Address, plain_address
from apimart_async.transport.session.failures import connection_error

if TYPE_CHECKING:
    from collections.abc import Callable

    from apimart_async.transport.session.deadlines import Deadline
    from apimart_async.transport.session.pool import AnyResponse, Pool

_HEADERS: Final = Headers(
    {"Accept": "image/*,*/*;q=0.5", "Accept-Encoding": "identity", "User-Agent": "apimart-async"}
)
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_MOST_REDIRECTS: Final = 5
_BAD_FROM: Final = 300


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
        self._url = url
        self._limit = limit
        self._received = 0
        self._deadline = deadline
        self._when_closed = [deadline.end, when_closed]

    async def read(self) -> bytes:
        """Return the next piece as it comes, and nothing at the end.

        Raises:
            DownloadError: More came than the limit.
            APIConnectionError: The connection broke before the end.
            APITimeoutError: Nothing came for ``Timeout.read`` seconds.
        """
        deadline, content = self._deadline, self._response.content
        try:
            # What is there already is taken without looking at the clock.
            piece = b"" if deadline.late else content.read_nowait()
            if not piece and not content.at_eof():
                deadline.resume()
                piece = await content.readany()
        except asyncio.CancelledError:
            if not deadline.was_missed():
                raise
            late = TimeoutError(deadline.late)
            raise connection_error(late, "GET", self._url) from late
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise connection_error(error, "GET", self._url) from error
        finally:
            if not deadline.is_paused:
                deadline.pause()
        self._received += len(piece)
        if self._received > self._limit:
            raise _too_large(self._url, self._limit)
        return piece

    def add_close_callback(self, when_closed: Callable[[], None]) -> None:
        """Call this too when it is closed."""
        self._when_closed.append(when_closed)

    def close(self) -> None:
        """Give the connection back, or close it if there is more to come; a second call does nothing."""
        if not self._response.closed:
            self._response.release()
        for call in self._when_closed:
            call()
        self._when_closed.clear()


async def open_file(pool: Pool, url: str, connect: float, limit: int) -> AnyResponse:
    """Return a good answer whose body is not read yet; the caller closes it.

    Raises:
        DownloadError: Not an ``http(s)`` address of a public host, an error answer, too many redirects, or
            more bytes announced than the limit.
        APIConnectionError: The host could not be reached.
        APITimeoutError: The same, for lack of time.
    """
    for _ in range(_MOST_REDIRECTS + 1):
        target = _checked(pool, url)
        try:
            response = await pool.fetch(target, _HEADERS, connect)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise connection_error(error, "GET", url) from error
        if response.status in _REDIRECTS and "Location" in response.headers:
            response.release()
            url = urljoin(url, response.headers["Location"])
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
