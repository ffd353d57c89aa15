"""A paid submit: the operations of the service, the check of the arguments, the request, and its task."""

from __future__ import annotations

import logging
import os
import re
from contextlib import nullcontext
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, cast, get_args

import attrs

from apimart_async import errors
from apimart_async.arguments import check_types, wrong_type
from apimart_async.config import check_headers
from apimart_async.hooks import Operation as PaidCall
from apimart_async.polling.watch import naming
from apimart_async.resources.schemas import LostRequest
from apimart_async.transport import json, observation, parsing
from apimart_async.transport.responses import indeterminate
from apimart_async.transport.retry import Kind

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from contextlib import AbstractAsyncContextManager

    from apimart_async.models import ModelSchema, Task
    from apimart_async.resources.schemas import Schemas
    from apimart_async.transport.api import Api
    from apimart_async.transport.responses import Answer

log: logging.Logger = logging.getLogger("apimart_async.resources")

Operation: TypeAlias = Literal["edit", "generate", "segment", "region_edit"]
"""The purpose of a paid request.

- ``"edit"``: change an image as a prompt says.
- ``"generate"``: make an image from a prompt, with or without reference images.
- ``"segment"``: find the regions of an image; free, without a prompt, with grok-imagine-2.0-ext only.
- ``"region_edit"``: change regions of an image as a prompt says, with grok-imagine-2.0-ext only.
"""

SentOperation: TypeAlias = Literal["segment", "region_edit"]
"""The operations that a request names."""

SENT_OPERATIONS: Final[tuple[SentOperation, ...]] = get_args(SentOperation)

EDITS: Final = "/v1/images/edits"
GENERATIONS: Final = "/v1/images/generations"
REGION_MODEL: Final = "grok-imagine-2.0-ext"

MOST_IMAGES: Final = 1_000
"""Bound of ``n`` for models without a known one: the service decides."""

_MOST_EDITS: Final = 10
_BOUNDS: Final = ((re.compile(r"grok-imagine-2\.0-ext"), 12), (re.compile(r"(.*-)?seedream"), 15))
_TAKES_REGIONS: Final = re.compile(r"grok-(imagine-)?2\.0-ext").match

_MOST_LOST: Final = 64
_LONGEST_KEY: Final = 191
_LONGEST_KEPT: Final = 64 * 1024

RESPONSE_VERSION: Final = "X-APIMart-Response-Version"
_NEWEST_VERSION: Final = "2026-07-27"
# Models whose schema names a version of the answer, for services that have no schemas.
_VERSIONED: Final = re.compile(r"grok-(?:imagine-)?2\.0(?:-ext)?|gpt-image-2\.5-ext").fullmatch


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
    if not isinstance(cast("object", operation), str) or operation not in SENT_OPERATIONS:
        raise errors.InvalidArgumentError(f"operation must be 'segment' or 'region_edit', not {operation!r}.")
    if not _TAKES_REGIONS(str(model)):
        raise errors.InvalidArgumentError(
            f"The model {model!r} is not known to take the operation {operation!r}, and would bill an image "
            f"instead: use {REGION_MODEL!r}."
        )
    if not has_images:
        raise errors.InvalidArgumentError(f"The operation {operation!r} needs an image.")
    if operation == "segment" and prompt:
        raise errors.InvalidArgumentError(
            "A segmentation takes no prompt: leave it out, or use 'region_edit'."
        )


