"""`POST /v1/images/edits`: APIMart's as JSON, AppleRouter's as multipart."""

from __future__ import annotations

from aiohttp import web

from apimart_async.emulator import reading
from apimart_async.emulator.submitting import Submission, submit

from .applerouter import edit_at_once


async def create_edit(request: web.Request) -> web.StreamResponse:
    """Accept an edit: as a task when it is JSON, answered with its images when it is multipart.

    Raises:
        Refusal: 400 for what is missing or of a wrong type, and whatever `submit` raises.
    """
    if request.content_type.startswith("multipart/"):
        return await edit_at_once(request)
    payload = await reading.read_payload(request)
    fields = payload.fields
    submission = Submission(
        endpoint="edits",
        model=reading.text(fields, "model"),
        prompt=reading.text(fields, "prompt"),
        addresses=reading.addresses(fields, required=True),
        images=reading.count(fields),
    )
    return await submit(request, payload, submission)
