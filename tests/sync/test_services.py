"""The twins at work: every verb of both clients, blocking, against a running service."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import pytest
from PIL import Image as Pillow

from apimart_async import (
    BadRequestError,
    ImageError,
    InvalidArgumentError,
    Model,
    Poll,
    SubmissionIndeterminateError,
    TaskFailedError,
    prepare_png,
)
from apimart_async.emulator import Fault
from apimart_async.sync import Apimart, AppleRouter

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from apimart_async.emulator import Emulator


@pytest.fixture
def client(service: Emulator) -> Iterator[Apimart]:
    poll = Poll(first=0.02, shortest=0.02, longest=0.05)
    with Apimart(service.api_key, base_url=service.base_url, poll=poll) as connected:
        yield connected


@pytest.fixture
def router(service: Emulator) -> Iterator[AppleRouter]:
    with AppleRouter(service.api_key, base_url=service.base_url) as connected:
        yield connected


def test_the_original_workflow(
    client: Apimart, service: Emulator, photographs: dict[str, Path], tmp_path: Path
) -> None:
    seen: list[str] = []
    task = client.generations.run(
        "A starry sky over the same place",
        images=[photographs["rocket.jpg"]],
        model="gemini-3-pro-image-preview",
        size="16:9",
        on_update=lambda task: seen.append(task.status),
    )
    (path,) = client.images.save(task, tmp_path)
    assert path.stat().st_size
    assert seen[0] == "submitted"
    assert seen[-1] == "completed"
    assert service.ledger.entries[-1].task_id == task.id


def test_generations_submit_and_fail_as_their_twin(client: Apimart) -> None:
    task = client.generations.create("snow", n=2)
    assert len(client.tasks.wait(task).images) == 2
    with pytest.raises(TaskFailedError, match="moderat"):
        client.generations.run("moderated")
    with pytest.raises(InvalidArgumentError, match="prompt"):
        client.generations.create("")


def test_the_account(client: Apimart) -> None:
    balance = client.account.balance(scope="user")
    assert balance.remaining is not None
    assert balance.used is not None
    assert not balance.unlimited
    assert Model("dall-e-2") in client.account.models()


@pytest.mark.parametrize("response_format", ["url", "b64_json"])
def test_applerouter_edits_and_saves(
    router: AppleRouter, photographs: dict[str, Path], tmp_path: Path, response_format: object
) -> None:
    fitted = prepare_png(photographs["rocket.jpg"], 256)
    mask = Pillow.new("RGBA", (256, 256), (0, 0, 0, 0))
    result = router.edits.create(
        fitted,
        "a red hat",
        mask=mask,
        n=2,
        size="256x256",
        response_format=response_format,  # type: ignore[arg-type]
    )
    paths = router.images.save(result, tmp_path)
    assert len(paths) == 2
    assert router.images.read(result.images[0]) == paths[0].read_bytes()
    with Pillow.open(io.BytesIO(paths[1].read_bytes())) as picture:
        picture.load()


def test_applerouter_refuses_as_its_twin(
    router: AppleRouter, service: Emulator, photographs: dict[str, Path]
) -> None:
    before = len(service.requests)
    with pytest.raises(ImageError, match="prepare_png"):
        router.edits.create(photographs["chelsea.png"], "a red hat")
    assert len(service.requests) == before
    with pytest.raises(BadRequestError, match="safety system"):
        router.edits.create(prepare_png(photographs["rocket.jpg"], 256), "moderated")


def test_applerouter_never_sends_twice_what_is_not_certain(
    router: AppleRouter, service: Emulator, photographs: dict[str, Path]
) -> None:
    before = service.counts["applerouter"]
    service.faults.add(Fault(kind="disconnect", route="applerouter", executed=True))
    try:
        with pytest.raises(SubmissionIndeterminateError):
            router.edits.create(photographs["rocket.jpg"], "a red hat", model="another")
    finally:
        service.faults.clear()
    assert service.counts["applerouter"] == before + 1


def test_both_clients_are_named_at_the_top() -> None:
    import apimart_async

    assert apimart_async.Apimart is Apimart
    assert apimart_async.AppleRouter is AppleRouter
