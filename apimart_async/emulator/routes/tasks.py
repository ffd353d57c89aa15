"""Polling: one task, a batch of tasks, and one task on the path of the oldest documentation."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, cast

from aiohttp import web

from apimart_async.emulator.fault_injection import CURRENT_FAULT
from apimart_async.emulator.file_host import result_urls
from apimart_async.emulator.request_parsing import read_payload
from apimart_async.emulator.responses import bad_request, json_response, not_found
from apimart_async.emulator.service import SERVICE, Service, origin
from apimart_async.emulator.task_responses import (
    IMAGE_VARIANTS,
    INLINE_VARIANTS,
    batch_body,
    legacy_task_body,
    task_body,
)

if TYPE_CHECKING:
    from apimart_async.emulator.task_responses import ImageVariant, Json
    from apimart_async.emulator.tasks import Task

MAX_TASKS = 100
"""How many tasks one `POST /v1/tasks/batch` may name."""

_ENGLISH = "en"
_WITHOUT_RESULTS = 3
"""Of how many batch responses one lacks the results, with `variants`."""


async def read_task(request: web.Request) -> web.Response:
    """Return the state of a task.

    Raises:
        ServiceError: 404 for an unknown or forgotten task.
    """
    service = request.app[SERVICE]
    task = _find(service, request.match_info["task_id"])
    language = request.query.get("language", _ENGLISH)
    return json_response({"code": 200, "data": await _body(request, service, task, language)})


async def read_tasks(request: web.Request) -> web.Response:
    """Return the states of up to 100 tasks, without those that are unknown.

    Raises:
        ServiceError: 400 for a malformed body.
        web.HTTPNotFound: This emulator has no such path.
    """
    service = request.app[SERVICE]
    variant = service.settings.batch
    if variant is None:
        raise web.HTTPNotFound
    fields = (await read_payload(request)).fields
    requested = _task_ids(fields.get("task_ids"))
    language = fields.get("language")
    language = language if isinstance(language, str) else request.query.get("language", _ENGLISH)
    found = [task for task in map(service.tasks.get, requested) if task is not None]
    bodies = [await _body(request, service, task, language) for task in found]
    if service.next_variant("batch") % _WITHOUT_RESULTS == 1:
        for body in bodies:
            for name in ("result", "data", "output"):
                body.pop(name, None)
    return json_response(batch_body(bodies, variant))


async def read_task_legacy(request: web.Request) -> web.Response:
    """Return the state of a task in the form of the oldest documentation.

    Raises:
        ServiceError: 404 for an unknown or forgotten task.
        web.HTTPNotFound: This emulator has no such path.
    """
    service = request.app[SERVICE]
    if not service.settings.compat:
        raise web.HTTPNotFound
    task = _find(service, request.match_info["task_id"])
    language = request.query.get("language", _ENGLISH)
    urls = result_urls(origin(request), task)
    return json_response(legacy_task_body(task, service.clock.now(), urls=urls, language=language))


def _find(service: Service, task_id: str) -> Task:
    task = service.tasks.get(task_id) if task_id.startswith("task_") else None
    if task is None:
        raise not_found(f"task {task_id} does not exist or expired")
    return task


def _task_ids(value: object) -> list[str]:
    if not isinstance(value, list) or not value:
        raise bad_request("task_ids must be a list of strings with at least one entry")
    entries = cast("list[object]", value)
    if len(entries) > MAX_TASKS:
        raise bad_request(f"task_ids may have at most {MAX_TASKS} entries, not {len(entries)}")
    task_ids = [entry for entry in entries if isinstance(entry, str)]
    if len(task_ids) < len(entries):
        raise bad_request("task_ids must be a list of strings")
    return task_ids


async def _body(request: web.Request, service: Service, task: Task, language: str) -> Json:
    number = service.next_variant("task")
    images = IMAGE_VARIANTS[number % len(IMAGE_VARIANTS)]
    body = await describe_task(request, service, task, images=images, language=language, spelling=number)
    if CURRENT_FAULT.get() == "unknown-status":
        body["status"] = "reticulating"
    return body


async def describe_task(
    request: web.Request,
    service: Service,
    task: Task,
    *,
    images: ImageVariant,
    language: str = _ENGLISH,
    spelling: int = 0,
) -> Json:
    """Return the body that describes a task in its state at this moment."""
    now = service.clock.now()
    urls: list[str] = []
    if task.status(now) == "completed":
        is_inline = images in INLINE_VARIANTS
        urls = await _data_urls(service, task) if is_inline else result_urls(origin(request), task)
    body = task_body(
        task,
        now,
        estimate=service.estimate,
        expires_at=task.finished_at + service.settings.result_ttl + service.settings.clock_offset,
        urls=urls,
        language=language,
        spelling=spelling,
        images=images,
    )
    for name, moment in (("created", task.submitted_at), ("completed", task.finished_at)):
        if name in body:
            body[name] = service.settings.shown(moment)
    return body


async def _data_urls(service: Service, task: Task) -> list[str]:
    images = [await service.renderer.render(task.spec, index) for index in range(task.images)]
    return [f"data:{task.spec.content_type};base64,{base64.b64encode(image).decode()}" for image in images]
