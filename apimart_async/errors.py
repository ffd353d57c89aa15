"""Every error the package raises: plain data, picklable, safe to log.

An error never holds a live response, a header or the API key. ``str(error)`` is one readable sentence;
the parts it is made of are fields, and fields that do not apply are ``None``. ``is_transient`` and
``stops_batch`` classify errors; docs/money.md has the table.
"""

from __future__ import annotations

import errno as error_numbers
from typing import TYPE_CHECKING, Any, Final

import attrs

from apimart_async.models import Image, Task

if TYPE_CHECKING:
    from collections.abc import Mapping


# Control characters, line separators, and the marks that change the direction of a text.
_CONTROLS: Final = {
    code: repr(chr(code))[1:-1]
    for numbers in (range(0x20), range(0x7F, 0xA0), range(0x2028, 0x202F), range(0x2066, 0x206A))
    for code in numbers
}


def visible(text: str) -> str:
    """Return a text from outside with its control characters escaped, for logs and terminals.

    They could forge lines of a log, and command a terminal.
    """
    return text if text.isascii() and text.isprintable() else text.translate(_CONTROLS)


@attrs.define(eq=False, slots=False, repr=False, str=False)
class ApimartError(Exception):
    """Root of every error raised by this package.

    Attributes:
        message: Description of the error, in the words of the service if it gave any.
        status: HTTP status of the answer.
        code: The service's error code; slugs and numbers both come as text.
        type: The service's error type, for example ``"rate_limit_error"``.
        request_id: Id of the request in the logs of the service.
        method: HTTP method of the request.
        url: URL of the request, without credentials and query.
        task_id: Id of the paid task, which can be fetched and waited for again.
        idempotency_key: Idempotency key of the paid request.
    """

    message: str
    status: int | None = attrs.field(default=None, kw_only=True)
    code: str | None = attrs.field(default=None, kw_only=True)
    type: str | None = attrs.field(default=None, kw_only=True)
    request_id: str | None = attrs.field(default=None, kw_only=True)
    method: str | None = attrs.field(default=None, kw_only=True)
    url: str | None = attrs.field(default=None, kw_only=True)
    task_id: str | None = attrs.field(default=None, kw_only=True)
    idempotency_key: str | None = attrs.field(default=None, kw_only=True)

    @property
    def is_transient(self) -> bool:
        """Whether the same request may succeed later, and sending it again cannot be paid for twice.

        .. versionadded:: 0.1
        """
        return _is_transient(self)

    @property
    def stops_batch(self) -> bool:
        """Whether every other job would fail with the same error: the key, the balance, the disk.

        .. versionadded:: 0.1
        """
        return _stops_batch(self)

    def __str__(self) -> str:
        request = f"{self.method} {self.url}" if self.method and self.url else None
        facts = [
            f"HTTP {self.status}" if self.status else None,
            request,
            self._unless_said("request id", self.request_id),
            self._unless_said("task", self.task_id),
        ]
        context = ", ".join(fact for fact in facts if fact)
        return visible(f"{self.message} ({context})" if context else self.message)

    def _unless_said(self, kind: str, name: str | None) -> str | None:
        return f"{kind} {name}" if name and name not in self.message else None

    def __repr__(self) -> str:
        known = ((field.name, getattr(self, field.name)) for field in attrs.fields(type(self)))
        shown = ", ".join(f"{name}={value!r}" for name, value in known if value is not None and value != ())
        return f"{type(self).__name__}({shown})"

    # Exception pickles itself as ``type(*args)``, which loses keyword-only fields.
    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (type(self), self.args, self.__dict__)


def _restore(kind: type[ApimartError], args: tuple[object, ...], state: Mapping[str, Any]) -> ApimartError:
    error = kind.__new__(kind)
    error.args = args
    error.__dict__.update(state)
    return error


@attrs.define(eq=False, slots=False, repr=False, str=False)
class InvalidArgumentError(ApimartError, ValueError):
    """An argument is invalid; nothing was sent."""


@attrs.define(eq=False, slots=False, repr=False, str=False)
class APIError(ApimartError):
    """A request to the service failed."""


@attrs.define(eq=False, slots=False, repr=False, str=False)
class APIConnectionError(APIError):
    """No complete answer arrived: the connection was refused or lost, or the request timed out."""


@attrs.define(eq=False, slots=False, repr=False, str=False)
class APITimeoutError(APIConnectionError):
    """The connection or the answer timed out."""


