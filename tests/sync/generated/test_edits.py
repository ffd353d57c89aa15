# Written by tests/sync/generate_tests.py from tests/resources/test_edits.py: change that file instead.

"""Edits: every form of image, arguments checked before money is spent, and waits."""

from __future__ import annotations
import base64
import io
from typing import TYPE_CHECKING, Any
import pytest
from PIL import Image as Pillow

from apimart_async import (
    Apimart,
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
from ..emulator import Emulator

if TYPE_CHECKING:
    from collections.abc import Iterator, Callable
    from pathlib import Path

QUICK = Poll(first=0.02, shortest=0.02, longest=0.05)


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    with Emulator(task_seconds=0.05, images="tiny") as running:
        yield running


@pytest.fixture
def client(emulator: Emulator) -> Iterator[Apimart]:
    with Apimart(emulator.api_key, base_url=emulator.base_url, poll=QUICK) as connected:
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
def test_every_form_of_image_is_edited(
    client: Apimart, emulator: Emulator, photographs: dict[str, Path], tmp_path: Path, kind: str
) -> None:
    task = client.edits.run(KINDS[kind](photographs["chelsea.png"]), "black and white", n=2)
    assert task.is_completed
    assert task.cost
    paths = client.images.save(task, tmp_path / "out")
    assert len(paths) == 2
    assert all(path.stat().st_size for path in paths)
    assert len(emulator.ledger.entries) == 1


def test_upload_is_reused_without_another_upload(
    client: Apimart, emulator: Emulator, photographs: dict[str, Path]
) -> None:
    upload = client.uploads.create(photographs["rocket.jpg"])
    assert upload.content_type == "image/jpeg"
    assert upload.filename == "rocket.jpg"
    first = client.edits.create(upload, "snow")
    second = client.edits.create(upload, "sunset")
    assert first.id != second.id
    assert sum(request.path == "/v1/uploads/images" for request in emulator.requests) == 1


def test_inline_images_are_sent_inside_the_request(
    client: Apimart, emulator: Emulator, photographs: dict[str, Path]
) -> None:
    for image in (photographs["chelsea.png"], as_data_url(photographs["chelsea.png"])):
        assert (client.edits.run(image, "snow", inline=True)).is_completed
    assert not [request for request in emulator.requests if "upload" in request.path]


def test_large_inline_image_arrives_whole(client: Apimart, emulator: Emulator) -> None:
    noise = Pillow.effect_noise((1600, 1600), 90)
    buffer = io.BytesIO()
    noise.save(buffer, "PNG")
    assert buffer.tell() > 2_000_000
    assert (client.edits.run(buffer.getvalue(), "snow", inline=True)).is_completed
    assert len(emulator.ledger.entries) == 1


@pytest.mark.parametrize("extra", [{"extra_headers": {"X-A": "a\nb"}}, {"extra_body": {"seed": {1, 2}}}])
def test_extra_arguments_are_checked_before_an_upload(
    client: Apimart, emulator: Emulator, extra: dict[str, Any]
) -> None:
    with pytest.raises(InvalidArgumentError):
        client.edits.create(b"GIF89a" + bytes(40), "stars", **extra)
    assert not emulator.requests


def test_moderated_prompt_fails_the_task_without_cost(client: Apimart, emulator: Emulator) -> None:
    with pytest.raises(TaskFailedError, match="moderat") as caught:
        client.edits.run("https://pictures.example/a.png", "moderated")
    assert caught.value.task
    assert caught.value.task_id == caught.value.task.id
    assert caught.value.idempotency_key == caught.value.task.idempotency_key
    assert emulator.ledger.total == 0


def test_timed_out_wait_can_be_continued(photographs: dict[str, Path]) -> None:
    with Emulator(task_seconds=lambda _: 36_000, images="tiny") as emulator:
        with Apimart(emulator.api_key, base_url=emulator.base_url, poll=QUICK) as client:
            with pytest.raises(TaskTimeoutError) as caught:
                client.edits.run(photographs["chelsea.png"], "stars", timeout=0.1)
            assert caught.value.task
            assert caught.value.task.id == caught.value.task_id
            emulator.advance(36_000)
            assert (client.tasks.wait(caught.value.task)).is_completed
        assert len(emulator.ledger.entries) == 1


def test_unknown_task_has_expired(client: Apimart) -> None:
    with pytest.raises(TaskExpiredError, match="task_nobody"):
        client.tasks.wait("task_nobody")
    for bad in ("", " "):
        with pytest.raises(InvalidArgumentError):
            client.tasks.get(bad)
    with pytest.raises(InvalidArgumentError, match="language"):
        client.tasks.get("task_1", language="xx")
    with pytest.raises(InvalidArgumentError, match="timeout"):
        client.tasks.wait("task_1", timeout=0)


def test_hostile_task_id_stays_in_one_path_segment(client: Apimart, emulator: Emulator) -> None:
    with pytest.raises(TaskExpiredError):
        client.tasks.wait("../v1/balance?x=1#")
    assert all(request.path.startswith("/v1/tasks/") for request in emulator.requests)


@pytest.mark.parametrize("timeout", [0, -1.0])
def test_a_wait_without_time_is_refused_before_anything_is_paid(
    client: Apimart, emulator: Emulator, timeout: float
) -> None:
    gif = b"GIF89a" + bytes([1, 0, 1, 0, 0, 0, 0, 0x3B])
    with pytest.raises(InvalidArgumentError, match="timeout must be more than 0"):
        client.edits.run(gif, "snow", timeout=timeout)
    with pytest.raises(InvalidArgumentError, match="timeout must be more than 0"):
        client.generations.run("snow", timeout=timeout)
    assert emulator.requests == ()


def test_an_edit_goes_to_the_endpoint_of_its_model(client: Apimart, emulator: Emulator) -> None:
    for model in ("gpt-image-2", "grok-imagine-1.5-edit-apimart"):
        task = client.edits.run("https://pictures.example/a.png", "stars", model=model, n=2)
        assert len(task.images) == 2
    assert [(entry.endpoint, entry.model) for entry in emulator.ledger.entries] == [
        ("generations", "gpt-image-2"),
        ("edits", "grok-imagine-1.5-edit-apimart"),
    ]
