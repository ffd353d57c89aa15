"""AppleRouter's `POST /v1/images/edits`: a multipart form, answered with the images themselves."""

from __future__ import annotations

import hashlib
import json
import re
from typing import TYPE_CHECKING, Final

import anyio
from aiohttp import web
from attrs import define, field, frozen

from apimart_async.emulator.execution import Submission, execute
from apimart_async.emulator.file_host import result_urls
from apimart_async.emulator.multipart import StoredPart, next_part, open_multipart, read_text, store_image
from apimart_async.emulator.renderer import StoredImage
from apimart_async.emulator.request_parsing import MAX_IMAGES, parse_size
from apimart_async.emulator.responses import ServiceError, json_response
from apimart_async.emulator.service import SERVICE, Service, origin
from apimart_async.emulator.spellings import BASE64_SPELLINGS, inline_image

if TYPE_CHECKING:
    from aiohttp import BodyPartReader

    from apimart_async.emulator.image_store import ImageStore, Inspection
    from apimart_async.emulator.tasks import Task

DALL_E_2: Final = "dall-e-2"
"""The default model, and the only one with published limits."""

_IMAGE_LIMIT = 50 * 1024 * 1024
_DALL_E_LIMIT = 4 * 1024 * 1024
_DALL_E_PROMPT = 1000
_DALL_E_SIZES = ("256x256", "512x512", "1024x1024")
_MAX_INPUTS = 16
_MAX_PARTS = 64
_TEXT_LIMIT = 128 * 1024
_IMAGE_FIELDS = {"image", "image[]", "mask"}


@define
class _Form:
    """The parts of the body: stored images, and text by field."""

    images: list[StoredPart] = field(factory=list[StoredPart])
    mask: StoredPart | None = None
    text: dict[str, str] = field(factory=dict[str, str])

    @property
    def digest(self) -> str:
        """Digest of the request, in which images count by their content."""
        images = [image.digest for image in self.images]
        content = [self.text, images, self.mask.digest if self.mask else None]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


@frozen(kw_only=True)
class _EditRequest:
    """The checked text fields of a form."""

    model: str
    prompt: str
    images: int
    size: tuple[int, int] | None
    inline: bool


async def edit_multipart(request: web.Request) -> web.Response:
    """Edit an image and return the results after the duration of a task.

    Raises:
        ServiceError: 400 for a missing or malformed field and beyond the published limits, 402 for the
            balance, 413 for an image that is too large.
    """
    service = request.app[SERVICE]
    form = await _read_form(request, service.store)
    parsed = await _check_form(form, service.store)
    image = form.images[0].digest
    inspection = await service.store.inspect(image)
    mask = form.mask.digest if form.mask else image if inspection.transparent else None
    submission = Submission(
        endpoint="applerouter",
        model=parsed.model,
        prompt=parsed.prompt,
        images=parsed.images,
        source=StoredImage(image),
        mask=mask,
        size=parsed.size,
        png=True,
        payload=form.digest,
    )
    if submission.moderated:
        raise ServiceError(
            status=400,
            code="content_policy_violation",
            message="Your request was rejected as a result of our safety system.",
        )
    if inspection.size is None:
        raise _invalid("image", "image could not be read")
    if form.mask and (await service.store.inspect(form.mask.digest)).size is None:
        raise _invalid("mask", "mask could not be read")
    task = await execute(service, submission)
    await anyio.sleep(task.seconds)
    if parsed.inline:
        data = await _inline(service, task)
    else:
        data = [{"url": url} for url in result_urls(origin(request), task)]
    return json_response({"created": int(task.finished_at), "data": data})


async def _inline(service: Service, task: Task) -> list[dict[str, str]]:
    images = [await service.renderer.render(task.spec, index) for index in range(task.images)]
    spelling = BASE64_SPELLINGS[service.next_variant("base64") % len(BASE64_SPELLINGS)]
    return [inline_image(image, task.spec.content_type, spelling) for image in images]


