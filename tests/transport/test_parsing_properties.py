"""Whatever the services answer: a model or the one error, and no task that was paid for is lost."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from hypothesis import given, note, settings
from hypothesis import strategies as st

from apimart_async import APIResponseValidationError
from apimart_async.credentials import Secret
from apimart_async.errors import APIError
from apimart_async.transport import catalogue_parsing, error_parsing, image_parsing, parsing
from apimart_async.transport.responses import Answer, FailedAttempt, Reply, read_response
from apimart_async.transport.retry import Effect, Kind

if TYPE_CHECKING:
    from collections.abc import Callable

FIELDS = [
    *("code", "data", "id", "task_id", "status", "result", "images", "url", "urls", "expires_at", "error"),
    *("message", "type", "tasks", "results", "task_info", "progress", "cost", "created", "completed"),
    *("success", "fail_reason", "estimated_time", "b64_json", "bytes", "created_at", "filename", "raw"),
    *("content_type", "remain_balance", "used_balance", "unlimited_quota", "revised_prompt", "object"),
]
WORDS = [
    "completed",
    "failed",
    "task_1",
    "https://f.example/0",
    "400",
    "idempotency_in_progress",
    "1e999",
    "",
]
scalars = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(WORDS)
)
anything = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=6),
    max_leaves=25,
)
objects = st.dictionaries(st.sampled_from(FIELDS), anything, max_size=6)

READERS: dict[str, Callable[[object], object]] = {
    "a task": parsing.read_task,
    "tasks": parsing.read_tasks,
    "a submission": lambda payload: parsing.read_submission(payload, idempotency_key="key"),
    "an upload": parsing.read_upload,
    "an image set": image_parsing.read_image_set,
    "a balance": catalogue_parsing.read_balance,
    "models": catalogue_parsing.read_models,
    "an error": error_parsing.read_error,
}

URL = "https://api.example/v1/images/edits"


@settings(max_examples=200)
@given(payload=anything | objects | st.builds(lambda data: {"data": data}, objects | st.lists(objects)))
def test_a_reader_gives_a_model_or_the_one_error(payload: object) -> None:
    for name, read in READERS.items():
        note(name)
        try:
            read(payload)
        except APIResponseValidationError as error:
            assert error.message  # noqa: PT017 any other exception fails the test


SUBMITS: list[dict[str, Any]] = [
    {"code": 200, "data": [{"status": "submitted", "task_id": "task_1"}]},
    {"code": 200, "data": {"id": "task_1", "status": "pending", "progress": 0, "task_info": {}}},
    {"code": 202, "data": {"id": "task_1", "status": "queued", "poll_url": "https://x.example/"}},
    {"id": "task_1", "status": "submitted"},
]


def enriched(answer: dict[str, Any], extra: dict[str, Any]) -> dict[str, Any]:
    """Return the answer with further fields on every level that may hold the id."""
    data = answer.get("data")
    if isinstance(data, list):
        answer = answer | {"data": [extra | data[0], extra]}
    elif data is not None:
        answer = answer | {"data": extra | data}
    return {key: value for key, value in extra.items() if key != "data"} | answer


@given(st.sampled_from(SUBMITS), objects)
def test_a_submit_with_an_id_is_never_lost(answer: dict[str, Any], extra: dict[str, Any]) -> None:
    found = parsing.read_submission(enriched(answer, extra), idempotency_key="key")
    assert found.id
    assert found.idempotency_key == "key"


@given(st.sampled_from(SUBMITS), objects, st.sampled_from([200, 201, 202]))
def test_an_accepted_submit_is_a_task_or_an_error_that_names_it(
    answer: dict[str, Any], extra: dict[str, Any], status: int
) -> None:
    """Even when the same answer says that something went wrong."""
    try:
        body = json.dumps(enriched(answer, extra), allow_nan=False).encode()
    except ValueError:
        return
    outcome = read_response(Reply(status, {}, body), Kind.PAID_WRITE, URL, Secret("sk-test"))
    if isinstance(outcome, Answer):
        assert parsing.read_submission(outcome.payload, idempotency_key=None).id
    else:
        assert outcome.error.task_id
        assert outcome.effect is Effect.UNKNOWN


@given(st.integers(200, 599), anything, st.sampled_from(Kind))
def test_every_answer_is_judged(status: int, payload: object, kind: Kind) -> None:
    outcome = read_response(
        Reply(status, {"Location": "/"}, json.dumps(payload).encode()), kind, URL, Secret("sk-test")
    )
    assert isinstance(outcome.error, APIError) if isinstance(outcome, FailedAttempt) else status < 300
