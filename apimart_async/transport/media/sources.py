"""The bytes of an image that is sent: a file on disk or in a store, a file object of the caller, or memory.

Every read checks that the image is still the checked one. All methods block, but those of ``InMemory`` and of
parts of it.
"""

from __future__ import annotations

import os
import stat
import threading
from bisect import bisect_right
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias, TypeVar, cast
from weakref import WeakValueDictionary

import attrs
from anyio import to_thread

from apimart_async.errors import ImageError, ImageTooLargeError, InvalidArgumentError
from apimart_async.transport import object_storage
from apimart_async.transport.concurrency import file_threads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from obstore import GetOptions

Result = TypeVar("Result")

# O_NONBLOCK: a pipe may have taken the place of the file since it was examined.
_READ_ONLY: Final[int] = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


class BinaryFile(Protocol):
    """A file opened for reading bytes."""

    def read(self, size: int = ..., /) -> bytes:
        """Return up to ``size`` bytes, none at the end."""
        ...


class Source(Protocol):
    """Bytes that can be read at any offset, again and again."""

    @property
    def size(self) -> int:
        """Size in bytes when the image was checked."""
        ...

    def read_at(self, offset: int, size: int) -> bytes:
        """Return exactly ``size`` bytes.

        Raises:
            ImageError: The bytes cannot be read or have changed.
        """
        ...


@attrs.frozen(repr=False)
class InMemory:
    """Immutable bytes in memory.

    Attributes:
        content: The bytes.
    """

    content: bytes

    @property
    def size(self) -> int:
        """Size in bytes."""
        return len(self.content)

    def read_at(self, offset: int, size: int) -> bytes:
        """Return a part of the bytes."""
        return self.content[offset : offset + size]


@attrs.frozen
class LocalFile:
    """A regular file on disk.

    Attributes:
        name: The path as the caller wrote it, for messages.
        path: Absolute, so that a change of directory does not matter.
        fingerprint: Size, modification time, inode and device when the file was checked.
    """

    name: str
    path: str
    fingerprint: tuple[int, int, int, int]

    @classmethod
    def examine(cls, name: str, path: str) -> LocalFile:
        """Take the fingerprint of a file without opening it: opening a pipe would wait for its other end.

        Raises:
            ImageError: The file is missing, cannot be reached or is not a regular file.
        """
        try:
            status = os.stat(path)
            absolute = path if os.path.isabs(path) else os.path.join(os.getcwd(), path)
        except (OSError, ValueError) as error:
            raise unreadable(name, error) from error
        if not stat.S_ISREG(status.st_mode):
            kind = "a directory" if stat.S_ISDIR(status.st_mode) else "not a regular file"
            raise ImageError(f"{name} is {kind}: give the path of one image file.")
        return cls(name, absolute, _fingerprint(status))

    @property
    def size(self) -> int:
        """Size in bytes when the file was checked."""
        return self.fingerprint[0]

    def read_at(self, offset: int, size: int) -> bytes:
        """Return exactly ``size`` bytes.

        Raises:
            ImageError: The file cannot be read or has changed since it was checked.
        """
        try:
            descriptor = os.open(self.path, _READ_ONLY)
            try:
                self._check(descriptor)
                os.lseek(descriptor, offset, os.SEEK_SET)
                content = _read_exactly(partial(os.read, descriptor), size)
                self._check(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise unreadable(self.name, error) from error
        if len(content) != size:
            raise _changed(self.name)
        return content

    def _check(self, descriptor: int) -> None:
        status = os.fstat(descriptor)
        # A file that was removed or replaced while open has no name any more.
        if _fingerprint(status) != self.fingerprint or status.st_nlink == 0:
            raise _changed(self.name)


def _fingerprint(status: os.stat_result) -> tuple[int, int, int, int]:
    return status.st_size, status.st_mtime_ns, status.st_ino, status.st_dev


@attrs.frozen
class InObject:
    """An object in a store, read in ranges.

    Attributes:
        name: Its URL as the caller wrote it, for messages.
        path: Its URL.
        size: Size in bytes when the object was checked.
        tag: Entity tag when the object was checked: a store gives no byte of another version.
    """

    name: str
    path: object_storage.ObjectPath
    size: int
    tag: str | None

    @classmethod
    def examine(cls, name: str, url: str) -> InObject:
        """Ask the store for the size and the tag of an object.

        Raises:
            ImageError: The object is missing or cannot be reached.
            InvalidArgumentError: The extra ``storage`` is missing.
        """
        try:
            path = object_storage.exact_path(url)
            with object_storage.explained():
                found = object_storage.store_of(path).head(path.key)
        except InvalidArgumentError as error:
            raise ImageError(error.message) from error
        except OSError as error:
            raise unreadable(name, error) from None
        return cls(name, path, found["size"], found["e_tag"])

    def read_at(self, offset: int, size: int) -> bytes:
        """Return exactly ``size`` bytes.

        Raises:
            ImageError: The object cannot be read or has changed since it was checked.
        """
        store = object_storage.store_of(self.path)
        options: GetOptions = {"range": (offset, offset + size)}
        if self.tag is not None:
            options["if_match"] = self.tag
        try:
            with object_storage.explained():
                content = bytes(store.get(self.path.key, options=options).bytes())
        except object_storage.ChangedError:
            raise _changed(self.name) from None
        except OSError as error:
            raise unreadable(self.name, error) from None
        if len(content) != size:
            raise _changed(self.name)
        return content


Stored: TypeAlias = LocalFile | InObject
"""The source of an image whose fingerprint was taken: equal values have equal bytes."""


class _Seekable(BinaryFile, Protocol):
    def seek(self, offset: int, whence: int = ..., /) -> int: ...


class _PositionLock:
    """A lock that can be weakly referenced."""

    def __init__(self) -> None:
        self.lock = threading.Lock()


# One lock per file object: uploads of the same object must not move its position under each other.
_POSITION_LOCKS: Final[WeakValueDictionary[int, _PositionLock]] = WeakValueDictionary()
_POSITION_LOCKS_LOCK: Final = threading.Lock()


def _position_lock(file: BinaryFile) -> _PositionLock:
    with _POSITION_LOCKS_LOCK:
        # Whatever holds a lock also holds its file, so the id of a file with a lock is not reused.
        return _POSITION_LOCKS.setdefault(id(file), _PositionLock())


class InSeekableFile:
    """The content of a file object from its position on; the file object is never closed.

    Args:
        name: For messages.
        file: The caller's file object.

    Attributes:
        size: Bytes from the position to the end.
    """

    def __init__(self, name: str, file: BinaryFile) -> None:
        self._name = name
        self._file = cast("_Seekable", file)
        self._lock = _position_lock(file)
        with self._lock.lock:
            try:
                self._start = self._file.seek(0, os.SEEK_CUR)
                self.size: int = max(0, self._file.seek(0, os.SEEK_END) - self._start)
                self._file.seek(self._start)
            except Exception as error:
                raise unreadable(name, error) from error

    def read_at(self, offset: int, size: int) -> bytes:
        """Return exactly ``size`` bytes and restore the position.

        Raises:
            ImageError: The file object was closed, cannot be read, or has changed its size.
        """
        is_last = offset + size == self.size
        with self._lock.lock:
            try:
                position = self._file.seek(0, os.SEEK_CUR)
                self._file.seek(self._start + offset)
                content = _read_exactly(self._file.read, size)
                has_grown = is_last and bool(self._file.read(1))
                self._file.seek(position)
            except Exception as error:
                raise unreadable(self._name, error) from error
        if len(content) != size or has_grown:
            raise _changed(self._name)
        return content


class Parts:
    """Parts of another source, and bytes between them; copies nothing.

    Args:
        origin: The other source.
        parts: Start and end of a range of it, or bytes, in order.

    Attributes:
        origin: The other source.
        size: Bytes of all parts.
    """

    def __init__(self, origin: Source, parts: Iterable[tuple[int, int] | bytes]) -> None:
        self.origin: Source = origin
        self.size: int = 0
        self._parts: list[tuple[int, int] | bytes] = []
        self._starts: list[int] = []
        for part in parts:
            size = len(part) if isinstance(part, bytes) else part[1] - part[0]
            if size:
                self._parts.append(part)
                self._starts.append(self.size)
                self.size += size

    def read_at(self, offset: int, size: int) -> bytes:
        """Return exactly ``size`` bytes.

        Raises:
            ImageError: The bytes cannot be read or have changed.
        """
        pieces: list[bytes] = []
        end = offset + size
        index = bisect_right(self._starts, offset) - 1
        while offset < end:
            part, skipped = self._parts[index], offset - self._starts[index]
            if isinstance(part, bytes):
                piece = part[skipped : skipped + end - offset]
            else:
                start = part[0] + skipped
                piece = self.origin.read_at(start, min(end - offset, part[1] - start))
            pieces.append(piece)
            offset += len(piece)
            index += 1
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)


