"""The operations of the service, and the endpoint and the bounds of each model. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, get_args

from apimart_async.errors import InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Operation: TypeAlias = Literal["edit", "generate", "segment", "region_edit"]
"""The purpose of a paid request.

- ``"edit"``: change an image as a prompt says.
- ``"generate"``: make an image from a prompt, with or without reference images.
- ``"segment"``: find the regions of an image; free, without a prompt, with grok-imagine-2.0-ext only.
- ``"region_edit"``: change regions of an image as a prompt says, with grok-imagine-2.0-ext only.
"""

SentOperation: TypeAlias = Literal["segment", "region_edit"]
"""The operations that a request names."""

OPERATIONS: Final[tuple[Operation, ...]] = get_args(Operation)
SENT_OPERATIONS: Final[tuple[SentOperation, ...]] = get_args(SentOperation)

EDITS: Final = "/v1/images/edits"
GENERATIONS: Final = "/v1/images/generations"
REGION_MODEL: Final = "grok-imagine-2.0-ext"

MOST_IMAGES: Final = 1_000
"""Bound of ``n`` for models without a known one: the service decides."""

_MOST_EDITS: Final = 10
_BOUNDS: Final = ((re.compile(r"grok-imagine-2\.0-ext"), 12), (re.compile(r"(.*-)?seedream"), 15))
_TAKES_REGIONS: Final = re.compile(r"grok-(imagine-)?2\.0-ext").match


def submit_path(model: str, endpoint: str | None = None) -> str:
    """Return the path that edits with a model are submitted to.

    Args:
        model: As it is sent.
        endpoint: The path that the model's schema names. Without a known one, the name of the model decides:
            only ``-edit-`` models work on the endpoint for edits.
    """
    if endpoint in {EDITS, GENERATIONS}:
        return endpoint
    return EDITS if "-edit-" in str(model) else GENERATIONS


def max_n(model: str) -> int:
    """Return the maximum number of variants of one request."""
    if submit_path(model) == EDITS:
        return _MOST_EDITS
    return next((bound for pattern, bound in _BOUNDS if pattern.match(str(model))), MOST_IMAGES)


def sent_operation(operation: Operation) -> SentOperation | None:
    """Return the operation as the request names it; ``None`` where the endpoint and the images say it."""
    return None if operation == "edit" or operation == "generate" else operation  # noqa: PLR1714 mypy narrows this one alone


def is_free(operation: str | None) -> bool:
    """Tell whether the service bills nothing for an operation."""
    return operation == "segment"


def has_prompt(operation: str | None, fields: Mapping[str, Any]) -> bool:
    """Tell whether a request needs a prompt: not for a segmentation, nor with ``messages`` instead."""
    return not (is_free(operation) or "messages" in fields)


def check_operation(operation: str | None, model: str, prompt: str | None, *, has_images: bool) -> None:
    """Check that a model takes an operation that the request names.

    Another model ignores the field, and bills an image.

    Raises:
        InvalidArgumentError: The operation is unknown, the model is not known to take it, there is no image,
            or a prompt for a segmentation.
    """
    if operation is None:
        return
    if operation not in SENT_OPERATIONS:
        raise InvalidArgumentError(f"operation must be 'segment' or 'region_edit', not {operation!r}.")
    if not _TAKES_REGIONS(str(model)):
        raise InvalidArgumentError(
            f"The model {model!r} is not known to take the operation {operation!r}, and would bill an image "
            f"instead: use {REGION_MODEL!r}."
        )
    if not has_images:
        raise InvalidArgumentError(f"The operation {operation!r} needs an image.")
    if operation == "segment" and prompt:
        raise InvalidArgumentError("A segmentation takes no prompt: leave it out, or use 'region_edit'.")


def check_roles(roles: Sequence[str], images: int, path: str = GENERATIONS) -> None:
    """Check the roles of images.

    Raises:
        InvalidArgumentError: Their number is not that of the images, one is empty, or the endpoint takes
            none.
    """
    if not roles:
        return
    if isinstance(roles, str) or not all(map(_is_text, roles)):
        raise InvalidArgumentError(f"roles must be a list of texts that are not empty, not {roles!r}.")
    if len(roles) != images:
        raise InvalidArgumentError(
            f"There are {len(roles)} roles for {images} images: give one for each image."
        )
    if path == EDITS:
        raise InvalidArgumentError("Models of the endpoint for edits take no roles of images.")


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())
