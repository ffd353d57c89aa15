"""Uploads, and the public file host that serves uploads and results until they expire."""

from __future__ import annotations

from aiohttp import web

from apimart_async.emulator.file_host import UPLOADS_PATH, find_result, find_upload
from apimart_async.emulator.image_store import EXTENSIONS, ImageStore, Upload
from apimart_async.emulator.multipart import (
    MISSING_FILE,
    StoredPart,
    next_part,
    open_multipart,
    store_image,
)
from apimart_async.emulator.responses import bad_request, json_response
from apimart_async.emulator.service import SERVICE, origin, ulid


async def create_upload(request: web.Request) -> web.Response:
    """Store an uploaded image and return its URL.

    Raises:
        ServiceError: 400 or 413, worded as documented.
    """
    service = request.app[SERVICE]
    part = await _store_file(request, service.store)
    now = service.clock.now()
    upload = Upload(ulid(now), part.digest, part.content_type, part.size, now)
    service.store.publish(upload)
    body = {
        "url": f"{origin(request)}{UPLOADS_PATH}{upload.id}.{EXTENSIONS[upload.content_type]}",
        "filename": part.filename,
        "content_type": upload.content_type,
        "bytes": upload.size,
        "created_at": service.settings.shown(upload.created_at),
    }
    variants: tuple[object, ...] = (body, {"code": 200, "data": body}, {"code": 200, "data": [body]})
    return json_response(variants[service.next_variant("upload") % len(variants)])


async def read_upload(request: web.Request) -> web.StreamResponse:
    """Return an uploaded image.

    Raises:
        ServiceError: 404 for an unknown name, 410 for an expired upload.
    """
    service = request.app[SERVICE]
    upload = find_upload(service, request.match_info["name"])
    content = await service.store.read(upload.digest)
    return web.Response(body=content, content_type=upload.content_type)


async def read_result(request: web.Request) -> web.StreamResponse:
    """Return an image of a completed task, rendered on the first request.

    Raises:
        ServiceError: 404 unless the task has completed with such an image, 410 for an expired image.
    """
    service = request.app[SERVICE]
    task, index = find_result(service, request.match_info["task_id"], request.match_info["name"])
    content = await service.renderer.render(task.spec, index)
    return web.Response(body=content, content_type=task.spec.content_type)


async def _store_file(request: web.Request, store: ImageStore) -> StoredPart:
    reader = await open_multipart(request)
    while (part := await next_part(reader)) is not None:
        if part.name == "file" and part.filename is not None:
            return await store_image(part, store)
    raise bad_request(MISSING_FILE)
