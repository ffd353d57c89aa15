"""Attacks on the emulator: pages of other sites, requests without the key, decompression bombs."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import struct
import sys
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import anyio
import pytest
from PIL import Image

from apimart_async.emulator import Emulator, Fault

if TYPE_CHECKING:
    from .conftest import Raw


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "127.0.0.1.evil.example:80"},
        {"Host": ""},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
    ],
)
@pytest.mark.parametrize("path", ["/v1/balance", "/emulator/ledger", "/files/uploads/a"])
async def test_pages_of_other_sites_get_nothing(raw: Raw, headers: dict[str, str], path: str) -> None:
    assert (await raw.send("GET", path, headers=headers)).status == 403


async def test_its_own_names_are_known(raw: Raw) -> None:
    port = raw.emulator.base_url.rpartition(":")[2]
    for host in (f"127.0.0.1:{port}", f"localhost:{port}", "localhost", f"[::1]:{port}"):
        assert (await raw.send("GET", "/v1/balance", headers={"Host": host})).status == 200
        own = {"Host": host, "Origin": f"http://{host}"}
        assert (await raw.send("GET", "/v1/balance", headers=own)).status == 200


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/emulator/ledger"), *((method, "/emulator/faults") for method in ("GET", "POST", "DELETE"))],
)
@pytest.mark.parametrize("token", ["", "Bearer wrong"])
async def test_the_controls_want_the_key(raw: Raw, method: str, path: str, token: str) -> None:
    raw.emulator.faults.add(Fault(kind="disconnect", route="account"))
    answer = await raw.send(method, path, headers={"Authorization": token}, data=b"[]")
    assert answer.status == 401
    assert len(raw.emulator.faults) == 1


async def test_a_token_that_is_no_text_is_refused(raw: Raw) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", int(raw.emulator.base_url.rpartition(":")[2]))
    writer.write(b"GET /v1/balance HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n")
    writer.write(b"Authorization: Bearer \xff\r\n\r\n")
    assert (await reader.read()).startswith(b"HTTP/1.1 401 ")
    writer.close()


async def test_faults_hold_no_more_than_they_may(raw: Raw) -> None:
    many = json.dumps([{"kind": "disconnect"}] * 1001).encode()
    assert (await raw.send("POST", "/emulator/faults", data=many)).status == 400
    large = json.dumps({"kind": "large-images", "size": 2**40}).encode()
    assert (await raw.send("POST", "/emulator/faults", data=large)).status == 400
    assert len(raw.emulator.faults) == 0


@pytest.mark.may_block
async def test_a_refused_upload_leaves_no_file(raw: Raw) -> None:
    directory = raw.emulator._directory
    assert directory is not None
    for content in (b"no image " * 300_000, b"\x89PNG\r\n\x1a\n" + bytes(21_000_000)):
        assert (await raw.upload(content)).status in {400, 413}
    assert list(directory.iterdir()) == []


def bomb(side: int) -> bytes:
    """Return a small PNG of many pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    packer = zlib.compressobj(9)
    row = bytes(1 + side // 8)
    rows = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()
    head = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def small_png() -> bytes:
    file = io.BytesIO()
    Image.new("RGBA", (64, 64), (0, 0, 0, 0)).save(file, "PNG")
    return file.getvalue()


@pytest.mark.may_block
async def test_a_small_mask_of_many_pixels_is_refused(raw: Raw) -> None:
    form: Any = aiohttp.FormData()
    for name, content in (("image", small_png()), ("mask", bomb(12_800))):
        form.add_field(name, content, filename=f"{name}.png", content_type="image/png")
    form.add_field("prompt", "a red hat")
    form.add_field("model", "gpt-image-1")
    answer = await raw.send("POST", "/v1/images/edits/", data=form)
    assert answer.status == 400
    assert b"mask could not be read" in answer.content


@pytest.mark.long
async def test_large_pictures_are_rendered_one_at_a_time() -> None:
    script = Path(__file__).with_name("large_renders.py")
    run = await anyio.run_process([sys.executable, str(script)])
    assert int(run.stdout) < 900  # MiB: six of 200 MiB, each three times at its peak


@pytest.mark.may_block
@pytest.mark.parametrize("mask", [bomb(12_800), bomb(64)[:45]], ids=["bomb", "damaged"])
async def test_a_mask_of_a_generation_is_refused_before_it_is_billed(raw: Raw, mask: bytes) -> None:
    body = {
        "model": "gemini-3-pro-image-preview",
        "prompt": "a red hat",
        "image_urls": ["https://files.example/photo.png"],
        "mask_url": f"data:image/png;base64,{base64.b64encode(mask).decode()}",
    }
    answer = await raw.send("POST", "/v1/images/generations", json=body)
    assert answer.status == 400
    assert b"could not be read" in answer.content
    assert not raw.emulator.ledger.entries


async def test_an_emulator_that_is_open_to_other_machines_has_any_name_and_wants_the_key() -> None:
    async with Emulator(host="0.0.0.0") as emulator:  # noqa: S104 open to other machines
        assert emulator.base_url.startswith("http://127.0.0.1:")
        async with aiohttp.ClientSession() as session:
            headers = {"Host": "a-machine.example", "Authorization": f"Bearer {emulator.api_key}"}
            async with session.get(f"{emulator.base_url}/emulator/ledger", headers=headers) as response:
                assert response.status == 200
            del headers["Authorization"]
            async with session.get(f"{emulator.base_url}/emulator/ledger", headers=headers) as response:
                assert response.status == 401
