"""The routes of the emulator, one module per room."""

from __future__ import annotations

from aiohttp import web

from .account import list_models, read_balance
from .controls import add_faults, clear_faults, show_faults, show_ledger
from .edits import create_edit
from .files import read_result, read_upload
from .generations import create_generation
from .tasks import read_task, read_task_the_old_way, read_tasks
from .uploads import create_upload

ROUTES = (
    web.post("/v1/uploads/images", create_upload),
    web.post("/v1/images/edits", create_edit),
    web.post("/v1/images/edits/", create_edit),
    web.post("/v1/images/generations", create_generation),
    web.get("/v1/images/generations/{task_id}", read_task_the_old_way),
    web.get("/v1/tasks/{task_id}", read_task),
    web.post("/v1/tasks/batch", read_tasks),
    web.get("/v1/balance", read_balance),
    web.get("/v1/user/balance", read_balance),
    web.get("/v1/models", list_models),
    web.get("/files/uploads/{name}", read_upload),
    web.get("/files/results/{task_id}/{name}", read_result),
    web.get("/emulator/ledger", show_ledger),
    web.get("/emulator/faults", show_faults),
    web.post("/emulator/faults", add_faults),
    web.delete("/emulator/faults", clear_faults),
)
"""Every path the emulator answers on."""
