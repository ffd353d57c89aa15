"""`POST /v1/uploads/images`: a picture becomes a public address."""

from __future__ import annotations

from aiohttp import web

from apimart_async.emulator.hosting import UPLOADS_PATH
from apimart_async.emulator.identifiers import ulid
from apimart_async.emulator.pictures import Pictures, Upload
from apimart_async.emulator.receiving import MISSING_FILE, Received, next_part, open_parts, receive_picture
from apimart_async.emulator.replies import bad_request, json_response
from apimart_async.emulator.service import SERVICE, origin
from apimart_async.emulator.sniffing import EXTENSIONS


async def create_upload(request: web.Request) -> web.Response:
    """Keep an uploaded picture and answer with where it is.

    Raises:
        Refusal: 400 or 413, worded as documented.
    """
    service = request.app[SERVICE]
    received = await _receive(request, service.pictures)
    now = service.clock.now()
    upload = Upload(ulid(now), received.digest, received.content_type, received.size, now)
    service.pictures.publish(upload)
    return json_response(
        {
            "url": f"{origin(request)}{UPLOADS_PATH}{upload.id}.{EXTENSIONS[upload.content_type]}",
            "filename": received.filename,
            "content_type": upload.content_type,
            "bytes": upload.size,
            "created_at": int(upload.created_at),
        }
    )


async def _receive(request: web.Request, pictures: Pictures) -> Received:
    reader = await open_parts(request)
    while (part := await next_part(reader)) is not None:
        if part.name == "file" and part.filename is not None:
            return await receive_picture(part, pictures)
    raise bad_request(MISSING_FILE)
