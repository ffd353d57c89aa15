"""AppleRouter's edits and generations: a form or JSON, answered with the images themselves."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any, Final, cast

from attrs import define, field

from apimart_async.emulator.execution import Submission
from apimart_async.emulator.file_host import load_image
from apimart_async.emulator.multipart import StoredPart, next_part, open_multipart, read_text, store_image
from apimart_async.emulator.renderer import StoredImage
from apimart_async.emulator.request_parsing import Payload, read_payload
from apimart_async.emulator.service import SERVICE

from .image_options import DALL_E_2, ImageOptions, check_options, invalid, typed
from .image_results import answer

if TYPE_CHECKING:
    from aiohttp import BodyPartReader, web

    from apimart_async.emulator.image_store import ImageStore, Inspection
    from apimart_async.emulator.renderer import Source

_IMAGE_LIMIT = 50 * 1024 * 1024
_DALL_E_LIMIT = 4 * 1024 * 1024
_MAX_INPUTS = 16
_MAX_PARTS = 64
_TEXT_LIMIT = 128 * 1024
_IMAGE_FIELDS = {"image", "image[]", "mask"}
_QWEN: Final = "qwen"


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


async def create_router_edit(request: web.Request) -> web.StreamResponse:
    """Edit an image and return the results: from a form, or from JSON for Qwen models.

    Raises:
        ServiceError: 400 for a missing or malformed field and beyond the published limits, 402 for the
            balance, 413 for an image that is too large.
    """
    if request.content_type.startswith("multipart/"):
        return await edit_multipart(request)
    return await edit_json(request, await read_payload(request))


async def edit_multipart(request: web.Request) -> web.StreamResponse:
    """Edit an image that is sent in a form.

    Raises:
        ServiceError: As `create_router_edit`.
    """
    service = request.app[SERVICE]
    form = await _read_form(request, service.store)
    if not form.images:
        raise invalid("image", "image is required")
    options = check_options(typed(form.text))
    if options.model == DALL_E_2:
        await _check_published_limits(form, service.store)
    image = form.images[0].digest
    inspection = await service.store.inspect(image)
    mask = form.mask.digest if form.mask else image if inspection.transparent else None
    submission = _submission(options, form.digest, StoredImage(image), mask)
    if not submission.moderated:
        if inspection.size is None:
            raise invalid("image", "image could not be read")
        if form.mask and (await service.store.inspect(form.mask.digest)).size is None:
            raise invalid("mask", "mask could not be read")
    return await answer(request, submission, options, "image_edit")


async def edit_json(request: web.Request, payload: Payload) -> web.StreamResponse:
    """Edit images at URLs with a Qwen model: a message holds the images and the prompt.

    Raises:
        ServiceError: As `create_router_edit`.
    """
    fields = payload.fields
    model = fields.get("model")
    if not isinstance(model, str) or _QWEN not in model:
        raise invalid("model", f"only Qwen models take JSON, not {model!r}: send a form")
    urls, prompt = _read_message(fields.get("input"))
    given: object = fields.get("parameters") or {}
    if not isinstance(given, dict):
        raise invalid("parameters", "parameters must be an object")
    parameters = cast("dict[str, Any]", given)
    size = parameters.get("size")
    named: dict[str, Any] = {"model": model, "prompt": prompt, "n": parameters.get("n")}
    named["size"] = size.replace("*", "x") if isinstance(size, str) else size
    options = check_options(named)
    sources = [await load_image(url, field=f"image {number}", request=request) for number, url in urls]
    submission = _submission(options, payload.digest, sources[0], None)
    return await answer(request, submission, options, "image_edit")


async def generate_json(request: web.Request) -> web.StreamResponse:
    """Make images from a prompt.

    Raises:
        ServiceError: 400 for a missing or malformed field and beyond the published limits, 402 for the
            balance.
    """
    payload = await read_payload(request)
    options = check_options(payload.fields)
    submission = _submission(options, payload.digest, None, None)
    return await answer(request, submission, options, "image_generation")


def _submission(options: ImageOptions, digest: str, source: Source | None, mask: str | None) -> Submission:
    return Submission(
        endpoint="applerouter",
        model=options.model,
        prompt=options.prompt,
        images=options.images,
        source=source,
        mask=mask,
        size=options.size,
        png=True,
        payload=digest,
    )


def _read_message(given: object) -> tuple[list[tuple[int, str]], str]:
    """Return the URLs of the images, numbered from 1, and the prompt of a message."""
    try:
        (message,) = cast("Any", given)["messages"]
        entries: list[dict[str, object]] = message["content"]
        urls = [entry["image"] for entry in entries if "image" in entry]
        texts = [entry["text"] for entry in entries if "text" in entry]
    except (TypeError, KeyError, ValueError) as error:
        raise invalid("input", "input must hold one message with images and a text") from error
    if not urls or len(urls) > _MAX_INPUTS or not all(isinstance(each, str) for each in [*urls, *texts]):
        raise invalid("input", f"a message must hold 1 to {_MAX_INPUTS} URLs of images, and a text")
    return list(enumerate(cast("list[str]", urls), start=1)), " ".join(cast("list[str]", texts))


async def _read_form(request: web.Request, store: ImageStore) -> _Form:
    form = _Form()
    reader = await open_multipart(request)
    for _ in range(_MAX_PARTS):
        part = await next_part(reader)
        if part is None:
            return form
        await _read_part(form, part, store)
    raise invalid(None, f"a form may have at most {_MAX_PARTS} parts")


async def _read_part(form: _Form, part: BodyPartReader, store: ImageStore) -> None:
    name = part.name or ""
    if name not in _IMAGE_FIELDS:
        form.text[name] = await read_text(part, _TEXT_LIMIT)
        return
    if part.filename is None:
        raise invalid(name, f"{name} must be a file")
    stored = await store_image(part, store, _IMAGE_LIMIT)
    if stored.content_type == "image/gif":
        raise invalid(name, f"{name} must be a png, webp or jpg")
    if name == "mask":
        form.mask = stored
        return
    form.images.append(stored)
    if len(form.images) > _MAX_INPUTS:
        raise invalid(name, f"at most {_MAX_INPUTS} images are accepted")


async def _check_published_limits(form: _Form, store: ImageStore) -> None:
    if len(form.images) > 1:
        raise invalid("image", f"{DALL_E_2} accepts one image")
    image = await _inspect_png("image", form.images[0], store)
    if image.size is None or image.size[0] != image.size[1]:
        raise invalid("image", "image must be a square PNG")
    if form.mask is None:
        if not image.transparent:
            raise invalid("image", "image must have transparency when no mask is given")
        return
    mask = await _inspect_png("mask", form.mask, store)
    if mask.size != image.size:
        raise invalid("mask", "mask must have the same dimensions as image")


async def _inspect_png(name: str, part: StoredPart, store: ImageStore) -> Inspection:
    if part.content_type != "image/png":
        raise invalid(name, f"{name} must be a PNG, not {part.content_type}")
    if part.size >= _DALL_E_LIMIT:
        raise invalid(name, f"{name} must be less than 4 MB, not {part.size} bytes")
    return await store.inspect(part.digest)
