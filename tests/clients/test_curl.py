"""Each documented request, typed into a shell with only the host changed."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import pytest

from .conftest import Service, opened
from .documented import DOCUMENTED

if TYPE_CHECKING:
    from collections.abc import Callable


@attrs.frozen
class Answer:
    """The answer that curl printed."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@attrs.frozen
class Shell:
    """Runs commands in a folder, with `$BASE`, `$KEY` and exported variables."""

    service: Service
    folder: Path
    exported: dict[str, str] = attrs.field(factory=dict[str, str])

    def __call__(self, command: str) -> Answer:
        # The last head counts: one with "100 Continue" may come before it.
        script = command.strip().replace("curl ", "curl -sS -D head -o body -w '%{http_code}' ", 1)
        done = subprocess.run(
            ["sh", "-euc", script],  # noqa: S607 the user's own shell
            cwd=self.folder,
            env=self.service.environment | self.exported,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        head = (self.folder / "head").read_text().strip().replace("\r", "").split("\n\n")[-1]
        pairs = (line.partition(":") for line in head.split("\n")[1:])
        headers = {name.lower(): value.strip() for name, _, value in pairs}
        return Answer(int(done.stdout), headers, (self.folder / "body").read_bytes())

    def finished(self, task_id: str) -> Any:
        for _ in range(1200):
            self.exported["TASK_ID"] = task_id
            task = self(DOCUMENTED["a task"].command).json["data"]
            if task["status"] in {"completed", "failed"}:
                return task
            time.sleep(0.1)
        pytest.fail(f"{task_id} does not end")


@pytest.fixture
def shell(service: Service, folder: Path) -> Shell:
    """A shell in which an upload and a task have been made."""
    if shutil.which("curl") is None:
        pytest.fail("curl is missing: install it (apt install curl, brew install curl) and run this again.")
    found = Shell(service, folder)
    found.exported["UPLOAD_URL"] = found(DOCUMENTED["an upload"].command).json["url"]
    submitted = found(DOCUMENTED["an edit"].command).json
    found.exported["TASK_ID"] = submitted["data"][0]["task_id"]
    return found


def is_upload(answer: Any) -> None:
    assert set(answer) == {"url", "filename", "content_type", "bytes", "created_at"}
    assert (answer["filename"], answer["content_type"]) == ("photo.jpg", "image/jpeg")
    assert isinstance(answer["bytes"], int)


def is_submitted_as_of_old(answer: Any) -> None:
    assert set(answer) == {"id", "status"}
    assert re.fullmatch(r"task_[0-9A-Z]{26}", answer["id"])


def is_submitted(answer: Any) -> None:
    assert answer["code"] == 200
    (task,) = answer["data"]
    assert task == {"status": "submitted", "task_id": task["task_id"]}
    assert re.fullmatch(r"task_[0-9A-Z]{26}", task["task_id"])


def is_task(answer: Any) -> None:
    assert answer["code"] == 200
    assert answer["data"]["status"] in {"submitted", "processing", "completed"}
    assert 0 <= answer["data"]["progress"] <= 100


def is_old_task(answer: Any) -> None:
    assert answer["status"] in {"submitted", "processing", "completed"}
    assert "data" not in answer


def is_batch(answer: Any) -> None:
    assert answer["code"] == 200
    assert [task["status"] for task in answer["data"]]


def is_balance(answer: Any) -> None:
    assert answer["success"] is True
    assert answer["remain_balance"] > 0
    assert answer["unlimited_quota"] is False


def is_catalogue(answer: Any) -> None:
    assert {"grok-imagine-1.0-edit-apimart", "dall-e-2"} <= {model["id"] for model in answer["data"]}


def is_schema(answer: Any) -> None:
    assert answer["object"] == "model.input_schema"
    assert answer["endpoint"] == {"method": "POST", "path": "/v1/images/generations"}
    assert answer["idempotency"] == {
        "header": "Idempotency-Key",
        "replay_header": "Idempotency-Replayed",
        "required": False,
        "retention_seconds": 86400,
        "scope": "api_key_endpoint",
    }
    assert {"model", "prompt", "n"} <= set(answer["input_schema"]["properties"])


def is_usage(answer: Any) -> None:
    assert {"total_cost", "total_requests", "days"} == set(answer["data"])


def is_documentation(answer: Any) -> None:
    assert answer["model"] == "gpt-image-2.5-flare"


def has_prices(answer: Any) -> None:
    assert answer["success"] is True
    assert answer["data"]


def is_image_set(key: str, count: int = 1) -> Callable[[Any], None]:
    def check(answer: Any) -> None:
        assert isinstance(answer["created"], int)
        assert [set(image) for image in answer["data"]] == [{key}] * count

    return check


CHECKS: dict[str, Callable[[Any], None]] = {
    "an upload": is_upload,
    "an edit": is_submitted,
    "an edit of a picture inside the request": is_submitted,
    "a generation": is_submitted_as_of_old,
    "a generation with the older form of its references": is_submitted_as_of_old,
    "a task": is_task,
    "a task as the oldest documentation has it": is_old_task,
    "many tasks": is_batch,
    "the balance of the key": is_balance,
    "the balance of the user": is_balance,
    "a schema": is_schema,
    "a schema by the path of its model": is_schema,
    "the documentation of a model": is_documentation,
    "the prices": has_prices,
    "the market place": has_prices,
    "the use of the account": is_usage,
    "the models": is_catalogue,
    "an edit of AppleRouter with a mask": is_image_set("url", 2),
    "an edit of AppleRouter as base64": is_image_set("b64_json"),
    "an edit of AppleRouter without the last slash": is_image_set("url"),
    "an edit of AppleRouter of several pictures": is_image_set("url"),
    "an edit of AppleRouter by a Qwen model": is_image_set("url", 2),
    "a generation of AppleRouter": is_image_set("url"),
}


@pytest.mark.parametrize("name", DOCUMENTED)
def test_every_documented_request_gets_the_documented_answer(shell: Shell, name: str) -> None:
    answer = shell(DOCUMENTED[name].command)
    assert answer.status == 200
    assert answer.headers["content-type"].startswith("application/json")
    assert answer.headers["x-oneapi-request-id"]
    CHECKS[name](answer.json)


def test_every_endpoint_is_among_them() -> None:
    from apimart_async.emulator.routes import ROUTES

    served = {f"{route.method} {route.path}" for route in ROUTES}
    files = {endpoint for endpoint in served if "/files/" in endpoint or "/emulator/" in endpoint}
    assert {documented.endpoint for documented in DOCUMENTED.values()} == served - files


def test_a_finished_task_has_everything_that_is_documented(shell: Shell) -> None:
    task = shell.finished(shell.exported["TASK_ID"])
    assert {
        "id",
        "status",
        "progress",
        "cost",
        "credits_cost",
        "result",
        "created",
        "completed",
    } <= task.keys()
    assert {"estimated_time", "actual_time"} <= task.keys()
    assert task["credits_cost"] == pytest.approx(10 * task["cost"])
    (image,) = task["result"]["images"]
    assert image["expires_at"] > task["completed"]
    (url,) = image["url"]
    shell.exported["URL"] = url
    answer = shell('curl "$URL"')
    assert answer.headers["content-type"] == "image/jpeg"
    assert opened(answer.body).size == (640, 427)


def test_a_failed_task_is_http_200(shell: Shell) -> None:
    submitted = shell(DOCUMENTED["an edit"].command.replace("a starry sky", "what is moderated"))
    task = shell.finished(submitted.json["data"][0]["task_id"])
    assert task["status"] == "failed"
    assert set(task["error"]) == {"code", "message", "type"}
    assert task["cost"] == 0
    assert "result" not in task


EDIT, UPLOAD, GENERATION, MASKED = (
    DOCUMENTED[name].command
    for name in ("an edit", "an upload", "a generation", "an edit of AppleRouter with a mask")
)

REFUSED: dict[str, tuple[str, int, str, str]] = {
    "a wrong key": (EDIT.replace("$KEY", "wrong"), 401, "apimart_error", "invalid API key (request id:"),
    "no key": (re.sub(r"-H .Auth.*", r"\\", UPLOAD), 401, "apimart_error", "invalid API key"),
    "a wrong key at AppleRouter": (
        MASKED.replace("$KEY", "wrong"),
        401,
        "invalid_request_error",
        "Incorrect API key provided",
    ),
    "n as a text": (EDIT.replace('"n": 1', '"n": "1"'), 400, "invalid_request_error", "n must be an integer"),
    "n of 11": (EDIT.replace('"n": 1', '"n": 11'), 400, "invalid_request_error", "n must be"),
    "no model": (
        EDIT.replace('"model"', '"modell"'),
        400,
        "invalid_request_error",
        "model is required",
    ),
    "no prompt": (EDIT.replace('"prompt"', '"promt"'), 400, "invalid_request_error", "prompt is required"),
    "no pictures": (
        EDIT.replace('"image_urls"', '"images"'),
        400,
        "invalid_request_error",
        "image_urls",
    ),
    "a form where JSON is meant": (
        EDIT.replace("application/json", "text/plain"),
        400,
        "invalid_request_error",
        "Content-Type must be application/json",
    ),
    "a size nobody knows": (
        GENERATION.replace("16:9", "large"),
        400,
        "invalid_request_error",
        "size must be",
    ),
    "an upload without a file": (
        UPLOAD.replace("file=@photo.jpg", "name=photo.jpg"),
        400,
        "invalid_request_error",
        "missing or invalid file field",
    ),
    "an upload of what is no picture": (
        UPLOAD.replace("@photo.jpg", "@note.txt"),
        400,
        "invalid_request_error",
        "unsupported image type: text/plain",
    ),
    "an upload that is too large": (
        UPLOAD.replace("@photo.jpg", "@large.png"),
        413,
        "invalid_request_error",
        "exceeds maximum 20971520 bytes",
    ),
    "a task that nobody knows": (
        'curl "$BASE/v1/tasks/task_nobody" -H "Authorization: Bearer $KEY"',
        404,
        "invalid_request_error",
        "does not exist or expired",
    ),
    "a photograph for dall-e-2": (
        MASKED.replace("@opaque.png", "@photo.jpg"),
        400,
        "invalid_request_error",
        "image must be a PNG",
    ),
    "a picture without a mask": (
        MASKED.replace('-F mask="@mask.png"', "-F user=someone"),
        400,
        "invalid_request_error",
        "must have transparency when no mask is given",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_wrong_requests_are_refused_with_the_documented_body(shell: Shell, folder: Path, name: str) -> None:
    (folder / "note.txt").write_text("This is no picture at all.")
    (folder / "large.png").write_bytes((folder / "opaque.png").read_bytes() + bytes(20_971_520))
    command, status, kind, said = REFUSED[name]
    answer = shell(command)
    assert answer.status == status
    error = answer.json["error"]
    assert {"code", "message", "type"} <= set(error)
    assert error["type"] == kind
    assert said in error["message"]


def test_an_empty_account_is_402(penniless: Service, folder: Path) -> None:
    answer = Shell(penniless, folder, {"UPLOAD_URL": "https://pictures.example/a.png"})(EDIT)
    assert (answer.status, answer.json["error"]["type"]) == (402, "payment_required")


def test_an_idempotency_key_is_executed_once(shell: Shell) -> None:
    command = EDIT.replace('-H "Content', '-H "Idempotency-Key: once" -H "Content')
    first, second = shell(command), shell(command)
    assert first.json == second.json
    assert "idempotency-replayed" not in first.headers
    assert second.headers["idempotency-replayed"] == "true"
    reused = shell(command.replace("a starry sky", "deep snow"))
    assert (reused.status, reused.json["error"]["code"]) == (409, "idempotency_key_reused")
