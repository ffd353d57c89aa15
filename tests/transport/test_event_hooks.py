"""Event hooks see every request as plain data, and no error of a hook costs an answer."""

from __future__ import annotations

import asyncio
import json
import logging
import pickle
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

import anyio
import attrs
import pytest

from apimart_async import (
    APIConnectionError,
    AsyncApimart,
    AsyncAppleRouter,
    DownloadError,
    EventHooks,
    InvalidArgumentError,
    Limits,
    Poll,
    RequestEvent,
    ResponseEvent,
    Retry,
    Timeout,
)
from apimart_async.emulator import Emulator
from apimart_async.emulator.faults import Fault
from apimart_async.hooks import Observer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from .conftest import Exchange, RawServer

KEY = "sk-very-secret-0123456789"
PROMPT = "a prompt nobody else should read"
GIF = b"GIF89a" + bytes([1, 0, 1, 0, 0, 0, 0, 0x3B])
POLL = Poll(first=0.02, shortest=0.02, longest=0.05)


@attrs.define
class Seen:
    """Keeps all events in their order."""

    events: list[RequestEvent | ResponseEvent] = attrs.field(factory=list)

    @property
    def hooks(self) -> EventHooks:
        return EventHooks(on_request=self.events.append, on_response=self.events.append)

    @property
    def requests(self) -> list[RequestEvent]:
        return [event for event in self.events if isinstance(event, RequestEvent)]

    @property
    def responses(self) -> list[ResponseEvent]:
        return [event for event in self.events if isinstance(event, ResponseEvent)]


@pytest.fixture
async def emulator() -> AsyncIterator[Emulator]:
    async with Emulator(task_seconds=0.02, images="tiny", api_key=KEY) as running:
        yield running


@asynccontextmanager
async def connected(emulator: Emulator, *hooks: EventHooks, **options: Any) -> AsyncIterator[AsyncApimart]:
    options = {"poll": POLL, "retry": Retry(initial_delay=0.001), "check": "off", **options}
    async with AsyncApimart(KEY, base_url=emulator.base_url, event_hooks=hooks, **options) as client:
        yield client


async def test_every_request_of_an_edit_is_seen_with_its_end(emulator: Emulator, tmp_path: Path) -> None:
    seen = Seen()
    async with connected(emulator, seen.hooks) as client:
        task = await client.edits.run(GIF, PROMPT)
        await client.images.save(task, tmp_path)

    paths = [request.url.removeprefix(emulator.base_url) for request in seen.requests]
    assert paths[:2] == ["/v1/uploads/images", "/v1/images/edits"]
    assert set(paths[2:-1]) == {f"/v1/tasks/{task.id}"}
    assert paths[-1].startswith("/files/results/")
    assert [request.idempotency_key for request in seen.requests[:2]] == [None, task.idempotency_key]
    assert [response.request for response in seen.responses] == seen.requests
    for response in seen.responses:
        assert (response.status, response.error, response.request.attempt) == (200, None, 1)
        assert response.elapsed >= 0
        assert bool(response.request_id) == ("/files/" not in response.request.url)
    assert pickle.loads(pickle.dumps(seen.events)) == seen.events  # noqa: S301 its own
    assert KEY not in repr(seen.events)
    assert PROMPT not in repr(seen.events)


async def test_attempts_are_numbered_and_refusals_have_their_status(emulator: Emulator) -> None:
    emulator.faults.add(Fault(kind="status", route="account", status=503, times=2))
    seen = Seen()
    async with connected(emulator, seen.hooks) as client:
        await client.account.balance()
    assert [request.attempt for request in seen.requests] == [1, 2, 3]
    assert [response.status for response in seen.responses] == [503, 503, 200]


async def test_a_request_without_an_answer_has_the_error() -> None:
    seen = Seen()
    options = {"max_retries": 0, "timeout": Timeout(connect=60)}
    async with AsyncApimart(KEY, base_url="http://127.0.0.1:9", event_hooks=seen.hooks, **options) as client:  # type: ignore[arg-type]
        with pytest.raises(APIConnectionError):
            await client.account.balance()
        with pytest.raises(DownloadError):
            await client.images.read("http://127.0.0.1:9/image.png?signature=secret")
    assert [(end.status, end.error) for end in seen.responses] == [(None, "APIConnectionError")] * 2
    assert seen.requests[-1].url == "http://127.0.0.1:9/image.png"


