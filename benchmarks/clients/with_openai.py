"""The openai package's generic calls, on the same endpoints: its way with any OpenAI-compatible service."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

from openai import AsyncOpenAI, DefaultAioHttpClient

from benchmarks.clients import KEY, MODEL, PROMPT

if TYPE_CHECKING:
    from pathlib import Path


class Default:
    """On its own transport.

    Args:
        base_url: Of the service.
        at_once: Unused: its pool takes a thousand.
    """

    def __init__(self, base_url: str, at_once: int) -> None:  # noqa: ARG002 the same for all
        self._client = AsyncOpenAI(api_key=KEY, base_url=f"{base_url}/v1", http_client=self.transport())

    def transport(self) -> Any:  # noqa: ANN401 of httpx, whichever it stands on
        """Return what carries the requests."""
        return None

    async def __aenter__(self) -> object:
        return await self._client.__aenter__()

    async def __aexit__(self, *_: object) -> None:
        await self._client.close()

    async def upload(self, path: Path) -> str:
        """Send the path, which it reads."""
        answer = await self._client.post(
            "/uploads/images",
            cast_to=object,
            body={},
            files={"file": path},
            options={"headers": {"Content-Type": "multipart/form-data"}},
        )
        return str(_mapping(answer)["url"])

    async def submit(self, uploaded: str) -> str:
        """Submit an edit."""
        edit = {"model": MODEL, "prompt": PROMPT, "image_urls": [uploaded], "n": 1}
        answer = await self._client.post("/images/edits", cast_to=object, body=edit)
        return str(_mapping(answer)["data"][0]["task_id"])

    async def poll(self, task_id: str) -> str | None:
        """Look at a task."""
        task = _mapping(await self._client.get(f"/tasks/{task_id}?language=en", cast_to=object))["data"]
        return task["result"]["images"][0]["url"][0] if task["status"] == "completed" else None

    async def download(self, result: str, directory: Path) -> None:
        """Fetch with the client that it stands on; it has no call of its own for another host's files."""
        with (directory / f"{secrets.token_hex(6)}.jpg").open("wb", buffering=0) as file:
            async with self._client._client.stream("GET", result) as answer:  # noqa: SLF001 see above
                answer.raise_for_status()
                async for piece in answer.aiter_raw():
                    file.write(piece)

    def result(self, url: str, number: int) -> str:  # noqa: ARG002 the same for all
        """Return the address."""
        return url


class OnAiohttp(Default):
    """On aiohttp."""

    def transport(self) -> Any:  # noqa: ANN401
        """Return the transport its documentation recommends for concurrency."""
        return DefaultAioHttpClient()


def _mapping(answer: object) -> dict[str, Any]:
    if not isinstance(answer, dict):
        raise TypeError(f"not an object: {answer!r}")
    return answer