def check_roles(roles: Sequence[str], images: int, path: str = GENERATIONS) -> None:
    """Check the roles of images.

    Raises:
        InvalidArgumentError: Their number is not that of the images, one is empty, or the endpoint takes
            none.
    """
    if isinstance(roles, list | tuple) and not roles:
        return
    if not isinstance(roles, list | tuple) or not all(map(_is_text, roles)):
        raise errors.InvalidArgumentError(f"roles must be a list of texts that are not empty, not {roles!r}.")
    if len(roles) != images:
        raise errors.InvalidArgumentError(
            f"There are {len(roles)} roles for {images} images: give one for each image."
        )
    if path == EDITS:
        raise errors.InvalidArgumentError("Models of the endpoint for edits take no roles of images.")


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def check_request(
    prompt: str,
    model: str,
    n: int | None,
    max_n: int = 10,
    *,
    has_prompt: bool = True,
    has_n: bool = True,
    idempotency_key: str | None = None,
    extra_body: Mapping[str, Any] | None = None,
    extra_headers: Mapping[str, str] | None = None,
    **others: object,
) -> None:
    """Check everything that can be checked before an image is uploaded and money is spent.

    ``has_prompt`` and ``has_n`` tell whether the request has these; of ``others`` only the types are checked.

    Raises:
        InvalidArgumentError: The prompt or the model is empty, ``n`` is outside 1 to ``max_n``, the key is
            not 1 to 191 visible ASCII characters, or an extra field or header cannot be sent.
    """
    check_types(idempotency_key=idempotency_key, extra_body=extra_body, extra_headers=extra_headers, **others)
    # Typed as `object`: callers without a type checker pass anything.
    texts: tuple[tuple[str, object], ...] = (("prompt", prompt), ("model", model))
    for name, value in texts if has_prompt else texts[1:]:
        if not isinstance(value, str) or not value.strip():  # pyright: ignore[reportUnnecessaryIsInstance]
            raise errors.InvalidArgumentError(f"{name} must be a text that is not empty, not {value!r}.")
        try:
            value.encode()
        except UnicodeEncodeError:
            raise errors.InvalidArgumentError(
                f"{name} holds half of a surrogate pair, which cannot be sent: {value!r}."
            ) from None
    count: object = n
    if (has_n or count is not None) and (type(count) is not int or not 1 <= count <= max_n):
        raise errors.InvalidArgumentError(f"n must be a whole number from 1 to {max_n}, not {n!r}.")
    if idempotency_key is not None and not (
        1 <= len(idempotency_key) <= _LONGEST_KEY and all("!" <= each <= "~" for each in idempotency_key)
    ):
        raise errors.InvalidArgumentError("idempotency_key must be 1 to 191 visible ASCII characters.")
    if extra_body:
        json.dumps(extra_body)
    if extra_headers:
        check_headers(extra_headers)


def operation(api: Api, payload: Mapping[str, Any]) -> AbstractAsyncContextManager[None]:
    """Report the paid request of the body to the hooks of the client."""
    if not api.session.hooks:
        return nullcontext()
    has_images = "image_urls" in payload or "image_with_roles" in payload
    name, model = payload.get("operation"), payload.get("model")
    described = PaidCall(
        "apimart",
        str(name or ("edit" if has_images else "generate")),
        None if model is None else str(model),
        api.settings.base_url,
    )
    return observation.operation(api.session.hooks, described)


async def submit(
    api: Api,
    path: str,
    payload: Mapping[str, Any],
    *,
    idempotency_key: str | None,
    timeout: float | None,
    extra_headers: Mapping[str, str] | None,
    schemas: Schemas,
    schema: ModelSchema | None,
    lost: LostRequest | None = None,
) -> Task:
    """Send a paid request under the given or a new idempotency key, and return its task.

    The task has ended if the service answers with the result itself.

    Args:
        api: API of the client.
        path: Endpoint.
        payload: Fields of the request.
        idempotency_key: A new one by default.
        timeout: Seconds for an attempt.
        extra_headers: Additional headers of the caller.
        schemas: Schemas of the client.
        schema: Schema of the model, if it is known.
        lost: The same request, if it was sent before and its answer was lost.

    Raises:
        SubmissionIndeterminateError: The request may or may not have been executed, or it was and neither the
            task id nor the result is known.
        APIError: The request was not executed.
        InvalidArgumentError: The payload cannot be written as JSON, or a header cannot be sent.
    """
    key = os.urandom(16).hex() if idempotency_key is None else idempotency_key
    name = api.settings.api_key, key  # users with keys of their own may choose the same idempotency key
    # Polling is scheduled by the model, the resolution, the number of images and the age of the task.
    model, n, resolution = payload.get("model"), payload.get("n"), payload.get("resolution")
    version = _version(schema, model)
    if version is not None:
        extra_headers = _with_version(extra_headers or {}, version)
    repeats = schemas.repeats(path, payload) if lost is None else lost.repeats
    repeats.needs_promise = lost is not None
    body = json.dumps(payload)
    try:
        answer = await api.request(
            "POST",
            path,
            kind=Kind.PAID_WRITE,
            body=body,
            idempotency_key=key,
            timeout=timeout,
            extra_headers=extra_headers,
            repeats=repeats,
            home=None if lost is None else lost.base_url,
        )
    except BaseException as raised:
        home = _perhaps_executed_at(api, raised, key)
        if home is not None and len(body) <= _LONGEST_KEPT:
            schemas.lost.pop(name, None)
            if len(schemas.lost) >= _MOST_LOST:
                del schemas.lost[next(iter(schemas.lost))]
            schemas.lost[name] = LostRequest(path, payload, extra_headers, repeats, home)
        raise
    schemas.lost.pop(name, None)
    try:
        task = parsing.read_submission(
            answer.payload,
            idempotency_key=key,
            model=model if isinstance(model, str) else None,
            submitted_at=datetime.now(UTC),
            n=n if isinstance(n, int) else 1,
            resolution=resolution if isinstance(resolution, str) else None,
            is_replay=answer.replayed if answer.replayed or answer.is_repeat else None,
        )
    except errors.APIResponseValidationError as error:
        error.method, error.url = "POST", answer.base_url + path
        error.request_id, error.idempotency_key = answer.request_id, key
        raise indeterminate(error) from error
    task = attrs.evolve(parsing.resolved(task, answer.base_url), base_url=answer.base_url)
    with naming(task, logging.WARNING):
        _report_submit(api, task, answer)
    return task


