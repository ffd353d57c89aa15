"""HTTP through aiohttp's documented client: one request and its whole answer, or one download, at a time.

Nothing here decides whether to send a request again; ``api.py`` does, with ``retry.py``.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, TypeVar, cast

import aiohttp
import attrs
from aiohttp.abc import AbstractResolver
from anyio import CancelScope
from multidict import CIMultiDict
from yarl import URL

from apimart_async import errors
from apimart_async.arguments import wrong_type
from apimart_async.config import Timeout
from apimart_async.transport.caller_session import check_session, sends_secrets
from apimart_async.transport.concurrency import Semaphore
from apimart_async.transport.exchange import (
    FAILURES,
    NEVER_SENT,
    Deadline,
    Download,
    NoAnswerError,
    OwnError,
    connection_error,
    next_chunk,
    read_answer,
    too_large,
)
from apimart_async.transport.local_names import LocalResolver
from apimart_async.transport.origins import Origins
from apimart_async.transport.proxies import Proxies
from apimart_async.transport.responses import FAREWELL, Reply, is_events, redirected, reply_id
from apimart_async.transport.result_hosts import PublicResolver, ResultHosts
from apimart_async.transport.retry import Effect
from apimart_async.urls import bare_url

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from apimart_async.config import Settings
    from apimart_async.credentials import Proxy, Secret
    from apimart_async.hooks import EventHooks
    from apimart_async.transport.exchange import RequestBody

Purpose: TypeAlias = Literal["api", "paid", "files", "proxied files"]
_Limits: TypeAlias = "tuple[Deadline, int, str]"
_T = TypeVar("_T")

PAID_KEEPALIVE: Final = 1.0
"""Seconds an idle connection is kept for the next paid request.

