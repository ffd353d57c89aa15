"""Pure: an HTTP answer of the API read as a good answer, or as an error and its effect on the request.

Its body is JSON, JSON among other bytes, an event stream, or an image itself.
"""

from __future__ import annotations

import base64
import re
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import quote, urljoin, urlsplit, urlunsplit

import attrs

from apimart_async import errors
from apimart_async.transport import json, parsing, retry
from apimart_async.transport.error_parsing import find_request_id, read_error
from apimart_async.transport.image_parsing import data_url
from apimart_async.transport.json import is_mapping
from apimart_async.transport.media import sniffing
from apimart_async.transport.retry import Effect, Kind
from apimart_async.urls import bare_url, origin

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from apimart_async.credentials import Secret
    from apimart_async.transport.exchange import Download

_OK: Final = 200
_OK_BELOW: Final = 300
_BAD_FROM: Final = 400
# Without one of these fields, an answer with the code 200 holds no error.
_ABOUT_ERRORS: Final = frozenset({"error", "success"})
_KEEPS_THE_BODY: Final = frozenset({307, 308})
_CONFLICT: Final = 409
# Characters that stand for themselves in a path or a query (RFC 3986), and the mark of those quoted already.
_KEPT: Final = "%/:?@!$&'()*+,;=~"

_DATA: Final = b"data:"
_DATA_OF_IMAGE: Final = b"data:image/"
_COMMENT: Final = ":"
_HEAD_BYTES: Final = 1024
# The first event of a stream begins within so many; the search in a large body would take long.
_FIRST_EVENT_BYTES: Final = 256 * 1024
_LINE: Final = re.compile(rb"([^\r\n]*)(?:\r\n|\r|\n)")
_MOST_LINES: Final = 100_000
_ETAG: Final = re.compile(r"[!-~]{1,1000}")
_BLANK: Final = "\0 \t\r\n"
_UTF_16_MARKS: Final = (b"\xff\xfe", b"\xfe\xff")
_PARTIAL: Final = "partial_image"
_COMPLETED: Final = ".completed"


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
        payload = _decode_body(data, is_good=status < _OK_BELOW)
    except errors.APIResponseValidationError as unreadable:
        if status < _OK_BELOW:
            return _failed(Effect.UNKNOWN, unreadable, reply)
        excerpt = (unreadable.excerpt or "").strip()
        message = f"{unreadable.message[:-1]}: {excerpt}" if excerpt else unreadable.message
        error = retry.error_class(status)(message, status=status, is_page=True)
        return _failed(retry.effect_of_answer(status, error), error, reply)
    # The form of nearly every answer.
    is_plain = is_mapping(payload) and payload.get("code") == _OK and payload.keys().isdisjoint(_ABOUT_ERRORS)
    found = None if is_plain else read_error(payload, is_refusal=status >= _BAD_FROM)
    if found is None and status < _OK_BELOW:
        if kind is not Kind.PAID_WRITE:
            return Answer(payload, None, replayed=False, etag=_etag(reply.headers, key))
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
    if kind is Kind.PAID_WRITE and status != _CONFLICT:
        # An answer that names an error and a task: only the account knows which is true. That of a conflict
        # is the task of an earlier request.
        find_id = parsing.submitted_task_id if status < _OK_BELOW else parsing.named_task_id
        error.task_id = find_id(payload)
        effect = Effect.UNKNOWN if error.task_id else effect
    return _failed(effect, error, reply)


def _failed(effect: Effect, error: errors.APIError, reply: Reply) -> FailedAttempt:
    retry_after = retry.read_retry_after(reply.headers, datetime.now(UTC))
    error.status = error.status or reply.status
    error.request_id = reply_id(reply.headers) or error.request_id
    if isinstance(error, errors.APIStatusError):
        error.retry_after = retry_after
    return FailedAttempt(effect, error, retry_after)


def _etag(headers: Mapping[str, str], key: Secret) -> str | None:
    """Return the version of the content, if it can be sent back."""
    said = headers.get("ETag", "")
    return said if _ETAG.fullmatch(said) and key.redact(said) == said else None


def reply_id(headers: Mapping[str, str]) -> str | None:
    """Return the service's id of a request, from the headers of its answer."""
    return header_text(headers.get("X-Oneapi-Request-Id") or headers.get("X-Request-Id") or "") or None


def header_text(value: str) -> str:
    """Return the value of a header as text: it may hold bytes that are none."""
    return value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def redirected(url: str, location: str) -> str:
    """Return the target of a redirect of a file; one that cannot be joined is refused where it is fetched."""
    location = header_text(location)
    try:
        return urljoin(url, location)
    except ValueError:
        return location