def _perhaps_executed_at(api: Api, raised: BaseException, key: str) -> str | None:
    """Return the base URL at which a request may have been executed that an exception has ended."""
    base_urls = api.settings.base_urls
    if len(base_urls) == 1:
        is_marked = vars(raised).get("idempotency_key") == key
        is_cut_off = is_marked and not isinstance(raised, errors.ApimartError)
        is_lost = is_cut_off or isinstance(raised, errors.SubmissionIndeterminateError)
        return base_urls[0] if is_lost else None
    # A cancellation does not say which of several addresses it was.
    sent_to = (isinstance(raised, errors.SubmissionIndeterminateError) and raised.url) or ""
    return next((each for each in base_urls if sent_to.startswith(f"{each}/")), None)


def _report_submit(api: Api, task: Task, answer: Answer) -> None:
    """Log a submitted task, and call the hooks."""
    hooks = api.session.hooks
    if log.isEnabledFor(logging.INFO):
        name, key = f"Task {task.id or 'without an id'}", f"idempotency key {task.idempotency_key}"
        siblings = f" with its siblings {', '.join(task.sibling_ids)}" if task.sibling_ids else ""
        request_id = observation.as_name(answer.request_id)
        request = f", request id {request_id}" if request_id else ""
        replay = ", the answer to a request before it" if task.is_replay else ""
        model = observation.as_name(task.model)
        line = f"{name}{siblings} submitted: {model}, n={task.n}, {key}{request}{replay}"
        log.info("%s.", errors.visible(line))
        if task.is_finished:
            cost = "" if task.cost is None else f", {task.cost:g} USD"
            images = observation.counted(len(task.images), "image")
            log.info("%s.", errors.visible(f"{name} {task.status} at once: {images}{cost}"))
    if hooks:
        observation.notify(hooks, "submitted", lambda each: each.submitted(task))
        if task.is_finished:
            observation.notify(hooks, "ended", lambda each: each.ended(task, 0.0))


async def collect(api: Api, schemas: Schemas, idempotency_key: str, timeout: float | None) -> Task:
    """Send a request whose answer was lost again under its key, if the service promises to execute it once.

    Raises:
        InvalidArgumentError: The client knows no such request.
        SubmissionIndeterminateError: There is no such promise, or the answer was lost again.
        APIError: The request failed.
    """
    if not isinstance(cast("object", idempotency_key), str):
        raise wrong_type("idempotency_key", "a text", idempotency_key)
    check_types(timeout=timeout)
    lost = schemas.lost.get((api.settings.api_key, idempotency_key))
    if lost is None:
        raise errors.InvalidArgumentError(
            f"No lost request with the key {idempotency_key!r} is known to this client: it keeps the last "
            "64, without those that hold images."
        )
    async with operation(api, lost.payload):
        return await submit(
            api,
            lost.path,
            lost.payload,
            idempotency_key=idempotency_key,
            timeout=timeout,
            extra_headers=lost.headers,
            schemas=schemas,
            schema=None,
            lost=lost,
        )


def _version(schema: ModelSchema | None, model: object) -> str | None:
    """Return the version of the answer to ask for; never a newer one than this package reads."""
    if schema is not None:
        version = schema.response_version
        return None if version is None else min(version, _NEWEST_VERSION)
    return _NEWEST_VERSION if isinstance(model, str) and _VERSIONED(model) else None


def _with_version(headers: Mapping[str, str], version: str) -> Mapping[str, str]:
    """Return headers that ask for a version of the answer, unless they name one themselves."""
    is_chosen = RESPONSE_VERSION.lower() in map(str.lower, headers)
    return headers if is_chosen else {**headers, RESPONSE_VERSION: version}
