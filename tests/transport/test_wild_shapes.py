"""Each shape, status, reason, error and cost beyond the documented ones: one row each."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any, Final

import pytest

from apimart_async import (
    APIResponseValidationError,
    APIStatusError,
    BadRequestError,
    Balance,
    ConflictError,
    Image,
    InsufficientBalanceError,
    InternalServerError,
    Task,
    TaskFailure,
    TokenDetails,
    UnprocessableEntityError,
    Usage,
)
from apimart_async.credentials import Secret
from apimart_async.transport import catalogue_parsing, parsing
from apimart_async.transport import json as service_json
from apimart_async.transport.responses import Answer, FailedAttempt, Reply, read_response
from apimart_async.transport.retry import Effect, Kind

KEY: Final = Secret("sk-test")
URLS: Final = ["https://f.example/0", "https://f.example/1"]
ENTRIES: Final = [{"url": url} for url in URLS]
RESULT: Final = {"images": ENTRIES}
INLINE: Final = [{"b64_json": "AAAA"}, {"b64_json": "BBBB"}]
PACKED: Final = ["data:image/png;base64,AAAA", "data:image/png;base64,BBBB"]


# --- answers to a submit ----------------------------------------------------------------------------------

# The answer; the id, status, URLs and cost of its task.
SUBMITS: dict[str, tuple[object, tuple[str | None, str, list[str], float | None]]] = {
    "generation.task": (
        {
            "code": 200,
            "data": {"object": "generation.task", "id": "task_1", "status": "queued"},
            "request_id": "r",
        },
        ("task_1", "queued", [], None),
    ),
    "generation.result without an id": (
        {"data": {"object": "generation.result", "status": "completed", "cost": 0.03, "result": RESULT}},
        (None, "completed", URLS, 0.03),
    ),
    "generation.result with an id": (
        {"data": {"object": "generation.result", "id": "task_1", "status": "completed", "result": RESULT}},
        ("task_1", "completed", URLS, None),
    ),
    "generation.result in a list": (
        {"data": [{"object": "generation.result", "status": "completed", "result": RESULT}]},
        (None, "completed", URLS, None),
    ),
    "generation.result that failed": (
        {
            "data": {
                "object": "generation.result",
                "status": "failed",
                "cost": 0.03,
                "error": {"message": "no"},
            }
        },
        (None, "failed", [], 0.0),
    ),
    "OpenAI's with URLs": ({"created": 1763088289, "data": ENTRIES}, (None, "completed", URLS, None)),
    "OpenAI's with images": ({"created": 1763088289, "data": INLINE}, (None, "completed", PACKED, None)),
    "OpenAI's with an id": (
        {"id": "task_1", "created": 1763088289, "data": ENTRIES, "cost": 0.03},
        ("task_1", "completed", URLS, 0.03),
    ),
    "OpenAI's in an envelope": (
        {"code": 200, "data": {"created": 1763088289, "data": ENTRIES}},
        (None, "completed", URLS, None),
    ),
    "completed without a result, to be polled": (
        {"data": {"id": "task_1", "status": "completed"}},
        ("task_1", "completed", [], None),
    ),
}


@pytest.mark.parametrize("name", SUBMITS)
def test_every_answer_to_a_submit_is_its_task(name: str) -> None:
    answer, expected = SUBMITS[name]
    now = datetime(2026, 11, 1, tzinfo=UTC)
    task = parsing.read_submission(answer, idempotency_key="key", model="m", submitted_at=now, n=2)
    assert (task.id, task.status, [image.url for image in task.images], task.cost) == expected
    assert (task.idempotency_key, task.model, task.n) == ("key", "m", 2)
    assert task.created_at is not None
    assert task.is_finished is (task.status in {"completed", "failed"})


@pytest.mark.parametrize(
    "answer",
    [
        {"data": {"object": "generation.result", "status": "completed", "result": {}}},
        {"data": {"status": "processing"}},
        {"created": 1763088289, "data": []},
        {"data": {"status": "processing", "url": "https://f.example/preview"}},
        {"code": 200, "data": "submitted"},
        {"code": 200, "data": ["task_1"]},
        {"code": 200, "data": "Your task was submitted."},
    ],
)
def test_a_submit_with_neither_an_id_nor_a_result_is_not_understood(answer: object) -> None:
    with pytest.raises(APIResponseValidationError, match="no task id"):
        parsing.read_submission(answer, idempotency_key="key")


def test_every_id_of_a_submit_is_kept() -> None:
    entries = [{"task_id": name, "status": "submitted"} for name in ("task_1", "task_2", "task_3")]
    task = parsing.read_submission({"code": 200, "data": entries}, idempotency_key="key", n=3)
    assert (task.id, task.sibling_ids) == ("task_1", ("task_2", "task_3"))
    polled = parsing.with_submit(parsing.read_task({"id": "task_1", "status": "queued"}), task)
    assert polled.sibling_ids == task.sibling_ids


def test_tasks_of_a_submit_end_together() -> None:
    image = Image("https://f.example/0", index=1)
    first = Task("task_1", "completed", images=(image,), cost=0.1, sibling_ids=("task_2",))
    running = Task("task_2", "processing", sibling_ids=("task_2",))
    together = parsing.joined([first, running])
    assert (together.id, together.sibling_ids) == ("task_1", ("task_2",))
    assert (together.status, together.images, together.cost) == ("processing", (), None)
    failed = Task("task_2", "failed", cost=0.0, error=TaskFailure("no"))
    assert parsing.joined([first, failed]) == first
    both = parsing.joined([failed, first])
    assert (both.id, both.status, both.cost, both.error) == ("task_2", "completed", 0.1, None)
    assert parsing.joined([failed, failed]).status == "failed"


def test_a_task_without_an_id_goes_to_plain_data_and_back() -> None:
    answer, _ = SUBMITS["generation.result without an id"]
    task = parsing.read_submission(answer, idempotency_key="key")
    plain = json.loads(json.dumps(service_json.converter.unstructure(task)))
    assert service_json.converter.structure(plain, Task) == task


# --- results ----------------------------------------------------------------------------------------------

RESULTS: dict[str, dict[str, Any]] = {
    "image_urls": {"result": {"image_urls": URLS}},
    "image_url": {"result": {"image_url": URLS}},
    "a list of URLs": {"result": URLS},
    "a list of objects": {"result": ENTRIES},
    "data": {"data": ENTRIES},
    "data within the result": {"result": {"data": ENTRIES}},
    "JSON in a text": {"result": json.dumps(RESULT)},
    "a list in a text": {"result": json.dumps(URLS)},
    "image_url of each entry": {"result": {"images": [{"image_url": url} for url in URLS]}},
    "an object in image_url": {"result": {"images": [{"image_url": {"url": url}} for url in URLS]}},
    "output": {"output": {"image_urls": URLS}},
    "a list as output": {"output": URLS},
    "videos": {"result": {"videos": ENTRIES}},
    "a word beside the images": {"result": "success", "images": ENTRIES},
    "images that were given beside the result": {"image_urls": ["https://in.example/0"], "result": RESULT},
}


@pytest.mark.parametrize("name", RESULTS)
def test_every_place_of_a_result_keeps_all_images(name: str) -> None:
    task = parsing.read_task({"code": 200, "data": {"id": "task_1", "status": "completed"} | RESULTS[name]})
    assert [image.url for image in task.images] == URLS
    assert [image.index for image in task.images] == [1, 2]


def test_a_result_that_is_one_url_is_one_image() -> None:
    for result in (URLS[0], {"image_url": URLS[0]}, {"images": URLS[0]}):
        task = parsing.read_task({"id": "task_1", "status": "completed", "result": result})
        assert [image.url for image in task.images] == URLS[:1]


@pytest.mark.parametrize(
    "fields",
    [
        {"result": "success"},
        {"result": "{"},
        {"result": {"seed": 7}},
        {"image_urls": ["https://in.example/0"]},
        {"output": None, "data": []},
    ],
)
def test_a_word_or_the_given_images_are_no_result(fields: dict[str, Any]) -> None:
    assert parsing.read_task({"id": "task_1", "status": "completed"} | fields).images == ()


def test_the_expiry_of_a_result_counts_for_its_images() -> None:
    result = {"image_urls": URLS, "expires_at": 1763174708}
    task = parsing.read_task(
        {"id": "task_1", "status": "completed", "result": result, "completed": 1763000000}
    )
    assert {image.expires_at for image in task.images} == {datetime.fromtimestamp(1763174708, UTC)}


# --- statuses and reasons ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spelling", "status"),
    [("fail", "failed"), ("complete", "completed"), ("SUCCESS", "completed"), ("Fail", "failed")],
)
def test_every_spelling_of_a_status_ends_the_task(spelling: str, status: str) -> None:
    assert parsing.read_task({"id": "task_1", "status": spelling}).status == status


@pytest.mark.parametrize(
    ("fields", "failure"),
    [
        ({"error_message": "too dark"}, TaskFailure("too dark")),
        ({"fail_reason": "too dark"}, TaskFailure("too dark")),
        (
            {"error": {"error": {"message": "too dark", "code": "dark", "type": "t"}}},
            TaskFailure("too dark", "dark", "t"),
        ),
        (
            {"error": {"type": "t", "code": "task_failed", "param": None}},
            TaskFailure("task_failed", "task_failed", "t"),
        ),
        (
            {"error": {"type": "t", "code": "task_failed"}, "error_message": "too dark"},
            TaskFailure("too dark", "task_failed", "t"),
        ),
        ({"error": {"message": ""}, "error_message": "too dark"}, TaskFailure("too dark")),
    ],
)
def test_every_place_of_a_reason(fields: dict[str, Any], failure: TaskFailure) -> None:
    assert parsing.read_task({"id": "task_1", "status": "failed"} | fields).error == failure


# --- costs and usage --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "cost", "credits_cost"),
    [
        ("submitted", None, None),
        ("processing", None, None),
        ("reticulating", None, None),
        ("completed", 0.015, 0.15),
        ("failed", 0.0, 0.0),
        ("fail", 0.0, 0.0),
        ("cancelled", 0.0, 0.0),
        ("expired", 0.0, 0.0),
    ],
)
def test_only_a_cost_that_is_kept_is_a_cost(
    status: str, cost: float | None, credits_cost: float | None
) -> None:
    answer = {"id": "task_1", "status": status, "cost": 0.015, "credits_cost": 0.15}
    task = parsing.read_task(answer)
    assert (task.cost, task.credits_cost) == (cost, credits_cost)
    assert task.raw == answer


def test_tokens_are_read_and_kept_in_plain_data() -> None:
    usage = {
        "input_tokens": 300,
        "input_tokens_details": {"cached_tokens": 0, "image_tokens": 256, "text_tokens": 44},
        "output_tokens": 1056,
        "output_tokens_details": {"image_tokens": 1056},
        "total_tokens": 1356,
    }
    task = parsing.read_task({"id": "task_1", "status": "completed", "usage": usage})
    assert task.usage == Usage(300, 1056, 1356, TokenDetails(0, 256, 44), TokenDetails(None, 1056, None))
    plain = json.loads(json.dumps(service_json.converter.unstructure(task)))
    assert service_json.converter.structure(plain, Task) == task
    unknown: object
    for unknown in ({}, None, [], {"input_tokens": "many"}, 7):
        assert parsing.read_task({"id": "task_1", "status": "completed", "usage": unknown}).usage is None


# --- errors -----------------------------------------------------------------------------------------------


def body(**fields: object) -> bytes:
    return json.dumps(fields).encode()


CHANNEL: Final = "get_channel_failed: wait and try again"
NO_MODEL: Final = "no available channel for model m"
PAGE: Final = f"<html>{'x' * 20_000}</html>"

# The answer; the class, status and code of its error, and whether the request was executed.
ERRORS: dict[str, tuple[int, bytes, type[APIStatusError], int, str | None, Effect]] = {
    "no channel is free": (
        400,
        body(error={"code": "get_channel_failed", "message": "wait and try again"}),
        *(BadRequestError, 400, "get_channel_failed", Effect.DEFERRED),
    ),
    "no channel is free, in the message": (
        400,
        body(error={"code": 400, "message": CHANNEL}),
        *(BadRequestError, 400, "get_channel_failed", Effect.DEFERRED),
    ),
    "no channel is free, inside a 200": (
        200,
        body(code=400, message=CHANNEL),
        *(BadRequestError, 400, "get_channel_failed", Effect.DEFERRED),
    ),
    "another 400": (
        400,
        body(error={"code": 400, "message": "no"}),
        BadRequestError,
        400,
        "400",
        Effect.REJECTED,
    ),
    "a 503 with no channel free may have been executed": (
        503,
        body(error={"code": "get_channel_failed", "message": NO_MODEL}),
        *(InternalServerError, 503, "get_channel_failed", Effect.UNKNOWN),
    ),
    "no channel has the model": (
        503,
        body(error={"code": "model_not_found", "message": NO_MODEL}),
        *(InternalServerError, 503, "model_not_found", Effect.REJECTED),
    ),
    "no channel has the model, in the message": (
        503,
        body(error={"code": "", "message": f"No available channel for model m{PAGE}"}),
        *(InternalServerError, 503, "model_not_found", Effect.REJECTED),
    ),
    "in progress, in the message of a 409": (
        409,
        body(error={"code": 409, "message": "idempotency_in_progress: wait"}),
        *(ConflictError, 409, "idempotency_in_progress", Effect.DEFERRED),
    ),
    "reused, in the message of a 409": (
        409,
        body(error={"code": 409, "message": "idempotency_key_reused"}),
        *(ConflictError, 409, "idempotency_key_reused", Effect.REJECTED),
    ),
    "indeterminate, in the message of a 409": (
        409,
        body(error={"code": "409", "message": "idempotency_result_indeterminate"}),
        *(ConflictError, 409, "idempotency_result_indeterminate", Effect.UNKNOWABLE),
    ),
    "unavailable, in the message of a 503": (
        503,
        body(error={"code": 503, "message": "idempotency_unavailable"}),
        *(InternalServerError, 503, "idempotency_unavailable", Effect.DEFERRED),
    ),
    "no balance, inside a 200": (
        200,
        body(code=605, message="NOT_ENOUGH_BALANCE"),
        *(InsufficientBalanceError, 402, "605", Effect.REJECTED),
    ),
    "no balance, as a 400": (
        400,
        body(code=605, message="NOT_ENOUGH_BALANCE"),
        *(InsufficientBalanceError, 402, "605", Effect.REJECTED),
    ),
    "no balance, as a 403 with an error": (
        403,
        body(error={"code": "605", "message": "NOT_ENOUGH_BALANCE"}),
        *(InsufficientBalanceError, 402, "605", Effect.REJECTED),
    ),
    "no balance, as a 500 that may have been executed": (
        500,
        body(code=605, message="NOT_ENOUGH_BALANCE"),
        *(InternalServerError, 500, "605", Effect.UNKNOWN),
    ),
    "wrapped twice": (
        422,
        body(error={"error": {"code": "bad_size", "message": "no"}}),
        *(UnprocessableEntityError, 422, "bad_size", Effect.REJECTED),
    ),
    "an event of a stream": (
        422,
        b"event: error\ndata: " + body(error={"code": "bad_size", "message": "no"}) + b"\n\n",
        *(UnprocessableEntityError, 422, "bad_size", Effect.REJECTED),
    ),
    "a page as the message": (
        422,
        body(error={"code": "bad_size", "message": PAGE}),
        *(UnprocessableEntityError, 422, "bad_size", Effect.REJECTED),
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_every_error_has_its_class_and_its_effect_on_money(name: str) -> None:
    http_status, content, kind, status, code, effect = ERRORS[name]
    reply = Reply(http_status, {"Content-Type": "text/event-stream"}, content)
    failed = read_response(reply, Kind.PAID_WRITE, "https://api.example/v1/images/generations", KEY)
    assert isinstance(failed, FailedAttempt)
    assert type(failed.error) is kind
    assert (failed.error.status, failed.error.code, failed.effect) == (status, code, effect)
    assert failed.error.is_transient is (effect in {Effect.DEFERRED, Effect.UNKNOWN})
    assert failed.error.stops_batch is (kind is InsufficientBalanceError)


REQUEST_IDS: list[tuple[dict[str, str], dict[str, Any]]] = [
    ({"X-Oneapi-Request-Id": "req-000001"}, {"error": {"message": "no"}, "request_id": "another"}),
    ({}, {"error": {"message": "no"}, "request_id": "req-000001"}),
    ({}, {"error": {"message": "no", "request_id": "req-000001"}}),
    ({}, {"error": {"message": "invalid API key (request id: req-000001)"}}),
    ({}, {"error": {"message": f"{PAGE} (request id: req-000001)"}}),
    ({}, {"code": 422, "message": "no, Request-ID: req-000001"}),
]


@pytest.mark.parametrize(("headers", "answer"), REQUEST_IDS)
def test_the_request_id_is_found_in_header_body_or_message(
    headers: dict[str, str], answer: dict[str, Any]
) -> None:
    failed = read_response(
        Reply(422, headers, json.dumps(answer).encode()), Kind.READ, "https://api.example/", KEY
    )
    assert isinstance(failed, FailedAttempt)
    assert failed.error.request_id == "req-000001"


def test_other_words_are_no_request_id() -> None:
    answer = b'{"error":{"message":"Request idempotency_in_progress, no request identifier"}}'
    failed = read_response(Reply(409, {}, answer), Kind.READ, "https://api.example/", KEY)
    assert isinstance(failed, FailedAttempt)
    assert failed.error.request_id is None


def test_the_request_id_of_a_good_answer_is_found_in_its_body() -> None:
    good = read_response(
        Reply(200, {}, b'{"data":{},"request_id":"r1"}'), Kind.PAID_WRITE, "https://api.example/", KEY
    )
    assert isinstance(good, Answer)
    assert good.request_id == "r1"


# --- uploads and balances ---------------------------------------------------------------------------------


def test_an_upload_in_a_list_is_read() -> None:
    answer = {"code": 200, "data": [{"url": "https://u.example/a.png", "filename": "a.png", "bytes": 3}]}
    assert parsing.read_upload(answer).url == "https://u.example/a.png"
    assert parsing.is_about_upload(answer, 3, "a.png", ["a.png"])
    assert not parsing.is_about_upload(answer, 4, "a.png", ["a.png"])


def test_a_balance_of_minus_one_is_without_a_limit() -> None:
    assert catalogue_parsing.read_balance({"remain_balance": -1, "used_balance": 3}) == Balance(
        None, 3.0, unlimited=True
    )
