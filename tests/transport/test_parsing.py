from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from apimart_async import (
    APIResponseValidationError,
    Balance,
    Image,
    ImageSet,
    Model,
    Task,
    TaskFailure,
    Upload,
    Usage,
)
from apimart_async.transport import catalogue_parsing, error_parsing, image_parsing, parsing
from apimart_async.transport import json as service_json

COMPLETED: dict[str, Any] = {
    "code": 200,
    "data": {
        "id": "task_01KA",
        "status": "completed",
        "progress": 100,
        "cost": 0.015,
        "credits_cost": 0.15,
        "result": {"images": [{"url": ["https://f.example/image_0.png"], "expires_at": 1763174708}]},
        "created": 1763088289,
        "completed": 1763088308,
        "estimated_time": 60,
        "actual_time": 19,
    },
}


def completed(**changes: object) -> dict[str, Any]:
    return {"code": 200, "data": COMPLETED["data"] | changes}


def test_the_documented_answer_is_read_whole() -> None:
    task = parsing.read_task(COMPLETED)
    expires = datetime.fromtimestamp(1763174708, UTC)
    assert task == Task(
        id="task_01KA",
        status="completed",
        progress=100.0,
        images=(
            Image(
                "https://f.example/image_0.png",
                expires,
                task_id="task_01KA",
                index=1,
                content_type="image/png",
            ),
        ),
        cost=0.015,
        credits_cost=0.15,
        created_at=datetime.fromtimestamp(1763088289, UTC),
        completed_at=datetime.fromtimestamp(1763088308, UTC),
        estimated_time=60.0,
        actual_time=19.0,
    )
    assert task.raw == COMPLETED["data"]


SUBMITS: dict[str, object] = {
    "today's list": {"code": 200, "data": [{"status": "submitted", "task_id": "task_1"}]},
    "an object with progress": {
        "code": 200,
        "data": {"id": "task_1", "status": "pending", "progress": 0, "task_info": {"estimated_time": 30}},
    },
    "a 202": {"code": 202, "data": {"id": "task_1", "status": "queued", "poll_url": "https://x.example/"}},
    "a top-level id": {"id": "task_1"},
    "task_id in an object": {"data": {"task_id": "task_1"}},
    "an id in a list": {"data": [{"id": "task_1"}]},
    "both, task_id first": {"id": "no", "data": [{"task_id": "task_1", "id": "no"}]},
    "unreadable details": {"data": {"id": "task_1", "status": 7, "progress": {}, "result": 3, "error": [1]}},
}


@pytest.mark.parametrize("name", SUBMITS)
def test_every_submit_shape_gives_the_id(name: str) -> None:
    task = parsing.read_submission(SUBMITS[name], idempotency_key="key")
    assert task.id == "task_1"
    assert task.idempotency_key == "key"
    assert not task.is_finished


def test_the_estimate_of_a_submit_is_kept() -> None:
    assert (
        parsing.read_submission(SUBMITS["an object with progress"], idempotency_key=None).estimated_time == 30
    )


@pytest.mark.parametrize(
    ("images", "urls"),
    [
        (
            [{"url": ["https://f.example/0", "https://f.example/1"]}],
            ["https://f.example/0", "https://f.example/1"],
        ),
        (
            [{"url": "https://f.example/0"}, {"url": "https://f.example/1"}],
            ["https://f.example/0", "https://f.example/1"],
        ),
        ([{"url": "data:image/png;base64,AAAA"}], ["data:image/png;base64,AAAA"]),
        (["https://f.example/0"], ["https://f.example/0"]),
        ("https://f.example/0", ["https://f.example/0"]),
        ([{"b64_json": "AAAA"}], ["data:image/png;base64,AAAA"]),
        ([], []),
        ([{"url": None}, {}, 3], []),
    ],
)
def test_every_url_shape_keeps_all_images(images: object, urls: list[str]) -> None:
    task = parsing.read_task(completed(result={"images": images}))
    assert [image.url for image in task.images] == urls


def test_without_an_expiry_a_result_lives_a_day_and_a_data_url_for_ever() -> None:
    images = [{"url": "https://f.example/0"}, {"url": "data:image/png;base64,AAAA"}]
    first, second = parsing.read_task(completed(result={"images": images})).images
    assert first.expires_at == datetime.fromtimestamp(1763088308 + 24 * 3600, UTC)
    assert second.expires_at is None


