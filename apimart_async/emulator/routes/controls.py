"""What only the emulator has: its ledger and its faults, for clients in other processes and languages."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import anyio.to_thread
from aiohttp import web
from attrs import asdict

from apimart_async.emulator.faults import fault_as_json, parse_faults
from apimart_async.emulator.replies import bad_request, json_response
from apimart_async.emulator.service import SERVICE, Service

if TYPE_CHECKING:
    from apimart_async.emulator.ledger import Entry


async def show_ledger(request: web.Request) -> web.Response:
    """Answer with everything that was executed and billed."""
    ledger = request.app[SERVICE].ledger
    body = await anyio.to_thread.run_sync(_encode, ledger.summary(), tuple(ledger.entries))
    return web.Response(body=body, content_type="application/json", charset="utf-8")


async def show_faults(request: web.Request) -> web.Response:
    """Answer with the faults that are made, and how often each has happened."""
    return _shown(request.app[SERVICE])


async def add_faults(request: web.Request) -> web.Response:
    """Make more faults: the body is one, a list of them, or `{"faults": [...]}`.

    Raises:
        Refusal: 400, naming the entry and the field that is wrong; none is added then.
    """
    service = request.app[SERVICE]
    try:
        faults = parse_faults(json.loads(await request.read()))
    except (ValueError, RecursionError) as error:
        raise bad_request(str(error)) from error
    service.faults.add(*faults)
    return _shown(service)


async def clear_faults(request: web.Request) -> web.Response:
    """Make no more faults."""
    service = request.app[SERVICE]
    service.faults.clear()
    return _shown(service)


def _encode(summary: dict[str, Any], entries: tuple[Entry, ...]) -> bytes:
    return json.dumps(summary | {"entries": [asdict(entry) for entry in entries]}).encode()


def _shown(service: Service) -> web.Response:
    shown = [fault_as_json(fault) | {"happened": count} for fault, count in service.faults.happened]
    return json_response({"faults": shown})
