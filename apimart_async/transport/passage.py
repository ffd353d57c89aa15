"""One pass over a file on disk while it is sent: open from its first piece to its last, and never waited for.

What the system holds in memory already is read on the event loop, which takes 30 µs a piece; what it would
have to fetch, in a worker thread. Going to a thread for every piece doubles what sending a file costs.
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


async def file_pieces(file: OnDisk, most: int) -> AsyncGenerator[bytes | bytearray, None]:
    """Yield the content in pieces of up to so many bytes; closing the generator closes the file.

    Raises:
        ImageError: It can no longer be read or has changed since it was checked.
    """
    passage = _Passage(file)
    try:
        await on_disk(passage.open)
        for offset in range(0, file.size, most):
            size = min(most, file.size - offset)
            piece = passage.read_now(offset, size)
            yield await on_disk(passage.read, offset, size) if piece is None else piece
    finally:
        passage.close()


class _Passage:
    def __init__(self, file: OnDisk) -> None:
        self._file = file
        self._descriptor: int | None = None
        self._may_read_now = _NO_WAIT is not None

    def open(self) -> None:
        self._descriptor = self._file.open()

    def read_now(self, offset: int, size: int) -> bytearray | None:
        """Return the piece if it is in memory."""
        if not self._may_read_now or self._descriptor is None or _NO_WAIT is None:
            return None
        piece = bytearray(size)
        try:
            if os.preadv(self._descriptor, [piece], offset, _NO_WAIT) != size:
                return None
        except BlockingIOError:
            return None
        except OSError:  # this file system cannot tell
            self._may_read_now = False
            return None
        self._file.check(self._descriptor)
        return piece

    def read(self, offset: int, size: int) -> bytes:
        if self._descriptor is None:
            raise RuntimeError("The file is not open.")
        return self._file.read_from(self._descriptor, offset, size)

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
