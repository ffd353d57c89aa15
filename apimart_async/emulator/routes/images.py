"""`POST /v1/images/edits` and `/generations`: executed once per idempotency key, answered with a task."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from typing import TYPE_CHECKING

from aiohttp import web
from attrs import evolve

from apimart_async.emulator.execution import Submission, execute
from apimart_async.emulator.fault_injection import CURRENT_FAULT
from apimart_async.emulator.file_host import load_image
from apimart_async.emulator.idempotency import check_key
from apimart_async.emulator.operations import check_edits, max_images, read_operation
from apimart_async.emulator.renderer import StoredImage
from apimart_async.emulator.request_parsing import (
    image_count,
    image_urls,
    images_with_roles,
    optional_string,
    parse_size,
    read_payload,
    required_string,
    roles_of,
)
from apimart_async.emulator.responses import ServiceError, bad_request, json_bytes
from apimart_async.emulator.service import SERVICE, origin, ulid
from apimart_async.emulator.task_responses import (
    RESPONSE_VERSION,
    SUBMIT_VARIANTS,
    SYNCHRONOUS,
    result_body,
    submitted_body,
    webhook_body,
)

from .applerouter import edit_json, edit_multipart
from .tasks import describe_task

if TYPE_CHECKING:
    from collections.abc import Sequence

    from apimart_async.emulator.renderer import Source
    from apimart_async.emulator.request_parsing import Payload
    from apimart_async.emulator.service import Service
    from apimart_async.emulator.task_responses import ImageVariant, Json, SubmitVariant

_OPTIONAL_STRINGS = ("quality", "output_format", "background", "moderation", "webhook", "language")
_PNG = {"png": True, "jpeg": False, "jpg": False}


async def create_edit(request: web.Request) -> web.StreamResponse:
    """Accept an edit: JSON is APIMart's and becomes a task; a form and Qwen's JSON are AppleRouter's.

    Raises:
        ServiceError: 400 for a missing field or a wrong type, and the errors of `_submit`.
    """
    if request.content_type.startswith("multipart/"):
        return await edit_multipart(request)
    payload = await read_payload(request)
    fields = payload.fields
    if "input" in fields:
        return await edit_json(request, payload)
    model, prompt = required_string(fields, "model"), required_string(fields, "prompt")
    check_edits(model)
    urls = image_urls(fields, required=True)
    submission = Submission(endpoint="edits", model=model, prompt=prompt, images=image_count(fields))
    return await _submit(request, payload, submission, urls)


async def create_generation(request: web.Request) -> web.Response:
    """Accept a generation, with or without images to start from.

    Raises:
        ServiceError: 400 for a missing field or a wrong type, and the errors of `_submit`.
    """
    payload = await read_payload(request)
    fields = payload.fields
    for name in _OPTIONAL_STRINGS:
        optional_string(fields, name)
    try:
        size = parse_size(optional_string(fields, "size"), optional_string(fields, "resolution"))
    except ValueError as error:
        raise bad_request(str(error)) from error
    model = required_string(fields, "model")
    urls = [*image_urls(fields, required=False, objects=True), *images_with_roles(fields)]
    submission = Submission(
        endpoint="generations",
        model=model,
        prompt=optional_string(fields, "prompt") or "",
        images=image_count(fields, max_images(model)),
        operation=read_operation(fields, model, urls),
        size=size,
        png=_PNG.get(fields.get("output_format") or ""),
    )
    return await _submit(request, payload, submission, urls, optional_string(fields, "mask_url"))


async def _submit(
    request: web.Request,
    payload: Payload,
    submission: Submission,
    urls: Sequence[str],
    mask_url: str | None = None,
) -> web.Response:
    """Execute a submission, or replay the response to its idempotency key.

    Raises:
        ServiceError: 400 for the key or an image, 402 for the balance, 409 for the use of the key.
    """
    service = request.app[SERVICE]
    key = request.headers.get("Idempotency-Key")
    submission = evolve(submission, idempotency_key=key)
    if key is not None:
        check_key(key)
    spec = service.settings.spec_of(submission.model)
    is_kept = service.settings.idempotent_replay and (spec is None or spec.keeps)
    if key is None or not is_kept:
        status, body = await _execute(request, payload, submission, urls, mask_url)
        return json_bytes(body, status=status)
    scope = (submission.endpoint, key)
    known = service.keys.begin(scope, payload.digest, service.clock.now())
    if known is not None:
        return json_bytes(known[1], status=known[0], headers={"Idempotency-Replayed": "true"})
    try:
        status, body = await _execute(request, payload, submission, urls, mask_url)
    except BaseException:
        service.keys.abandon(scope)
        raise
    service.keys.finish(scope, status, body)
    return json_bytes(body, status=status)


async def _execute(
    request: web.Request, payload: Payload, submission: Submission, urls: Sequence[str], mask_url: str | None
) -> tuple[int, bytes]:
    service = request.app[SERVICE]
    sources = [
        await load_image(url, field=f"image_urls[{index}]", request=request) for index, url in enumerate(urls)
    ]
    mask = mask_url and await load_image(mask_url, field="mask_url", request=request)
    if isinstance(mask, StoredImage) and (await service.store.inspect(mask.digest)).size is None:
        raise bad_request("mask_url: the image could not be read")
    submission = evolve(
        submission,
        source=sources[0] if sources else None,
        mask=mask.digest if isinstance(mask, StoredImage) else None,
        payload=_digest(payload, sources, urls),
    )
    variant = _variant(request, service, submission)
    if variant == "two-ids":
        half = submission.images // 2
        parts = [evolve(submission, images=submission.images - half), evolve(submission, images=half)]
        parts[1] = evolve(parts[1], payload=f"{submission.payload} second half")
        tasks = [await execute(service, parts[0])]
        with suppress(ServiceError):  # a refusal of all would hide the first
            tasks.append(await execute(service, parts[1]))
        entries = [{"status": "submitted", "task_id": task.id} for task in tasks]
        return 200, json.dumps({"code": 200, "data": entries}).encode()
    submission = evolve(submission, immediate=variant in SYNCHRONOUS)
    task = await execute(service, submission)
    request_id = ulid(service.clock.now())
    if submission.immediate:
        images: ImageVariant = "inline" if variant == "openai-inline" else "string"
        found = await describe_task(request, service, task, images=images)
        return 200, json.dumps(result_body(found, variant=variant, request_id=request_id)).encode()
    webhook = payload.fields.get("webhook")
    if submission.endpoint == "generations" and isinstance(webhook, str):

        async def describe() -> Json:
            return webhook_body(await describe_task(request, service, task, images="list"))

        service.webhooks.start(webhook, task.finished_at, describe)
    status, body = submitted_body(
        task.id, estimate=service.estimate, origin=origin(request), variant=variant, request_id=request_id
    )
    return status, json.dumps(body).encode()


def _variant(request: web.Request, service: Service, submission: Submission) -> SubmitVariant:
    """Return the variant of the body that answers a submission."""
    found = SUBMIT_VARIANTS[service.next_variant("submit") % len(SUBMIT_VARIANTS)]
    if found == "list" and request.headers.get("X-APIMart-Response-Version") == RESPONSE_VERSION:
        return "versioned"
    if found == "list" and service.settings.compat and submission.endpoint == "generations":
        return "top-level"
    # A task that a fault has an end for has to be polled, and a single image has no second half.
    is_faulty = found in SYNCHRONOUS and CURRENT_FAULT.get() is not None
    is_single = found == "two-ids" and submission.images == 1
    return "list" if is_faulty or is_single else found


def _digest(payload: Payload, sources: Sequence[Source], urls: Sequence[str]) -> str:
    """Return the digest of a request, in which stored images count by their content."""
    images = [
        source.digest if isinstance(source, StoredImage) else url
        for source, url in zip(sources, urls, strict=True)
    ]
    fields = {name: value for name, value in payload.fields.items() if name != "image_with_roles"}
    roles = roles_of(payload.fields)
    fields |= {"image_urls": images, **({"roles": roles} if roles else {})}
    canonical = json.dumps(fields, sort_keys=True)
    return hashlib.sha256(canonical.encode()).hexdigest()