async def _read_form(request: web.Request, store: ImageStore) -> _Form:
    form = _Form()
    reader = await open_multipart(request)
    for _ in range(_MAX_PARTS):
        part = await next_part(reader)
        if part is None:
            return form
        await _read_part(form, part, store)
    raise _invalid(None, f"a form may have at most {_MAX_PARTS} parts")


async def _read_part(form: _Form, part: BodyPartReader, store: ImageStore) -> None:
    name = part.name or ""
    if name not in _IMAGE_FIELDS:
        form.text[name] = await read_text(part, _TEXT_LIMIT)
        return
    if part.filename is None:
        raise _invalid(name, f"{name} must be a file")
    stored = await store_image(part, store, _IMAGE_LIMIT)
    if stored.content_type == "image/gif":
        raise _invalid(name, f"{name} must be a png, webp or jpg")
    if name == "mask":
        form.mask = stored
        return
    form.images.append(stored)
    if len(form.images) > _MAX_INPUTS:
        raise _invalid(name, f"at most {_MAX_INPUTS} images are accepted")


async def _check_form(form: _Form, store: ImageStore) -> _EditRequest:
    if not form.images:
        raise _invalid("image", "image is required")
    model = form.text.get("model") or DALL_E_2
    prompt = form.text.get("prompt", "")
    if not prompt.strip():
        raise _invalid("prompt", "prompt is required")
    count = form.text.get("n", "1")
    if not re.fullmatch(r"[0-9]{1,2}", count) or not 1 <= int(count) <= MAX_IMAGES:
        raise _invalid("n", f"n must be between 1 and {MAX_IMAGES}, not {count!r}")
    response_format = form.text.get("response_format", "url")
    if response_format not in {"url", "b64_json"}:
        raise _invalid("response_format", f"response_format must be url or b64_json, not {response_format!r}")
    if model == DALL_E_2:
        await _check_published_limits(form, prompt, store)
    size = form.text.get("size") or ("1024x1024" if model == DALL_E_2 else "auto")
    try:
        pixels = parse_size(size, None)
    except ValueError as error:
        raise _invalid("size", str(error)) from error
    inline = response_format == "b64_json"
    return _EditRequest(model=model, prompt=prompt, images=int(count), size=pixels, inline=inline)


async def _check_published_limits(form: _Form, prompt: str, store: ImageStore) -> None:
    if len(prompt) > _DALL_E_PROMPT:
        raise _invalid("prompt", f"prompt must have at most {_DALL_E_PROMPT} characters, not {len(prompt)}")
    size = form.text.get("size", _DALL_E_SIZES[-1])
    if size not in _DALL_E_SIZES:
        raise _invalid("size", f"size must be one of {', '.join(_DALL_E_SIZES)}, not {size!r}")
    if len(form.images) > 1:
        raise _invalid("image", f"{DALL_E_2} accepts one image")
    image = await _inspect_png("image", form.images[0], store)
    if image.size is None or image.size[0] != image.size[1]:
        raise _invalid("image", "image must be a square PNG")
    if form.mask is None:
        if not image.transparent:
            raise _invalid("image", "image must have transparency when no mask is given")
        return
    mask = await _inspect_png("mask", form.mask, store)
    if mask.size != image.size:
        raise _invalid("mask", "mask must have the same dimensions as image")


async def _inspect_png(name: str, part: StoredPart, store: ImageStore) -> Inspection:
    if part.content_type != "image/png":
        raise _invalid(name, f"{name} must be a PNG, not {part.content_type}")
    if part.size >= _DALL_E_LIMIT:
        raise _invalid(name, f"{name} must be less than 4 MB, not {part.size} bytes")
    return await store.inspect(part.digest)


def _invalid(param: str | None, message: str) -> ServiceError:
    return ServiceError(status=400, message=message, param=param)
