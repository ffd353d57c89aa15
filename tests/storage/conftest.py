"""Fixtures of the tests with an S3 server."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.request import Request, urlopen

import attrs
import pytest

from apimart_async import AsyncApimart, Poll
from apimart_async.emulator import Emulator
from apimart_async.transport.object_storage import ObjectPath, any_path

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

ACCESS_KEY = "access-key-of-the-test"
SECRET_KEY = "secret-key-of-the-test"


@attrs.frozen
class Bucket:
    """A bucket of the S3 server, looked at without the package."""

    server: str
    name: str

    def request(self, method: str, path: str, content: bytes | None = None) -> bytes:
        headers = {"Content-Type": "application/octet-stream"}
        request = Request(f"{self.server}{path}", content, headers, method=method)  # noqa: S310 this machine
        with urlopen(request, timeout=60) as answer:  # noqa: S310 this machine
            body: bytes = answer.read()
        return body

    @property
    def folder(self) -> ObjectPath:
        path = any_path(f"s3://{self.name}/out")
        assert isinstance(path, ObjectPath)
        return path

    def put(self, key: str, content: bytes) -> str:
        self.request("PUT", f"/{self.name}/{key}", content)
        return f"s3://{self.name}/{key}"

    def keys(self) -> list[str]:
        return re.findall("<Key>(.*?)</Key>", self.request("GET", f"/{self.name}?list-type=2").decode())

    def uploads(self) -> int:
        """Return the number of unfinished uploads, whose parts are stored and not visible."""
        return self.request("GET", f"/{self.name}?uploads").count(b"<UploadId>")

    def refuse(self, *methods: str) -> None:
        self.request("POST", "/refused", ",".join(methods).encode())


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """The URL of a running server."""
    command = [sys.executable, "-W", "ignore", str(Path(__file__).with_name("s3_server.py"))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.kill()


@pytest.fixture(autouse=True)
def environment(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment of a user of this server."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", server)
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    # Instead of the metadata address of a cloud: nothing listens there.
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", "http://127.0.0.1:1")


@pytest.fixture
def bucket(server: str, request: pytest.FixtureRequest) -> Iterator[Bucket]:
    """A new bucket."""
    name = re.sub("[^a-z0-9]+", "-", request.node.name.lower()).strip("-")[:60]
    made = Bucket(server, name)
    made.request("PUT", f"/{made.name}")
    yield made
    made.refuse()


@pytest.fixture
async def emulator() -> AsyncIterator[Emulator]:
    async with Emulator(task_seconds=0.02, images="tiny") as running:
        yield running


@pytest.fixture
async def client(emulator: Emulator) -> AsyncIterator[AsyncApimart]:
    poll = Poll(first=0.02, shortest=0.02, longest=0.05)
    async with AsyncApimart(emulator.api_key, base_url=emulator.base_url, poll=poll) as connected:
        yield connected
