"""The models, their schemas, their documentation and their prices."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

from apimart_async.emulator.catalogue import etag_of
from apimart_async.emulator.ledger import price_of
from apimart_async.emulator.responses import bad_request, json_response, not_found
from apimart_async.emulator.service import SERVICE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from apimart_async.emulator.catalogue import ModelSpec
    from apimart_async.emulator.service import Service

_WITHOUT_SCHEMA: Final = (
    "grok-imagine-1.0-edit-apimart",
    "grok-imagine-1.5-edit-apimart",
    "gemini-3-pro-image-preview",
    "dall-e-2",
)
_OPERATION: Final = "image_generation"


async def list_models(request: web.Request) -> web.Response:
    """Return some models; requests may name others. In a variant, the list holds names alone.

    With `expand`, each has its schema and its price.
    """
    service = request.app[SERVICE]
    names = _names(service)
    if request.query.get("expand"):
        entries = [_expanded(service, name) for name in names]
        return json_response({"object": "list", "data": entries})
    if service.next_variant("models") % 2:
        return json_response({"object": "list", "data": names})
    return json_response({"object": "list", "data": [{"id": name, "object": "model"} for name in names]})


async def read_schema(request: web.Request) -> web.Response:
    """Return the schema of a model, or 304 to the ETag of it.

    Raises:
        ServiceError: 400 without a model, 404 for one without a schema.
    """
    name = request.match_info.get("model") or request.query.get("model")
    if not name:
        raise bad_request("model is required")
    return _with_etag(
        request, _spec(request.app[SERVICE], name).schema(request.query.get("operation") or _OPERATION)
    )


async def read_docs(request: web.Request) -> web.Response:
    """Return the documentation of a model.

    Raises:
        ServiceError: 400 without a model, 404 for one without a schema.
    """
    name = request.query.get("model")
    if not name:
        raise bad_request("model is required")
    spec = _spec(request.app[SERVICE], name)
    body = {
        "object": "model.docs",
        "model": spec.model,
        "markdown": f"# {spec.model}\n\n`POST {spec.path}`, at most {spec.max_n} images.\n",
    }
    return _with_etag(request, body)


async def list_prices(request: web.Request) -> web.Response:
    """Return the price of an image of each model, in USD."""
    service = request.app[SERVICE]
    _check_served(service, request.path)
    prices = [
        {"model_name": name, "quota_type": 1, "model_price": price_of(name)} for name in _names(service)
    ]
    return _with_etag(request, {"success": True, "data": prices})


async def list_marketplace(request: web.Request) -> web.Response:
    """Return the models as the service's market place shows them, with their prices."""
    service = request.app[SERVICE]
    _check_served(service, request.path)
    entries = [
        {"id": name, "type": "image", "pricing": {"per_image": price_of(name), "currency": "USD"}}
        for name in _names(service)
    ]
    return _with_etag(request, {"success": True, "data": {"models": entries}})


def _names(service: Service) -> list[str]:
    described = [spec.model for spec in service.settings.models or ()]
    return list(dict.fromkeys([*_WITHOUT_SCHEMA, *described]))


def _spec(service: Service, name: str) -> ModelSpec:
    found = service.settings.spec_of(name)
    if found is None:
        raise not_found(f"model {name} has no schema")
    return found


def _check_served(service: Service, path: str) -> None:
    if service.settings.models is None:
        raise not_found(f"Invalid URL (GET {path})")


def _expanded(service: Service, name: str) -> dict[str, Any]:
    spec = service.settings.spec_of(name)
    entry: dict[str, Any] = {"id": name, "object": "model", "pricing": {"per_image": price_of(name)}}
    return entry if spec is None else entry | {"schema": spec.schema(_OPERATION)}


def _with_etag(request: web.Request, body: Mapping[str, Any]) -> web.Response:
    etag = etag_of(body)
    if request.headers.get("If-None-Match") == etag:
        return web.Response(status=304, headers={"ETag": etag})
    return web.Response(
        body=json.dumps(body).encode(), content_type="application/json", headers={"ETag": etag}
    )
