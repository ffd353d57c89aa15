"""With `variants`, every variant in the contract occurs, and all mean the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    import random

    from .conftest import Answer, Open


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
        answers = [await raw.edit() for _ in range(8)]
        shapes = {(answer.status, *answer.json, type(answer.json.get("data")).__name__) for answer in answers}
        assert shapes == {
            (200, "code", "data", "list"),
            (200, "code", "data", "dict"),
            (202, "code", "data", "dict"),
            (200, "id", "status", "NoneType"),
        }
        poll_url = answers[2].json["data"]["poll_url"]
        assert (await raw.send("GET", poll_url)).json["data"]["id"] == identifier(answers[2])
        executed = [entry.task_id for entry in raw.emulator.ledger.entries]
        assert [identifier(answer) for answer in answers] == executed


async def test_task_bodies_rotate_through_every_spelling_and_image_variant(open_emulator: Open) -> None:
    async with open_emulator(variants=True, task_seconds=three_hours) as raw:
        good, bad = identifier(await raw.edit(n=2)), identifier(await raw.edit(prompt="moderated"))

        async def polled(task_id: str) -> list[Any]:
            return [(await raw.send("GET", f"/v1/tasks/{task_id}")).json["data"] for _ in range(28)]

        assert {task["status"] for task in await polled(good)} == {"submitted", "pending", "queued"}
        raw.emulator.advance(5000)
        assert {task["status"] for task in await polled(good)} == {"processing", "in_progress"}
        raw.emulator.advance(6000)
        assert {task["status"] for task in await polled(bad)} == {"failed", "failure", "error"}
        done = await polled(good)
        assert {task["status"] for task in done} == {"completed", "success", "succeeded", "done"}
        shapes: set[tuple[Any, ...]] = set()
        for task in done:
            images: list[dict[str, Any]] = task["result"]["images"]
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


async def test_errors_rotate_through_every_variant(open_emulator: Open) -> None:
    async with open_emulator(variants=True) as raw:
        answers = [await raw.edit(n="1") for _ in range(4)]
        assert [answer.status for answer in answers] == [400, 400, 400, 200]
        codes = [answer.json["error"]["code"] for answer in answers]
        assert codes == [400, "", "invalid_request_error", 400]
        assert answers[3].json["code"] == 400
        assert len({answer.json["error"]["message"] for answer in answers}) == 1


async def test_models_are_objects_and_names_in_turn(open_emulator: Open) -> None:
    async with open_emulator(variants=True) as raw:
        objects, names = [(await raw.send("GET", "/v1/models")).json["data"] for _ in range(2)]
    assert [each["id"] for each in objects] == names
