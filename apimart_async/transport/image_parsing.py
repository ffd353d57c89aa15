"""The images of a result or of an event, and the tokens used, in every shape that the services answer in."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import attrs

from apimart_async.errors import APIResponseValidationError
from apimart_async.models import (
    CompletedImageEvent,
    Image,
    ImageEvent,
    ImageSet,
    PartialImageEvent,
    TokenDetails,
    Usage,
)
from apimart_async.transport import json
from apimart_async.transport.image_facts import NAMES as FACTS
from apimart_async.transport.image_facts import facts_of
from apimart_async.transport.json import (
    amount,
    is_mapping,
    is_sequence,
    mapping,
    moment,
    not_understood,
    text,
    whole,
)
from apimart_async.transport.media import data_urls, sniffing

log: logging.Logger = logging.getLogger("apimart_async.transport")

RESULT_LIFETIME: Final = timedelta(hours=24)

# A service may make more images than it was asked for, but not any number of them.
SURPLUS_IMAGES: Final = 16
MOST_IMAGES: Final = 1000 + SURPLUS_IMAGES

ABSOLUTE: Final = ("http://", "https://", data_urls.SCHEME)

# Where a result is before the fields of an image, and where one may be after them.
_OUTER: Final = ("result", "output", "images")
_INNER: Final = ("data", "videos", "artifacts")
_SINGLE: Final = "image"
_PACKED_FIELDS: Final = ("b64_json", "base64")
_FIELDS: Final = ("url", "urls", *_PACKED_FIELDS)
_NESTED_FIELDS: Final = (*_FIELDS, "image_url", "image_urls")

IMAGE_FIELDS: Final = frozenset({*_OUTER, *_INNER, *_FIELDS, _SINGLE})
"""Fields of a task that may hold images; without any of these there is none."""

_PARTIAL: Final = "partial_image"
_COMPLETED: Final = "completed"

_DEEPEST: Final = 6
_LACKS_SCHEME: Final = re.compile("image/[a-z0-9.+-]{1,40};base64,", re.IGNORECASE).match
_SNIFFED: Final = 96
# The smallest images have 35 bytes.
_LEAST_BASE64: Final = 40


@attrs.frozen
class _Around:
    """The facts of the result around an image: its expiry, and its fields with the names of `FACTS`."""

    expires_at: datetime | None = None
    fields: Mapping[str, Any] = attrs.field(factory=dict[str, Any])

    def within(self, value: Mapping[str, Any]) -> _Around:
        """Return those of an object in the result."""
        fields: dict[str, Any] = {name: value[name] for name in FACTS if value.get(name)}
        expires_at = moment(value.get("expires_at")) or self.expires_at
        return _Around(expires_at, {**self.fields, **fields} if fields else self.fields)


@attrs.frozen
class _Entry:
    """An object that names one image or several, and the facts of the result around it."""

    fields: Mapping[str, Any]
    around: _Around


def find_images(
    source: Mapping[str, Any], task_id: str | None, completed: datetime | None, lifetime: timedelta
) -> list[Image]:
    """Return the images of a task or of an answer that is a result, in order.

    Args:
        source: JSON object.
        task_id: Task that made them.
        completed: Time at which they were made, if that is known.
        lifetime: Time from then on for which a URL without an expiry works.
    """
    if IMAGE_FIELDS.isdisjoint(source):
        return []
    found: list[Image] = []
    for entry in _entries(source, _Around(), 0):
        expires = entry.around.expires_at
        if expires is None and completed is not None:
            expires = completed + lifetime
        for index, url in enumerate(_urls(entry.fields), start=len(found) + 1):
            facts = facts_of(url, entry.fields, entry.around.fields)
            image = Image(
                url=url,
                expires_at=None if url.startswith("data:") else expires,
                revised_prompt=text(entry.fields.get("revised_prompt")),
                task_id=task_id,
                index=index,
                content_type=facts.content_type,
                width=facts.width,
                height=facts.height,
            )
            found.append(image)
        if len(found) > MOST_IMAGES:
            break
    return found


def is_image(entry: Mapping[str, Any]) -> bool:
    """Tell whether an object names an image itself, as an entry of a result does."""
    return any(entry.get(name) for name in _FIELDS)


def _entries(value: object, around: _Around, depth: int) -> list[_Entry]:
    """Return the entries of a result: an object, a list, a URL, or JSON as a text."""
    if isinstance(value, str):
        packed = _unpacked(value)
        if packed is None:
            return [_Entry({"url": value}, around)] if _may_be_image(value) else []
        value = packed
    if depth > _DEEPEST:
        return []
    if is_mapping(value):
        return _entries_of_object(value, around, depth)
    found: list[_Entry] = []
    for each in value if is_sequence(value) else ():
        found += _entries(each, around, depth + 1)
        if len(found) > MOST_IMAGES:
            break
    return found


def _entries_of_object(value: Mapping[str, Any], around: _Around, depth: int) -> list[_Entry]:
    around = around.within(value)
    for name in _OUTER:
        within = value.get(name)
        if name != "images" and isinstance(within, str) and not _is_result(within):
            continue
        found = _entries(within, around, depth + 1) if within else []
        if found:
            return found
    # At the top of a task, `image_urls` are the images that it was given.
    if any(_texts(value.get(name)) for name in (_NESTED_FIELDS if depth else _FIELDS)):
        return [_Entry(value, around)]
    found = [
        entry
        for name in _INNER
        for entry in (_entries(value[name], around, depth + 1) if value.get(name) else ())
    ]
    # The `image` of a task is the one that it was given.
    single = value.get(_SINGLE) if depth or "status" not in value else None
    if found or not single or (isinstance(single, str) and not _is_result(single)):
        return found
    return _entries(single, around, depth + 1)


def _may_be_image(said: str) -> bool:
    """Tell whether a text may be an image: a URL, which may be relative, or base64; a word is none."""
    start = said[:_SNIFFED].split()
    return (len(start) == 1 and ("/" in start[0] or "." in start[0])) or data_url(said) is not None


def _is_result(said: str) -> bool:
    """Tell whether a text is a URL, an image or JSON, and not a word such as ``ok``."""
    return said.startswith((*ABSOLUTE, "/")) or _unpacked(said) is not None or data_url(said) is not None


def _unpacked(value: str) -> Any | None:  # noqa: ANN401 JSON is anything
    """Return the JSON that a text holds; ``None`` for any other text."""
    if value[:_SNIFFED].lstrip()[:1] not in {"{", "["}:
        return None
    try:
        return json.loads(value.encode(errors="replace"))
    except APIResponseValidationError:
        return None


def _urls(entry: Mapping[str, Any]) -> list[str]:
    packed = [text for name in _PACKED_FIELDS for text in _texts(entry.get(name))]
    images = [data_url(text) for text in packed]
    # An image itself does not expire as its URL does.
    if not (images and all(images)):
        for name in ("url", "urls", "image_url", "image_urls"):
            urls = _texts(entry.get(name))
            if urls:
                return [url if url.startswith("http") else data_url(url) or url for url in urls]
    return [image or f"data:image/png;base64,{text}" for image, text in zip(images, packed, strict=True)]


def _texts(value: object) -> list[str]:
    """Return the texts of a field: one, a list of them, or objects that hold a ``url``."""
    found: list[str] = []
    for each in value if is_sequence(value) else [value]:
        said: object = each.get("url") if is_mapping(each) else each
        if isinstance(said, str) and (text := said.strip()):
            found.append(text)
    return found


def data_url(value: str) -> str | None:
    """Return an image in base64 as a ``data:`` URL; ``None`` for any other text, such as a relative URL."""
    start = value[:_SNIFFED].lstrip()
    if data_urls.is_data_url(start):
        return data_urls.normalized(value.lstrip())
    if _LACKS_SCHEME(start):
        return data_urls.SCHEME + value.lstrip()
    if len(value) < _LEAST_BASE64:
        return None
    try:
        head = "".join(start.split())
        kind = sniffing.identify(data_urls.decode(f"data:;base64,{head[: len(head) // 4 * 4]}"))
    except ValueError:
        return None
    return f"data:{kind.content_type};base64,{value}" if kind.extension else None


def read_image_set(payload: object, n: int | None = None) -> ImageSet:
    """Read the answer of a synchronous image service.

    Args:
        payload: Decoded JSON.
        n: Number of images that was asked for.

    Raises:
        APIResponseValidationError: It holds no image.
    """
    top: dict[str, Any] = {"data": payload} if is_sequence(payload) else mapping(payload)
    entries = top.get("data")
    facts: dict[str, Any] = {name: top[name] for name in FACTS if name in top}
    is_word = isinstance(entries, str) and not _is_result(entries)
    source = {**facts, "images": entries} if is_sequence(entries) else {} if is_word else top
    images = find_images(source, None, None, RESULT_LIFETIME)
    if not images:
        raise not_understood("image", payload)
    most = MOST_IMAGES if n is None else n + SURPLUS_IMAGES
    if len(images) > most:
        log.warning("A result has %d images or more instead of %s.", len(images), n)
        images, top = images[:most], {name: value for name, value in top.items() if name != "data"}
    created = moment(top.get("created")) or datetime.now(UTC)
    return ImageSet(created, tuple(images), top, amount(top.get("cost")), read_usage(top))


def read_usage(source: Mapping[str, Any]) -> Usage | None:
    """Read the used tokens; ``None`` if the answer does not tell."""
    said = mapping(source.get("usage"))
    usage = Usage(
        whole(said.get("input_tokens")),
        whole(said.get("output_tokens")),
        whole(said.get("total_tokens")),
        _token_details(said.get("input_tokens_details")),
        _token_details(said.get("output_tokens_details")),
    )
    return None if usage == Usage() else usage


def _token_details(said: object) -> TokenDetails | None:
    fields = mapping(said)
    names = ("cached_tokens", "image_tokens", "text_tokens")
    details = TokenDetails(*(whole(fields.get(name)) for name in names))
    return None if details == TokenDetails() else details


def read_image_events(payload: object, n: int | None = None) -> list[ImageEvent]:
    """Read an event; an answer that is not an event stands for the events of its images.

    An event without an image, or of an unknown type, is left out: the service may add types.

    Args:
        payload: Decoded JSON.
        n: Number of images that was asked for.

    Raises:
        APIResponseValidationError: It is an answer without an image.
    """
    top: Mapping[str, Any] = payload if is_mapping(payload) else {}
    kind = text(top.get("type"))
    if kind is None:
        answer = read_image_set(payload, n)
        return [
            CompletedImageEvent(_COMPLETED, image, answer.created, answer.usage, answer.raw)
            for image in answer.images
        ]
    created = moment(top.get("created_at"))
    found = find_images({"images": [top]}, None, None, RESULT_LIFETIME)[:1]
    if kind.endswith(_PARTIAL):
        index = whole(top.get("partial_image_index")) or 0
        return [PartialImageEvent(kind, image, index, created, top) for image in found]
    if kind.endswith(_COMPLETED):
        return [CompletedImageEvent(kind, image, created, read_usage(top), top) for image in found]
    return []