@attrs.define(eq=False, slots=False, repr=False, str=False)
class APIStatusError(APIError):
    """The service answered with an error.

    Attributes:
        retry_after: Seconds that the service asked to wait before the next attempt.
        is_page: Whether the answer was a page, such as HTML, instead of JSON: it came from a gateway or a
            firewall, not from the service.
    """

    retry_after: float | None = attrs.field(default=None, kw_only=True)
    is_page: bool = attrs.field(default=False, kw_only=True)


@attrs.define(eq=False, slots=False, repr=False, str=False)
class BadRequestError(APIStatusError):
    """400: the service did not accept the request as it is."""


@attrs.define(eq=False, slots=False, repr=False, str=False)
class AuthenticationError(APIStatusError):
    """401: the API key is missing, wrong or revoked."""


@attrs.define(eq=False, slots=False, repr=False, str=False)
class InsufficientBalanceError(APIStatusError):
    """402: the account has no balance left."""


@attrs.define(eq=False, slots=False, repr=False, str=False)
class PermissionDeniedError(APIStatusError):
    """403: the key does not allow this request."""


@attrs.define(eq=False, slots=False, repr=False, str=False)
class NotFoundError(APIStatusError):
    """404: there is no such endpoint, model or task, or the service no longer keeps the task."""


@attrs.define(eq=False, slots=False, repr=False, str=False)
class ConflictError(APIStatusError):
    """409: the idempotency key is in use, was used for another payload, or its result is unknown."""


@attrs.define(eq=False, slots=False, repr=False, str=False)
class PayloadTooLargeError(APIStatusError):
    """413: the request is larger than the service accepts."""


@attrs.define(eq=False, slots=False, repr=False, str=False)
class UnprocessableEntityError(APIStatusError):
    """422: the request is well-formed, but the service does not accept its values."""


@attrs.define(eq=False, slots=False, repr=False, str=False)
class RateLimitError(APIStatusError):
    """429: too many requests, or a quota that is used up."""


@attrs.define(eq=False, slots=False, repr=False, str=False)
class InternalServerError(APIStatusError):
    """5xx: the service failed."""


@attrs.define(eq=False, slots=False, repr=False, str=False)
class APIResponseValidationError(APIError):
    """The answer has none of the forms that the service is known to use.

    Attributes:
        excerpt: The first characters of the answer.
    """

    excerpt: str | None = attrs.field(default=None, kw_only=True)


@attrs.define(eq=False, slots=False, repr=False, str=False)
class SubmissionIndeterminateError(APIError):
    """A paid request was sent and it is not known whether it was executed; it is not sent again.

    ``idempotency_key`` is the key it was sent under and ``task_id`` the task, if its id is known.
    Look at the account before submitting the same work again: it may have been billed.

    Attributes:
        images: Finished images that a stream delivered before it broke off.
        partial_images: Previews that the stream delivered, in order.
    """

    images: tuple[Image, ...] = attrs.field(default=(), kw_only=True)
    partial_images: tuple[Image, ...] = attrs.field(default=(), kw_only=True)


@attrs.define(eq=False, slots=False, repr=False, str=False)
class TaskError(ApimartError):
    """A task ended without images, or did not end in time.

    Attributes:
        task: The task as last seen; ``None`` when it was never seen.
    """

    task: Task | None = attrs.field(default=None, kw_only=True)


@attrs.define(eq=False, slots=False, repr=False, str=False)
class TaskFailedError(TaskError):
    """The task failed; failed tasks are free."""


@attrs.define(eq=False, slots=False, repr=False, str=False)
class TaskCancelledError(TaskError):
    """The service cancelled the task."""


@attrs.define(eq=False, slots=False, repr=False, str=False)
class TaskExpiredError(TaskError):
    """The service no longer has the task.

    ``status`` is 404 if the service does not know the task, and ``None`` if it reports the task as expired.
    """


@attrs.define(eq=False, slots=False, repr=False, str=False)
class TaskResultError(TaskError):
    """The task has completed, and may be billed, but no image can be found in its result.

    ``task.raw`` is the JSON object of the service, as it came.
    """


@attrs.define(eq=False, slots=False, repr=False, str=False)
class TaskTimeoutError(TaskError, TimeoutError):
    """The wait timed out; the task continues and can be waited for again."""


