"""Inputs and results in S3: whole or not visible, resumed, and without a credential anywhere."""

from __future__ import annotations

import asyncio
import json
import logging
import pickle
import runpy
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import anyio.abc
import pytest
from anyio import to_thread

from apimart_async import AsyncApimart, DownloadError, Image, ImageError, Job, edit_many
from apimart_async.batch import read_outcomes
from apimart_async.fleet import Fleet
from apimart_async.transport.concurrency import for_each
from apimart_async.transport.files import objects
from apimart_async.transport.object_storage import store_of
from tests.transport.conftest import RawServer, png_of
from tests.transport.test_inputs import picture

from .conftest import ACCESS_KEY, SECRET_KEY, Bucket

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator

    from apimart_async import Outcome
    from apimart_async.emulator import Emulator
    from tests.transport.conftest import Exchange

# The bucket is looked at by blocking requests.
pytestmark = pytest.mark.may_block

LARGE = png_of(bytes(range(256)) * 50_000)  # of three parts
SAVE = Path(__file__).with_name("save_image.py")
MEBIBYTE = 1024 * 1024


@pytest.fixture
async def host() -> AsyncIterator[RawServer]:
    """A host of result files."""
    running = RawServer()
    listener = await asyncio.start_server(running.serve, "127.0.0.1", 0)
    running.base_url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    yield running
    # From Python 3.12 on, `async with` would wait for the connections, which the client may keep.
    listener.close()


async def upload_of(bucket: Bucket) -> None:
    """Wait until the bucket has parts of an unfinished upload."""
    while not await to_thread.run_sync(bucket.uploads):  # noqa: ASYNC110 the server has no events
        await anyio.sleep(0.05)


async def run(client: AsyncApimart, jobs: Iterable[Job], bucket: Bucket, journal: Path) -> list[Outcome]:
    async with edit_many(client, jobs, output=str(bucket.folder), journal=journal) as outcomes:
        return [outcome async for outcome in outcomes]


async def test_bucket_is_edited_into_a_bucket_and_resumed(
    client: AsyncApimart, emulator: Emulator, bucket: Bucket, tmp_path: Path
) -> None:
    sources = [bucket.put(f"in/{name}.png", picture(size=16)) for name in ("a", "b", "c")]
    jobs = [Job(url, "Add snow", name=Path(url).stem) for url in sources]
    outcomes = await run(client, jobs, bucket, tmp_path / "j.sqlite3")
    results = ["out/a.jpg", "out/b.jpg", "out/c.jpg", "out/results.jsonl"]
    assert bucket.keys() == ["in/a.png", "in/b.png", "in/c.png", *results]
    assert {str(path) for outcome in outcomes for path in outcome.paths} == {
        f"s3://{bucket.name}/out/{name}.jpg" for name in "abc"
    }
    downloads = emulator.counts["files"]
    again = await run(client, jobs, bucket, tmp_path / "j.sqlite3")
    assert {outcome.status for outcome in again} == {"saved"}
    assert emulator.counts["files"] == downloads
    store_of(bucket.folder).delete("out/b.jpg")
    await run(client, jobs, bucket, tmp_path / "j.sqlite3")
    assert bucket.keys()[3:] == results
    assert len(emulator.ledger.entries) == 3
    assert bucket.uploads() == 0


async def test_equal_objects_of_one_name_have_a_row_each(
    client: AsyncApimart, emulator: Emulator, bucket: Bucket, tmp_path: Path
) -> None:
    """The first object is still there, so the second one is not the first under its new key."""
    content = picture(size=16)
    jobs = [Job(bucket.put(f"in/{folder}/a.png", content), "Snow", name="a") for folder in "xy"]
    for _ in range(2):
        outcomes = await run(client, jobs, bucket, tmp_path / "j.sqlite3")
        assert [outcome.status for outcome in outcomes] == ["saved", "saved"]
        rows = (bucket.folder / "results.jsonl").read_bytes().splitlines()
        assert {json.loads(row)["image"] for row in rows} == {job.image for job in jobs}
    assert len(emulator.ledger.entries) == 1


