"""The service of a command: a real one, another with the same API, or an emulator in this process."""

from __future__ import annotations

import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import attrs

from apimart_async import config
from apimart_async.cli.options import UsageError
from apimart_async.urls import is_loopback

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from apimart_async.applerouter import AsyncAppleRouter
    from apimart_async.client import AsyncApimart
    from apimart_async.emulator import Emulator

_ADD_LOCAL: Final = "add --local to try it with an emulator on this machine"
_RUN_EMULATOR: Final = "run `apimart emulator` and set the two variables that it prints"

_LOCAL_TASK_SECONDS: Final = 1.5
# A task whose id is an argument has often ended already.
_OLD_TASK_POLL: Final = config.Poll(first=0.2, shortest=0.2)
_LOCAL_POLL: Final = config.Poll(first=0.3, shortest=0.2, longest=1.0)


@attrs.frozen
class Provider:
    """One of the two services.

    Attributes:
        key: Name of the variable with its key.
        base_url: Name of the variable with its address.
        default_url: Its address without that variable.
    """

    key: str
    base_url: str
    default_url: str


APIMART: Final = Provider("APIMART_API_KEY", "APIMART_BASE_URL", config.APIMART_BASE_URL)
APPLEROUTER: Final = Provider("APPLEROUTER_API_KEY", "APPLEROUTER_BASE_URL", config.APPLEROUTER_BASE_URL)


@attrs.frozen
class Connection:
    """The address of the service, and how its tasks are polled.

    Attributes:
        base_url: The option; ``None`` for the address from the environment or of the service.
        poll: Pace of polling.
        local: Whether to start an emulator and connect to it.
    """

    base_url: str | None = None
    poll: config.Poll = attrs.field(factory=config.Poll)
    local: bool = False


def checked(
    base_url: str | None,
    *,
    provider: Provider = APIMART,
    local: bool | None = None,
    task_is_old: bool = False,
) -> Connection:
    """Return the connection after checking the key, the options and the packages it needs.

    Args:
        base_url: The option.
        provider: The service.
        local: The option; ``None`` when the command has none.
        task_is_old: Whether the tasks may have ended long ago.

    Raises:
        UsageError: There is no key, Pillow is missing for the emulator, or the options exclude each other.
        InvalidArgumentError: The key or the base URL is malformed.
    """
    if local:
        if base_url is not None:
            raise UsageError("--local starts a service of its own: leave --base-url out, or --local.")
        emulator_class()
        return Connection(poll=_LOCAL_POLL, local=True)
    key = os.environ.get(provider.key, "")
    if not key.strip():
        advice = _RUN_EMULATOR if local is None else _ADD_LOCAL
        raise UsageError(f"No API key: set {provider.key}, or {advice}.")
    config.check_api_key(key)
    url = config.resolve_base_url(base_url, provider.base_url, provider.default_url)
    if task_is_old:
        return Connection(base_url, _OLD_TASK_POLL)
    # A service on this machine is an emulator, whose tasks are short.
    return Connection(base_url, _LOCAL_POLL if is_loopback(urlsplit(url).hostname or "") else config.Poll())


@asynccontextmanager
async def connected(connection: Connection) -> AsyncGenerator[AsyncApimart]:
    """Open a client, and the emulator with ``--local``; leaving closes both."""
    from apimart_async.client import AsyncApimart

    async with (
        _served(connection) as (api_key, base_url),
        AsyncApimart(api_key, base_url=base_url, poll=connection.poll) as client,
    ):
        yield client


@asynccontextmanager
async def connected_router(connection: Connection) -> AsyncGenerator[AsyncAppleRouter]:
    """Open a client of AppleRouter, and the emulator with ``--local``; leaving closes both."""
    from apimart_async.applerouter import AsyncAppleRouter

    async with (
        _served(connection) as (api_key, base_url),
        AsyncAppleRouter(api_key, base_url=base_url) as client,
    ):
        yield client


@asynccontextmanager
async def _served(connection: Connection) -> AsyncGenerator[tuple[str | None, str | None]]:
    """Yield the key and the base URL for the client; ``None`` stands for the environment's."""
    if not connection.local:
        yield None, connection.base_url
        return
    async with emulator_class()(task_seconds=_LOCAL_TASK_SECONDS) as emulator:
        yield emulator.api_key, emulator.base_url


def emulator_class() -> type[Emulator]:
    """Import the emulator.

    Raises:
        UsageError: Pillow is missing.
    """
    try:
        from apimart_async.emulator import Emulator
    except ModuleNotFoundError as missing:
        if (missing.name or "").partition(".")[0] != "PIL":
            raise
        raise UsageError("The emulator needs Pillow: pip install 'apimart-async[emulator]'") from missing
    return Emulator
