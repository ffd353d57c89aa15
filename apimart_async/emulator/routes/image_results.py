"""AppleRouter's answers: the images, their URLs, or a stream of events."""

from __future__ import annotations

import base64
import io
import json
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import anyio
from aiohttp import web
from PIL import Image

from apimart_async.emulator.execution import execute
from apimart_async.emulator.fault_injection import CURRENT_FAULT, IS_DISTORTED
from apimart_async.emulator.file_host import result_urls
from apimart_async.emulator.responses import ServiceError, json_response
from apimart_async.emulator.service import REQUEST_ID, SERVICE, Service, origin
from apimart_async.emulator.spellings import BASE64_SPELLINGS, inline_image

from .image_options import DALL_E_2

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping

    from apimart_async.emulator.execution import Submission
    from apimart_async.emulator.tasks import Task

    from .image_options import ImageOptions

_COARSEST = 32
_SVG: Final = (
    '<svg xmlns="http://www.w3.org/2000/svg" width="{}" height="{}"><image width="100%" height="100%" '
    'href="data:image/png;base64,{}"/></svg>'
)
_ERROR: Final = {
    "type": "server_error",
    "code": "server_error",
    "message": "The image could not be finished.",
    "param": None,
}


async def answer(
    request: web.Request, submission: Submission, options: ImageOptions, kind: str
) -> web.StreamResponse:
    """Execute a checked request, and answer after the duration of a task, or in its course.

    Args:
        request: The request.
        submission: To execute.
        options: The fields of the request.
        kind: "image_edit" or "image_generation", for the names of the events.

    Raises:
        ServiceError: 400 for a prompt that is moderated, 402 for the balance.
    """
    service = request.app[SERVICE]
    if submission.moderated:
        raise ServiceError(
            status=400,
            code="content_policy_violation",
            message="Your request was rejected as a result of our safety system.",
        )
    task = await execute(service, submission)
    if options.stream:
        return await _stream(request, service, task, options, kind)
    await anyio.sleep(task.seconds)
    if options.inline:
        data = await _inline(service, task, options)
    else:
        data = [{"url": url} for url in result_urls(origin(request), task)]
    body: dict[str, Any] = {"created": int(task.finished_at), "data": data}
    # Only newer models count tokens.
    return json_response(body if options.model == DALL_E_2 else body | {"usage": _usage(task)})


async def _stream(
    request: web.Request, service: Service, task: Task, options: ImageOptions, kind: str
) -> web.StreamResponse:
    events = _events(service, task, options, kind)
    if IS_DISTORTED.get():
        body = b"".join([event async for event in events])
        return web.Response(body=body, content_type="text/event-stream")
    headers = {"x-request-id": REQUEST_ID.get(), **service.rate_limits.headers()}
    response = web.StreamResponse(headers=headers | {"Content-Type": "text/event-stream; charset=utf-8"})
    await response.prepare(request)
    async for event in events:
        await response.write(event)
        if CURRENT_FAULT.get() == "stream-cut" and request.transport is not None:
            request.transport.abort()
            return response
    await response.write_eof()
    return response


async def _events(service: Service, task: Task, options: ImageOptions, kind: str) -> AsyncGenerator[bytes]:
    """Yield the events of all images, each preview in its course."""
    pause = task.seconds / (task.images * (options.previews + 1))
    for index in range(task.images):
        content = await _content(service, task, index, options)
        for number in range(options.previews):
            await anyio.sleep(pause)
            preview = await service.store.in_thread(partial(_coarse, content, _COARSEST >> number))
            found = _event(f"{kind}.partial_image", preview, service, options)
            yield _written(found | {"partial_image_index": number})
        await anyio.sleep(pause)
        if CURRENT_FAULT.get() == "stream-error":
            yield b"event: error\ndata: " + json.dumps({"error": _ERROR}).encode() + b"\n\n"
            return
        found = _event(f"{kind}.completed", content, service, options)
        yield _written(found | {"usage": _usage(task)})


def _event(name: str, content: bytes, service: Service, options: ImageOptions) -> dict[str, Any]:
    packed = base64.b64encode(content).decode()
    return {"type": name, "b64_json": packed, "created_at": int(service.clock.now()), **options.given}


def _written(event: Mapping[str, Any]) -> bytes:
    return f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode()


async def _inline(service: Service, task: Task, options: ImageOptions) -> list[dict[str, str]]:
    images = [await _content(service, task, index, options) for index in range(task.images)]
    spelling = BASE64_SPELLINGS[service.next_variant("base64") % len(BASE64_SPELLINGS)]
    return [inline_image(image, f"image/{options.format or 'png'}", spelling) for image in images]


async def _content(service: Service, task: Task, index: int, options: ImageOptions) -> bytes:
    """Return an image in the requested format."""
    content = await service.renderer.render(task.spec, index)
    if options.format is None:
        return content
    return await service.store.in_thread(partial(_encoded, content, options.format))


def _encoded(content: bytes, wanted: str) -> bytes:
    if wanted == "svg":
        with Image.open(io.BytesIO(content)) as image:
            return _SVG.format(*image.size, base64.b64encode(content).decode()).encode()
    with Image.open(io.BytesIO(content)) as image:
        file = io.BytesIO()
        (image.convert("RGB") if wanted == "jpeg" else image).save(file, wanted.upper())
        return file.getvalue()


def _coarse(content: bytes, divisor: int) -> bytes:
    """Return a preview: the image with pixels of this size."""
    with Image.open(io.BytesIO(content)) as image:
        small = image.resize((max(1, image.width // divisor), max(1, image.height // divisor)))
        file = io.BytesIO()
        small.resize(image.size, Image.Resampling.NEAREST).save(file, image.format or "PNG")
        return file.getvalue()


def _usage(task: Task) -> dict[str, Any]:
    """Return the tokens of an answer: more for more images."""
    output = 1_000 * task.images
    details = {"text_tokens": 10, "image_tokens": 40}
    return {
        "input_tokens": 50,
        "input_tokens_details": details,
        "output_tokens": output,
        "total_tokens": 50 + output,
    }