async def test_a_store_that_is_gone_ends_the_batch_before_all_jobs_are_paid_for(
    client: AsyncApimart, emulator: Emulator, bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = picture(size=16)
    jobs = [Job(content, f"Snow {number}") for number in range(40)]
    journal = tmp_path / "j.sqlite3"

    async def run_until_gone() -> None:
        batch = edit_many(
            client,
            jobs,
            output=str(bucket.folder),
            journal=journal,
            max_in_flight=2,
            max_uploads=2,
            max_downloads=2,
        )
        async with batch as outcomes:
            async for _ in outcomes:
                monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")

    with pytest.raises(DownloadError, match="see to it that the output folder can be written"):
        await run_until_gone()
    assert len(emulator.ledger.entries) < 30
    monkeypatch.setenv("AWS_ENDPOINT_URL", bucket.server)
    outcomes = await run(client, jobs, bucket, journal)
    assert {outcome.status for outcome in outcomes} == {"saved"}
    assert len(emulator.ledger.entries) == 40


async def test_large_image_is_several_parts_and_compared_with_its_namesakes(
    client: AsyncApimart, host: RawServer, bucket: Bucket
) -> None:
    other = png_of(bytes(range(255, -1, -1)) * 50_000)

    async def handle(exchange: Exchange) -> None:
        seen = await exchange.read()
        await exchange.answer({"/1": LARGE, "/2": other}[seen.path])

    host.handle = handle
    first, second = (Image(f"{host.base_url}/{number}") for number in (1, 2))
    await for_each(lambda image: client.images.save(image, bucket.folder, name="a"), (first, second))
    await for_each(lambda image: client.images.save(image, bucket.folder, name="a"), (second, first))
    assert bucket.keys() == ["out/a-2.png", "out/a.png"]
    assert {(bucket.folder / name).read_bytes() for name in ("a.png", "a-2.png")} == {LARGE, other}
    assert bucket.uploads() == 0


async def test_cancellation_aborts_an_upload(client: AsyncApimart, host: RawServer, bucket: Bucket) -> None:
    async def handle(exchange: Exchange) -> None:
        await exchange.read()
        await send_most(exchange)
        await anyio.sleep_forever()

    host.handle = handle
    async with anyio.create_task_group() as group:
        group.start_soon(client.images.save, Image(f"{host.base_url}/1"), bucket.folder)
        await upload_of(bucket)
        group.cancel_scope.cancel()
    assert bucket.keys() == []
    assert bucket.uploads() == 0


async def test_cut_image_aborts_an_upload(client: AsyncApimart, host: RawServer, bucket: Bucket) -> None:
    async def handle(exchange: Exchange) -> None:
        await exchange.read()
        await exchange.answer(LARGE[:-20])

    host.handle = handle
    with pytest.raises(DownloadError, match="cut short"):
        await client.with_options(max_retries=0).images.save(Image(f"{host.base_url}/1"), bucket.folder)
    assert bucket.keys() == []
    assert bucket.uploads() == 0


async def test_process_that_is_killed_leaves_no_visible_object(host: RawServer, bucket: Bucket) -> None:
    ended_check = anyio.Event()

    async def handle(exchange: Exchange) -> None:
        await exchange.read()
        ended_check.set()
        await send_most(exchange)
        await anyio.sleep_forever()

    host.handle = handle
    async with await anyio.open_process(
        [sys.executable, str(SAVE), f"{host.base_url}/1", str(bucket.folder)]
    ) as process:
        async with anyio.create_task_group() as group:
            group.start_soon(_fail_at_end, process)
            await ended_check.wait()
            await upload_of(bucket)
            group.cancel_scope.cancel()
        process.kill()
    assert bucket.keys() == []
    # The store keeps the parts until a lifecycle rule of the bucket removes them.
    assert bucket.uploads() == 1


async def _fail_at_end(process: anyio.abc.Process) -> None:
    pytest.fail(f"ended with {await process.wait()}")


async def send_most(exchange: Exchange) -> None:
    exchange.writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(LARGE))
    exchange.writer.write(LARGE[:-1000])
    await exchange.writer.drain()


