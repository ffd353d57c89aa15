"""Duration statistics between runs of a command, in a small file of the user's cache directory.

A user who edits one picture a day never waits for enough tasks in one run to learn how long they take.
"""

from __future__ import annotations

import json
import os
import sys
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import urlsplit

from apimart_async.transport.files.private import Replacement
from apimart_async.urls import is_loopback

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

    from apimart_async.resources.tasks import AsyncTasks

_NAME: Final = "durations.json"
_MAX_SERVICES: Final = 8
_MAX_BYTES: Final = 4 << 20


def directory() -> Path:
    """Return the cache directory of the package for this user."""
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or str(Path.home() / "AppData" / "Local")
    else:
        base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "apimart-async"


def load(base_url: str) -> dict[str, Any]:
    """Return the statistics of a service; empty where there are none or the file cannot be read."""
    known = _read().get(base_url)
    return cast("dict[str, Any]", known) if isinstance(known, dict) else {}


def save(base_url: str, stats: Mapping[str, Any]) -> None:
    """Keep the statistics of a service; a file that cannot be written is no error.

    A service on this machine is an emulator, which is not kept.
    """
    if is_loopback(urlsplit(base_url).hostname or "") or not stats.get("models"):
        return
    services = _read()
    services.pop(base_url, None)
    services[base_url] = stats
    kept = dict(list(services.items())[-_MAX_SERVICES:])
    with suppress(OSError, RuntimeError):
        folder = directory()
        folder.mkdir(parents=True, exist_ok=True)
        replacement = Replacement.begin(folder / _NAME)
        try:
            replacement.write([json.dumps(kept)])
            replacement.finish()
        finally:
            replacement.discard()


@contextmanager
def kept(base_url: str | None) -> Generator[dict[str, Any]]:
    """Yield the statistics of a service, and save them at the end; ``None`` stands for none to keep."""
    stats = {} if base_url is None else load(base_url)
    try:
        yield stats
    finally:
        if base_url is not None:
            save(base_url, stats)


@contextmanager
def used(tasks: AsyncTasks, stats: dict[str, Any]) -> Generator[None]:
    """Start a client with these statistics, and update them at the end."""
    tasks.load_duration_stats(stats)
    try:
        yield
    finally:
        stats.update(tasks.duration_stats())


def _read() -> dict[str, Any]:
    with suppress(OSError, RuntimeError, ValueError, RecursionError):
        path = directory() / _NAME
        if path.is_file() and path.stat().st_size <= _MAX_BYTES:  # a pipe would never end
            found = json.loads(path.read_text(encoding="utf-8"))
            if isinstance(found, dict):
                return cast("dict[str, Any]", found)
    return {}
