"""One service as its client's settings say: requests with the key and with retries, downloads without."""

from __future__ import annotations

import asyncio
import logging
from inspect import isawaitable
from random import Random
from time import monotonic
from typing import TYPE_CHECKING

import attrs

from apimart_async import errors
from apimart_async.config import check_api_key
from apimart_async.transport import retry
from apimart_async.transport.headers import Headers, checked_headers
from apimart_async.transport.responses import Answer, Verdict, indeterminate, judge
from apimart_async.transport.retry import Action, Effect, Kind, Try
from apimart_async.transport.session import NoAnswerError
from apimart_async.urls import bare_url

if TYPE_CHECKING:
    from collections.abc import Mapping

    from apimart_async.config import Settings, Timeout
    from apimart_async.transport.media.multipart import Body
    from apimart_async.transport.rate_limit import Throttle
    from apimart_async.transport.session import Download, Session

log: logging.Logger = logging.getLogger("apimart_async")


class Service:
    """Send requests to one service.

    Args:
        settings: Of the client.
        session: Connections, shared with the client's copies.
        throttle: How much at once and how fast, shared likewise.
    """

    def __init__(self, settings: Settings, session: Session, throttle: Throttle) -> None:
        self.settings = settings
        self.session = session
        self.throttle = throttle
        self._random = Random()
        # Where a path of a request with a body was found after a redirect within the origin.
        self._moved: dict[str, str] = {}
        own = {
            "Accept": "application/json",
            # A compressed answer could unpack to any size, and these are small.
            "Accept-Encoding": "identity",
            "User-Agent": "apimart-async",
        }
        key: dict[str, str] = {}
        if isinstance(settings.api_key, str):
            key["Authorization"] = f"Bearer {settings.api_key}"
        self._headers = Headers(own, checked_headers(settings.default_headers), key)

    async def request(
        self,
        method: str,
        path: str,
        *,
        kind: Kind,
        body: Body | bytes | None = None,
        idempotency_key: str | None = None,
        timeout: float | None = None,
        extra_headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Return the good answer to a request, trying again where that is safe.

        Args:
            method: HTTP method.
            path: Below the base URL, quoted.
            kind: What executing it twice would do.
            body: JSON text, or a streamed body.
            idempotency_key: Sent with every try and stamped on every error.
            timeout: Seconds for one try, instead of ``Timeout.total``.
            extra_headers: Sent besides the client's own.

        Raises:
            APIStatusError: The service answered with an error; the subclass says which.
            APIConnectionError: No answer came, and the request is not paid or never left.
            APITimeoutError: The same, for lack of time.
            APIResponseValidationError: The answer is not JSON.
            SubmissionIndeterminateError: A paid request may or may not have been executed.
            InvalidArgumentError: A header cannot be sent.

        Cancelling it closes the connection; where a paid request may have been executed, the key is in the
        exception's notes and in the log.
        """
        settings = self.settings
        url = self._moved.get(path) or settings.base_url + path
        further: Mapping[str, str] | None = None
        if body is not None or extra_headers is not None or not isinstance(settings.api_key, str):
            further = await self._further_headers(body, idempotency_key, extra_headers)
        limit = settings.timeout if timeout is None else attrs.evolve(settings.timeout, total=timeout)
        note = _cut_off_note(idempotency_key) if kind is Kind.PAID_WRITE else None
        attempt = 0
        delay = 0.0
        began = monotonic()
        was_unknown = moved = False
        while True:
            attempt += 1
            try:
                verdict = await self._try(
                    method, url, kind, further=further, body=body, timeout=limit, note=note, delay=delay
                )
            except BaseException as raised:
                # Also while it waits for its next turn: an earlier try may have been executed.
                _remind(raised, note if was_unknown else None, f"{method} {bare_url(url)}")
                raise
            if isinstance(verdict, Answer):
                if moved and body is not None:
                    self._moved[path] = url
                if was_unknown and not verdict.replayed:
                    log.warning("%s: the answer to a repeated paid request is not marked as a replay.", path)
                return verdict
            if verdict.moved_to is not None and not moved:
                moved, url, delay = True, verdict.moved_to, 0.0
                continue
            self._moved.pop(path, None)
            error = self._located(verdict.error, method, url, further, idempotency_key)
            tried = Try(
                kind,
                verdict.effect,
                attempt,
                elapsed=monotonic() - began,
                retry_after=verdict.retry_after,
                has_key=idempotency_key is not None,
                was_unknown=was_unknown,
            )
            decision = retry.decide(tried, settings.retry, settings.max_retries, self._random)
            if decision.action is Action.INDETERMINATE:
                raise indeterminate(error) from error
            if decision.action is Action.RAISE:
                raise error
            was_unknown |= kind is Kind.PAID_WRITE and verdict.effect is Effect.UNKNOWN
            what = f"{type(error).__name__} {error.status or ''}".strip()
            log.info("%s %s: %s; next try in %.1f s.", method, error.url, what, decision.delay)
            delay = decision.delay

    async def _try(
        self,
        method: str,
        url: str,
        kind: Kind,
        *,
        further: Mapping[str, str] | None,
        body: Body | bytes | None,
        timeout: Timeout,
        note: str | None,
        delay: float,
    ) -> Answer | Verdict:
        """Send a request once, after a delay and when the throttle lets it, and say what came of it."""
        if delay:
            await asyncio.sleep(delay)
        entered = self.throttle.enter_now()
        if entered is None:
            entered = await self.throttle.enter()
        status = wait = None
        try:
            reply = await self.session.exchange(
                method,
                url,
                headers=self._headers,
                further=further,
                body=body,
                timeout=timeout,
                cut_off_note=note,
            )
            verdict = judge(reply, kind, url)
            # A quota that is used up is answered 429 too, but says nothing of how fast to go.
            if isinstance(verdict, Verdict) and verdict.effect is not Effect.REJECTED:
                status, wait = verdict.error.status, verdict.retry_after
        except NoAnswerError as failure:
            return Verdict(retry.effect_of_failure(sent=failure.sent), failure.error)
        else:
            return verdict
        finally:
            # A wait that is too long to be waited pauses nobody: each call says so to its caller.
            is_waited = wait is not None and wait <= self.settings.retry.max_retry_after
            self.throttle.leave(entered, status, wait if is_waited else None)

    def _located(
        self,
        error: errors.APIError,
        method: str,
        url: str,
        further: Mapping[str, str] | None,
        idempotency_key: str | None,
    ) -> errors.APIError:
        """Say which request an error is about, and take the key out of what the service repeats."""
        error.idempotency_key = idempotency_key
        error.method, error.url = method, bare_url(url)
        for name, value in (*self._headers.fields.items(), *(further or {}).items()):
            if name.lower() == "authorization" and (secret := value.removeprefix("Bearer ")):
                error.message = error.message.replace(secret, "[api key]")
                if isinstance(error, errors.APIResponseValidationError) and error.excerpt is not None:
                    error.excerpt = error.excerpt.replace(secret, "[api key]")
        return error

    async def _further_headers(
        self,
        body: Body | bytes | None,
        idempotency_key: str | None,
        extra_headers: Mapping[str, str] | None,
    ) -> Mapping[str, str]:
        api_key = self.settings.api_key
        headers: dict[str, str] = {}
        if not isinstance(api_key, str):
            key = api_key()
            headers["Authorization"] = f"Bearer {check_api_key(await key if isawaitable(key) else key)}"
        if body is not None:
            headers["Content-Type"] = "application/json" if isinstance(body, bytes) else body.content_type
        if idempotency_key is not None:
            headers["Idempotency-Key"] = idempotency_key
        return Headers(headers, checked_headers(extra_headers)).fields if extra_headers else headers

    async def download(self, url: str) -> Download:
        """Open a file on any host once, without the key, following redirects; the caller closes it.

        Args:
            url: Its address.

        Raises:
            DownloadError: Not an ``http(s)`` address, an error answer, too many redirects, or too large.
            APIConnectionError: The host could not be reached, or the connection broke.
            APITimeoutError: The same, for lack of time.

        Cancellation closes the connection.
        """
        gate = self.throttle.downloads
        if not gate.enter_now():
            await gate.enter()
        try:
            download = await self.session.download(url, self.settings.timeout)
        except BaseException:
            gate.leave()
            raise
        download.add_close_callback(gate.leave)
        return download

    @property
    def max_retries(self) -> int:
        """Tell how many tries there may be after the first."""
        return self.settings.max_retries

    def backoff(self, attempt: int) -> float:
        """Draw the seconds to wait after the ``attempt``-th try."""
        return retry.backoff(attempt, self.settings.retry, self._random)


def _cut_off_note(idempotency_key: str | None) -> str:
    key = f"; idempotency key {idempotency_key}" if idempotency_key else ""
    return f"A paid request was cut off and may have been billed{key}."


def _remind(raised: BaseException, note: str | None, what: str) -> None:
    """Add a note to an exception, and log it, unless it is there."""
    if note is not None and note not in getattr(raised, "__notes__", ()):
        raised.add_note(note)
        log.warning("%s: %s", what, note)
