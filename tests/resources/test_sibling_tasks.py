"""Tasks that one submit has started, and that end together."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from apimart_async import AsyncApimart, Poll, Task, TaskTimeoutError
from tests.transport.conftest import RawServer, listening

if TYPE_CHECKING:
    from tests.clock import Clock
    from tests.transport.conftest import Exchange


async def test_all_tasks_of_a_submit_share_the_timeout_of_the_wait(clock: Clock) -> None:
    """The further tasks are waited for after the first one, in the time that is left."""
    server = RawServer()
    polled: list[str] = []

    async def handle(exchange: Exchange) -> None:
        task_id = (await exchange.read()).path.removeprefix("/v1/tasks/").partition("?")[0]
        polled.append(task_id)
        clock.advance(8)
        task: dict[str, Any] = {"id": task_id, "status": "processing"}
        if polled.count("task_1") >= 3:
            images = [{"url": ["https://files.example/1.png"]}]
            task |= {"status": "completed", "result": {"images": images}} if task_id == "task_1" else {}
        await exchange.answer(json.dumps({"code": 200, "data": task}).encode())

    server.handle = handle
    poll = Poll(first=0.01, shortest=0.01, longest=0.02)
    async with (
        listening(server) as port,
        AsyncApimart("sk-test", base_url=f"http://127.0.0.1:{port}", poll=poll) as client,
    ):
        submitted = Task("task_1", "submitted", sibling_ids=("task_2",))
        with pytest.raises(TaskTimeoutError):
            await client.tasks.wait(submitted, timeout=30)
    assert polled.count("task_1") <= 3
    assert polled.count("task_2") <= 1
