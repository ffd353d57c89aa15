"""Other people's clients against `apimart emulator` in a process of its own; `nox -s clients` runs these."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import attrs
import pytest
from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@attrs.frozen
class Service:
    """Address and key of the emulator."""

    base_url: str
    api_key: str

    @property
    def environment(self) -> dict[str, str]:
        """Environment variables with the key and the base URL."""
        return os.environ | {"BASE": self.base_url, "KEY": self.api_key, "NO_PROXY": "*"}


@contextmanager
def running(*options: str) -> Iterator[Service]:
    """Run `apimart emulator` until the end of the block."""
    command = [sys.executable, "-m", "apimart_async", "emulator", "--port", "0", "--json", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stderr
        try:
            first = process.stdout.readline()
            assert first, process.stderr.read()
            yield Service(**json.loads(first))
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(timeout=120)
    assert process.returncode == 0


@pytest.fixture(scope="session")
def service() -> Iterator[Service]:
    """An emulator that also serves the polling path of the oldest documentation."""
    with running("--task-seconds", "0.3", "--compat") as found:
        yield found


@pytest.fixture(scope="session")
def penniless() -> Iterator[Service]:
    """An emulator whose account has no balance."""
    with running("--balance", "0") as found:
        yield found


@pytest.fixture
def folder(tmp_path: Path, photographs: dict[str, Path]) -> Path:
    """A folder with a photograph, and a picture and a mask that dall-e-2 takes."""
    (tmp_path / "photo.jpg").write_bytes(photographs["rocket.jpg"].read_bytes())
    picture = Image.new("RGBA", (256, 256), (200, 80, 40, 255))
    mask = picture.copy()
    mask.paste((0, 0, 0, 0), (0, 0, 128, 256))
    mask.save(tmp_path / "mask.png")
    mask.save(tmp_path / "transparent.png")
    picture.save(tmp_path / "opaque.png")
    return tmp_path


def opened(content: bytes) -> Image.Image:
    """Return a picture that can be read to its end."""
    picture = Image.open(io.BytesIO(content))
    picture.load()
    return picture
