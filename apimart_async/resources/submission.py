"""A paid submit: check the arguments, send the request and read the task from the answer."""

from __future__ import annotations

import os
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import attrs

from apimart_async import errors
from apimart_async.config import check_headers
from apimart_async.transport import json, parsing
from apimart_async.transport.responses import indeterminate
from apimart_async.transport.retry import Kind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from apimart_async.models import Task
    from apimart_async.transport.api import Api

_LONGEST_KEY: Final = 191

RESPONSE_VERSION: Final = "X-APIMart-Response-Version"
_NEWEST_VERSION: Final = "2026-07-27"
# Models whose schema names a version of the answer.
_VERSIONED: Final = re.compile(r"grok-(?:imagine-)?2\.0(?:-ext)?|gpt-image-2\.5-ext").fullmatch


def check_request(
    prompt: str,
    model: str,
    n: int | None,
    max_n: int = 10,
    *,
    idempotency_key: str | None = None,
    extra_body: Mapping[str, Any] | None = None,
    extra_headers: Mapping[str, str] | None = None,
) -> None:
    """Check everything that can be checked before an image is uploaded and money is spent.

    Raises:
        InvalidArgumentError: The prompt or the model is empty, ``n`` is outside 1 to ``max_n``, the key is
            not 1 to 191 visible ASCII characters, or an extra field or header cannot be sent.
    """
    # Typed as `object`: callers without a type checker pass anything.
    texts: tuple[tuple[str, object], ...] = (("prompt", prompt), ("model", model))
    for name, value in texts:
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
) -> Task:
    """Send a paid request under the given or a new idempotency key, and return its task.

    The task has ended if the service answers with the result itself.

    Raises:
        SubmissionIndeterminateError: The request may or may not have been executed, or it was and neither the
            task id nor the result is known.
        APIError: The request was not executed.
        InvalidArgumentError: The payload cannot be written as JSON, or a header cannot be sent.
    """
    key = os.urandom(16).hex() if idempotency_key is None else idempotency_key
    # Polling is scheduled by the model, the resolution, the number of images and the age of the task.
    model, n, resolution = payload.get("model"), payload.get("n"), payload.get("resolution")
    if isinstance(model, str) and _VERSIONED(model):
        extra_headers = _with_version(extra_headers or {})
    answer = await api.request(
        "POST",
        path,
        kind=Kind.PAID_WRITE,
        body=json.dumps(payload),
        idempotency_key=key,
        timeout=timeout,
        extra_headers=extra_headers,
    )
    try:
        task = parsing.read_submission(
            answer.payload,
            idempotency_key=key,
            model=model if isinstance(model, str) else None,
            submitted_at=datetime.now(UTC),
            n=n if isinstance(n, int) else 1,
            resolution=resolution if isinstance(resolution, str) else None,
        )
    except errors.APIResponseValidationError as error:
        error.method, error.url = "POST", answer.base_url + path
        error.request_id, error.idempotency_key = answer.request_id, key
        raise indeterminate(error) from error
    return attrs.evolve(parsing.resolved(task, answer.base_url), base_url=answer.base_url)


def _with_version(headers: Mapping[str, str]) -> Mapping[str, str]:
    """Return headers that ask for the newest answer, unless they name a version themselves."""
    is_chosen = RESPONSE_VERSION.lower() in map(str.lower, headers)
    return headers if is_chosen else {**headers, RESPONSE_VERSION: _NEWEST_VERSION}
