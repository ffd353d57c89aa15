from __future__ import annotations

import errno
import inspect
import pickle
import re
from typing import TYPE_CHECKING, Any, Final

import attrs
import pytest

import apimart_async
from apimart_async import errors
from apimart_async.models import Task

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

TASK = Task("task_1", "queued", raw={"new": [1]})


EVERY_ERROR = [
    kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, errors.ApimartError)
]


def filled(kind: type[errors.ApimartError]) -> errors.ApimartError:
    values: dict[str, Any] = {
        "status": 429,
        "retry_after": 1.5,
        "task": TASK,
        "spent": 1.0,
        "limit": 2.0,
        "errno": errno.ENOSPC,
    }
    names = [field.name for field in attrs.fields(kind) if field.name != "message"]
    return kind("it went wrong", **{name: values.get(name, f"the {name}") for name in names})


@pytest.mark.parametrize("kind", EVERY_ERROR)
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_every_error_survives_pickling_with_its_class_and_fields(
    kind: type[errors.ApimartError], protocol: int
) -> None:
    error = filled(kind)
    error.add_note("a note")
    copy = pickle.loads(pickle.dumps(error, protocol))  # noqa: S301 our own pickle
    assert type(copy) is kind
    assert attrs.asdict(copy, recurse=False) == attrs.asdict(error, recurse=False)
    assert str(copy) == str(error)
    assert copy.args == error.args
    assert copy.__notes__ == ["a note"]


@pytest.mark.parametrize("kind", EVERY_ERROR)
def test_every_error_is_public_and_documented(kind: type[errors.ApimartError]) -> None:
    assert getattr(apimart_async, kind.__name__) is kind
    assert kind.__name__ in apimart_async.__all__
    assert kind.__doc__


def test_the_hierarchy_is_the_designs() -> None:
    for kind in (
        errors.BadRequestError,
        errors.AuthenticationError,
        errors.InsufficientBalanceError,
        errors.PermissionDeniedError,
        errors.NotFoundError,
        errors.ConflictError,
        errors.PayloadTooLargeError,
        errors.UnprocessableEntityError,
        errors.RateLimitError,
        errors.InternalServerError,
    ):
        assert kind.__mro__[1:4] == (errors.APIStatusError, errors.APIError, errors.ApimartError)
    assert issubclass(errors.APITimeoutError, errors.APIConnectionError)
    assert issubclass(errors.APIConnectionError, errors.APIError)
    for ending in (
        errors.TaskFailedError,
        errors.TaskCancelledError,
        errors.TaskExpiredError,
        errors.TaskTimeoutError,
    ):
        assert issubclass(ending, errors.TaskError)
    assert issubclass(errors.TaskTimeoutError, TimeoutError)
    assert issubclass(errors.UnsupportedImageError, errors.ImageError)
    assert issubclass(errors.ImageTooLargeError, errors.ImageError)


def test_the_sentence_names_the_known_facts() -> None:
    error = errors.RateLimitError(
        "Too many requests.",
        status=429,
        method="POST",
        url="https://api.apimart.ai/v1/images/edits",
        request_id="r-1",
        task_id="task_9",
    )
    assert str(error) == (
        "Too many requests. "
        "(HTTP 429, POST https://api.apimart.ai/v1/images/edits, request id r-1, task task_9)"
    )
    repeated = errors.APIStatusError("No such key. (request id: r-1)", status=401, request_id="r-1")
    assert str(repeated) == "No such key. (request id: r-1) (HTTP 401)"
    assert repr(error).startswith("RateLimitError(message='Too many requests.', status=429")


def test_a_timeout_of_a_task_is_an_ordinary_timeout() -> None:
    with pytest.raises(TimeoutError) as caught:
        raise errors.TaskTimeoutError("late", task=TASK, task_id=TASK.id)
    assert isinstance(caught.value, errors.TaskTimeoutError)
    assert caught.value.task is TASK


