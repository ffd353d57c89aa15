"""Pure: an answer of the API read as a good answer, or as an error with what it tells of the request."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import quote, urljoin, urlsplit, urlunsplit

import attrs

from apimart_async import errors
from apimart_async.transport import json, parsing, retry
from apimart_async.transport.retry import Effect, Kind
from apimart_async.urls import bare_url, origin

if TYPE_CHECKING:
    from collections.abc import Mapping

_OK_BELOW: Final = 300
_BAD_FROM: Final = 400
_KEEPS_THE_BODY: Final = frozenset({307, 308})
# What stands for itself in a path or a query (RFC 3986), and what is quoted already.
_KEPT: Final = "%/:?@!$&'()*+,;=~"


class Reply(NamedTuple):
    """An answer as it came, not judged.

    Attributes:
        status: HTTP status.
        headers: Names in any case.
        data: The whole body.
    """

    status: int
    headers: Mapping[str, str]
    data: bytes


class Answer(NamedTuple):
    """A good answer of the API.

    Attributes:
        payload: Decoded JSON.
        headers: Names in any case.
    """

    payload: Any
    headers: Mapping[str, str]

    @property
    def request_id(self) -> str | None:
        """Return what the service calls the request."""
        return _request_id(self.headers)

    @property
    def replayed(self) -> bool:
        """Tell whether it repeats the answer to an earlier request with the same idempotency key."""
        return self.headers.get("Idempotency-Replayed", "").lower() == "true"


@attrs.frozen
class Verdict:
    """What a try without a good answer came to: an error, and what is known of the request.

    Attributes:
        effect: Whether the request was executed.
        error: What went wrong.
        retry_after: Seconds the service asks to wait.
        moved_to: Where a redirect leads that may be followed.
    """

    effect: Effect
    error: errors.APIError
    retry_after: float | None = None
    moved_to: str | None = None


def judge(reply: Reply, kind: Kind, url: str) -> Answer | Verdict:
    """Read an answer: good, or an error and what it tells of the request."""
    if _OK_BELOW <= reply.status < _BAD_FROM:
        return _judge_redirect(reply, url)
    try:
        payload = json.loads(reply.data)
    except errors.APIResponseValidationError as unreadable:
        return _judge_unreadable(reply, unreadable)
    found = parsing.read_error(payload)
    if found is None and reply.status < _OK_BELOW:
        return Answer(payload, reply.headers)
    effect = retry.effect_of_answer(reply.status, found)
    message = found.message if found else "The service answered with an error it does not explain."
    error = retry.error_class(reply.status, found)(message)
    if kind is Kind.PAID_WRITE and reply.status < _OK_BELOW:
        # It says both that it failed and which task it is: only the account knows.
        error.task_id = parsing.submitted_task_id(payload)
        effect = Effect.UNKNOWN if error.task_id else effect
    if found is not None:
        error.code, error.type = found.code, found.type
        if found.status is not None and reply.status < _OK_BELOW:
            error.status = found.status
    return _with_facts(effect, error, reply)


def _judge_unreadable(reply: Reply, unreadable: errors.APIResponseValidationError) -> Verdict:
    effect = retry.effect_of_answer(reply.status, None)
    if effect is Effect.DONE:
        return _with_facts(Effect.UNKNOWN, unreadable, reply)
    error = retry.error_class(reply.status, None)(f"{unreadable.message[:-1]}: {unreadable.excerpt}")
    return _with_facts(effect, error, reply)


def _with_facts(effect: Effect, error: errors.APIError, reply: Reply) -> Verdict:
    retry_after = retry.read_retry_after(reply.headers, datetime.now(UTC))
    error.status = error.status or reply.status
    error.request_id = _request_id(reply.headers)
    if isinstance(error, errors.APIStatusError):
        error.retry_after = retry_after
    return Verdict(effect, error, retry_after)


def _request_id(headers: Mapping[str, str]) -> str | None:
    return headers.get("X-Oneapi-Request-Id") or headers.get("X-Request-Id")


def _judge_redirect(reply: Reply, url: str) -> Verdict:
    """Follow what keeps method, body and origin; refuse what would drop the image or carry the key away."""
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
    error = retry.error_class(reply.status, None)(
        f"The service redirects to {_shown(url, location)}, which was not followed: {why}. Check base_url.",
        status=reply.status,
        request_id=_request_id(reply.headers),
    )
    return Verdict(Effect.REJECTED, error, moved_to=moved_to)


def _within_origin(url: str, location: str) -> str | None:
    """Return where a redirect leads, fit to be requested; ``None`` when that is another origin."""
    try:
        target = urljoin(url, location)
        if origin(target) != origin(url):
            return None
        parts = urlsplit(target)
    except ValueError:
        return None
    path, query = (quote(part, _KEPT, errors="replace") for part in (parts.path, parts.query))
    return urlunsplit((parts.scheme, urlsplit(url).netloc, path, query, ""))


def _shown(url: str, location: str) -> str:
    try:
        return bare_url(urljoin(url, location))
    except ValueError:
        return "an invalid URL"


def indeterminate(error: errors.APIError) -> errors.SubmissionIndeterminateError:
    """Make the error that says a paid request may have been executed, from what was seen of it."""
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
