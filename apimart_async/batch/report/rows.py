"""The rows of a report, one for each job; pure, except for a check that the original still exists."""

from __future__ import annotations

import os
import re
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, urlsplit

from apimart_async.errors import ApimartError
from apimart_async.transport.object_storage import ObjectPath

if TYPE_CHECKING:
    from collections.abc import Mapping

    from apimart_async.batch.job import Outcome

LONGEST_TEXT: Final = 4000
_LONGEST_DATA_URL: Final = 100_000
_DATA_URL: Final = re.compile(r"data:image/(png|jpeg|webp|gif);base64,[A-Za-z0-9+/=]*")


def row_of(
    outcome: Outcome, base: Path, position: int | None = None, longest_text: int = LONGEST_TEXT
) -> Mapping[str, Any]:
    """Return the facts about a job that the page shows, without unknown ones.

    Args:
        outcome: The job's.
        base: The folder of the page, absolute.
        position: Position of the job in its manifest, from 0.
        longest_text: Maximum number of characters of a prompt and of an error.
    """
    image = outcome.job.image if isinstance(outcome.job.image, str) else ""
    facts = {
        "id": outcome.id,
        "number": None if position is None else position + 1,
        "status": outcome.status,
        "name": _name(image) if image else outcome.job.name or "image",
        "source": _shorten(image, 300),
        "before": before(image, base),
        "link": image if _is_address(image) else None,
        "after": [relative(path, base) for path in outcome.paths],
        "prompt": _shorten(outcome.job.prompt, longest_text) or outcome.job.operation,
        "model": outcome.job.model,
        "cost": outcome.cost,
        "seconds": None if outcome.seconds is None else round(outcome.seconds, 2),
        "error": None if outcome.error is None else _shorten(message_of(outcome.error), longest_text),
        "task": outcome.task.id if outcome.task else None,
    }
    return {name: value for name, value in facts.items() if value not in (None, "", [])}


def message_of(error: Exception) -> str:
    """Return the message of an error, without the details of its request."""
    return error.message if isinstance(error, ApimartError) else str(error)


def before(image: str, base: Path) -> str | None:
    """Return the page's URL of an original, if it can be shown without a request to the network.

    Args:
        image: The original: a path, a URL, or a description of something else.
        base: The folder of the page, absolute.
    """
    if len(image) <= _LONGEST_DATA_URL and _DATA_URL.fullmatch(image):
        return image
    if isinstance(base, ObjectPath):
        return None  # a page in a bucket links to no file of this machine
    # Long texts and texts with zero bytes are not paths of files, which is not an error.
    return relative(Path(image), base) if image and not _is_address(image) and os.path.isfile(image) else None  # noqa: PTH113


def relative(path: Path, base: Path) -> str:
    """Return the URL of a file relative to a page; it is never a URL of another scheme.

    Args:
        path: The file.
        base: The folder of the page, absolute.
    """
    if isinstance(path, ObjectPath):
        return "/".join(quote(part, safe="") for part in path.relative_to(base).parts)
    absolute = Path(os.path.abspath(path))  # noqa: PTH100 links are the user's to keep
    try:
        parts = PurePath(os.path.relpath(absolute, base)).parts
    except ValueError:  # another drive
        return absolute.as_uri()
    return "/".join(quote(os.fsencode(part), safe="") for part in parts)


def _is_address(image: str) -> bool:
    try:
        parts = urlsplit(image)
        return parts.scheme in {"http", "https"} and bool(parts.hostname)
    except ValueError:
        return False


def _name(image: str) -> str:
    if image.startswith("data:"):
        return "data: URL"
    path = urlsplit(image).path if _is_address(image) else image
    return _shorten(PurePath(path).name or image, 120) or "image"


def _shorten(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"
