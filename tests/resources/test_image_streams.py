"""Streams of images: events as they arrive, and the outcome of a stream that breaks, over the emulator."""

from __future__ import annotations

import asyncio
import pickle
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from PIL import Image as Pillow

from apimart_async import (
    APIStatusError,
    AppleRouter,
    AsyncAppleRouter,
    BadRequestError,
    CompletedImageEvent,
    ImageError,
    InvalidArgumentError,
    PartialImageEvent,
    Retry,
    SubmissionIndeterminateError,
    UnprocessableEntityError,
    interrupted,
)
from apimart_async.emulator import Emulator, Fault
from tests.resources.test_applerouter import PNG

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from apimart_async import ImageEvent

KINDS = ("edit", "generation")


@pytest.fixture
async def emulator() -> AsyncIterator[Emulator]:
    async with Emulator(task_seconds=0, images="tiny") as running:
        yield running


@pytest.fixture
async def router(emulator: Emulator) -> AsyncIterator[AsyncAppleRouter]:
    retry = Retry(initial_delay=0.01, max_delay=0.02)
    async with AsyncAppleRouter(emulator.api_key, base_url=emulator.router_url, retry=retry) as connected:
        yield connected


def stream(
    router: AsyncAppleRouter, kind: str = "edit", **options: Any
) -> AbstractAsyncContextManager[AsyncIterator[ImageEvent]]:
    options = {"model": "gpt-image-2", "partial_images": 2, **options}
    if kind == "edit":
        return router.edits.stream(PNG, "a red hat", **options)
    return router.generations.stream("a red hat", **options)


async def read_all(opened: AbstractAsyncContextManager[AsyncIterator[ImageEvent]]) -> list[ImageEvent]:
    async with opened as events:
        return [event async for event in events]


@pytest.mark.parametrize("kind", KINDS)
async def test_previews_and_images_arrive_as_typed_events(
    router: AsyncAppleRouter, emulator: Emulator, tmp_path: Path, kind: str
) -> None:
    name = f"image_{kind}"
    found: list[ImageEvent] = []
    async with stream(router, kind, n=2) as events:
        async for event in events:
            found.append(event)
            (path,) = await router.images.save(event.image, tmp_path)
            with Pillow.open(path) as picture:
                assert picture.size == (8, 8)
    preview, image = f"{name}.partial_image", f"{name}.completed"
    assert [event.type for event in found] == [preview, preview, image] * 2
    indexes = [event.index for event in found if isinstance(event, PartialImageEvent)]
    assert indexes == [0, 1, 0, 1]
    assert [event.image.index for event in found] == [1, 1, 1, 2, 2, 2]
    completed = [event for event in found if isinstance(event, CompletedImageEvent)]
    assert all(event.usage is not None and event.usage.input_tokens == 50 for event in completed)
    assert found[0].raw["background"] == "auto"
    assert pickle.loads(pickle.dumps(found)) == found  # noqa: S301 our own
    (entry,) = emulator.ledger.entries
    assert (entry.endpoint, entry.images) == ("applerouter", 2)


@pytest.mark.parametrize("kind", KINDS)
def test_the_blocking_client_streams_in_a_plain_loop(kind: str) -> None:
    async def serve(started: anyio.Event, ended: anyio.Event, found: list[Emulator]) -> None:
        async with Emulator(task_seconds=0, images="tiny") as emulator:
            found.append(emulator)
            started.set()
            await ended.wait()

    def iterate(emulator: Emulator) -> list[str]:
        with AppleRouter(emulator.api_key, base_url=emulator.router_url) as router:
            if kind == "edit":
                opened = router.edits.stream(PNG, "a red hat", model="gpt-image-2", partial_images=1)
            else:
                opened = router.generations.stream("a red hat", model="gpt-image-2", partial_images=1)
            with opened as events:
                return [event.type for event in events]

    async def main() -> list[str]:
        started, ended, found = anyio.Event(), anyio.Event(), list[Emulator]()
        async with anyio.create_task_group() as group:
            group.start_soon(serve, started, ended, found)
            await started.wait()
            types = await anyio.to_thread.run_sync(iterate, found[0])
            ended.set()
        return types

    assert anyio.run(main) == [f"image_{kind}.partial_image", f"image_{kind}.completed"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("fault", "previews"),
    [
        (Fault(kind="stream-cut"), 1),
        (Fault(kind="stream-error"), 2),
        (Fault(kind="disconnect", executed=True), 0),
        (Fault(kind="empty", route="applerouter"), 0),
        (Fault(kind="html", status=502), 0),
    ],
    ids=lambda value: value.kind if isinstance(value, Fault) else str(value),
)
async def test_a_broken_stream_is_indeterminate_and_carries_its_previews(
    router: AsyncAppleRouter, emulator: Emulator, kind: str, fault: Fault, previews: int
) -> None:
    emulator.faults.add(fault)
    found: list[ImageEvent] = []

    async def read() -> None:
        async with stream(router, kind) as events:
            async for event in events:
                found.append(event)  # noqa: PERF401 what came before the error counts

    with pytest.raises(SubmissionIndeterminateError, match="not sent again") as caught:
        await read()
    error = caught.value
    assert error.partial_images == tuple(event.image for event in found)
    assert len(found) == previews
    assert error.images == ()
    path = "edits" if kind == "edit" else "generations"
    assert (error.method, error.url) == ("POST", f"{emulator.router_url}/v1/images/{path}/")
    assert len(emulator.requests) == 1
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301 our own
    assert copy.partial_images == error.partial_images


