"""Tolerant readers of prices and of the use of an account."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from apimart_async.models import AccountUsage, DayUsage
from apimart_async.transport.json import is_mapping, is_sequence, moment, not_understood, number, text, whole

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_NAMES: Final = ("model_name", "model", "id", "name")
_LISTS: Final = ("data", "models", "items", "list", "prices", "pricing")
_PRICES: Final = ("model_price", "price_per_image", "per_image", "image_price", "unit_price", "price")
_UNITS: Final = ("unit", "billing_unit", "price_unit")
_PER_CALL: Final = 1

_DAYS: Final = ("data", "days", "daily", "usage", "items", "list")
_DATES: Final = ("date", "day", "time", "timestamp", "created_at")
_COSTS: Final = ("cost", "total_cost", "amount", "usd")
_REQUESTS: Final = ("requests", "request_count", "total_requests", "count")


def read_prices(payload: object) -> dict[str, float]:
    """Read USD per image by model.

    Models are left out that are billed by tokens or in another currency, or whose price depends on more than
    the number of images.

    Raises:
        APIResponseValidationError: It holds no list of models.
    """
    entries = _entries(payload, _LISTS)
    if entries is None:
        raise not_understood("list of prices", payload)
    found: dict[str, float] = {}
    for entry in entries:
        name, price = _first(entry, _NAMES, text), _price(entry)
        if name is not None and price is not None:
            found[name] = price
    return found


def _price(entry: Mapping[str, Any]) -> float | None:
    pricing = entry.get("pricing")
    source = pricing if is_mapping(pricing) else entry
    if entry.get("quota_type", _PER_CALL) != _PER_CALL or any(
        is_sequence(value) for value in source.values()
    ):
        return None
    currency, unit = text(source.get("currency")), _first(source, _UNITS, text)
    if (currency or "USD").upper() != "USD" or (unit is not None and "image" not in unit.lower()):
        return None
    price = _first(source, _PRICES, number)
    return price if price is not None and price > 0 else None


def read_usage(payload: object) -> AccountUsage:
    """Read the use of an account.

    Raises:
        APIResponseValidationError: It tells neither costs nor requests: that is not zero.
    """
    top: dict[str, Any] = payload if is_mapping(payload) else {}
    data = top.get("data")
    source: dict[str, Any] = data if is_mapping(data) else top
    days = [
        DayUsage(date, _first(entry, _COSTS, number), _first(entry, _REQUESTS, whole))
        for entry in _entries(payload, _DAYS) or ()
        if (date := _first(entry, _DATES, moment)) is not None
    ]
    cost, requests = _first(source, _COSTS, number), _first(source, _REQUESTS, whole)
    if cost is None and days and all(day.cost is not None for day in days):
        cost = sum(day.cost or 0.0 for day in days)
    if requests is None and days and all(day.requests is not None for day in days):
        requests = sum(day.requests or 0 for day in days)
    if cost is None and requests is None:
        raise not_understood("usage", payload)
    return AccountUsage(cost, requests, tuple(days), top)


def _entries(payload: object, names: Iterable[str]) -> list[dict[str, Any]] | None:
    """Return the objects of the first list in an answer."""
    if is_sequence(payload):
        return [entry for entry in payload if is_mapping(entry)]
    if not is_mapping(payload):
        return None
    for name in names:
        value = payload.get(name)
        if is_sequence(value) or (is_mapping(value) and name == "data"):
            return _entries(value, names)
    return None


def _first(source: Mapping[str, Any], names: Iterable[str], read: Any) -> Any:  # noqa: ANN401 the type of `read`
    """Return the first of some fields that can be read."""
    return next((found for name in names if (found := read(source.get(name))) is not None), None)
