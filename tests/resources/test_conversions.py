"""Pictures that the service refuses as they are, through a client: converted, told, and paid for once."""

from __future__ import annotations

import io
import logging
import random
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image as Pillow

from apimart_async import (
    AsyncApimart,
    AsyncAppleRouter,
    ImageError,
    Job,
    Media,
    Poll,
    UnsupportedImageError,
    edit_many,
)
from apimart_async.emulator import Emulator

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

QUICK = Poll(first=0.02, shortest=0.02, longest=0.05)


@pytest.fixture
async def emulator() -> AsyncIterator[Emulator]:
    async with Emulator(task_seconds=0.02, images="tiny") as running:
        yield running


def connect(emulator: Emulator, **media: Any) -> AsyncApimart:
    return AsyncApimart(emulator.api_key, base_url=emulator.base_url, poll=QUICK, media=Media(**media))


def scan(directory: Path, name: str = "scan.tiff") -> Path:
    path = directory / name
    Pillow.linear_gradient("L").convert("RGB").save(path, "TIFF")
    return path


def photo(directory: Path) -> Path:
    """Write a HEIC photo on its side, as telephones do."""
    pillow_heif = pytest.importorskip("pillow_heif")
    exif = Pillow.Exif()
    exif[0x0112] = 6
    picture = Pillow.linear_gradient("L").convert("RGB").resize((80, 40))
    path = directory / "photo.heic"
    pillow_heif.from_pillow(picture).save(path, exif=exif.tobytes())
    return path


def large(directory: Path) -> Path:
    """Write a PNG of 27 MB."""
    path = directory / "large.png"
    noise = random.Random(1).randbytes(3000 * 3000 * 3)
    Pillow.frombytes("RGB", (3000, 3000), noise).save(path, compress_level=0)
    assert path.stat().st_size > 20_971_520
    return path


MADE: dict[str, tuple[Callable[[Path], Path], str]] = {
    "photo.heic": (photo, "photo.heic was converted from a HEIC photo to JPEG."),
    "scan.tiff": (scan, "scan.tiff was converted from a TIFF image to JPEG."),
    "large.png": (large, "large.png was converted from a PNG image to JPEG."),
}


@pytest.mark.parametrize("name", MADE)
async def test_upload_is_converted_and_the_log_and_the_caller_are_told(
    emulator: Emulator,
    tmp_path: Path,
    name: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    caplog.set_level(logging.INFO, logger="apimart_async")
    make, line = MADE[name]
    make(tmp_path)
    monkeypatch.chdir(tmp_path)
    told: list[str] = []
    async with connect(emulator, on_convert=told.append) as client:
        upload = await client.uploads.create(name)
    assert (upload.content_type, upload.filename) == ("image/jpeg", name.rpartition(".")[0] + ".jpg")
    assert upload.bytes <= 20_971_520
    assert told == [line]
    assert [record.getMessage() for record in caplog.records if record.levelno == logging.INFO] == [line]


@pytest.mark.parametrize("inline", [False, True])
async def test_edit_of_a_photo_is_upright(tmp_path: Path, inline: bool) -> None:  # noqa: FBT001
    path = photo(tmp_path)
    async with Emulator(task_seconds=0.02) as emulator, connect(emulator) as client:
        task = await client.edits.run([path, scan(tmp_path)], "stars", inline=inline)
        result = await client.images.read(task.images[0])
    assert Pillow.open(io.BytesIO(result)).height > Pillow.open(io.BytesIO(result)).width


async def test_references_and_masks_of_a_generation_are_converted(emulator: Emulator, tmp_path: Path) -> None:
    async with connect(emulator) as client:
        task = await client.generations.create("stars", images=photo(tmp_path), mask=scan(tmp_path))
    assert task.id


async def test_client_that_converts_nothing_refuses_before_anything_is_sent(
    emulator: Emulator, tmp_path: Path
) -> None:
    async with connect(emulator, convert="never") as client:
        for path in (photo(tmp_path), scan(tmp_path), large(tmp_path)):
            with pytest.raises(ImageError, match="can be sent"):
                await client.uploads.create(path)
            with pytest.raises(ImageError, match="can be sent"):
                await client.edits.create([b"GIF89a" + bytes(40), path], "stars")
        assert not emulator.requests
        await client.with_options(media=Media()).uploads.create(scan(tmp_path))
    assert len(emulator.requests) == 1


async def test_damaged_picture_is_an_image_error_and_nothing_is_paid(
    emulator: Emulator, tmp_path: Path
) -> None:
    path = scan(tmp_path)
    path.write_bytes(path.read_bytes()[:100])
    async with connect(emulator) as client:
        with pytest.raises(UnsupportedImageError, match="cannot be decoded"):
            await client.edits.run(path, "stars")
    assert not emulator.ledger.entries


async def test_applerouter_takes_converted_pictures(emulator: Emulator, tmp_path: Path) -> None:
    path = scan(tmp_path)
    async with AsyncAppleRouter(emulator.api_key, base_url=emulator.base_url) as router:
        assert (await router.edits.create(path, "stars", model="gpt-image-2")).images
        with pytest.raises(UnsupportedImageError, match="not a PNG; dall-e-2"):
            await router.edits.create(path, "stars")
        never = router.with_options(media=Media(convert="never"))
        with pytest.raises(UnsupportedImageError, match="TIFF"):
            await never.edits.create(path, "stars", model="gpt-image-2")
    assert len(emulator.ledger.entries) == 1


async def test_job_of_a_batch_keeps_its_id_with_another_encoder(
    emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = [Job(scan(tmp_path), "stars"), Job(Pillow.linear_gradient("L"), "stars")]
    output = tmp_path / "out"
    async with connect(emulator) as client, edit_many(client, jobs, output=output) as outcomes:
        first = {outcome.id: outcome.status async for outcome in outcomes}
    for name in ("JPEG", "PNG"):
        encode = Pillow.SAVE[name]

        def changed(image: Pillow.Image, file: Any, path: str, encode: Any = encode) -> None:
            image.encoderinfo |= {"quality": 50, "compress_level": 1}
            encode(image, file, path)

        monkeypatch.setitem(Pillow.SAVE, name, changed)
    async with connect(emulator) as client, edit_many(client, jobs, output=output) as outcomes:
        assert {outcome.id: outcome.status async for outcome in outcomes} == first
    assert set(first.values()) == {"saved"}
    assert len(emulator.ledger.entries) == 2


async def test_picture_of_many_jobs_is_converted_once(emulator: Emulator, tmp_path: Path) -> None:
    path, told = scan(tmp_path), list[str]()
    jobs = [Job(path, f"stars {number}") for number in range(5)]
    async with (
        connect(emulator, on_convert=told.append) as client,
        edit_many(client, jobs, output=tmp_path / "out") as outcomes,
    ):
        assert [outcome.status async for outcome in outcomes] == ["saved"] * 5
    assert len(told) == 1


async def test_batch_of_a_client_that_converts_nothing_pays_nothing(
    emulator: Emulator, tmp_path: Path
) -> None:
    jobs = [Job(scan(tmp_path), "stars")]
    async with (
        connect(emulator, convert="never") as client,
        edit_many(client, jobs, output=tmp_path / "out") as outcomes,
    ):
        (outcome,) = [outcome async for outcome in outcomes]
    assert (outcome.status, type(outcome.error)) == ("failed", UnsupportedImageError)
    assert {seen.route for seen in emulator.requests} == {"catalogue"}


def test_another_policy_is_refused() -> None:
    with pytest.raises(ValueError, match="convert"):
        Media(convert="maybe")  # type: ignore[arg-type]
