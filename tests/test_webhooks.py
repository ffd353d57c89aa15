"""Webhooks: notifications are read, confirmed with a request, and end waits early."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import re
import threading
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, cast

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from anyio.from_thread import start_blocking_portal

from apimart_async import (
    Apimart,
    APIResponseValidationError,
    AsyncApimart,
    InvalidArgumentError,
    NotFoundError,
    Poll,
    Task,
    TaskCancelledError,
    TaskFailedError,
    webhooks,
)
from apimart_async.emulator import Emulator, Fault

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from .clock import Clock


class Receiver:
    """A server that takes notifications, and answers them with the statuses it is given, then with 200."""

    def __init__(self) -> None:
        self.bodies: asyncio.Queue[bytes] = asyncio.Queue()
        self.statuses: list[int] = []
        self.paths: list[str] = []
        self.url = ""

    async def handle(self, request: web.Request) -> web.Response:
        self.paths.append(request.path)
        self.bodies.put_nowait(await request.read())
        return web.Response(status=self.statuses.pop(0) if self.statuses else 200)


@asynccontextmanager
async def receiving() -> AsyncGenerator[Receiver]:
    receiver = Receiver()
    app = web.Application()
    app.router.add_post("/{path:.*}", receiver.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.05)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        receiver.url = f"http://{host}:{port}/hook"
        yield receiver
    finally:
        await runner.cleanup()


async def test_a_notification_is_confirmed_by_a_request(emulator: Emulator, client: AsyncApimart) -> None:
    async with receiving() as receiver:
        submitted = await client.generations.create("A lighthouse", webhook=receiver.url)
        notified = webhooks.parse(await receiver.bodies.get())
        assert notified.id == submitted.id
        assert receiver.paths == ["/hook/callback"]
        task = await webhooks.confirm(client, notified)
    assert task.is_completed
    assert task.images
    assert emulator.counts["tasks"] == 1


async def test_a_failure_is_notified_without_its_reason(client: AsyncApimart) -> None:
    async with receiving() as receiver:
        await client.generations.create("A moderated lighthouse", webhook=receiver.url)
        notified = webhooks.parse(await receiver.bodies.get())
        task = await webhooks.confirm(client, notified)
    assert notified.status == task.status == "failed"
    assert notified.error is not None
    assert notified.error.code == "task_failed"
    assert task.error is not None
    assert task.error.code == "content_policy_violation"


async def test_the_page_shows_the_bodies_that_are_posted(repository: Path, client: AsyncApimart) -> None:
    page = (repository / "docs" / "webhooks.md").read_text(encoding="utf-8")
    shown = [
        json.loads(text)
        for text in re.findall(r"^```\{code-block\} json\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    ]
    posted: list[dict[str, Any]] = []
    async with receiving() as receiver:
        for prompt in ("A lighthouse", "A moderated lighthouse"):
            await client.generations.create(prompt, webhook=receiver.url)
            posted.append(json.loads(await receiver.bodies.get()))
    assert [body["status"] for body in shown] == [body["status"] for body in posted]
    for example, body in zip(shown, posted, strict=True):
        assert example.keys() <= body.keys()
        assert example.get("error") == body.get("error")
        assert webhooks.parse(example).status == webhooks.parse(body).status
        assert len(webhooks.parse(example).images) == len(webhooks.parse(body).images)


async def test_a_forged_notification_is_not_believed(client: AsyncApimart) -> None:
    forged = webhooks.parse({"id": "task_forged", "status": "completed", "result": {"images": []}})
    with pytest.raises(NotFoundError):
        await webhooks.confirm(client, forged)


async def test_a_confirmed_task_has_the_facts_of_the_service_alone(client: AsyncApimart) -> None:
    submitted = await client.generations.create("A lighthouse")
    forged = webhooks.parse(
        {
            "id": submitted.id,
            "status": "completed",
            "model": "another",
            "cost": 99,
            "result": {"images": [{"url": ["https://evil.example/image.png"]}]},
        }
    )
    task = await webhooks.confirm(client, forged)
    assert task.model != "another"
    assert "evil.example" not in repr(task)
    assert task.cost != 99


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not JSON",
        b"[]",
        b"null",
        b"{}",
        b'{"status": "completed"}',
        b'{"id": "task_1"}',
        b'{"id": ["task_1"], "status": "completed"}',
        "\udc80",
        b"[" * 100_000,
        b'{"id": "task_1", "status": "completed", "text": "' + b"a" * 1_048_576 + b'"}',
    ],
    ids=range(11),
)
def test_a_body_without_a_task_is_refused(body: bytes | str) -> None:
    with pytest.raises(APIResponseValidationError):
        webhooks.parse(body)


async def test_a_forged_notification_makes_no_large_request(emulator: Emulator, client: AsyncApimart) -> None:
    for task_id in ("a" * 1_000_000, "\u4e2d" * 300_000):
        with pytest.raises(APIResponseValidationError, match="at most 1000 are read"):
            await webhooks.confirm(
                client, webhooks.parse(json.dumps({"id": task_id, "status": "completed"}, ensure_ascii=False))
            )
    with pytest.raises(NotFoundError):
        await webhooks.confirm(client, webhooks.parse(json.dumps({"id": "a" * 1000, "status": "completed"})))
    assert [len(seen.path) for seen in emulator.requests] == [len("/v1/tasks/") + 1000]


def test_a_failure_without_a_status_is_read() -> None:
    body = {"id": "task_1", "error": {"type": "task_error", "code": "task_failed", "param": None}}
    for form in (body, json.dumps(body), json.dumps(body).encode()):
        task = webhooks.parse(form)
        assert (task.id, task.status) == ("task_1", "failed")


async def test_a_notification_without_an_id_cannot_be_confirmed(client: AsyncApimart) -> None:
    with pytest.raises(InvalidArgumentError, match="no task id"):
        await webhooks.confirm(client, Task(id=None, status="completed"))


def test_repeated_notifications_are_recognised() -> None:
    deliveries = webhooks.Deliveries(limit=2)
    tasks = [Task(id=f"task_{number}", status="completed") for number in range(3)]
    assert tasks[0] not in deliveries
    for task in tasks:
        deliveries.add(task)
        deliveries.add(task)
    assert len(deliveries) == 2
    assert tasks[0] not in deliveries
    assert tasks[2] in deliveries
    with pytest.raises(InvalidArgumentError, match="limit"):
        webhooks.Deliveries(limit=0)


async def test_a_notification_ends_a_wait_at_once(clock: Clock) -> None:
    """The first poll would come after days: without the notification, the test would hang."""
    poll = Poll(first=100_000, shortest=50_000, longest=200_000, timeout=1_000_000)
    async with (
        Emulator(task_seconds=30) as emulator,
        AsyncApimart(emulator.api_key, base_url=emulator.base_url, poll=poll) as client,
        receiving() as receiver,
        asyncio.TaskGroup() as group,
    ):
        notified = asyncio.Event()
        submitted = await client.generations.create("A lighthouse", webhook=receiver.url)
        wait = group.create_task(client.tasks.wait(submitted, notified=notified))
        emulator.advance(1000)
        assert webhooks.parse(await receiver.bodies.get()).id == submitted.id
        notified.set()
        task = await wait
    assert task.is_completed
    assert emulator.counts["tasks"] == 1


async def test_a_lost_notification_delays_a_wait_and_loses_nothing(
    emulator: Emulator, client: AsyncApimart
) -> None:
    submitted = await client.generations.create("A lighthouse")
    task = await client.tasks.wait(submitted, notified=asyncio.Event())
    assert task.is_completed


async def test_a_wait_with_notifications_polls_rarely(clock: Clock) -> None:
    polls: list[int] = []
    for notified in (None, asyncio.Event()):
        async with (
            Emulator(task_seconds=lambda draws: draws.uniform(10, 30), batch=None, seed=1) as emulator,
            AsyncApimart(emulator.api_key, base_url=emulator.base_url) as client,
            clock.rushing(2),
        ):
            for _ in range(6):
                await client.tasks.wait(await client.generations.create("A lighthouse"))
            before = emulator.counts["tasks"]
            for _ in range(4):
                task = await client.generations.create("A lighthouse")
                await client.tasks.wait(task, notified=notified)
            polls.append(emulator.counts["tasks"] - before)
    assert polls[1] < polls[0]


def test_a_thread_notifies_a_blocking_wait() -> None:
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(Emulator(task_seconds=0)) as service,
    ):
        poll = Poll(first=100_000, shortest=50_000, longest=200_000, timeout=1_000_000)
        with Apimart(service.api_key, base_url=service.base_url, poll=poll) as client:
            submitted = client.generations.create("A lighthouse")
            notified = threading.Event()
            notifier = threading.Timer(0.05, notified.set)
            notifier.start()
            assert client.tasks.wait(submitted, notified=notified).is_completed
            notifier.join()


async def test_a_failing_task_is_raised_as_itself(client: AsyncApimart) -> None:
    submitted = await client.generations.create("A moderated lighthouse")
    notified = asyncio.Event()
    notified.set()
    with pytest.raises(TaskFailedError):
        await client.tasks.wait(submitted, notified=notified)


async def test_a_notification_is_repeated_until_it_is_taken(emulator: Emulator, client: AsyncApimart) -> None:
    async with receiving() as receiver:
        receiver.statuses = [500, 503]
        await client.generations.create("A lighthouse", webhook=receiver.url)
        while len(receiver.paths) < 3:
            emulator.advance(1)
            await asyncio.sleep(0.01)
        bodies = {await receiver.bodies.get() for _ in range(3)}
    assert len(bodies) == 1
    assert receiver.bodies.empty()


async def test_a_refused_notification_is_not_repeated(emulator: Emulator, client: AsyncApimart) -> None:
    async with receiving() as receiver:
        receiver.statuses = [410]
        await client.generations.create("A lighthouse", webhook=receiver.url)
        await receiver.bodies.get()
        emulator.advance(1000)
        await client.generations.create("Another lighthouse", webhook=f"{receiver.url}/second")
        await receiver.bodies.get()
    assert receiver.paths == ["/hook/callback", "/hook/second/callback"]


async def test_a_cancelled_task_is_not_notified(emulator: Emulator, client: AsyncApimart) -> None:
    emulator.faults.add(Fault(kind="task-cancelled", route="generations", times=1))
    async with receiving() as receiver:
        cancelled = await client.generations.create("A lighthouse", webhook=receiver.url)
        with pytest.raises(TaskCancelledError):
            await client.tasks.wait(cancelled)
        completed = await client.generations.create("Another lighthouse", webhook=f"{receiver.url}/second")
        assert webhooks.parse(await receiver.bodies.get()).id == completed.id
    assert receiver.paths == ["/hook/second/callback"]


@pytest.mark.parametrize(
    "webhook",
    ["http://203.0.113.5:9/hook", "http://127.0.0.1@203.0.113.5/", "http://localhost.example/", "http://["],
)
async def test_the_emulator_calls_loopback_addresses_only(client: AsyncApimart, webhook: str) -> None:
    task = await client.generations.create("A lighthouse", webhook=webhook)
    assert (await client.tasks.wait(task)).is_completed


def example(repository: Path, name: str) -> Any:
    """Import an example of the documentation."""
    spec = importlib.util.spec_from_file_location(name, repository / "docs" / "examples" / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def configured(emulator: Emulator, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder in which programs talk to the emulator."""
    monkeypatch.setenv("APIMART_API_KEY", emulator.api_key)
    monkeypatch.setenv("APIMART_BASE_URL", emulator.base_url)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.may_block
