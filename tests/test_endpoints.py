"""The page about endpoints is complete and agrees with the code."""

from __future__ import annotations

import inspect
import json
import re
from typing import TYPE_CHECKING, Any

import pytest

import apimart_async
from apimart_async import Apimart, AppleRouter, AsyncApimart, AsyncAppleRouter
from apimart_async.cli.app import build
from apimart_async.emulator.routes import ROUTES
from apimart_async.transport import error_parsing, parsing, retry

if TYPE_CHECKING:
    from pathlib import Path

CODE = re.compile(r"`([^`]+)`")


@pytest.fixture(scope="module")
def page(repository: Path) -> str:
    return (repository / "docs" / "endpoints.md").read_text(encoding="utf-8")


def rows(page: str, head: str) -> list[list[str]]:
    """Return the cells of the table whose first column has this heading."""
    lines = page.splitlines()
    (start,) = (number for number, line in enumerate(lines) if line.startswith(f"| {head} |"))
    found: list[list[str]] = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        found.append([cell.strip() for cell in line[1:-1].split("|")])
    return found


def test_every_endpoint_has_its_row(page: str) -> None:
    in_table = [CODE.findall(row[0])[0] for row in rows(page, "endpoint")]
    services = {f"{route.method} {route.path}" for route in ROUTES}
    only_here = {endpoint for endpoint in services if "/emulator/" in endpoint or "/files/" in endpoint}
    assert set(in_table) - {"GET"} == services - only_here
    assert len(in_table) == len(set(in_table))
    for endpoint in only_here:
        assert f"`{endpoint}`" in page


def test_every_method_exists_in_both_clients_and_has_a_row(page: str) -> None:
    clients = {"client": (AsyncApimart, Apimart), "router": (AsyncAppleRouter, AppleRouter)}
    named = {method for row in rows(page, "endpoint") for method in CODE.findall(row[1])}
    for method in named:
        owner, resource, name = method.split(".")
        for kind in clients[owner]:
            client = kind("sk-test", base_url="http://127.0.0.1:9")
            assert callable(getattr(getattr(client, resource), name))
    client = AsyncApimart("sk-test", base_url="http://127.0.0.1:9")
    resources = [name for name in inspect.get_annotations(AsyncApimart) if not name.startswith("_")]
    methods = {
        f"client.{resource}.{name}"
        for resource in resources
        for name in dir(getattr(client, resource))
        if not name.startswith("_")
    }
    # These send no request.
    methods -= {"client.tasks.duration_stats", "client.tasks.load_duration_stats"}
    methods -= {"client.tasks.hint", "client.tasks.estimate"}
    assert {method for method in named if method.startswith("client")} == methods


def test_every_command_exists_and_has_a_row(page: str) -> None:
    app = build()
    named = {command for row in rows(page, "endpoint") for command in CODE.findall(row[2])}
    for command in named:
        _, *words = command.split()
        assert app.parse_commands(words)[0] == tuple(words)
    assert {
        "apimart edit",
        "apimart generate",
        "apimart upload",
        "apimart balance",
        "apimart models",
    } <= named


def test_every_status_raises_its_error_class(page: str) -> None:
    seen: set[str] = set()
    for statuses, error in rows(page, "HTTP status"):
        (name,) = CODE.findall(error)
        seen.add(name)
        for status in statuses.split(", "):
            assert retry.error_class(int(status)) is getattr(apimart_async, name)
    kinds = {kind.__name__ for kind in apimart_async.APIStatusError.__subclasses__()}
    assert seen == kinds | {"APIStatusError"}


def test_every_accepted_submit_becomes_a_task(page: str) -> None:
    shapes = [json.loads(CODE.findall(row[1])[0]) for row in rows(page, "accepted submit")]
    assert len(shapes) == 7
    for shape in shapes:
        assert parsing.read_submission(shape, idempotency_key=None).id == "task_1"


def test_every_result_of_a_submit_becomes_a_completed_task(page: str) -> None:
    shapes = [json.loads(CODE.findall(row[1])[0]) for row in rows(page, "result of a submit")]
    assert len(shapes) == 3
    for shape in shapes:
        task = parsing.read_submission(shape, idempotency_key=None)
        assert (task.id, task.is_completed, len(task.images)) == (None, True, 1)


def test_every_place_of_a_result_keeps_both_images(page: str) -> None:
    shapes = [json.loads(CODE.findall(row[1])[0]) for row in rows(page, "result of a task elsewhere")]
    assert len(shapes) == 8
    for shape in shapes:
        assert len(parsing.read_task({"id": "task_1", "status": "completed"} | shape).images) == 2


def test_every_reason_is_read(page: str) -> None:
    shapes = [json.loads(CODE.findall(row[1])[0]) for row in rows(page, "reason of a failed task")]
    assert len(shapes) == 4
    for shape in shapes:
        failure = parsing.read_task({"id": "task_1", "status": "failed"} | shape).error
        assert failure
        assert failure.message == "too dark"


def test_the_test_of_every_fact_exists(page: str, repository: Path) -> None:
    facts = rows(page, "fact")
    assert len(facts) == 90
    for test in {test for row in facts for test in CODE.findall(row[1])}:
        path, _, name = test.partition("::")
        assert f"def {name}(" in (repository / path).read_text(encoding="utf-8"), test


def test_every_spelling_becomes_its_status(page: str) -> None:
    seen = 0
    for status, spellings in rows(page, "status"):
        for word in CODE.findall(spellings):
            task = parsing.read_task({"data": {"id": "task_1", "status": word}})
            assert task.status == (CODE.findall(status) or [word])[0]
            assert task.is_finished is bool(CODE.findall(status))
            seen += 1
    assert seen == 20


def test_every_form_of_images_keeps_both_images(page: str) -> None:
    for row in rows(page, "images of a task"):
        result: Any = json.loads(CODE.findall(row[1])[0])
        task = parsing.read_task({"data": {"id": "task_1", "status": "completed", "result": result}})
        assert len(task.images) == 2


def test_every_error_is_parsed(page: str) -> None:
    shapes = rows(page, "error")
    assert len(shapes) == 7
    for row in shapes:
        error = error_parsing.read_error(json.loads(CODE.findall(row[1])[0]))
        assert error
        assert error.message == "size must be known"
