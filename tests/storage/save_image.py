"""Save the image of a URL to a folder, and print how many KiB of memory that took.

python save_image.py URL FOLDER
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import anyio

from apimart_async import AsyncApimart, Image, Limits
from apimart_async.transport.files.objects import check_writable
from apimart_async.transport.object_storage import ObjectPath, any_path


def memory(name: str) -> int:
    """Return the memory of this process now, or its maximum; that of getrusage has the parent in it."""
    found = re.search(
        rf"^{name}:\s*(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii"), re.MULTILINE
    )
    assert found
    return int(found[1])


async def save(url: str, folder: ObjectPath) -> int:
    await check_writable(folder)  # the memory of the first use of a store is not that of the image
    before = memory("VmRSS")
    async with AsyncApimart("sk-test", base_url=url, limits=Limits(download_bytes=1 << 30)) as client:
        await client.images.save(Image(url), folder, name="large")
    return memory("VmHWM") - before


if __name__ == "__main__":
    path = any_path(sys.argv[2])
    assert isinstance(path, ObjectPath)
    sys.stdout.write(str(anyio.run(save, sys.argv[1], path)))
