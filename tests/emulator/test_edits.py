from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from .conftest import MakeImage, Open, Raw


async def test_an_edit_is_accepted_as_documented(raw: Raw) -> None:
    answer = await raw.edit()
    assert answer.status == 200
    (data,) = answer.json["data"]
    assert answer.json == {"code": 200, "data": [{"status": "submitted", "task_id": data["task_id"]}]}
    assert data["task_id"].startswith("task_01")


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"model": None}, "model is required"),
        ({"model": "  "}, "model is required"),
        ({"model": 3}, "model must be a string, not a number"),
        ({"prompt": None}, "prompt is required"),
        ({"prompt": ""}, "prompt is required"),
        ({"prompt": ["a"]}, "prompt must be a string, not a list"),
        ({"image_urls": None}, "image_urls must be a list"),
        ({"image_urls": []}, "image_urls must be a list"),
        ({"image_urls": "https://pictures.example/photo.jpg"}, "image_urls must be a list"),
        ({"image_urls": [3]}, "image_urls[0] must be a string, not a number"),
        ({"image_urls": [{"url": "https://a.example/b"}]}, "image_urls[0] must be a string, not an object"),
        ({"image_urls": ["photo.jpg"]}, "image_urls[0] must be an http(s) URL or a base64 data URL"),
        ({"image_urls": ["file:///etc/passwd"]}, "image_urls[0] must be an http(s) URL"),
        ({"image_urls": ["http://[broken"]}, "image_urls[0] must be an http(s) URL"),
        ({"image_urls": ["data:image/png,abc"]}, "image_urls[0] must be a data URL of the form"),
        ({"image_urls": ["data:image/png;base64,a!b"]}, "image_urls[0] is not valid base64"),
        ({"image_urls": ["data:image/png;base64,aGVsbG8="]}, "unsupported image type: text/plain"),
        ({"n": "1"}, "n must be an integer, not a string"),
        ({"n": True}, "n must be an integer, not a boolean"),
        ({"n": 1.0}, "n must be an integer, not a number"),
        ({"n": None}, "n must be an integer, not null"),
        ({"n": 0}, "n must be between 1 and 10, not 0"),
        ({"n": 11}, "n must be between 1 and 10, not 11"),
    ],
)
async def test_invalid_fields_are_refused_and_free(raw: Raw, fields: dict[str, Any], complaint: str) -> None:
    answer = await raw.edit(**fields)
    assert answer.status == 400
    assert answer.json["error"]["type"] == "invalid_request_error"
    assert complaint in answer.json["error"]["message"]
    assert raw.emulator.ledger.entries == []


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"", "application/json"),
        (b"{", "application/json"),
        (b"[]", "application/json"),
        (b"\xff", "application/json"),
        (b"[" * 100_000, "application/json"),
        (b"{}", "text/plain"),
        (b"model=a&prompt=b", "application/x-www-form-urlencoded"),
    ],
)
async def test_bodies_other_than_a_json_object_are_refused(raw: Raw, body: bytes, content_type: str) -> None:
    answer = await raw.send("POST", "/v1/images/edits", data=body, headers={"Content-Type": content_type})
    assert answer.status == 400
    assert answer.json["error"]["type"] == "invalid_request_error"


async def test_unknown_fields_and_models_are_accepted(raw: Raw) -> None:
    assert (await raw.edit(model="grok-imagine-9", colour="blue")).status == 200


async def test_both_forms_of_the_path_are_served(raw: Raw) -> None:
    body = {"model": "m", "prompt": "p", "image_urls": ["https://pictures.example/1.jpg"]}
    answer = await raw.send("POST", "/v1/images/edits/", json=body)
    assert answer.json["data"][0]["status"] == "submitted"


async def test_inline_images_are_accepted_up_to_the_limit(raw: Raw, make_image: MakeImage) -> None:
    content = make_image("PNG")
    inline = "data:image/png;base64," + base64.b64encode(content).decode()
    assert (await raw.edit(image_urls=[inline])).status == 200
    large = "data:image/png;base64," + base64.b64encode(content + bytes(20_971_520)).decode()
    answer = await raw.edit(image_urls=[large])
    assert answer.status == 413
    assert "exceeds maximum 20971520 bytes" in answer.json["error"]["message"]


async def test_a_body_above_the_limit_is_refused(raw: Raw) -> None:
    answer = await raw.edit(prompt="a" * (33 * 1024 * 1024))
    assert answer.status == 413
    assert answer.json["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    "header", [None, "", "Bearer", "Bearer wrong", "Basic c2stZW11bGF0b3I=", "sk-emulator"]
)
async def test_the_key_is_checked(raw: Raw, header: str | None) -> None:
    body = {"model": "m", "prompt": "p", "image_urls": ["https://pictures.example/1.jpg"]}
    headers = {} if header is None else {"Authorization": header}
    url = f"{raw.emulator.base_url}/v1/images/edits"
    async with raw.session.post(url, json=body, headers=headers) as response:
        error = json.loads(await response.read())["error"]
        request_id = response.headers["X-Oneapi-Request-Id"]
        assert response.status == 401
        assert error == {
            "code": "",
            "message": f"invalid API key (request id: {request_id})",
            "type": "apimart_error",
        }
    assert raw.emulator.ledger.entries == []


async def test_an_insufficient_balance_executes_nothing(open_emulator: Open) -> None:
    async with open_emulator(balance=0.045) as raw:
        assert (await raw.edit(n=2)).status == 200
        refused = await raw.edit(n=2)
        assert refused.status == 402
        assert refused.json["error"]["type"] == "payment_required"
        assert (await raw.edit(n=1)).status == 200
        assert len(raw.emulator.ledger.entries) == 2
        assert raw.emulator.ledger.total == pytest.approx(0.045)


async def test_unknown_paths_get_json_errors(raw: Raw) -> None:
    missing = await raw.send("GET", "/v1/images/variations")
    assert (missing.status, missing.json["error"]["type"]) == (404, "invalid_request_error")
    wrong_method = await raw.send("DELETE", "/v1/images/edits")
    assert (wrong_method.status, wrong_method.headers["Allow"]) == (405, "POST")


async def test_models_that_edit_on_generations_are_refused(raw: Raw) -> None:
    answer = await raw.edit(model="gpt-image-2")
    assert answer.status == 400
    assert "use /v1/images/generations" in answer.json["error"]["message"]
