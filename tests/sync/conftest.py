"""Fixtures of the blocking twins."""

from __future__ import annotations

import importlib.util
import sys
from typing import TYPE_CHECKING

import pytest

from apimart_async import Poll
from apimart_async.sync import Apimart

from .emulator import Emulator

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import ModuleType


@pytest.fixture(scope="module")
def service() -> Iterator[Emulator]:
    """An emulator in a thread of its own, for clients that block theirs, and for other processes."""
    with Emulator(task_seconds=0.02, images="tiny") as running:
        yield running


@pytest.fixture(scope="module")
def slow_service() -> Iterator[Emulator]:
    """An emulator whose tasks take longer than any test."""
    with Emulator(task_seconds=36_000.0, images="tiny") as running:
        yield running


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    """A running emulator whose tasks take moments."""
    with Emulator(task_seconds=0.02) as running:
        yield running


@pytest.fixture
def client(emulator: Emulator) -> Iterator[Apimart]:
    """A client of that emulator that polls as often as its tasks deserve."""
    poll = Poll(first=0.02, shortest=0.02, longest=0.05)
    with Apimart(emulator.api_key, base_url=emulator.base_url, poll=poll) as connected:
        yield connected


@pytest.fixture(scope="module")
def generate(repository: Path) -> ModuleType:
    """The generator of this checkout; wheels leave it out."""
    path = repository / "apimart_async" / "sync" / "generate.py"
    spec = importlib.util.spec_from_file_location("apimart_async.sync.generate", path)
    assert spec
    assert spec.loader
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Package:
    """A package in the making."""

    def __init__(self, folder: Path, generate: ModuleType) -> None:
        self.folder = folder
        self._generate = generate
        self.write("__init__.py", '__all__ = [\n    "do_many",\n]\n')

    def write(self, path: str, text: str) -> None:
        target = self.folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")

    def render(self) -> str:
        text = self._generate.render(self.folder)
        assert isinstance(text, str)
        compile(text, "_generated.py", "exec")
        return text

    def main(self, *arguments: str) -> int:
        code = self._generate.main(arguments, self.folder)
        assert isinstance(code, int)
        return code


@pytest.fixture
def package(tmp_path: Path, generate: ModuleType) -> Package:
    return Package(tmp_path / "apimart_async", generate)
