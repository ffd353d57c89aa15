"""A client that shares no code with the SDK: plain aiohttp, so that one misreading cannot hide in both."""

from __future__ import annotations

import io
import json
import random
from collections.abc import Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import aiohttp
import anyio
import anyio.lowlevel
import pytest
from attrs import define, field, frozen
from PIL import Image

from apimart_async.emulator import Emulator

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager

    Open = Callable[..., AbstractAsyncContextManager["Raw"]]
    MakeImage = Callable[..., bytes]


@frozen
class Answer:
    """A complete response."""

    status: int
    headers: Mapping[str, str]
    content: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.content)


@define
class Raw:
    """Send bare requests to an emulator."""

    emulator: Emulator
    session: aiohttp.ClientSession
    headers: dict[str, str] = field(factory=dict[str, str])

    async def send(self, method: str, path: str, **options: Any) -> Answer:
        url = path if path.startswith("http") else f"{self.emulator.base_url}{path}"
        headers = self.headers | options.pop("headers", {})
        async with self.session.request(method, url, headers=headers, **options) as response:
            return Answer(response.status, response.headers, await response.read())

    async def upload(self, content: bytes, filename: str = "photo.jpg") -> Answer:
        form = aiohttp.FormData(quote_fields=False)  # UTF-8 as it is, like curl and browsers
        form.add_field(
            "file", io.BytesIO(content), filename=filename, content_type="application/octet-stream"
        )
        return await self.send("POST", "/v1/uploads/images", data=form)

    async def edit(self, *, headers: Mapping[str, str] | None = None, **fields: Any) -> Answer:
        body = {
            "model": "grok-imagine-1.0-edit-apimart",
            "prompt": "Change the background to a starry sky",
            "image_urls": ["https://pictures.example/photo.jpg"],
        } | fields
        return await self.post("/v1/images/edits", body, headers)

    async def post(self, path: str, body: object, headers: Mapping[str, str] | None = None) -> Answer:
        """Send JSON of any size."""
        content = io.BytesIO(json.dumps(body).encode())
        return await self.send(
            "POST", path, data=content, headers={"Content-Type": "application/json", **(headers or {})}
        )

    async def submitted(self, **fields: Any) -> str:
        answer = await self.edit(**fields)
        assert answer.status == 200, answer.content
        return str(answer.json["data"][0]["task_id"])

    async def finished(self, task_id: str) -> Any:
        """Move the clock until the task has ended, and return the task."""
        self.emulator.advance(3600)
        answer = await self.send("GET", f"/v1/tasks/{task_id}")
        assert answer.status == 200, answer.content
        return answer.json["data"]


async def until(condition: Callable[[], bool]) -> None:
    """Wait for a state of the emulator that no event reports."""
    while not condition():  # noqa: ASYNC110 - as the docstring says
        await anyio.sleep(0.001)


@asynccontextmanager
async def _open(**options: Any) -> AsyncGenerator[Raw]:
    async with Emulator(**options) as emulator, aiohttp.ClientSession() as session:
        yield Raw(emulator, session, {"Authorization": f"Bearer {emulator.api_key}"})
    await anyio.lowlevel.checkpoint()  # lets closed transports finish before their loop closes


@pytest.fixture
def open_emulator() -> Open:
    """Start an emulator with the given options."""
    return _open


@pytest.fixture
async def raw() -> AsyncIterator[Raw]:
    """Start an emulator with its defaults."""
    async with _open() as opened:
        yield opened


@pytest.fixture
def make_image() -> MakeImage:
    """Draw a small image with six rectangles."""

    def make(kind: str = "JPEG", size: tuple[int, int] = (64, 48), mode: str = "RGB", seed: int = 1) -> bytes:
        source = random.Random(seed)
        image = Image.new(mode, size, 0)
        for _ in range(6):
            left, top = source.randrange(size[0]), source.randrange(size[1])
            colour = tuple(source.randrange(256) for _ in image.getbands())
            image.paste(colour, (left, top, min(size[0], left + 30), min(size[1], top + 30)))
        file = io.BytesIO()
        image.save(file, kind)
        return file.getvalue()

    return make
