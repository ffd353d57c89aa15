"""Pure: the effect of an attempt on its request, and the decision to return, raise or send it again.

The specification is the table "Was it executed?" in docs/money.md. Nothing here does I/O, sleeps or reads a
clock; the caller carries decisions out.
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
    from apimart_async.transport.error_parsing import ServiceError


class Kind(enum.Enum):
    """Consequence of executing a request twice."""

    READ = "read"
    FREE_WRITE = "free write"
    PAID_WRITE = "paid write"


class Effect(enum.Enum):
    """Whether an attempt executed its request."""

    DONE = "done"
    """Executed."""
    REJECTED = "rejected"
    """Not executed, and another attempt would not be either."""
    DEFERRED = "deferred"
    """Not executed now: another attempt may be, so this one does not count against the maximum of retries."""
    NEVER_SENT = "never sent"
    """Not executed: no complete request left this machine."""
    UNKNOWN = "unknown"
    """Perhaps executed."""
    UNKNOWABLE = "unknowable"
    """Perhaps executed, and another attempt would not tell: the result is lost, or the error is unclear."""


class Action(enum.Enum):
    """The next step after an attempt."""

    RETURN = "return"
    RAISE = "raise"
    RETRY = "retry"
    INDETERMINATE = "indeterminate"


@attrs.frozen
class Decision:
    """The next step, and the seconds before it."""

    action: Action
    delay: float = 0.0


_REDIRECT: Final = 300
_SERVER: Final = 500
_PAYMENT_REQUIRED: Final = 402


def effect_of_answer(status: int | None, error: errors.APIStatusError) -> Effect:
    """Return the effect of an error answer on its request.

    Args:
        status: Result of ``effective_status``.
        error: Error in the answer.
    """
    names = {error.code, error.type}
    match status:
        case None:
            effect = Effect.UNKNOWABLE
        case 429:
            effect = Effect.DEFERRED if error.is_transient else Effect.REJECTED
        case 409 if "idempotency_in_progress" in names:
            effect = Effect.DEFERRED
        case 409 if "idempotency_key_reused" not in names:
            # A conflict without a reason may be the one whose result was lost.
            effect = Effect.UNKNOWABLE
        case 503 if "idempotency_unavailable" in names:
            effect = Effect.DEFERRED
        case 400 if errors.NO_CHANNEL in names:
            effect = Effect.DEFERRED
        case 408:
            effect = Effect.UNKNOWN
        case _ if status < _REDIRECT or (status >= _SERVER and error.is_transient):
            effect = Effect.UNKNOWN
        case _:
            effect = Effect.REJECTED
    return effect


@attrs.frozen
class Attempt:
    """State of a request after an attempt without a good answer.

    Attributes:
        kind: Consequence of executing the request twice.
        effect: Effect of this attempt.
        number: Number of this attempt, counted from 1.
        elapsed: Seconds since the first attempt began.
        retry_after: Seconds the service asked to wait.
        has_key: Whether the request carries an idempotency key.
        was_unknown: Whether an earlier attempt may have been executed.
        refusals: Attempts with the effect ``DEFERRED``, this one included; they do not count as retries.
        is_promised: Whether the service promises to answer a repeat under the same key as it answered this.
    """

    kind: Kind
    effect: Effect
    number: int
    elapsed: float = 0.0
    retry_after: float | None = None
    has_key: bool = False
    was_unknown: bool = False
    refusals: int = 0
    is_promised: bool = False


def decide(attempt: Attempt, retry: Retry, max_retries: int, random: Random) -> Decision:
    """Decide the next step after an attempt.

    Args:
        attempt: State of the request.
        retry: Settings of the caller.
        max_retries: Attempts allowed after the first, refused attempts not counted; 0 allows none at all.
        random: Source of the jitter.
    """
    effect = attempt.effect
    if effect is Effect.DONE:
        return Decision(Action.RETURN)
    is_paid = attempt.kind is Kind.PAID_WRITE
    is_unknown = effect is Effect.UNKNOWN or effect is Effect.UNKNOWABLE
    give_up = Decision(
        Action.INDETERMINATE if is_paid and (is_unknown or attempt.was_unknown) else Action.RAISE
    )
    if effect is Effect.REJECTED or effect is Effect.UNKNOWABLE:
        return give_up
    if not max_retries or attempt.number - attempt.refusals > max_retries:
        return give_up
    is_honoured = retry.indeterminate == "same-key" or (
        retry.indeterminate == "schema" and attempt.is_promised
    )
    if is_paid and is_unknown and not (attempt.has_key and is_honoured):
        return give_up
    delay = attempt.retry_after
    if delay is not None and delay > retry.max_retry_after:
        return give_up
    # Without a minimum delay, a service that always refuses and asks for no wait would be flooded.
    if delay is None or attempt.number > max_retries:
        delay = max(delay or 0.0, backoff(attempt.number, retry, random))
    return give_up if attempt.elapsed + delay > retry.max_elapsed else Decision(Action.RETRY, delay)


def backoff(attempt: int, retry: Retry, random: Random) -> float:
    """Draw the seconds to wait after the ``attempt``-th attempt: full jitter under a doubling ceiling."""
    return random.uniform(0.0, min(retry.max_delay, retry.initial_delay * 2.0 ** min(attempt - 1, 30)))


def read_retry_after(headers: Mapping[str, str], now: datetime) -> float | None:
    """Read the seconds to wait from ``Retry-After-Ms`` or ``Retry-After`` (seconds or an HTTP date).

    A date in the past is 0; an unreadable one is ``None``. ``now`` counts for answers without a ``Date``.
    """
    milliseconds = _seconds(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    value = headers.get("retry-after")
    seconds = _seconds(value)
    if seconds is not None or value is None:
        return seconds
    moment = _date(value)
    # By the clock of the service, which need not be this machine's.
    return (
        None if moment is None else max(0.0, (moment - (_date(headers.get("date")) or now)).total_seconds())
    )


def _date(value: str | None) -> datetime | None:
    """Read an HTTP date; ``None`` if it cannot be read."""
    if value is None:
        return None
    try:
        moment = parsedate_to_datetime(value)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


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


def effective_status(status: int, error: ServiceError | None) -> int | None:
    """Return the effective HTTP status of an answer: an error in the body of a 2xx overrides its status.

    So does a lack of balance in the body of a 4xx. ``None`` if the error names no status and no known type.
    """
    if error is not None and error.status == _PAYMENT_REQUIRED and status < _SERVER:
        return _PAYMENT_REQUIRED
    if error is None or status >= _REDIRECT:
        return status
    return error.status or _STATUSES.get(error.type or "") or _STATUSES.get(error.code or "")


def error_class(status: int) -> type[errors.APIStatusError]:
    """Return the class of errors for a status."""
    if status >= _SERVER:
        return errors.InternalServerError
    return _ERRORS.get(status, errors.APIStatusError)
