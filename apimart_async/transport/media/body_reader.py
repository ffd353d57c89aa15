"""One pass over an image while it is sent: open from its first piece to its last, and never waited for.

What the system holds in memory already is read on the event loop, which takes 60 µs a piece; what it would
have to fetch, in a worker thread; where it does not tell, as ``folder.py`` has measured. Going to a thread
for every piece doubles what sending a file costs.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final, Protocol

from anyio import to_thread

from apimart_async.transport.files.threads import on_disk
from apimart_async.transport.media.sources import InMemory

if TYPE_CHECKING:
    from apimart_async.transport.media.sources import OnDisk, Source

PIECE_BYTES: Final = 512 * 1024
_FRAMING_BYTES: Final = 8 * 1024
_MOST_KEPT: Final = 4

# Only Linux tells whether a read would wait, and not for every file system.
_NO_WAIT: Final[int | None] = getattr(os, "RWF_NOWAIT", None)


class Scratch:
    """Memory that pieces are read into, used again once they have left.

    New memory is filled with zeros before anything is read into it, and that is a tenth of what sending a
    file costs.

    Args:
        piece_bytes: How much of an image is read at once.
    """

    def __init__(self, piece_bytes: int = PIECE_BYTES) -> None:
        self.piece_bytes: int = piece_bytes
        self._memory_bytes = piece_bytes + _FRAMING_BYTES
        self._kept: list[bytearray] = []

    def take(self, size: int) -> memoryview:
        """Return memory of so many bytes, with anything in it."""
        if size > self._memory_bytes:
            return memoryview(bytearray(size))
        return memoryview(self._kept.pop() if self._kept else bytearray(self._memory_bytes))[:size]

    def give_back(self, piece: memoryview) -> None:
        """Use the memory of a piece again: nobody may look at it any more."""
        memory = piece.obj
        if isinstance(memory, bytearray) and len(memory) == self._memory_bytes:
            self._kept.append(memory)
            del self._kept[_MOST_KEPT:]


class Passage(Protocol):
    """One pass over what is sent, from its start to its end."""

    async def read(self, scratch: Scratch, /) -> bytes | memoryview:
        """Return the next piece, and nothing at the end.

        Args:
            scratch: Says how large a piece is, and has the memory of one that is a memoryview.

        Raises:
            ImageError: It can no longer be read or has changed since it was checked. The last piece is
                returned only when it certainly has not, so a file that has changed never arrives whole.
        """
        ...

    def close(self) -> None:
        """End it, wherever it is, and leave nothing open."""
        ...


class FilePassage:
    """A pass over a file on disk.

    Args:
        file: What to read.
        head: Comes before the content, in its first piece.
        tail: Comes after it, in its last.
    """

    def __init__(self, file: OnDisk, head: bytes, tail: bytes) -> None:
        self._file = file
        self._folder = file.folder
        self._size = file.size
        self._head = head
        self._tail = tail
        self._offset = 0
        self._descriptor: int | None = None
        self._tells = _NO_WAIT is not None

    async def read(self, scratch: Scratch) -> bytes | memoryview:
        """Return the next piece, and nothing at the end.

        Args:
            scratch: Says how large a piece is, and has the memory for it.

        Raises:
            ImageError: It can no longer be read or has changed since it was checked.
        """
        offset = self._offset
        size = min(scratch.piece_bytes, self._size - offset)
        if size == 0:
            return b""
        if self._descriptor is None:
            await self._folder.call(self._open)
        before = self._head if offset == 0 else b""
        after = self._tail if offset + size == self._size else b""
        # Read to where it is sent from: putting a piece together afterwards copies it twice.
        piece = place = scratch.take(len(before) + size + len(after))
        if before or after:
            piece[: len(before)] = before
            piece[len(before) + size :] = after
            place = piece[len(before) : len(before) + size]
        if not self._read_now(place):
            # Where the system tells, it is not in memory; where it does not, the folder may be quick.
            call = on_disk if self._tells else self._folder.call
            await call(self._read, place)
        self._offset += size
        return piece

    def close(self) -> None:
        """Close the file."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _open(self) -> None:
        self._descriptor = self._file.open()

    def _read_now(self, place: memoryview) -> bool:
        """Fill the place if all that goes there is in memory; return whether it is."""
        if not self._tells or self._descriptor is None or _NO_WAIT is None:
            return False
        try:
            if os.preadv(self._descriptor, [place], self._offset, _NO_WAIT) != len(place):
                return False
        except BlockingIOError:
            return False
        except OSError:  # this file system cannot tell
            self._tells = False
            return False
        if self._offset + len(place) == self._size:
            self._file.check(self._descriptor)  # with the last piece kept back, the rest is worth nothing
        return True

    def _read(self, place: memoryview) -> None:
        if self._descriptor is None:
            raise RuntimeError("The file is not open.")
        self._file.read_into(self._descriptor, self._offset, place)


class OtherPassage:
    """A pass over bytes in memory, or over a file object of the caller's.

    Args:
        source: What to read.
        head: Comes before the content, in its first piece.
        tail: Comes after it, in its last.
    """

    def __init__(self, source: Source, head: bytes, tail: bytes) -> None:
        self._source = source
        self._head = head
        self._tail = tail
        self._offset = 0

    async def read(self, scratch: Scratch) -> bytes:
        """Return the next piece, and nothing at the end.

        Args:
            scratch: Says how large a piece is.

        Raises:
            ImageError: It can no longer be read or has changed since it was checked.
        """
        source, offset = self._source, self._offset
        size = min(scratch.piece_bytes, source.size - offset)
        if size == 0:
            return b""
        if isinstance(source, InMemory):
            piece = source.read_at(offset, size)
        else:
            # A file object of the caller's may take as long as it likes.
            piece = await to_thread.run_sync(source.read_at, offset, size)
        self._offset += size
        before = self._head if offset == 0 else b""
        after = self._tail if self._offset == source.size else b""
        return b"".join((before, piece, after)) if before or after else piece

    def close(self) -> None:
        """Leave a file object of the caller's as it is."""
