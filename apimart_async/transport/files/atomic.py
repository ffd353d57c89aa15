"""Atomic files: a new file gets its name when it is whole, and no existing file is ever changed.

A program that dies at any moment leaves a whole file of that name or none. To survive a power cut as well,
the file and its name have to be synced, which takes milliseconds: a fifth of the cost of an edit.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from functools import partial
from io import FileIO
from pathlib import Path
from random import getrandbits
from typing import TYPE_CHECKING, Final

import anyio

from apimart_async.errors import DownloadError
from apimart_async.transport.concurrency import file_threads
from apimart_async.transport.files import objects
from apimart_async.transport.media import sniffing
from apimart_async.transport.media.sniffing import EndFinder, is_surely_whole
from apimart_async.transport.object_storage import ObjectPath

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from apimart_async.transport.files.downloads import Chunks

_WRITE_BYTES: Final = 1024 * 1024
_COPY_BYTES: Final = 512 * 1024
_TAIL_BYTES: Final = 16
_STEM_SHOWN: Final = 40
_MAX_NUMBER: Final = 10_000
_DESCRIPTORS: Final = "/proc/self/fd"
_NAMELESS: Final[int | None] = getattr(os, "O_TMPFILE", None) if Path(_DESCRIPTORS).is_dir() else None


async def write_image(content: Chunks, directory: Path, stem: str, *, fsync: bool = False) -> Path:
    """Write an image to a new file, or find the file that holds the same content already.

    An image of less than 1 MiB is written and named in a single call to a file thread; a larger one is
    written in pieces of about 1 MiB, and no more is read during a write.

    Args:
        content: The image.
        directory: Created when missing.
        stem: Name without extension, valid on every system. If a file of that name has other content,
            ``-2``, ``-3``, … is added.
        fsync: Return only when the file would survive a power cut.

    Returns:
        The path of the file.

    Raises:
        DownloadError: The file system refused the file; the message has the reason.

    Neither a failure nor cancellation leaves a file behind.
    """
    if isinstance(directory, ObjectPath):
        try:
            return await objects.write_object(content, directory, stem)
        except OSError as error:
            raise _not_saved(directory, error) from error
    file = AtomicFile(directory, stem, fsync=fsync)
    buffer: list[bytes] = []
    buffered = 0
    try:
        while chunk := await content.read():
            buffer.append(chunk)
            buffered += len(chunk)
            if buffered >= _WRITE_BYTES:
                await file_threads.run(file.write, buffer)
                buffer, buffered = [], 0
        return await file_threads.run(file.finish, buffer, content.extension)
    except BaseException as error:
        with anyio.CancelScope(shield=True):
            await file_threads.run(file.discard)
        if isinstance(error, OSError):
            raise _not_saved(directory, error) from error
        raise


async def find_images(directory: Path, stems: Sequence[str], *, fsync: bool = False) -> list[Path | None]:
    """Find whole images of the formats that services return.

    Args:
        directory: Created when missing.
        stems: Names without extension.
        fsync: Return only when the images found would survive a power cut.

    Raises:
        DownloadError: The directory is missing and cannot be created.
    """
    try:
        if isinstance(directory, ObjectPath):
            return [*await objects.find_objects(directory, stems)]
        return await file_threads.run(_find_images, directory, stems, fsync)
    except OSError as error:
        raise _not_saved(directory, error) from error


async def have_content(paths: Sequence[Path]) -> bool:
    """Tell whether there are files of these names, none of them empty.

    Raises:
        DownloadError: The store of objects did not answer.
    """
    in_store = [path for path in paths if isinstance(path, ObjectPath)]
    if in_store:
        try:
            return await objects.have_content(in_store)
        except OSError as error:
            raise _not_saved(in_store[0].parent, error) from error
    return await file_threads.run(_have_content, paths)


def _have_content(paths: Sequence[Path]) -> bool:
    return all(path.is_file() and path.stat().st_size for path in paths)


def _find_images(directory: Path, stems: Sequence[str], fsync: bool) -> list[Path | None]:  # noqa: FBT001 for the threads
    if not directory.is_dir():
        directory.mkdir(parents=True, exist_ok=True)
    found = [_find_image(f"{directory}/{stem}") for stem in stems]
    paths = [path for path in found if path is not None]
    if fsync and paths:
        for path in (*paths, directory):
            _sync(path)
    return found


def _find_image(stem: str) -> Path | None:
    for extension in sniffing.RESULT_EXTENSIONS:
        # Most do not exist, and os.access is cheaper than the exception of os.stat.
        if os.access(stem + extension, os.F_OK) and _is_whole_image(stem + extension):
            return Path(stem + extension)
    return None


def _is_whole_image(path: str) -> bool:
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            return False
        with FileIO(path) as file:
            head = file.read(sniffing.HEAD_BYTES)
            kind = sniffing.identify(head)
            if kind.extension is None:
                return False
            file.seek(max(0, status.st_size - _TAIL_BYTES))
            if is_surely_whole(kind, head, file.read(_TAIL_BYTES), status.st_size):
                return True
            # Other bytes may follow the end, so the whole file has to be read.
            end = EndFinder(kind)
            file.seek(0)
            while not end.is_found and (chunk := file.read(_COPY_BYTES)):
                end.feed(chunk)
    except OSError:
        return False
    return end.is_found


def _not_saved(directory: Path, error: OSError) -> DownloadError:
    in_store = isinstance(directory, ObjectPath)
    remedy = "check the bucket and the credentials" if in_store else "make room or choose another directory"
    return DownloadError(
        f"Nothing can be saved in {directory}: {error.strerror or error}. "
        f"The paid image is not lost: {remedy}, and save again.",
        errno=error.errno,
    )


class AtomicFile:
    """A new file that gets its name when it is whole. All methods block.

    Where Linux and the file system support it, the unfinished file has no name at all, and nothing of it
    remains when the program dies. Elsewhere it has a hidden name.

    Args:
        directory: Created when missing.
        stem: Name without extension.
        fsync: Sync the file before it gets its name, and its name afterwards.
    """

    def __init__(self, directory: Path, stem: str, *, fsync: bool) -> None:
        self._directory = directory
        self._stem = stem
        self._fsync = fsync
        self._file: FileIO | None = None
        self._path = ""  # where the unfinished file can be read
        self._is_hidden = False

    def write(self, chunks: Iterable[bytes]) -> FileIO:
        """Append chunks and return the file.

        Raises:
            OSError: The file system refused them.
        """
        file = self._file or self._create()
        for chunk in chunks:
            written = file.write(chunk)
            while written < len(chunk):
                written += file.write(memoryview(chunk)[written:])
        return file

    def finish(self, chunks: Iterable[bytes], extension: str) -> Path:
        """Append the last chunks, then name the file, or discard it for a namesake of the same content.

        Raises:
            OSError: The file system refused the file, or there are too many namesakes.
        """
        self._complete(chunks)
        for number in range(1, _MAX_NUMBER):
            name = f"{self._stem}{f'-{number}' if number > 1 else ''}{extension}"
            target = f"{self._directory}/{name}"
            is_new = self._take_name(target)
            if is_new or _have_same_content(self._path, target):
                self.discard()
                path = self._directory.joinpath(name)
                if self._fsync:
                    if not is_new:
                        _sync(path)
                    _sync(self._directory)
                return path
        message = f"there are {_MAX_NUMBER} files called {self._stem} already"
        raise OSError(message)

    def discard(self) -> None:
        """Close the unfinished file and remove it; the name that ``finish`` gave stays."""
        file, self._file = self._file, None
        if file is not None:
            with suppress(OSError):
                file.close()
            if self._is_hidden:
                with suppress(FileNotFoundError):
                    os.unlink(self._path)

    def _create(self) -> FileIO:
        try:
            return self._open()
        except FileNotFoundError:
            self._directory.mkdir(parents=True, exist_ok=True)
            return self._open()

    def _open(self) -> FileIO:
        if _NAMELESS is not None:
            try:
                descriptor = os.open(self._directory, _NAMELESS | os.O_WRONLY, 0o666)
            except FileNotFoundError:
                raise
            except OSError:
                pass  # this file system has no files without a name
            else:
                self._path = f"{_DESCRIPTORS}/{descriptor}"
                self._file = FileIO(descriptor, "w")
                return self._file
        return self._open_hidden()

    def _open_hidden(self) -> FileIO:
        path = f"{self._directory}/.{self._stem[:_STEM_SHOWN]}-{getrandbits(32):08x}.part"
        self._file = FileIO(path, "x")
        self._path, self._is_hidden = path, True
        return self._file

    def _complete(self, chunks: Iterable[bytes]) -> None:
        file = self.write(chunks)
        if self._fsync:
            os.fsync(file.fileno())
        if self._is_hidden:
            file.close()  # Windows cannot link or rename an open file

    def _take_name(self, target: str) -> bool:
        """Name the file unless the name is taken: of several attempts at once, one makes the link."""
        nameless = None if self._is_hidden else self._file
        try:
            if nameless is None:
                os.link(self._path, target)
            else:
                # Without src_dir_fd, Python would link the symbolic link in /proc instead of the file.
                os.link(self._path, target, src_dir_fd=nameless.fileno(), follow_symlinks=True)
        except FileExistsError:
            return False
        except OSError:  # this file system has no links, or none to files without a name
            if nameless is None:
                return self._rename(target)
            self._copy_to_hidden(nameless)
            return self._take_name(target)
        return True

    def _rename(self, target: str) -> bool:
        # A rename would replace a namesake. Creating an empty file reserves the name as a link would.
        try:
            FileIO(target, "x").close()
        except FileExistsError:
            return False
        try:
            os.replace(self._path, target)
        except OSError:
            Path(target).unlink(missing_ok=True)
            raise
        return True

    def _copy_to_hidden(self, nameless: FileIO) -> None:
        with nameless, Path(self._path).open("rb") as written:
            self._open_hidden()
            self._complete(iter(partial(written.read, _COPY_BYTES), b""))


def _have_same_content(path: str, other: str) -> bool:
    try:
        # A pipe, which would never end, has no size either.
        if os.stat(other).st_size != os.stat(path).st_size:
            return False
        with Path(path).open("rb") as left, Path(other).open("rb") as right:
            while block := left.read(_COPY_BYTES):
                if block != right.read(_COPY_BYTES):
                    return False
    except OSError:
        return False
    return True


def _sync(path: Path) -> None:
    """Make the names in a directory, or a file of another writer, survive a power cut where systems can."""
    with suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
