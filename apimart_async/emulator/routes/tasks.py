"""How tasks are doing: one, many, and one the old way."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, cast

from aiohttp import web

from apimart_async.emulator import shapes
from apimart_async.emulator.hosting import result_urls
from apimart_async.emulator.mischief import FAULT
from apimart_async.emulator.reading import read_payload
from apimart_async.emulator.replies import bad_request, json_response, not_found
from apimart_async.emulator.service import SERVICE, Service, origin

if TYPE_CHECKING:
    from apimart_async.emulator.tasks import Task

MOST_TASKS = 100
"""How many tasks one `POST /v1/tasks/batch` may name."""

_ENGLISH = "en"


async def read_task(request: web.Request) -> web.Response:
    """Answer with a task's state.

    Raises:
        Refusal: 404, when it does not exist or is too old.
    """
    service = request.app[SERVICE]
    task = _find(service, request.match_info["task_id"])
    language = request.query.get("language", _ENGLISH)
    return json_response({"code": 200, "data": await _shown(request, service, task, language)})


async def read_tasks(request: web.Request) -> web.Response:
    """Answer with the states of up to 100 tasks; those that do not exist are left out.

    Raises:
        Refusal: 400 for a malformed body, 404 when this emulator has no such path.
    """
    service = request.app[SERVICE]
    shape = service.settings.batch
    if shape is None:
        raise web.HTTPNotFound
    fields = (await read_payload(request)).fields
    wanted = _identifiers(fields.get("task_ids"))
    language = fields.get("language")
    language = language if isinstance(language, str) else request.query.get("language", _ENGLISH)
    found = [task for task in map(service.tasks.get, wanted) if task is not None]
    return json_response(
        shapes.batch([await _shown(request, service, task, language) for task in found], shape)
    )


async def read_task_the_old_way(request: web.Request) -> web.Response:
    """Answer with a task's state as the oldest documentation says.

    Raises:
        Refusal: 404, when the task does not exist or this emulator has no such path.
    """
    service = request.app[SERVICE]
    if not service.settings.compat:
        raise web.HTTPNotFound
    task = _find(service, request.match_info["task_id"])
    language = request.query.get("language", _ENGLISH)
    now = service.clock.now()
    return json_response(
        shapes.old_task_object(task, now, urls=result_urls(origin(request), task), language=language)
    )


def _find(service: Service, task_id: str) -> Task:
    task = service.tasks.get(task_id) if task_id.startswith("task_") else None
    if task is None:
        raise not_found(f"task {task_id} does not exist or expired")
    return task


def _identifiers(value: object) -> list[str]:
    if not isinstance(value, list) or not value:
        raise bad_request("task_ids must be a list of strings with at least one entry")
    entries = cast("list[object]", value)
    if len(entries) > MOST_TASKS:
        raise bad_request(f"task_ids may have at most {MOST_TASKS} entries, not {len(entries)}")
    identifiers = [entry for entry in entries if isinstance(entry, str)]
    if len(identifiers) < len(entries):
        raise bad_request("task_ids must be a list of strings")
    return identifiers


async def _shown(request: web.Request, service: Service, task: Task, language: str) -> shapes.Json:
    turn = service.turn("task")
    now = service.clock.now()
    images = shapes.IMAGE_SHAPES[turn % len(shapes.IMAGE_SHAPES)]
    urls: list[str] = []
    if task.status(now) == "completed":
        urls = await _inline(service, task) if images == "inline" else result_urls(origin(request), task)
    shown = shapes.task_object(
        task,
        now,
        estimate=service.estimate,
        expires_at=task.finished_at + service.settings.result_ttl,
        urls=urls,
        language=language,
        spelling=turn,
        images=images,
    )
    if FAULT.get() == "unknown-status":
        shown["status"] = "reticulating"
    return shown


async def _inline(service: Service, task: Task) -> list[str]:
    images = [await service.darkroom.develop(task.recipe, index) for index in range(task.images)]
    return [f"data:{task.recipe.content_type};base64,{base64.b64encode(image).decode()}" for image in images]
