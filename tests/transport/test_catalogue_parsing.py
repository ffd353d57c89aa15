"""Prices and the use of an account in every shape that may come."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from apimart_async import AccountUsage, APIResponseValidationError, DayUsage
from apimart_async.transport.catalogue_parsing import read_prices, read_usage

PRICED: list[Any] = [
    {"success": True, "data": [{"model_name": "m", "quota_type": 1, "model_price": 0.02}]},
    {"data": {"models": [{"id": "m", "pricing": {"per_image": 0.02, "currency": "USD"}}]}},
    [{"model": "m", "price": "0.02", "unit": "per image"}],
    {"models": [{"name": "m", "pricing": {"price": 0.02}}, {"name": "other"}, 7]},
]


@pytest.mark.parametrize("answer", PRICED)
def test_price_of_an_image_is_found(answer: Any) -> None:
    assert read_prices(answer) == {"m": 0.02}


UNPRICED: list[dict[str, Any]] = [
    {"model_name": "m", "quota_type": 0, "model_price": 0.02},
    {"model_name": "m", "quota_type": 1, "model_price": 0},
    {"model_name": "m", "quota_type": 1},
    {"id": "m", "pricing": {"per_image": 0.1, "currency": "CNY"}},
    {"id": "m", "pricing": {"price": 3, "unit": "1M tokens"}},
    {"id": "m", "pricing": {"price": 0.1, "tiers": [{"resolution": "4k", "price": 0.2}]}},
    {"id": "m", "pricing": {"price": "free"}},
    {"model_price": 0.02},
]


@pytest.mark.parametrize("entry", UNPRICED)
def test_price_that_is_not_per_image_in_usd_is_left_out(entry: dict[str, Any]) -> None:
    assert read_prices({"data": [entry]}) == {}


@pytest.mark.parametrize("answer", [None, 7, {}, {"data": {}}, {"data": "m"}])
def test_answer_without_a_list_is_no_list_of_prices(answer: Any) -> None:
    with pytest.raises(APIResponseValidationError, match="list of prices"):
        read_prices(answer)


DAY = DayUsage(datetime(2026, 11, 1, tzinfo=UTC), 0.3, 20)
USED: list[tuple[Any, AccountUsage]] = [
    ({"total_cost": 0.3, "total_requests": 20}, AccountUsage(0.3, 20)),
    ({"data": {"cost": 0.3, "days": []}}, AccountUsage(0.3, None)),
    ({"data": [{"date": "2026-11-01", "cost": 0.3, "requests": 20}]}, AccountUsage(0.3, 20, (DAY,))),
    ({"cost": 0, "requests": 0}, AccountUsage(0.0, 0)),
]


@pytest.mark.parametrize(("answer", "usage"), USED)
def test_usage_is_read(answer: Any, usage: AccountUsage) -> None:
    assert read_usage(answer) == usage


@pytest.mark.parametrize(
    "answer", [None, {}, {"data": []}, {"data": [{"date": "2026-11-01"}]}, {"success": True}]
)
def test_usage_without_numbers_is_an_error_and_not_zero(answer: Any) -> None:
    with pytest.raises(APIResponseValidationError, match="usage"):
        read_usage(answer)