@attrs.define(eq=False, slots=False, repr=False, str=False)
class ImageError(InvalidArgumentError):
    """An image cannot be sent as it is; nothing was sent."""


@attrs.define(eq=False, slots=False, repr=False, str=False)
class UnsupportedImageError(ImageError):
    """The content is not an image in a format that the service accepts."""


@attrs.define(eq=False, slots=False, repr=False, str=False)
class ImageTooLargeError(ImageError):
    """The image has more bytes than the service accepts, or too many pixels to be decoded safely."""


@attrs.define(eq=False, slots=False, repr=False, str=False)
class DownloadError(ApimartError):
    """A result could not be fetched whole, or is not an image.

    The task is paid for: fetch it again with ``tasks.get(error.task_id)`` for fresh URLs and save once more.

    Attributes:
        errno: Error number of the file system, if the file could not be written.
    """

    errno: int | None = attrs.field(default=None, kw_only=True)

    @property
    def is_gone(self) -> bool:
        """Tell whether the host refuses this URL for good: fresh URLs of the task may work."""
        return self.status is not None and _REFUSED <= self.status < _SERVER and not self.is_transient


@attrs.define(eq=False, slots=False, repr=False, str=False)
class BudgetExceededError(ApimartError):
    """The next submit could pass the budget, so it was not made.

    Attributes:
        spent: USD spent so far.
        limit: USD allowed.
    """

    spent: float | None = attrs.field(default=None, kw_only=True)
    limit: float | None = attrs.field(default=None, kw_only=True)


@attrs.define(eq=False, slots=False, repr=False, str=False)
class JournalError(ApimartError):
    """The journal of a batch cannot be used or written; the message has the reason and the next step.

    Attributes:
        path: Path of the journal, if it is a file.
    """

    path: str | None = attrs.field(default=None, kw_only=True)


@attrs.define(eq=False, slots=False, repr=False, str=False)
class JournalInUseError(JournalError):
    """Another process, or another batch of this one, is using the journal."""


# --- classification ---------------------------------------------------------------------------------------

# 408 Request Timeout, 425 Too Early, 429 Too Many Requests.
_TRANSIENT_STATUSES: Final = frozenset({408, 425, 429})
_REFUSED: Final = 400
_SERVER: Final = 500
_UNAVAILABLE: Final = 503
# OpenAI's code, and those of the gateway software that APIMart's answers come from.
_QUOTA_CODES: Final = frozenset(
    {"insufficient_quota", "insufficient_user_quota", "pre_consume_token_quota_failed"}
)
NO_CHANNEL: Final = "get_channel_failed"
"""Code of a 400: no channel of the service was free, and the request was not executed."""
NO_MODEL: Final = "model_not_found"
"""Code of a 503: no channel of the service has the model, and the request was not executed."""
_LASTING_CONFLICTS: Final = frozenset({"idempotency_key_reused", "idempotency_result_indeterminate"})

# The file system is full, read-only or closed to this user: no other file can be written either.
_NO_WRITES: Final = frozenset(
    {
        *(error_numbers.ENOSPC, error_numbers.EDQUOT, error_numbers.EFBIG, error_numbers.EROFS),
        *(error_numbers.EACCES, error_numbers.EPERM, error_numbers.ENOTDIR),
    }
)


def _is_transient(error: ApimartError) -> bool:
    match error:
        case APIConnectionError() | APIResponseValidationError():
            return True
        case RateLimitError():
            return error.code not in _QUOTA_CODES
        case ConflictError():
            return _LASTING_CONFLICTS.isdisjoint((error.code, error.type))
        case InternalServerError():
            blames_request = error.status == _SERVER and _blames_request(error.message.lower())
            lacks_model = error.status == _UNAVAILABLE and error.code == NO_MODEL
            return not (blames_request or lacks_model)
        case APIStatusError() | DownloadError():
            status = error.status or 0
            is_refused = status == _REFUSED and error.code == NO_CHANNEL
            return status in _TRANSIENT_STATUSES or status >= _SERVER or is_refused
        case _:
            return False


def _blames_request(message: str) -> bool:
    return message.startswith("build_request_failed") or "moderation" in message


def _stops_batch(error: ApimartError) -> bool:
    match error:
        case AuthenticationError() | InsufficientBalanceError() | BudgetExceededError() | JournalError():
            return True
        case APIStatusError():
            return error.code in _QUOTA_CODES
        case DownloadError():
            return error.errno in _NO_WRITES
        case _:
            return False