async def test_image_of_200_megabytes_takes_little_memory(host: RawServer, bucket: Bucket) -> None:
    filling, count = bytes(range(256)) * 4096, 200
    head, _, end = png_of(filling * 2).partition(filling * 2)
    chunk_start = head[:-8] + (count * len(filling)).to_bytes(4) + head[-4:]

    async def handle(exchange: Exchange) -> None:
        await exchange.read()
        length = len(chunk_start) + count * len(filling) + len(end)
        exchange.writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (length, chunk_start))
        for _ in range(count):
            exchange.writer.write(filling)
            await exchange.writer.drain()
        exchange.writer.write(end)
        await exchange.writer.drain()

    host.handle = handle
    command = [sys.executable, str(SAVE), f"{host.base_url}/1", str(bucket.folder)]
    done = await anyio.run_process(command)
    assert bucket.keys() == ["out/large.png"]
    # It takes about 19 MiB; an image that was collected first would take 200.
    assert int(done.stdout) * 1024 < 60 * MEBIBYTE, done.stdout


async def test_missing_credentials_are_found_before_anything_is_sent(
    client: AsyncApimart, emulator: Emulator, bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(DownloadError, match=r"no credentials in the environment\. Nothing was submitted"):
        await run(client, [Job(picture(), "Add snow")], bucket, tmp_path / "j.sqlite3")
    with pytest.raises(ImageError, match="no credentials in the environment"):
        await client.edits.run(f"s3://{bucket.name}/a.png", "Add snow")
    assert not emulator.counts["uploads"]
    assert not emulator.ledger.entries


@pytest.mark.parametrize("refused", ["PUT", "POST", "HEAD"])
async def test_refusal_of_the_bucket_is_found_before_anything_is_sent(
    client: AsyncApimart,
    emulator: Emulator,
    bucket: Bucket,
    tmp_path: Path,
    refused: str,
) -> None:
    bucket.refuse(refused)
    with pytest.raises(DownloadError, match=r"access is denied\. Nothing was submitted"):
        await run(client, [Job(picture(), "Add snow")], bucket, tmp_path / "j.sqlite3")
    assert not emulator.counts["uploads"]


async def test_missing_bucket_is_found_before_anything_is_sent(
    client: AsyncApimart, emulator: Emulator, server: str, tmp_path: Path
) -> None:
    with pytest.raises(DownloadError, match=r"the bucket does not exist\. Nothing was submitted"):
        await run(client, [Job(picture(), "Add snow")], Bucket(server, "missing"), tmp_path / "j.sqlite3")
    assert not emulator.counts["uploads"]


async def test_image_that_the_store_refuses_is_saved_by_the_next_run(
    client: AsyncApimart, emulator: Emulator, bucket: Bucket, tmp_path: Path
) -> None:
    jobs = [Job(picture(), "Add snow", name="a")]

    def refused_jobs() -> Iterator[Job]:
        bucket.refuse("PUT", "POST")
        yield from jobs

    journal = tmp_path / "j.sqlite3"
    with pytest.raises(DownloadError, match="access is denied") as caught:
        await run(client, refused_jobs(), bucket, journal)
    assert "nothing that was paid for is lost" in caught.value.message
    (kept,) = read_outcomes(bucket.folder, journal=journal)
    assert kept.status == "unfinished"
    bucket.refuse()
    (outcome,) = await run(client, jobs, bucket, journal)
    assert (outcome.status, outcome.resumed) == ("saved", True)
    assert bucket.keys() == ["out/a.jpg", "out/results.jsonl"]
    assert len(emulator.ledger.entries) == 1


async def test_no_credential_is_in_an_error_a_log_a_journal_or_a_pickle(
    client: AsyncApimart, bucket: Bucket, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    journal = tmp_path / "j.sqlite3"
    source = bucket.put("in/a.png", picture())
    await run(client, [Job(source, "Add snow", name="a")], bucket, journal)
    texts = [repr(outcome) for outcome in read_outcomes(bucket.folder, journal=journal)]
    bucket.refuse("GET", "HEAD", "PUT", "POST")
    for action in (
        lambda: client.edits.run(source, "Add snow"),
        lambda: objects.check_writable(bucket.folder),
        lambda: run(client, [Job(picture(), "Add snow")], bucket, journal),
    ):
        with pytest.raises((ImageError, OSError, DownloadError)) as caught:
            await action()
        error: BaseException | None = caught.value
        while error is not None:
            texts += [str(error), repr(error), *map(str, getattr(error, "__notes__", ()))]
            error = error.__cause__ if error.__suppress_context__ else error.__cause__ or error.__context__
    bucket.refuse()
    fleet = Fleet(journal="postgresql://localhost/none", output=str(bucket.folder))
    contents = [
        *(text.encode() for text in (*texts, caplog.text)),
        *(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()),
        (bucket.folder / "results.jsonl").read_bytes(),
        pickle.dumps((fleet, bucket.folder, fleet.output)),
    ]
    for content in contents:
        assert SECRET_KEY.encode() not in content
        assert ACCESS_KEY.encode() not in content


async def test_object_that_changes_is_not_sent(client: AsyncApimart, bucket: Bucket) -> None:
    from apimart_async.transport.media.inputs import open_media
    from apimart_async.transport.media.multipart import multipart

    media = await open_media(bucket.put("in/a.png", picture(size=700)))
    store_of(bucket.folder).put("in/a.png", picture(size=701))
    with pytest.raises(ImageError, match="has changed"):
        [chunk async for chunk in multipart([("file", media)]).chunks()]
    with pytest.raises(ImageError, match="the object, or its bucket, does not exist"):
        await client.edits.run(f"s3://{bucket.name}/in/b.png", "Add snow")


def test_commands_read_and_write_buckets(bucket: Bucket, tmp_path: Path) -> None:
    source = bucket.put("in/lighthouse.png", picture(size=16))
    folder = str(bucket.folder)
    edit = ["edit", source, "-p", "Add snow", "--local", "-o", folder]
    assert command(tmp_path, *edit).stdout == f"{folder}/lighthouse.jpg\n"
    assert bucket.keys() == ["in/lighthouse.png", "out/lighthouse.jpg"]
    (tmp_path / "jobs.jsonl").write_text(
        json.dumps({"image": source, "prompt": "Add snow"}), encoding="utf-8"
    )
    refused = command(tmp_path, "batch", "jobs.jsonl", "-o", folder, "--journal", "j.sqlite3", code=2)
    assert "--allow-outside" in refused.stderr
    refused = command(tmp_path, "batch", "jobs.jsonl", "-o", folder, "--allow-outside", code=2)
    assert "--journal" in refused.stderr


async def test_recipe_is_killed_and_continued(
    emulator: Emulator, bucket: Bucket, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("APIMART_API_KEY", emulator.api_key)
    monkeypatch.setenv("APIMART_BASE_URL", emulator.base_url)
    for number in range(12):
        bucket.put(f"in/{number:02}.png", picture(size=16))
    recipe = [sys.executable, str(repository / "docs" / "examples" / "s3_batch.py")]
    recipe += [f"s3://{bucket.name}/in", str(bucket.folder)]
    async with await anyio.open_process(recipe, cwd=tmp_path) as process:
        assert process.stdout is not None
        await process.stdout.receive()
        process.kill()
    again = await anyio.run_process(recipe, cwd=tmp_path)
    # A job that was killed between its paid request and the answer is reported, and not paid for again.
    statuses = [line.split()[0] for line in again.stdout.decode().splitlines()]
    saved = statuses.count("saved")
    assert saved + statuses.count("in_doubt") == 12
    assert sum(key.startswith("out/") and key.endswith(".jpg") for key in bucket.keys()) == saved  # noqa: SIM118 a method
    assert saved <= len(emulator.ledger.entries) <= 12


@pytest.mark.parametrize("output", ["in", "in/", "in/edited", "in//edited/"])
@pytest.mark.parametrize("source", ["s3://bucket/in", "s3://bucket/in/", "s3://bucket"])
async def test_recipe_refuses_results_inside_its_source(repository: Path, source: str, output: str) -> None:
    """The next run would pay for edits of the results."""
    recipe = runpy.run_path(str(repository / "docs" / "examples" / "s3_batch.py"))
    with pytest.raises(SystemExit, match="must not be inside the source"):
        await recipe["main"](source, f"s3://bucket/{output}")


async def test_recipe_reports_a_source_without_photos(
    emulator: Emulator, bucket: Bucket, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("APIMART_API_KEY", emulator.api_key)
    monkeypatch.setenv("APIMART_BASE_URL", emulator.base_url)
    monkeypatch.chdir(tmp_path)
    source = f"s3://{bucket.name}/in"
    bucket.put("in-2/a.png", picture(size=16))
    recipe = runpy.run_path(str(repository / "docs" / "examples" / "s3_batch.py"))
    with pytest.raises(SystemExit, match=f"no photos in {source}"):
        await recipe["main"](source, f"{source}-2")
    assert len(emulator.ledger.entries) == 0


def command(folder: Path, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "apimart_async", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == code, done.stderr
    return done
