"""httpx by hand."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

import httpx

from benchmarks.clients import KEY, MODEL, PROMPT

if TYPE_CHECKING:
    from pathlib import Path


class Httpx:
    """``httpx.AsyncClient``.

    Args:
        base_url: Of the service.
        at_once: Most connections.
    """

    def __init__(self, base_url: str, at_once: int) -> None:
        bounds = httpx.Limits(max_connections=at_once, max_keepalive_connections=at_once)
        headers = {"Authorization": f"Bearer {KEY}"}
        self._client = httpx.AsyncClient(base_url=base_url, headers=headers, limits=bounds, timeout=60)

    async def __aenter__(self) -> object:
        return await self._client.__aenter__()

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()

    async def upload(self, path: Path) -> str:
        """Send the open file."""
        with path.open("rb") as file:
            form = {"file": (path.name, file, "image/jpeg")}
            answer = await self._client.post("/v1/uploads/images", files=form)
        answer.raise_for_status()
        return str(answer.json()["url"])

    async def submit(self, uploaded: str) -> str:
        """Submit an edit."""
        edit = {"model": MODEL, "prompt": PROMPT, "image_urls": [uploaded], "n": 1}
        answer = await self._client.post("/v1/images/edits", json=edit)
        answer.raise_for_status()
        return str(answer.json()["data"][0]["task_id"])

    async def poll(self, task_id: str) -> str | None:
        """Look at a task."""
        answer = await self._client.get(f"/v1/tasks/{task_id}?language=en")
        answer.raise_for_status()
        task = answer.json()["data"]
        return task["result"]["images"][0]["url"][0] if task["status"] == "completed" else None

    async def download(self, result: str, directory: Path) -> None:
        """Write pieces as they come, on the loop."""
        with (directory / f"{secrets.token_hex(6)}.jpg").open("wb", buffering=0) as file:
            async with self._client.stream("GET", result) as answer:
                answer.raise_for_status()
                async for piece in answer.aiter_raw():
                    file.write(piece)

    def result(self, url: str, number: int) -> str:  # noqa: ARG002 the same for all
        """Return the address."""
        return url
