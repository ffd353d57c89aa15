"""Strict readers of JSON bodies: what is not as the contract says is refused, never repaired."""

from __future__ import annotations

import hashlib
import json
from typing import Any, cast

import anyio.to_thread
from aiohttp import web
from attrs import frozen

from .replies import bad_request

_LARGE = 256 * 1024
MOST_IMAGES = 10

Body = dict[str, Any]

_NAMES = {
    "NoneType": "null",
    "bool": "a boolean",
    "int": "a number",
    "float": "a number",
    "str": "a string",
    "list": "a list",
    "dict": "an object",
}


@frozen
class Payload:
    """A JSON object and the SHA-256 of the bytes it came in."""

    fields: Body
    digest: str


async def read_payload(request: web.Request) -> Payload:
    """Read a JSON object.

    Raises:
        Refusal: 400, for another content type or a body that is no JSON object.
        web.HTTPRequestEntityTooLarge: The body is larger than the emulator takes.
    """
    if request.content_type != "application/json":
        raise bad_request(f"Content-Type must be application/json, not {request.content_type}")
    body = await request.read()
    if len(body) > _LARGE:
        return await anyio.to_thread.run_sync(_parse, body)
    return _parse(body)


def _parse(body: bytes) -> Payload:
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise bad_request(f"invalid JSON body: {error}") from error
    if not isinstance(fields, dict):
        raise bad_request("the JSON body must be an object")
    return Payload(cast("Body", fields), hashlib.sha256(body).hexdigest())


def text(fields: Body, name: str) -> str:
    """Read a required string that is not blank."""
    value = optional_text(fields, name)
    if value is None or not value.strip():
        raise bad_request(f"{name} is required")
    return value


def optional_text(fields: Body, name: str) -> str | None:
    """Read a string that may be absent or null."""
    value = fields.get(name)
    if value is None or isinstance(value, str):
        return value
    raise bad_request(f"{name} must be a string, not {_named(value)}")


def count(fields: Body) -> int:
    """Read `n`: a bare number from 1 to 10, 1 when absent."""
    value = fields.get("n", 1)
    if not isinstance(value, int) or isinstance(value, bool):
        raise bad_request(f"n must be an integer, not {_named(value)}")
    if not 1 <= value <= MOST_IMAGES:
        raise bad_request(f"n must be between 1 and {MOST_IMAGES}, not {value}")
    return value


def addresses(fields: Body, *, required: bool, objects: bool = False) -> list[str]:
    """Read `image_urls`: a list of strings.

    Args:
        fields: The body.
        required: Whether there must be at least one.
        objects: Whether the older form, a list of `{"url": …}`, is taken as well.
    """
    value = fields.get("image_urls")
    if value is None and not required:
        return []
    if not isinstance(value, list) or (required and not value):
        raise bad_request("image_urls must be a list of strings with at least one entry")
    return [
        _address(entry, index, objects=objects) for index, entry in enumerate(cast("list[object]", value))
    ]


def _address(entry: object, index: int, *, objects: bool) -> str:
    if objects and isinstance(entry, dict):
        entry = cast("dict[str, object]", entry).get("url")
    if isinstance(entry, str) and entry:
        return entry
    raise bad_request(f"image_urls[{index}] must be a string, not {_named(entry)}")


def _named(value: object) -> str:
    return _NAMES[type(value).__name__]
