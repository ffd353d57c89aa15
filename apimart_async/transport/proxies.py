"""The proxy for a URL: the caller's, or the one in the environment."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Final
from urllib.request import getproxies, proxy_bypass

from apimart_async.credentials import Proxy, Secret
from apimart_async.urls import is_loopback, matches

if TYPE_CHECKING:
    from collections.abc import Callable

    from yarl import URL

_HOSTS_KEPT: Final = 300


class Proxies:
    """Choose the proxy for each URL. The environment is read once: aiohttp reads it for every request.

    Args:
        given: The caller's proxy, used for every URL; ``None`` for the proxies in the environment, which are
            never used for this machine.

    Attributes:
        are_none: Whether no URL has a proxy.
    """

    def __init__(self, given: Proxy | None) -> None:
        self._given = given
        environment = getproxies() if given is None else {}
        self._exempt = [entry for entry in re.split(r"[\s,]+", environment.pop("no", "").lower()) if entry]
        self._addresses = {scheme: Secret(address) for scheme, address in environment.items()}
        self.are_none: bool = given is None and not self._addresses
        self._find: Callable[[str, str, int | None], Proxy | None]
        self._find = lru_cache(_HOSTS_KEPT)(self._in_environment)

    def find(self, url: URL) -> Proxy | None:
        """Return the proxy for a URL, or ``None``.

        Raises:
            InvalidArgumentError: The environment names a proxy that is not supported.
        """
        if not self._addresses or url.host is None:
            return self._given
        return self._find(url.scheme, url.host, url.port)

    def _in_environment(self, scheme: str, host: str, port: int | None) -> Proxy | None:
        address = self._addresses.get(scheme) or self._addresses.get("all")
        if address is None or is_loopback(host) or self._is_exempt(host, port) or proxy_bypass(host):
            return None
        return Proxy.parse(address)

    def _is_exempt(self, host: str, port: int | None) -> bool:
        return any(_covers(entry, host, port) for entry in self._exempt)


def _covers(entry: str, host: str, port: int | None) -> bool:
    """Tell whether an entry of NO_PROXY is a name, a domain, an address or a network that has the host."""
    if matches(entry, host):
        return True
    name, _, number = entry.rpartition(":")
    if name and number.isdecimal():
        if number != str(port):
            return False
        entry = name
    domain = entry.removeprefix("*").strip(".")
    return (
        entry == "*"
        or matches(entry, host)
        or (bool(domain) and (matches(domain, host) or matches(f"*.{domain}", host)))
    )
