"""Uses of the public interface, for the type checkers: this file is checked, not run."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from io import BytesIO
from pathlib import Path
from typing import assert_type

from PIL import Image as PillowImage

from apimart_async import (
    AsyncApimart,
    AsyncAppleRouter,
    Balance,
    ImageSet,
    Job,
    Model,
    Outcome,
    Task,
    Upload,
    edit_many,
    run_many,
)
from apimart_async import sync as blocking_twins
from apimart_async.sync import Apimart, AppleRouter


async def edit(client: AsyncApimart) -> None:
    assert_type(await client.uploads.create("photo.jpg"), Upload)
    assert_type(await client.edits.create("photo.jpg", "prompt"), Task)
    assert_type(await client.edits.run("photo.jpg", "prompt", model="model", n=2, timeout=600), Task)


async def generate_and_count(client: AsyncApimart) -> None:
    assert_type(await client.generations.create("prompt", size="16:9", resolution="2k"), Task)
    assert_type(await client.generations.run("prompt", images=["photo.jpg"], model="model"), Task)
    assert_type(await client.account.balance(), Balance)
    assert_type(await client.account.models(), list[Model])


async def apple_router(client: AsyncAppleRouter, twin: AppleRouter) -> None:
    result = await client.edits.create("photo.png", "prompt", mask="mask.png", n=2)
    assert_type(result, ImageSet)
    assert_type(await client.images.save(result, "out/"), list[Path])
    assert_type(twin.edits.create("photo.png", "prompt", response_format="b64_json"), ImageSet)


async def batch(client: AsyncApimart, router: AsyncAppleRouter, jobs: AsyncIterator[Job]) -> None:
    async with edit_many(client, jobs, output="out/", max_cost=5.0) as outcomes:
        async for outcome in outcomes:
            assert_type(outcome, Outcome)
            assert_type(outcome.paths, tuple[Path, ...])
    async with edit_many(router, [Job("photo.png", "prompt")], output=Path("out"), in_doubt="resubmit"):
        pass
    async with run_many(client, [Job(prompt="prompt")], output="out/") as outcomes:
        assert_type(await anext(outcomes), Outcome)


def blocking_batch(client: Apimart, jobs: Iterator[Job]) -> None:
    with blocking_twins.run_many(client, [Job("photo.jpg", operation="segment")], output="out/") as outcomes:
        assert_type(next(iter(outcomes)), Outcome)
    with blocking_twins.edit_many(client, jobs, output="out/", on_progress=print) as outcomes:
        for outcome in outcomes:
            assert_type(outcome, Outcome)


async def wait(client: AsyncApimart, task: Task) -> None:
    assert_type(await client.tasks.get(task.id), Task)
    assert_type(await client.tasks.wait(task, timeout=600), Task)
    assert_type(await client.tasks.wait(task.id), Task)
    async with client.tasks.watch([task, task.id]) as finished:
        async for done in finished:
            assert_type(done, Task)
    assert_type(await client.images.save(task, Path("out")), list[Path])
    assert_type(await client.images.read(task.images[0]), bytes)


async def open_and_close() -> None:
    async with AsyncApimart("key", base_url="https://example.org", max_retries=2) as client:
        assert_type(client, AsyncApimart)
        assert_type(client.with_options(max_retries=0), AsyncApimart)
        assert_type(await client.close(), None)


async def every_kind_of_image(client: AsyncApimart, upload: Upload, image: PillowImage.Image) -> None:
    for one in (
        "photo.jpg",
        Path("photo.jpg"),
        b"bytes",
        BytesIO(),
        ("photo.jpg", b"bytes", "image/jpeg"),
        ("photo.jpg", BytesIO(), None),
        upload,
        image,
        "https://example.org/a.png",
    ):
        await client.edits.create(one, "prompt")
    await client.edits.create(["photo.jpg", upload, image], "prompt")


def blocking(task: Task) -> None:
    with Apimart() as client:
        assert_type(client, Apimart)
        assert_type(client.edits.run("photo.jpg", "prompt"), Task)
        assert_type(client.tasks.wait(task), Task)
        assert_type(client.images.save(task, "out/"), list[Path])
        with client.tasks.watch([task]) as finished:
            for done in finished:
                assert_type(done, Task)


def clients_are_context_managers(client: AsyncApimart, twin: Apimart) -> None:
    _async: AbstractAsyncContextManager[AsyncApimart] = client
    _blocking: AbstractContextManager[Apimart] = twin
