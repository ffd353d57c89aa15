"""What a passage over an image gives."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from apimart_async.transport.passage import Passage


async def pieces_of(passage: Passage) -> list[bytes | bytearray]:
    """Read it to its end."""
    pieces: list[bytes | bytearray] = []
    with closing(passage):
        while piece := await passage.read():
            pieces.append(piece)
    return pieces
