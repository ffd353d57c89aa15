"""The replicate package, in its own words, on endpoints that answer as its service does."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

import replicate
from replicate.helpers import FileOutput

from benchmarks.clients import KEY, PROMPT

if TYPE_CHECKING:
    from pathlib import Path


class Replicate:
    """``replicate.Client``.

    Args:
        base_url: Of the service.
        at_once: Unused: its pool is its own.
    """

    def __init__(self, base_url: str, at_once: int) -> None:  # noqa: ARG002 the same for all
        self._client = replicate.Client(api_token=KEY, base_url=base_url)

    async def __aenter__(self) -> object:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client._async_client.aclose()  # noqa: SLF001 it has no close of its own

    async def upload(self, path: Path) -> str:
        """Send the file."""
        return (await self._client.files.async_create(path)).urls["get"]

    async def submit(self, uploaded: str) -> str:
        """Submit a prediction."""
        prompted = {"prompt": PROMPT, "image": uploaded}
        return (await self._client.predictions.async_create(version="0" * 64, input=prompted)).id

    async def poll(self, task_id: str) -> str | None:
        """Look at a prediction."""
        found = await self._client.predictions.async_get(task_id)
        return str(found.output) if found.status == "succeeded" else None

    async def download(self, result: str, directory: Path) -> None:
        """Write pieces as they come, on the loop."""
        with (directory / f"{secrets.token_hex(6)}.jpg").open("wb", buffering=0) as file:
            async for piece in FileOutput(result, self._client):
                file.write(piece)

    def result(self, url: str, number: int) -> str:  # noqa: ARG002 the same for all
        """Return the address."""
        return url
