"""The account's balance and the service's models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

from apimart_async import errors
from apimart_async.transport import parsing
from apimart_async.transport.retry import Kind

if TYPE_CHECKING:
    from apimart_async.models import Balance, Model
    from apimart_async.transport.api import Api

_BALANCES: Final = {"key": "/v1/balance", "user": "/v1/user/balance"}


class AsyncAccount:
    """The account's balance and the models it may use. Free."""

    def __init__(self, api: Api) -> None:
        self._api = api

    async def balance(
        self, *, scope: Literal["key", "user"] = "key", timeout: float | None = None
    ) -> Balance:
        """Fetch the balance.

        Args:
            scope: ``"key"`` for the quota of this API key, ``"user"`` for the whole account.
            timeout: Seconds for an attempt; the client's timeout by default.

        Returns:
            The remaining and the used amount, in USD.

        Raises:
            InvalidArgumentError: The scope is another.
            APIError: The request failed after all retries, or the service answered HTTP 200 with
                ``"success": false``.
        """
        if scope not in _BALANCES:
            raise errors.InvalidArgumentError(f"scope must be 'key' or 'user', not {scope!r}.")
        answer = await self._api.request("GET", _BALANCES[scope], kind=Kind.READ, timeout=timeout)
        return parsing.read_balance(answer.payload)

    async def models(self, *, timeout: float | None = None) -> list[Model]:
        """Fetch the models of the service.

        Args:
            timeout: Seconds for an attempt; the client's timeout by default.

        Returns:
            The models; their ``id`` is the value for ``model=``.

        Raises:
            APIError: The request failed after all retries.
        """
        answer = await self._api.request("GET", "/v1/models", kind=Kind.READ, timeout=timeout)
        return parsing.read_models(answer.payload)
