"""One pass over a file on disk while it is sent: open from its first piece to its last, and never waited for.

What the system holds in memory already is read on the event loop, which takes 30 µs a piece; what it would
have to fetch, in a worker thread; where it does not tell, as ``folder.py`` has measured. Going to a thread
for every piece doubles what sending a file costs.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from apimart_async.transport.disk import on_disk

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from apimart_async.transport.sources import OnDisk

# Only Linux tells whether a read would wait, and not for every file system.
_NO_WAIT: Final[int | None] = getattr(os, "RWF_NOWAIT", None)


async def file_pieces(
    file: OnDisk, most: int, head: bytes = b"", tail: bytes = b""
) -> AsyncGenerator[bytes | bytearray, None]:
    """Yield the content in pieces of up to so many bytes; closing the generator closes the file.

    Args:
        file: What to read.
        most: Bytes of content in one piece.
        head: Comes before the content, in its first piece.
        tail: Comes after it, in its last.

    Raises:
        ImageError: It can no longer be read or has changed since it was checked.
    """
    passage = _Passage(file)
    folder = file.folder
    try:
        await folder.call(passage.open)
        for offset in range(0, file.size, most):
            size = min(most, file.size - offset)
            before, after = head if offset == 0 else b"", tail if offset + size == file.size else b""
            # Read to where it is sent from: putting a piece together afterwards copies it twice.
            piece = bytearray(len(before) + size + len(after))
            piece[: len(before)] = before
            piece[len(before) + size :] = after
            place = memoryview(piece)[len(before) : len(before) + size]
            if not passage.read_now(place, offset):
                # Where the system tells, it is not in memory; where it does not, the folder may be quick.
                read = on_disk if passage.is_told else folder.call
                place[:] = await read(passage.read, offset, size)
            del place
            yield piece
    finally:
        passage.close()


class _Passage:
    """A file that is being sent.

    Attributes:
        is_told: Whether the system tells that a read would wait.
    """

    def __init__(self, file: OnDisk) -> None:
        self._file = file
        self._descriptor: int | None = None
        self.is_told: bool = _NO_WAIT is not None

    def open(self) -> None:
        self._descriptor = self._file.open()

    def read_now(self, place: memoryview, offset: int) -> bool:
        """Fill the place if all that goes there is in memory; return whether it is."""
        if not self.is_told or self._descriptor is None or _NO_WAIT is None:
            return False
        try:
            if os.preadv(self._descriptor, [place], offset, _NO_WAIT) != len(place):
                return False
        except BlockingIOError:
            return False
        except OSError:  # this file system cannot tell
            self.is_told = False
            return False
        self._file.check(self._descriptor)
        return True

    def read(self, offset: int, size: int) -> bytes:
        if self._descriptor is None:
            raise RuntimeError("The file is not open.")
        return self._file.read_from(self._descriptor, offset, size)

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
