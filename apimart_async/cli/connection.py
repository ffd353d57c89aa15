"""The service of a command: a real one, another with the same API, or an emulator in this process."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final, Literal, TypeAlias
from urllib.parse import urlsplit

import attrs

from apimart_async import config
from apimart_async.base_urls import resolve_base_urls
from apimart_async.cli.display.output import printable, say
from apimart_async.cli.options import Conversion
from apimart_async.cli.signals import UsageError
from apimart_async.credentials import Secret
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


Provider: TypeAlias = Literal["APIMART", "APPLEROUTER"]
"""One of the two services: the prefix of its variables."""

_DEFAULT_URLS: Final[Mapping[Provider, str]] = {
    "APIMART": config.APIMART_BASE_URL,
    "APPLEROUTER": config.APPLEROUTER_BASE_URL,
}


@attrs.frozen
class Connection:
    """The address of the service, and how its tasks are polled.

    Attributes:
        base_url: The option; ``None`` for the address from the environment or of the service.
        poll: Pace of polling.
        local: Whether to start an emulator and connect to it.
        media: Changes to pictures before they are sent.
        resolved_url: The address itself, of several the preferred one; ``None`` with an emulator of the
            command.
        provider: The service.
    """

    base_url: Sequence[str] | None = None
    poll: config.Poll = attrs.field(factory=config.Poll)
    local: bool = False
    media: config.Media = attrs.field(factory=config.Media)
    resolved_url: str | None = None
    provider: Provider = "APIMART"


def checked(
    base_url: Sequence[str] | None,
    *,
    provider: Provider = "APIMART",
    local: bool | None = None,
    task_is_old: bool = False,
    convert: Conversion = "auto",
    keep_metadata: bool = False,
) -> Connection:
    """Return the connection after checking the key, the options and the packages it needs.

    Args:
        base_url: The option.
        provider: The service.
        local: The option; ``None`` when the command has none.
        task_is_old: Whether the tasks may have ended long ago.
        convert: The option.
        keep_metadata: The option.

    Raises:
        UsageError: There is no key, Pillow is missing for the emulator, or the options exclude each other.
        InvalidArgumentError: The key or the base URL is malformed.
    """
    media = config.Media(convert=convert, keep_metadata=keep_metadata, on_convert=_say_conversion)
    if local:
        if base_url is not None:
            raise UsageError("--local starts a service of its own: leave --base-url out, or --local.")
        emulator_class()
        return Connection(poll=_LOCAL_POLL, local=True, media=media, provider=provider)
    key = Secret(os.environ.get(f"{provider}_API_KEY", ""))
    if not key.open().strip():
        advice = _RUN_EMULATOR if local is None else _ADD_LOCAL
        raise UsageError(f"No API key: set {provider}_API_KEY, or {advice}.")
    config.check_api_key(key)
    urls = resolve_base_urls(base_url, f"{provider}_BASE_URL", _DEFAULT_URLS[provider])
    if task_is_old:
        return Connection(base_url, _OLD_TASK_POLL)
    # A service on this machine is an emulator, whose tasks are short.
    poll = _LOCAL_POLL if is_loopback(urlsplit(urls[0]).hostname or "") else config.Poll()
    return Connection(base_url, poll, media=media, resolved_url=urls[0], provider=provider)


def _say_conversion(line: str) -> None:
    say(printable(line))


@asynccontextmanager
async def connected(connection: Connection) -> AsyncGenerator[AsyncApimart]:
    """Open a client, and the emulator with ``--local``; leaving closes both."""
    from apimart_async.client import AsyncApimart

    async with (
        _served(connection) as (key, url),
        AsyncApimart(key, base_url=url, poll=connection.poll, media=connection.media) as client,
    ):
        yield client


@asynccontextmanager
async def connected_router(connection: Connection) -> AsyncGenerator[AsyncAppleRouter]:
    """Open a client of AppleRouter, and the emulator with ``--local``; leaving closes both."""
    from apimart_async.applerouter import AsyncAppleRouter

    async with (
        _served(connection) as (key, url),
        AsyncAppleRouter(key, base_url=url, media=connection.media) as client,
    ):
        yield client


@asynccontextmanager
async def _served(connection: Connection) -> AsyncGenerator[tuple[str | None, str | Sequence[str] | None]]:
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
        raise UsageError("The emulator needs Pillow: pip install '.[emulator]' in the clone") from missing
    return Emulator
