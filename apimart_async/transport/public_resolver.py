"""The look-up of a name that a result is fetched from, which may not lead into a private network."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from aiohttp.abc import AbstractResolver, ResolveResult

from apimart_async.transport.result_hosts import NotPublicError

if TYPE_CHECKING:
    from apimart_async.transport.result_hosts import ResultHosts


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
            OSError: It has none.
        """
        found = await self._resolver.resolve(host, port, family)
        if not self._hosts.allows(host) and not all(self._hosts.may_have(result["host"]) for result in found):
            raise NotPublicError(f"{host} is an address of a private network")
        return found

    async def close(self) -> None:
        """Close the resolver."""
        await self._resolver.close()