A server closes idle connections too. A paid request sent at that moment may have been executed, so such
connections are given up long before any server does.
"""

_READ_BUFFER_BYTES: Final = 256 * 1024
# aiohttp hands an answer out when it has parsed all that came, or when this buffer is full. Bytes of a broken
# server behind an answer are an error, and a paid answer would be lost with them.
_PAID_BUFFER_BYTES: Final = 1
_NAMES_KEPT: Final = 300
_DNS_SECONDS: Final = 300
_MAX_REDIRECTS: Final = 5
# aiohttp cannot round an infinite time.
_LONGEST_TIMER: Final = 1e9
_NO_LIMIT: Final = Timeout(total=_LONGEST_TIMER)
# Proxies and storage services send more than the 8,190 bytes and 128 headers that aiohttp reads by default.
# An answer to a paid request would be lost with them.
_HEADER_BYTES: Final = 128 * 1024
_MAX_HEADERS: Final = 1024
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_BAD_FROM: Final = 300
_HEADERS: Final = {
    "Accept": "application/json",
    # A compressed answer could unpack to any size.
    "Accept-Encoding": "identity",
    "User-Agent": "apimart-async",
}
_CLOSED: Final = "the client was closed"
_IS_CLOSED: Final = "This client is closed; make a new one."
_FILE_HEADERS: Final = {"Accept": "image/*,*/*;q=0.5"}


@attrs.define(eq=False)
class _Pool:
    """Connections for one purpose, and the number of their users, after whom they can be closed."""

    purpose: Purpose
    session: aiohttp.ClientSession
    loop: asyncio.AbstractEventLoop
    resolver: AbstractResolver | None = None
    is_external: bool = False
    users: int = 0

    async def close(self) -> None:
        if not self.is_external:
            await self.session.close()
        if self.resolver is not None:
            await self.resolver.close()


class Session:
    """The connections that a client and its copies share: opened at the first request, closed once.

    aiohttp keeps a connection on which bytes arrived while it was idle, and takes them for the answer to the
    next request. But an answer cannot arrive in the same round of the event loop in which its request is
    written. One that seems to is not read, its pool is replaced, and the request is sent on a new connection.

    Args:
        settings: Settings of the client that opens it.
        external: The caller's own aiohttp session, used as it is and never closed.
        hooks: Event hooks of the client.

    Attributes:
        hooks: Event hooks of the client.
        origins: Addresses of the API, and which of them work.
        upload_names: Names of files that were uploaded lately.
    """

    def __init__(
        self,
        settings: Settings,
        external: aiohttp.ClientSession | None = None,
        hooks: Sequence[EventHooks] = (),
    ) -> None:
        if not (external is None or isinstance(cast("object", external), aiohttp.ClientSession)):
            raise wrong_type("session", "an aiohttp.ClientSession", external)
        if external is not None:
            check_session(external, settings.base_urls)
        self.hooks: Sequence[EventHooks] = hooks
        self._settings = settings
        self._external = external
        self._result_hosts = ResultHosts(settings)
        self._proxies = Proxies(settings.proxy)
        for base_url in settings.base_urls:
            self._proxies.find(URL(base_url))  # raises, before anything is sent
        self.origins: Origins = Origins(settings.base_urls)
        # Waiting for a connection inside aiohttp counts against its timeouts; waiting here does not.
        self._connections = Semaphore(settings.limits.connections)
        self._pools: dict[Purpose, _Pool] = {}
        self._retired: list[_Pool] = []
        self._deadlines: set[Deadline] = set()
        self._waits: set[Deadline] = set()
        self._all_ended: asyncio.Event | None = None
        self._rounds = 0
        self._is_counting = False
        self.upload_names: deque[str] = deque(maxlen=_NAMES_KEPT)

    async def request(
        self,
        purpose: Purpose,
        method: str,
        url: str,
        *,
        authorization: Secret,
        headers: Mapping[str, str],
        body: RequestBody | None,
        timeout: Timeout,
        has_images: bool = False,
        accepts_events: bool = False,
    ) -> Reply:
        """Send one request to the API and read its whole answer, or open one that is a series of events.

        Args:
            purpose: Connections to use.
            method: HTTP method.
            url: Whole URL, quoted.
            authorization: Value of the header of this name.
            headers: Headers besides those that the client and HTTP need.
            body: Content.
            timeout: Times of this attempt.
            has_images: Whether the answer may hold images, and so be far larger than others.
            accepts_events: Whether a good answer of events is returned unread; the caller closes it.

        Raises:
            NoAnswerError: No answer came, or not whole.
            ImageError: The body could not be read to its end.
            RuntimeError: The client is closed, or was first used in another event loop.

        Cancellation closes the connection.
        """
        if not self._connections.acquire_nowait():
            try:
                await self._wait_for_connection(method, url, timeout.pool)
            except errors.APIConnectionError as error:
                raise NoAnswerError(error, Effect.NEVER_SENT) from error
        deadline = Deadline(timeout, is_sent=body is None)
        if body is not None:
            body.on_sent = deadline.extend
        pool: _Pool | None = None
        response: aiohttp.ClientResponse | None = None
        events: Download | None = None
        limits = self._settings.limits
        limit, limit_name = limits.answer_bytes, "Limits.answer_bytes"
        if has_images:
            limit, limit_name = limits.image_answer_bytes, "Limits.image_answer_bytes"
        try:
            with deadline:
                self._deadlines.add(deadline)
                target = URL(url, encoded=True)
                pool, response = await self._open(
                    purpose, method, target, headers, connect=timeout.connect, body=body, secret=authorization
                )
                if accepts_events and response.status < _BAD_FROM and is_events(response.headers):
                    events = self._body(pool, response, (method, url), deadline, limit, limit_name)
                    return Reply(response.status, response.headers, b"", pool, events)
                data = await read_answer(response, body, limit, deadline.extend, limit_name=limit_name)
                return Reply(response.status, response.headers, data, pool)
        except FAILURES as error:
            if body is not None and body.failure is not None:
                failure: Exception = body.failure
            else:
                sent = body.started if body is not None else not isinstance(error, NEVER_SENT)
                effect = Effect.UNKNOWN if sent else Effect.NEVER_SENT
                if self._all_ended is not None:
                    # The client is closed: no attempt may follow, whether this one was executed or not.
                    effect = Effect.UNKNOWABLE if sent else Effect.REJECTED
                unanswered = connection_error(error, method, url)
                # The head of an answer that broke off names the request for the support of the service.
                unanswered.request_id = None if response is None else reply_id(response.headers)
                failure = NoAnswerError(unanswered, effect)
        finally:
            self._end(deadline)
            if events is None:
                self._release(pool)
        # Not from aiohttp's error: its text and frames hold the key, passwords and signed URLs.
        raise failure.with_traceback(None)

    async def download(self, url: str, timeout: Timeout) -> Download:
        """Open a file on any public host, without the key, following redirects; the caller closes it.

        Args:
            url: URL of the file.
            timeout: Times of the download, until its end.

        Raises:
            DownloadError: Not an ``http(s)`` URL of a public host, an error answer, too many redirects, or
                too large.
            APIConnectionError: The host could not be reached.
            APITimeoutError: The connection or the answer timed out.
            RuntimeError: The client is closed, or was first used in another event loop.

        Cancellation closes the connection.
        """
        limit = self._settings.limits.download_bytes
        deadline: Deadline | None = None
        for _ in range(_MAX_REDIRECTS + 1):
            target = self._result_hosts.check(url)
            # The caller's session looks the name up again; a proxy may look up another address.
            if self._external is not None and self._proxies.find(target) is None:
                await self._result_hosts.look_up(target)
            if not self._connections.acquire_nowait():
                await self._wait_for_connection("GET", url, timeout.pool)
            deadline = deadline or Deadline(timeout, is_sent=True)
            try:
                with deadline:
                    self._deadlines.add(deadline)
                    pool, response = await self._open(
                        "files", "GET", target, _FILE_HEADERS, connect=timeout.connect
                    )
            except FAILURES as error:
                self._connections.release()
                raise self._result_hosts.refusal(error, url) or connection_error(error, "GET", url) from None
            except BaseException:
                self._connections.release()
                raise
            finally:
                self._end(deadline)
            download = self._body(pool, response, ("GET", url), deadline, limit, "Limits.download_bytes")
            if response.status < _BAD_FROM and (download.length or 0) <= limit:
                return download
            if response.status == FAREWELL:
                download.discard()
            download.close()
            if response.status in _REDIRECTS and "Location" in response.headers:
                url = redirected(url, response.headers["Location"])
                continue
            if response.status < _BAD_FROM:
                raise too_large(url, limit)
            message = "The file host answered with an error."
            raise errors.DownloadError(message, status=response.status, method="GET", url=bare_url(url))
        message = f"The file host redirects more than {_MAX_REDIRECTS} times."
        raise errors.DownloadError(message, method="GET", url=bare_url(url))

    async def until_closed(self, wait: Callable[[], Awaitable[_T]]) -> _T:
        """Wait before a request, for its turn or for the delay after a failure.

        Raises:
            RuntimeError: The client is closed, before or meanwhile.
        """
        if self._all_ended is not None:
            raise RuntimeError(_IS_CLOSED)
        deadline = Deadline(_NO_LIMIT, is_sent=False)
        try:
            with deadline:
                self._waits.add(deadline)
                return await wait()
        finally:
            self._waits.discard(deadline)

    def retire(self, pool: object) -> None:
        """Give up the connections that another request's answer came through; those in use are closed later.

        Args:
            pool: ``Reply.pool`` of the answer.
        """
        if isinstance(pool, _Pool) and not pool.is_external and self._pools.get(pool.purpose) is pool:
            del self._pools[pool.purpose]
            self._retired.append(pool)

    async def close(self) -> None:
        """End the requests under way and close the connections opened here; a second call does nothing.

        Cancellation waits until they are closed.
        """
        if self._all_ended is None:
            self._all_ended = asyncio.Event()
            for wait in self._waits:
                wait.end(RuntimeError(_IS_CLOSED))
            self._connections.limit = math.inf  # a request that waits for a connection learns of the end
            self._connections.wake()
            for deadline in self._deadlines:
                deadline.end(OwnError(_CLOSED))
        # A client is often closed by the cancellation that ends its block, which must not leave sockets open.
        with CancelScope(shield=True):
            try:
                if self._deadlines:
                    await self._all_ended.wait()
            finally:
                pools = [*self._pools.values(), *self._retired]
                self._pools.clear()
                self._retired.clear()
                for pool in pools:
                    await pool.close()

    # --- one request --------------------------------------------------------------------------------------

    async def _open(
        self,
        purpose: Purpose,
        method: str,
        url: URL,
        headers: Mapping[str, str],
        *,
        connect: float,
        body: RequestBody | None = None,
        secret: Secret | None = None,
    ) -> tuple[_Pool, aiohttp.ClientResponse]:
        """Send a request; return the pool, which has one user more, and the answer, its body not read yet.

        Raises:
            aiohttp.ClientError: No answer came.
            RuntimeError: The client is closed, or was first used in another event loop.
        """
        proxy = None if self._proxies.are_none else self._proxies.find(url)
        is_first = True
        while True:
            if self._retired:
                await self._close_retired()
            pool = self._pool(purpose, proxy)
            # A number that changes with the next round of the event loop.
            round_sent = self._rounds
            if not self._is_counting:
                self._is_counting = True
                pool.loop.call_soon(self._count_round)
            pool.users += 1
            try:
                response = await pool.session.request(
                    method,
                    url,
                    headers=_open_headers(pool, url, headers, secret, proxy),
                    data=body,
                    timeout=_connect_timeout(connect),
                    proxy=None if proxy is None else proxy.url,
                    proxy_headers=None if proxy is None else _proxy_headers(url, proxy),
                    ssl=True if self._settings.ssl is None else self._settings.ssl,
                    allow_redirects=False,
                    raise_for_status=False,
                    auto_decompress=False,
                    read_bufsize=_PAID_BUFFER_BYTES if purpose == "paid" else _READ_BUFFER_BYTES,
                    max_line_size=_HEADER_BYTES,
                    max_field_size=_HEADER_BYTES,
                    max_headers=_MAX_HEADERS,
                )
            except BaseException as error:
                pool.users -= 1
                if not pool.is_external:
                    error.__traceback__ = None  # local variables of aiohttp hold the key
                raise
            # An answer in the round of its request came before the request; see the class. A second such
            # answer is believed: a session of the caller's may answer without a connection.
            if self._rounds != round_sent or not is_first:
                return pool, response
            is_first = False
            response.close()
            pool.users -= 1
            self.retire(pool)

    async def _close_retired(self) -> None:
        unused = [pool for pool in self._retired if not pool.users]
        self._retired = [pool for pool in self._retired if pool.users]
        for pool in unused:
            await pool.close()

    def _count_round(self) -> None:
        self._rounds += 1
        self._is_counting = False

    def _body(
        self, pool: _Pool, response: aiohttp.ClientResponse, request: tuple[str, str], *limits: *_Limits
    ) -> Download:
        read = partial(self._read_chunk, response, *request, limits[0])
        close, discard = partial(self._release, pool), partial(self.retire, pool)
        return Download(response, request[1], *limits[1:], read=read, on_close=close, on_discard=discard)

    async def _read_chunk(
        self, response: aiohttp.ClientResponse, method: str, url: str, deadline: Deadline
    ) -> bytes:
        if self._all_ended is not None:
            raise connection_error(OwnError(_CLOSED), method, url)
        try:
            with deadline:
                self._deadlines.add(deadline)
                return await next_chunk(response.content)
        except FAILURES as error:
            raise connection_error(error, method, url) from None
        finally:
            self._end(deadline)

    def _end(self, deadline: Deadline) -> None:
        self._deadlines.discard(deadline)
        if self._all_ended is not None and not self._deadlines:
            self._all_ended.set()

    def _release(self, pool: _Pool | None) -> None:
        if pool is not None:
            pool.users -= 1
        self._connections.release()

    async def _wait_for_connection(self, method: str, url: str, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._connections.acquire()
        except TimeoutError as error:
            message = f"No connection became free within {seconds:g} s (Timeout.pool, Limits.connections)."
            raise errors.APITimeoutError(message, method=method, url=bare_url(url)) from error

    def _pool(self, purpose: Purpose, proxy: Proxy | None) -> _Pool:
        # File hosts must not see what a session sends with every request.
        if self._external is not None and (purpose != "files" or not sends_secrets(self._external)):
            purpose = "api"
        elif purpose == "files" and proxy is not None:
            purpose = "proxied files"
        # The pools exist until all requests have ended; a new one would keep `close` from returning.
        if self._all_ended is not None:
            raise RuntimeError(_IS_CLOSED)
        pool = self._pools.get(purpose)
        if pool is None:
            pool = self._pools[purpose] = self._make_pool(purpose)
        if pool.loop is not asyncio.get_running_loop():
            raise RuntimeError("This client was first used in another event loop; make one client per loop.")
        return pool

    def _make_pool(self, purpose: Purpose) -> _Pool:
        loop = asyncio.get_running_loop()
        if self._external is not None and purpose == "api":
            return _Pool(purpose, self._external, loop, is_external=True)
        settings = self._settings
        keepalive = min(settings.limits.keepalive, _LONGEST_TIMER)
        # A proxy looks names up by itself.
        resolver: AbstractResolver | None = None
        if purpose == "files":
            resolver = PublicResolver(aiohttp.DefaultResolver(), self._result_hosts)
        elif purpose != "proxied files":
            resolver = LocalResolver.of(settings, aiohttp.DefaultResolver())
        connector = aiohttp.TCPConnector(
            limit=0,
            keepalive_timeout=min(keepalive, PAID_KEEPALIVE) if purpose == "paid" else keepalive,
            ttl_dns_cache=_DNS_SECONDS,
            resolver=resolver,
        )
        session = aiohttp.ClientSession(
            connector=connector, headers=_HEADERS, cookie_jar=aiohttp.DummyCookieJar()
        )
        return _Pool(purpose, session, loop, resolver)


class _Hidden(str):
    """A header for aiohttp, which keeps it in local variables."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'***'"


def _open_headers(
    pool: _Pool, url: URL, headers: Mapping[str, str], secret: Secret | None, proxy: Proxy | None
) -> CIMultiDict[str]:
    """Return headers with the secrets opened. Only aiohttp may hold them in a local variable."""
    opened = CIMultiDict(headers)
    if pool.is_external:
        for name, value in _HEADERS.items():
            opened.setdefault(name, value)
    if secret is not None:
        opened["Authorization"] = _Hidden(secret.open())
    if proxy is not None and proxy.authorization is not None and url.scheme == "http":
        opened["Proxy-Authorization"] = _Hidden(proxy.authorization.open())
    return opened


def _proxy_headers(url: URL, proxy: Proxy) -> dict[str, str] | None:
    """Return the headers of a request for a tunnel."""
    if proxy.authorization is None or url.scheme != "https":
        return None
    return {"Proxy-Authorization": _Hidden(proxy.authorization.open())}


@lru_cache(maxsize=64)
def _connect_timeout(connect: float) -> aiohttp.ClientTimeout:
    connect = min(connect, _LONGEST_TIMER)
    return aiohttp.ClientTimeout(total=None, connect=connect, sock_connect=connect)
