"""The clients that the benchmarks compare: a module for each library, all with the same methods."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias, cast

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import TracebackType

KEY: Final = "sk-benchmark"
MODEL: Final = "grok-imagine-1.0-edit-apimart"
PROMPT: Final = "Change the background to a starry sky"


class AsyncClient(Protocol):
    """A client with asynchronous methods."""

    async def __aenter__(self) -> object:
        """Open the client; nothing is sent."""
        ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> object:
        """Close."""
        ...

    async def upload(self, path: Path) -> Any:  # noqa: ANN401 each client has a type of its own
        """Upload an image and return the argument of ``submit``."""
        ...

    async def submit(self, uploaded: Any) -> str:  # noqa: ANN401
        """Submit an edit and return the id of its task."""
        ...

    async def poll(self, task_id: str) -> Any:  # noqa: ANN401
        """Poll a task; return the argument of ``download`` once the task has ended."""
        ...

    async def download(self, result: Any, directory: Path) -> None:  # noqa: ANN401
        """Save an image as a file of a new name."""
        ...

    def result(self, url: str, number: int) -> Any:  # noqa: ANN401
        """Return the argument of ``download`` for the image at a URL."""
        ...


class BlockingClient(Protocol):
    """A client with blocking methods, which are called from threads."""

    def __enter__(self) -> object:
        """Open the client; nothing is sent."""
        ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> object:
        """Close."""
        ...

    def upload(self, path: Path) -> Any:  # noqa: ANN401
        """Upload an image and return the argument of ``submit``."""
        ...

    def submit(self, uploaded: Any) -> str:  # noqa: ANN401
        """Submit an edit and return the id of its task."""
        ...

    def poll(self, task_id: str) -> Any:  # noqa: ANN401
        """Poll a task; return the argument of ``download`` once the task has ended."""
        ...

    def download(self, result: Any, directory: Path) -> None:  # noqa: ANN401
        """Save an image as a file of a new name."""
        ...

    def result(self, url: str, number: int) -> Any:  # noqa: ANN401
        """Return the argument of ``download`` for the image at a URL."""
        ...


Make: TypeAlias = "Callable[[str, int], AsyncClient | BlockingClient]"
"""Makes a client from a base URL and the number of concurrent operations."""

BASELINE: Final = "aiohttp"
PIECEWISE: Final = "aiohttp, pieces"
CAREFUL: Final = "aiohttp, careful"
SDK: Final = "apimart_async"
TWIN: Final = "apimart_async.sync"
FIXED: Final = "apimart_async, fixed limits"
"""The baseline of ``benchmarks.adaptive``, which no other benchmark measures."""

# Module and class of each client.
_PLACES: Final = {
    BASELINE: ("plain", "WithForm"),
    PIECEWISE: ("plain", "InPieces"),
    CAREFUL: ("plain", "Careful"),
    SDK: ("sdk", "Awaited"),
    TWIN: ("sdk_blocking", "Blocking"),
    FIXED: ("sdk", "FixedLimits"),
    "requests": ("with_requests", "InThreads"),
    "requests, no session": ("with_requests", "AsDocumented"),
    "httpx": ("with_httpx", "Httpx"),
    "openai": ("with_openai", "Default"),
    "openai, aiohttp": ("with_openai", "OnAiohttp"),
    "replicate": ("with_replicate", "Replicate"),
}
NAMES: Final = tuple(name for name in _PLACES if name != FIXED)


def load(name: str) -> Make:
    """Import a client and the packages that it needs.

    Raises:
        ImportError: A package is not installed.
    """
    module, attribute = _PLACES[name]
    return cast("Make", getattr(importlib.import_module(f"benchmarks.clients.{module}"), attribute))
