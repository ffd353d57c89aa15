"""aiohttp by hand, as lean as one would write it with care: what everything else is measured against."""

from __future__ import annotations

import os
import secrets
from io import FileIO
from typing import TYPE_CHECKING, Any, Final

import aiohttp
from aiohttp import payload

from benchmarks.clients import KEY, MODEL, PROMPT

try:
    from orjson import loads
except ImportError:
    from json import loads

if TYPE_CHECKING:
    from pathlib import Path

    from aiohttp.abc import AbstractStreamWriter

_PIECE_BYTES: Final = 256 * 1024
_BAD_FROM: Final = 400
_EXTENSIONS: Final = (".jpg", ".png", ".webp", ".gif", ".avif")


class WithForm:
    """Uploads with ``FormData`` and an open file, as aiohttp's documentation shows.

    Args:
        base_url: Of the service.
        at_once: Most connections.
    """

    def __init__(self, base_url: str, at_once: int) -> None:
        self._base_url = base_url
        self._at_once = at_once

    async def __aenter__(self) -> object:
        connector = aiohttp.TCPConnector(limit=self._at_once)
        headers = {"Authorization": f"Bearer {KEY}"}
        self.session = aiohttp.ClientSession(connector=connector, headers=headers)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.session.close()

    async def _send(self, path: str, **body: Any) -> Any:  # noqa: ANN401 whatever aiohttp takes
        async with self.session.post(self._base_url + path, **body) as response:
            return _read(response.status, await response.read())

    async def upload(self, path: Path) -> str:
        """Send the open file."""
        with path.open("rb") as file:
            form = aiohttp.FormData()
            form.add_field("file", file, filename=path.name, content_type="image/jpeg")
            return str((await self._send("/v1/uploads/images", data=form))["url"])

    async def submit(self, uploaded: str) -> str:
        """Submit an edit."""
        edit = {"model": MODEL, "prompt": PROMPT, "image_urls": [uploaded], "n": 1}
        return str((await self._send("/v1/images/edits", json=edit))["data"][0]["task_id"])

    async def poll(self, task_id: str) -> str | None:
        """Look at a task."""
        async with self.session.get(f"{self._base_url}/v1/tasks/{task_id}?language=en") as response:
            task = _read(response.status, await response.read())["data"]
        return task["result"]["images"][0]["url"][0] if task["status"] == "completed" else None

    async def download(self, result: str, directory: Path) -> None:
        """Write pieces as they come, on the loop."""
        with (directory / f"{secrets.token_hex(6)}.jpg").open("wb", buffering=0) as file:
            async with self.session.get(result) as response:
                response.raise_for_status()
                async for piece in response.content.iter_any():
                    file.write(piece)

    def result(self, url: str, number: int) -> str:  # noqa: ARG002 the same for all
        """Return the address."""
        return url


class InPieces(WithForm):
    """Uploads with a payload that reads the file in large pieces, on the loop."""

    async def upload(self, path: Path) -> str:
        """Send head, file and tail."""
        return str((await self._send("/v1/uploads/images", data=_Pieces(path)))["url"])


class Careful(InPieces):
    """Does by hand what the package promises of each image, on the loop, and nothing else of what it does.

    An image is looked at before it is sent; a result is fetched unless it is there, checked while it comes,
    and gets its name when it is whole; a paid request has a key.
    """

    async def upload(self, path: Path) -> str:
        """Look at the file, then send it."""
        with path.open("rb", buffering=0) as file:
            _check_jpeg(file.read(32))
        return await super().upload(path)

    async def submit(self, uploaded: str) -> str:
        """Submit an edit under a new key."""
        edit = {"model": MODEL, "prompt": PROMPT, "image_urls": [uploaded], "n": 1}
        key = {"Idempotency-Key": secrets.token_hex(16)}
        return str((await self._send("/v1/images/edits", json=edit, headers=key))["data"][0]["task_id"])

    async def download(self, result: str, directory: Path) -> None:
        """Write a hidden file and name it when it is whole, unless there is one."""
        stem = f"{directory}/{secrets.token_hex(6)}"
        if any(os.access(stem + extension, os.F_OK) for extension in _EXTENSIONS):
            return
        temporary = f"{directory}/.{secrets.token_hex(4)}.part"
        received = 0
        with FileIO(temporary, "x") as file:
            async with self.session.get(result) as response:
                response.raise_for_status()
                async for piece in response.content.iter_any():
                    if not received:
                        _check_jpeg(piece)
                    received += file.write(piece)
        if received != response.content_length:
            raise RuntimeError(f"{received} bytes of {response.content_length}")
        os.link(temporary, f"{stem}.jpg")
        os.unlink(temporary)  # noqa: PTH108 as lean as can be


class _Pieces(payload.Payload):
    def __init__(self, path: Path) -> None:
        boundary = secrets.token_hex(16)
        super().__init__(path, content_type=f"multipart/form-data; boundary={boundary}")
        disposition = f'Content-Disposition: form-data; name="file"; filename="{path.name}"'
        self._head = f"--{boundary}\r\n{disposition}\r\nContent-Type: image/jpeg\r\n\r\n".encode()
        self._tail = f"\r\n--{boundary}--\r\n".encode()
        self._path = path
        self._size = len(self._head) + path.stat().st_size + len(self._tail)

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:  # noqa: ARG002 aiohttp's
        raise TypeError

    async def write(self, writer: AbstractStreamWriter) -> None:
        with self._path.open("rb", buffering=0) as file:
            piece = self._head + file.read(_PIECE_BYTES)
            while following := file.read(_PIECE_BYTES):
                await writer.write(piece)
                piece = following
            await writer.write(piece + self._tail)


def _check_jpeg(beginning: bytes) -> None:
    if not beginning.startswith(b"\xff\xd8\xff"):
        raise ValueError("This is not a JPEG image.")


def _read(status: int, data: bytes) -> Any:  # noqa: ANN401 JSON
    if status >= _BAD_FROM:
        raise RuntimeError(f"HTTP {status}: {data[:200]!r}")
    return loads(data)
