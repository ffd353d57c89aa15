"""Names of this machine: a name server may lead those below ``localhost`` to another one."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Self

from aiohttp.abc import AbstractResolver, ResolveResult

from apimart_async.transport.exchange import OwnError
from apimart_async.urls import is_loopback, origin

if TYPE_CHECKING:
    from apimart_async.config import Settings


class LocalResolver(AbstractResolver):
    """Refuses names of this machine that lead to another one, to which the key would be sent unencrypted.

    Args:
        resolver: Looks names up.
        names: Names of this machine.
    """

    def __init__(self, resolver: AbstractResolver, names: frozenset[str]) -> None:
        self._resolver = resolver
        self._names = names

    @classmethod
    def of(cls, settings: Settings, resolver: AbstractResolver) -> Self | None:
        """Return a resolver for the API; ``None`` if no name in its base URLs has to be judged."""
        hosts = [host for scheme, host, _ in map(origin, settings.base_urls) if scheme == "http"]
        names = frozenset(host for host in hosts if host and is_loopback(host))
        return None if settings.allow_http or not names else cls(resolver, names)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Return the addresses of a name.

        Raises:
            OwnError: One of its addresses is not on this machine.
            OSError: The name has no address.
        """
        found = await self._resolver.resolve(host, port, family)
        if host in self._names and not all(is_loopback(result["host"]) for result in found):
            raise OwnError(f"{host} leads to another machine, to which the API key is not sent unencrypted")
        return found

    async def close(self) -> None:
        """Close the resolver."""
        await self._resolver.close()
