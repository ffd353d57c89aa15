"""The check of a manifest against the journal of earlier runs, and images of equal content."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio.to_thread
import pytest

from apimart_async import AsyncApimart, JournalError, Poll
from apimart_async.batch import edit_many
from apimart_async.batch.journal.opening import journal_path
from apimart_async.batch.manifest.preflight import Preflight, preflight
from apimart_async.batch.manifest.reader import Manifest, open_manifest
from apimart_async.batch.manifest.rows import ManifestOptions
from apimart_async.emulator import Emulator
from apimart_async.emulator.faults import Fault

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

PNG = b"\x89PNG\r\n\x1a\n" + b"\0\0\0\0teXt\0\0\0\0" + b"\0\0\0\0IEND\xaeB`\x82"
MODEL = "grok-imagine-1.0-edit-apimart"
SOON = Poll(first=0.02, shortest=0.02, longest=0.05)

aside = anyio.to_thread.run_sync


@pytest.fixture
async def emulator() -> AsyncIterator[Emulator]:
    async with Emulator(task_seconds=0.05, images="tiny") as running:
        yield running


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in "abcd":
        (folder / f"{name}.png").write_bytes(PNG + name.encode())
    return folder


def written(folder: Path, *rows: str, **options: Any) -> Manifest:
    (folder / "jobs.csv").write_text("\n".join(["image,prompt,n,id", *rows]) + "\n")
    return open_manifest(folder / "jobs.csv", ManifestOptions(**options))


async def run(emulator: Emulator, manifest: Manifest, **options: Any) -> None:
    async with (
        AsyncApimart(emulator.api_key, base_url=emulator.base_url, max_retries=0, poll=SOON) as client,
        edit_many(client, manifest.jobs(), output=manifest.path.parent / "out", **options) as outcomes,
    ):
        async for _ in outcomes:
            pass


async def checked(manifest: Manifest, **options: Any) -> Preflight:
    return await preflight(manifest, journal=journal_path(manifest.path.parent / "out"), **options)


async def test_saved_jobs_are_distinguished_from_those_left(emulator: Emulator, photos: Path) -> None:
    await run(emulator, await aside(written, photos, "a.png,x,2,", "b.png,x,1,mine"))
    manifest = await aside(written, photos, "a.png,x,2,", "b.png,x,1,mine", "a.png,y,3,", "c.png,x,1,")
    found = await checked(manifest)

    assert (found.jobs, dict(found.started), found.left) == (4, {"saved": 2}, 2)
    assert found.images == {MODEL: 4}
    assert (found.pictures, found.bytes) == (2, 2 * (len(PNG) + 1))
    assert found.earlier is not None
    assert found.earlier.spent == pytest.approx(0.045)
    assert found.earlier.prices == pytest.approx({MODEL: 0.015})


async def test_failed_jobs_are_left_only_if_they_are_to_be_retried(emulator: Emulator, photos: Path) -> None:
    emulator.faults.add(Fault(kind="task-failed", route="edits", times=1))
    manifest = await aside(written, photos, "a.png,x,1,")
    await run(emulator, manifest)

    found, again = await checked(manifest), await checked(manifest, retry_failed=True)
    assert (dict(found.started), found.left, found.images) == ({"failed": 1}, 0, {})
    assert (dict(again.started), again.left, again.images) == ({}, 1, {MODEL: 1})


async def test_jobs_in_doubt_count_as_spent_and_are_left_only_on_request(
    emulator: Emulator, photos: Path
) -> None:
    emulator.faults.add(Fault(kind="disconnect", route="edits", executed=True, times=1))
    manifest = await aside(written, photos, "a.png,x,1,")
    await run(emulator, manifest)

    found, again = await checked(manifest), await checked(manifest, resubmit_in_doubt=True)
    assert (dict(found.started), found.left) == ({"in_doubt": 1}, 0)
    assert found.earlier is not None
    assert found.earlier.outstanding == {MODEL: 1}
    assert (dict(again.started), again.left) == ({}, 1)


async def test_jobs_that_failed_before_their_submit_are_left(emulator: Emulator, photos: Path) -> None:
    manifest = await aside(written, photos, "e.png,x,1,one")
    await run(emulator, manifest)
    await aside((photos / "e.png").write_bytes, PNG)
    found = await checked(manifest)
    assert (dict(found.started), found.left) == ({}, 1)


async def test_an_id_of_other_work_in_the_journal_is_a_mistake(emulator: Emulator, photos: Path) -> None:
    await run(emulator, await aside(written, photos, "a.png,x,1,one"))
    found = await checked(await aside(written, photos, "a.png,another prompt,1,one"))
    (row,) = found.bad
    assert row.complaint == (
        "Its id one is that of another image, prompt, model or options in the journal: give this "
        "row another id."
    )


async def test_images_of_equal_content_count_once(photos: Path) -> None:
    (photos / "copy.png").write_bytes((photos / "a.png").read_bytes())
    (photos / "copy of b.png").write_bytes((photos / "b.png").read_bytes())
    manifest = await aside(open_manifest, photos, ManifestOptions("sunset", n=2))
    found = await preflight(manifest, journal=journal_path(photos.parent / "out"))
    assert (found.jobs, found.repeated, found.pictures) == (4, 2, 4)
    assert found.images == {MODEL: 8}
    assert found.bytes == 4 * (len(PNG) + 1)


async def test_equal_images_far_apart_count_once(photos: Path) -> None:
    for number in range(600):
        (photos / f"{number}.png").write_bytes(PNG + (number % 200).to_bytes(2))
    rows = [f"{number}.png,x,1," for number in range(600)]
    found = await checked(await aside(written, photos, *rows))
    assert (found.jobs, found.repeated, found.pictures) == (200, 400, 200)


async def test_a_copy_of_a_saved_image_is_done(emulator: Emulator, photos: Path) -> None:
    await run(emulator, await aside(written, photos, "a.png,x,1,"))
    (photos / "copy.png").write_bytes((photos / "a.png").read_bytes())
    found = await checked(await aside(written, photos, "copy.png,x,1,", "a.png,x,1,"))
    assert (found.jobs, found.repeated, dict(found.started), found.left) == (1, 1, {"saved": 1}, 0)


async def test_a_journal_that_cannot_be_read_is_an_error(photos: Path) -> None:
    path = journal_path(photos / "out")
    path.parent.mkdir(parents=True)
    path.write_text("no journal")
    with pytest.raises(JournalError):
        await checked(await aside(written, photos, "a.png,x,1,"))