# Errors in the words of docs/money.md, and examples of them.
EXAMPLES: Final[list[tuple[str, Sequence[errors.ApimartError]]]] = [
    (
        "`APIConnectionError`, `APITimeoutError`",
        [errors.APIConnectionError("refused"), errors.APITimeoutError("late")],
    ),
    ("`RateLimitError`", [errors.RateLimitError("no", status=429)]),
    (
        (
            "`RateLimitError`, `PermissionDeniedError` or `BadRequestError` with the code "
            "`insufficient_quota`, `insufficient_user_quota` or `pre_consume_token_quota_failed`"
        ),
        [
            kind("no", status=status, code=code)
            for kind, status in (
                (errors.RateLimitError, 429),
                (errors.PermissionDeniedError, 403),
                (errors.BadRequestError, 400),
            )
            for code in ("insufficient_quota", "insufficient_user_quota", "pre_consume_token_quota_failed")
        ],
    ),
    (
        "`InternalServerError`",
        [
            *(errors.InternalServerError("no", status=status) for status in range(500, 600)),
            errors.InternalServerError("stopped by content moderation", status=503),
        ],
    ),
    (
        (
            "`InternalServerError` of a 500 that says the request is at fault, "
            "or of a 503 with the code `model_not_found`"
        ),
        [
            errors.InternalServerError("no available channel", status=503, code="model_not_found"),
            errors.InternalServerError("build_request_failed: size", status=500),
            errors.InternalServerError("Stopped by content moderation", status=500),
        ],
    ),
    (
        "`ConflictError`",
        [errors.ConflictError("no"), errors.ConflictError("no", code="idempotency_in_progress")],
    ),
    (
        "`ConflictError` with `idempotency_key_reused` or `idempotency_result_indeterminate`",
        [
            errors.ConflictError("no", code="idempotency_key_reused"),
            errors.ConflictError("no", type="idempotency_key_reused"),
            errors.ConflictError("no", code="idempotency_result_indeterminate"),
        ],
    ),
    (
        "`APIStatusError` with the status 408 or 425",
        [errors.APIStatusError("no", status=408), errors.APIStatusError("no", status=425)],
    ),
    ("`APIResponseValidationError`", [errors.APIResponseValidationError("HTML")]),
    (
        "`AuthenticationError`, `InsufficientBalanceError`",
        [errors.AuthenticationError("no"), errors.InsufficientBalanceError("no")],
    ),
    (
        (
            "`BadRequestError`, `PermissionDeniedError`, `NotFoundError`, `PayloadTooLargeError`, "
            "`UnprocessableEntityError`"
        ),
        [
            errors.BadRequestError("no", status=400),
            errors.PermissionDeniedError("no", status=403),
            errors.NotFoundError("no", status=404),
            errors.PayloadTooLargeError("no", status=413),
            errors.UnprocessableEntityError("no", status=422),
        ],
    ),
    (
        "`BadRequestError` with the code `get_channel_failed`",
        [errors.BadRequestError("wait and try again", status=400, code="get_channel_failed")],
    ),
    (
        "`APIStatusError` with any other status",
        [errors.APIStatusError("no", status=302), errors.APIStatusError("no", status=418)],
    ),
    ("`SubmissionIndeterminateError`", [errors.SubmissionIndeterminateError("unknown", status=503)]),
    (
        "`TaskFailedError`, `TaskCancelledError`, `TaskExpiredError`, `TaskResultError`, `TaskTimeoutError`",
        [
            errors.TaskResultError("no image"),
            errors.TaskFailedError("no"),
            errors.TaskCancelledError("no"),
            errors.TaskExpiredError("no"),
            errors.TaskTimeoutError("late"),
        ],
    ),
    (
        "`DownloadError` with the status 408, 425, 429 or 5xx",
        [errors.DownloadError("no", status=status) for status in (408, 425, 429, 500, 503)],
    ),
    (
        "`DownloadError` because the disk is full or cannot be written",
        [
            errors.DownloadError("no", errno=number)
            for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM)
        ],
    ),
    (
        "`DownloadError` otherwise",
        [
            errors.DownloadError("cut short"),
            errors.DownloadError("gone", status=404),
            errors.DownloadError("no", errno=errno.EIO),
        ],
    ),
    (
        "`InvalidArgumentError`, `ImageError`, `UnsupportedImageError`, `ImageTooLargeError`",
        [
            errors.InvalidArgumentError("no"),
            errors.ImageError("no"),
            errors.UnsupportedImageError("no"),
            errors.ImageTooLargeError("no"),
        ],
    ),
    (
        "`BudgetExceededError`, `JournalError`, `JournalInUseError`",
        [errors.BudgetExceededError("no"), errors.JournalError("no"), errors.JournalInUseError("no")],
    ),
]


def test_the_page_about_money_lists_transient_errors_and_those_that_stop_a_batch(
    repository: Path,
) -> None:
    rows = ["| error | transient | stops a batch |", "|---|---|---|"]
    for label, examples in EXAMPLES:
        (answers,) = {(error.is_transient, error.stops_batch) for error in examples}
        rows.append("| " + " | ".join([label, *("yes" if answer else "no" for answer in answers)]) + " |")
    page = (repository / "docs" / "money.md").read_text(encoding="utf-8")
    (table,) = re.findall(r"^\| error \|.*\n(?:\|.*\n)+", page, re.MULTILINE)
    assert table.strip().splitlines() == rows


def test_every_error_that_can_be_raised_is_in_that_table() -> None:
    shown = {type(error) for _, examples in EXAMPLES for error in examples}
    assert set(EVERY_ERROR) - shown == {errors.ApimartError, errors.APIError, errors.TaskError}
