"""The routes of the emulator and their request handlers."""

from __future__ import annotations

from aiohttp import web

from apimart_async.emulator.routing import ROUTER_PATH

from .account import read_balance, read_usage
from .applerouter import create_router_edit, generate_json
from .catalogue import list_marketplace, list_models, list_prices, read_docs, read_schema
from .controls import add_faults, clear_faults, show_faults, show_ledger
from .files import create_upload, read_result, read_upload
from .images import create_edit, create_generation
from .tasks import read_task, read_task_legacy, read_tasks

ROUTES = (
    web.post("/v1/uploads/images", create_upload),
    web.post("/v1/images/edits", create_edit),
    web.post("/v1/images/edits/", create_edit),
    web.post("/v1/images/generations", create_generation),
    web.post("/v1/images/generations/", generate_json),
    web.get("/v1/images/generations/{task_id}", read_task_legacy),
    web.get("/v1/tasks/{task_id}", read_task),
    web.post("/v1/tasks/batch", read_tasks),
    web.get("/v1/balance", read_balance),
    web.get("/v1/user/balance", read_balance),
    web.get("/v1/usage", read_usage),
    web.get("/v1/models", list_models),
    web.get("/v1/models/{model}/schema", read_schema),
    web.get("/v1/model-schema", read_schema),
    web.get("/v1/model-docs", read_docs),
    web.get("/api/pricing/model", list_prices),
    web.get("/api/marketplace/models", list_marketplace),
    web.get("/files/uploads/{name}", read_upload),
    web.get("/files/results/{task_id}/{name}", read_result),
    web.get("/emulator/ledger", show_ledger),
    web.get("/emulator/faults", show_faults),
    web.post("/emulator/faults", add_faults),
    web.delete("/emulator/faults", clear_faults),
)
"""Every path the emulator serves, but for the prefix of AppleRouter."""

_ROUTER = f"{ROUTER_PATH}/v1/images"
ROUTER_ROUTES = (
    *(web.post(f"{_ROUTER}/edits{end}", create_router_edit) for end in ("", "/")),
    *(web.post(f"{_ROUTER}/generations{end}", generate_json) for end in ("", "/")),
    web.get(f"{ROUTER_PATH}/v1/models", list_models),
)
"""The paths that AppleRouter and APIMart share, under the prefix that tells one from the other."""
