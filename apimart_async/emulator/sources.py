"""What an address stands for: an own upload or result, an inline picture, or one that is not fetched."""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, urlsplit

from .hosting import FILES_PATH, RESULTS_PATH, UPLOADS_PATH, find_result, find_upload
from .recipes import Placeholder, Stored
from .replies import Refusal, bad_request, not_found, too_large, unsupported_image
from .service import SERVICE
from .settings import UPLOAD_LIMIT
from .sniffing import EXTENSIONS, SNIFF_BYTES, content_type

if TYPE_CHECKING:
    from aiohttp import web

    from .pictures import Pictures
    from .service import Service

_LABEL = 60


async def resolve(address: str, *, where: str, request: web.Request) -> Stored | Placeholder:
    """Turn an address from a request into something to draw from, without ever fetching it.

    Args:
        address: The address.
        where: The field it was given in, for error messages.
        request: The request.

    Raises:
        Refusal: 400, when it is no address, its file is not there (any more), or it holds no accepted
            picture; 413, when it holds too large a one.
    """
    service = request.app[SERVICE]
    if address.startswith("data:"):
        return Stored(await service.pictures.keep(await _inline(address, where, service.pictures)))
    parts = _split(address)
    if parts is None:
        raise bad_request(f"{where} must be an http(s) URL or a base64 data URL of an image")
    if not parts.path.startswith(FILES_PATH) or parts.netloc not in {request.host, *service.hosts}:
        return Placeholder(f"{parts.scheme}://{parts.hostname}"[:_LABEL])
    try:
        return await _own(service, parts.path)
    except Refusal as error:
        raise bad_request(f"{where}: {error.message}") from error


async def _own(service: Service, path: str) -> Stored:
    if path.startswith(UPLOADS_PATH):
        return Stored(find_upload(service, path.removeprefix(UPLOADS_PATH)).digest)
    if not path.startswith(RESULTS_PATH):
        raise not_found("no such file")
    task_id, _, name = path.removeprefix(RESULTS_PATH).partition("/")
    task, index = find_result(service, task_id, name)
    return Stored(await service.pictures.keep(await service.darkroom.develop(task.recipe, index)))


def _split(address: str) -> SplitResult | None:
    try:
        parts = urlsplit(address)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname)
    except ValueError:
        return None
    return parts if usable else None


async def _inline(address: str, where: str, pictures: Pictures) -> bytes:
    head, comma, encoded = address.partition(",")
    if not comma or not head.startswith("data:image/") or not head.endswith(";base64"):
        raise bad_request(f"{where} must be a data URL of the form data:image/<type>;base64,<data>")
    try:
        content = await pictures.in_thread(base64.b64decode, encoded, validate=True)
    except (binascii.Error, ValueError) as error:
        raise bad_request(f"{where} is not valid base64") from error
    if len(content) > UPLOAD_LIMIT:
        raise too_large(len(content), UPLOAD_LIMIT)
    kind = content_type(content[:SNIFF_BYTES])
    if kind not in EXTENSIONS:
        raise unsupported_image(kind)
    return content
