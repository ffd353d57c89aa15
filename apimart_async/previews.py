"""Results as HTML for notebooks: every text is escaped, and only images are referred to.

A notebook shows the result of its last line with ``_repr_html_``. The browser fetches the images of a task;
nothing is requested here. Saved files are embedded as thumbnails: the page of a notebook may not read them.
"""

from __future__ import annotations

import re
from base64 import b64encode
from html import escape
from io import BytesIO
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from apimart_async.models import Image, ImageSet, Task

_MOST_IMAGES: Final = 24
_LONGEST: Final = 300
_HTTP: Final = re.compile(r"https?://[^\s\x00-\x20\x7f]+", re.IGNORECASE)
_DATA: Final = re.compile(r"data:image/(?:png|jpeg|webp|gif|avif);base64,[A-Za-z0-9+/=\s]*")
_HEIGHT: Final = 240
_IMAGE: Final = f"max-height:{_HEIGHT}px;max-width:100%;margin:4px;vertical-align:top"


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


def html_of_files(facts: Iterable[tuple[str, object]], paths: tuple[Path, ...]) -> str:
    """Return facts and saved images as HTML."""
    return _shown(facts, [_thumbnail(path) for path in paths[:_MOST_IMAGES]], len(paths))


def _html(facts: Iterable[tuple[str, object]], images: tuple[Image, ...]) -> str:
    return _shown(facts, map(_tag, images[:_MOST_IMAGES]), len(images))


def _shown(facts: Iterable[tuple[str, object]], tags: Iterable[str], total: int) -> str:
    words = " · ".join(
        f"{name} <code>{_escaped(value)}</code>" for name, value in facts if value not in {None, ""}
    )
    more = f"<div>and {total - _MOST_IMAGES} more</div>" if total > _MOST_IMAGES else ""
    return f"<div><div>{words}</div>{''.join(tags)}{more}</div>"


def _thumbnail(path: Path) -> str:
    """Return a saved image as a tag, or its path if Pillow is missing or cannot read the file."""
    try:
        from PIL import Image as Pillow

        with Pillow.open(path) as image:
            image.thumbnail((_HEIGHT * 4, _HEIGHT * 2))
            image.convert("RGBA").save(content := BytesIO(), "WEBP")
    except Exception:  # noqa: BLE001 a preview never fails: Pillow raises errors of many classes for a damaged file
        return f"<div>No preview of <code>{_escaped(path)}</code></div>"
    source = f"data:image/webp;base64,{b64encode(content.getvalue()).decode()}"
    name = escape(str(path))
    return f'<img src="{source}" alt="{name}" title="{name}" style="{_IMAGE}">'


def _tag(image: Image) -> str:
    if not (_DATA if image.url.startswith("data:") else _HTTP).fullmatch(image.url):
        return f"<div>No preview of <code>{_escaped(image.url)}</code></div>"
    alt = escape(f"Image {image.index}" if image.index else "Image")
    source = escape(image.url)
    return f'<img src="{source}" alt="{alt}" loading="lazy" referrerpolicy="no-referrer" style="{_IMAGE}">'


def _escaped(value: object) -> str:
    text = str(value)
    return escape(text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…")
