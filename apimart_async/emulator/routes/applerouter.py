"""AppleRouter's `POST /v1/images/edits`: multipart, answered with the images themselves."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

import anyio
from aiohttp import web

from apimart_async.emulator.executing import Order, execute
from apimart_async.emulator.forms import check_form, read_form
from apimart_async.emulator.hosting import result_urls
from apimart_async.emulator.recipes import Stored
from apimart_async.emulator.replies import Refusal, json_response
from apimart_async.emulator.service import SERVICE, Service, origin

if TYPE_CHECKING:
    from apimart_async.emulator.tasks import Task


async def edit_at_once(request: web.Request) -> web.Response:
    """Edit a picture and answer, after as long as a task takes, with its images.

    Raises:
        Refusal: 400 for what is missing, malformed or beyond the published limits; 402 for the balance.
    """
    service = request.app[SERVICE]
    form = await read_form(request, service.pictures)
    asked = await check_form(form, service.pictures)
    image = form.images[0].digest
    seen = await service.pictures.inspect(image)
    mask = form.mask.digest if form.mask else image if seen.transparent else None
    order = Order(
        endpoint="applerouter",
        model=asked.model,
        prompt=asked.prompt,
        images=asked.images,
        source=Stored(image),
        mask=mask,
        size=asked.size,
        png=True,
        payload=form.digest,
    )
    if order.moderated:
        raise Refusal(
            status=400,
            code="content_policy_violation",
            message="Your request was rejected as a result of our safety system.",
        )
    if seen.size is None:
        raise Refusal(status=400, param="image", message="image could not be read")
    task = await execute(service, order)
    await anyio.sleep(task.seconds)
    images = await _inline(service, task) if asked.inline else _linked(request, task)
    return json_response({"created": int(task.finished_at), "data": images})


def _linked(request: web.Request, task: Task) -> list[dict[str, str]]:
    return [{"url": url} for url in result_urls(origin(request), task)]


async def _inline(service: Service, task: Task) -> list[dict[str, str]]:
    images = [await service.darkroom.develop(task.recipe, index) for index in range(task.images)]
    return [{"b64_json": base64.b64encode(image).decode()} for image in images]
