"""One request: its state over all attempts, and its facts for errors, the log and recorders."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

import attrs
from anyio import CancelScope
from multidict import CIMultiDict

from apimart_async import errors
from apimart_async.config import Timeout
from apimart_async.credentials import Authorization
from apimart_async.interruption import mark
from apimart_async.recording import RECORDERS, Response
from apimart_async.transport.origins import Route
from apimart_async.transport.paid_requests import PaidRecord, Repeats
from apimart_async.transport.responses import Answer, FailedAttempt, header_text, reply_id
from apimart_async.transport.retry import Effect, Kind
from apimart_async.urls import bare_url

if TYPE_CHECKING:
    from apimart_async.credentials import Secret
    from apimart_async.transport.exchange import RequestBody
    from apimart_async.transport.responses import Reply

log: logging.Logger = logging.getLogger("apimart_async.transport")

PERHAPS_EXECUTED: Final = frozenset({Effect.DONE, Effect.UNKNOWN, Effect.UNKNOWABLE})

_LONGEST_MESSAGE: Final = 2000
_LONGEST_CODE: Final = 200


@attrs.define(eq=False)
class Call:
    """One request and its state over all attempts.

    Attributes:
        method: HTTP method.
        path: Path below the base URL, quoted.
        kind: Consequence of executing the request twice.
        route: Origins that the request tries.
        authorization: The key, or the header of the caller in its place.
        headers: Headers of every attempt.
        timeout: Timeouts of one attempt.
        idempotency_key: Idempotency key of a paid request.
        matches: Tells from decoded JSON whether it answers this request.
        has_images: Whether the answer may hold images.
        accepts_events: Whether the answer may be an event stream.
        began: Moment at which the first attempt began.
        make_body: Returns the body once the rate limiter has admitted an attempt.
        shares_limits: Whether a refusal concerns the limits on all requests.
        paid_record: Record that a batch keeps of a paid request.
        repeats: Repeats of a paid request that the service may promise to execute once.
        target: URL of the last attempt, before a redirect.
        url: URL of the last attempt.
        moved: URLs after redirects within the origin that this request has met, by target.
        was_unknown: Whether an earlier attempt may have been executed.
        is_promised: Whether the service promises to answer a repeat as it answered the request.
        last_error: Error of the last attempt, for requests with ``repeats``.
        refusals: Number of attempts with the effect ``DEFERRED``.
        attempts: Number of attempts that were sent.
    """

    method: str
    path: str
    kind: Kind
    route: Route
    authorization: Authorization
    headers: Mapping[str, str]
    timeout: Timeout
    idempotency_key: str | None
    matches: Callable[[Any], bool] | None
    has_images: bool
    accepts_events: bool
    began: float
    make_body: Callable[[], bytes] | None = None
    shares_limits: bool = True
    paid_record: PaidRecord | None = None
    repeats: Repeats | None = None
    target: str = ""
    url: str = ""
    moved: dict[str, str] = attrs.field(factory=dict[str, str])
    was_unknown: bool = False
    is_promised: bool = False
    last_error: errors.APIError | None = None
    refusals: int = 0
    attempts: int = 0

    async def before_send(self) -> FailedAttempt | None:
        """Prepare the record; return the last failure instead if this repeat may not be sent any more."""
        repeats, error = self.repeats, self.last_error
        is_late = repeats is not None and self.was_unknown and not repeats.may_be_sent(self.timeout.total)
        if is_late and error is not None:
            return FailedAttempt(Effect.REJECTED, error)
        if self.paid_record is not None:
            await self.paid_record.before_send(self.route.base_url)
        return None

    @property
    def shown_url(self) -> str:
        """Return the URL of the last attempt, without the key: a redirect may have led to one with it."""
        return bare_url(self.authorization.key.redact(self.url))

    def complete(self, error: errors.APIError) -> None:
        """Add the facts of the attempt to its error, and remove secrets from it."""
        key = self.authorization.key
        error.method, error.url = self.method, self.shown_url
        error.idempotency_key = self.idempotency_key
        # The service may repeat a part of the key, and send a page of megabytes for a message.
        error.message = _shortened(error.message, key)
        error.args = (error.message,)
        for name in ("code", "type", "request_id", "task_id"):
            if text := getattr(error, name):
                setattr(error, name, _shortened(text, key, _LONGEST_CODE))
        if isinstance(error, errors.APIResponseValidationError) and error.excerpt is not None:
            error.excerpt = _shortened(error.excerpt, key)

    def record(self, reply: Reply) -> None:
        """Append an answer to the recorders of this context."""
        key, request_id = self.authorization.key, reply_id(reply.headers)
        headers = CIMultiDict(
            (key.redact(name), key.redact(header_text(value))) for name, value in reply.headers.items()
        )
        shown_id = request_id and key.redact(request_id)
        response = Response(self.method, self.shown_url, reply.status, headers, shown_id)
        for responses in RECORDERS.get():
            responses.append(response)

    def is_not_executed(self, result: Answer | FailedAttempt) -> bool:
        """Tell whether no attempt so far was executed, after one with this result."""
        is_known = isinstance(result, FailedAttempt) and result.effect not in PERHAPS_EXECUTED
        return is_known and not self.was_unknown

    async def cut_off(self, raised: BaseException, body: RequestBody | None) -> None:
        """Undo the record of a paid request that an exception ended, or log its key if it may be executed."""
        # An ``ApimartError`` ends a request before its last byte.
        is_sent = body is not None and body.started and not isinstance(raised, errors.ApimartError)
        if not (is_sent or self.was_unknown):
            if self.paid_record is not None:
                with CancelScope(shield=True):
                    await self.paid_record.not_executed()
        else:
            key = f"; idempotency key {self.idempotency_key}" if self.idempotency_key else ""
            note = f"A paid request was cut off and may have been billed{key}."
            raised.add_note(note)
            if not isinstance(raised, errors.ApimartError):
                mark(raised, idempotency_key=self.idempotency_key)
            log.warning("%s %s: %s", self.method, self.shown_url, note)


def event_of(error: errors.APIError) -> str:
    """Return the attempt that an error ended, and the error, as text for the log."""
    event = f"{error.method} {error.url}: {type(error).__name__} {error.status or ''}".rstrip()
    key = f", idempotency key {error.idempotency_key}" if error.idempotency_key else ""
    return errors.visible(event + key)


def _shortened(text: str, key: Secret, longest: int = _LONGEST_MESSAGE) -> str:
    """Return a text of the service without the key, cut if it is long."""
    text = key.redact_cut(text)
    return text if len(text) <= longest else f"{text[:longest]}… ({len(text):,} characters)"
