"""Strict parsing of JSON bodies: a field that differs from the contract is an error, never repaired."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any, cast

import anyio.to_thread
from aiohttp import web
from attrs import frozen

from .responses import bad_request

MAX_IMAGES = 10
"""The most images that one request may ask for."""

_LARGE = 256 * 1024
_RESOLUTIONS = {"1k": 1024, "2k": 2048, "4k": 4096}
_RATIO = re.compile(r"([1-9]\d{0,2}):([1-9]\d{0,2})")
_PIXELS = re.compile(r"([1-9]\d{0,4})x([1-9]\d{0,4})")
_TYPE_NAMES = {
    "NoneType": "null",
    "bool": "a boolean",
    "int": "a number",
    "float": "a number",
    "str": "a string",
    "list": "a list",
    "dict": "an object",
}

Fields = dict[str, Any]


@frozen
class Payload:
    """A JSON object and the SHA-256 of its bytes."""

    fields: Fields
    digest: str


async def read_payload(request: web.Request) -> Payload:
    """Read a JSON object.

    Raises:
        ServiceError: 400, for another content type or a body that is no JSON object.
        web.HTTPRequestEntityTooLarge: The body exceeds the limit.
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
    return Payload(cast("Fields", fields), hashlib.sha256(body).hexdigest())


def required_string(fields: Fields, name: str) -> str:
    """Return a required string that is not blank."""
    value = optional_string(fields, name)
    if value is None or not value.strip():
        raise bad_request(f"{name} is required")
    return value


def optional_string(fields: Fields, name: str) -> str | None:
    """Return a string that may be absent or null."""
    value = fields.get(name)
    if value is None or isinstance(value, str):
        return value
    raise bad_request(f"{name} must be a string, not {_type_name(value)}")


def image_count(fields: Fields, most: int = MAX_IMAGES) -> int:
    """Return `n`: an integer from 1 to the maximum of a model, 1 when absent."""
    value = fields.get("n", 1)
    if not isinstance(value, int) or isinstance(value, bool):
        raise bad_request(f"n must be an integer, not {_type_name(value)}")
    if not 1 <= value <= most:
        raise bad_request(f"n must be between 1 and {most}, not {value}")
    return value


def image_urls(fields: Fields, *, required: bool, objects: bool = False) -> list[str]:
    """Return `image_urls`: a list of strings.

    Args:
        fields: The body.
        required: Whether there must be at least one.
        objects: Whether the older form, a list of `{"url": …}`, is accepted as well.
    """
    value = fields.get("image_urls")
    if value is None and not required:
        return []
    if not isinstance(value, list) or (required and not value):
        raise bad_request("image_urls must be a list of strings with at least one entry")
    urls: list[str] = []
    for index, entry in enumerate(cast("list[object]", value)):
        url = cast("Fields", entry).get("url") if objects and isinstance(entry, dict) else entry
        if not isinstance(url, str) or not url:
            raise bad_request(f"image_urls[{index}] must be a string, not {_type_name(url)}")
        urls.append(url)
    return urls


def images_with_roles(fields: Fields) -> list[str]:
    """Return the URLs of `image_with_roles`: a list of `{"url": …, "role": …}`, none when absent."""
    value = fields.get("image_with_roles")
    if value is None:
        return []
    if not isinstance(value, list):
        raise bad_request(f"image_with_roles must be a list, not {_type_name(value)}")
    urls: list[str] = []
    for index, entry in enumerate(cast("list[object]", value)):
        named = cast("Fields", entry) if isinstance(entry, dict) else {}
        if not isinstance(named.get("url"), str) or not isinstance(named.get("role"), str):
            raise bad_request(f"image_with_roles[{index}] must be an object with the strings url and role")
        urls.append(named["url"])
    return urls


def roles_of(fields: Fields) -> list[str]:
    """Return the roles of an `image_with_roles` that was checked."""
    entries: list[Fields] = fields.get("image_with_roles") or []
    return [entry["role"] for entry in entries]


def parse_size(size: str | None, resolution: str | None) -> tuple[int, int] | None:
    """Return width and height in pixels of a size such as "16:9" or "1024x1024".

    Args:
        size: A ratio, pixels, "auto" or None.
        resolution: "1k", "2k" or "4k": the longer side of a ratio; 1k when None.

    Returns:
        None for "auto" and for None: the results are as large as the source.

    Raises:
        ValueError: One of the arguments is malformed; the message names the accepted forms.
    """
    side = _RESOLUTIONS.get((resolution or "1k").lower())
    if side is None:
        raise ValueError(f"resolution must be one of 1k, 2k, 4k, not {resolution}")
    if size is None or size == "auto":
        return None
    if (ratio := _RATIO.fullmatch(size)) is not None:
        width, height = int(ratio[1]), int(ratio[2])
        scale = side / max(width, height)
        return max(1, round(width * scale)), max(1, round(height * scale))
    if (exact := _PIXELS.fullmatch(size)) is not None:
        return int(exact[1]), int(exact[2])
    raise ValueError(f'size must be "auto", a ratio such as "16:9" or pixels such as "1024x1024", not {size}')


def _type_name(value: object) -> str:
    return _TYPE_NAMES[type(value).__name__]
