"""The file host: uploads and results, public, until they expire."""

from __future__ import annotations

from aiohttp import web

from apimart_async.emulator.hosting import find_result, find_upload
from apimart_async.emulator.service import SERVICE


async def read_upload(request: web.Request) -> web.StreamResponse:
    """Answer with an uploaded picture.

    Raises:
        Refusal: 404, when there never was one; 410, when it has expired.
    """
    service = request.app[SERVICE]
    upload = find_upload(service, request.match_info["name"])
    content = await service.pictures.read(upload.digest)
    return web.Response(body=content, content_type=upload.content_type)


async def read_result(request: web.Request) -> web.StreamResponse:
    """Answer with an image of a completed task, drawn when it is first asked for.

    Raises:
        Refusal: 404, when there is none (yet); 410, when it has expired.
    """
    service = request.app[SERVICE]
    task, index = find_result(service, request.match_info["task_id"], request.match_info["name"])
    content = await service.darkroom.develop(task.recipe, index)
    return web.Response(body=content, content_type=task.recipe.content_type)
