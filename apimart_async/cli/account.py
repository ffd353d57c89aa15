"""``apimart balance`` and ``apimart models``: what is left to spend, and on what."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Literal, TypeVar

import anyio
from cyclopts import Parameter

from apimart_async.cli import connection, options
from apimart_async.cli.display.results import json_line
from apimart_async.cli.display.streams import write_line
from apimart_async.cli.display.text import dollars, printable
from apimart_async.cli.exits import Exit

if TYPE_CHECKING:
    from apimart_async.client import AsyncApimart
    from apimart_async.models import Balance, Model

Result = TypeVar("Result")


def balance(
    *,
    scope: Annotated[
        Literal["key", "user"],
        Parameter(name="--scope", help="The quota of this key, or the whole account."),
    ] = "key",
    base_url: options.BaseUrl = None,
    json: options.Json = False,
) -> Exit:
    """Show what is left to spend, in USD.

    Try these:

      apimart balance
      apimart balance --scope user --json

    With --json, the line has: remaining, used (USD or null) and unlimited.
    """

    async def ask(client: AsyncApimart) -> Balance:
        return await client.account.balance(scope=scope)

    found = _ask(ask, base_url)
    record = {"remaining": found.remaining, "used": found.used, "unlimited": found.unlimited}
    return _written([json_line(record) if json else _sentence(found)])


def models(*, base_url: options.BaseUrl = None, json: options.Json = False) -> Exit:
    """List the models of the service, a line each.

    Try these:

      apimart models
      apimart models --json

    With --json, each line is what the service says of the model; id is its name.
    """

    async def ask(client: AsyncApimart) -> list[Model]:
        return await client.account.models()

    found = _ask(ask, base_url)
    return _written(
        [json_line({**model.raw, "id": model.id}) if json else printable(model.id) for model in found]
    )


def _ask(ask: Callable[[AsyncApimart], Awaitable[Result]], base_url: str | None) -> Result:
    service = connection.checked(base_url, otherwise=connection.RUN_EMULATOR)

    async def work() -> Result:
        async with connection.connected(service) as client:
            return await ask(client)

    return anyio.run(work)


def _sentence(balance: Balance) -> str:
    if balance.unlimited:
        left = "unlimited"
    elif balance.remaining is None:
        left = "an unknown amount left"
    else:
        left = f"{_amount(balance.remaining)} left"
    return left if balance.used is None else f"{left}, {_amount(balance.used)} used"


def _amount(usd: float) -> str:
    return f"-{dollars(-usd)}" if usd < 0 else dollars(usd)


def _written(lines: list[str]) -> Exit:
    return Exit.ALL_DONE if all(write_line(line) for line in lines) else Exit.SOME_FAILED
