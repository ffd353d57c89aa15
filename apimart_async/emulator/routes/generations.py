"""`POST /v1/images/generations`: a picture from a prompt, with or without pictures to start from."""

from __future__ import annotations

from aiohttp import web

from apimart_async.emulator import reading
from apimart_async.emulator.replies import bad_request
from apimart_async.emulator.sizing import pixels
from apimart_async.emulator.submitting import Submission, submit

_STRINGS = ("quality", "output_format", "background", "moderation", "webhook", "language")
_FORMATS = {"png": True, "jpeg": False, "jpg": False}


async def create_generation(request: web.Request) -> web.Response:
    """Accept a generation and answer with its task's identifier.

    Raises:
        Refusal: 400 for what is missing or of a wrong type, and whatever `submit` raises.
    """
    payload = await reading.read_payload(request)
    return await submit(request, payload, _submission(payload.fields))


def _submission(fields: reading.Body) -> Submission:
    for name in _STRINGS:
        reading.optional_text(fields, name)
    try:
        size = pixels(reading.optional_text(fields, "size"), reading.optional_text(fields, "resolution"))
    except ValueError as error:
        raise bad_request(str(error)) from error
    return Submission(
        endpoint="generations",
        model=reading.text(fields, "model"),
        prompt=reading.optional_text(fields, "prompt") or "",
        images=reading.count(fields),
        addresses=reading.addresses(fields, required=False, objects=True),
        mask=reading.optional_text(fields, "mask_url"),
        size=size,
        png=_FORMATS.get(fields.get("output_format") or ""),
    )
