"""One service with the settings of its client: requests with the key and with retries, downloads without."""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from inspect import isawaitable
from random import Random
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, Self, cast

import attrs
from multidict import CIMultiDict

from apimart_async import errors
from apimart_async.arguments import check_types, wrong_type
from apimart_async.config import check_api_key, check_headers
from apimart_async.credentials import Authorization, Secret
from apimart_async.hooks import RequestEvent
from apimart_async.recording import RECORDERS
from apimart_async.transport import observation, retry
from apimart_async.transport.call import PERHAPS_EXECUTED, Call, event_of
from apimart_async.transport.concurrency import file_threads
from apimart_async.transport.event_stream import EventStream
from apimart_async.transport.exchange import NoAnswerError, RequestBody
from apimart_async.transport.json import LARGE_BYTES
from apimart_async.transport.origins import Route
from apimart_async.transport.paid_requests import PAID_RECORD, PaidRecord, Repeats
from apimart_async.transport.responses import (
    FAREWELL,
    Answer,
    FailedAttempt,
    indeterminate,
    read_response,
    reply_id,
)
from apimart_async.transport.retry import Action, Attempt, Effect, Kind
from apimart_async.urls import bare_url

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from apimart_async.config import Settings, Timeout
    from apimart_async.transport.exchange import Download
    from apimart_async.transport.media.multipart import Body
    from apimart_async.transport.rate_limit import RateLimiter
    from apimart_async.transport.responses import Reply
    from apimart_async.transport.session import Session

log: logging.Logger = logging.getLogger("apimart_async.transport")

_TOO_MANY: Final = 429


