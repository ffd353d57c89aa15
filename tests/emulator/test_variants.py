"""With `variants`, every variant in the contract occurs, and all mean the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    import random

    from .conftest import Answer, MakeImage, Open


def three_hours(_: random.Random) -> float:
    return 10_000.0


def identifier(answer: Answer) -> str:
    """Return the task id from the places and in the order of the contract."""
    body = answer.json
    data: Any = body.get("data")
    first = cast("dict[str, Any]", data[0] if isinstance(data, list) else data or {})
    places: list[Any] = [
        first.get("task_id"),
        first.get("id"),
        body.get("id"),
    ]
    (found,) = [place for place in places if place]
    return str(found)


async def test_submit_responses_rotate_through_every_variant(open_emulator: Open) -> None:
    async with open_emulator(variants=True) as raw:
        answers = [await raw.edit(n=2) for _ in range(10)]
        shapes = {(answer.status, *answer.json, type(answer.json.get("data")).__name__) for answer in answers}
        assert shapes == {
            (200, "code", "data", "list"),
            (200, "code", "data", "dict"),
            (202, "code", "data", "dict"),
            (200, "id", "status", "NoneType"),
            (200, "code", "data", "request_id", "dict"),
            (200, "created", "data", "list"),
        }
        assert [len(answer.json["data"]) for answer in answers if "created" in answer.json] == [2, 2]
        results = [answer.json["data"] for answer in answers[6:8]]
        assert [result["object"] for result in results] == 2 * ["generation.result"]
        assert ["id" in result for result in results] == [False, True]
        assert answers[4].json["data"]["object"] == "generation.task"
        poll_url = answers[2].json["data"]["poll_url"]
        assert (await raw.send("GET", poll_url)).json["data"]["id"] == identifier(answers[2])
        executed = [entry.task_id for entry in raw.emulator.ledger.entries]
        both = [entry["task_id"] for entry in answers[5].json["data"]]
        named = [*map(identifier, answers[:5]), *both, executed[7], identifier(answers[7]), *executed[9:]]
        assert named == executed


async def test_task_bodies_rotate_through_every_spelling_and_image_variant(open_emulator: Open) -> None:
    async with open_emulator(variants=True, task_seconds=three_hours) as raw:
        good, bad = identifier(await raw.edit(n=2)), identifier(await raw.edit(prompt="moderated"))

        async def polled(task_id: str) -> list[Any]:
            return [(await raw.send("GET", f"/v1/tasks/{task_id}")).json["data"] for _ in range(60)]

        assert {task["status"] for task in await polled(good)} == {"submitted", "pending", "queued"}
        raw.emulator.advance(5000)
        assert {task["status"] for task in await polled(good)} == {"processing", "in_progress"}
        raw.emulator.advance(6000)
        failed = await polled(bad)
        assert {task["status"] for task in failed} == {"failed", "failure", "error", "fail"}
        reasons = {
            name for task in failed for name in task if name in {"error", "error_message", "fail_reason"}
        }
        assert reasons == {"error", "error_message", "fail_reason"}
        assert {task["cost"] for task in failed} == {0.0, 0.015}
        done = await polled(good)
        assert {task["status"] for task in done} == {
            *("completed", "success", "succeeded", "done", "complete", "SUCCESS"),
        }
        shapes: set[tuple[Any, ...]] = set()
        places: set[str] = set()
        for task in done:
            result: Any = task.get("result")
            if not isinstance(result, dict) or "images" not in result or "image_url" in result["images"][0]:
                found: Any = next(task[name] for name in ("result", "output", "data") if name in task)
                places.add(" ".join(found) if isinstance(found, dict) else type(found).__name__)
                continue
            images: list[dict[str, Any]] = result["images"]
            (name,) = {"url", "b64_json"} & set(images[0])
            urls: list[Any] = [image[name] for image in images]
            flat: list[str] = urls[0] if len(urls) == 1 else [u if isinstance(u, str) else u[0] for u in urls]
            assert len(flat) == 2
            kinds = {"data": "data", "http": "http", "/fil": "path", "/9j/": f"base64 in {name}"}
            shapes.add((len(images), type(urls[0]).__name__, kinds[flat[0][:4]], "expires_at" in images[0]))
        assert shapes == {
            (2, "list", "http", True),
            (2, "str", "http", True),
            (1, "list", "http", True),
            (2, "list", "path", True),
            (2, "str", "data", False),
            (2, "str", "base64 in b64_json", False),
            (2, "str", "base64 in url", False),
        }
        assert places == {"expires_at image_urls", "list", "str", "images", "videos"}


async def test_errors_rotate_through_every_variant(open_emulator: Open) -> None:
    async with open_emulator(variants=True) as raw:
        answers = [await raw.edit(n="1") for _ in range(10)]
        assert [answer.status for answer in answers] == [400, 400, 400, 200, *6 * [400]]
        errors = [answer.json["error"] for answer in answers]
        assert errors[4].keys() == {"error"}
        errors[4] = errors[4]["error"]
        assert [error["code"] for error in errors] == [400, "", "invalid_request_error", *7 * [400]]
        assert answers[3].json["code"] == 400
        message = errors[0]["message"]
        assert [error["message"] for error in errors[:6]] == 6 * [message]
        assert errors[6]["message"].startswith(f"{message} (request id: ")
        assert len(answers[7].json["request_id"]) == 26
        assert answers[8].headers["Content-Type"].startswith("text/event-stream")
        assert len(errors[9]["message"]) > 19_000


async def test_uploads_rotate_through_every_variant(open_emulator: Open, make_image: MakeImage) -> None:
    async with open_emulator(variants=True) as raw:
        answers = [(await raw.upload(make_image())).json for _ in range(3)]
        shapes = [type(answer.get("data")).__name__ for answer in answers]
        assert shapes == ["NoneType", "dict", "list"]


async def test_models_are_objects_and_names_in_turn(open_emulator: Open) -> None:
    async with open_emulator(variants=True) as raw:
        objects, names = [(await raw.send("GET", "/v1/models")).json["data"] for _ in range(2)]
    assert [each["id"] for each in objects] == names
