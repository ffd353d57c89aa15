"""What a passage over an image gives."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from apimart_async.transport.media.body_reader import Scratch

if TYPE_CHECKING:
    from apimart_async.transport.media.body_reader import Passage


async def pieces_of(passage: Passage) -> list[bytes]:
    """Read it to its end, with the memory of each piece used again for the next."""
    pieces: list[bytes] = []
    scratch = Scratch()
    with closing(passage):
        while piece := await passage.read(scratch):
            pieces.append(bytes(piece))
            if isinstance(piece, memoryview):
                scratch.give_back(piece)
    return pieces
