"""Tolerant readers of an account and of the catalogue: balance, usage, models and prices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from apimart_async.models import AccountUsage, Balance, DayUsage, Model
from apimart_async.transport.json import (
    is_mapping,
    is_sequence,
    mapping,
    moment,
    not_understood,
    number,
    structure,
    text,
    whole,
)

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

# The balance of an account without a limit.
_ENDLESS: Final = -1.0


def read_balance(payload: object) -> Balance:
    """Read the balance of the account.

    Raises:
        APIResponseValidationError: The answer holds no balance.
    """
    source = mapping(mapping(payload).get("data")) or mapping(payload)
    if not {"remain_balance", "used_balance", "unlimited_quota"} & source.keys():
        raise not_understood("balance", payload)
    remaining = number(source.get("remain_balance"))
    is_endless = remaining == _ENDLESS
    fields = {
        "remaining": None if is_endless else remaining,
        "used": source.get("used_balance"),
        "unlimited": is_endless or source.get("unlimited_quota") is True,
        "raw": source,
    }
    return structure(fields, Balance, payload)


def read_models(payload: object) -> list[Model]:
    """Read the catalogue, whose entries are objects or names; entries without an id are left out.

    Raises:
        APIResponseValidationError: It holds no list of models.
    """
    entries = payload if is_sequence(payload) else mapping(payload).get("data")
    if not is_sequence(entries):
        raise not_understood("list of models", payload)
    described = [{"id": entry} if isinstance(entry, str) else mapping(entry) for entry in entries]
    named = [((text(entry.get("id")) or "").strip(), entry) for entry in described]
    return [Model(name, entry) for name, entry in named if name]


def read_object(payload: object, subject: str) -> dict[str, Any]:
    """Return a JSON object, without the envelope around it.

    Raises:
        APIResponseValidationError: The answer is not a JSON object.
    """
    found = mapping(mapping(payload).get("data")) or mapping(payload)
    if not found:
        raise not_understood(subject, payload)
    return found


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
        APIResponseValidationError: The answer holds neither costs nor requests, which does not mean zero.
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
