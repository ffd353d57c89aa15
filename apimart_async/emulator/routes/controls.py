"""The emulator's own endpoints: its ledger and its faults, for clients in other processes and languages."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import anyio.to_thread
from aiohttp import web
from attrs import asdict

from apimart_async.emulator.faults import fault_as_json, parse_faults
from apimart_async.emulator.responses import bad_request, json_bytes, json_response
from apimart_async.emulator.service import SERVICE, Service

if TYPE_CHECKING:
    from apimart_async.emulator.ledger import Entry


async def show_ledger(request: web.Request) -> web.Response:
    """Return the summary and the entries of the ledger."""
    ledger = request.app[SERVICE].ledger
    body = await anyio.to_thread.run_sync(_encode_ledger, ledger.summary(), tuple(ledger.entries))
    return json_bytes(body)


async def show_faults(request: web.Request) -> web.Response:
    """Return the faults, and how often each has been injected."""
    return _faults_response(request.app[SERVICE])


async def add_faults(request: web.Request) -> web.Response:
    """Add faults: the body is one, a list of them, or `{"faults": [...]}`.

    Raises:
        ServiceError: 400, naming the wrong entry and field; no fault is added then.
    """
    service = request.app[SERVICE]
    try:
        service.faults.add(*parse_faults(json.loads(await request.read())))
    except (ValueError, RecursionError) as error:
        raise bad_request(str(error)) from error
    return _faults_response(service)


async def clear_faults(request: web.Request) -> web.Response:
    """Remove all faults."""
    service = request.app[SERVICE]
    service.faults.clear()
    return _faults_response(service)


def _encode_ledger(summary: dict[str, Any], entries: tuple[Entry, ...]) -> bytes:
    return json.dumps(summary | {"entries": [asdict(entry) for entry in entries]}).encode()


def _faults_response(service: Service) -> web.Response:
    faults = [fault_as_json(fault) | {"happened": count} for fault, count in service.faults.happened]
    return json_response({"faults": faults})
