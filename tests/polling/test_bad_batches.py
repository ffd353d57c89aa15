"""Waits beside a batch endpoint that refuses, hangs or lies, over real sockets."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from contextlib import asynccontextmanager
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web

from apimart_async import AsyncApimart, Limits, RateLimitError, Task

from .socket_time import BACKEND
from .virtual import NOW

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

WAITS = 300
MODEL = "grok-imagine-1.0-edit-apimart"
BAD_ID = "task_7"


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return BACKEND


class Service:
    """Answers polls of tasks of about 5 s, the batch endpoint by the `fault`."""

    def __init__(self, fault: str) -> None:
        self.fault = fault
        self.requests: Counter[str] = Counter()
        self._random = Random(1)
        self._began = time.monotonic()
        self.seconds = {f"task_{number}": self._random.lognormvariate(1.6, 0.3) for number in range(WAITS)}

    def _task(self, task_id: str) -> dict[str, Any]:
        if time.monotonic() < self._began + self.seconds[task_id]:
            return {"id": task_id, "status": "processing"}
        images = [{"url": ["https://images.example/1.png"]}]
        return {
            "id": task_id,
            "status": "completed",
            "actual_time": round(self.seconds[task_id]),
            "result": {"images": images},
        }

    async def single(self, request: web.Request) -> web.Response:
        self.requests["single"] += 1
        return web.json_response({"code": 200, "data": self._task(request.match_info["task_id"])})

    async def batch(self, request: web.Request) -> web.Response:
        self.requests["batch"] += 1
        ids: list[str] = (await request.json())["task_ids"]
        if self.fault == "hangs" or (self.fault == "one in five hangs" and self._random.random() < 0.2):
            await asyncio.sleep(60)
        if self.fault == "a gateway's 404":
            return web.Response(status=404, text="<html>no route</html>")
        if status := self._refusal(ids):
            error = {"code": status, "message": "no", "type": "error"}
            headers = {"Retry-After": "20"} if self.fault == "429 with Retry-After" else None
            return web.json_response({"error": error}, status=status, headers=headers)
        found = [] if self.fault == "empty" else [self._task(task_id) for task_id in ids]
        if self.fault == "stale duplicates":
            found += [{"id": task_id, "status": "processing"} for task_id in ids]
        if self.fault == "without results":
            for task in found:
                task.pop("result", None)
        return web.json_response({"code": 200, "data": found})

    def _refusal(self, ids: list[str]) -> int:
        if self.fault in {"500", "429", "429 with Retry-After", "404", "403", "400"}:
            return int(self.fault[:3])
        if BAD_ID in ids and self.fault in {"a bad id", "a bad id, 500"}:
            return 500 if self.fault == "a bad id, 500" else 400
        return 400 if self.fault == "50 ids" and len(ids) > 50 else 0


@asynccontextmanager
async def serving(fault: str, **options: Any) -> AsyncGenerator[tuple[Service, AsyncApimart]]:
    service = Service(fault)
    app = web.Application()
    app.router.add_post("/v1/tasks/batch", service.batch)
    app.router.add_get("/v1/tasks/{task_id}", service.single)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
        async with AsyncApimart("sk-1", base_url=f"http://127.0.0.1:{port}", **options) as client:
            yield service, client
    finally:
        await runner.cleanup()


async def wait_for_all(service: Service, client: AsyncApimart) -> None:
    tasks = [Task(name, "submitted", submitted_at=NOW, model=MODEL) for name in service.seconds]
    ended = await asyncio.gather(*(client.tasks.wait(task, timeout=60) for task in tasks))
    assert all(task.images for task in ended)


@pytest.mark.parametrize(
    "fault",
    [
        "none",
        "500",
        "429",
        "429 with Retry-After",
        "404",
        "a gateway's 404",
        "403",
        "400",
        "hangs",
        "one in five hangs",
        "a bad id",
        "a bad id, 500",
        "50 ids",
        "empty",
        "stale duplicates",
        "without results",
    ],
)
async def test_no_wait_times_out_beside_a_bad_batch_endpoint(fault: str) -> None:
    async with serving(fault) as (service, client):
        await wait_for_all(service, client)
        # Where only some batches fail, polls still share requests.
        is_shared = fault in {"none", "a bad id", "a bad id, 500", "50 ids", "stale duplicates"}
        assert service.requests.total() < (0.5 if is_shared else 3) * WAITS
        assert client.tasks._queue.is_batching or not is_shared


async def test_refusals_of_the_batch_endpoint_do_not_slow_other_requests() -> None:
    async with serving("429") as (service, client):
        limits = client.tasks._api.rate_limiter.search
        for _ in range(100):
            with pytest.raises(RateLimitError):
                await client.tasks._poll_many(lambda: list(service.seconds)[:100])
        assert limits.state == "free"
        assert limits.to_dict()["noise"] == 0
        assert limits.paused_until == 0


async def test_polls_that_the_rate_limiter_holds_back_share_requests() -> None:
    async with serving("none", limits=Limits(requests_per_second=0.5)) as (service, client):
        await wait_for_all(service, client)
        assert service.requests.total() < 0.1 * WAITS