@pytest.mark.parametrize(
    ("spelling", "status"),
    [
        *((word, word) for word in ("submitted", "pending", "queued", "processing", "in_progress")),
        *(
            (word, "completed")
            for word in ("completed", "success", "succeeded", "done", "COMPLETED", "Success")
        ),
        *((word, "failed") for word in ("failed", "failure", "error", "FAILURE")),
        *((word, "cancelled") for word in ("cancelled", "canceled")),
        ("expired", "expired"),
        ("meditating", "meditating"),
    ],
)
def test_every_status_spelling(spelling: str, status: str) -> None:
    task = parsing.read_task({"data": {"id": "task_1", "status": spelling}})
    assert task.status == status
    assert task.is_finished == (status in {"completed", "failed", "cancelled", "expired"})
    assert task.is_completed == (status == "completed")


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        ({"code": 500, "message": "no", "type": "t"}, TaskFailure("no", "500", "t")),
        ({"code": "", "message": "no"}, TaskFailure("no")),
        ({"code": "moderated"}, TaskFailure("moderated", "moderated")),
        ("no", TaskFailure("no")),
        (None, None),
        ({}, None),
    ],
)
def test_every_failure_shape(error: object, failure: TaskFailure | None) -> None:
    assert parsing.read_task({"data": {"id": "task_1", "status": "failed", "error": error}}).error == failure


def test_the_oldest_polling_path_is_read() -> None:
    done = parsing.read_task({"status": "SUCCESS", "url": "https://f.example/0"}, task_id="task_1")
    assert (done.id, done.status, done.images[0].url) == ("task_1", "completed", "https://f.example/0")
    failed = parsing.read_task({"status": "failed", "fail_reason": "too dark"}, task_id="task_1")
    assert failed.error == TaskFailure("too dark")


@pytest.mark.parametrize("shape", ["list", "tasks", "results"])
def test_every_batch_shape(shape: str) -> None:
    tasks = [COMPLETED["data"], {"id": "task_2", "status": "queued"}, {"status": "no id"}, None]
    data = tasks if shape == "list" else {shape: tasks}
    assert {name: task.status for name, task in parsing.read_tasks({"data": data}).items()} == {
        "task_01KA": "completed",
        "task_2": "queued",
    }


@pytest.mark.parametrize(
    ("payload", "status", "code", "message"),
    [
        ({"error": {"code": 401, "message": "no", "type": "t"}}, 401, "401", "no"),
        ({"error": {"code": "", "message": "no"}}, None, None, "no"),
        (
            {"error": {"code": "idempotency_in_progress", "message": "no"}},
            None,
            "idempotency_in_progress",
            "no",
        ),
        ({"code": 400, "error": {"code": 400, "message": "no"}}, 400, "400", "no"),
        ({"code": 400, "message": "no"}, 400, "400", "no"),
        ({"success": False, "message": "no"}, None, None, "no"),
        ({"error": "no"}, None, None, "no"),
    ],
)
def test_every_error_shape(payload: object, status: int | None, code: str | None, message: str) -> None:
    error = error_parsing.read_error(payload)
    assert error is not None
    assert (error.status, error.code, error.message) == (status, code, message)


@pytest.mark.parametrize(
    "payload", [COMPLETED, {"code": 202, "data": {}}, {"error": None}, {"error": {}}, [], None, "x"]
)
def test_answers_without_an_error(payload: object) -> None:
    assert error_parsing.read_error(payload) is None


def test_an_upload_without_expiry_lives_72_hours() -> None:
    answer = {
        "url": "https://u.example/a.png",
        "filename": "a.png",
        "content_type": "image/png",
        "bytes": 12,
        "created_at": 1763088289,
    }
    upload = parsing.read_upload(answer)
    assert upload == Upload(
        url="https://u.example/a.png",
        filename="a.png",
        content_type="image/png",
        bytes=12,
        created_at=datetime.fromtimestamp(1763088289, UTC),
        expires_at=datetime.fromtimestamp(1763088289 + 72 * 3600, UTC),
    )


