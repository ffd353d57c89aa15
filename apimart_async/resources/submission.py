"""A paid submit: check the arguments, send the request and read the task from the answer."""

from __future__ import annotations

import os
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import attrs

from apimart_async import errors
from apimart_async.config import check_headers
from apimart_async.resources.schemas import LostRequest
from apimart_async.transport import json, parsing
from apimart_async.transport.responses import indeterminate
from apimart_async.transport.retry import Kind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from apimart_async.models import ModelSchema, Task
    from apimart_async.resources.schemas import Schemas
    from apimart_async.transport.api import Api

_LONGEST_KEY: Final = 191
_LONGEST_KEPT: Final = 64 * 1024

RESPONSE_VERSION: Final = "X-APIMart-Response-Version"
_NEWEST_VERSION: Final = "2026-07-27"
# Models whose schema names a version of the answer, for services that have no schemas.
_VERSIONED: Final = re.compile(r"grok-(?:imagine-)?2\.0(?:-ext)?|gpt-image-2\.5-ext").fullmatch


def check_request(
    prompt: str,
    model: str,
    n: int | None,
    max_n: int = 10,
    *,
    has_prompt: bool = True,
    idempotency_key: str | None = None,
    extra_body: Mapping[str, Any] | None = None,
    extra_headers: Mapping[str, str] | None = None,
) -> None:
    """Check everything that can be checked before an image is uploaded and money is spent.

    ``has_prompt`` tells whether the request has a prompt.

    Raises:
        InvalidArgumentError: The prompt or the model is empty, ``n`` is outside 1 to ``max_n``, the key is
            not 1 to 191 visible ASCII characters, or an extra field or header cannot be sent.
    """
    # Typed as `object`: callers without a type checker pass anything.
    texts: tuple[tuple[str, object], ...] = (("prompt", prompt), ("model", model))
    for name, value in texts if has_prompt else texts[1:]:
        if not isinstance(value, str) or not value.strip():  # pyright: ignore[reportUnnecessaryIsInstance]
            raise errors.InvalidArgumentError(f"{name} must be a text that is not empty, not {value!r}.")
        if not _is_unicode(value):
            raise errors.InvalidArgumentError(
                f"{name} holds half of a surrogate pair, which cannot be sent: {value!r}."
            )
    count: object = n
    if count is not None and (type(count) is not int or not 1 <= count <= max_n):
        raise errors.InvalidArgumentError(f"n must be a whole number from 1 to {max_n}, not {n!r}.")
    if idempotency_key is not None and not (
        1 <= len(idempotency_key) <= _LONGEST_KEY and all("!" <= each <= "~" for each in idempotency_key)
    ):
        raise errors.InvalidArgumentError("idempotency_key must be 1 to 191 visible ASCII characters.")
    if extra_body:
        json.dumps(extra_body)
    if extra_headers:
        check_headers(extra_headers)


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


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
        api: Of the client.
        path: Endpoint.
        payload: Fields of the request.
        idempotency_key: A new one by default.
        timeout: Seconds for an attempt.
        extra_headers: Of the caller.
        schemas: Of the client.
        schema: Of the model, if it is known.
        lost: The same request, if it was sent before and its answer was lost.

    Raises:
        SubmissionIndeterminateError: The request may or may not have been executed, or it was and neither the
            task id nor the result is known.
        APIError: The request was not executed.
        InvalidArgumentError: The payload cannot be written as JSON, or a header cannot be sent.
    """
    key = os.urandom(16).hex() if idempotency_key is None else idempotency_key
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
    except errors.SubmissionIndeterminateError as error:
        if len(body) <= _LONGEST_KEPT:
            sent_to = error.url or ""
            home = next((each for each in api.settings.base_urls if sent_to.startswith(f"{each}/")), None)
            schemas.lost.keep(key, LostRequest(path, payload, extra_headers, repeats, home))
        raise
    schemas.lost.forget(key)
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
    return attrs.evolve(parsing.resolved(task, answer.base_url), base_url=answer.base_url)


async def collect(api: Api, schemas: Schemas, idempotency_key: str, timeout: float | None) -> Task:
    """Send a request whose answer was lost again under its key, if the service promises to execute it once.

    Raises:
        InvalidArgumentError: The client knows no such request.
        SubmissionIndeterminateError: There is no such promise, or the answer was lost again.
        APIError: The request failed.
    """
    lost = schemas.lost.get(idempotency_key)
    if lost is None:
        raise errors.InvalidArgumentError(
            f"No lost request with the key {idempotency_key!r} is known to this client: it keeps the last "
            "64, without those that hold images."
        )
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
