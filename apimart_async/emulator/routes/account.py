"""The balance of the account."""

from __future__ import annotations

from aiohttp import web

from apimart_async.emulator.responses import json_response
from apimart_async.emulator.service import SERVICE


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
