"""The balance and the use of the account."""

from __future__ import annotations

import math
from collections import defaultdict
from datetime import UTC, datetime
from typing import Any, Final

from aiohttp import web

from apimart_async.emulator.responses import bad_request, json_response
from apimart_async.emulator.service import SERVICE, Service
from apimart_async.emulator.settings import HOUR

_LONGEST_PERIOD: Final = 31
_KEPT: Final = 60.0


async def read_balance(request: web.Request) -> web.Response:
    """Return the balance in USD."""
    service = request.app[SERVICE]
    return json_response(
        {
            "success": True,
            "message": "",
            "remain_balance": round(service.balance, 6),
            "used_balance": round(service.ledger.total, 6),
            "unlimited_quota": False,
        }
    )


async def read_usage(request: web.Request) -> web.Response:
    """Return the cost and the number of executed requests of the last days; the answer is kept for a minute.

    Raises:
        ServiceError: 400 for more than 31 days.
    """
    service = request.app[SERVICE]
    try:
        days = int(request.query.get("days", _LONGEST_PERIOD))
    except ValueError:
        days = 0
    if not 1 <= days <= _LONGEST_PERIOD:
        raise bad_request(f"days must be from 1 to {_LONGEST_PERIOD}")
    now = service.clock.now()
    made, data = service.usages.get(days, (-math.inf, {}))
    if now - made >= _KEPT:
        data = _usage_since(service, now - days * 24 * HOUR)
        service.usages[days] = now, data
    return json_response({"success": True, "data": data})


def _usage_since(service: Service, since: float) -> dict[str, Any]:
    by_day: dict[str, list[float]] = defaultdict(list)
    for entry in service.ledger.entries:
        if entry.at >= since:
            by_day[datetime.fromtimestamp(entry.at, UTC).date().isoformat()].append(entry.cost)
    days = [
        {"date": day, "cost": round(sum(costs), 6), "requests": len(costs)} for day, costs in by_day.items()
    ]
    total = round(sum(cost for costs in by_day.values() for cost in costs), 6)
    return {"total_cost": total, "total_requests": sum(map(len, by_day.values())), "days": days}
