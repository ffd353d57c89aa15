"""Pure: what an answer or a failure says about a request, and what to do next.

The specification is the table "Was a submit billed?" in the documentation. Nothing here does I/O, sleeps or
looks at a clock; the caller carries decisions out.
"""

from __future__ import annotations

import enum
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Final

import attrs

from apimart_async import errors

if TYPE_CHECKING:
    from collections.abc import Mapping
    from random import Random

    from apimart_async.config import Retry
    from apimart_async.transport.parsing import ServiceError


class Kind(enum.Enum):
    """What executing a request twice would do."""

    READ = "read"
    FREE_WRITE = "free write"
    PAID_WRITE = "paid write"


class Effect(enum.Enum):
    """What is known of a request once its answer, or the lack of one, is in."""

    DONE = "done"
    REJECTED = "rejected"
    """Not executed, and will not be: trying again changes nothing."""
    DEFERRED = "deferred"
    """Not executed now: the same request may be accepted later."""
    NEVER_SENT = "never sent"
    """No complete request left this machine."""
    UNKNOWN = "unknown"
    """It may or may not have been executed."""
    UNKNOWABLE = "unknowable"
    """As unknown, and asking again would not tell: the service lost its result, or explains nothing."""


class Action(enum.Enum):
    """What to do next."""

    RETURN = "return"
    RAISE = "raise"
    RETRY = "retry"
    INDETERMINATE = "indeterminate"


@attrs.frozen
class Decision:
    """What to do next, and after how many seconds."""

    action: Action
    delay: float = 0.0


_OK: Final = 200
_REDIRECT: Final = 300
_REQUEST_TIMEOUT: Final = 408
_CONFLICT: Final = 409
_TOO_MANY: Final = 429
_SERVER: Final = 500
_UNAVAILABLE: Final = 503

_PERMANENT_CODES: Final = frozenset({"insufficient_quota"})
_MODERATION: Final = ("content moderation", "content_moderation", "moderation")


def effect_of_answer(status: int, error: ServiceError | None) -> Effect:  # noqa: PLR0911 one per row of the table
    """Say what an answer tells about its request.

    Args:
        status: HTTP status.
        error: The error in the body, if it holds one; it wins over a status of 200.
    """
    code = (error.code if error else None) or ""
    kind = (error.type if error else None) or ""
    said = _status(status, error)
    if said is None:
        return Effect.UNKNOWABLE
    status = said
    if status < _REDIRECT:
        return Effect.DONE if status >= _OK else Effect.UNKNOWN
    if status == _TOO_MANY:
        return Effect.REJECTED if code in _PERMANENT_CODES else Effect.DEFERRED
    if status == _CONFLICT:
        names = {code, kind}
        if "idempotency_in_progress" in names:
            return Effect.DEFERRED
        # One that does not say which it is may be the one whose result was lost.
        return Effect.REJECTED if "idempotency_key_reused" in names else Effect.UNKNOWABLE
    if status == _REQUEST_TIMEOUT:
        return Effect.UNKNOWN
    if status < _SERVER:
        return Effect.REJECTED
    if status == _UNAVAILABLE and "idempotency_unavailable" in {code, kind}:
        return Effect.DEFERRED
    return Effect.REJECTED if _is_permanent(status, error) else Effect.UNKNOWN


def _is_permanent(status: int, error: ServiceError | None) -> bool:
    """Tell a 500 that says the request itself is at fault from one that says nothing."""
    if status != _SERVER or error is None:
        return False
    said = error.message.lower()
    return said.startswith("build_request_failed") or any(word in said for word in _MODERATION)


def effect_of_failure(*, sent: bool) -> Effect:
    """Say what a request without an answer tells: ``sent`` once any of its body may have left."""
    return Effect.UNKNOWN if sent else Effect.NEVER_SENT


