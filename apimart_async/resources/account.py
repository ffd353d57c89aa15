"""The account's balance and use, and the service's models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, cast

from apimart_async import errors
from apimart_async.transport.catalogue_parsing import read_balance, read_models, read_usage
from apimart_async.transport.retry import Kind

if TYPE_CHECKING:
    from apimart_async.models import AccountUsage, Balance, Model
    from apimart_async.transport.api import Api

_LONGEST_PERIOD: Final = 31

_BALANCES: Final = {"key": "/v1/balance", "user": "/v1/user/balance"}


class AsyncAccount:
    """The account's balance, its use, and the models it may use. Free."""

    def __init__(self, api: Api) -> None:
        self._api = api

    async def balance(
        self, *, scope: Literal["key", "user"] = "key", timeout: float | None = None
    ) -> Balance:
        """Fetch the balance.

        Args:
            scope: ``"key"``, the default, for the quota of this API key; ``"user"`` for the whole account.
            timeout: Seconds for an attempt; the client's timeout by default.

        Returns:
            The remaining and the used amount, in USD.

        Raises:
            InvalidArgumentError: The scope is neither ``"key"`` nor ``"user"``.
            APIError: The request failed after all retries, or the service answered HTTP 200 with
                ``"success": false``.

        Cancellation leaves nothing behind.
        """
        if not isinstance(cast("object", scope), str) or scope not in _BALANCES:
            raise errors.InvalidArgumentError(f"scope must be 'key' or 'user', not {scope!r}.")
        answer = await self._api.request("GET", _BALANCES[scope], kind=Kind.READ, timeout=timeout)
        return read_balance(answer.payload)

    async def models(self, *, timeout: float | None = None) -> list[Model]:
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

    async def usage(self, days: int = 31, *, timeout: float | None = None) -> AccountUsage:
        """Fetch the use of the account in the last days.

        The service takes 60 of these requests a minute, and its numbers are up to 60 seconds old.

        Args:
            days: Number of days, 1 to 31; default 31.
            timeout: Seconds for an attempt; the client's timeout by default.

        Returns:
            Cost in USD and number of requests, in all and by day as far as the service reports them.

        Raises:
            InvalidArgumentError: ``days`` is not a whole number from 1 to 31.
            APIError: The request failed after all retries; ``code`` is ``"usage_unavailable"`` while the
                service does not know the use.

        Cancellation leaves nothing behind.
        """
        if type(days) is not int or not 1 <= days <= _LONGEST_PERIOD:
            raise errors.InvalidArgumentError(f"days must be a whole number from 1 to 31, not {days!r}.")
        answer = await self._api.request("GET", f"/v1/usage?days={days}", kind=Kind.READ, timeout=timeout)
        return read_usage(answer.payload)
