from __future__ import annotations

import inspect
import pickle
from typing import Any

import attrs
import pytest

import apimart_async
from apimart_async import errors
from apimart_async.models import Task

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


def test_the_sentence_names_what_is_known() -> None:
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
    assert repr(error).startswith("RateLimitError(message='Too many requests.', status=429")


def test_a_timeout_of_a_task_is_an_ordinary_timeout() -> None:
    with pytest.raises(TimeoutError) as caught:
        raise errors.TaskTimeoutError("late", task=TASK, task_id=TASK.id)
    assert isinstance(caught.value, errors.TaskTimeoutError)
    assert caught.value.task is TASK
