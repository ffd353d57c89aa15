"""Submitting an edit or a generation: executed once per idempotency key, answered in a known shape."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from aiohttp import web
from attrs import frozen

from . import shapes
from .executing import Order, execute
from .idempotency import check_key
from .ledger import Endpoint
from .mischief import FAULT
from .recipes import Stored
from .service import SERVICE, Service, origin
from .sources import resolve

if TYPE_CHECKING:
    from .executing import Fate
    from .faults import Kind
    from .reading import Payload
    from .recipes import Source

_FATES: Final[dict[Kind | None, Fate]] = {
    "task-stuck": "stuck",
    "task-failed": "failed",
    "task-cancelled": "cancelled",
    "task-expired": "expired",
    "task-partial": "partial",
}

_Answer = tuple[int, bytes]


@frozen(kw_only=True)
class Submission:
    """What a body asks for, read and checked; an `Order` is the same with its pictures at hand."""

    endpoint: Endpoint
    model: str
    prompt: str
    images: int
    addresses: Sequence[str]
    mask: str | None = None
    size: tuple[int, int] | None = None
    png: bool | None = None


async def submit(request: web.Request, payload: Payload, submission: Submission) -> web.Response:
    """Execute a submission, or repeat the answer to its first one.

    Raises:
        Refusal: 400 for the key or a picture, 402 when the balance does not cover it, 409 for the key's use.
    """
    service = request.app[SERVICE]
    key = request.headers.get("Idempotency-Key")
    if key is not None:
        check_key(key)
    if key is None or not service.settings.idempotent_replay:
        return _response(await _execute(request, service, payload, submission))
    scope = (submission.endpoint, key)
    known = service.keys.begin(scope, payload.digest, service.clock.now())
    if known is not None:
        return _response(known, replayed=True)
    try:
        answer = await _execute(request, service, payload, submission)
    except BaseException:
        service.keys.abandon(scope)
        raise
    service.keys.finish(scope, *answer)
    return _response(answer)


async def _execute(
    request: web.Request, service: Service, payload: Payload, submission: Submission
) -> _Answer:
    sources = [
        await resolve(address, where=f"image_urls[{index}]", request=request)
        for index, address in enumerate(submission.addresses)
    ]
    mask = submission.mask and await resolve(submission.mask, where="mask_url", request=request)
    order = Order(
        endpoint=submission.endpoint,
        model=submission.model,
        prompt=submission.prompt,
        images=submission.images,
        source=sources[0] if sources else None,
        mask=mask.digest if isinstance(mask, Stored) else None,
        size=submission.size,
        png=submission.png,
        payload=_digest(payload, sources, submission.addresses),
        idempotency_key=request.headers.get("Idempotency-Key"),
        fate=_FATES.get(FAULT.get()),
    )
    task = await execute(service, order)
    shape = shapes.SUBMIT_SHAPES[service.turn("submit") % len(shapes.SUBMIT_SHAPES)]
    status, body = shapes.submitted(task.id, estimate=service.estimate, origin=origin(request), shape=shape)
    return status, json.dumps(body).encode()


def _digest(payload: Payload, sources: Sequence[Source], addresses: Sequence[str]) -> str:
    """Return the digest of what is asked for, in which own pictures count by their content."""
    contents = [
        source.digest if isinstance(source, Stored) else address
        for source, address in zip(sources, addresses, strict=True)
    ]
    canonical = json.dumps(payload.fields | {"image_urls": contents}, sort_keys=True)
    return hashlib.sha256(canonical.encode()).hexdigest()


def _response(answer: _Answer, *, replayed: bool = False) -> web.Response:
    status, body = answer
    headers = {"Idempotency-Replayed": "true"} if replayed else None
    return web.Response(
        status=status, body=body, headers=headers, content_type="application/json", charset="utf-8"
    )