@pytest.mark.parametrize(
    "answer",
    [
        {"url": "https://u.example/a.png"},
        {"data": {"url": "https://u.example/a.png", "filename": "", "content_type": None, "bytes": "many"}},
        {"url": "https://u.example/a.png", "created_at": "yesterday", "expires_at": -1},
    ],
)
def test_an_upload_needs_nothing_but_its_address(answer: object) -> None:
    upload = parsing.read_upload(answer)
    assert (upload.url, upload.filename, upload.bytes) == ("https://u.example/a.png", "image", 0)
    assert (upload.expires_at - upload.created_at).total_seconds() == 72 * 3600


@pytest.mark.parametrize(
    "answer", [{}, [], None, {"url": ""}, {"url": ["https://u.example/a.png"]}, {"data": []}]
)
def test_an_upload_without_an_address_is_none(answer: object) -> None:
    with pytest.raises(APIResponseValidationError, match="no upload"):
        parsing.read_upload(answer)


def test_an_image_set_is_read_whole() -> None:
    answer = {
        "created": 1713833628,
        "data": [{"url": "https://f.example/0", "revised_prompt": "a red hat"}, {"b64_json": "AAAA"}],
        "usage": {"total_tokens": 100},
    }
    result = image_parsing.read_image_set(answer)
    assert result == ImageSet(
        created=datetime.fromtimestamp(1713833628, UTC),
        images=(
            Image("https://f.example/0", revised_prompt="a red hat", index=1),
            Image("data:image/png;base64,AAAA", index=2),
        ),
        usage=Usage(total_tokens=100),
    )
    assert result.raw == answer


@pytest.mark.parametrize(
    ("data", "urls"),
    [
        ([{"url": "https://f.example/0", "b64_json": None}], ["https://f.example/0"]),
        ([{"url": None, "b64_json": "AAAA"}], ["data:image/png;base64,AAAA"]),
        ([{"url": "", "b64_json": "AAAA"}], ["data:image/png;base64,AAAA"]),
        (
            [{"url": ["https://f.example/0", "https://f.example/1"]}],
            ["https://f.example/0", "https://f.example/1"],
        ),
        ([{"url": "data:image/webp;base64,AAAA"}], ["data:image/webp;base64,AAAA"]),
        (["https://f.example/0"], ["https://f.example/0"]),
        ([{"url": "https://f.example/0"}, {}, None, 3, {"b64_json": 7}], ["https://f.example/0"]),
    ],
)
def test_every_shape_of_an_image_set(data: object, urls: list[str]) -> None:
    assert [image.url for image in image_parsing.read_image_set({"data": data}).images] == urls


NO_IMAGES: list[object] = [[], [{}], None, {}, "x", [7]]


@pytest.mark.parametrize("answer", [{}, [], None, "x", *({"data": data} for data in NO_IMAGES)])
def test_an_image_set_without_an_image_is_none(answer: object) -> None:
    with pytest.raises(APIResponseValidationError, match="no image"):
        image_parsing.read_image_set(answer)


@pytest.mark.parametrize(
    ("answer", "balance"),
    [
        (
            {"success": True, "remain_balance": 12.5, "used_balance": 7.5, "unlimited_quota": False},
            Balance(12.5, 7.5, unlimited=False),
        ),
        ({"remain_balance": "12.5", "used_balance": 0}, Balance(12.5, 0.0, unlimited=False)),
        ({"unlimited_quota": True}, Balance(None, None, unlimited=True)),
        ({"remain_balance": None, "unlimited_quota": "yes"}, Balance(None, None, unlimited=False)),
        ({"data": {"remain_balance": -0.5, "used_balance": 1}}, Balance(-0.5, 1.0, unlimited=False)),
    ],
)
def test_every_shape_of_a_balance(answer: dict[str, Any], balance: Balance) -> None:
    found = catalogue_parsing.read_balance(answer)
    assert found == balance
    assert found.raw == answer.get("data", answer)


@pytest.mark.parametrize("answer", [{}, [], None, {"success": True}, {"data": [1]}, {"balance": 3}])
def test_an_answer_without_a_balance_is_an_error(answer: object) -> None:
    with pytest.raises(APIResponseValidationError, match="no balance"):
        catalogue_parsing.read_balance(answer)


