"""The catalogue: the models of the service, their schemas, their documentation and their prices."""

from __future__ import annotations

from collections.abc import Mapping
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import urlencode

from apimart_async import errors
from apimart_async.arguments import check_types, is_whole, wrong_type
from apimart_async.models import Quote
from apimart_async.resources import submission
from apimart_async.resources.schemas import ABSENT
from apimart_async.transport.catalogue_parsing import read_models, read_object, read_prices
from apimart_async.transport.retry import Kind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from apimart_async.models import Model, ModelSchema
    from apimart_async.resources.schemas import CatalogueCache, Schemas
    from apimart_async.transport.api import Api

_DOCS_PATH: Final = "/v1/model-docs"
_PRICE_PATHS: Final = ("/api/pricing/model", "/api/marketplace/models")
_FRESH_SECONDS: Final = 3600.0


class AsyncModels:
    """The models of the service and the requests they take. Free."""

    def __init__(self, api: Api, schemas: Schemas) -> None:
        self._api = api
        self._schemas = schemas

    async def list(self, *, timeout: float | None = None) -> Sequence[Model]:
        """Fetch the models of the service.

        Args:
            timeout: Seconds for an attempt; the client's timeout by default.

        Returns:
            The models; their ``id`` is the value for ``model=``.

        Raises:
            APIError: The request failed after all retries.

        Cancellation leaves nothing behind.
        """
        answer = await self._api.request("GET", "/v1/models", kind=Kind.READ, timeout=timeout)
        return read_models(answer.payload)

    async def schema(
        self, model: str, operation: str | None = None, *, timeout: float | None = None
    ) -> ModelSchema | None:
        """Return the schema of a model: its endpoint, its parameters and its promises.

        The client and its copies keep the answer for an hour, also that there is no schema, and then ask the
        service whether it has changed. Calls at the same time share one request.

        Args:
            model: Name of the model.
            operation: One of several operations of the model; its image generation by default.
            timeout: Seconds for an attempt; the client's timeout by default.

        Returns:
            The schema; ``None`` if the service has none for this model.

        Raises:
            InvalidArgumentError: The name is empty.
            APIError: The request failed after all retries.

        Cancellation leaves nothing behind; another call that waits for the same schema sends its own request.
        """
        check_types(model=model, operation=operation, timeout=timeout)
        if not model.strip():
            raise errors.InvalidArgumentError(f"model must be a text that is not empty, not {model!r}.")
        return await self._schemas.get(model, operation, timeout)

    async def check(self, request: Mapping[str, Any], *, path: str | None = None) -> None:
        """Check the fields of a paid request against the schema of its model, without sending the request.

        Edits, generations and batches do the same before they upload anything. Nothing is checked if the
        service has no schema of the model, does not answer within 5 s, or if the client has ``check="off"``.

        Args:
            request: Fields as the service takes them, ``model`` among them; of images only the number counts.
            path: Endpoint of the request, such as ``"/v1/images/generations"``; that of edits with the model
                by default.

        Raises:
            InvalidArgumentError: The model does not take the request. The message names the parameter, its
                value and the values that are allowed.

        Cancellation leaves nothing behind.

        .. versionadded:: 0.1
        """
        model: Any = request.get("model") if isinstance(cast("object", request), Mapping) else ""
        check_types(request=request, model=model, path=path)
        path = path or submission.submit_path(model, await self._schemas.path(model))
        await self._schemas.check(path, request)

    async def docs(self, model: str, *, timeout: float | None = None) -> Mapping[str, Any] | None:
        """Fetch the documentation of a model.

        Args:
            model: Name of the model.
            timeout: Seconds for an attempt; the client's timeout by default.

        Returns:
            The JSON object of the service, unchanged; ``None`` if the service has no documentation of it.

        Raises:
            InvalidArgumentError: The name is empty.
            APIError: The request failed after all retries.

        Cancellation leaves nothing behind.
        """
        check_types(model=model)
        if not model.strip():
            raise errors.InvalidArgumentError(f"model must be a text that is not empty, not {model!r}.")
        path = f"{_DOCS_PATH}?{urlencode({'model': model})}"
        try:
            answer = await self._api.request("GET", path, kind=Kind.READ, timeout=timeout)
        except errors.APIStatusError as error:
            if error.status in ABSENT:
                return None
            raise
        return read_object(answer.payload, "documentation of a model")


class Prices:
    """The prices as one client fetches them.

    Args:
        api: API of the client.
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
        check_types(model=model, timeout=timeout)
        if not model.strip():
            raise errors.InvalidArgumentError(f"model must be a text that is not empty, not {model!r}.")
        if not is_whole(n):
            raise wrong_type("n", "a whole number", n)
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
        for path in _PRICE_PATHS:
            try:
                answer = await self._api.request("GET", path, kind=Kind.READ, timeout=timeout)
            except errors.APIStatusError as error:
                if error.status not in ABSENT:
                    raise
            else:
                return read_prices(answer.payload)
        return {}
