from __future__ import annotations

import asyncio
import gc
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import anyio
import anyio.lowlevel
import pytest

from apimart_async.emulator import Emulator

from .conftest import until

if TYPE_CHECKING:
    import random

    from .conftest import MakeImage, Open, Raw


def an_hour(_: random.Random) -> float:
    return 3600


@pytest.fixture(autouse=True)
def _own_temporary_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide the directories of emulators in other processes."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def directories() -> set[Path]:
    return set(Path(tempfile.gettempdir()).glob("apimart-emulator-*"))


async def test_leaving_closes_everything(open_emulator: Open, make_image: MakeImage) -> None:
    before = directories()
    async with open_emulator() as raw:
        await raw.upload(make_image())
        address = ("127.0.0.1", int(raw.emulator.base_url.rpartition(":")[2]))
        reader, writer = await asyncio.open_connection(*address)
        assert directories() - before
    assert not directories() - before
    assert await reader.read() == b""
    writer.close()
    await writer.wait_closed()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(*address)


async def test_leaving_does_not_wait_for_running_requests(open_emulator: Open, make_image: MakeImage) -> None:
    """Neither a half-sent request nor an edit of an hour delays it; the deadline only catches a hang."""
    with anyio.fail_after(600):
        async with open_emulator(task_seconds=an_hour) as raw:
            address = ("127.0.0.1", int(raw.emulator.base_url.rpartition(":")[2]))
            _, half = await asyncio.open_connection(*address)
            half.write(b"POST /v1/uploads/images HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\n\r\n")
            await half.drain()
            form = aiohttp.FormData({"prompt": "p", "model": "m"})
            form.add_field("image", make_image("PNG"), filename="a.png")
            waiting = asyncio.ensure_future(raw.send("POST", "/v1/images/edits/", data=form))
            await until(lambda: raw.emulator.most_connections == 2 and bool(raw.emulator.ledger.entries))
        with pytest.raises(aiohttp.ClientError):
            await waiting
        half.close()


async def test_cancellation_closes_everything() -> None:
    emulator = Emulator()
    before = directories()
    port = 0
    async with anyio.create_task_group() as group:
        group.start_soon(emulator.serve_forever)
        await until(lambda: emulator.running)
        port = int(emulator.base_url.rpartition(":")[2])
        group.cancel_scope.cancel()
    assert not emulator.running
    assert directories() == before
    with socket.socket() as again:
        again.bind(("127.0.0.1", port))


async def test_cancellation_during_the_start_leaves_no_socket() -> None:
    """Collecting an open socket would warn, and a warning is an error here."""
    before = directories()
    for moment in range(12):
        async with anyio.create_task_group() as group:
            group.start_soon(Emulator().serve_forever)
            while directories() == before:
                await anyio.lowlevel.checkpoint()
            for _ in range(moment):
                await anyio.lowlevel.checkpoint()
            group.cancel_scope.cancel()
        assert directories() == before
    gc.collect()


async def test_records_outlive_the_emulator(open_emulator: Open) -> None:
    async with open_emulator() as raw:
        await raw.submitted()
    assert len(raw.emulator.ledger.entries) == 1
    assert raw.emulator.counts == {"edits": 1}
    assert len(raw.emulator.requests) == 1


async def test_an_emulator_runs_once() -> None:
    emulator = Emulator()
    with pytest.raises(RuntimeError, match="does not run"):
        _ = emulator.base_url
    async with emulator:
        assert emulator.base_url.startswith("http://127.0.0.1:")
    with pytest.raises(RuntimeError, match="does not run"):
        _ = emulator.base_url
    with pytest.raises(RuntimeError, match="runs once"):
        async with emulator:
            pass


async def test_a_port_in_use_is_an_error_and_leaves_nothing(raw: Raw) -> None:
    before = directories()
    port = int(raw.emulator.base_url.rpartition(":")[2])
    with pytest.raises(OSError, match="address already in use"):
        async with Emulator(port=port):
            pass
    assert directories() == before


@pytest.mark.parametrize(
    "options",
    [
        {"port": -1},
        {"port": 70_000},
        {"api_key": ""},
        {"balance": -1},
        {"upload_ttl": 0},
        {"result_ttl": -5},
        {"rate_limit": 0},
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be"):
        Emulator(**options)


def test_the_key_is_not_in_the_repr() -> None:
    assert "secret" not in repr(Emulator(api_key="secret"))


async def test_another_key_can_be_set(open_emulator: Open) -> None:
    async with open_emulator(api_key="sk-other") as raw:
        assert raw.emulator.api_key == "sk-other"
        assert (await raw.edit()).status == 200
        assert (await raw.edit(headers={"Authorization": "Bearer sk-emulator"})).status == 401


async def test_the_clock_only_goes_forwards(raw: Raw) -> None:
    with pytest.raises(ValueError, match="forwards"):
        raw.emulator.advance(-1)


async def test_connections_are_counted(raw: Raw) -> None:
    async with anyio.create_task_group() as group:
        for _ in range(7):
            group.start_soon(raw.send, "GET", "/v1/models")
    assert 1 <= raw.emulator.most_connections <= 7
    port = int(raw.emulator.base_url.rpartition(":")[2])
    writers = [(await asyncio.open_connection("127.0.0.1", port))[1] for _ in range(9)]
    await raw.send("GET", "/v1/models")
    assert raw.emulator.most_connections >= 9
    for writer in writers:
        writer.close()
        await writer.wait_closed()


async def test_clients_that_disconnect_cause_no_errors(raw: Raw, caplog: pytest.LogCaptureFixture) -> None:
    port = int(raw.emulator.base_url.rpartition(":")[2])
    head = b"POST /v1/uploads/images HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer sk-emulator\r\n"
    form = b"Content-Type: multipart/form-data; boundary=x\r\n"
    part = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nabc'
    bodies = [
        form + b"Content-Length: 999\r\n\r\n" + part,
        form + b"Transfer-Encoding: chunked\r\n\r\n5\r\n--x",
        b"Content-Type: application/json\r\nContent-Length: 999\r\n\r\n{",
    ]
    for body in bodies:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(head + body)
        await writer.drain()
        writer.close()
        await writer.wait_closed()
    await until(lambda: len(raw.emulator.requests) == len(bodies))
    assert (await raw.edit()).status == 200
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


def test_without_pillow_the_extra_is_named() -> None:
    code = """
import sys
sys.modules["PIL"] = None
try:
    import apimart_async.emulator
except ModuleNotFoundError as missing:
    print(missing)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "apimart_async.emulator needs Pillow: pip install '.[emulator]' in the clone\n"