async def test_a_cancelled_request_has_an_end(emulator: Emulator) -> None:
    emulator.faults.add(Fault(kind="hang", route="account", seconds=600))
    seen, started = Seen(), anyio.Event()
    first = EventHooks(on_request=lambda _: started.set())
    async with connected(emulator, seen.hooks, first) as client, anyio.create_task_group() as group:
        group.start_soon(client.account.balance)
        await started.wait()
        group.cancel_scope.cancel()
    assert [end.error for end in seen.responses] == ["CancelledError"]


def failing(error: BaseException) -> list[Callable[[object], object]]:
    def raises(_: object) -> NoReturn:
        raise error

    async def raises_later(_: object) -> NoReturn:
        await asyncio.sleep(0)
        raise error

    return [raises, raises_later]


@pytest.mark.parametrize("hook", [*failing(ZeroDivisionError("mine")), *failing(asyncio.CancelledError())])
async def test_a_hook_that_raises_loses_no_paid_answer(
    emulator: Emulator, hook: Callable[[object], object], caplog: pytest.LogCaptureFixture
) -> None:
    seen = Seen()
    async with connected(emulator, EventHooks(on_request=hook, on_response=hook), seen.hooks) as client:
        task = await client.edits.run(GIF, PROMPT)
    assert task.is_completed
    emulator.ledger.assert_billed(times=1)
    assert len(seen.requests) == len(seen.responses)
    failures = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert len(failures) == len(seen.events)
    assert all(record.exc_info and record.name == "apimart_async.transport" for record in failures)


class Counter:
    """A hook that is an object, and has no name of its own."""

    def __getattr__(self, name: str) -> NoReturn:
        raise KeyError(name)

    def __call__(self, _: RequestEvent) -> NoReturn:
        raise ZeroDivisionError

    async def count(self, _: ResponseEvent, **_options: int) -> NoReturn:
        raise ZeroDivisionError


async def test_a_failed_hook_is_named_in_the_log(
    emulator: Emulator, caplog: pytest.LogCaptureFixture
) -> None:
    hooks = [
        EventHooks(on_request=Counter(), on_response=partial(Counter().count, step=2)),
        EventHooks(on_request=[object()].remove, on_response=failing(ZeroDivisionError())[0]),
        FailingObserver(),
    ]
    async with connected(emulator, *hooks) as client:
        await client.account.balance()
        await client.edits.create("https://p.example/a.png", PROMPT)
    here = __name__
    assert caplog.messages[:6] == [
        f"The on_request hook {here}.Counter failed.",
        "The on_request hook list.remove failed.",
        f"The request hook {here}.FailingObserver.request failed.",
        f"The on_response hook {here}.Counter.count failed.",
        f"The on_response hook {here}.failing.<locals>.raises failed.",
        f"The response hook {here}.FailingObserver.response failed.",
    ]
    assert f"The operation hook {here}.FailingObserver failed." in caplog.messages
    assert f"The submitted hook {here}.FailingObserver failed." in caplog.messages


class FailingObserver(Observer):
    """An observer of which each method raises."""

    def request(self, *_: object, **__: object) -> NoReturn:
        raise ZeroDivisionError

    def response(self, *_: object, **__: object) -> NoReturn:
        raise ZeroDivisionError

    def operation(self, *_: object, **__: object) -> NoReturn:
        raise ZeroDivisionError

    def submitted(self, *_: object, **__: object) -> NoReturn:
        raise ZeroDivisionError


async def test_a_cancellation_during_a_hook_loses_no_paid_answer(emulator: Emulator) -> None:
    scope = anyio.CancelScope()

    async def cancel(event: ResponseEvent) -> None:
        if event.request.idempotency_key is not None:
            scope.cancel()
            await asyncio.sleep(0)

    task = None
    async with connected(emulator, EventHooks(on_response=cancel)) as client:
        with scope:
            task = await client.edits.create("https://p.example/a.png", PROMPT)
    assert task is not None
    assert [entry.task_id for entry in emulator.ledger.billed] == [task.id]