async def test_images_that_arrived_before_the_end_are_carried_too(
    router: AsyncAppleRouter, emulator: Emulator
) -> None:
    emulator.faults.add(Fault(kind="truncated", route="applerouter"))
    with pytest.raises(SubmissionIndeterminateError) as caught:
        await read_all(stream(router, n=4, partial_images=0))
    assert 1 <= len(caught.value.images) < 4
    assert [image.index for image in caught.value.images] == list(range(1, len(caught.value.images) + 1))


@pytest.mark.parametrize("kind", KINDS)
async def test_an_error_sent_as_an_event_stream_is_that_error(
    router: AsyncAppleRouter, emulator: Emulator, kind: str
) -> None:
    emulator.faults.add(Fault(kind="error-as-stream", message="no such size"))
    with pytest.raises(UnprocessableEntityError, match="no such size") as caught:
        await stream(router, kind).__aenter__()
    assert caught.value.request_id
    assert not emulator.ledger.entries


@pytest.mark.parametrize("kind", KINDS)
async def test_a_refusal_is_raised_when_the_stream_is_entered(
    router: AsyncAppleRouter, emulator: Emulator, kind: str
) -> None:
    edit = router.edits.stream(PNG, "moderated", model="gpt-image-2")
    generation = router.generations.stream("moderated", model="gpt-image-2")
    with pytest.raises(BadRequestError, match="safety system"):
        await (edit if kind == "edit" else generation).__aenter__()
    assert not emulator.ledger.entries


async def test_a_rate_limit_before_the_stream_is_waited_for(
    router: AsyncAppleRouter, emulator: Emulator
) -> None:
    emulator.faults.add(Fault(kind="status", status=429, retry_after=0, times=2))
    async with stream(router) as events:
        assert [event.type async for event in events][-1] == "image_edit.completed"
    assert [request.status for request in emulator.requests] == [429, 429, 200]


async def test_leaving_early_is_logged_and_gives_the_connection_back(
    router: AsyncAppleRouter, caplog: pytest.LogCaptureFixture
) -> None:
    async with stream(router) as events:
        assert (await anext(events)).type == "image_edit.partial_image"
    assert "left before its end and may have been billed" in caplog.text
    caplog.clear()
    async with stream(router) as events:
        async for event in events:
            if event.type == "image_edit.completed":
                break
    assert "left before its end" not in caplog.text


async def test_a_cancelled_stream_loses_no_image_without_an_error() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(int(request.lower().split(b"content-length: ")[1].split(b"\r\n")[0]))
        # Large enough to be read in a thread.
        event = f'{{"type":"image_generation.completed","b64_json":"{"A" * 400_000}"}}'
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n")
        writer.write(f"data: {event}\n\ndata: {event}\n\ndata: [DONE]\n\n".encode())
        await writer.drain()
        writer.close()

    async with (
        await asyncio.start_server(serve, "127.0.0.1", 0) as server,
        AsyncAppleRouter("sk-x", base_url=f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}") as router,
    ):
        for steps in range(60):
            completed = 0
            async with stream(router, "generation", n=2) as events:
                first = asyncio.ensure_future(anext(events))
                for _ in range(steps):
                    await asyncio.sleep(0)
                first.cancel()
                with suppress(asyncio.CancelledError):
                    completed += isinstance(await first, CompletedImageEvent)
                with suppress(SubmissionIndeterminateError):
                    async for event in events:
                        completed += isinstance(event, CompletedImageEvent)
                    assert completed == 2


async def test_cancellation_between_two_events_says_that_it_may_be_billed(router: AsyncAppleRouter) -> None:
    raised: list[BaseException] = []

    async def read() -> None:
        try:
            async with stream(router) as events:
                await anext(events)
                read_one.set()
                await anyio.sleep_forever()
        except BaseException as error:
            raised.append(error)
            raise

    read_one = anyio.Event()
    async with anyio.create_task_group() as group:
        group.start_soon(read)
        await read_one.wait()
        group.cancel_scope.cancel()
    assert "may have been billed" in raised[0].__notes__[0]


async def test_an_error_of_the_caller_behind_the_last_image_is_unchanged(router: AsyncAppleRouter) -> None:
    async def fail() -> None:
        async with stream(router, partial_images=0) as events:
            await anext(events)
            raise KeyError

    with pytest.raises(KeyError) as caught:
        await fail()
    assert not hasattr(caught.value, "__notes__")
    assert interrupted(caught.value) is None


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"partial_images": 4}, "partial_images must be a whole number from 0 to 3, not 4"),
        ({"output_compression": 101}, "output_compression must be a whole number from 0 to 100, not 101"),
        ({"n": 0}, "n must be"),
        ({"model": None, "size": "1536x1024"}, "names no model has the limits of dall-e-2"),
        ({"model": "edit-qwen"}, "Qwen models do not take partial_images, stream"),
        ({"extra_body": {"stream": False}}, r"call the method stream\(\) instead"),
    ],
)
async def test_a_bad_argument_is_refused_before_anything_is_sent(
    router: AsyncAppleRouter, emulator: Emulator, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(InvalidArgumentError, match=said):
        await stream(router, **changes).__aenter__()
    assert not emulator.requests


@pytest.mark.parametrize("made", ["gif", "svg"])
async def test_the_service_refuses_to_stream_some_formats(router: AsyncAppleRouter, made: Any) -> None:
    with pytest.raises(APIStatusError, match="cannot be streamed"):
        await stream(router, output_format=made, partial_images=0).__aenter__()


async def test_an_unfit_image_is_refused_when_the_stream_is_entered(
    router: AsyncAppleRouter, emulator: Emulator
) -> None:
    with pytest.raises(ImageError, match=r"nowhere\.png"):
        await router.edits.stream("nowhere.png", "a red hat").__aenter__()
    assert not emulator.requests
