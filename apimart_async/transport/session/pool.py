"""The connections behind a client: opened when first used, in one event loop, closed once.

Most requests go straight onto them (``direct.py``). Through a session of aiohttp goes what needs one: every
request of a client that was given the caller's own session, what takes a proxy, addresses that are not plain.
"""

from __future__ import annotations

import socket
from functools import lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias
from urllib.request import getproxies, proxy_bypass

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from apimart_async.transport.session.direct import IS_KNOWN, Address, Direct, plain_address
from apimart_async.urls import is_loopback, is_public, origin

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from apimart_async.config import Settings
    from apimart_async.transport.headers import Headers
    from apimart_async.transport.session.payloads import Outgoing
    from apimart_async.transport.session.receiver import Accept
    from apimart_async.transport.session.response import Response

_NAMES_KEPT: Final = 300


@lru_cache(maxsize=16)
def connect_timeout(seconds: float) -> aiohttp.ClientTimeout:
    """Make the timeout of a request: aiohttp minds the connecting, ``deadlines.py`` the rest."""
    return aiohttp.ClientTimeout(total=None, connect=seconds, sock_connect=seconds)


class PublicResolver(AbstractResolver):
    """Looks names up, and knows none that lead into a private network."""

    def __init__(self) -> None:
        self._resolver = aiohttp.DefaultResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Return the addresses of a name.

        Raises:
            OSError: It has none, or one of them is not public.
        """
        found = await self._resolver.resolve(host, port, family)
        if not all(is_public(result["host"]) for result in found):
            raise OSError(None, f"{host} is an address of a private network")
        return found

    async def close(self) -> None:
        """Close the resolver."""
        await self._resolver.close()


AnyResponse: TypeAlias = "Response | aiohttp.ClientResponse"
"""An answer whose body is not read yet; whoever asked releases it."""


class _Way(NamedTuple):
    """How requests go out.

    Attributes:
        session: aiohttp's, which takes every request.
        direct: Takes those that need no more than its connections; ``None`` with a session of the caller's.
    """

    session: aiohttp.ClientSession
    direct: Direct | None


class Pool:
    """Open connections as they are needed.

    A file host is chosen by whoever answers, so unless the API itself is on this machine, file hosts on
    private networks are not connected to; that takes a connector with a resolver of its own.

    Args:
        settings: Of the client.
        external: The caller's own session, used as it is and never closed.
    """

    def __init__(self, settings: Settings, external: aiohttp.ClientSession | None) -> None:
        self._settings = settings
        self._external = external
        self._is_local = is_loopback(origin(settings.base_url)[1] or "")
        self._api: _Way | None = None
        self._files: _Way | None = None
        # Read once: with `trust_env` aiohttp looks these up for every request, at 4 times the cost.
        self._proxies = getproxies() if settings.proxy is None else {}
        self._has_proxies = settings.proxy is not None or bool(self._proxies)
        self._bypassed: dict[str, bool] = {}
        self._is_public: Callable[[str], bool] = lru_cache(_NAMES_KEPT)(is_public)
        self._is_closed = False

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Headers,
        further: Mapping[str, str] | None,
        body: Outgoing | None,
        connect: float,
    ) -> AnyResponse:
        """Send a request to the API.

        Args:
            method: HTTP method.
            url: Whole address, quoted, without a fragment.
            headers: Those of every request.
            further: Those of this one, instead of the former where both name one.
            body: What is sent.
            connect: Seconds until there is a connection.

        Raises:
            aiohttp.ClientError: No answer came.
            TimeoutError: No connection was made in time.
            RuntimeError: The client is closed.

        Cancelling it closes the connection.
        """
        way = self._api or self._open_api()
        timeout = connect_timeout(connect)
        address = None if way.direct is None or self._has_proxies else plain_address(url)
        if way.direct is not None and address is not None:
            return await way.direct.request(
                method, address, headers=headers, further=further, body=body, timeout=timeout
            )
        target = URL(url, encoded=True)
        return await way.session.request(
            method,
            target,
            headers=headers.joined(further),
            data=body,
            timeout=timeout,
            allow_redirects=False,
            proxy=self._proxy(target),
        )

    async def fetch(
        self, target: Address | URL, headers: Headers, connect: float, accept: Accept | None
    ) -> AnyResponse:
        """Ask any host for a file.

        Args:
            target: Where it is.
            headers: What is sent.
            connect: Seconds until there is a connection.
            accept: Names who takes the body from the moment that the head has come, where that is possible.

        Raises:
            aiohttp.ClientError: No answer came.
            TimeoutError: No connection was made in time.
            RuntimeError: The client is closed.

        Cancelling it closes the connection.
        """
        timeout = connect_timeout(connect)
        if isinstance(target, Address):
            if not self._has_proxies and (direct := self._way_to_files(None).direct) is not None:
                return await direct.request(
                    "GET",
                    target,
                    headers=headers,
                    further=None,
                    body=None,
                    timeout=timeout,
                    accept=accept,
                )
            target = URL(target.origin + target.target, encoded=True)
        proxy = self._proxy(target)
        return await self._way_to_files(proxy).session.request(
            "GET", target, headers=headers.fields, timeout=timeout, allow_redirects=False, proxy=proxy
        )

    def may_reach(self, host: str) -> bool:
        """Tell whether files may be fetched from a host, as far as its name says."""
        return self._is_local or self._is_public(host)

    async def close(self) -> None:
        """Close what was opened here; a second call does nothing."""
        self._is_closed = True
        opened = [way for way in (self._api, self._files) if way is not None]
        self._api = self._files = None
        if self._external is None:
            for way in opened:
                if way.direct is not None:
                    way.direct.abort()  # a body that nobody takes would be waited for
                await way.session.close()

    def _open_api(self) -> _Way:
        if self._is_closed:
            raise RuntimeError("This client is closed; make a new one.")
        self._api = self._open(None) if self._external is None else _Way(self._external, None)
        return self._api

    def _way_to_files(self, proxy: str | None) -> _Way:
        """Return the way to file hosts; through a proxy, it is the proxy that looks names up."""
        api = self._api or self._open_api()
        if self._is_local or proxy is not None or self._external is not None:
            return api
        if self._files is None:
            self._files = self._open(PublicResolver())
        return self._files

    def _open(self, resolver: AbstractResolver | None) -> _Way:
        settings = self._settings
        connector = aiohttp.TCPConnector(
            limit=settings.limits.connections,
            keepalive_timeout=settings.limits.keepalive,
            ttl_dns_cache=_NAMES_KEPT,
            ssl=True if settings.ssl is None else settings.ssl,
            resolver=resolver,
        )
        session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            # Nothing is asked for compressed, and what came so could unpack to any size.
            auto_decompress=False,
        )
        return _Way(session, Direct(connector) if IS_KNOWN else None)

    def _proxy(self, target: URL) -> str | None:
        """Return the proxy for an address, the caller's or the environment's."""
        if self._settings.proxy is not None:
            return self._settings.proxy
        host = target.host
        if not self._proxies or host is None:
            return None
        bypassed = self._bypassed.get(host)
        if bypassed is None:
            bypassed = self._bypassed[host] = bool(proxy_bypass(host))
        return None if bypassed else self._proxies.get(target.scheme, self._proxies.get("all"))
