"""Events of a stream of images, to models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from apimart_async.models import CompletedImageEvent, ImageEvent, PartialImageEvent
from apimart_async.transport.image_parsing import RESULT_LIFETIME, find_images, read_image_set, read_usage
from apimart_async.transport.json import is_mapping, moment, text, whole

if TYPE_CHECKING:
    from collections.abc import Mapping

_PARTIAL = "partial_image"
_COMPLETED = "completed"


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
