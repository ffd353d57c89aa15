"""Render six large pictures at a time in an emulator, and print the largest memory of this process in MiB."""

from __future__ import annotations

import resource
import struct
import sys
import zlib

import anyio

from apimart_async import AsyncApimart
from apimart_async.emulator import Emulator

_SIDE = 7000
_PICTURES = 6


def picture(shade: int) -> bytes:
    """Return a small PNG of 49 million pixels with an alpha channel."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    packer = zlib.compressobj(1)
    row = b"\0" + bytes([shade]) * (4 * _SIDE)
    rows = b"".join(packer.compress(row) for _ in range(_SIDE)) + packer.flush()
    head = struct.pack(">IIBBBBB", _SIDE, _SIDE, 8, 6, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


async def main() -> None:
    async with (
        Emulator(task_seconds=0) as emulator,
        AsyncApimart(emulator.api_key, base_url=emulator.base_url) as client,
    ):

        async def edit(shade: int) -> None:
            task = await client.edits.run(picture(shade), "stars")
            await client.images.read(task.images[0])

        async with anyio.create_task_group() as group:
            for shade in range(_PICTURES):
                group.start_soon(edit, shade)
    sys.stdout.write(str(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024))


if __name__ == "__main__":
    anyio.run(main)
