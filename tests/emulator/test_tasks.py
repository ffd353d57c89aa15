from __future__ import annotations

import random
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from apimart_async.emulator.settings import Settings

if TYPE_CHECKING:
    from .conftest import Open, Raw


def half_an_hour(_: random.Random) -> float:
    return 2000.0


async def test_a_task_passes_through_its_statuses(open_emulator: Open) -> None:
    async with open_emulator(task_seconds=half_an_hour) as raw:
        task_id = await raw.submitted(n=2)
        seen: list[dict[str, Any]] = []
        for _ in range(12):
            answer = await raw.send("GET", f"/v1/tasks/{task_id}?language=en")
            assert answer.status == 200
            assert answer.json["code"] == 200
            seen.append(answer.json["data"])
            raw.emulator.advance(200)
        assert [task["status"] for task in seen[:3]] == ["submitted", "processing", "processing"]
        assert seen[-1]["status"] == "completed"
        assert all(first["progress"] <= later["progress"] for first, later in pairwise(seen))
        assert all(("result" in task) == (task["status"] == "completed") for task in seen)
        assert all("error" not in task for task in seen)
        done = seen[-1]
        assert set(done) == {
            "id", "status", "progress", "cost", "credits_cost", "result",
            "created", "completed", "estimated_time", "actual_time", "usage",
        }  # fmt: skip
        assert done["id"] == task_id
        assert done["progress"] == 100
        assert (done["cost"], done["credits_cost"]) == (0.03, 0.3)
        assert (done["estimated_time"], done["actual_time"]) == (2000, 2000)
        assert done["completed"] - done["created"] in {2000, 2001}
        images = done["result"]["images"]
        assert len(images) == 2
        assert all(isinstance(image["url"], list) and len(image["url"]) == 1 for image in images)
        assert all(image["expires_at"] - done["completed"] in {86400, 86401} for image in images)


async def test_a_moderated_task_fails_inside_a_200_and_is_free(raw: Raw) -> None:
    task = await raw.finished(await raw.submitted(prompt="something Moderated"))
    assert task["status"] == "failed"
    assert task["error"] == {
        "code": "content_policy_violation",
        "message": "the request was rejected by content moderation",
        "type": "invalid_request_error",
    }
    assert "result" not in task
    assert task["cost"] == 0
    assert raw.emulator.ledger.total == 0
    assert raw.emulator.ledger.billed == []


@pytest.mark.parametrize(
    ("language", "begins"),
    [("de", "die Anfrage"), ("zh", "请求"), ("xx", "the request"), ("", "the request")],
)
async def test_the_language_of_errors_can_be_chosen(raw: Raw, language: str, begins: str) -> None:
    task_id = await raw.submitted(prompt="moderated")
    raw.emulator.advance(3600)
    answer = await raw.send("GET", f"/v1/tasks/{task_id}", params={"language": language})
    assert answer.json["data"]["error"]["message"].startswith(begins)


async def test_an_unknown_task_is_not_found(raw: Raw) -> None:
    answer = await raw.send("GET", "/v1/tasks/task_01ARZ3NDEKTSV4RRFFQ69G5FAV")
    assert answer.status == 404
    assert "does not exist or expired" in answer.json["error"]["message"]


async def test_a_task_is_forgotten_after_some_days(raw: Raw) -> None:
    task_id = await raw.submitted()
    raw.emulator.advance(8 * 24 * 3600)
    await raw.submitted()
    assert (await raw.send("GET", f"/v1/tasks/{task_id}")).status == 404


async def test_durations_follow_the_seed(open_emulator: Open) -> None:
    async def durations(seed: int) -> list[float]:
        async with open_emulator(seed=seed, task_seconds=40) as raw:
            tasks = [await raw.submitted() for _ in range(5)]
            return [(await raw.finished(task))["actual_time"] for task in tasks]

    first, again, other = await durations(1), await durations(1), await durations(2)
    assert first == again != other
    assert len(set(first)) > 1


def test_durations_are_spread_around_their_median() -> None:
    settings, source = Settings(task_seconds=20), random.Random(3)
    drawn = sorted(settings.draw_seconds(source) for _ in range(2001))
    assert drawn[1000] == pytest.approx(20, rel=0.05)
    assert drawn[100] < 15
    assert drawn[1900] > 27


async def test_a_task_may_take_no_time(open_emulator: Open) -> None:
    async with open_emulator(task_seconds=0) as raw:
        task_id = await raw.submitted()
        assert (await raw.send("GET", f"/v1/tasks/{task_id}")).json["data"]["status"] == "completed"


@pytest.mark.parametrize("variant", ["list", "tasks", "results"])
async def test_a_batch_request_returns_the_known_tasks(open_emulator: Open, variant: str) -> None:
    async with open_emulator(batch=variant) as raw:
        tasks = [await raw.submitted() for _ in range(3)]
        raw.emulator.advance(60)
        answer = await raw.send("POST", "/v1/tasks/batch", json={"task_ids": [*tasks, "task_unknown"]})
        assert answer.status == 200
        data = answer.json["data"]
        found = data if variant == "list" else data[variant]
        assert [task["id"] for task in found] == tasks
        assert all(task["status"] == "completed" for task in found)


async def test_the_batch_path_may_not_exist(open_emulator: Open) -> None:
    async with open_emulator(batch=None) as raw:
        answer = await raw.send("POST", "/v1/tasks/batch", json={"task_ids": ["task_1"]})
        assert (answer.status, answer.json["error"]["code"]) == (404, 404)


@pytest.mark.parametrize("task_ids", [None, [], "task_1", [1], ["task_1"] * 101])
async def test_the_batch_path_is_strict(raw: Raw, task_ids: object) -> None:
    answer = await raw.send("POST", "/v1/tasks/batch", json={"task_ids": task_ids})
    assert answer.status == 400


async def test_the_legacy_polling_path_needs_an_option(raw: Raw, open_emulator: Open) -> None:
    task_id = await raw.submitted()
    assert (await raw.send("GET", f"/v1/images/generations/{task_id}")).status == 404
    async with open_emulator(compat=True) as old:
        done, failed = await old.submitted(), await old.submitted(prompt="moderated")
        early = (await old.send("GET", f"/v1/images/generations/{done}")).json
        assert early["status"] in {"submitted", "processing"}
        assert not {"url", "fail_reason"} & set(early)
        old.emulator.advance(60)
        answer = (await old.send("GET", f"/v1/images/generations/{done}")).json
        assert answer["status"] == "completed"
        assert (await old.send("GET", answer["url"])).status == 200
        answer = (await old.send("GET", f"/v1/images/generations/{failed}")).json
        assert answer["status"] == "failed"
        assert "moderation" in answer["fail_reason"]
