"""Results as HTML for notebooks: every text is escaped, and only images are referred to.

A notebook shows the result of its last line with ``_repr_html_``. The browser fetches the images; nothing is
requested here.
"""

from __future__ import annotations

import re
from html import escape
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from apimart_async.models import Image, ImageSet, Task

_MOST_IMAGES: Final = 24
_LONGEST: Final = 300
_HTTP: Final = re.compile(r"https?://[^\s\x00-\x20\x7f]+", re.IGNORECASE)
_DATA: Final = re.compile(r"data:image/(?:png|jpeg|webp|gif|avif);base64,[A-Za-z0-9+/=\s]*")
_IMAGE: Final = "max-height:240px;max-width:100%;margin:4px;vertical-align:top"


def html_of_task(task: Task) -> str:
    """Return a task as HTML: its facts, and its images."""
    progress = None if task.is_finished or task.progress is None else f"{task.progress:.0f} %"
    cost = None if task.cost is None else f"${task.cost:.4f}"
    error = None if task.error is None else task.error.message
    facts = ("Task", task.id), ("status", task.status), ("progress", progress), ("model", task.model)
    return _html((*facts, ("cost", cost), ("error", error)), task.images)


def html_of_image_set(images: ImageSet) -> str:
    """Return the answer of a synchronous service as HTML."""
    cost = None if images.cost is None else f"${images.cost:.4f}"
    return _html((("Created", f"{images.created:%Y-%m-%d %H:%M:%S %Z}"), ("cost", cost)), images.images)


def html_of_image(image: Image) -> str:
    """Return an image as HTML."""
    size = f"{image.width}x{image.height}" if image.width and image.height else None
    return _html((("Image", image.index), ("type", image.content_type), ("size", size)), (image,))


def _html(facts: Iterable[tuple[str, object]], images: tuple[Image, ...]) -> str:
    words = " · ".join(
        f"{name} <code>{_escaped(value)}</code>" for name, value in facts if value not in {None, ""}
    )
    shown = "".join(map(_tag, images[:_MOST_IMAGES]))
    more = f"<div>and {len(images) - _MOST_IMAGES} more</div>" if len(images) > _MOST_IMAGES else ""
    return f"<div><div>{words}</div>{shown}{more}</div>"


def _tag(image: Image) -> str:
    if not (_DATA if image.url.startswith("data:") else _HTTP).fullmatch(image.url):
        return f"<div>No preview of <code>{_escaped(image.url)}</code></div>"
    alt = escape(f"Image {image.index}" if image.index else "Image")
    source = escape(image.url)
    return f'<img src="{source}" alt="{alt}" loading="lazy" referrerpolicy="no-referrer" style="{_IMAGE}">'


def _escaped(value: object) -> str:
    text = str(value)
    return escape(text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…")
