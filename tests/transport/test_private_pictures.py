"""No way of sending a picture tells where it was taken, unless the caller wants that."""

from __future__ import annotations

import base64
import io
import json
import re
from typing import TYPE_CHECKING, Any, Final

import pytest
from PIL import Image

from apimart_async import AsyncApimart, AsyncAppleRouter, Job, Media, edit_many

from .test_metadata import SECRET, drawn, exif, saved

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from .conftest import Exchange, RawServer

JPEG: Final = saved(drawn("RGB"), "JPEG", exif=exif(6), comment=SECRET)
PNG: Final = saved(drawn("RGBA"), "PNG", exif=exif(6))
TASK: Final = {"code": 200, "data": [{"task_id": "task_1", "status": "submitted"}]}
RESULT: Final = base64.b64encode(b"GIF89a").decode()


async def answer(exchange: Exchange) -> None:
    seen = await exchange.read()
    if seen.path.startswith("/v1/uploads"):
        found = re.search(rb"\r\n\r\n(.*)\r\n--[^\r]+--\r\n$", seen.body, re.DOTALL)
        assert found
        said: Any = {"url": f"https://files.example/{exchange.number}", "bytes": len(found[1])}
    elif seen.path == "/v1/images/edits/":
        said = {"created": 1, "data": [{"b64_json": RESULT}]}
    else:
        said = TASK
    await exchange.answer(json.dumps(said).encode())


FORMS: Final[dict[str, Callable[[Path], Any]]] = {
    "a path": str,
    "bytes": lambda path: path.read_bytes(),
    "a binary file": lambda path: io.BytesIO(path.read_bytes()),
    "a named file": lambda path: ("photo.jpg", path.read_bytes(), "image/jpeg"),
    "a data: URL": lambda path: f"data:image/jpeg;base64,{base64.b64encode(path.read_bytes()).decode()}",
    "a Pillow image": Image.open,
}

WAYS: Final[dict[str, Callable[[AsyncApimart, Any], Awaitable[Any]]]] = {
    "uploads.create": lambda client, image: client.uploads.create(image),
    "edits.create": lambda client, image: client.edits.create(image, "stars"),
    "edits.create inline": lambda client, image: client.edits.create(image, "stars", inline=True),
    "generations.create": lambda client, image: client.generations.create("stars", images=image, mask=image),
    "generations.create inline": lambda client, image: client.generations.create(
        "stars", images=image, inline=True
    ),
}


def sent(server: RawServer) -> bytes:
    """Return everything that was sent, with the pictures in ``data:`` URLs decoded."""
    whole = b"\n".join(seen.body for seen in server.seen)
    return whole + b"".join(map(base64.b64decode, re.findall(rb"base64,([A-Za-z0-9+/=]+)", whole)))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("way", WAYS)
async def test_picture_is_sent_without_its_place(
    raw_server: RawServer, tmp_path: Path, way: str, form: str
) -> None:
    raw_server.handle = answer
    path = tmp_path / "photo.jpg"
    path.write_bytes(JPEG)
    async with AsyncApimart("sk-test", base_url=raw_server.base_url) as client:
        await WAYS[way](client, FORMS[form](path))
    assert b"JFIF" in sent(raw_server)
    assert SECRET not in sent(raw_server)


async def test_batch_uploads_pictures_without_their_place(raw_server: RawServer, tmp_path: Path) -> None:
    raw_server.handle = answer
    path = tmp_path / "photo.jpg"
    path.write_bytes(JPEG)
    async with (
        AsyncApimart("sk-test", base_url=raw_server.base_url) as client,
        edit_many(client, [Job(path, "stars")], output=tmp_path / "out", timeout=0.01) as outcomes,
    ):
        assert [outcome.status async for outcome in outcomes] == ["unfinished"]
    assert b"JFIF" in sent(raw_server)
    assert SECRET not in sent(raw_server)


async def test_applerouter_gets_pictures_without_their_place(raw_server: RawServer) -> None:
    raw_server.handle = answer
    async with AsyncAppleRouter("sk-test", base_url=raw_server.base_url) as router:
        await router.edits.create(JPEG, "stars", mask=PNG, model="gpt-image-1")
    assert b"JFIF" in sent(raw_server)
    assert b"IHDR" in sent(raw_server)
    assert SECRET not in sent(raw_server)


@pytest.mark.parametrize("way", WAYS)
async def test_caller_may_keep_the_metadata(raw_server: RawServer, way: str) -> None:
    raw_server.handle = answer
    media = Media(keep_metadata=True)
    async with AsyncApimart("sk-test", base_url=raw_server.base_url, media=media) as client:
        await WAYS[way](client, JPEG)
    assert JPEG in sent(raw_server)