def test_models_are_read_by_their_ids() -> None:
    entries = [{"id": "one", "object": "model"}, {"id": 2}, {"id": ""}, {"name": "three"}, None, "four"]
    models = catalogue_parsing.read_models({"object": "list", "data": entries})
    assert models == [Model("one"), Model("2"), Model("four")]
    assert models[0].raw == {"id": "one", "object": "model"}
    assert catalogue_parsing.read_models({"data": []}) == catalogue_parsing.read_models([]) == []
    assert catalogue_parsing.read_models(["five", "six"]) == [Model("five"), Model("six")]


@pytest.mark.parametrize("answer", [{}, None, {"data": None}, {"data": {"id": "one"}}])
def test_models_that_are_no_list_are_none(answer: object) -> None:
    with pytest.raises(APIResponseValidationError, match="no list of models"):
        catalogue_parsing.read_models(answer)


def test_unknown_fields_are_kept_as_they_came() -> None:
    source = COMPLETED["data"] | {
        "channel": {"name": "east"},
        "result": COMPLETED["data"]["result"] | {"seed": 7},
    }
    task = parsing.read_task({"code": 200, "data": source, "trace": "x"})
    assert task.raw == source
    assert task == parsing.read_task(COMPLETED)


def test_models_go_to_plain_data_and_back() -> None:
    task = parsing.read_task(COMPLETED)
    plain = json.loads(json.dumps(service_json.converter.unstructure(task)))
    assert "raw" not in plain
    assert service_json.converter.structure(plain, Task) == task


@pytest.mark.parametrize(
    "text", [b"", b"  ", b"<html>", b"{", b"nan", b"[" * 100_000, b"\xff\xfe", b"1" * 10_000]
)
def test_everything_but_json_is_one_kind_of_error(text: bytes) -> None:
    with pytest.raises(APIResponseValidationError):
        service_json.loads(text)


def test_cost_in_credits_alone_is_converted() -> None:
    source = {name: value for name, value in COMPLETED["data"].items() if name != "cost"}
    assert parsing.read_task({"data": source}).cost == 0.015
    assert parsing.read_task({"data": source | {"cost": 0.02}}).cost == 0.02


@pytest.mark.parametrize(
    ("url", "absolute"),
    [
        ("/files/x.png", "https://api.example/files/x.png"),
        ("files/x.png?a=%2F", "https://api.example/v/files/x.png?a=%2F"),
        ("//cdn.example/x.png", "https://cdn.example/x.png"),
        ("http://cdn.example/%40", "http://cdn.example/%40"),
        ("data:,hi", "data:,hi"),
        ("//[", "//["),
    ],
)
def test_a_relative_url_is_that_of_the_host_of_the_api(url: str, absolute: str) -> None:
    task = Task("task_1", "completed", images=(Image(url), Image("https://a.example/b.png")))
    found = parsing.resolved(task, "https://api.example/v")
    assert [image.url for image in found.images] == [absolute, "https://a.example/b.png"]
    upload = parsing.read_upload({"url": url, "filename": "a", "bytes": 1}, "https://api.example/v")
    assert upload.url == absolute


def test_numbers_that_are_none_are_unknown() -> None:
    read = service_json.loads(b'{"cost": NaN, "progress": [Infinity, -Infinity, 1]}')
    assert read == {"cost": None, "progress": [None, None, 1]}


@pytest.mark.parametrize("is_fast", [False, True])
@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b'{"a":[1,2.5,null,true,"\xc3\xbc"]}', {"a": [1, 2.5, None, True, "ü"]}),
        (b'"\\ud800"', "\\ud800"),
        (b'\xef\xbb\xbf{"a":1}', {"a": 1}),
        (b" [] ", []),
    ],
)
def test_json_is_read_alike_with_and_without_orjson(
    monkeypatch: pytest.MonkeyPatch,
    is_fast: bool,  # noqa: FBT001 a parameter of the test
    text: bytes,
    value: object,
) -> None:
    if not is_fast:
        monkeypatch.setattr(service_json, "orjson", None)
    assert service_json.loads(text) == value
