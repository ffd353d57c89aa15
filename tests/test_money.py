"""The page about money agrees with the code, and its commands work."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, Final

import pytest

from apimart_async import Retry
from apimart_async.credentials import Secret
from apimart_async.errors import APIResponseValidationError
from apimart_async.transport.parsing import read_submission
from apimart_async.transport.responses import FailedAttempt, Reply, read_response
from apimart_async.transport.retry import Action, Attempt, Effect, Kind, decide

if TYPE_CHECKING:
    from collections.abc import Sequence

URL: Final = "https://api.example/v1/images/edits"


def said(*statuses: int, code: str = "", message: str = "no", kind: str = "") -> list[Reply]:
    body = json.dumps({"error": {"code": code, "message": message, "type": kind}}).encode()
    return [Reply(status, {}, body) for status in statuses]


def accepted(body: bytes) -> list[Reply]:
    return [Reply(status, {}, body) for status in (200, 202)]


# The cases in the words of the page, each with examples: answers, or the facts known without one.
ROWS: Final[list[tuple[str, Sequence[Reply | Effect]]]] = [
    ("no connection: refused, no such name, TLS failed, none became free", [Effect.NEVER_SENT]),
    ("400, 401, 402, 403, 404, 413, 422", said(400, 401, 402, 403, 404, 413, 422)),
    (
        "a redirect that is not followed",
        [
            Reply(302, {"Location": "/v1/images/edits/"}, b""),
            Reply(307, {"Location": "https://elsewhere.example/"}, b""),
        ],
    ),
    (
        "429, 409 `idempotency_in_progress`, 503 `idempotency_unavailable`, 400 `get_channel_failed`",
        said(429)
        + said(409, code="idempotency_in_progress")
        + said(409, code="409", message="idempotency_in_progress: wait")
        + said(503, code="idempotency_unavailable")
        + said(400, code="get_channel_failed")
        + said(400, message="get_channel_failed: wait and try again"),
    ),
    (
        (
            "429 `insufficient_quota`, 409 `idempotency_key_reused`, 503 `model_not_found`, "
            "500 that says the request is at fault"
        ),
        said(429, code="insufficient_quota")
        + said(503, code="model_not_found")
        + said(503, message="no available channel for model m")
        + said(409, code="idempotency_key_reused")
        + said(500, message="build_request_failed: size")
        + said(500, message="stopped by content moderation"),
    ),
    (
        "200 or 4xx with the code 605 or `NOT_ENOUGH_BALANCE`",
        [
            Reply(status, {}, body)
            for status in (200, 400, 402, 403, 429)
            for body in (
                b'{"code":605,"message":"NOT_ENOUGH_BALANCE"}',
                b'{"error":{"code":"","message":"NOT_ENOUGH_BALANCE"}}',
            )
        ],
    ),
    (
        "408, 500, 502, 503, 504 and every other 5xx",
        [
            *said(408, *range(500, 600)),
            *said(500, 502, 504, code="model_not_found"),
            Reply(502, {}, b"<html>"),
        ],
    ),
    (
        "the connection or the time ended after sending began, or in the middle of the answer",
        [Effect.UNKNOWN],
    ),
    ("2xx that is not JSON, or empty", accepted(b"<html>") + accepted(b"")),
    (
        "409 `idempotency_result_indeterminate`, or one that does not say which",
        said(409, code="idempotency_result_indeterminate") + said(409, kind="conflict_error"),
    ),
    (
        "2xx with an error inside that says neither a status nor a known type",
        said(200, 202, kind="hiccup") + accepted(b'{"success":false}'),
    ),
    (
        "2xx with neither a task id nor a result",
        accepted(b"{}")
        + accepted(b'{"code":200,"data":[{"status":"submitted"}]}')
        + accepted(b'{"data":{"object":"generation.result","status":"completed","result":{}}}'),
    ),
    (
        "2xx with a task id, or with the result itself",
        accepted(b'{"data":[{"task_id":"task_1"}]}')
        + accepted(b'{"data":{"id":"task_1","status":"queued"}}')
        + accepted(b'{"data":{"status":"completed","result":{"images":["https://f.example/0"]}}}')
        + accepted(b'{"created":1,"data":[{"b64_json":"AAAA"}]}'),
    ),
]

EXECUTED: Final = {
    Effect.DONE: "yes",
    Effect.REJECTED: "no",
    Effect.DEFERRED: "no",
    Effect.NEVER_SENT: "no",
    Effect.UNKNOWN: "not known",
    Effect.UNKNOWABLE: "not known",
}
WORDS: Final = {
    Action.RETURN: "returned",
    Action.RAISE: "raised",
    Action.RETRY: "sent again",
    Action.INDETERMINATE: "indeterminate",
}


def effect_of(example: Reply | Effect) -> tuple[Effect, bool]:
    """Return the effect of an example on its request, and whether the id of an accepted task is missing."""
    if isinstance(example, Effect):
        return example, False
    outcome = read_response(example, Kind.PAID_WRITE, URL, Secret("sk-test"))
    if isinstance(outcome, FailedAttempt):
        return outcome.effect, False
    try:
        read_submission(outcome.payload, idempotency_key="k")
    except APIResponseValidationError:
        return Effect.DONE, True
    return Effect.DONE, False


def what_follows(example: Reply | Effect, retry: Retry) -> str:
    """Return, in the words of the page, the decision after the first attempt, the third and the last."""
    effect, has_no_id = effect_of(example)
    if has_no_id:
        return WORDS[Action.INDETERMINATE]

    def decided(number: int, elapsed: float) -> str:
        refusals = number if effect is Effect.DEFERRED else 0
        attempt = Attempt(Kind.PAID_WRITE, effect, number, elapsed=elapsed, has_key=True, refusals=refusals)
        return WORDS[decide(attempt, retry, 2, Random(0)).action]

    first, third, last = decided(1, 0), decided(3, 0), decided(3, retry.max_elapsed)
    if third == WORDS[Action.RETRY]:
        return f"{first} without counting, then {last}"
    return ", then ".join(dict.fromkeys((first, third)))


def rendered() -> str:
    lines = [
        "| outcome of the paid request | executed? | by default | with `same-key` |",
        "|---|---|---|---|",
    ]
    for label, examples in ROWS:
        cells = {
            (
                EXECUTED[effect_of(example)[0]],
                what_follows(example, Retry()),
                what_follows(example, Retry(indeterminate="same-key")),
            )
            for example in examples
        }
        assert len(cells) == 1, f"not all of these are alike: {label}: {cells}"
        lines.append(f"| {' | '.join([label, *cells.pop()])} |")
    return "\n".join(lines)


@pytest.fixture(scope="module")
def page(repository: Path) -> str:
    return (repository / "docs" / "money.md").read_text(encoding="utf-8")


def test_the_table_agrees_with_the_code(page: str) -> None:
    (table,) = re.findall(r"^\| outcome of.*\n(?:\|.*\n)+", page, re.MULTILINE)
    assert table.strip().splitlines() == rendered().splitlines()


@pytest.mark.skipif(
    not (Path("/bin/sh").exists() and shutil.which("curl")), reason="a shell and curl run them"
)
def test_its_commands_work(page: str, repository: Path) -> None:
    start, *curls = re.findall(r"^    ((?:apimart|curl) .*)$", page, re.MULTILINE)
    assert len(curls) == 4
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    ours = f"{sys.executable} -m {start.replace('apimart', 'apimart_async', 1)}".replace("8080", port)
    with subprocess.Popen(
        ["/bin/sh", "-c", f"exec {ours}"], cwd=repository, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL
    ) as emulator:
        assert emulator.stderr
        try:
            assert b"Running" in emulator.stderr.readline()
            ledger, shown, added, cleared = (answer(curl.replace("8080", port)) for curl in curls)
        finally:
            emulator.terminate()
    assert ledger["billed_more_than_once"] == {}
    assert len(shown["faults"]) == 3
    assert len(added["faults"]) == 4
    assert cleared["faults"] == []


def answer(curl: str) -> Any:
    run = subprocess.run(["/bin/sh", "-c", f"{curl} -sS"], check=True, capture_output=True, timeout=120)
    return json.loads(run.stdout)
