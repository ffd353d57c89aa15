"""Edits: every form of image, arguments checked before money is spent, and waits."""

from __future__ import annotations

import asyncio
import base64
import io
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from PIL import Image as Pillow

from apimart_async import (
    AsyncApimart,
    ImageError,
    ImageTooLargeError,
    InvalidArgumentError,
    Limits,
    Poll,
    Task,
    TaskExpiredError,
    TaskFailedError,
    TaskTimeoutError,
    UnsupportedImageError,
)
from apimart_async.emulator import Emulator

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

QUICK = Poll(first=0.02, shortest=0.02, longest=0.05)


@pytest.fixture
async def emulator() -> AsyncIterator[Emulator]:
    async with Emulator(task_seconds=0.05, images="tiny") as running:
        yield running


@pytest.fixture
async def client(emulator: Emulator) -> AsyncIterator[AsyncApimart]:
    async with AsyncApimart(emulator.api_key, base_url=emulator.base_url, poll=QUICK) as connected:
        yield connected


def as_data_url(path: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()


KINDS: dict[str, Callable[[Path], Any]] = {
    "a path as text": str,
    "a path": lambda path: path,
    "bytes": lambda path: path.read_bytes(),
    "a bytearray": lambda path: bytearray(path.read_bytes()),
    "a memoryview": lambda path: memoryview(path.read_bytes()),
    "a binary file": lambda path: io.BytesIO(path.read_bytes()),
    "a Pillow image": Pillow.open,
    "a data: URL": as_data_url,
    "an https:// URL": lambda _: "https://pictures.example/a.png",
    "a list": lambda path: [path],
    "a mixed tuple": lambda path: (path, path.read_bytes(), "https://pictures.example/a.png"),
}


@pytest.mark.parametrize("kind", KINDS)
async def test_every_form_of_image_is_edited(
    client: AsyncApimart, emulator: Emulator, photographs: dict[str, Path], tmp_path: Path, kind: str
) -> None:
    task = await client.edits.run(KINDS[kind](photographs["chelsea.png"]), "black and white", n=2)
    assert task.is_completed
    assert task.cost
    paths = await client.images.save(task, tmp_path / "out")
    assert len(paths) == 2
    assert all(path.stat().st_size for path in paths)
    assert len(emulator.ledger.entries) == 1


async def test_upload_is_reused_without_another_upload(
    client: AsyncApimart, emulator: Emulator, photographs: dict[str, Path]
) -> None:
    upload = await client.uploads.create(photographs["rocket.jpg"])
    assert upload.content_type == "image/jpeg"
    assert upload.filename == "rocket.jpg"
    first = await client.edits.create(upload, "snow")
    second = await client.edits.create(upload, "sunset")
    assert first.id != second.id
    assert sum(request.path == "/v1/uploads/images" for request in emulator.requests) == 1


async def test_inline_images_are_sent_inside_the_request(
    client: AsyncApimart, emulator: Emulator, photographs: dict[str, Path]
) -> None:
    for image in (photographs["chelsea.png"], as_data_url(photographs["chelsea.png"])):
        assert (await client.edits.run(image, "snow", inline=True)).is_completed
    assert not [request for request in emulator.requests if "upload" in request.path]


async def test_large_inline_image_arrives_whole(client: AsyncApimart, emulator: Emulator) -> None:
    noise = Pillow.effect_noise((1600, 1600), 90)
    buffer = io.BytesIO()
    noise.save(buffer, "PNG")
    assert buffer.tell() > 2_000_000
    assert (await client.edits.run(buffer.getvalue(), "snow", inline=True)).is_completed
    assert len(emulator.ledger.entries) == 1


WRONG: dict[str, tuple[dict[str, Any], type[InvalidArgumentError], str]] = {
    "n of 0": ({"n": 0}, InvalidArgumentError, "n must be a whole number from 1 to 10, not 0"),
    "n of 11": ({"n": 11}, InvalidArgumentError, "not 11"),
    "n as a text": ({"n": "2"}, InvalidArgumentError, "not '2'"),
    "n as a bool": ({"n": True}, InvalidArgumentError, "not True"),
    "n as a float": ({"n": 2.0}, InvalidArgumentError, "not 2.0"),
    "an empty prompt": ({"prompt": ""}, InvalidArgumentError, "prompt"),
    "a blank prompt": ({"prompt": " \n"}, InvalidArgumentError, "prompt"),
    "no prompt": ({"prompt": None}, InvalidArgumentError, "prompt"),
    "half a surrogate pair": ({"prompt": "sun \ud800"}, InvalidArgumentError, "surrogate"),
    "an empty model": ({"model": ""}, InvalidArgumentError, "model"),
    "no images": ({"image": []}, ImageError, "image"),
    "an empty image": ({"image": b""}, ImageError, "empty"),
    "a missing file": ({"image": "nowhere.jpg"}, ImageError, "nowhere.jpg"),
    "a text": ({"image": b"hello, world, this is no image"}, UnsupportedImageError, "JPEG, PNG, WebP"),
    "a PDF": ({"image": b"%PDF-1.7 and so on"}, UnsupportedImageError, "PDF"),
    "too large": ({"image": f"data:image/png,{'A' * 70_000_000}"}, ImageTooLargeError, "20,971,52"),
    "one bad of many": ({"image": [b"GIF89a" + bytes(40), "nowhere.jpg"]}, ImageError, "nowhere.jpg"),
    "a strange scheme": ({"image": "ftp://pictures.example/a.png"}, UnsupportedImageError, "ftp"),
    "a number": ({"image": 7}, ImageError, "int"),
    "a bad key": ({"idempotency_key": "two words"}, InvalidArgumentError, "idempotency_key"),
    "a long key": ({"idempotency_key": "k" * 192}, InvalidArgumentError, "191"),
    "a bad header": ({"extra_headers": {"X-A": "a\r\nb: c"}}, InvalidArgumentError, "X-A"),
    "a key as a header": (
        {"extra_headers": {"idempotency-Key": "k"}},
        InvalidArgumentError,
        "pass idempotency_key to the request",
    ),
    "a length of its own": ({"extra_headers": {"Content-Length": "3"}}, InvalidArgumentError, "the body"),
    "not JSON": ({"extra_body": {"seed": {1, 2}}}, InvalidArgumentError, "JSON"),
    "not a number": ({"extra_body": {"seed": float("nan")}}, InvalidArgumentError, "JSON"),
}


@pytest.mark.parametrize("case", WRONG)
async def test_invalid_argument_is_refused_before_anything_is_sent(
    client: AsyncApimart, emulator: Emulator, case: str
) -> None:
    changes, kind, said = WRONG[case]
    arguments = {"image": "https://pictures.example/a.png", "prompt": "stars"} | changes
    with pytest.raises(kind, match=said):
        await client.edits.create(**arguments)
    assert not emulator.requests
    assert not emulator.ledger.entries


@pytest.mark.parametrize("extra", [{"extra_headers": {"X-A": "a\nb"}}, {"extra_body": {"seed": {1, 2}}}])
async def test_extra_arguments_are_checked_before_an_upload(
    client: AsyncApimart, emulator: Emulator, extra: dict[str, Any]
) -> None:
    with pytest.raises(InvalidArgumentError):
        await client.edits.create(b"GIF89a" + bytes(40), "stars", **extra)
    assert not emulator.requests


async def test_moderated_prompt_fails_the_task_without_cost(client: AsyncApimart, emulator: Emulator) -> None:
    with pytest.raises(TaskFailedError, match="moderat") as caught:
        await client.edits.run("https://pictures.example/a.png", "moderated")
    assert caught.value.task
    assert caught.value.task_id == caught.value.task.id
    assert caught.value.idempotency_key == caught.value.task.idempotency_key
    assert emulator.ledger.total == 0


async def test_timed_out_wait_can_be_continued(photographs: dict[str, Path]) -> None:
    async with Emulator(task_seconds=lambda _: 36_000, images="tiny") as emulator:
        async with AsyncApimart(emulator.api_key, base_url=emulator.base_url, poll=QUICK) as client:
            with pytest.raises(TaskTimeoutError) as caught:
                await client.edits.run(photographs["chelsea.png"], "stars", timeout=0.1)
            assert caught.value.task
            assert caught.value.task.id == caught.value.task_id
            emulator.advance(36_000)
            assert (await client.tasks.wait(caught.value.task)).is_completed
        assert len(emulator.ledger.entries) == 1


async def test_cancelled_run_names_its_task(client: AsyncApimart, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "apimart_async")
    submitted = asyncio.Queue[str]()

    def note(task: Task) -> None:
        submitted.put_nowait(str(task.id))

    running = asyncio.create_task(client.edits.run("https://pictures.example/a.png", "stars", on_update=note))
    task_id = await submitted.get()
    running.cancel()
    with pytest.raises(asyncio.CancelledError) as caught:
        await running
    assert task_id in "".join(caught.value.__notes__)
    assert task_id in caplog.text
    assert (await client.tasks.wait(task_id)).is_completed


async def test_unknown_task_has_expired(client: AsyncApimart) -> None:
    with pytest.raises(TaskExpiredError, match="task_nobody"):
        await client.tasks.wait("task_nobody")
    for bad in ("", " "):
        with pytest.raises(InvalidArgumentError):
            await client.tasks.get(bad)
    with pytest.raises(InvalidArgumentError, match="language"):
        await client.tasks.get("task_1", language="xx")
    with pytest.raises(InvalidArgumentError, match="timeout"):
        await client.tasks.wait("task_1", timeout=0)


async def test_hostile_task_id_stays_in_one_path_segment(client: AsyncApimart, emulator: Emulator) -> None:
    with pytest.raises(TaskExpiredError):
        await client.tasks.wait("../v1/balance?x=1#")
    assert all(request.path.startswith("/v1/tasks/") for request in emulator.requests)


class Relay:
    """Stands between a client and a service and counts connections."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.now = 0
        self.most = 0

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.now += 1
        self.most = max(self.most, self.now)
        behind_reader, behind_writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            await asyncio.gather(pipe(reader, behind_writer), pipe(behind_reader, writer))
        finally:
            self.now -= 1


async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while piece := await reader.read(65536):
            writer.write(piece)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()


async def test_hundred_concurrent_edits_keep_the_connection_limit(
    emulator: Emulator, photographs: dict[str, Path], tmp_path: Path
) -> None:
    relay = Relay(int(emulator.base_url.rsplit(":", 1)[1]))
    server = await asyncio.start_server(relay, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    saved: list[Path] = []
    async with AsyncApimart(
        emulator.api_key, base_url=url, poll=QUICK, limits=Limits(connections=8)
    ) as client:

        async def edit(number: int) -> None:
            task = await client.edits.run(photographs["chelsea.png"], f"stars, take {number}")
            saved.extend(await client.images.save(task, tmp_path))

        async with anyio.create_task_group() as group:
            for number in range(100):
                group.start_soon(edit, number)
    server.close()
    assert len(set(saved)) == 100
    assert len(emulator.ledger.entries) == 100
    assert not emulator.ledger.billed_more_than_once
    assert 8 <= relay.most <= 24  # idle ones for polls, paid requests and files are kept apart


@pytest.mark.parametrize("timeout", [0, -1.0])
async def test_a_wait_without_time_is_refused_before_anything_is_paid(
    client: AsyncApimart, emulator: Emulator, timeout: float
) -> None:
    gif = b"GIF89a" + bytes([1, 0, 1, 0, 0, 0, 0, 0x3B])
    with pytest.raises(InvalidArgumentError, match="timeout must be more than 0"):
        await client.edits.run(gif, "snow", timeout=timeout)
    with pytest.raises(InvalidArgumentError, match="timeout must be more than 0"):
        await client.generations.run("snow", timeout=timeout)
    assert emulator.requests == ()


async def test_an_edit_goes_to_the_endpoint_of_its_model(client: AsyncApimart, emulator: Emulator) -> None:
    for model in ("gpt-image-2", "grok-imagine-1.5-edit-apimart"):
        task = await client.edits.run("https://pictures.example/a.png", "stars", model=model, n=2)
        assert len(task.images) == 2
    assert [(entry.endpoint, entry.model) for entry in emulator.ledger.entries] == [
        ("generations", "gpt-image-2"),
        ("edits", "grok-imagine-1.5-edit-apimart"),
    ]