def is_events(headers: Mapping[str, str]) -> bool:
    """Tell whether an answer is a series of events."""
    # Not by aiohttp's `content_type`, which is parsed for minutes if the header has very many parameters.
    return headers.get("Content-Type", "").partition(";")[0].strip().lower() == EVENTS


def _read_redirect(reply: Reply, url: str) -> FailedAttempt:
    """Allow a redirect that keeps method, body and origin; any other would lose the image or leak the key."""
    location = header_text(reply.headers.get("Location", ""))
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


def indeterminate(error: errors.ApimartError) -> errors.SubmissionIndeterminateError:
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


# --- the body -----------------------------------------------------------------------------------------------


def _decode_body(data: bytes, *, is_good: bool) -> Any:  # noqa: ANN401 JSON is anything
    """Decode the body of an answer.

    A good answer is read even if a gateway has damaged it, as the id of a paid task may be in it.

    Args:
        data: Body.
        is_good: Whether the HTTP status says success. Any other body has to be JSON or an event stream.

    Raises:
        APIResponseValidationError: It is none of the known forms.
    """
    try:
        payload = json.loads(data)
    except json.TooManyValuesError:
        found = _from_image(data) if is_good else None
        if found is None:
            raise
        return found
    except errors.APIResponseValidationError:
        found = _from_events(data)
        if found is None and is_good:
            found = _from_image(data) or _first_value(data)
        if found is None:
            raise
        return found
    if isinstance(payload, str) and is_good:
        # Some gateways encode JSON twice, or send the base64 of an image alone.
        packed = payload.encode(errors="replace")
        return _from_image(packed) or _first_value(packed) or payload
    return payload


def _from_events(data: bytes) -> Any | None:  # noqa: ANN401 JSON is anything
    """Return the last event of an event stream, or the images of all its events as one result."""
    if _DATA not in data[:_FIRST_EVENT_BYTES]:
        return None
    last: dict[str, Any] | None = None
    images: list[dict[str, Any]] = []
    for event in _events(data):
        if _PARTIAL in str(event.get("type")):
            continue
        last = event
        if _is_final_image(event):
            images.append(event)
    if images:
        return {"created": images[-1].get("created_at"), "usage": images[-1].get("usage"), "data": images}
    return last


def _events(data: bytes) -> Iterator[dict[str, Any]]:
    lines: list[bytes] = []
    for found in islice(_LINE.finditer(data + b"\n\n"), _MOST_LINES):
        line = found[1]
        if line.startswith(_DATA):
            lines.append(line.removeprefix(_DATA))
        elif not line.strip() and lines:
            try:
                payload = json.loads(b"\n".join(lines))
            except errors.APIResponseValidationError:
                payload = None  # such as [DONE]
            lines.clear()
            if is_mapping(payload):
                yield payload


def _is_final_image(event: dict[str, Any]) -> bool:
    return str(event.get("type")).endswith(_COMPLETED) and bool(event.get("b64_json") or event.get("url"))


def _from_image(data: bytes) -> Any | None:  # noqa: ANN401 JSON is anything
    """Return a result for a body that is the image itself, or its base64, as some services answer."""
    if sniffing.identify(data[: sniffing.HEAD_BYTES]).extension is not None:
        return {"data": [{"b64_json": base64.b64encode(data).decode()}]}
    text = data.strip()
    if not text.isascii() or (text.startswith(_DATA) and not text.startswith(_DATA_OF_IMAGE)):
        return None  # the latter is an event
    found = data_url(text.decode("ascii"))
    return None if found is None else {"data": [{"url": found}]}


def _first_value(data: bytes) -> Any | None:  # noqa: ANN401 JSON is anything
    """Return the JSON object or array at the beginning of a text, behind comments of an event stream.

    Texts in another encoding lose their characters, but ids are ASCII. HTML with JSON in it is not read: it
    would be mistaken for an answer of the service.
    """
    try:
        encoding = "utf-16" if data.startswith(_UTF_16_MARKS) else "utf-8-sig"
        head = data[:_HEAD_BYTES].decode(encoding, "replace").lstrip(_BLANK)
        if head and not head.startswith(("{", "[", _COMMENT)):
            return None  # before a large body is decoded
        text = data.decode(encoding, "replace").lstrip(_BLANK)
        while text.startswith(_COMMENT):
            text = text.partition("\n")[2].lstrip(_BLANK)
        if not text.startswith(("{", "[")):
            return None
        value, rest = json.first_value(text)
    except ValueError:
        return None
    # An error with another value behind it may be about an earlier attempt of a gateway.
    return None if rest.strip(_BLANK) and read_error(value) is not None else value
