"""Prices of models before the first result, from the service and from its documentation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from apimart_async import errors
from apimart_async.cli.display.output import dollars, say, sentence
from apimart_async.cli.signals import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from apimart_async.client import AsyncApimart

_ROUNDING: Final = 1e-9


async def quoted(client: AsyncApimart, models: Iterable[str]) -> dict[str, float]:
    """Return USD an image of each of the models that has a price in the catalogue of the service."""
    prices: dict[str, float] = {}
    try:
        for model in models:
            quote = await client.quote(model)
            if quote is not None:
                prices[model] = quote.price
    except errors.APIError as error:
        say(f"The prices of the service are not known: {sentence(error.message)}")
    return prices


async def check_budget(client: AsyncApimart, model: str, n: int, max_cost: float | None) -> None:
    """Check that a budget pays for the first picture, as far as the price is known.

    Raises:
        UsageError: The budget is too small.
    """
    from apimart_async.batch.backends import DOCUMENTED_PRICES

    if max_cost is None:
        return
    price = {**DOCUMENTED_PRICES, **await quoted(client, [model])}.get(model)
    if price is not None and n * price > max_cost + _ROUNDING:
        raise UsageError(
            f"--max-cost {dollars(max_cost)} does not pay for one picture, which costs {dollars(n * price)}. "
            "Nothing was sent."
        )
