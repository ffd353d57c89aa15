"""Where the bytes of an image lie while it is sent: a file on disk, a file object of the caller, or memory.

Every read sees whether the image is still the one that was checked. All of it blocks: its callers go by
``folder.py``, or to a worker thread.
"""

from __future__ import annotations

import os
import stat
import threading
from io import FileIO
from typing import TYPE_CHECKING, Final, Protocol, cast
from weakref import WeakValueDictionary

import attrs

from apimart_async.errors import ImageError, ImageTooLargeError
from apimart_async.transport.files.folder import Folder, folder_at

if TYPE_CHECKING:
    from collections.abc import Callable


# O_NONBLOCK: since it was looked at, a pipe may have taken its place.
_READ_ONLY: Final[int] = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


class BinaryFile(Protocol):
    """A file opened for reading bytes."""

    def read(self, size: int = ..., /) -> bytes:
        """Return up to ``size`` bytes, none at the end."""
        ...


class Source(Protocol):
    """Bytes that can be read from anywhere, again and again."""

    @property
    def size(self) -> int:
        """Size in bytes when it was checked."""
        ...

    def beginning(self, size: int) -> bytes:
        """Return up to so many of the first bytes.

        Raises:
            ImageError: They cannot be read.
        """
        ...

    def read_at(self, offset: int, size: int) -> bytes:
        """Return exactly ``size`` bytes.

        Raises:
            ImageError: They are no longer there, or no longer the same.
        """
        ...


@attrs.frozen(repr=False)
class InMemory:
    """Bytes that nobody else can change.

    Attributes:
        content: The bytes.
    """

    content: bytes

    @property
    def size(self) -> int:
        """Size in bytes."""
        return len(self.content)

    def beginning(self, size: int) -> bytes:
        """Return up to so many of the first bytes."""
        return self.content[:size]

    def read_at(self, offset: int, size: int) -> bytes:
        """Return the bytes asked for."""
        return self.content[offset : offset + size]


@attrs.frozen
class OnDisk:
    """A regular file on disk.

    Attributes:
        name: As the caller wrote it, for messages.
        path: Absolute, so that a change of directory does not matter.
        fingerprint: Size, time, inode and device it had when it was checked.
    """

    name: str
    path: str
    fingerprint: tuple[int, int, int, int]

    @classmethod
    def examine(cls, name: str, path: str) -> OnDisk:
        """Look at a file without opening it: opening a pipe would wait for its other end.

        Raises:
            ImageError: It is missing, cannot be reached or is not a regular file.
        """
        try:
            status = os.stat(path)
            absolute = path if os.path.isabs(path) else os.path.join(os.getcwd(), path)
        except (OSError, ValueError) as error:
            raise unreadable(name, error) from error
        if not stat.S_ISREG(status.st_mode):
            what = "a directory" if stat.S_ISDIR(status.st_mode) else "not a regular file"
            raise ImageError(f"{name} is {what}: give the path of one image file.")
        return cls(name, absolute, _fingerprint(status))

    @property
    def size(self) -> int:
        """Size in bytes when it was checked."""
        return self.fingerprint[0]

    @property
    def folder(self) -> Folder:
        """What is known of where it lies."""
        return folder_at(os.path.dirname(self.path))

    def read_at(self, offset: int, size: int) -> bytes:
        """Return exactly ``size`` bytes.

        Raises:
            ImageError: It cannot be read, or has changed since it was checked.
        """
        with FileIO(self.open()) as file:
            try:
                file.seek(offset)
                content = _exactly(file.read, size)
            except OSError as error:
                raise unreadable(self.name, error) from error
            self.check(file.fileno())
        if len(content) != size:
            raise _changed(self.name)
        return content

    def beginning(self, size: int) -> bytes:
        """Return up to so many of the first bytes; only a pass over the file sees whether it has changed.

        Raises:
            ImageError: It cannot be read.
        """
        try:
            descriptor = os.open(self.path, _READ_ONLY)
            try:
                return os.read(descriptor, size)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise unreadable(self.name, error) from error

    def open(self) -> int:
        """Return a descriptor of the file, to be closed by the caller.

        Raises:
            ImageError: It cannot be opened, or has changed since it was checked.
        """
        try:
            descriptor = os.open(self.path, _READ_ONLY)
        except OSError as error:
            raise unreadable(self.name, error) from error
        try:
            self.check(descriptor)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def check(self, descriptor: int) -> None:
        """See that the open file is still what was checked.

        Raises:
            ImageError: It has changed since.
        """
        try:
            status = os.fstat(descriptor)
        except OSError as error:
            raise unreadable(self.name, error) from error
        # One that was removed, or replaced by another of its name, has no name any more.
        if _fingerprint(status) != self.fingerprint or status.st_nlink == 0:
            raise _changed(self.name)

    def read_into(self, descriptor: int, offset: int, place: memoryview) -> None:
        """Fill all of a place from the open file.

        Raises:
            ImageError: It cannot be read, or has changed since it was checked.
        """
        filled = 0
        try:
            os.lseek(descriptor, offset, os.SEEK_SET)
            with FileIO(descriptor, closefd=False) as file:
                while filled < len(place) and (count := file.readinto(place[filled:])):
                    filled += count
        except OSError as error:
            raise unreadable(self.name, error) from error
        self.check(descriptor)
        if filled != len(place):
            raise _changed(self.name)


