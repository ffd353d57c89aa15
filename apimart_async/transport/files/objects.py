"""Results in object storage: an object becomes visible when its image is whole, and none is replaced.

An image of up to 5 MiB is one conditional request. A larger one is an upload of several parts, which is
completed when the image is whole and aborted in any other case: no half of an image ever has a key.

The calls of obstore are the blocking ones, in threads: after asynchronous ones, 2 of 14 short processes
aborted when the interpreter ended, after blocking ones none of 21.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Final
from weakref import WeakValueDictionary

import anyio
from anyio import to_thread

from apimart_async.errors import APIConnectionError
from apimart_async.transport.concurrency import for_each
from apimart_async.transport.media import sniffing
from apimart_async.transport.object_storage import ObjectPath, TakenError, explained, store_of

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable, Iterator, Sequence

    from obstore import Attributes, BytesStream, GetOptions, ObjectMeta, WritableFile

    from apimart_async.transport.files.downloads import Chunks

_PART_BYTES: Final = 5 * 1024 * 1024
"""The smallest part that S3 takes."""

_READ_BYTES: Final = 1024 * 1024
_MAX_NUMBER: Final = 10_000
_CHECK_NAME: Final = ".apimart-write-check"
_CHECK_PARTS: Final = 4
_CONTENT_TYPES: Final = {kind.extension: kind.content_type for kind in (*sniffing.IMAGES, sniffing.SVG)} | {
    ".html": "text/html; charset=utf-8",
    ".jsonl": "application/x-ndjson",
}

# Jobs of one batch may share a name; each object of a name is compared with those before it.
_LOCKS: Final[WeakValueDictionary[tuple[str, int], anyio.Lock]] = WeakValueDictionary()


class Writer:
    """An object that is being written."""

    def __init__(self, writer: WritableFile) -> None:
        self._writer = writer

    async def write(self, chunk: bytes) -> None:
        """Append bytes.

        Raises:
            OSError: The store refused them.
        """
        with explained():
            await to_thread.run_sync(self._writer.write, chunk)


async def write_object(content: Chunks, folder: ObjectPath, stem: str) -> ObjectPath:
    """Write an image to a new object, or find the object that holds the same content already.

    At most two parts of 5 MiB are in memory.

    Args:
        content: The image.
        folder: Where the object goes.
        stem: Name without extension; ``-2``, ``-3``, … is added if that name has other content.

    Returns:
        The path of the object.

    Raises:
        OSError: The store refused it.
        APIConnectionError: Another process took the name meanwhile; another attempt finds another name.

    Neither a failure nor cancellation leaves an object, or parts of one while the store is in reach.
    """
    async with _LOCKS.setdefault((str(folder / stem), id(asyncio.get_running_loop())), anyio.Lock()):
        parts: list[bytes] = []
        while sum(map(len, parts)) < _PART_BYTES:
            chunk = await content.read()
            if not chunk:
                return await _write_small(b"".join(parts), folder, stem, content.extension)
            parts.append(chunk)
        return await _write_large(parts, content, folder, stem)


async def _write_small(content: bytes, folder: ObjectPath, stem: str, extension: str) -> ObjectPath:
    digest = hashlib.sha256(content).digest()
    for path in _names(folder, stem, extension):
        try:
            with explained():
                put = partial(
                    store_of(path).put, attributes=_attributes(path), mode="create", use_multipart=False
                )
                await to_thread.run_sync(put, path.key, content)
        except TakenError:
            found = await _head(path)
            if found is None or found["size"] != len(content) or await _digest(path) != digest:
                continue
        return path
    raise AssertionError  # the names end with an error


async def _write_large(parts: list[bytes], content: Chunks, folder: ObjectPath, stem: str) -> ObjectPath:
    namesakes: list[tuple[ObjectPath, int]] = []
    for path in _names(folder, stem, content.extension):
        found = await _head(path)
        if found is None:
            break
        namesakes.append((path, found["size"]))
    else:
        raise AssertionError  # the names end with an error
    size, sha256 = 0, hashlib.sha256()
    try:
        async with writing(path) as writer:
            while parts:
                chunk = parts.pop(0)
                await writer.write(chunk)
                size += len(chunk)
                if namesakes:
                    sha256.update(chunk)
                if not parts and (more := await content.read()):
                    parts.append(more)
            for namesake, its_size in namesakes:
                if its_size == size and await _digest(namesake) == sha256.digest():
                    raise _SameContentError(namesake)  # noqa: TRY301 it aborts the upload
            if await _head(path) is not None:
                raise APIConnectionError(f"Another process wrote {path} meanwhile.")
    except _SameContentError as same:
        return same.path
    return path


class _SameContentError(Exception):
    def __init__(self, path: ObjectPath) -> None:
        self.path = path


def _names(folder: ObjectPath, stem: str, extension: str) -> Iterator[ObjectPath]:
    for number in range(1, _MAX_NUMBER):
        yield folder / f"{stem}{f'-{number}' if number > 1 else ''}{extension}"
    raise OSError(errno.EEXIST, f"there are {_MAX_NUMBER} objects called {stem} already")


@asynccontextmanager
async def writing(path: ObjectPath, *, part_bytes: int = _PART_BYTES) -> AsyncGenerator[Writer]:
    """Write an object in parts, in the place of another; it becomes visible at the end of the body.

    Args:
        path: Its path.
        part_bytes: Bytes of each part but the last.

    Raises:
        OSError: The store refused it.

    An error of the body and cancellation abort the upload.
    """
    from obstore import open_writer

    with explained():
        writer = open_writer(
            store_of(path),
            path.key,
            attributes=_attributes(path),
            buffer_size=part_bytes,
            max_concurrency=1,
        )
    try:
        yield Writer(writer)
        with explained():
            await to_thread.run_sync(writer.close)
    except BaseException as error:
        with anyio.CancelScope(shield=True), suppress(Exception):
            await to_thread.run_sync(writer.__exit__, type(error), error, error.__traceback__)  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType] its stub
        raise


def replace_text(path: ObjectPath, parts: Iterable[str]) -> None:
    """Write a text, in the place of another object, that becomes visible when it is whole; blocks.

    Raises:
        OSError: The store refused it.
    """
    from obstore import open_writer

    with explained():
        writer = open_writer(store_of(path), path.key, attributes=_attributes(path), buffer_size=_PART_BYTES)
        with writer:
            for part in parts:
                writer.write(part.encode(errors="replace"))


async def find_objects(folder: ObjectPath, stems: Sequence[str]) -> list[ObjectPath | None]:
    """Find images of the formats that services return: objects are whole, so their beginning is read alone.

    Raises:
        OSError: The store did not answer.
    """

    async def is_image(path: ObjectPath) -> bool:
        try:
            with explained():
                head = await to_thread.run_sync(_read_head, path)
        except FileNotFoundError:
            return False
        except OSError as error:
            if error.errno is None and ((meta := await _head(path)) is None or not meta["size"]):
                return False  # a range of an empty object
            raise
        return sniffing.identify(head).extension is not None

    async def find(stem: str) -> ObjectPath | None:
        paths = [folder / f"{stem}{extension}" for extension in sniffing.RESULT_EXTENSIONS]
        found = await for_each(is_image, paths)
        return next((path for path, is_found in zip(paths, found, strict=True) if is_found), None)

    return await for_each(find, stems)


def _read_head(path: ObjectPath) -> bytes:
    options: GetOptions = {"range": (0, sniffing.HEAD_BYTES)}
    return bytes(store_of(path).get(path.key, options=options).bytes())


async def have_content(paths: Sequence[ObjectPath]) -> bool:
    """Tell whether there are objects of these names, none of them empty.

    Raises:
        OSError: The store did not answer.
    """
    found = await for_each(_head, paths)
    return all(meta is not None and meta["size"] for meta in found)


async def check_writable(folder: ObjectPath) -> None:
    """Check that objects can be read and written in a folder; nothing becomes visible.

    Raises:
        OSError: The store refuses the reads or the writes.
    """
    path = folder / _CHECK_NAME
    await _head(path)
    with suppress(_CheckedError):
        # A part waits for the answer to the part before it, so that the first has been accepted.
        async with writing(path, part_bytes=1) as writer:
            for _ in range(_CHECK_PARTS):
                await writer.write(b"0")
            raise _CheckedError


class _CheckedError(Exception):
    """Aborts the upload of the check."""


class ObjectContent:
    """An image in a store, read in chunks."""

    def __init__(self, path: ObjectPath) -> None:
        self.extension: str = path.suffix
        self._path = path
        self._chunks: BytesStream | None = None

    async def read(self) -> bytes:
        """Return the next chunk, and ``b""`` at the end.

        Raises:
            OSError: The store did not give it.
        """
        with explained():
            return await to_thread.run_sync(self._read)

    def _read(self) -> bytes:
        if self._chunks is None:
            self._chunks = store_of(self._path).get(self._path.key).stream(min_chunk_size=_READ_BYTES)
        return bytes(next(self._chunks, b""))


async def _digest(path: ObjectPath) -> bytes:
    sha256, content = hashlib.sha256(), ObjectContent(path)
    while chunk := await content.read():
        sha256.update(chunk)
    return sha256.digest()


async def _head(path: ObjectPath) -> ObjectMeta | None:
    try:
        with explained():
            return await to_thread.run_sync(store_of(path).head, path.key)
    except FileNotFoundError:
        return None


def _attributes(path: ObjectPath) -> Attributes | None:
    kind = _CONTENT_TYPES.get(path.suffix)
    # Files have no attributes.
    return None if kind is None or path.bucket == "file:///" else {"Content-Type": kind}