async def read_in_thread(source: Source, read: Callable[[], Result]) -> Result:
    """Call a function that reads a source, in a thread that suits it."""
    origin = source.origin if isinstance(source, Parts) else source
    if isinstance(origin, (InSeekableFile, InObject)):
        return await to_thread.run_sync(read)  # the caller's file object and a network may take any time
    return await file_threads.run(read)


def read_rest(name: str, file: BinaryFile, limit: int) -> InMemory:
    """Read a file object that cannot be rewound, such as a pipe, no further than the limit.

    Raises:
        ImageTooLargeError: The file object holds more than ``limit`` bytes.
        ImageError: The file object cannot be read.
    """
    try:
        content = _read_exactly(file.read, limit + 1)
    except Exception as error:
        raise unreadable(name, error) from error
    if len(content) > limit:
        raise ImageTooLargeError(f"{name} has more than {limit:,} bytes, the most that can be sent.")
    return InMemory(content)


def _read_exactly(read: Callable[[int], bytes], size: int) -> bytes:
    """Read until there are ``size`` bytes or the file ends: one read may return fewer than asked for."""
    content = cast("object", read(size))
    if not isinstance(content, (bytes, bytearray)):
        close = getattr(content, "close", None)
        if callable(close):
            close()  # a coroutine that is never awaited
            raise TypeError("its read() is asynchronous; give the bytes, await file.read()")
        raise TypeError("its read() does not return bytes; open it in binary mode, open(path, 'rb')")
    pieces = [bytes(content)]
    left = size - len(pieces[0])
    while pieces[-1] and left > 0:
        pieces.append(bytes(read(left)))
        left -= len(pieces[-1])
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def unreadable(name: str, error: Exception) -> ImageError:
    """Return the error for an image that cannot be read, with the reason."""
    reason = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
    return ImageError(f"{name} cannot be read: {reason[:1].lower()}{reason[1:]}.")


def _changed(name: str) -> ImageError:
    return ImageError(f"{name} has changed since it was checked; send it again when it is complete.")
