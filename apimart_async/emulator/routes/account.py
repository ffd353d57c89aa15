"""The balance and the models of the account."""

from __future__ import annotations

from aiohttp import web

from apimart_async.emulator.responses import json_response
from apimart_async.emulator.service import SERVICE

_MODELS = (
    "grok-imagine-1.0-edit-apimart",
    "grok-imagine-1.5-edit-apimart",
    "gemini-3-pro-image-preview",
    "gpt-image-2",
    "gpt-image-2.5-flare",
    "qwen-image-edit-plus",
    "dall-e-2",
)


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


async def list_models(request: web.Request) -> web.Response:
    """Return some models; requests may name others. In a variant, the list holds names alone."""
    if request.app[SERVICE].next_variant("models") % 2:
        return json_response({"object": "list", "data": list(_MODELS)})
    return json_response({"object": "list", "data": [{"id": model, "object": "model"} for model in _MODELS]})
