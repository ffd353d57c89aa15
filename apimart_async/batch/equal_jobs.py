"""Jobs that ask for the same images under other names: paid once, each with files and a row of its own."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Final

import attrs
from anyio import to_thread

from apimart_async.errors import DownloadError, InvalidArgumentError
from apimart_async.transport.concurrency import file_threads
from apimart_async.transport.files.atomic import write_image
from apimart_async.transport.files.names import NameTemplate
from apimart_async.transport.files.objects import ObjectContent
from apimart_async.transport.object_storage import ObjectPath, exact_path, is_object_url

if TYPE_CHECKING:
    from collections.abc import Sequence

    from apimart_async.batch.journal.record import Record

_CHUNK_BYTES: Final = 1024 * 1024


async def is_same(record: Record, described: Record) -> bool:
    """Tell whether a row is that of a job, and not of another picture with the same content.

    A picture that is no longer at the path of the row counts as moved.
    """
    if (record.name, record.extra) != (described.name, described.extra):
        return False
    return record.image == described.image or not await to_thread.run_sync(_exists, record.image)


def _exists(path: str) -> bool:
    try:
        return (exact_path(path) if is_object_url(path) else Path(path)).exists()
    except (OSError, ValueError, InvalidArgumentError):
        return False


def copy_id(described: Record) -> str:
    """Return the id of the row of a job whose images another job has made."""
    words = json.dumps([described.id, described.name or described.image, described.extra], default=str)
    return hashlib.sha256(words.encode(errors="replace")).hexdigest()[:32]


def copied(original: Record, described: Record, paths: tuple[str, ...], seconds: float) -> Record:
    """Return the row of a job whose images another job has made: it ended alike, and cost nothing."""
    return attrs.evolve(
        described,
        id=copy_id(described),
        state=original.state,
        task=original.task,
        error=original.error,
        paths=paths,
        cost=0.0,
        seconds=seconds,
    )


async def copy_images(paths: Sequence[Path], directory: Path, template: str, task_id: str) -> list[Path]:
    """Copy images to files with names of their own, durably.

    Raises:
        DownloadError: A file cannot be written, or is a link to one outside of the directory.
        OSError: A file cannot be read.
    """
    await file_threads.run(_check_links, paths, directory)
    names = NameTemplate.parse(template)
    stems = names.stems([(task_id, index) for index in range(1, len(paths) + 1)])
    return [
        await write_image(
            ObjectContent(path) if isinstance(path, ObjectPath) else _File(path), directory, stem, fsync=True
        )
        for path, stem in zip(paths, stems, strict=True)
    ]


def _check_links(paths: Sequence[Path], directory: Path) -> None:
    if isinstance(directory, ObjectPath):
        # A store has no links, but a manipulated row could name a key elsewhere.
        if not all(path.is_relative_to(directory) and ".." not in path.parts for path in paths):
            raise DownloadError("An object outside of the output folder is not copied.")
        return
    folder = os.path.realpath(directory)
    for path in paths:
        if not PurePath(os.path.realpath(path)).is_relative_to(folder):
            raise DownloadError(f"{path} is a link out of the output folder, and is not copied.")


class _File:
    """An image on disk, read in chunks."""

    def __init__(self, path: Path) -> None:
        self.extension: str = path.suffix
        self._path = path
        self._position = 0

    async def read(self) -> bytes:
        return await file_threads.run(self._read)

    def _read(self) -> bytes:
        with self._path.open("rb") as file:
            file.seek(self._position)
            chunk = file.read(_CHUNK_BYTES)
        self._position += len(chunk)
        return chunk
