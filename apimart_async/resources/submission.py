"""One paid submit: arguments checked, key minted, sent once, the task read from whatever shape comes back."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from apimart_async import errors
from apimart_async.transport import json, parsing
from apimart_async.transport.headers import checked_headers, checked_idempotency_key
from apimart_async.transport.responses import indeterminate
from apimart_async.transport.retry import Kind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from apimart_async.models import Task
    from apimart_async.transport.api import Service


def check_request(prompt: str, model: str, n: int | None, most: int = 10) -> None:
    """Check what can be checked before money is spent.

    Raises:
        InvalidArgumentError: An empty prompt or model, or ``n`` outside 1 to ``most``.
    """
    # Typed as `object`: callers without a type checker pass anything.
    texts: tuple[tuple[str, object], ...] = (("prompt", prompt), ("model", model))
    for name, value in texts:
        if not isinstance(value, str) or not value.strip():  # pyright: ignore[reportUnnecessaryIsInstance]
            raise errors.InvalidArgumentError(f"{name} must be a text that is not empty, not {value!r}.")
    count: object = n
    if count is not None and (type(count) is not int or not 1 <= count <= most):
        raise errors.InvalidArgumentError(f"n must be a whole number from 1 to {most}, not {n!r}.")


def check_extras(extra_body: Mapping[str, Any] | None, extra_headers: Mapping[str, str] | None) -> None:
    """Check what the caller adds, before a picture is uploaded for it.

    Raises:
        InvalidArgumentError: It cannot be written as JSON, or a header cannot be sent.
    """
    if extra_body:
        json.dumps(extra_body)
    if extra_headers:
        checked_headers(extra_headers)


def new_idempotency_key(given: str | None) -> str:
    """Return the caller's key, or a new one.

    Raises:
        InvalidArgumentError: It is not 1 to 191 visible ASCII characters, as the service demands.
    """
    return os.urandom(16).hex() if given is None else checked_idempotency_key(given)


async def submit(
    service: Service,
    path: str,
    payload: Mapping[str, Any],
    *,
    idempotency_key: str,
    timeout: float | None,
    extra_headers: Mapping[str, str] | None,
) -> Task:
    """Send a paid request and return the task it started.

    Raises:
        SubmissionIndeterminateError: It may or may not have been executed, or was and the id is not known.
        APIError: It was not executed.
        InvalidArgumentError: It cannot be written as JSON, or a header cannot be sent.
    """
    answer = await service.request(
        "POST",
        path,
        kind=Kind.PAID_WRITE,
        body=json.dumps(payload),
        idempotency_key=idempotency_key,
        timeout=timeout,
        extra_headers=extra_headers,
    )
    # How long it has been running, and what runs it, is what polling goes by.
    model = payload.get("model")
    try:
        return parsing.read_submission(
            answer.payload,
            idempotency_key=idempotency_key,
            model=model if isinstance(model, str) else None,
            created_at=datetime.now(UTC),
        )
    except errors.APIResponseValidationError as error:
        error.method, error.url = "POST", service.settings.base_url + path
        error.request_id, error.idempotency_key = answer.request_id, idempotency_key
        raise indeterminate(error) from error