def _fingerprint(status: os.stat_result) -> tuple[int, int, int, int]:
    return status.st_size, status.st_mtime_ns, status.st_ino, status.st_dev


class _Seekable(BinaryFile, Protocol):
    def seek(self, offset: int, whence: int = ..., /) -> int: ...


class _Turn:
    """A lock that can be weakly referenced."""

    def __init__(self) -> None:
        self.lock = threading.Lock()


# One per file object: several uploads of the same one must not move its position under each other.
_TURNS: Final[WeakValueDictionary[int, _Turn]] = WeakValueDictionary()
_TURNS_LOCK: Final = threading.Lock()


def _turn_of(file: BinaryFile) -> _Turn:
    with _TURNS_LOCK:
        # Whoever holds a turn also holds its file, so the id of a file that has one is not used again.
        return _TURNS.setdefault(id(file), _Turn())


class InSeekableFile:
    """The rest of a file object, from where its position was; it is never closed.

    Attributes:
        name: For messages.
        size: Bytes from there to its end.
    """

    def __init__(self, name: str, file: BinaryFile) -> None:
        self.name = name
        self._file = cast("_Seekable", file)
        self._turn = _turn_of(file)
        with self._turn.lock:
            try:
                self._start = self._file.seek(0, os.SEEK_CUR)
                self.size: int = max(0, self._file.seek(0, os.SEEK_END) - self._start)
                self._file.seek(self._start)
            except Exception as error:
                raise unreadable(name, error) from error

    def beginning(self, size: int) -> bytes:
        """Return up to so many of the first bytes; the position is put back to where it was.

        Raises:
            ImageError: As ``read_at``.
        """
        return self.read_at(0, min(size, self.size))

    def read_at(self, offset: int, size: int) -> bytes:
        """Return exactly ``size`` bytes; the position is put back to where it was.

        Raises:
            ImageError: It was closed, cannot be read, or has changed its size.
        """
        is_last = offset + size == self.size
        with self._turn.lock:
            try:
                position = self._file.seek(0, os.SEEK_CUR)
                self._file.seek(self._start + offset)
                content = _exactly(self._file.read, size)
                has_grown = is_last and bool(self._file.read(1))
                self._file.seek(position)
            except Exception as error:
                raise unreadable(self.name, error) from error
        if len(content) != size or has_grown:
            raise _changed(self.name)
        return content


def read_rest(name: str, file: BinaryFile, limit: int) -> InMemory:
    """Read a file object that cannot be rewound, such as a pipe, no further than the limit.

    Raises:
        ImageTooLargeError: There are more than ``limit`` bytes.
        ImageError: It cannot be read.
    """
    try:
        content = _exactly(file.read, limit + 1)
    except Exception as error:
        raise unreadable(name, error) from error
    if len(content) > limit:
        raise ImageTooLargeError(f"{name} has more than {limit:,} bytes, the most that can be sent.")
    return InMemory(content)


def _exactly(read: Callable[[int], bytes], size: int) -> bytes:
    """Read until there is enough or no more: one read may give less than it was asked for."""
    content = cast("object", read(size))
    if not isinstance(content, (bytes, bytearray)):
        close = getattr(content, "close", None)
        if callable(close):
            close()  # a coroutine that nobody will wait for
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