async def test_a_hook_that_hangs_is_cancelled_after_five_seconds(
    emulator: Emulator, clock: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def hang(event: ResponseEvent) -> None:
        await asyncio.get_running_loop().create_future()

    async with connected(emulator, EventHooks(on_response=hang)) as client, clock.rushing(0.5):
        task = await client.edits.create("https://p.example/a.png", PROMPT)
    assert [entry.task_id for entry in emulator.ledger.billed] == [task.id]
    name = f"{__name__}.{test_a_hook_that_hangs_is_cancelled_after_five_seconds.__name__}.<locals>.hang"
    assert f"The on_response hook {name} took more than 5 s and was cancelled." in caplog.messages


async def test_async_hooks_are_awaited_in_their_order(emulator: Emulator) -> None:
    order: list[str] = []

    def noting(name: str) -> EventHooks:
        async def before(_: RequestEvent) -> None:
            await asyncio.sleep(0)
            order.append(f"{name} before")

        async def after(_: ResponseEvent) -> None:
            await asyncio.sleep(0)
            order.append(f"{name} after")

        return EventHooks(on_request=before, on_response=after)

    async with connected(emulator, noting("first"), noting("second")) as client:
        await client.with_options(max_retries=0).account.balance()
    assert order == ["first before", "second before", "first after", "second after"]


async def test_hooks_never_see_the_key_that_a_service_repeats(raw_server: RawServer) -> None:
    async def handle(exchange: Exchange) -> None:
        request = await exchange.read()
        if request.path.endswith(KEY):
            await exchange.answer(json.dumps({"data": []}).encode(), headers={"X-Request-Id": f"r-{KEY}"})
        else:
            await exchange.answer(status=307, headers={"Location": f"/elsewhere/{KEY}"})

    raw_server.handle = handle
    seen = Seen()
    async with AsyncApimart(KEY, base_url=raw_server.base_url, event_hooks=seen.hooks) as client:
        await client.account.models()
    assert [end.status for end in seen.responses] == [307, 200]
    assert seen.responses[-1].request_id == "r-[api key]"
    assert KEY not in repr(seen.events)


async def test_a_stream_of_images_is_one_request(emulator: Emulator) -> None:
    seen = Seen()
    async with (
        AsyncAppleRouter(KEY, base_url=emulator.base_url, event_hooks=[seen.hooks]) as router,
        router.generations.stream("A lighthouse", model="gpt-image-1") as events,
    ):
        assert [event async for event in events]
    assert [end.status for end in seen.responses] == [200]


async def test_a_hook_that_is_cancelled_at_a_stream_leaves_no_request_behind(emulator: Emulator) -> None:
    """With a single request at a time, the next one would wait for ever."""
    calls: list[asyncio.Task[object]] = []

    async def cancel(_: ResponseEvent) -> None:
        if calls:
            calls.pop().cancel()
            await asyncio.sleep(0)

    options = {
        "limits": Limits(requests=1, connections=1, adaptive=False),
        "event_hooks": EventHooks(on_response=cancel),
    }
    async with AsyncAppleRouter(KEY, base_url=emulator.base_url, **options) as router:  # type: ignore[arg-type]

        async def stream() -> object:
            async with router.generations.stream("A lighthouse", model="gpt-image-1") as events:
                return [event async for event in events]

        first = asyncio.create_task(stream())
        calls.append(first)
        with pytest.raises(asyncio.CancelledError):
            await first
        assert await stream()


@pytest.mark.parametrize("wrong", [print, [print], {"request": [print]}])
def test_anything_else_is_refused(wrong: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="event_hooks must be EventHooks"):
        AsyncApimart(KEY, event_hooks=wrong)


@pytest.mark.parametrize("client", [AsyncApimart, AsyncAppleRouter])
def test_a_client_and_its_copies_return_their_hooks(client: type[AsyncApimart | AsyncAppleRouter]) -> None:
    hooks = EventHooks()
    made = client(KEY, event_hooks=hooks)
    assert list(made.event_hooks) == list(made.with_options(max_retries=0).event_hooks) == [hooks]
    assert not client(KEY).event_hooks
