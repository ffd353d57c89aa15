"""Find the error in an answer, and the reason of a failed task, in every shape that the services use."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import attrs

from apimart_async.models import TaskFailure
from apimart_async.transport.json import is_mapping, is_sequence, number, text

if TYPE_CHECKING:
    from collections.abc import Mapping

_ERROR: Final = 400
_LAST_ERROR: Final = 600
_PAYMENT_REQUIRED: Final = 402

_LONGEST_REASON: Final = 2000
_LONGEST_CODE: Final = 200
# A code or a request id is near the beginning of a message, or the message is a page.
_SEARCHED: Final = 4000

_REASONS: Final = ("message", "msg", "detail", "title")
_BALANCE_CODE: Final = 605
_BALANCE_WORD: Final = "NOT_ENOUGH_BALANCE"
_NO_CHANNEL: Final = "no available channel"
_MODEL_NOT_FOUND: Final = "model_not_found"
# Codes that decide about money, where the field `code` holds a number or nothing.
_SLUG: Final = re.compile(
    "idempotency_(?:in_progress|key_reused|result_indeterminate|unavailable)"
    f"|get_channel_failed|{_MODEL_NOT_FOUND}"
)
_REQUEST_ID: Final = re.compile(r"request[ _-]?id\s*[:=]\s*([A-Za-z0-9_-]{6,128})", re.IGNORECASE)


@attrs.frozen
class ServiceError:
    """The content of an error answer.

    Attributes:
        message: Words of the service.
        status: Status in the body, which overrides a 200; 402 for a lack of balance, of a 4xx too.
        code: As text.
        type: For example ``"rate_limit_error"``.
    """

    message: str
    status: int | None = None
    code: str | None = None
    type: str | None = None


def read_error(payload: object, *, is_refusal: bool = False) -> ServiceError | None:
    """Find the error in an answer; ``None`` if it holds none.

    Args:
        payload: Decoded JSON.
        is_refusal: Whether the HTTP status is one of an error: then a reason without ``error`` around it, as
            gateways and frameworks send, is one too.
    """
    top: Mapping[str, Any] = payload if is_mapping(payload) else {}
    said = top.get("error")
    said = None if is_empty(said) else said
    error = _innermost(said)
    status = _error_status(top.get("code"))
    if error:
        code = text(error.get("code"))
        status = status or _error_status(code)
        message = text(error.get("message")) or text(top.get("message")) or code or "no reason given"
        return _understood(ServiceError(message, status, code, text(error.get("type"))))
    word = text(said)
    if word is not None:
        return _understood(ServiceError(text(top.get("message")) or word, status, text(top.get("code"))))
    reason = next(filter(None, (text(top.get(name)) for name in _REASONS)), None)
    code = text(top.get("code"))
    is_error = status is not None or top.get("success") is False or _is_about_balance(top)
    if is_error or (is_refusal and (reason or code)):
        return _understood(ServiceError(reason or code or "no reason given", status, code))
    return None


def _understood(error: ServiceError) -> ServiceError:
    """Return an error with the code that its message holds, and with the status of a lack of balance."""
    if _BALANCE_WORD in {error.message, error.code} or error.code == str(_BALANCE_CODE):
        return attrs.evolve(error, status=_PAYMENT_REQUIRED)
    if error.code is not None and not error.code.isdecimal():
        return error
    beginning = error.message[:_SEARCHED]
    slug = _SLUG.search(beginning)
    if slug:
        return attrs.evolve(error, code=slug.group())
    if _NO_CHANNEL in beginning.lower():
        return attrs.evolve(error, code=_MODEL_NOT_FOUND)
    return error


def _is_about_balance(top: Mapping[str, Any]) -> bool:
    return number(top.get("code")) == _BALANCE_CODE or top.get("message") == _BALANCE_WORD


def _error_status(code: object) -> int | None:
    found = number(code)
    return int(found) if found is not None and _ERROR <= found < _LAST_ERROR else None


def find_request_id(payload: object, message: str | None = None) -> str | None:
    """Find the service's id of a request in the body of its answer, or in the message of its error."""
    top: Mapping[str, Any] = payload if is_mapping(payload) else {}
    for place in (top, _innermost(top.get("error"))):
        found = text(place.get("request_id"))
        if found:
            return found[:_LONGEST_CODE]
    ends = (message[:_SEARCHED], message[_SEARCHED:][-_LONGEST_CODE:]) if message else ()
    match = next(filter(None, map(_REQUEST_ID.search, ends)), None)
    return match.group(1) if match else None


def read_failure(source: Mapping[str, Any]) -> TaskFailure | None:
    """Read the reason of a failed task."""
    said = source.get("error")
    said = None if is_empty(said) else said
    error = _innermost(said)
    reason = next(filter(None, (text(source.get(name)) for name in ("fail_reason", "error_message"))), None)
    if error:
        code, kind = (
            _cut(text(error.get("code")), _LONGEST_CODE),
            _cut(text(error.get("type")), _LONGEST_CODE),
        )
        message = text(error.get("message")) or reason
        return TaskFailure(_cut(message) or code or "no reason given", code, kind)
    reason = text(said) or reason
    return TaskFailure(_cut(reason) or reason) if reason else None


def _innermost(error: object) -> Mapping[str, Any]:
    """Return the object that holds the message: some errors are wrapped, ``{"error": {"error": {…}}}``."""
    found: Mapping[str, Any] = error if is_mapping(error) else {}
    for _ in range(3):
        within = found.get("error")
        if not is_mapping(within) or is_empty(within):
            break
        found = within
    return found


def _cut(said: str | None, longest: int = _LONGEST_REASON) -> str | None:
    """Return a text of the service; of one that is a whole page, the beginning."""
    return f"{said[:longest]}… ({len(said):,} characters)" if said and len(said) > longest else said


def is_empty(error: object, depth: int = 3) -> bool:
    """Tell whether an error says nothing, as those that some services send with every good answer.

    Neither does the code 0, which stands for success.
    """
    if isinstance(error, str):
        return error.strip() in {"", "0"}
    if not error:
        return True
    parts: list[Any] = error if is_sequence(error) else list(error.values()) if is_mapping(error) else []
    return bool(depth and parts) and all(is_empty(part, depth - 1) for part in parts)