class Api:
    """Send requests to one service.

    Args:
        settings: Settings of the client.
        session: Connections, shared with the client's copies.
        rate_limiter: Limits on requests, shared likewise.
    """

    def __init__(self, settings: Settings, session: Session, rate_limiter: RateLimiter) -> None:
        self.settings = settings
        self.session = session
        self.rate_limiter = rate_limiter
        self._random = Random()
        # URLs of requests with a body -> URL after a redirect within the origin.
        self._moved: dict[str, str] = {}
        check_headers(settings.default_headers)
        self._headers = CIMultiDict(settings.default_headers)
        self._authorization = _taken_out(self._headers)
        if self._authorization is None and isinstance(settings.api_key, Secret):
            self._authorization = Authorization.with_key(settings.api_key)

    def revised(self, **settings: object) -> Self:
        """Return an ``Api`` with other settings, and with the same connections and limits."""
        changed: Any = settings
        return type(self)(attrs.evolve(self.settings, **changed), self.session, self.rate_limiter)

    async def request(
        self,
        method: str,
        path: str,
        *,
        kind: Kind,
        body: Body | bytes | None = None,
        make_body: Callable[[], bytes] | None = None,
        idempotency_key: str | None = None,
        timeout: float | None = None,
        extra_headers: Mapping[str, str] | None = None,
        matches: Callable[[Any], bool] | None = None,
        has_images: bool = False,
        repeats: Repeats | None = None,
        home: str | None = None,
        accepts_events: bool = False,
        shares_limits: bool = True,
    ) -> Answer:
        """Return the good answer to a request, sending it again, or to another origin, where that is safe.

        Args:
            method: HTTP method.
            path: Path below the base URL, quoted.
            kind: Consequence of executing it twice.
            body: JSON text, or a form.
            make_body: Returns JSON text once the rate limiter admits the request, instead of ``body``.
            idempotency_key: Sent with every attempt and stamped on every error.
            timeout: Seconds for one attempt, instead of ``Timeout.total``; ``Timeout.read`` of a paid request
                is at least as long.
            extra_headers: Sent besides the client's own.
            matches: Tells from the decoded JSON whether it answers this request and no other.
            has_images: Whether the answer may hold images, as that to a paid request always may.
            repeats: Repeats of a paid request that the service promises to execute once.
            home: Base URL to try first: that of the task that is asked for. A paid request that may have been
                executed there goes nowhere else.
            accepts_events: Whether ``Answer.payload`` may be an ``EventStream``; the caller closes it.
            shares_limits: Whether a refusal concerns the limits on all requests, not only on its endpoint.

        Raises:
            APIStatusError: The service answered with an error; the subclass says which.
            APIConnectionError: No answer came, and the request is not paid or never left.
            APITimeoutError: The connection or the answer timed out.
            APIResponseValidationError: The answer is not JSON, or too large.
            SubmissionIndeterminateError: A paid request may or may not have been executed.
            InvalidArgumentError: A header cannot be sent.

        Cancellation closes the connection; if a paid request may have been executed, the key is an attribute
        of the exception, and in its notes and the log.
        """
        settings = self.settings
        check_types(timeout=timeout)
        headers, authorization = await self._request_headers(idempotency_key, extra_headers)
        paid_record = _take_paid_record() if kind is Kind.PAID_WRITE else None
        call = Call(
            method,
            path,
            kind,
            Route(self.session.origins, kind, home if paid_record is None else paid_record.home),
            authorization,
            headers,
            _times(settings.timeout, timeout, kind),
            idempotency_key,
            matches,
            has_images or kind is Kind.PAID_WRITE,
            accepts_events,
            monotonic(),
            make_body,
            shares_limits,
            paid_record,
        )
        await self._prepare_repeats(call, repeats)
        number = 1
        delay = 0.0
        while True:
            data = None if body is None else RequestBody(body)
            try:
                if delay:
                    await self.session.until_closed(partial(asyncio.sleep, delay))
                outcome = await (self._attempt(call, data) if call.repeats is None else self._try(call, data))
                if call.paid_record is not None and call.is_not_executed(outcome):
                    await call.paid_record.not_executed()
            except BaseException as raised:
                if call.kind is Kind.PAID_WRITE:
                    await call.cut_off(raised, data)
                raise
            if isinstance(outcome, Answer):
                self.session.origins.worked(call.route.base_url)
                if call.target in call.moved and not (body is None and make_body is None):
                    self._moved[call.target] = call.url
                if call.was_unknown and not outcome.replayed and call.repeats is None:
                    log.warning("%s: the answer to a repeated paid request is not marked as a replay.", path)
                return outcome._replace(base_url=call.route.base_url, is_repeat=call.was_unknown)
            failed = self._failure(outcome, call)
            delay = 0.0
            if failed is not None:
                delay = self._delay_after(failed, call, number)
                number += 1

    async def _prepare_repeats(self, call: Call, repeats: Repeats | None) -> None:
        """Decide whether a paid request may be repeated, and whether an earlier run may have sent it already.

        Raises:
            SubmissionIndeterminateError: An earlier request with its key may have been executed, and the
                service does not promise to execute the key once; nothing was sent.
        """
        paid_record, needs_promise, is_of_another = call.paid_record, False, False
        if paid_record is None and repeats is None:
            return
        if repeats is not None:
            needs_promise = repeats.needs_promise
            if paid_record is not None and paid_record.first_sent_at is not None:
                repeats.began_at = paid_record.first_sent_at
            repeats.account = repeats.account or call.authorization.header
            is_of_another = repeats.account != call.authorization.header
        needs_promise = needs_promise or (paid_record is not None and paid_record.needs_promise)
        if needs_promise or (self.settings.retry.indeterminate == "schema" and call.idempotency_key):
            call.repeats = repeats
        if not needs_promise:
            return
        is_promised = (
            repeats is not None
            and not is_of_another
            and call.idempotency_key is not None
            and await repeats.are_promised()
            and repeats.may_be_sent(call.timeout.total)
        )
        if is_of_another:
            reason = (
                "it was sent with another API key: with this one, the service executes and bills it again"
            )
        elif repeats is None:
            reason = "the service does not promise to execute the key once"
        else:
            reason = repeats.obstacle
        error = errors.APIConnectionError(
            f"An earlier request with its key may have been executed, and {reason}.",
            method=call.method,
            url=bare_url(call.route.base_url + call.path),
            idempotency_key=call.idempotency_key,
        )
        if not is_promised:
            raise indeterminate(error) from error
        call.was_unknown, call.is_promised, call.last_error = True, True, error

    async def _attempt(self, call: Call, body: RequestBody | None) -> Answer | FailedAttempt:
        """Send a request once, as soon as the rate limiter admits it."""
        sent_at = self.rate_limiter.acquire_nowait()
        if sent_at is None:
            acquire = partial(self.rate_limiter.acquire, front=call.refusals > 0)
            sent_at = await self.session.until_closed(acquire)
        call.target = call.route.next(monotonic()) + call.path
        call.url = call.moved.get(call.target) or self._moved.get(call.target, call.target)
        status = wait = events = None
        try:
            is_followed = call.was_unknown or call.paid_record is not None
            if is_followed and (late := await call.before_send()) is not None:
                return late
            call.attempts += 1
            send = partial(
                self.session.request,
                "paid" if call.kind is Kind.PAID_WRITE else "api",
                call.method,
                call.url,
                authorization=call.authorization.header,
                body=body if call.make_body is None else RequestBody(call.make_body()),
                timeout=call.timeout,
                has_images=call.has_images,
                accepts_events=call.accepts_events,
            )
            if (hooks := self.session.hooks) or log.isEnabledFor(logging.DEBUG):
                event = RequestEvent(call.method, call.shown_url, call.attempts, call.idempotency_key)
                reply = await observation.request(hooks, event, call.headers, send, call.authorization.key)
            else:
                reply = await send(headers=call.headers)
            events = reply.events
            outcome = await _read(reply, call)
            if isinstance(outcome, Answer):
                if call.matches is None or call.matches(outcome.payload):
                    status = reply.status
                    return outcome
                self.session.retire(reply.pool)
                error = errors.APIConnectionError("The connection brought the answer to another request.")
                return FailedAttempt(Effect.UNKNOWN, error)
            if reply.status == FAREWELL:
                self.session.retire(reply.pool)
            # A quota that is used up is answered 429 too, but says nothing about the rate.
            is_quota = outcome.effect is Effect.REJECTED and outcome.error.status == _TOO_MANY
            if call.shares_limits and not is_quota:
                status, wait = outcome.error.status, outcome.retry_after
        except NoAnswerError as failure:
            return FailedAttempt(failure.effect, failure.error)
        else:
            return outcome
        finally:
            # A Retry-After above the limit fails this call but does not pause the client.
            is_waited = wait is not None and wait <= self.settings.retry.max_retry_after
            release = partial(self.rate_limiter.release, sent_at, status, wait if is_waited else None)
            (release if events is None else partial(events.add_close_callback, release))()

    def _failure(self, failed: FailedAttempt, call: Call) -> FailedAttempt | None:
        """Return the failure of a request; ``None`` if it is redirected, or another origin continues."""
        if failed.moved_to is not None and call.target not in call.moved:
            call.moved[call.target] = failed.moved_to
            return None
        self._moved.pop(call.target, None)
        call.complete(failed.error)
        chosen = call.route.failed(failed, monotonic())
        if chosen is None:
            log.info("%s; the next address takes over at once.", event_of(failed.error))
        return chosen

    async def _try(self, call: Call, body: RequestBody | None) -> Answer | FailedAttempt:
        """Send one attempt of a paid request that may be repeated; repeats wait for their turn."""
        repeats = call.repeats
        if repeats is None or not call.was_unknown:
            outcome = await self._attempt(call, body)
        else:
            async with repeats.turn():
                is_known = False
                try:
                    outcome = await self._attempt(call, body)
                    is_known = isinstance(outcome, Answer) or outcome.effect not in PERHAPS_EXECUTED
                finally:
                    if not is_known:
                        repeats.not_answered()
                if isinstance(outcome, Answer):
                    repeats.answered(is_replay=outcome.replayed)
        if isinstance(outcome, FailedAttempt):
            call.last_error = outcome.error
            if repeats is not None and outcome.effect is Effect.UNKNOWN:
                call.is_promised = await repeats.are_promised()
        return outcome

    def _delay_after(self, failed: FailedAttempt, call: Call, number: int) -> float:
        """Return the seconds before the next attempt.

        Raises:
            APIError: There is none.
        """
        error = failed.error
        call.refusals += failed.effect is Effect.DEFERRED
        attempt = Attempt(
            call.kind,
            failed.effect,
            number,
            elapsed=monotonic() - call.began,
            retry_after=failed.retry_after,
            has_key=call.idempotency_key is not None,
            was_unknown=call.was_unknown,
            is_promised=call.is_promised,
            refusals=call.refusals,
        )
        is_refused = call.paid_record is not None and isinstance(error, errors.RateLimitError)
        max_retries = 0 if is_refused else self.settings.max_retries
        decision = retry.decide(attempt, self.settings.retry, max_retries, self._random)
        if decision.action is Action.INDETERMINATE:
            raise indeterminate(error) from error
        if decision.action is Action.RAISE:
            raise error
        call.was_unknown |= call.kind is Kind.PAID_WRITE and failed.effect is Effect.UNKNOWN
        log.info("%s; next attempt in %.1f s.", event_of(error), decision.delay)
        return decision.delay

    async def _request_headers(
        self, idempotency_key: str | None, extra_headers: Mapping[str, str] | None
    ) -> tuple[CIMultiDict[str], Authorization]:
        headers, authorization = self._headers, self._authorization
        if idempotency_key is not None or extra_headers is not None:
            headers = self._headers.copy()
            if idempotency_key is not None:
                headers["Idempotency-Key"] = idempotency_key
            if extra_headers is not None:
                check_headers(extra_headers)
                headers.update(extra_headers)
                authorization = _taken_out(headers) or authorization
        return headers, authorization or await self._call_for_key()

    async def _call_for_key(self) -> Authorization:
        api_key = self.settings.api_key
        if not isinstance(api_key, Secret):
            key = api_key()
            found = await key if isawaitable(key) else key
            if not isinstance(cast("object", found), str):
                raise wrong_type("The result of the function api_key", "a text", found)
            api_key = check_api_key(Secret(found))
        return Authorization.with_key(api_key)

    async def download(self, url: str, attempt: int = 1) -> Download:
        """Open a file on any host once, without the key, following redirects; the caller closes it.

        Args:
            url: URL of the file.
            attempt: Number of the attempt, for the log and the hooks.

        Raises:
            DownloadError: Not an ``http(s)`` URL, an error answer, too many redirects, or too large.
            APIConnectionError: The host could not be reached, or the connection broke.
            APITimeoutError: The connection or the answer timed out.

        Cancellation closes the connection.
        """
        downloads, hooks = self.rate_limiter.downloads, self.session.hooks
        if not downloads.acquire_nowait():
            await downloads.acquire()
        open_file = partial(self.session.download, url, self.settings.timeout)
        try:
            if hooks or log.isEnabledFor(logging.DEBUG):
                event = RequestEvent("GET", bare_url(url), attempt)
                download = await observation.download(hooks, event, open_file)
            else:
                download = await open_file()
        except BaseException:
            downloads.release()
            raise
        download.add_close_callback(downloads.release)
        return download

    @property
    def max_retries(self) -> int:
        """Return how many attempts there may be after the first."""
        return self.settings.max_retries

    def backoff(self, attempt: int) -> float:
        """Draw the seconds to wait after the ``attempt``-th attempt."""
        return retry.backoff(attempt, self.settings.retry, self._random)


