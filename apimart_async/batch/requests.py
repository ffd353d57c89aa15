"""The paid request of a job: its checks and its digest, before money is spent. Pure."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any, Final

from apimart_async.batch.nesting import MOST_LEVELS, is_too_deep
from apimart_async.errors import InvalidArgumentError
from apimart_async.resources import edits, generations, submission
from apimart_async.resources.submission import check_request
from apimart_async.transport.media import forms

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from apimart_async.batch.job import Job
    from apimart_async.resources.submission import Operation
    from apimart_async.transport.media.forms import SingleImage

APIMART_MODELS: Final[Mapping[Operation, str]] = {
    "edit": edits.DEFAULT_MODEL,
    "generate": generations.DEFAULT_MODEL,
    "segment": submission.REGION_MODEL,
    "region_edit": submission.REGION_MODEL,
}
"""The operations of APIMart, and the model of jobs that name none."""

APPLEROUTER_MODELS: Final[Mapping[Operation, str]] = {"edit": "default"}
"""The operations of AppleRouter in a batch, and the name that reports and budgets have for no model."""

RESERVED: Final = frozenset(
    {
        *("image", "images", "image_urls", "image_with_roles"),
        *("model", "n", "operation", "prompt", "roles"),
    }
)
"""Fields of the request that are never options, because a job has attributes for them."""


def model_of(job: Job, models: Mapping[Operation, str]) -> str:
    """Return the model of a job: its own, or that of its operation."""
    return models.get(job.operation, "") if job.model is None else job.model


def images_of(job: Job) -> list[SingleImage]:
    """Return the images of a job, without its mask.

    Raises:
        ImageError: The value is not an image, or is an empty list.
    """
    return [] if job.image is None else forms.flatten(job.image)


def check_job(job: Job, models: Mapping[Operation, str]) -> None:
    """Check everything about a job but the content of its images.

    Args:
        job: As it was given.
        models: The operations of the service, and the model of jobs that name none.

    Raises:
        InvalidArgumentError: The attributes of the job contradict each other, or one is out of range.
        ImageError: A value of ``image`` is not an image, or the list is empty.
    """
    if is_too_deep([job.options, job.extra]):
        raise InvalidArgumentError(f"The options and extra data of a job have {MOST_LEVELS} levels at most.")
    model, operation = model_of(job, models), job.operation
    if operation not in models:
        listed = ", ".join(map(repr, models))
        raise InvalidArgumentError(
            f"The operation of a job with this service must be one of {listed}, not {operation!r}."
        )
    reserved = RESERVED & job.options.keys()
    if reserved:
        raise InvalidArgumentError(f"options cannot hold {', '.join(sorted(reserved))}: a job has its own.")
    images = len(images_of(job))
    if not images and operation != "generate":
        raise InvalidArgumentError(
            f"The operation {operation!r} needs an image: give one, or use 'generate'."
        )
    if models is APPLEROUTER_MODELS:
        check_request(job.prompt, model, job.n)
        submission.check_roles(job.roles, images, submission.EDITS)
        return
    has_prompt = submission.has_prompt(operation, job.options) or bool(job.prompt)
    check_request(job.prompt, model, job.n, submission.max_n(model), has_prompt=has_prompt)
    path = submission.submit_path(model)
    if operation in submission.SENT_OPERATIONS:
        submission.check_operation(operation, model, job.prompt, has_images=True)
    elif operation == "generate" and path == submission.EDITS:
        raise InvalidArgumentError(
            f"The model {model!r} only edits: use the operation 'edit', or another model."
        )
    if "mask" in job.options and path == submission.EDITS:
        raise InvalidArgumentError(f"The model {model!r} takes no mask: use another model.")
    submission.check_roles(job.roles, images, path)


def is_plain_edit(job: Job) -> bool:
    """Tell whether a job is an edit without a mask and roles, which the endpoint for edits may take."""
    return job.operation == "edit" and not job.roles and "mask" not in job.options


def fields_of(job: Job, model: str) -> dict[str, Any]:
    """Return the fields of the request of a job with APIMart, with its images as they were given."""
    images, operation = images_of(job), submission.sent_operation(job.operation)
    optional = {
        "prompt": job.prompt,
        "image_with_roles" if job.roles else "image_urls": images,
        "operation": operation,
        "n": None if job.n == 1 else job.n,
        "mask_url": "(a mask)" if "mask" in job.options else None,
    }
    fields: dict[str, Any] = {"model": model}
    fields |= {name: value for name, value in optional.items() if value}
    return fields | {name: value for name, value in job.options.items() if name != "mask"}


def payload_digest(job: Job, model: str, images: Sequence[str], options: Mapping[str, Any]) -> str:
    """Return the digest of the request of a job, which is its identity.

    Args:
        job: Its prompt, its number of variants, its operation and its roles count.
        model: As it is sent.
        images: Digests of local images, URLs of the others.
        options: Further fields, with the digest or the URL of a mask; values have a JSON form.
    """
    asked: list[Any] = [images, job.prompt, model, job.n, options]
    if job.operation != "edit" or job.roles:
        # Edits keep the digest that they had before there were other operations.
        asked += [job.operation, list(job.roles)]
    text = json.dumps(asked, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
