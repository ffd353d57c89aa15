"""The prices of models, as the catalogue of the service tells them."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Final

from apimart_async import errors
from apimart_async.models import Quote
from apimart_async.resources.schemas import ABSENT
from apimart_async.transport.catalogue_parsing import read_prices
from apimart_async.transport.retry import Kind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from apimart_async.resources.schemas import CatalogueCache
    from apimart_async.transport.api import Api

_PATHS: Final = ("/api/pricing/model", "/api/marketplace/models")
_FRESH_SECONDS: Final = 3600.0


class Prices:
    """The prices as one client fetches them.

    Args:
        api: Of the client.
        cache: Shared with the copies of the client.
    """

    def __init__(self, api: Api, cache: CatalogueCache) -> None:
        self._api = api
        self._cache = cache

    async def quote(self, model: str, n: int, timeout: float | None) -> Quote | None:
        """Return the expected cost of images of a model; ``None`` if the catalogue does not tell it.

        Raises:
            InvalidArgumentError: The name is empty, or ``n`` is less than 1.
            APIError: A request failed after all retries.
        """
        if not model.strip():
            raise errors.InvalidArgumentError(f"model must be a text that is not empty, not {model!r}.")
        if n < 1:
            raise errors.InvalidArgumentError(f"n must be 1 or more, not {n!r}.")
        cache = self._cache
        if monotonic() >= cache.prices_expire_at:
            async with cache.prices_lock:
                if monotonic() >= cache.prices_expire_at:
                    cache.prices = await self._fetch(timeout)
                    cache.prices_expire_at = monotonic() + _FRESH_SECONDS
        price = cache.prices.get(model)
        return None if price is None else Quote(model, n, price, round(n * price, 9))

    async def _fetch(self, timeout: float | None) -> Mapping[str, float]:
        for path in _PATHS:
            try:
                answer = await self._api.request("GET", path, kind=Kind.READ, timeout=timeout)
            except errors.APIStatusError as error:
                if error.status not in ABSENT:
                    raise
            else:
                return read_prices(answer.payload)
        return {}
