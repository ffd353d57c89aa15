"""Pure: an HTTP answer of the API read as a good answer, or as an error and its effect on the request."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import quote, urljoin, urlsplit, urlunsplit

import attrs

from apimart_async import errors
from apimart_async.transport import parsing, retry
from apimart_async.transport.answers import decode
from apimart_async.transport.error_parsing import find_request_id, read_error
from apimart_async.transport.retry import Effect, Kind
from apimart_async.urls import bare_url, origin

if TYPE_CHECKING:
    from collections.abc import Mapping

    from apimart_async.credentials import Secret
    from apimart_async.transport.exchange import Download

_OK_BELOW: Final = 300
_BAD_FROM: Final = 400
_KEEPS_THE_BODY: Final = frozenset({307, 308})
# Characters that stand for themselves in a path or a query (RFC 3986), and the mark of those quoted already.
_KEPT: Final = "%/:?@!$&'()*+,;=~"


EVENTS: Final = "text/event-stream"
"""Content type of an answer that is a series of events."""

EVENTS_END: Final = b"[DONE]"
"""Data of the event that ends some streams."""

FAREWELL: Final = 408
"""Request Timeout: how a server gives up an idle connection. It may have crossed a request on its way."""


class Reply(NamedTuple):
    """An HTTP answer as received.

    Attributes:
        status: HTTP status.
        headers: Names in any case.
        data: The whole body.
        pool: Connections it came through, given up if it is the answer to another request.
        events: The body of an answer that is read event by event; ``data`` is empty then.
    """

    status: int
    headers: Mapping[str, str]
    data: bytes
    pool: object = None
    events: Download | None = None


class Answer(NamedTuple):
    """A good answer of the API.

    Attributes:
        payload: Decoded JSON.
        request_id: The service's id of a paid request; not looked for in other answers.
        replayed: Whether it repeats the answer to an earlier request with the same idempotency key.
        is_repeat: Whether an earlier attempt of this request may have been executed.
        etag: Version of the content, for ``If-None-Match``.
        base_url: Base URL of the origin that answered.
    """

    payload: Any
    request_id: str | None
    replayed: bool
    is_repeat: bool = False
    etag: str | None = None
    base_url: str = ""


@attrs.frozen
class FailedAttempt:
    """An attempt without a good answer.

    Attributes:
        effect: Whether the request was executed.
        error: Error to raise if there is no further attempt.
        retry_after: Seconds the service asks to wait.
        moved_to: Target of a redirect that may be followed.
    """

    effect: Effect
    error: errors.APIError
    retry_after: float | None = None
    moved_to: str | None = None


def read_response(reply: Reply, kind: Kind, url: str, key: Secret) -> Answer | FailedAttempt:
    """Read an HTTP answer as a good answer, or as an error and its effect on the request.

    A key that the service repeats is taken out before anything is read.
    """
    status = reply.status
    data = key.redact_bytes(reply.data)
    if _OK_BELOW <= status < _BAD_FROM:
        return _read_redirect(reply, url)
    try:
        payload = decode(data, is_good=status < _OK_BELOW)
    except errors.APIResponseValidationError as unreadable:
        if status < _OK_BELOW:
            return _failed(Effect.UNKNOWN, unreadable, reply)
        message = f"{unreadable.message[:-1]}: {unreadable.excerpt}"
        error = retry.error_class(status)(message, status=status, is_page=True)
        return _failed(retry.effect_of_answer(status, error), error, reply)
    found = read_error(payload)
    if found is None and status < _OK_BELOW:
        if kind is not Kind.PAID_WRITE:
            return Answer(payload, None, replayed=False, etag=reply.headers.get("ETag"))
        request_id = reply_id(reply.headers) or find_request_id(payload)
        request_id = request_id and key.redact(request_id)
        replayed = reply.headers.get("Idempotency-Replayed", "").lower() == "true"
        return Answer(payload, request_id, replayed)
    said = retry.effective_status(status, found)
    error = retry.error_class(said or status)(
        found.message if found else "The service answered with an error it does not explain.",
        status=said or status,
        code=found.code if found else None,
        type=found.type if found else None,
    )
    error.request_id = find_request_id(payload, error.message)
    effect = retry.effect_of_answer(said, error)
    if kind is Kind.PAID_WRITE and status < _OK_BELOW:
        # An answer that names an error and a task: only the account knows which is true.
        error.task_id = parsing.submitted_task_id(payload)
        effect = Effect.UNKNOWN if error.task_id else effect
    return _failed(effect, error, reply)


def _failed(effect: Effect, error: errors.APIError, reply: Reply) -> FailedAttempt:
    retry_after = retry.read_retry_after(reply.headers, datetime.now(UTC))
    error.status = error.status or reply.status
    error.request_id = reply_id(reply.headers) or error.request_id
    if isinstance(error, errors.APIStatusError):
        error.retry_after = retry_after
    return FailedAttempt(effect, error, retry_after)


def reply_id(headers: Mapping[str, str]) -> str | None:
    """Return the service's id of a request, from the headers of its answer."""
    return headers.get("X-Oneapi-Request-Id") or headers.get("X-Request-Id")


def _read_redirect(reply: Reply, url: str) -> FailedAttempt:
    """Allow a redirect that keeps method, body and origin; any other would lose the image or leak the key."""
    location = reply.headers.get("Location", "")
    target = _within_origin(url, location)
    moved_to: str | None = None
    if target is None:
        why = "another host must not see the key"
    elif reply.status not in _KEEPS_THE_BODY:
        why = f"HTTP {reply.status} would not keep the method and the body"
    elif target == url:
        why = "it leads back to itself"
    else:
        why = "only one redirect is followed"
        moved_to = target
    try:
        shown = bare_url(urljoin(url, location))
    except ValueError:
        shown = "an invalid URL"
    error = retry.error_class(reply.status)(
        f"The service redirects to {shown}, which was not followed: {why}. Check base_url.",
        status=reply.status,
        request_id=reply_id(reply.headers),
    )
    return FailedAttempt(Effect.REJECTED, error, moved_to=moved_to)


def _within_origin(url: str, location: str) -> str | None:
    """Return the target of a redirect, quoted for a request; ``None`` for another origin."""
    try:
        target = urljoin(url, location)
        if origin(target) != origin(url):
            return None
        parts = urlsplit(target)
    except ValueError:
        return None
    path, query = (quote(part, _KEPT, errors="replace") for part in (parts.path, parts.query))
    return urlunsplit((parts.scheme, urlsplit(url).netloc, path, query, ""))


def indeterminate(error: errors.APIError) -> errors.SubmissionIndeterminateError:
    """Make the error for a paid request that may have been executed, with the facts of its last error."""
    known = {
        name: getattr(error, name)
        for name in ("status", "code", "type", "request_id", "method", "url", "task_id", "idempotency_key")
    }
    reason = error.message.rstrip(".")
    key = f"; idempotency key {error.idempotency_key}" if error.idempotency_key else ""
    message = (
        f"It is not known whether this paid request was executed: {reason}. It is not sent again. "
        f"Look at the account before submitting the same work anew{key}."
    )
    return errors.SubmissionIndeterminateError(message, **known)
