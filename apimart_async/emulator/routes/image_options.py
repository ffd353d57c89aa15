"""The fields that requests to AppleRouter share, checked: from a form or from JSON."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from attrs import frozen

from apimart_async.emulator.request_parsing import MAX_IMAGES, parse_size
from apimart_async.emulator.responses import ServiceError

DALL_E_2: Final = "dall-e-2"
"""The model of requests that name none, and the only one with published limits."""

_LONGEST_PROMPT = 1000
_DALL_E_SIZES = ("256x256", "512x512", "1024x1024")
_VALUES: Final[Mapping[str, tuple[str, ...]]] = {
    "response_format": ("url", "b64_json"),
    "output_format": ("png", "jpeg", "webp", "gif", "svg"),
    "background": ("transparent", "opaque", "auto"),
    "input_fidelity": ("high", "low"),
    "moderation": ("low", "auto"),
    "quality": ("low", "medium", "high", "xhigh", "max", "auto", "standard", "hd"),
}
_NUMBERS: Final = {"n": (1, MAX_IMAGES), "output_compression": (0, 100), "partial_images": (0, 3)}
_TEXTS: Final = ("model", "prompt", "size", "user", "safety_identifier", *_VALUES)
_WITHOUT_STREAM: Final = frozenset({"gif", "svg"})


@frozen(kw_only=True)
class ImageOptions:
    """The checked fields of a request.

    Attributes:
        model: The model.
        prompt: The prompt.
        images: How many images are requested.
        size: Width and height of the results in pixels, or None for those of the source.
        format: The format of the results, or None for that of the model.
        inline: Whether the images themselves are sent, and not their URLs.
        stream: Whether they are sent as events.
        previews: How many previews of each image a stream has.
        given: Fields that events repeat.
    """

    model: str
    prompt: str
    images: int
    size: tuple[int, int] | None
    format: str | None
    inline: bool
    stream: bool
    previews: int
    given: Mapping[str, str]


def invalid(param: str | None, message: str) -> ServiceError:
    """Return the error for a field."""
    return ServiceError(status=400, message=message, param=param)


def typed(text: Mapping[str, str]) -> dict[str, Any]:
    """Return the text fields of a form as the values that they stand for."""
    fields: dict[str, Any] = dict(text)
    for name in _NUMBERS.keys() & text.keys():
        if re.fullmatch(r"[0-9]{1,3}", text[name]):
            fields[name] = int(text[name])
    if (stream := text.get("stream")) in {"true", "false"}:
        fields["stream"] = stream == "true"
    return fields


def check_options(fields: Mapping[str, Any]) -> ImageOptions:
    """Check the fields that all requests have.

    Raises:
        ServiceError: 400 for a missing or malformed field, and for a text beyond the published limits.
    """
    _check_values(fields)
    stream, made = fields.get("stream"), fields.get("output_format")
    if stream and made in _WITHOUT_STREAM:
        raise invalid("stream", f"{made} images cannot be streamed")
    if not stream and fields.get("partial_images"):
        raise invalid("partial_images", "partial_images needs stream")
    model = fields.get("model") or DALL_E_2
    prompt = fields.get("prompt") or ""
    _check_prompt(model, prompt)
    size = fields.get("size") or ("1024x1024" if model == DALL_E_2 else "auto")
    if model == DALL_E_2 and size not in _DALL_E_SIZES:
        raise invalid("size", f"size must be one of {', '.join(_DALL_E_SIZES)}, not {size!r}")
    try:
        pixels = parse_size(size, None)
    except ValueError as error:
        raise invalid("size", str(error)) from error
    given = {name: fields.get(name) or "auto" for name in ("quality", "background")}
    return ImageOptions(
        model=model,
        prompt=prompt,
        images=fields.get("n") or 1,
        size=pixels,
        format=made,
        inline=fields.get("response_format") == "b64_json" or made is not None,
        stream=bool(stream),
        previews=fields.get("partial_images") or 0,
        given=given | {"size": size, "output_format": made or "png"},
    )


def _check_prompt(model: str, prompt: str) -> None:
    if not prompt.strip():
        raise invalid("prompt", "prompt is required")
    if model == DALL_E_2 and len(prompt) > _LONGEST_PROMPT:
        raise invalid("prompt", f"prompt must have at most {_LONGEST_PROMPT} characters, not {len(prompt)}")


def _check_values(fields: Mapping[str, Any]) -> None:
    """Check the types of the fields, and the values of those that take only some."""
    for name in _TEXTS:
        if not isinstance(fields.get(name, ""), str | None):
            raise invalid(name, f"{name} must be a string, not {fields[name]!r}")
    for name, allowed in _VALUES.items():
        if fields.get(name) not in {None, *allowed}:
            raise invalid(name, f"{name} must be one of {', '.join(allowed)}, not {fields[name]!r}")
    for name, (low, high) in _NUMBERS.items():
        value = fields.get(name)
        if value is not None and (type(value) is not int or not low <= value <= high):
            raise invalid(name, f"{name} must be between {low} and {high}, not {value!r}")
    stream = fields.get("stream")
    if stream not in {None, True, False}:
        raise invalid("stream", f"stream must be a boolean, not {stream!r}")