@attrs.frozen
class Try:
    """Where a request stands after a try.

    Attributes:
        kind: What executing it twice would do.
        effect: What is known of this try.
        number: Which try this was, counted from 1.
        elapsed: Seconds since the first began.
        retry_after: Seconds the service asked to wait.
        has_key: Whether it carries an idempotency key.
        was_unknown: Whether an earlier try may have been executed.
    """

    kind: Kind
    effect: Effect
    number: int
    elapsed: float = 0.0
    retry_after: float | None = None
    has_key: bool = False
    was_unknown: bool = False


def decide(tried: Try, retry: Retry, max_retries: int, random: Random) -> Decision:
    """Decide what to do with a request after a try.

    Args:
        tried: Where it stands.
        retry: What the caller set.
        max_retries: How many tries there may be after the first.
        random: Source of the jitter.
    """
    if tried.effect is Effect.DONE:
        return Decision(Action.RETURN)
    is_paid = tried.kind is Kind.PAID_WRITE
    is_unknown = tried.effect is Effect.UNKNOWN or tried.effect is Effect.UNKNOWABLE
    give_up = Decision(
        Action.INDETERMINATE if is_paid and (is_unknown or tried.was_unknown) else Action.RAISE
    )
    if tried.effect is Effect.REJECTED or tried.effect is Effect.UNKNOWABLE or tried.number > max_retries:
        return give_up
    if is_paid and is_unknown and not (tried.has_key and retry.indeterminate == "same-key"):
        return give_up
    delay = tried.retry_after
    if delay is None:
        delay = backoff(tried.number, retry, random)
    elif delay > retry.max_retry_after:
        return give_up
    return give_up if tried.elapsed + delay > retry.max_elapsed else Decision(Action.RETRY, delay)


def backoff(attempt: int, retry: Retry, random: Random) -> float:
    """Draw the seconds to wait after the ``attempt``-th try: full jitter under a doubling ceiling."""
    return random.uniform(0.0, min(retry.max_delay, retry.initial_delay * 2.0 ** min(attempt - 1, 30)))


def read_retry_after(headers: Mapping[str, str], now: datetime) -> float | None:
    """Read the seconds to wait from ``Retry-After-Ms`` or ``Retry-After`` (seconds or an HTTP date).

    A date in the past is 0; what cannot be read is ``None``.
    """
    milliseconds = _seconds(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    value = headers.get("retry-after")
    seconds = _seconds(value)
    if seconds is not None or value is None:
        return seconds
    try:
        moment = parsedate_to_datetime(value)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - now).total_seconds())


def _seconds(value: str | None) -> float | None:
    try:
        seconds = float(value) if value is not None else None
    except ValueError:
        return None
    return seconds if seconds is not None and 0 <= seconds < float("inf") else None


_ERRORS: Final[Mapping[int, type[errors.APIStatusError]]] = {
    400: errors.BadRequestError,
    401: errors.AuthenticationError,
    402: errors.InsufficientBalanceError,
    403: errors.PermissionDeniedError,
    404: errors.NotFoundError,
    409: errors.ConflictError,
    413: errors.PayloadTooLargeError,
    422: errors.UnprocessableEntityError,
    429: errors.RateLimitError,
}
_STATUSES: Final[Mapping[str, int]] = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "payment_required": 402,
    "permission_error": 403,
    "rate_limit_error": 429,
    "server_error": 500,
    "bad_gateway": 502,
    "service_unavailable": 503,
}


def _status(status: int, error: ServiceError | None) -> int | None:
    """Return the status an answer should have had: an error in its body wins over a 200.

    ``None`` where the body holds an error and does not tell which.
    """
    if error is None or status >= _REDIRECT:
        return status
    return error.status or _STATUSES.get(error.type or "") or _STATUSES.get(error.code or "")


def error_class(status: int, error: ServiceError | None) -> type[errors.APIStatusError]:
    """Choose the class for an error answer: by status, and by type where a 200 hides the status."""
    said = _status(status, error) or status
    if said >= _SERVER:
        return errors.InternalServerError
    return _ERRORS.get(said, errors.APIStatusError)
