"""Everyone who does the work: one module each, with the same verbs."""

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
    """One that is awaited."""

    async def __aenter__(self) -> object:
        """Get ready; nothing is sent."""
        ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> object:
        """Close."""
        ...

    async def upload(self, path: Path) -> Any:  # noqa: ANN401 each has its own
        """Send an image and return what ``submit`` takes."""
        ...

    async def submit(self, uploaded: Any) -> str:  # noqa: ANN401
        """Submit an edit and return the id of its task."""
        ...

    async def poll(self, task_id: str) -> Any:  # noqa: ANN401
        """Look at a task; return what ``download`` takes, once it has ended."""
        ...

    async def download(self, result: Any, directory: Path) -> None:  # noqa: ANN401
        """Save an image as a file of a new name."""
        ...

    def result(self, url: str, number: int) -> Any:  # noqa: ANN401
        """Return what ``download`` takes, of an image at this address."""
        ...


class BlockingClient(Protocol):
    """One that is called from threads."""

    def __enter__(self) -> object:
        """Get ready; nothing is sent."""
        ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> object:
        """Close."""
        ...

    def upload(self, path: Path) -> Any:  # noqa: ANN401
        """Send an image and return what ``submit`` takes."""
        ...

    def submit(self, uploaded: Any) -> str:  # noqa: ANN401
        """Submit an edit and return the id of its task."""
        ...

    def poll(self, task_id: str) -> Any:  # noqa: ANN401
        """Look at a task; return what ``download`` takes, once it has ended."""
        ...

    def download(self, result: Any, directory: Path) -> None:  # noqa: ANN401
        """Save an image as a file of a new name."""
        ...

    def result(self, url: str, number: int) -> Any:  # noqa: ANN401
        """Return what ``download`` takes, of an image at this address."""
        ...


Make: TypeAlias = "Callable[[str, int], AsyncClient | BlockingClient]"
"""Makes a client of a base URL for so many at once."""

BASELINE: Final = "aiohttp"
PIECEWISE: Final = "aiohttp, pieces"
CAREFUL: Final = "aiohttp, careful"
SDK: Final = "apimart_async"
TWIN: Final = "apimart_async.sync"
FIXED: Final = "apimart_async, fixed limits"
"""What ``benchmarks.adaptive`` compares the package with."""

# Where each is made, and whether it is awaited.
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
    """Import what a client needs.

    Raises:
        ImportError: It is not installed.
    """
    module, attribute = _PLACES[name]
    return cast("Make", getattr(importlib.import_module(f"benchmarks.clients.{module}"), attribute))
