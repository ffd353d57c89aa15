"""The content type and the dimensions of a result image, if its content, its answer or its URL has them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import attrs

from apimart_async.transport.json import text, whole
from apimart_async.transport.media import data_urls, sniffing
from apimart_async.transport.media.dimensions import read_dimensions

if TYPE_CHECKING:
    from collections.abc import Mapping

NAMES: Final = ("content_type", "mime_type", "output_format", "width", "height", "size")
"""Fields of an image, or of the result around it, that describe it."""

_SIZE: Final = re.compile(r"(\d{1,6}) ?[x*] ?(\d{1,6})").fullmatch
_TYPE: Final = re.compile(r"image/[a-z0-9.+-]{1,40}").fullmatch
# 32 KiB are enough for the dimensions of nearly every JPEG.
_HEAD_CHARACTERS: Final = 43_696
_TYPES: Final[Mapping[str, str]] = {
    **{str(kind.extension): kind.content_type for kind in (*sniffing.IMAGES, sniffing.SVG)},
    ".jpeg": sniffing.JPEG.content_type,
}


@attrs.frozen
class Facts:
    """A content type and dimensions; ``None`` for unknown ones."""

    content_type: str | None = None
    width: int | None = None
    height: int | None = None


def facts_of(url: str, fields: Mapping[str, Any], outer: Mapping[str, Any]) -> Facts:
    """Return the facts about an image: as its content has them, as its answer, or as its URL.

    Args:
        url: URL of the image.
        fields: Fields of the image in the answer.
        outer: Fields with the names ``NAMES`` of the result around it.
    """
    if url.startswith(data_urls.SCHEME):
        found = _facts_of_content(url)
        if found.content_type is not None:
            return found
    content_type = width = height = None
    for each in (fields, outer):
        content_type = content_type or _content_type(each)
        if width is None or height is None:
            width, height = _dimensions(each)
    return Facts(content_type or _type_of_name(url), width, height)


def _facts_of_content(url: str) -> Facts:
    start = url.find(",") + 1
    head = url[: start + _HEAD_CHARACTERS]
    try:
        content = data_urls.decode(head)
    except ValueError:
        return Facts()
    kind = sniffing.identify(content)
    if kind.extension is None:
        return Facts()
    return Facts(kind.content_type, *(read_dimensions(content) or (None, None)))


def _content_type(fields: Mapping[str, Any]) -> str | None:
    for name in ("content_type", "mime_type"):
        said = (text(fields.get(name)) or "").partition(";")[0].strip().lower()
        if _TYPE(said):
            return said
    return _TYPES.get(f".{(text(fields.get('output_format')) or '').lower()}")


def _dimensions(fields: Mapping[str, Any]) -> tuple[int | None, int | None]:
    width, height = whole(fields.get("width")), whole(fields.get("height"))
    if width is None or height is None:
        size = _SIZE(text(fields.get("size")) or "")
        width, height = (int(size[1]), int(size[2])) if size else (None, None)
    return (width, height) if width and height and min(width, height) > 0 else (None, None)


def _type_of_name(url: str) -> str | None:
    try:
        name = urlsplit(url).path
    except ValueError:
        return None
    return _TYPES.get(f".{name.rpartition('.')[2].lower()}")
