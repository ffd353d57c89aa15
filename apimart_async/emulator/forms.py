"""AppleRouter's multipart form: read, then checked as strictly as the published limits are."""

from __future__ import annotations

import hashlib
import json
import re
from typing import TYPE_CHECKING, Final

from attrs import define, field, frozen

from .receiving import Received, next_part, open_parts, receive_picture, receive_text
from .replies import Refusal
from .sizing import pixels

if TYPE_CHECKING:
    from aiohttp import BodyPartReader, web

    from .pictures import Inspection, Pictures

DALL_E_2: Final = "dall-e-2"
"""The default model, and the one whose published limits are enforced."""

_PICTURE_LIMIT = 50 * 1024 * 1024
_DALL_E_LIMIT = 4 * 1024 * 1024
_DALL_E_PROMPT = 1000
_DALL_E_SIZES = ("256x256", "512x512", "1024x1024")
_MOST_PICTURES = 16
_MOST_IMAGES = 10
_MOST_PARTS = 64
_TEXT_LIMIT = 128 * 1024
_PICTURE_FIELDS = {"image", "image[]", "mask"}


@define
class Form:
    """The parts of the body: pictures as they were kept, and text by field."""

    images: list[Received] = field(factory=list[Received])
    mask: Received | None = None
    text: dict[str, str] = field(factory=dict[str, str])

    @property
    def digest(self) -> str:
        """Digest of what is asked for, in which pictures count by their content."""
        pictures = [image.digest for image in self.images]
        asked = [self.text, pictures, self.mask.digest if self.mask else None]
        return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()


@frozen(kw_only=True)
class Request:
    """What a form asks for, checked."""

    model: str
    prompt: str
    images: int
    size: tuple[int, int] | None
    inline: bool


async def read_form(request: web.Request, pictures: Pictures) -> Form:
    """Read a form and keep its pictures.

    Raises:
        Refusal: 400 or 413, when a part is malformed, too large or not what it should be.
    """
    form = Form()
    reader = await open_parts(request)
    for _ in range(_MOST_PARTS):
        part = await next_part(reader)
        if part is None:
            return form
        await _take(form, part, pictures)
    raise _wrong(None, f"a form may have at most {_MOST_PARTS} parts")


async def check_form(form: Form, pictures: Pictures) -> Request:
    """Check a form.

    Raises:
        Refusal: 400, naming the field that is wrong.
    """
    if not form.images:
        raise _wrong("image", "image is required")
    model = form.text.get("model") or DALL_E_2
    prompt = form.text.get("prompt", "")
    if not prompt.strip():
        raise _wrong("prompt", "prompt is required")
    count = form.text.get("n", "1")
    if not re.fullmatch(r"[0-9]{1,2}", count) or not 1 <= int(count) <= _MOST_IMAGES:
        raise _wrong("n", f"n must be between 1 and {_MOST_IMAGES}, not {count!r}")
    answer = form.text.get("response_format", "url")
    if answer not in {"url", "b64_json"}:
        raise _wrong("response_format", f"response_format must be url or b64_json, not {answer!r}")
    if model == DALL_E_2:
        await _check_published_limits(form, prompt, pictures)
    size = form.text.get("size") or ("1024x1024" if model == DALL_E_2 else "auto")
    try:
        wanted = pixels(size, None)
    except ValueError as error:
        raise _wrong("size", str(error)) from error
    return Request(model=model, prompt=prompt, images=int(count), size=wanted, inline=answer == "b64_json")


async def _take(form: Form, part: BodyPartReader, pictures: Pictures) -> None:
    name = part.name or ""
    if name not in _PICTURE_FIELDS:
        form.text[name] = await receive_text(part, _TEXT_LIMIT)
        return
    if part.filename is None:
        raise _wrong(name, f"{name} must be a file")
    received = await receive_picture(part, pictures, _PICTURE_LIMIT)
    if received.content_type == "image/gif":
        raise _wrong(name, f"{name} must be a png, webp or jpg")
    if name == "mask":
        form.mask = received
        return
    form.images.append(received)
    if len(form.images) > _MOST_PICTURES:
        raise _wrong(name, f"at most {_MOST_PICTURES} images are taken")


async def _check_published_limits(form: Form, prompt: str, pictures: Pictures) -> None:
    if len(prompt) > _DALL_E_PROMPT:
        raise _wrong("prompt", f"prompt must have at most {_DALL_E_PROMPT} characters, not {len(prompt)}")
    size = form.text.get("size", _DALL_E_SIZES[-1])
    if size not in _DALL_E_SIZES:
        raise _wrong("size", f"size must be one of {', '.join(_DALL_E_SIZES)}, not {size!r}")
    if len(form.images) > 1:
        raise _wrong("image", f"{DALL_E_2} takes one image")
    image = await _png("image", form.images[0], pictures)
    if image.size is None or image.size[0] != image.size[1]:
        raise _wrong("image", "image must be a square PNG")
    if form.mask is None:
        if not image.transparent:
            raise _wrong("image", "image must have transparency when no mask is given")
        return
    mask = await _png("mask", form.mask, pictures)
    if mask.size != image.size:
        raise _wrong("mask", "mask must have the same dimensions as image")


async def _png(name: str, received: Received, pictures: Pictures) -> Inspection:
    if received.content_type != "image/png":
        raise _wrong(name, f"{name} must be a PNG, not {received.content_type}")
    if received.size >= _DALL_E_LIMIT:
        raise _wrong(name, f"{name} must be less than 4 MB, not {received.size} bytes")
    return await pictures.inspect(received.digest)


def _wrong(param: str | None, message: str) -> Refusal:
    return Refusal(status=400, message=message, param=param)