def _times(times: Timeout, total: float | None, kind: Kind) -> Timeout:
    """Return the timeouts of a request for which the caller gave a total, or none."""
    if total is None:
        return times
    # A service that answers with the images themselves is silent until they are done.
    read = max(times.read, total) if kind is Kind.PAID_WRITE else times.read
    return attrs.evolve(times, read=read, total=total)


def _taken_out(headers: CIMultiDict[str]) -> Authorization | None:
    """Take the header ``Authorization`` of a caller out of the others, which may be shown."""
    if "Authorization" not in headers:
        return None
    return Authorization.with_header(Secret(headers.popall("Authorization")[-1]))


async def _read(reply: Reply, call: Call) -> Answer | FailedAttempt:
    key = call.authorization.key
    if RECORDERS.get():
        call.record(reply)
    if reply.events is not None:
        stream = EventStream(reply.events, reply.headers, call.url, key, call.complete)
        request_id = reply_id(reply.headers)
        return Answer(stream, request_id and key.redact(request_id), replayed=False)
    if len(reply.data) > LARGE_BYTES:
        return await file_threads.run(read_response, reply, call.kind, call.url, key)
    return read_response(reply, call.kind, call.url, key)


def _take_paid_record() -> PaidRecord | None:
    paid_record = PAID_RECORD.get()
    if paid_record is not None:
        PAID_RECORD.set(None)
    return paid_record
