"""``apimart balance`` and ``apimart models``: the remaining balance, and the models of the service."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Literal, TypeVar

import anyio
from cyclopts import Parameter

from apimart_async import errors
from apimart_async.cli import connection, options
from apimart_async.cli.display.output import dollars, printable, write_line
from apimart_async.cli.display.results import json_line
from apimart_async.cli.signals import Exit

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
    """Show the rest of the balance, in USD.

    Try these:

      apimart balance
      apimart balance --scope user --json

    With --json, the line has: remaining, used (USD or null) and unlimited.
    """
    found = _ask(lambda client: client.account.balance(scope=scope), base_url)
    record = {"remaining": found.remaining, "used": found.used, "unlimited": found.unlimited}
    return _write([json_line(record) if json else _sentence(found)])


def models(*, base_url: options.BaseUrl = None, json: options.Json = False) -> Exit:
    """List the models of the service, a line each, with their prices.

    Try these:

      apimart models
      apimart models --json

    A line has the name of the model and, after two spaces, the price of an
    image, if the service tells one. With --json, each line is the service's own
    description of the model; id is its name, and usd_per_image its price or null.
    """
    found = _ask(_priced_models, base_url)
    if json:
        return _write(
            [json_line({**model.raw, "id": model.id, "usd_per_image": price}) for model, price in found]
        )
    prices = ["" if price is None else f"  {dollars(price)}" for _, price in found]
    return _write([printable(model.id) + price for (model, _), price in zip(found, prices, strict=True)])


async def _priced_models(client: AsyncApimart) -> list[tuple[Model, float | None]]:
    """Return the models with the price of an image; ``None`` where it is not known."""
    found = await client.models.list()
    try:
        quotes = [await client.quote(model.id) for model in found]
    except errors.APIError:
        return [(model, None) for model in found]
    return [
        (model, None if quote is None else quote.price) for model, quote in zip(found, quotes, strict=True)
    ]


def _ask(question: Callable[[AsyncApimart], Awaitable[Result]], base_url: list[str] | None) -> Result:
    service = connection.checked(base_url)

    async def work() -> Result:
        async with connection.connected(service) as client:
            return await question(client)

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


def _write(lines: list[str]) -> Exit:
    return Exit.ALL_DONE if all(write_line(line) for line in lines) else Exit.SOME_FAILED
