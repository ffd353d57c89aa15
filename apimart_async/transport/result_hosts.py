"""Hosts that results are fetched from: answers name them, and may not lead into a private network.

A name is judged before the request, and each of its addresses when the name is looked up.
"""

from __future__ import annotations

import re
import socket
from functools import lru_cache
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from apimart_async.config import RESULT_HOSTS_VARIABLE
from apimart_async.errors import DownloadError
from apimart_async.transport.exchange import OwnError
from apimart_async.urls import bare_url, is_loopback, is_public, matches, origin

if TYPE_CHECKING:
    from collections.abc import Callable

    from apimart_async.config import Settings

_HOSTS_KEPT: Final = 300
_LONGEST_URL: Final = 65_536
_AUTHORITY: Final = re.compile("[^/?]*")
_PRINTABLE: Final = "".join(map(chr, range(ord("!"), ord("~") + 1)))


class NotPublicError(OwnError):
    """A name leads into a private network."""


class ResultHosts:
    """Tell which hosts results may be fetched from.

    Allowed are public hosts, this machine if the API is on it, and ``Limits.result_hosts``. The files of an
    API with TLS need TLS too, except on ``Limits.result_hosts``. Each of several addresses of the API counts.

    Args:
        settings: Settings of the client.
    """

    def __init__(self, settings: Settings) -> None:
        origins = [origin(base_url) for base_url in settings.base_urls]
        self._is_local = all(is_loopback(host or "") for _, host, _ in origins)
        self._needs_tls = any(scheme == "https" for scheme, _, _ in origins)
        self._patterns = settings.limits.result_hosts
        self.allows: Callable[[str], bool] = lru_cache(_HOSTS_KEPT)(self._allows)
        self.may_have: Callable[[str], bool] = lru_cache(_HOSTS_KEPT)(self._may_have)

    def check(self, url: str) -> URL:
        """Return the URL of a result, parsed.

        Raises:
            DownloadError: The URL may not be fetched.
        """
        if len(url) > _LONGEST_URL:
            message = (
                f"The address of the file has {len(url):,} characters; at most {_LONGEST_URL:,} are fetched."
            )
            raise DownloadError(message, url=bare_url(url))
        try:
            target = _as_written(url)
            raw_host, host = target.raw_host, target.host
        except ValueError:
            target, raw_host, host = URL(), None, None
        if target.scheme not in {"http", "https"} or not raw_host or not host:
            message = "A file can only be fetched from an http(s) address."
            raise DownloadError(message, url=bare_url(url))
        if not (self.may_have(raw_host) and self.may_have(host)):
            raise _refused(url, host)
        if self._needs_tls and target.scheme == "http" and not self.allows(raw_host):
            raise _refused(url, host, "may not be fetched without TLS")
        return target

    async def look_up(self, url: URL) -> None:
        """Judge a name that the caller's session will look up again.

        Raises:
            DownloadError: The name leads into a private network.
        """
        resolver = PublicResolver(aiohttp.DefaultResolver(), self)
        try:
            await resolver.resolve(str(url.raw_host), url.port or 0, socket.AF_UNSPEC)
        except OSError as error:
            refusal = self.refusal(error, str(url))
            if refusal is not None:
                raise refusal from None
            # The caller's session may know the name.
        finally:
            await resolver.close()

    def refusal(self, error: Exception, url: str) -> DownloadError | None:
        """Return the error to raise if a connection failed as a name leads into a private network."""
        reason = getattr(error, "os_error", error)
        return _refused(url, str(URL(url).host)) if isinstance(reason, NotPublicError) else None

    def _allows(self, host: str) -> bool:
        return any(matches(pattern, host) for pattern in self._patterns)

    def _may_have(self, host: str) -> bool:
        return is_public(host) or (self._is_local and is_loopback(host)) or self._allows(host)


class PublicResolver(AbstractResolver):
    """Refuses names that lead into a private network.

    Args:
        resolver: Looks names up.
        hosts: Hosts that are allowed.
    """

    def __init__(self, resolver: AbstractResolver, hosts: ResultHosts) -> None:
        self._resolver = resolver
        self._hosts = hosts

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Return the addresses of a name.

        Raises:
            NotPublicError: One of its addresses is not public.
            OSError: The name has no address.
        """
        found = await self._resolver.resolve(host, port, family)
        if not self._hosts.allows(host) and not all(self._hosts.may_have(result["host"]) for result in found):
            raise NotPublicError(f"{host} is an address of a private network")
        return found

    async def close(self) -> None:
        """Close the resolver."""
        await self._resolver.close()


def _refused(url: str, host: str, reason: str = "is not a public host") -> DownloadError:
    message = (
        f"The file is said to be on {host}, which {reason}; it was not fetched. If you trust the host, name "
        f"it in Limits(result_hosts=…) or {RESULT_HOSTS_VARIABLE} and fetch the file again."
    )
    return DownloadError(message, method="GET", url=bare_url(url))


def _as_written(url: str) -> URL:
    """Read a URL and keep path and query as they are, since a signature may cover them.

    Only blanks, control characters and characters beyond ASCII are quoted, which HTTP cannot carry. A path
    with dot segments is resolved.

    Raises:
        ValueError: It is not a URL, or holds half a surrogate pair.
    """
    read = URL(url)
    if not read.host:
        return read
    rest = url.partition("://")[2].partition("#")[0]
    target = quote(_AUTHORITY.sub("", rest, count=1), safe=_PRINTABLE)
    if "/." in target.partition("?")[0]:
        return read
    return URL(f"{read.scheme}://{read.raw_authority}/{target.removeprefix('/')}", encoded=True)
