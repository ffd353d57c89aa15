"""`apimart emulator`: the requests it prints work, and a signal ends it."""

from __future__ import annotations

import json
import re
import shutil
import signal
import socket
import sys
from typing import TYPE_CHECKING

import anyio
import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from .conftest import Command

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals are those of POSIX")


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
async def test_the_requests_it_prints_get_the_documented_answers(offline: Command, photo: Path) -> None:
    shutil.copy(photo, offline.directory / "photo.jpg")
    running = await offline.start("emulator", "--task-seconds", "0.1", "--api-key", "it's mine")
    assert running.process.stdout
    await running.stderr_until("Running until Ctrl-C")
    introduction = (await running.process.stdout.receive()).decode()

    lines = [line for line in introduction.splitlines() if line and not line.startswith("#")]
    exports, (upload, submit, look) = lines[:2], lines[2:]
    uploaded = json.loads(await shell(*exports, upload, directory=offline.directory))
    submitted = json.loads(
        await shell(submit.replace("UPLOAD_URL", uploaded["url"]), directory=offline.directory)
    )
    (data,) = submitted["data"]
    looked = json.loads(await shell(look.replace("TASK_ID", data["task_id"]), directory=offline.directory))
    while looked["data"]["status"] not in {"completed", "failed"}:
        await anyio.sleep(0.05)
        again = look.replace("TASK_ID", data["task_id"])
        looked = json.loads(await shell(again, directory=offline.directory))
    downloaded = await shell(f"curl {uploaded['url']} -o uploaded.jpg", directory=offline.directory)
    done = await running.interrupt()

    assert uploaded["filename"] == "photo.jpg"
    upload_form, result_form = re.findall(r"http://[^ ,:]+:\d+/files/[^ ,:]+", introduction)
    assert re.fullmatch(upload_form.replace("NAME", r"\w+\.png"), uploaded["url"])
    urls: list[str] = looked["data"]["result"]["images"][0]["url"]
    of_task = result_form.replace("TASK_ID", data["task_id"])
    assert all(re.fullmatch(of_task.replace("NAME", r"image_0\.\w+"), url) for url in urls)
    assert not downloaded
    assert (offline.directory / "uploaded.jpg").read_bytes() == photo.read_bytes()
    assert data["status"] == "submitted"
    assert looked["data"]["id"] == data["task_id"]
    assert done.code == 0
    assert "Stopped. Billed 1 of 1 submits: $0.015." in done.stderr
    assert "Warning" not in done.stderr


async def shell(*lines: str, directory: Path) -> str:
    script = "\n".join(line.replace("curl ", "curl -sS ") for line in lines)
    return (await anyio.run_process(["bash", "-euc", script], cwd=directory)).stdout.decode()


async def test_json_has_the_address_faults_come_from_a_file_and_an_open_port_is_warned_of(
    offline: Command, photo: Path
) -> None:
    everywhere = "0.0.0.0"  # noqa: S104 the warning is about this address
    faults = offline.directory / "faults.toml"
    faults.write_text('[[faults]]\nkind = "status"\nroute = "uploads"\nstatus = 413\nmessage = "too much"\n')
    options = ("--host", everywhere, "--variants", "--compat", "--faults", faults)
    running = await offline.start("emulator", "--json", *options)
    await running.stderr_until("Running until Ctrl-C")
    assert running.process.stdout
    where = json.loads(await running.process.stdout.receive())
    uploaded = await offline(
        "upload", photo, APIMART_API_KEY=where["api_key"], APIMART_BASE_URL=where["base_url"]
    )
    done = await running.interrupt(signal.SIGTERM)

    assert where["api_key"] == "sk-emulator"
    assert where["base_url"].startswith("http://127.0.0.1:")
    assert uploaded.code == 1
    assert ": too much (HTTP 413" in uploaded.stderr
    assert done.code == 0
    assert f"Warning: other machines can reach {everywhere}" in done.stderr


async def test_a_port_in_use_is_a_sentence(offline: Command) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = await offline("emulator", "--port", str(taken.getsockname()[1]))

    assert done.code == 2
    assert "Choose another --host or --port" in done.stderr
