"""The aiohttp sessions behind a client: made when first used, in one event loop, closed once."""

from __future__ import annotations

import socket
from functools import lru_cache
from typing import TYPE_CHECKING, Final, TypedDict
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
from aiohttp.abc import AbstractCookieJar, AbstractResolver, ResolveResult
from yarl import URL

from apimart_async.addresses import is_loopback, is_public, origin

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from apimart_async.config import Settings

_NAMES_KEPT: Final = 300
_HEADERS_KEPT: Final = 8
_ADDRESSES_KEPT: Final = 512


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


class _Plain(TypedDict):
    cookie_jar: AbstractCookieJar
    auto_decompress: bool


def _plain() -> _Plain:
    # Nothing is asked for compressed, and what came so could unpack to any size.
    return {"cookie_jar": aiohttp.DummyCookieJar(), "auto_decompress": False}


class Pool:
    """Open aiohttp sessions as they are needed.

    A file host is chosen by whoever answers, so unless the API itself is on this machine, file hosts on
    private networks are not connected to; that takes a connector with a resolver of its own.

    Args:
        settings: Of the client.
        external: The caller's own session, used as it is and never closed.

    Attributes:
        has_proxies: Whether ``proxy`` has to be asked.
    """

    def __init__(self, settings: Settings, external: aiohttp.ClientSession | None) -> None:
        self._settings = settings
        self._external = external
        scheme, self._authority = urlsplit(settings.base_url)[:2]
        self._scheme = scheme
        self._root = f"{scheme}://{self._authority}/"
        # A task is looked at several times, and an address remembers what aiohttp took it apart to.
        self.address: Callable[[str], URL] = lru_cache(_ADDRESSES_KEPT)(self._address)
        """Return a whole, quoted address without a fragment for aiohttp, which does not look at it again."""
        self._is_local = is_loopback(origin(settings.base_url)[1] or "")
        self._api: aiohttp.ClientSession | None = None
        self._files: aiohttp.ClientSession | None = None
        # Read once: with `trust_env` aiohttp looks these up for every request, at 4 times the cost.
        self._proxies = getproxies() if settings.proxy is None else {}
        self.has_proxies: bool = settings.proxy is not None or bool(self._proxies)
        self._bypassed: dict[str, bool] = {}
        # Held, so that their ids are not used again.
        self._kept: dict[int, Mapping[str, str]] = {}
        self._dressed: dict[tuple[int, int], aiohttp.ClientSession] = {}
        self._is_closed = False

    def _address(self, url: str) -> URL:
        if not url.startswith(self._root):
            return URL(url, encoded=True)
        # Of parts that are known: 2.5 µs instead of 5.4.
        path, _, query = url[len(self._root) - 1 :].partition("?")
        return URL.build(
            scheme=self._scheme, authority=self._authority, path=path, query_string=query, encoded=True
        )

    def keep(self, headers: Mapping[str, str]) -> None:
        """Prepare for requests that have these headers, this very object."""
        if len(self._kept) < _HEADERS_KEPT and self._external is None:
            self._kept[id(headers)] = headers

    def api_with(
        self, headers: Mapping[str, str], further: Mapping[str, str] | None
    ) -> tuple[aiohttp.ClientSession, Mapping[str, str] | None]:
        """Return the session for requests with these headers and further ones, and those it does not have.

        aiohttp takes 1 µs to go over each header of a request, and none over those of a session.

        Raises:
            RuntimeError: As ``api``.
        """
        session = self._dressed.get((id(self._api), id(headers)))
        if session is not None:
            return session, further
        session, unlike = self._dress(self.api(), headers)
        return session, further if unlike is None else {**unlike, **(further or {})}

    def files_with(
        self, headers: Mapping[str, str], proxy: str | None
    ) -> tuple[aiohttp.ClientSession, Mapping[str, str] | None]:
        """Return the session for requests to file hosts, and those of these headers that it does not have.

        Raises:
            RuntimeError: As ``api``.
        """
        return self._dress(self.files(proxy), headers)

    def _dress(
        self, session: aiohttp.ClientSession, headers: Mapping[str, str]
    ) -> tuple[aiohttp.ClientSession, Mapping[str, str] | None]:
        if id(headers) not in self._kept:
            return session, headers
        dressed = self._dressed.get((id(session), id(headers)))
        if dressed is None:
            dressed = self._dressed[id(session), id(headers)] = aiohttp.ClientSession(
                connector=session.connector, connector_owner=False, headers=headers, **_plain()
            )
        return dressed, None

    def api(self) -> aiohttp.ClientSession:
        """Return the session for the API, which has no headers of its own.

        Raises:
            RuntimeError: The client is closed.
        """
        if self._is_closed:
            raise RuntimeError("This client is closed; make a new one.")
        if self._external is not None:
            return self._external
        if self._api is None:
            self._api = self._open(None)
        return self._api

    def files(self, proxy: str | None) -> aiohttp.ClientSession:
        """Return the session for file hosts; through a proxy, it is the proxy that looks names up.

        Raises:
            RuntimeError: As ``api``.
        """
        api = self.api()
        if self._is_local or proxy is not None or self._external is not None:
            return api
        if self._files is None:
            self._files = self._open(PublicResolver())
        return self._files

    def may_reach(self, host: str) -> bool:
        """Tell whether files may be fetched from a host, as far as its name says."""
        return self._is_local or is_public(host)

    def proxy(self, target: URL) -> str | None:
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

    async def close(self) -> None:
        """Close what was opened here; a second call does nothing."""
        self._is_closed = True
        opened = (*self._dressed.values(), self._api, self._files)
        self._api = self._files = None
        self._dressed.clear()
        for session in opened:
            if session is not None:
                await session.close()

    def _open(self, resolver: AbstractResolver | None) -> aiohttp.ClientSession:
        settings = self._settings
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=settings.limits.connections,
                keepalive_timeout=settings.limits.keepalive,
                ttl_dns_cache=_NAMES_KEPT,
                ssl=True if settings.ssl is None else settings.ssl,
                resolver=resolver,
            ),
            **_plain(),
        )