async def test_the_aiohttp_example_saves_the_image(
    configured: Path, repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    await example(repository, "webhook_aiohttp").main()
    (path,) = capsys.readouterr().out.split()
    assert (configured / path).stat().st_size


@pytest.mark.may_block
@pytest.mark.parametrize(
    "fault",
    [Fault(kind="html", route="tasks", status=404), Fault(kind="broken-json", route="tasks")],
    ids=["page", "broken"],
)
async def test_the_aiohttp_example_takes_no_broken_answer_for_a_forgery(
    repository: Path, emulator: Emulator, fault: Fault
) -> None:
    """After a 4xx the service does not notify again."""
    async with AsyncApimart(emulator.api_key, base_url=emulator.base_url, max_retries=0) as client:
        task = await client.generations.create("A lighthouse")
        await client.tasks.wait(task)
        receiver = example(repository, "webhook_aiohttp").Receiver(client)
        app = web.Application()
        app.router.add_post("/callback", receiver.callback)

        async with TestServer(app) as server, aiohttp.ClientSession(server.make_url("/")) as service:

            async def answer(body: dict[str, Any]) -> int:
                async with service.post("callback", json=body) as response:
                    return response.status

            emulator.faults.add(fault)
            assert await answer({"id": task.id, "status": "completed"}) == 503
            emulator.faults.clear()
            assert await answer({"id": task.id, "status": "completed"}) == 200
            assert await answer({"id": "task_1", "status": "completed"}) == 400
            assert await answer({}) == 400
        assert receiver.finished.get_nowait().id == task.id


@pytest.mark.may_block
async def test_the_asgi_example_ends_a_wait_with_a_notification(
    configured: Path, repository: Path, emulator: Emulator
) -> None:
    module = example(repository, "webhook_asgi")
    incoming: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    started = asyncio.Event()

    async def server_send(message: dict[str, Any]) -> None:
        started.set()

    async def call(path: str, body: bytes, *, is_endless: bool = False) -> tuple[int, bytes]:
        sent: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body, "more_body": is_endless}

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        await module.app({"type": "http", "path": path}, receive, send)
        return sent[0]["status"], sent[1]["body"]

    async with asyncio.TaskGroup() as group, receiving() as receiver:
        module.WEBHOOK = receiver.url
        group.create_task(module.app({"type": "lifespan"}, incoming.get, server_send))
        incoming.put_nowait({"type": "lifespan.startup"})
        await started.wait()
        edit = group.create_task(call("/edits", b"A lighthouse"))
        assert await call("/apimart/callback", await receiver.bodies.get()) == (200, b"")
        assert await call("/apimart/callback", b"not JSON") == (400, b"")
        assert await call("/apimart/callback", b" " * 300_000, is_endless=True) == (413, b"")
        status, path = await edit
        assert (await call("/edits", b""))[0] == 400
        incoming.put_nowait({"type": "lifespan.shutdown"})
    assert status == 200
    assert (configured / path.decode()).stat().st_size


async def test_a_mistake_of_the_receiver_is_not_an_error_of_the_notification() -> None:
    """A 400 for it would end the delivery of every notification."""

    async def read_body() -> bytes:
        return b""

    coroutine = read_body()
    for body in (coroutine, object(), memoryview(b"{}")):
        with pytest.raises(InvalidArgumentError, match="body must be the bytes, the text or"):
            webhooks.parse(cast("Any", body))
    coroutine.close()
    deliveries = webhooks.Deliveries()
    for call in (deliveries.add, deliveries.__contains__):
        with pytest.raises(InvalidArgumentError, match="task must be the Task"):
            call(cast("Any", "task_1"))
