"""The limits of each model: its endpoint, its number of images, and its operations on regions."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from .request_parsing import MAX_IMAGES, optional_string
from .responses import bad_request

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .request_parsing import Fields

_GENERATIONS_ONLY = re.compile(r"gpt-image-|gemini-|seedream|qwen-image|wan2|flux-|grok-imagine-2\.0")
_REGIONS = re.compile(r"grok-(imagine-)?2\.0-ext").match
_MAX_IMAGES = {"grok-imagine-2.0-ext": 12}
_MAX_SEEDREAM = 15


def check_edits(model: str) -> None:
    """Check that a model works on `/v1/images/edits`; unknown names do.

    Raises:
        ServiceError: 400, for a model that edits on `/v1/images/generations`.
    """
    if "-edit-" not in model and _GENERATIONS_ONLY.match(model):
        raise bad_request(f"model {model} is not supported on /v1/images/edits, use /v1/images/generations")


def max_images(model: str) -> int:
    """Return the most images of one request for a generation."""
    return _MAX_SEEDREAM if "seedream" in model else _MAX_IMAGES.get(model, MAX_IMAGES)


def read_operation(fields: Fields, model: str, urls: Sequence[str]) -> str | None:
    """Return the operation on regions; None for a model that ignores the field.

    Raises:
        ServiceError: 400, for an unknown operation, a missing image, a prompt for a segmentation, or no
            prompt for an edit of regions.
    """
    operation = optional_string(fields, "operation")
    if operation is None or not _REGIONS(model):
        return None
    if operation not in {"segment", "region_edit"}:
        raise bad_request(f"operation must be segment or region_edit, not {operation}")
    if not urls:
        raise bad_request(f"operation {operation} needs an image")
    if bool(optional_string(fields, "prompt")) is (operation == "segment"):
        raise bad_request(
            f"operation {operation} {'takes no' if operation == 'segment' else 'needs a'} prompt"
        )
    return operation
