"""The file host: its URLs, its uploads and results until they expire, and the images that URLs refer to."""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING, Final
from urllib.parse import SplitResult, urlsplit

from .image_store import EXTENSIONS, SNIFF_BYTES, sniff
from .renderer import Placeholder, StoredImage
from .responses import ServiceError, bad_request, not_found, too_large, unsupported_image
from .service import SERVICE
from .settings import UPLOAD_LIMIT

if TYPE_CHECKING:
    from aiohttp import web

    from .image_store import ImageStore, Upload
    from .service import Service
    from .tasks import Task

FILES_PATH: Final = "/files/"
UPLOADS_PATH: Final = "/files/uploads/"
RESULTS_PATH: Final = "/files/results/"

_LABEL_LENGTH = 60


def find_upload(service: Service, name: str) -> Upload:
    """Return the upload with a name such as `01J….png`.

    Raises:
        ServiceError: 404 for an unknown name, 410 for an expired upload.
    """
    upload = service.store.upload(name.partition(".")[0])
    if upload is None:
        raise not_found("no such file")
    expired = upload.created_at + service.settings.upload_ttl <= service.clock.now()
    if expired or upload.digest not in service.store:
        raise _expired()
    return upload


def find_result(service: Service, task_id: str, name: str) -> tuple[Task, int]:
    """Return a completed task and the number of its image with a name such as `image_0.jpg`.

    Raises:
        ServiceError: 404 unless the task has completed with such an image, 410 for an expired image.
    """
    task = service.tasks.get(task_id)
    now = service.clock.now()
    if task is None or task.status(now) != "completed" or name not in (names := _result_names(task)):
        raise not_found("no such file")
    if task.finished_at + service.settings.result_ttl <= now:
        raise _expired()
    return task, names.index(name)


def result_urls(origin: str, task: Task) -> list[str]:
    """Return the URLs of a task's images under an origin such as `http://127.0.0.1:8080`."""
    return [f"{origin}{RESULTS_PATH}{task.id}/{name}" for name in _result_names(task)]


async def load_image(url: str, *, field: str, request: web.Request) -> StoredImage | Placeholder:
    """Return the image that a URL in a request refers to; no URL is ever fetched.

    Args:
        url: The URL: of an upload or a result, a data URL, or a foreign one.
        field: The request field, for error messages.
        request: The request.

    Raises:
        ServiceError: 400 for a malformed URL, a missing or expired file, or a type that is not accepted;
            413 for an image that is too large.
    """
    service = request.app[SERVICE]
    if url.startswith("data:"):
        return StoredImage(await service.store.add(await _decode_data_url(url, field, service.store)))
    parts = _split(url)
    if parts is None:
        raise bad_request(f"{field} must be an http(s) URL or a base64 data URL of an image")
    if not parts.path.startswith(FILES_PATH) or parts.netloc not in {request.host, *service.hosts}:
        return Placeholder(f"{parts.scheme}://{parts.hostname}"[:_LABEL_LENGTH])
    try:
        return await _load_file(service, parts.path)
    except ServiceError as error:
        raise bad_request(f"{field}: {error.message}") from error


async def _load_file(service: Service, path: str) -> StoredImage:
    if path.startswith(UPLOADS_PATH):
        return StoredImage(find_upload(service, path.removeprefix(UPLOADS_PATH)).digest)
    if not path.startswith(RESULTS_PATH):
        raise not_found("no such file")
    task_id, _, name = path.removeprefix(RESULTS_PATH).partition("/")
    task, index = find_result(service, task_id, name)
    return StoredImage(await service.store.add(await service.renderer.render(task.spec, index)))


def _split(url: str) -> SplitResult | None:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname)
    except ValueError:
        return None
    return parts if usable else None


async def _decode_data_url(url: str, field: str, store: ImageStore) -> bytes:
    head, comma, encoded = url.partition(",")
    if not comma or not head.startswith("data:image/") or not head.endswith(";base64"):
        raise bad_request(f"{field} must be a data URL of the form data:image/<type>;base64,<data>")
    try:
        content = await store.in_thread(base64.b64decode, encoded, validate=True)
    except (binascii.Error, ValueError) as error:
        raise bad_request(f"{field} is not valid base64") from error
    if len(content) > UPLOAD_LIMIT:
        raise too_large(len(content), UPLOAD_LIMIT)
    kind = sniff(content[:SNIFF_BYTES])
    if kind not in EXTENSIONS:
        raise unsupported_image(kind)
    return content


def _result_names(task: Task) -> list[str]:
    return [f"image_{index}.{task.spec.extension}" for index in range(task.images)]


def _expired() -> ServiceError:
    return ServiceError(status=410, type="invalid_request_error", message="the file has expired")
